"""fastchannels-server beside its peers: server on one core, client on the other.

    python -m benchmarks --only servers                           every row and rival, interleaved
    python -m benchmarks --only servers --rows hello              rows whose title holds "hello"
    python -m benchmarks --only servers --rows "32 B" accepts --rivals fastchannels uvicorn --rounds 3

One row with two rivals and three rounds takes about ten seconds. The figure to compare is work by second of *server
CPU*, all processes and threads of the server together: other load on the machine moves it least. The server's share of
its core must be near 100%, or something else was measured.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import partial
from typing import NamedTuple

from benchmarks.parts import (
    HERE,
    NODE_MODULES,
    OURS,
    PEERS,
    QUIET,
    Meter,
    free_port,
    lacks,
    next_record,
    running,
    wait_for_port,
)
from benchmarks.records import Axis, Figures, Scenario, Target, share
from benchmarks.servers_load import HANDSHAKE, OFFER, REQUEST, TEXT, Load, deflated, echo, loading, varied_json

WORK = "per server-CPU-second"


class Row(NamedTuple):
    """One line of the table: which rivals, what they run, what is sent to them, how many times better ours is to be."""

    rivals: tuple[str, ...]
    application: str
    load: Load
    wanted: dict[str, float]
    deflate: bool = False
    axis: Axis | None = None


ASGI = ("fastchannels", "daphne", "uvicorn", "granian", "hypercorn")
BARE = ("picows", "node ws")  # echoes without ASGI
MAIN = ("fastchannels", "daphne", "uvicorn", "granian")

ROWS: dict[str, Row] = {
    "HTTP hello": Row(
        ASGI, "hello", Load("http", (REQUEST,)), {"daphne": 12, "uvicorn": 2.3, "granian": 1.7},
    ),
    "WebSocket echo 32 B, 1 in flight": Row(
        (*ASGI, *BARE, "raw tcp"), "echo", echo(32, 1), {"daphne": 6, "uvicorn": 1.75, "picows": 0.9, "node ws": 1},
    ),
    "WebSocket echo 32 B, 16 in flight": Row(
        MAIN + BARE, "echo", echo(32, 16), {"daphne": 12, "uvicorn": 7, "picows": 2.5},
    ),
    "WebSocket echo 1 KiB, 16 in flight": Row(MAIN + BARE, "echo", echo(1024, 16), {"uvicorn": 5}),
    "WebSocket echo 64 KiB, bytes": Row(
        (*MAIN, *BARE, "raw tcp"), "echo", echo(65536, 1), {"daphne": 4, "uvicorn": 1.5, "picows": 0.85},
    ),
    "WebSocket echo 64 KiB, text": Row(
        MAIN + BARE, "echo", echo(65536, 1, TEXT), {"daphne": 4, "uvicorn": 1.5, "picows": 0.85},
    ),
    "permessage-deflate, JSON of 1 KiB": Row(
        ("fastchannels", "uvicorn", "node ws"), "echo", Load("ws", tuple(map(deflated, varied_json())), OFFER, 4),
        {"uvicorn": 1.7}, True,
    ),
    "WebSocket accepts": Row(
        MAIN + BARE, "echo", Load("accept", (), HANDSHAKE, 1, 32), {"uvicorn": 3.3, "picows": 1},
    ),
    "Django sync view": Row(MAIN, "django_sync", Load("http", (REQUEST,), connections=16), {"uvicorn": 1.2}),
    "Django async view": Row(MAIN, "django_async", Load("http", (REQUEST,)), {"uvicorn": 1.2}),
}  # fmt: skip

CURVED = ("fastchannels", "uvicorn", "granian", "picows")
SIZES = {"32 B": 32, "256 B": 256, "1 KiB": 1024, "4 KiB": 4096, "16 KiB": 16384, "64 KiB": 65536}
CURVES: dict[str, Row] = {
    f"Echo by payload: {name}": Row(
        CURVED, "echo", echo(size, 1), {}, axis=Axis("WebSocket echo by payload, 64 connections", "bytes", size)
    )
    for name, size in SIZES.items()
} | {
    f"Echo by connections: {count}": Row(
        CURVED, "echo", echo(32, 1)._replace(connections=count), {},
        axis=Axis("WebSocket echo by connections, 32 bytes", "connections", count),
    )
    for count in (1, 8, 64, 512, 4096)
}  # fmt: skip


def target_of(application: str) -> str:
    """``module:attribute``, as a server is told it, of a driver's application or of any."""
    if ":" in application:
        return application
    module = "django_app" if application.startswith("django_") else "apps"
    return f"benchmarks.drivers.{module}:{application}"


