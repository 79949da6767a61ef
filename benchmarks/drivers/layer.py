"""One process of a layer benchmark: ``layer.py LAYER ROLE URL SECONDS [options]``.

Run by the interpreter that has the layer installed. A role that sends reads one JSON line with the channels to send to
from its standard input. Every role prints JSON lines: one when it is ready, at the end its figures. CPU is counted
from that readiness (a receiver: from its first message), so that imports and set-up are not in it. The driver knows
nothing of the other layers, so that each is measured with its own libraries and no other's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time

TEXT = "x" * 200  # with its keys a message of about 256 bytes
IN_FLIGHT = 64
QUIET = 0.5  # seconds without a message that end a receiver
CAPACITY = 10_000
MISSED = 5.0  # seconds after which a group message that did not reach every member is given up


def make_layer(name: str, url: str):
    """The layer under test; all three enforce what they can of capacity 10,000 and expiry 60 s."""
    if name == "fastchannels" and url.startswith("local:"):
        from fastchannels.layers.local import LocalChannelLayer

        return LocalChannelLayer(path=url.removeprefix("local:"), capacity=CAPACITY)
    if name == "fastchannels":
        from fastchannels.layers.redis import RedisChannelLayer

        return RedisChannelLayer(hosts=[url], capacity=CAPACITY)
    # redis-py 8 times blocking reads out after 5 s unless told otherwise, which ends idle receivers of channels_redis.
    host = {"address": url, "socket_timeout": None}
    if name == "core":
        from channels_redis.core import RedisChannelLayer

        return RedisChannelLayer(hosts=[host], capacity=CAPACITY)
    from channels_redis.pubsub import RedisPubSubChannelLayer

    return RedisPubSubChannelLayer(hosts=[host])


def channel_full() -> type[Exception]:
    try:
        from channels.exceptions import ChannelFull
    except ImportError:
        from fastchannels.exceptions import ChannelFull
    return ChannelFull


def report(**figures) -> None:
    print(json.dumps(figures), flush=True)


def told_channels() -> list[str]:
    return json.loads(sys.stdin.readline())["channels"]


def message(number: int, **more) -> dict:
    return {"type": "bench.message", "n": number, "text": TEXT, **more}


class Tally:
    """What a receiver counts: messages, when the first and the last came, and the CPU between them."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = self.cpu = 0.0
        self.started = asyncio.Event()

    def add(self) -> None:
        if not self.count:
            self.first, self.cpu = time.perf_counter(), time.process_time()
            self.started.set()
        self.count += 1
        self.last = time.perf_counter()

    async def until_quiet(self) -> None:
        """Return when nothing came for QUIET seconds after the first message."""
        await self.started.wait()
        seen = 0
        while seen != self.count:
            seen = self.count
            await asyncio.sleep(QUIET)

    def report(self) -> None:
        report(received=self.count, seconds=self.last - self.first, cpu=time.process_time() - self.cpu)


async def cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def receive(layer, arguments) -> None:
    """A pending receive on each of MEMBERS channels."""
    channels = [await layer.new_channel() for _ in range(arguments.members)]
    tally = Tally()

    async def read(channel: str) -> None:
        while True:
            await layer.receive(channel)
            tally.add()

    readers = [asyncio.create_task(read(channel)) for channel in channels]
    await asyncio.sleep(0.2)  # let every reader reach its receive
    report(channels=channels)
    await tally.until_quiet()
    tally.report()
    await cancelled(readers)


async def send(layer, arguments) -> None:
    """64 sends in flight, each to a channel at random."""
    channels = told_channels()
    full = channel_full()
    sent = refused = 0
    await layer.send(channels[0], message(-1))
    end = time.perf_counter() + arguments.seconds
    cpu = time.process_time()

    async def work() -> None:
        nonlocal sent, refused
        while time.perf_counter() < end:
            try:
                await layer.send(channels[0] if len(channels) == 1 else random.choice(channels), message(sent))
                sent += 1
            except full:
                refused += 1
                await asyncio.sleep(0.001)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    report(sent=sent + 1, refused=refused, cpu=time.process_time() - cpu)


async def echo(layer, _arguments) -> None:
    channel = await layer.new_channel()
    report(channels=[channel])
    while True:
        received = await layer.receive(channel)
        if received["n"] < 0:
            return
        await layer.send(received["reply"], message(received["n"]))


