"""fastchannels-server beside its peers: server on one core, client on the other.

    python -m benchmarks --only servers                           every row and rival, interleaved
    python -m benchmarks --only servers --rows hello              rows whose title holds "hello"
    python -m benchmarks --only servers --rows "32 B" accepts --rivals fastchannels uvicorn --rounds 3

One row with two rivals and three rounds takes about ten seconds. The figure to compare is work by second of *server
CPU*, all processes and threads of the server together: other load on the machine moves it least. ``server core busy``
must be near 100%, or something else was measured. Rivals that are not installed are left out, with a line that says so.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.parts import HERE, OURS, PEERS, ROOT, cpu_seconds, free_port, next_record, running, wait_for_port
from benchmarks.servers_load import HANDSHAKE, OFFER, REQUEST, TEXT, Load, deflated, echo, loading, varied_json

Figures = dict[str, float]
NODE_MODULES = ROOT / ".venv-peers" / "node_modules"


class Row(NamedTuple):
    """One line of the table: which rivals, what they run, what is sent to them."""

    rivals: tuple[str, ...]
    application: str
    load: Load
    deflate: bool = False


ASGI = ("fastchannels", "daphne", "uvicorn", "granian", "hypercorn")
BARE = ("picows", "node ws")  # echoes without ASGI
MAIN = ("fastchannels", "daphne", "uvicorn", "granian")

ROWS: dict[str, Row] = {
    "HTTP hello": Row(ASGI, "hello", Load("http", (REQUEST,))),
    "WebSocket echo 32 B, 1 in flight": Row((*ASGI, *BARE, "raw tcp"), "echo", echo(32, 1)),
    "WebSocket echo 32 B, 16 in flight": Row(MAIN + BARE, "echo", echo(32, 16)),
    "WebSocket echo 1 KiB, 16 in flight": Row(MAIN + BARE, "echo", echo(1024, 16)),
    "WebSocket echo 64 KiB, bytes": Row((*MAIN, *BARE, "raw tcp"), "echo", echo(65536, 1)),
    "WebSocket echo 64 KiB, text": Row(MAIN + BARE, "echo", echo(65536, 1, TEXT)),
    "permessage-deflate, JSON of 1 KiB": Row(
        ("fastchannels", "uvicorn", "node ws"),
        "echo",
        Load("ws", tuple(map(deflated, varied_json())), OFFER, 4),
        deflate=True,
    ),
    "WebSocket accepts": Row(MAIN + BARE, "echo", Load("accept", (), HANDSHAKE, 1, 32)),
    "Django sync view": Row(MAIN, "django_sync", Load("http", (REQUEST,), connections=16)),
    "Django async view": Row(MAIN, "django_async", Load("http", (REQUEST,))),
}


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


@functools.cache
def missing(server: str) -> bool:
    """Say so, once, when ``server`` is not installed."""
    if server == "node ws":
        found = bool(shutil.which("node")) and (NODE_MODULES / "ws").is_dir()
    elif server in ("granian", "hypercorn", "picows", "daphne", "uvicorn"):
        code = f"import {server}"
        found = Path(PEERS).exists() and not subprocess.run([PEERS, "-c", code], stderr=subprocess.DEVNULL).returncode
    else:
        found = True
    if not found:
        print(f"{server} is not installed: left out")
    return not found


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
    with running(what, {server_core}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port, process)
        with loading(load, port, seconds, [client_core]) as client:
            before = cpu_seconds(process.pid)
            got = next_record(client)
            used = cpu_seconds(process.pid) - before
    return {
        "per server-CPU-second": got["count"] / used,
        "per second": got["count"] / got["seconds"],
        "server core busy, %": 100 * used / got["seconds"],
        "client core busy, %": 100 * got["client_cpu"] / got["seconds"],
    }


def measure_http2(server: str, seconds: float) -> Figures:
    """Eight connections with eight streams each, in the clear, by h2load of nghttp2."""
    port = free_port()
    server_core, client_core = cores()
    whole = max(1, round(seconds))  # h2load takes no fractions
    load = ["h2load", "-D", str(whole), "-c", "8", "-m", "8", f"http://127.0.0.1:{port}/"]
    with running(
        command(server, "hello", port), {server_core}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for_port(port, process)
        before = cpu_seconds(process.pid)
        told = subprocess.run(["taskset", "-c", str(client_core), *load], check=True, capture_output=True, text=True)
        used = cpu_seconds(process.pid) - before
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", told.stdout)
    if done is None or not int(done[1]):
        raise RuntimeError(f"h2load: {told.stdout}")
    return {
        "per server-CPU-second": int(done[1]) / used,
        "per second": int(done[1]) / whole,
        "server core busy, %": 100 * used / whole,
    }


def scenarios(seconds: float) -> dict[str, tuple[tuple[str, ...], Callable[[str], Figures]]]:
    """Title: the rivals, and what measures one of them once."""
    found: dict[str, tuple[tuple[str, ...], Callable[[str], Figures]]] = {}
    for title, row in ROWS.items():
        found[title] = row.rivals, functools.partial(measure, row=row, seconds=seconds)
    if shutil.which("h2load"):
        rivals = ("fastchannels", "granian", "hypercorn")
        found["HTTP/2 hello"] = rivals, functools.partial(measure_http2, seconds=seconds)
    else:
        print("h2load is not installed: HTTP/2 is left out")
    return found