def command(server: str, application: str, port: int, deflate: bool = False) -> list[str]:
    """The command line of ``server``: one process, one event loop, no access log."""
    target = target_of(application)
    drivers, where = HERE / "drivers", ["--port", str(port)]
    if server == "fastchannels":
        return [OURS, "-m", "fastchannels", "server", "-v", "0", *where, target]
    if server == "daphne":
        return [PEERS, "-m", "daphne", "-v", "0", *where, target]
    if server == "uvicorn":
        quiet = ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]
        return [PEERS, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", *quiet, *where, target]
    if server == "granian":
        options = ["--interface", "asginl", "--loop", "uvloop", "--no-log", "--runtime-threads", "1", "--workers", "1"]
        return [PEERS, "-m", "granian", *options, *where, target]
    if server == "hypercorn":
        return [PEERS, "-m", "hypercorn", "-k", "uvloop", "--log-level", "error", "-b", f"127.0.0.1:{port}", target]
    if server == "picows":
        return [PEERS, str(drivers / "echo_picows.py"), str(port)]
    if server == "node ws":
        return ["node", str(drivers / "echo_ws.js"), str(port), str(NODE_MODULES), "deflate" if deflate else ""]
    return [OURS, str(drivers / "echo_raw.py"), str(port)]


def missing(server: str) -> str:
    """Why ``server`` cannot run; empty when it can."""
    if server == "node ws":
        if not shutil.which("node"):
            return "no node"
        return "" if (NODE_MODULES / "ws").is_dir() else "ws is not in " + NODE_MODULES.name
    if server in ("granian", "hypercorn", "picows", "daphne", "uvicorn"):
        return lacks(PEERS, server)
    return ""


def cores() -> tuple[int, int]:
    """That of the server, that of the client."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def measure(server: str, row: Row, seconds: float) -> Figures:
    port = free_port()
    server_core, client_core = cores()
    load = row.load
    if server == "raw tcp":  # no handshake: bytes back as they came
        load = load._replace(kind="raw", opening=b"")
    what = command(server, row.application, port, row.deflate)
    with running(what, {server_core}, **QUIET) as process:
        wait_for_port(port, process)
        with loading(load, port, seconds, [client_core]) as client:
            meter = Meter({"server": process.pid})
            got = next_record(client)
            used, shares = meter.read()
    return {
        WORK: got["count"] / used,
        "per second": got["count"] / got["seconds"],
        **shares,
        share("client"): got["client_cpu"] / got["seconds"],
    }


def measure_http2(server: str, seconds: float) -> Figures:
    """Eight connections with eight streams each, in the clear, by h2load of nghttp2."""
    port = free_port()
    server_core, client_core = cores()
    whole = max(1, round(seconds))  # h2load takes no fractions
    load = ["h2load", "-D", str(whole), "-c", "8", "-m", "8", f"http://127.0.0.1:{port}/"]
    with running(command(server, "hello", port), {server_core}, **QUIET) as process:
        wait_for_port(port, process)
        meter = Meter({"server": process.pid})
        told = subprocess.run(["taskset", "-c", str(client_core), *load], check=True, capture_output=True, text=True)
        used, shares = meter.read()
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", told.stdout)
    if done is None or not int(done[1]):
        raise RuntimeError(f"h2load: {told.stdout}")
    return {WORK: int(done[1]) / used, "per second": int(done[1]) / whole, **shares}


def scenarios(rows: dict[str, Row], seconds: float) -> dict[str, Scenario]:
    """By title."""
    return {
        title: Scenario(
            row.rivals,
            partial(measure, row=row, seconds=seconds),
            tuple(Target(WORK, factor, rival) for rival, factor in row.wanted.items()),
            row.axis,
        )
        for title, row in rows.items()
    }


def http2(seconds: float) -> dict[str, Scenario]:
    return {"HTTP/2 hello": Scenario(("fastchannels", "granian", "hypercorn"), partial(measure_http2, seconds=seconds))}


def missing_http2(server: str) -> str:
    return missing(server) or ("" if shutil.which("h2load") else "no h2load")
