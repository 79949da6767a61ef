"""Another process with a layer on the same Redis: ``python -m tests.layers.redis.peer URL PREFIX ROLE [ARGUMENT...]``.

It writes one JSON value a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
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


ROLES = {"reader": reader, "members": members}


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
