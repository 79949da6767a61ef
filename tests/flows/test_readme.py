"""README.md as a newcomer follows it: a fresh project, the files and the commands as they are printed there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from websockets.asyncio.client import connect

from fastchannels.asgi import channel_layers
from tests.flows.processes import ROOT, Process, eventually, fetch, free_port
from tests.layers.redis_server import running

README = (ROOT / "README.md").read_text()

TALK = """
import asyncio, django
django.setup()
from channels.layers import get_channel_layer

async def main():
    layer = get_channel_layer()
    await layer.group_add("tea", name := await layer.new_channel())
    await layer.group_send("tea", {"type": "is.served"})
    print(type(layer).__name__, await layer.receive(name))
    await layer.close()

asyncio.run(main())
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """What ``django-admin startproject project .`` leaves in an empty directory."""
    command = [sys.executable, "-m", "django", "startproject", "project", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    yield tmp_path
    with override_settings(BASE_DIR=tmp_path, CHANNEL_LAYERS=None):
        segment = channel_layers.configs["default"]["CONFIG"]["path"]
    shutil.rmtree(segment, ignore_errors=True)


def add_to_settings(root: Path, text: str) -> None:
    """``...`` in a list of the README stands for what startproject wrote there."""
    path = root / "project/settings.py"
    path.write_text(path.read_text() + "\nWRITTEN = INSTALLED_APPS\n" + text.replace("...]", "*WRITTEN]"))


def serve(root: Path, target: str, port: int) -> Process:
    return Process("-m", "fastchannels", "server", target, "-p", str(port), cwd=root)


def admin_of(port: int) -> str:
    return eventually(lambda: fetch(f"http://127.0.0.1:{port}/admin/login/"), "the page came")


async def test_write_a_consumer(root: Path) -> None:
    printed = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.S))
    assert {*printed} == {"chat/consumers.py", "project/routing.py", "project/settings.py", "project/asgi.py"}
    add_to_settings(root, printed.pop("project/settings.py"))
    for name, text in printed.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    target, port = "project.asgi:channel_layer", free_port()
    worker = Process("-m", "fastchannels", "worker", target, "--threads", "8", cwd=root)
    with worker, serve(root, target, port):
        assert "Django administration" in admin_of(port)
        url = f"ws://127.0.0.1:{port}/chat/tea/"
        async with connect(url) as one, connect(url) as other:
            await one.send("hello")
            assert await other.recv() == await one.recv() == "hello"


@pytest.mark.parametrize(("which", "name"), [(0, "RedisChannelLayer"), (1, "LocalChannelLayer")])
def test_with_channels_4(root: Path, which: int, name: str) -> None:
    printed = re.findall(r"```python\n(CHANNEL_LAYERS = .*?)```", README, re.S)
    assert len(printed) == 2
    with running(root) as redis:
        add_to_settings(root, printed[which].replace("redis://localhost:6379", redis.url))
        if name == "LocalChannelLayer":
            # Without a path it is the one of this user that the machine may be using.
            add_to_settings(root, f"CHANNEL_LAYERS['default']['CONFIG'] = {{'path': {str(root / 'layer')!r}}}")
        else:
            assert "redis://localhost:6379" in printed[which]
        env = {"DJANGO_SETTINGS_MODULE": "project.settings"}
        with Process("-c", TALK, cwd=root, env=env) as talk:
            assert talk.wait() == 0, talk.output
        assert talk.output == f"{name} {{'type': 'is.served'}}\n"
        port = free_port()
        with serve(root, "project.asgi:application", port):
            assert "Django administration" in admin_of(port)
