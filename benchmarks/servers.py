"""fastchannels-server beside Daphne and uvicorn: raw ASGI applications, server on one core, client on the other."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.parts import HERE, OURS, PEERS, cpu_seconds, free_port, next_record, running, wait_for_port

LOAD = str(HERE / "drivers" / "load.py")
RIVALS = ("fastchannels", "daphne", "uvicorn")
#: scenario: (application, kind of load, frames in flight on a connection)
SCENARIOS = {
    "HTTP hello": ("hello", "http", 1),
    "WebSocket echo 32 B, 1 in flight": ("echo", "ws", 1),
    "WebSocket echo 32 B, 16 in flight": ("echo", "ws", 16),
}


def command(server: str, application: str, port: int) -> list[str]:
    target = f"benchmarks.drivers.apps:{application}"
    where = ["-p", str(port)]
    if server == "fastchannels":
        return [OURS, "-m", "fastchannels", "server", "-v", "0", *where, target]
    if server == "daphne":
        return [PEERS, "-m", "daphne", "-v", "0", *where, target]
    quiet = ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    return [PEERS, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", *quiet, "--port", str(port), target]


def measure(server: str, scenario: str, seconds: float) -> dict[str, float]:
    application, kind, in_flight = SCENARIOS[scenario]
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = {cores[0]}, {cores[-1]}
    with running(command(server, application, port), server_core, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port, process)
        load = [sys.executable, LOAD, str(port), kind, str(seconds), str(in_flight)]
        with running(load, client_core, stdout=subprocess.PIPE) as client:
            next_record(client)
            before = cpu_seconds(process.pid)
            got = next_record(client)
            used = cpu_seconds(process.pid) - before
    return {
        "per server-CPU-second": got["count"] / used,
        "per second": got["count"] / got["seconds"],
        "server core busy, %": 100 * used / got["seconds"],
        "client core busy, %": 100 * got["client_cpu"] / got["seconds"],
    }
