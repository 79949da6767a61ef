"""fastchannels.layers.redis beside channels_redis: sender and receivers in processes of their own, one Redis.

A scenario is a title, the rivals that take part, and a function that measures one of them once. The first rival is
ours; rivals that are not a layer are ceilings (``drivers/raw.py``, ``redis-benchmark``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.parts import HERE, OURS, PEERS, free_port, lacks, next_record, running, wait_for_port
from benchmarks.records import Figures, Target, share

DRIVERS = HERE / "drivers"
LAYERS = ("fastchannels", "core", "pubsub")
ATTACHED = "fastchannels, attached"
RAW = "raw hiredis"
REDIS_BENCHMARK = "redis-benchmark"
IDLE_SECONDS = 10.0


class Setting(NamedTuple):
    """What all runs share."""

    url: str
    seconds: float
    loop: str = "asyncio"


Process = subprocess.Popen[str]


@contextlib.contextmanager
def driver(rival: str, role: str, setting: Setting, credit: int | None = None, **options: object) -> Iterator[Process]:
    """One driver process, run by the interpreter of its layer. ``credit`` is a descriptor that it inherits."""
    if rival == RAW:
        command = [OURS, str(DRIVERS / "raw.py")]
    elif rival in (LAYERS[0], ATTACHED):
        command = [OURS, str(DRIVERS / "layer.py"), LAYERS[0]]
    else:
        command = [PEERS, str(DRIVERS / "layer.py"), rival]
    command += [role, setting.url, str(setting.seconds), "--loop", setting.loop]
    for name, value in options.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    if rival == ATTACHED and role == "receive_group":
        command.append("--attach")
    descriptors: tuple[int, ...] = ()
    if credit is not None:
        command += ["--credit", str(credit)]
        descriptors = (credit,)
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors) as process:
        yield process


def tell(process: Process, record: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(record) + "\n")
    process.stdin.flush()


def info(url: str, section: str) -> dict[str, float]:
    """The numbers of one section of Redis' INFO."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), 10) as sock:
        sock.sendall(f"INFO {section}\r\n".encode())
        stream = sock.makefile("rb")
        text = stream.read(int(stream.readline()[1:])).decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+):([0-9.]+)\r?$", text, re.MULTILINE)}


def redis_cpu(url: str) -> float:
    figures = info(url, "cpu")
    return figures["used_cpu_user"] + figures["used_cpu_sys"]


# ------------------------------------------------------------------ scenarios


def sends(rival: str, setting: Setting, channels: int) -> Figures:
    with driver(rival, "pop" if rival == RAW else "receive", setting, **_members(rival, channels)) as receiver:
        ready = next_record(receiver)
        with driver(rival, "push" if rival == RAW else "send", setting) as sender:
            tell(sender, ready)
            sent = next_record(sender)
        got = next_record(receiver)
    return {
        share("sender"): sent["cpu"] / setting.seconds,
        share("receiver"): got["cpu"] / got["seconds"],
        "messages/s": got["received"] / got["seconds"],
        "client CPU, µs a message": (sent["cpu"] + got["cpu"]) / got["received"] * 1e6,
        "lost": sent["sent"] - got["received"],
    }


def _members(rival: str, members: int) -> dict[str, object]:
    return {} if rival == RAW else {"members": members}


