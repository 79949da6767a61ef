"""Without an optional package: everything else works, and what needs it names the extra that brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Nobody finds the packages of the first argument.
WITHOUT = """
import sys

class Blind:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        missing = name.partition(".")[0] in sys.argv[1].split(",")
        return None if missing else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Blind, sys.meta_path)
"""


def run(missing: str, program: str) -> str:
    command = [sys.executable, "-c", WITHOUT + program, missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else done.stdout


@pytest.mark.parametrize("package", ["redis", "hiredis"])
def test_redis(package: str) -> None:
    told = f"ModuleNotFoundError: the Redis layers need the package {package}: pip install fastchannels[redis]"
    assert run(package, "import fastchannels.layers.redis") == told


def test_redis_in_the_settings() -> None:
    program = """
from django.conf import settings
backend = "fastchannels.layers.redis.RedisChannelLayer"
settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": backend}})
from fastchannels.asgi import get_channel_layer
get_channel_layer()
"""
    said = run("redis", program)
    assert "BACKEND 'fastchannels.layers.redis.RedisChannelLayer'" in said
    assert "pip install fastchannels[redis]" in said


@pytest.mark.parametrize("package", ["django", "asgiref"])
def test_django(package: str) -> None:
    told = "ModuleNotFoundError: fastchannels.route needs Django: pip install fastchannels[django]"
    assert run(package, "from fastchannels import route") == told


def test_layers_and_server_need_none_of_them() -> None:
    program = """
import fastchannels.cli, fastchannels.server.server
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.layers.local import LocalChannelLayer
print(type(InMemoryChannelLayer()).__name__)
"""
    missing = "django,asgiref,channels,redis,hiredis,cryptography,hpack,watchfiles,uvloop,msgpack"
    assert run(missing, program) == "InMemoryChannelLayer\n"
