"""fastchannels.layers.local between two processes of one machine, beside the kernel and the standard library.

Messages are dicts of about 256 bytes, encoded and decoded through the asynchronous API; the rivals carry plain bytes.
Every rival runs in forked children of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvloop

from benchmarks.parts import compiled, shared_folder
from benchmarks.records import Figures, Scenario, Target
from fastchannels.exceptions import ChannelFull
from fastchannels.layers.local import LocalChannelLayer

OURS, OURS_INBOX = "fastchannels, ordinary channel", "fastchannels, process-local channel"
SEQPACKET, PIPE, PING = "SOCK_SEQPACKET pair", "multiprocessing.Pipe", "uvloop on SEQPACKET"
TEXT = "x" * 200
BYTES = b"x" * 256
PATIENCE = 30.0


class Child:
    """``work(report, told)`` in a forked process: it reports records, and is told some."""

    def __init__(self, work: Callable[[Callable[[Any], None], Callable[[], Any]], None]) -> None:
        mine, theirs = multiprocessing.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            try:
                gc.disable()
                work(theirs.send, theirs.recv)
            finally:
                os._exit(0)
        self.pipe = mine

    def record(self) -> Any:
        if not self.pipe.poll(PATIENCE):
            raise RuntimeError("a benchmark process says nothing")
        return self.pipe.recv()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def together(*works: Callable[[Callable[[Any], None], Callable[[], Any]], None]) -> Iterator[list[Child]]:
    """Each of ``works`` in a process of its own, for as long as the block runs."""
    children: list[Child] = []
    try:
        for work in works:
            children.append(Child(work))
        yield children
    finally:
        for child in children:
            child.end()


# ------------------------------------------------------------------ one way


def _receive(path: str, seconds: float, own: bool, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path, capacity=10_000)
        name = await layer.new_channel() if own else "jobs"
        report(name)
        await layer.receive(name)
        count, began, cpu = 0, time.perf_counter(), time.process_time()
        while (took := time.perf_counter() - began) < seconds:
            for _ in range(100):
                await layer.receive(name)
            count += 100
        report({"messages/s": count / took, "receiver CPU, µs": (time.process_time() - cpu) / count * 1e6})

    uvloop.run(main())


def _send(path: str, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path, capacity=10_000)
        name = told()
        number = 0
        while True:
            try:
                await layer.send(name, {"type": "bench.message", "n": number, "text": TEXT})
                number += 1
            except ChannelFull:
                await asyncio.sleep(0.0005)

    uvloop.run(main())


def _raw(carry: tuple[Callable[[], object], Callable[[], object]], seconds: float) -> Figures:
    read, write = carry

    def sender(report: Callable[[Any], None], told: Callable[[], Any]) -> None:
        while True:
            write()

    def receiver(report: Callable[[Any], None], told: Callable[[], Any]) -> None:
        read()
        count, began, cpu = 0, time.perf_counter(), time.process_time()
        while (took := time.perf_counter() - began) < seconds:
            for _ in range(100):
                read()
            count += 100
        report({"messages/s": count / took, "receiver CPU, µs": (time.process_time() - cpu) / count * 1e6})

    with together(receiver, sender) as children:
        return children[0].record()


def one_way(rival: str, seconds: float) -> Figures:
    if rival == SEQPACKET:
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with a, b:
            return _raw((partial(a.recv, 1024), partial(b.send, BYTES)), seconds)
    if rival == PIPE:
        reader, writer = multiprocessing.Pipe(duplex=False)
        with reader, writer:
            return _raw((reader.recv_bytes, partial(writer.send_bytes, BYTES)), seconds)
    with (
        shared_folder() as path,
        together(partial(_receive, path, seconds, rival == OURS_INBOX), partial(_send, path)) as children,
    ):
        children[1].pipe.send(children[0].record())
        return children[0].record()


# ------------------------------------------------------------------ there and back


def _ping(path: str, seconds: float, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path)
        there, back = told(), await layer.new_channel()
        times = []
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            await layer.send(there, {"back": back, "text": TEXT})
            await layer.receive(back)
            times.append(time.perf_counter() - began)
        report({"p50, µs": statistics.median(times) * 1e6})

    uvloop.run(main())


def _pong(path: str, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path)
        name = await layer.new_channel()
        report(name)
        while True:
            message = await layer.receive(name)
            await layer.send(message["back"], message)

    uvloop.run(main())


def round_trip(rival: str, seconds: float) -> Figures:
    if rival == PING:
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        a.setblocking(False)
        b.setblocking(False)

        def pong(report: Callable[[Any], None], told: Callable[[], Any]) -> None:
            loop = uvloop.new_event_loop()
            loop.add_reader(b, lambda: b.send(b.recv(1024)))
            loop.run_forever()

        def ping(report: Callable[[Any], None], told: Callable[[], Any]) -> None:
            loop = uvloop.new_event_loop()
            times, ends = [], time.perf_counter() + seconds
            began = 0.0

            def readable() -> None:
                nonlocal began
                a.recv(1024)
                now = time.perf_counter()
                times.append(now - began)
                if now > ends:
                    loop.stop()
                began = now
                a.send(BYTES)

            loop.add_reader(a, readable)
            began = time.perf_counter()
            a.send(BYTES)
            loop.run_forever()
            report({"p50, µs": statistics.median(times) * 1e6})

        with a, b, together(ping, pong) as children:
            return children[0].record()
    with shared_folder() as path, together(partial(_ping, path, seconds), partial(_pong, path)) as children:
        children[0].pipe.send(children[1].record())
        return children[0].record()


# ------------------------------------------------------------------ groups, idleness, the segment alone


def _members(path: str, count: int, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path, capacity=10_000)
        got = 0
        done = asyncio.Event()

        def receiver(message: dict[str, Any]) -> None:
            nonlocal got
            got += 1
            if got % count == 0:
                report(message["n"])
                done.set()

        for _ in range(count):
            name = layer.new_local_channel("specific")
            layer.attach(name, receiver)
            await layer.group_add("g", name)
        report("ready")
        while True:
            await done.wait()
            done.clear()

    uvloop.run(main())


def fan_out(rival: str, seconds: float) -> Figures:
    """5,000 members in two processes; a group message at a time under way in each, two of them ahead."""
    with shared_folder() as path, together(*[partial(_members, path, 2500)] * 2) as children:
        for child in children:
            child.record()
        layer = LocalChannelLayer(path=path, capacity=10_000)
        sent = heard = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            while sent - heard < 4:
                layer.group_send_sync("g", {"type": "bench.message", "n": sent, "text": TEXT})
                sent += 1
            for child in children:
                child.record()
            heard += 1
        layer._release()
        return {"deliveries/s": heard * 5000 / took}


def _idle(path: str, report: Callable[[Any], None], told: Callable[[], Any]) -> None:
    async def main() -> None:
        layer = LocalChannelLayer(path=path)
        receives = [asyncio.ensure_future(layer.receive(await layer.new_channel())) for _ in range(1000)]
        await asyncio.sleep(0.5)
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(4)
        spent = (time.process_time() - cpu) / (time.perf_counter() - began)
        report({"CPU, ms a second": spent * 1e3})
        del receives

    uvloop.run(main())


def idle(rival: str, seconds: float) -> Figures:
    with shared_folder() as path, together(partial(_idle, path)) as (child,):
        return child.record()


def segment_alone(rival: str, seconds: float) -> Figures:
    program = compiled(
        "bench_shm", ("fc_shm", "fc_shm_ops", "fc_segment", "fc_heap", "fc_recover", "fc_lock", "fc_process", "fc_wake")
    )
    figures = json.loads(subprocess.run([program, str(seconds)], check=True, capture_output=True).stdout)
    return {"messages/s, one thread": figures["alone"], "messages/s, two processes": figures["apart"]}


def scenarios(seconds: float) -> dict[str, Scenario]:
    """By title."""
    rate = "messages/s"
    return {
        "local: 256 bytes one way, two processes": Scenario(
            (OURS_INBOX, OURS, SEQPACKET, PIPE),
            partial(one_way, seconds=seconds),
            (Target(rate, 1.5, SEQPACKET), Target(rate, 2, PIPE)),
        ),
        "local: there and back": Scenario(
            ("fastchannels", PING), partial(round_trip, seconds=seconds), (Target("p50, µs", 1 / 2.5, PING),)
        ),
        "local: group of 5,000 in two processes": Scenario(
            ("fastchannels",), partial(fan_out, seconds=seconds), (Target("deliveries/s", 1e6),)
        ),
        "local: 1,000 idle receivers": Scenario(("fastchannels",), partial(idle, seconds=seconds)),
        "local: the segment without Python": Scenario(
            ("fastchannels",), partial(segment_alone, seconds=seconds), (Target("messages/s, one thread", 5e6),)
        ),
    }