async def ping(layer, arguments) -> None:
    (channel,) = told_channels()
    own = await layer.new_channel()
    times = []
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        await layer.send(channel, message(len(times), reply=own))
        await layer.receive(own)
        times.append(time.perf_counter() - start)
    await layer.send(channel, message(-1))
    times = times[len(times) // 10 :]  # the first tenth warms connections and scripts
    report(trips=len(times), p50_us=statistics.median(times) * 1e6)


async def join_all(layer, channels: list[str]) -> None:
    for start in range(0, len(channels), IN_FLIGHT):
        await asyncio.gather(*(layer.group_add("bench", channel) for channel in channels[start : start + IN_FLIGHT]))


async def receive_group(layer, arguments) -> None:
    """MEMBERS members of one group, read by a pending receive each, or by attached receivers.

    A byte on ``--credit`` says that a message reached all members.
    """
    channels = [await layer.new_channel() for _ in range(arguments.members)]
    await join_all(layer, channels)
    counts: dict[int, int] = {}
    tally = Tally()

    def seen(received: dict) -> None:
        tally.add()
        number = received["n"]
        counts[number] = count = counts.get(number, 0) + 1
        if count == arguments.members:
            del counts[number]
            os.write(arguments.credit, b"x")

    async def read(channel: str) -> None:
        while True:
            seen(await layer.receive(channel))

    readers = []
    if arguments.attach:
        for channel in channels:
            layer.attach(channel, seen)
    else:
        readers = [asyncio.create_task(read(channel)) for channel in channels]
    await asyncio.sleep(0.2)  # let every reader reach its receive
    report(channels=["bench"])
    await tally.until_quiet()
    tally.report()
    await cancelled(readers)


async def send_group(layer, arguments) -> None:
    """Closed loop: ``--ahead`` group messages under way, ``--receivers`` credits come back for each."""
    told_channels()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(arguments.credit, "rb", buffering=0)
    )
    sent, missed, times = 0, 0, []
    cpu = time.process_time()
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        await layer.group_send("bench", message(sent))
        sent += 1
        if sent < arguments.ahead:
            continue
        try:
            await asyncio.wait_for(reader.readexactly(arguments.receivers), MISSED)
        except asyncio.TimeoutError:
            missed += 1  # a member missed it: the receiver's count shows the loss
            if missed > 2:
                break
            continue
        times.append(time.perf_counter() - start)
    report(sent=sent, p50_ms=statistics.median(times) * 1e3 if times else 0.0, cpu=time.process_time() - cpu)


async def join_and_leave(layer, arguments) -> None:
    """64 workers; each adds a channel of its own to a group and discards it: all to one group, or each to its own."""
    channels = [await layer.new_channel() for _ in range(IN_FLIGHT)]
    await join_all(layer, channels)
    pairs = 0
    cpu, start = time.process_time(), time.perf_counter()
    end = start + arguments.seconds

    async def work(group: str, channel: str) -> None:
        nonlocal pairs
        while time.perf_counter() < end:
            await layer.group_add(group, channel)
            await layer.group_discard(group, channel)
            pairs += 1

    groups = [f"bench.{number}" if arguments.apart else "bench" for number in range(IN_FLIGHT)]
    await asyncio.gather(*map(work, groups, channels))
    report(pairs=pairs, seconds=time.perf_counter() - start, cpu=time.process_time() - cpu)


async def idle(layer, arguments) -> None:
    """A pending receive on each of MEMBERS channels, and nothing comes."""
    channels = [await layer.new_channel() for _ in range(arguments.members)]
    readers = [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await asyncio.sleep(0.5)
    report(ready=True)
    cpu = time.process_time()
    await asyncio.sleep(arguments.seconds)
    report(cpu=time.process_time() - cpu, ended=sum(reader.done() for reader in readers))
    sys.stdin.readline()
    await cancelled(readers)


ROLES = {role.__name__: role for role in (receive, send, echo, ping, receive_group, send_group, join_and_leave, idle)}


async def run(arguments) -> None:
    layer = make_layer(arguments.layer, arguments.url)
    await ROLES[arguments.role](layer, arguments)
    close = getattr(layer, "close_pools", None)
    if close is not None:
        await close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("layer", choices=["fastchannels", "core", "pubsub"])
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--attach", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--ahead", type=int, default=1)
    parser.add_argument("--receivers", type=int, default=1)
    parser.add_argument("--credit", type=int, default=-1)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    if arguments.loop == "uvloop":
        import uvloop

        uvloop.run(run(arguments))
    else:
        asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
