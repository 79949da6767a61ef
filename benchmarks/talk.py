"""Channel mode, protocol server and worker, beside what else runs the same Django site or echoes the same frames.

    python -m benchmarks --only talk
    python -m benchmarks --only talk --rows view --rivals local gthread

All processes of a rival, Redis included, and the client share two cores. The figure to compare is work by second of the
CPU that the rival's processes took together. Rivals that are not installed are left out, with a line that says so.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.parts import (
    OURS,
    PEERS,
    ROOT,
    cpu_seconds,
    free_port,
    next_record,
    redis_process,
    running,
    wait_for_port,
)
from benchmarks.servers_load import REQUEST, TEXT, Load, echo, loading

Figures = dict[str, float]
ORACLE = str(ROOT / ".venv-oracle" / "bin" / "python")
DAPHNE1 = "from daphne.cli import CommandLineInterface; CommandLineInterface.entrypoint()"
#: The address of the layer, and the kind of Redis or segment behind it.
LOCAL, REDIS, OLD, NONE = "local", "redis", "old", "none"


class Rival(NamedTuple):
    """The command lines of its processes, PORT in the place of the port, and its layer."""

    python: str
    layer: str
    commands: tuple[tuple[str, ...], ...]


_LAYER = "benchmarks.drivers.talk_layer:channel_layer"
_TALK = (
    ("-m", "fastchannels", "server", "-v", "0", "--port", "PORT", _LAYER),
    ("-m", "fastchannels", "worker", "-v", "0", _LAYER),
)
_GUNICORN = ("-m", "gunicorn", "--log-level", "error", "-b", "127.0.0.1:PORT", "--workers", "2")
_WSGI = "django.core.wsgi:get_wsgi_application()"

RIVALS = {
    "fastchannels, local": Rival(OURS, LOCAL, _TALK),
    "fastchannels, Redis": Rival(OURS, REDIS, _TALK),
    "gunicorn sync": Rival(PEERS, NONE, ((*_GUNICORN, _WSGI),)),
    "gunicorn gthread": Rival(PEERS, NONE, ((*_GUNICORN, "--threads", "4", _WSGI),)),
    "Channels 4, uvicorn": Rival(
        PEERS,
        NONE,
        (
            ("-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
             "--lifespan", "off", "--port", "PORT", "benchmarks.drivers.talk_channels4:application"),
        ),
    ),
    "Channels 1.1.8": Rival(
        ORACLE,
        OLD,
        (("-c", DAPHNE1, "-v", "0", "-p", "PORT", _LAYER), ("-m", "django", "runworker", "-v", "0")),
    ),
}  # fmt: skip

CLOSING = REQUEST[:-2] + b"Connection: close\r\n\r\n"
OURS_BOTH = ("fastchannels, local", "fastchannels, Redis")
ROWS = {
    "Django view": ((*OURS_BOTH, "gunicorn gthread", "Channels 1.1.8"), Load("http", (REQUEST,), connections=16)),
    "Django view, a connection a request": (
        ("fastchannels, local", "gunicorn sync", "gunicorn gthread"),
        Load("http", (CLOSING,), connections=16),
    ),
    "WebSocket echo, 1 in flight": ((*OURS_BOTH, "Channels 4, uvicorn", "Channels 1.1.8"), echo(32, 1, TEXT)),
}


@functools.cache
def missing(name: str) -> bool:
    """Say so, once, when the parts of ``name`` are not installed."""
    rival = RIVALS[name]
    module = {PEERS: "gunicorn, uvicorn, channels", ORACLE: "channels, daphne, asgi_redis"}.get(rival.python, "django")
    found = Path(rival.python).exists()
    found = found and not subprocess.run([rival.python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode
    if not found:
        print(f"{name} is not installed: left out")
    return not found


@contextmanager
def serving(rival: Rival, port: int) -> Iterator[list[int]]:
    """The process ids of ``rival``, which serves on ``port``, and of its Redis."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.drivers.talk_site"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ids = []
        if rival.layer in (REDIS, OLD):
            url, process = stack.enter_context(redis_process())
            environment["TALK_LAYER"] = url
            ids.append(process.pid)
        elif rival.layer == LOCAL:
            environment["TALK_LAYER"] = f"{folder}/layer"
        if rival.layer == OLD:
            environment["TALK_OLD"] = "1"
        started = [
            stack.enter_context(
                running([rival.python, *(word.replace("PORT", str(port)) for word in words)], env=environment, **quiet)
            )
            for words in rival.commands
        ]
        wait_for_port(port, started[0])
        yield ids + [process.pid for process in started]


def measure(name: str, load: Load, seconds: float) -> Figures:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))[-2:]
    with serving(RIVALS[name], port) as ids, loading(load, port, seconds, cores) as client:
        before = sum(map(cpu_seconds, ids))
        got = next_record(client)
        used = sum(map(cpu_seconds, ids)) - before
    figures = {"per CPU-second": got["count"] / used, "per second": got["count"] / got["seconds"]}
    if "p50" in got:
        figures |= {"p50, ms": got["p50"], "p99, ms": got["p99"]}
    return figures


def scenarios(seconds: float) -> dict[str, tuple[tuple[str, ...], Callable[[str], Figures]]]:
    """Title: the rivals, and what measures one of them once."""
    return {
        title: (rivals, functools.partial(measure, load=load, seconds=seconds))
        for title, (rivals, load) in ROWS.items()
    }
