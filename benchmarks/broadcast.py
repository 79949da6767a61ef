"""One room of many sockets: what is said by one of them reaches all.

    python -m benchmarks --only broadcast
    python -m benchmarks --only broadcast --rivals local pubsub
    python -m benchmarks --only broadcast --members 1000 50000 --processes 1 2

Client and rivals share the cores. The figure to compare is deliveries by second of the CPU that all processes of a
rival took together, worker and Redis included. The client (``c/members.c``) counts every byte: what does not arrive is
lost.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import NamedTuple

from benchmarks.parts import (
    OURS,
    PEERS,
    Meter,
    Rival,
    allow_files,
    compiled,
    free_port,
    lacks,
    next_record,
    resident,
    running,
    serving,
)
from benchmarks.records import LOST, Axis, Figures, Scenario, Target, share
from benchmarks.servers_load import TEXT, Load, echo, loading

PAYLOAD = 64
WORK = "deliveries per CPU-second"
LAST = "send to last receipt p50, ms"
COST = "CPU, µs a delivery"
SPARE = 600  # descriptors of a process that are no sockets of the room
CHANNELS4 = "benchmarks.drivers.broadcast_channels4"
#: Nobody pings while many join; a frame more than was said would be counted.
OURS_QUIET = ("-v", "0", "--ping-interval", "3600", "--port", "PORT")
_TALK = "benchmarks.drivers.broadcast_talk:channel_layer"
_CHANNEL_MODE = {
    "server": ("-m", "fastchannels", "server", *OURS_QUIET, _TALK),
    "worker": ("-m", "fastchannels", "worker", "-v", "0", _TALK),
}


def _ours(application: str) -> dict[str, tuple[str, ...]]:
    target = f"{CHANNELS4}:{application}"
    return {"server": ("-m", "fastchannels", "server", "--lifespan", "off", *OURS_QUIET, target)}


def _uvicorn(application: str) -> dict[str, tuple[str, ...]]:
    options = ("--loop", "uvloop", "--no-access-log", "--log-level", "warning", "--lifespan", "off")
    quiet = ("--ws-ping-interval", "3600", "--port", "PORT")
    return {"server": ("-m", "uvicorn", *options, *quiet, f"{CHANNELS4}:{application}")}


def _daphne(application: str) -> dict[str, tuple[str, ...]]:
    options = ("-v", "0", "--ping-interval", "3600", "-p", "PORT")
    return {"server": ("-m", "daphne", *options, f"{CHANNELS4}:{application}")}


def _site(layer: str, fast: bool) -> dict[str, str]:
    return {"BROADCAST_LAYER": f"{layer}:ADDRESS", "BROADCAST_FAST": "1" if fast else ""}


def _peer(commands: dict[str, tuple[str, ...]], layer: str, fast: bool = False) -> Rival:
    needs = "channels, channels_redis, " + commands["server"][1]
    return Rival(PEERS, commands, "redis", _site(layer, fast), needs)


LOCAL, REDIS = "fastchannels, local", "fastchannels, Redis"
CHANNELS, CHANNELS_SLOW = "Channels 4 on fastchannels", "Channels 4 on fastchannels, no fast dispatch"
NATIVE = "Channels 4 on fastchannels, native groups"
CORE, PUBSUB, CEILING = "uvicorn, channels_redis", "uvicorn, pubsub", "ceiling: a loop of send() in C"
ROOM = {
    LOCAL: Rival(OURS, _CHANNEL_MODE, "local", _site("local", True), "django"),
    REDIS: Rival(OURS, _CHANNEL_MODE, "redis", _site("redis", True), "django"),
    NATIVE: Rival(OURS, _ours("native"), "local", _site("local", True), "channels"),
    CHANNELS: Rival(OURS, _ours("application"), "local", _site("local", True), "channels"),
    CHANNELS_SLOW: Rival(OURS, _ours("application"), "local", _site("local", False), "channels"),
    "daphne, channels_redis": _peer(_daphne("application"), "core"),
    CORE: _peer(_uvicorn("application"), "core"),
    "uvicorn, channels_redis, our fast dispatch": _peer(_uvicorn("application"), "core", fast=True),
    PUBSUB: _peer(_uvicorn("application"), "pubsub"),
    CEILING: Rival(OURS, {"server": ("-m", "benchmarks.drivers.program", "ceiling", "PORTS")}),
}
ECHO = {
    CHANNELS: Rival(OURS, _ours("echo"), "local", _site("local", True), "channels"),
    CHANNELS_SLOW: Rival(OURS, _ours("echo"), "local", _site("local", False), "channels"),
    "uvicorn": Rival(PEERS, _uvicorn("echo"), "local", _site("local", False), "channels, uvicorn"),
    "uvicorn, our fast dispatch": Rival(PEERS, _uvicorn("echo"), "local", _site("local", True), "channels, uvicorn"),
}
#: Up to how many members a rival is asked: beyond, a message takes it many seconds.
MOST = {LOCAL: 1 << 20, NATIVE: 1 << 20, CEILING: 1 << 20, REDIS: 10_000, PUBSUB: 10_000}
TARGETS = (
    Target(WORK, 30, CORE),
    Target(WORK, 15, PUBSUB),
    Target(WORK, 0.6, CEILING),
    Target(LAST, 20, CORE),
    Target(WORK, 30, CORE, NATIVE),
    Target(WORK, 15, PUBSUB, NATIVE),
    Target(WORK, 0.6, CEILING, NATIVE),
    Target(WORK, 4, PUBSUB, CHANNELS),
    Target(WORK, 1.5, PUBSUB, CHANNELS_SLOW),
)


class Size(NamedTuple):
    """Sockets, and the server processes that hold them."""

    members: int
    processes: int = 1


def enough(size: Size) -> Size:
    """With as many processes as the limit on open files demands.

    :raises RuntimeError: the limit is too low for anything.
    """
    files = allow_files(size.members + SPARE) - SPARE
    if files <= 0:
        raise RuntimeError(f"a process may open {files + SPARE} files: raise the limit (ulimit -n)")
    return size._replace(processes=max(size.processes, -(-size.members // files)))


def missing(name: str) -> str:
    """Why ``name`` cannot run; empty when it can."""
    rival = ROOM.get(name) or ECHO.get(name)
    return lacks(rival.python, rival.needs) if rival and rival.needs else ""


def room(name: str, size: Size, seconds: float) -> Figures:
    size = enough(size)
    ports = [free_port() for _ in range(size.processes)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def client(members: int) -> list[str]:
        numbers = (members, size.processes, seconds, PAYLOAD)
        return [compiled("members"), ",".join(map(str, ports)), *map(str, numbers)]

    with serving(ROOM[name], ports) as processes:
        with running(client(10 * size.processes), **pipes) as process:
            next_record(process)  # so that all is imported and each process has answered once
        before = sum(map(resident, processes.values()))
        with running(client(size.members), **pipes) as process:
            next_record(process)
            held = sum(map(resident, processes.values())) - before
            meter = Meter(processes)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            got = next_record(process)
            used, shares = meter.read()
    if not got["rounds"]:
        raise RuntimeError(f"{got['lost']:,.0f} of the first message's deliveries were lost")
    figures = {
        WORK: got["count"] / used,
        "deliveries per second": got["count"] / got["seconds"],
        LAST: got["p50"],
        "send to last receipt p99, ms": got["p99"],
        COST: used / got["count"] * 1e6,
    }
    if size.members >= 1000:  # with fewer the interpreter's own growth is most of it
        figures["memory, KiB a socket"] = held / size.members / 1024
    return figures | shares | {share("client"): got["client_cpu"] / got["seconds"], LOST: got["lost"]}


def growth(rival: str, sizes: dict[str, Size], seconds: float) -> Figures:
    """Ours alone; the rival is how many sockets there are."""
    figures = room(LOCAL, sizes[rival], seconds)
    return {name: value for name, value in figures.items() if name in (COST, LOST) or name.startswith(share(""))}


def echoes(name: str, load: Load, seconds: float) -> Figures:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))[-2:]
    with serving(ECHO[name], [port]) as processes, loading(load, port, seconds, cores) as client:
        meter = Meter(processes)
        got = next_record(client)
        used, shares = meter.read()
    figures = {"per CPU-second": got["count"] / used, "per second": got["count"] / got["seconds"]}
    return figures | shares | {share("client"): got["client_cpu"] / got["seconds"]}


def asked(members: int) -> tuple[str, ...]:
    return tuple(name for name in ROOM if members <= MOST.get(name, 1000))


def scenarios(seconds: float, members: list[int], processes: list[int]) -> dict[str, Scenario]:
    """By title: rooms of so many sockets, a room of 1,000 held by so many server processes, and others."""
    seconds = max(seconds, 1.5)  # long enough for some rounds of the slowest rival
    rows: dict[str, Scenario] = {}
    for count in members:
        size = enough(Size(count))
        held = "" if size.processes == 1 else f" in {size.processes} server processes"
        rows[f"Room of {count:,} sockets{held}"] = Scenario(
            asked(count),
            partial(room, size=size, seconds=seconds),
            TARGETS if size == (1000, 1) else (),
            Axis("Room by members", "members", count),
        )
    for number in processes:
        rows[f"Room by processes: {number}"] = Scenario(
            tuple(MOST),
            partial(room, size=Size(1000, number), seconds=seconds),
            axis=Axis("Room of 1,000 sockets by server processes", "processes", number),
        )
    small, large = 1000, max(members, default=0)
    if large > small:
        number = enough(Size(large)).processes
        sizes = {f"{count:,} sockets": Size(count, number) for count in (large, small)}
        targets = (Target(COST, 1 / 1.3, f"{small:,} sockets"),)
        rows["Room: what a delivery costs as it grows (ours)"] = Scenario(
            tuple(sizes), partial(growth, sizes=sizes, seconds=seconds), targets
        )
    consumer = partial(echoes, load=echo(32, 1, TEXT), seconds=seconds)
    return rows | {"Echo of a Channels 4 consumer": Scenario(tuple(ECHO), consumer)}
