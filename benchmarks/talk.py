"""Channel mode, protocol server and worker, beside what else runs the same Django site or echoes the same frames.

    python -m benchmarks --only talk
    python -m benchmarks --only talk --rows view --rivals local gthread

All processes of a rival, Redis included, and the client share two cores. The figure to compare is work by second of the
CPU that the rival's processes took together. Rivals that are not installed are left out, with a line that says so.
"""

from __future__ import annotations

import os
from functools import partial

from benchmarks.parts import ORACLE, OURS, PEERS, Meter, Rival, free_port, lacks, next_record, serving
from benchmarks.records import Figures, Scenario, Target, share
from benchmarks.servers_load import REQUEST, TEXT, Load, echo, loading

DAPHNE1 = "from daphne.cli import CommandLineInterface; CommandLineInterface.entrypoint()"
LAYER = "benchmarks.drivers.talk_layer:channel_layer"
_SITE = {"DJANGO_SETTINGS_MODULE": "benchmarks.drivers.talk_site"}
_LAYERED = {**_SITE, "TALK_LAYER": "ADDRESS"}
_TALK = {
    "server": ("-m", "fastchannels", "server", "-v", "0", "--port", "PORT", LAYER),
    "worker": ("-m", "fastchannels", "worker", "-v", "0", LAYER),
}
_GUNICORN = ("-m", "gunicorn", "--log-level", "error", "-b", "127.0.0.1:PORT", "--workers", "2")
_WSGI = "django.core.wsgi:get_wsgi_application()"
_UVICORN = (
    "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    "--lifespan", "off", "--port", "PORT", "benchmarks.drivers.talk_channels4:application",
)  # fmt: skip
_OLD = {
    "server": ("-c", DAPHNE1, "-v", "0", "-p", "PORT", LAYER),
    "worker": ("-m", "django", "runworker", "-v", "0"),
}

RIVALS = {
    "fastchannels, local": Rival(OURS, _TALK, "local", _LAYERED, "django"),
    "fastchannels, Redis": Rival(OURS, _TALK, "redis", _LAYERED, "django"),
    "gunicorn sync": Rival(PEERS, {"server": (*_GUNICORN, _WSGI)}, "", _SITE, "gunicorn"),
    "gunicorn gthread": Rival(PEERS, {"server": (*_GUNICORN, "--threads", "4", _WSGI)}, "", _SITE, "gunicorn"),
    "Channels 4, uvicorn": Rival(PEERS, {"server": _UVICORN}, "", _SITE, "uvicorn, channels"),
    "Channels 1.1.8": Rival(ORACLE, _OLD, "redis", {**_LAYERED, "TALK_OLD": "1"}, "channels, daphne, asgi_redis"),
}

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


def missing(name: str) -> str:
    """Why ``name`` cannot run; empty when it can."""
    return lacks(RIVALS[name].python, RIVALS[name].needs)


def measure(name: str, load: Load, seconds: float) -> Figures:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))[-2:]
    with serving(RIVALS[name], [port]) as processes, loading(load, port, seconds, cores) as client:
        meter = Meter(processes)
        got = next_record(client)
        used, shares = meter.read()
    figures = {"per CPU-second": got["count"] / used, "per second": got["count"] / got["seconds"]}
    if "p50" in got:
        figures |= {"p50, ms": got["p50"], "p99, ms": got["p99"]}
    return figures | shares | {share("client"): got["client_cpu"] / got["seconds"]}


WORK, SLOWEST = "per CPU-second", "p99, ms"
TARGETS = {
    "Django view": (
        Target(WORK, 1, "gunicorn gthread"),
        Target(SLOWEST, 1 / 1.5, "gunicorn gthread"),
        Target(WORK, 2, "Channels 1.1.8"),
    ),
    "Django view, a connection a request": (
        Target(WORK, 1, "gunicorn sync"),
        Target(SLOWEST, 1 / 1.5, "gunicorn sync"),
    ),
    "WebSocket echo, 1 in flight": (
        Target(WORK, 2, "Channels 4, uvicorn"),
        Target(WORK, 1, "Channels 4, uvicorn", "fastchannels, Redis"),
        Target(WORK, 20, "Channels 1.1.8"),
    ),
}


def scenarios(seconds: float) -> dict[str, Scenario]:
    """By title."""
    return {
        title: Scenario(rivals, partial(measure, load=load, seconds=seconds), TARGETS.get(title, ()))
        for title, (rivals, load) in ROWS.items()
    }
