"""One process of a layer benchmark: ``layer.py LAYER ROLE URL SECONDS [CHANNEL] [--credit FD]``.

Run by the interpreter that has the layer installed. It prints one JSON object a line: first ``{"channel": ...}``
where a role receives, at the end its figures. It knows nothing of the other layers, so that each is measured with its
own libraries and no other's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time

TEXT = "x" * 200  # with its keys a message of about 256 bytes
IN_FLIGHT = 64
MEMBERS = 1000
QUIET = 1.0  # seconds without a message that end a receiver
CAPACITY = 10_000


def make_layer(name: str, url: str):
    """The layer under test; all three enforce what they can of capacity 10,000 and expiry 60 s."""
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


def report(**figures) -> None:
    print(json.dumps(figures), flush=True)


def message(number: int, **more) -> dict:
    return {"type": "bench.message", "n": number, "text": TEXT, **more}


async def until_quiet(progress, started: asyncio.Event) -> None:
    """Return when ``progress()`` has stood still for QUIET seconds after ``started``."""
    await started.wait()
    last = progress()
    while True:
        await asyncio.sleep(QUIET)
        if progress() == last:
            return
        last = progress()


async def receive_one_way(layer, _arguments) -> None:
    channel = await layer.new_channel()
    report(channel=channel)
    count, first, last = 0, 0.0, 0.0
    started = asyncio.Event()

    async def read() -> None:
        nonlocal count, first, last
        while True:
            await layer.receive(channel)
            last = time.perf_counter()
            if not count:
                first = last
                started.set()
            count += 1

    reader = asyncio.create_task(read())
    await until_quiet(lambda: count, started)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    report(received=count, seconds=last - first, cpu=time.process_time())


async def send_one_way(layer, arguments) -> None:
    from importlib import import_module

    try:
        ChannelFull = import_module("channels.exceptions").ChannelFull
    except ImportError:
        ChannelFull = import_module("fastchannels.exceptions").ChannelFull
    sent = refused = 0
    end = time.perf_counter() + arguments.seconds

    async def work() -> None:
        nonlocal sent, refused
        while time.perf_counter() < end:
            try:
                await layer.send(arguments.channel, message(sent))
                sent += 1
            except ChannelFull:
                refused += 1
                await asyncio.sleep(0.001)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    report(sent=sent, refused=refused, cpu=time.process_time())


async def echo(layer, _arguments) -> None:
    channel = await layer.new_channel()
    report(channel=channel)
    while True:
        received = await layer.receive(channel)
        if received["n"] < 0:
            return
        await layer.send(received["reply"], message(received["n"]))


async def ping(layer, arguments) -> None:
    own = await layer.new_channel()
    times = []
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        await layer.send(arguments.channel, message(len(times), reply=own))
        await layer.receive(own)
        times.append(time.perf_counter() - start)
    await layer.send(arguments.channel, message(-1))
    times = times[len(times) // 10 :]  # the first tenth warms connections and scripts
    report(trips=len(times), p50_us=statistics.median(times) * 1e6)


async def receive_group(layer, arguments) -> None:
    channels = [await layer.new_channel() for _ in range(MEMBERS)]
    for channel in channels:
        await layer.group_add("bench", channel)
    counts: dict[int, int] = {}
    count, first, last = 0, 0.0, 0.0
    started = asyncio.Event()

    async def read(channel: str) -> None:
        nonlocal count, first, last
        while True:
            number = (await layer.receive(channel))["n"]
            last = time.perf_counter()
            if not count:
                first = last
                started.set()
            count += 1
            counts[number] = counts.get(number, 0) + 1
            if counts[number] == MEMBERS:
                os.write(arguments.credit, b"x")

    readers = [asyncio.create_task(read(channel)) for channel in channels]
    await asyncio.sleep(0.2)  # let every reader reach its receive
    report(channel="bench")
    await until_quiet(lambda: count, started)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    report(received=count, seconds=last - first, cpu=time.process_time())


async def send_group(layer, arguments) -> None:
    """Closed loop: as many group messages under way as there are credits, one back for each that reached all."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(arguments.credit, "rb", buffering=0)
    )
    sent, times = 0, []
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        await layer.group_send("bench", message(sent))
        sent += 1
        try:
            await asyncio.wait_for(reader.readexactly(1), 5)
        except asyncio.TimeoutError:
            continue  # a member missed it: the receiver's count shows the loss
        times.append(time.perf_counter() - start)
    report(sent=sent * MEMBERS, p50_ms=statistics.median(times) * 1e3, cpu=time.process_time())


ROLES = {role.__name__: role for role in (receive_one_way, send_one_way, echo, ping, receive_group, send_group)}


async def run(arguments) -> None:
    layer = make_layer(arguments.layer, arguments.url)
    await ROLES[arguments.role](layer, arguments)
    close = getattr(layer, "close_pools", None)
    if close is not None:
        await close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("layer", choices=["fastchannels", "core", "pubsub"])
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("channel", nargs="?", default="")
    parser.add_argument("--credit", type=int, default=-1)
    asyncio.run(run(parser.parse_args()))