def one_way(rival: str, setting: Setting) -> Figures:
    if rival != REDIS_BENCHMARK:
        return sends(rival, setting, 1)
    port = str(urlsplit(setting.url).port)
    command = ["redis-benchmark", "-p", port, "-t", "rpush", "-c", "1", "-P", "64", "-d", "256", "-n", "200000"]
    shown = subprocess.run([*command, "--csv"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["redis-cli", "-p", port, "DEL", "mylist"], check=True, capture_output=True)
    return {"messages/s": float(re.findall(r'^"RPUSH","([0-9.]+)"', shown, re.MULTILINE)[0])}


def many_channels(rival: str, setting: Setting) -> Figures:
    return sends(rival, setting, 1000)


def round_trip(rival: str, setting: Setting) -> Figures:
    with driver(rival, "echo", setting) as answerer:
        ready = next_record(answerer)
        with driver(rival, "ping", setting) as caller:
            tell(caller, ready)
            return {"p50, µs": next_record(caller)["p50_us"]}


def group(
    rival: str, setting: Setting, processes: int, members: int, ahead: int, cost: Callable[[str], float] = redis_cpu
) -> Figures:
    """``members`` in each of ``processes``; ``ahead`` group messages under way. All that its scenarios show.

    ``cost(url)`` grows with what Redis does.
    """
    read_end, write_end = os.pipe()
    try:
        with contextlib.ExitStack() as stack:
            receivers = [
                stack.enter_context(driver(rival, "receive_group", setting, write_end, members=members))
                for _ in range(processes)
            ]
            ready, *_ = [next_record(receiver) for receiver in receivers]
            options = {"ahead": ahead, "receivers": processes}
            sender = stack.enter_context(driver(rival, "send_group", setting, read_end, **options))
            before = cost(setting.url)
            tell(sender, ready)
            sent = next_record(sender)
            redis = cost(setting.url) - before
            got = [next_record(receiver) for receiver in receivers]
    finally:
        os.close(read_end)
        os.close(write_end)
    received = sum(each["received"] for each in got)
    shares = {share(f"receiver {index + 1}"): each["cpu"] / each["seconds"] for index, each in enumerate(got)}
    return {
        share("sender"): sent["cpu"] / setting.seconds,
        **shares,
        "deliveries/s": sum(each["received"] / each["seconds"] for each in got),
        "client CPU, µs a delivery": (sent["cpu"] + sum(each["cpu"] for each in got)) / received * 1e6,
        "lost": sent["sent"] * members * processes - received,
        "p50, ms": sent["p50_ms"],
        "Redis CPU, µs a group_send": redis / sent["sent"] * 1e6,
        "Redis, cost a group_send": redis / sent["sent"],
    }


def chosen(figures: Figures, *names: str) -> Figures:
    """Those of ``figures``, and every share of a core."""
    return {name: value for name, value in figures.items() if name in names or name.startswith(share(""))}


def two_processes(rival: str, setting: Setting) -> Figures:
    return chosen(group(rival, setting, 2, 500, 4), "deliveries/s", "client CPU, µs a delivery", "lost")


def large_group(rival: str, setting: Setting) -> Figures:
    return chosen(group(rival, setting, 1, 5000, 1), "p50, ms", "Redis CPU, µs a group_send", "lost")


@contextlib.contextmanager
def counted_redis() -> Iterator[tuple[str, Callable[[str], float]]]:
    """A Redis under callgrind, and a function that tells how many instructions it has run."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        port = free_port()
        command = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={directory}/out", "redis-server"]
        # Little that it does by itself.
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--hz", "1", "--dir", directory]
        server = stack.enter_context(running([*command, *options], stdout=subprocess.DEVNULL))
        wait_for_port(port, server)

        def count(url: str) -> float:
            # A dump holds what was run since the one before it.
            subprocess.run(["callgrind_control", "--dump", str(server.pid)], check=True, capture_output=True)
            dumps = [path.read_text() for path in Path(directory).glob("out.*")]
            return sum(
                int(found[1]) for text in dumps if (found := re.search(r"^(?:summary|totals): (\d+)", text, re.M))
            )

        yield f"redis://127.0.0.1:{port}", count


def cost_by_members(rival: str, setting: Setting) -> Figures:
    """Ours alone; the rival is the number of members. In instructions: time is longer in caches that others emptied."""
    with counted_redis() as (url, count):
        figures = group(ATTACHED, setting._replace(url=url), 1, int(rival.split()[0].replace(",", "")), 1, count)
    return {"Redis instructions a group_send": figures["Redis, cost a group_send"], "lost": figures["lost"]}


def join_and_leave(rival: str, setting: Setting, apart: bool = False) -> Figures:
    with driver(rival, "join_and_leave", setting, **({"apart": True} if apart else {})) as process:
        got = next_record(process)
    figures = {"pairs/s": got["pairs"] / got["seconds"], "client CPU, µs a pair": got["cpu"] / got["pairs"] * 1e6}
    return figures | {share("client"): got["cpu"] / got["seconds"]}


def idle(rival: str, setting: Setting) -> Figures:
    setting = setting._replace(seconds=IDLE_SECONDS)
    with driver(rival, "idle", setting, members=1000) as process:
        next_record(process)
        before = info(setting.url, "stats")["total_commands_processed"]
        got = next_record(process)
        commands = info(setting.url, "stats")["total_commands_processed"] - before - 1
        tell(process, {})
        process.wait(30)
    return {
        "client CPU, ms a second": got["cpu"] / IDLE_SECONDS * 1e3,
        "Redis commands a second": commands / IDLE_SECONDS,
        "receives that ended": got["ended"],
    }


def missing(rival: str) -> str:
    """Why ``rival`` cannot run; empty when it can."""
    if rival == REDIS_BENCHMARK:
        return "" if shutil.which(rival) else "not installed"
    return lacks(PEERS, "channels_redis, hiredis") if rival in LAYERS[1:] else ""


class Scenario(NamedTuple):
    rivals: tuple[str, ...]
    measure: Callable[[str, Setting], Figures]
    targets: tuple[Target, ...] = ()


def ahead(figure: str, core: float, pubsub: float, *more: Target) -> tuple[Target, ...]:
    """How many times better than channels_redis is wanted, and what else."""
    return Target(figure, core, "core"), Target(figure, pubsub, "pubsub"), *more


RATE, PAIRS, IDLE_CPU = "messages/s", "pairs/s", "client CPU, ms a second"
SCENARIOS: dict[str, Scenario] = {
    "64 sends in flight, one receive loop": Scenario(
        (*LAYERS, RAW, REDIS_BENCHMARK), one_way, ahead(RATE, 120, 20, Target("client CPU, µs a message", 6))
    ),
    "sequential round trip": Scenario(
        (*LAYERS, RAW), round_trip, ahead("p50, µs", 10, 2, Target("p50, µs", 1 / 1.6, RAW))
    ),
    "1,000 channels with a pending receive each, random sends": Scenario(LAYERS, many_channels, ahead(RATE, 100, 15)),
    "group of 1,000 in two processes": Scenario(
        (LAYERS[0], ATTACHED, *LAYERS[1:]),
        two_processes,
        ahead("deliveries/s", 25, 2.5, Target("client CPU, µs a delivery", 1.2)),
    ),
    "group of 5,000 in one process, group_send to last delivery": Scenario(
        (LAYERS[0], ATTACHED, *LAYERS[1:]), large_group, ahead("p50, ms", 20, 3)
    ),
    "Redis and the size of a group (ours)": Scenario(
        ("10 members", "10,000 members"),
        cost_by_members,
        (Target("Redis instructions a group_send", 1 / 1.1, "10 members", "10,000 members"),),
    ),
    "group_add and group_discard, 64 in flight, a group each": Scenario(
        LAYERS, partial(join_and_leave, apart=True), ahead(PAIRS, 50, 20)
    ),
    "group_add and group_discard, 64 in flight, one group": Scenario(LAYERS, join_and_leave, ahead(PAIRS, 50, 20)),
    "1,000 idle receivers": Scenario(LAYERS, idle, ahead(IDLE_CPU, 1, 20)),
}
