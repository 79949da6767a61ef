"""One room of many sockets: what is said by one of them reaches all.

    python -m benchmarks --only broadcast
    python -m benchmarks --only broadcast --rivals local pubsub

Client and rivals share two cores. The figure to compare is deliveries by second of the CPU that all processes of a
rival took together, worker and Redis included. The client counts every byte; a run that loses a delivery fails.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from benchmarks.parts import (
    OURS,
    PEERS,
    cpu_seconds,
    free_port,
    next_record,
    redis_process,
    running,
    wait_for_port,
)
from benchmarks.servers_load import TEXT, Load, echo, loading

Figures = dict[str, float]


class Rival(NamedTuple):
    """Interpreter, kind of layer, fast dispatch for Channels 4, and its processes' command lines."""

    python: str
    layer: str
    fast: bool
    commands: tuple[tuple[str, ...], ...]


_TALK = "benchmarks.drivers.broadcast_talk:channel_layer"
_CHANNEL_MODE = (
    ("-m", "fastchannels", "server", "-v", "0", "--port", "PORT", _TALK),
    ("-m", "fastchannels", "worker", "-v", "0", _TALK),
)


def _ours(application: str = "application") -> tuple[tuple[str, ...], ...]:
    target = f"benchmarks.drivers.broadcast_channels4:{application}"
    return (("-m", "fastchannels", "server", "-v", "0", "--lifespan", "off", "--port", "PORT", target),)


def _uvicorn(application: str = "application") -> tuple[tuple[str, ...], ...]:
    target = f"benchmarks.drivers.broadcast_channels4:{application}"
    options = ("--loop", "uvloop", "--no-access-log", "--log-level", "warning", "--lifespan", "off", "--port", "PORT")
    return (("-m", "uvicorn", *options, target),)


ROOM = {
    "fastchannels, local": Rival(OURS, "local", True, _CHANNEL_MODE),
    "fastchannels, Redis": Rival(OURS, "redis", True, _CHANNEL_MODE),
    "Channels 4 on fastchannels": Rival(OURS, "local", True, _ours()),
    "the same, no fast dispatch": Rival(OURS, "local", False, _ours()),
    "uvicorn, channels_redis": Rival(PEERS, "core", False, _uvicorn()),
    "the same, fast dispatch": Rival(PEERS, "core", True, _uvicorn()),
    "uvicorn, pubsub": Rival(PEERS, "pubsub", False, _uvicorn()),
}
ECHO = {
    "Channels 4 on fastchannels": Rival(OURS, "local", True, _ours("echo")),
    "the same, no fast dispatch": Rival(OURS, "local", False, _ours("echo")),
    "uvicorn": Rival(PEERS, "local", False, _uvicorn("echo")),
    "uvicorn, fast dispatch": Rival(PEERS, "local", True, _uvicorn("echo")),
}


@functools.cache
def _importable(python: str, modules: str) -> bool:
    return not subprocess.run([python, "-c", f"import {modules}"], stderr=subprocess.DEVNULL).returncode


def missing(name: str) -> bool:
    """Say so when the parts of ``name`` are not installed."""
    rival = ROOM.get(name) or ECHO[name]
    try:
        found = _importable(rival.python, "channels, uvicorn, channels_redis" if rival.python == PEERS else "channels")
    except FileNotFoundError:
        found = False
    if not found:
        print(f"{name} is not installed: left out")
    return not found


@contextmanager
def serving(rival: Rival, port: int) -> Iterator[list[int]]:
    """The process ids of ``rival``, which serves on ``port``, and of its Redis."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        ids = []
        address = stack.enter_context(tempfile.TemporaryDirectory()) + "/layer"
        if rival.layer != "local":
            address, process = stack.enter_context(redis_process())
            ids.append(process.pid)
        environment = {**os.environ, "BROADCAST_LAYER": f"{rival.layer}:{address}"}
        environment["BROADCAST_FAST"] = "1" if rival.fast else ""
        started = [
            stack.enter_context(
                running([rival.python, *(word.replace("PORT", str(port)) for word in words)], env=environment, **quiet)
            )
            for words in rival.commands
        ]
        wait_for_port(port, started[0])
        yield ids + [process.pid for process in started]


def room(name: str, members: int, seconds: float) -> Figures:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < members + 1000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(members + 1000, hard), hard))
    port = free_port()
    client = [sys.executable, "-m", "benchmarks.drivers.members", str(port), str(members), str(seconds)]
    with serving(ROOM[name], port) as ids, running(client, stdout=subprocess.PIPE) as process:
        next_record(process)
        before = sum(map(cpu_seconds, ids))
        got = next_record(process)
        used = sum(map(cpu_seconds, ids)) - before
    return {
        "deliveries per CPU-second": got["count"] / used,
        "deliveries per second": got["count"] / got["seconds"],
        "send to last receipt p50, ms": got["p50"],
        "send to last receipt p99, ms": got["p99"],
    }


def echoes(name: str, load: Load, seconds: float) -> Figures:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))[-2:]
    with serving(ECHO[name], port) as ids, loading(load, port, seconds, cores) as client:
        before = sum(map(cpu_seconds, ids))
        got = next_record(client)
        used = sum(map(cpu_seconds, ids)) - before
    return {"per CPU-second": got["count"] / used, "per second": got["count"] / got["seconds"]}


def scenarios(seconds: float) -> dict[str, tuple[tuple[str, ...], Callable[[str], Figures]]]:
    """Title: the rivals, and what measures one of them once."""
    # Long enough for some rounds of the slowest rival.
    seconds = max(seconds, 1.5)
    rows: dict[str, tuple[tuple[str, ...], Callable[[str], Figures]]] = {
        f"Room of {members:,} sockets": (tuple(ROOM), functools.partial(room, members=members, seconds=seconds))
        for members in (10, 1000)
    }
    consumer = functools.partial(echoes, load=echo(32, 1, TEXT), seconds=seconds)
    return rows | {"Echo of a Channels 4 consumer": (tuple(ECHO), consumer)}
