"""Another process with a layer on the same Redis: ``python -m tests.layers.redis.peer URL PREFIX ROLE [ARGUMENT...]``.

It writes one JSON value a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from fastchannels.layers.redis import RedisChannelLayer


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


async def reader(layer: RedisChannelLayer, channel: str) -> None:
    """Says ``n`` of every message of ``channel``."""
    say("ready")
    while True:
        say((await layer.receive(channel))["n"])


async def members(layer: RedisChannelLayer, group: str, count: str) -> None:
    """Joins ``group`` with ``count`` channels and says how often their receivers were called, once a batch."""
    got = 0

    def receiver(message: dict[str, Any]) -> None:
        nonlocal got
        got += 1
        if got % int(count) == 0:
            say(got)

    for _ in range(int(count)):
        name = await layer.new_channel()
        layer.attach(name, receiver)
        await layer.group_add(group, name)
    say("ready")
    await asyncio.get_running_loop().create_future()


async def writer(layer: RedisChannelLayer, skew: str, count: str, group: str, *channels: str) -> None:
    """Sends numbers to ``channels`` and ``group``, ten in flight, by a wall clock that is ``skew`` seconds wrong."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + float(skew)
    time.time_ns = lambda: right_ns() + int(float(skew) * 1e9)
    layer.capacity = 10_000
    say("ready")
    for start in range(0, int(count), 10):
        messages = [{"from": skew, "n": n} for n in range(start, start + 10)]
        await asyncio.gather(
            *(layer.send(channel, message) for message in messages for channel in channels),
            *(layer.group_send(group, message) for message in messages),
        )
    say("sent")


ROLES = {"reader": reader, "members": members, "writer": writer}


@contextlib.contextmanager
def peer(url: str, prefix: str, role: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The process, after it said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, url, prefix, role, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == '"ready"\n'
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    url, prefix, role, *arguments = sys.argv[1:]
    layer = RedisChannelLayer(hosts=[url], prefix=prefix)
    layer.heartbeat, layer.lease = 0.2, 0.6
    asyncio.run(ROLES[role](layer, *arguments))
