"""The dispatch of messages inside a process, beside Channels' in-memory layer.

python -m pytest benchmarks/bench_inbox.py --benchmark-enable --benchmark-group-by=group
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer as UpstreamLayer

from fastchannels._core.inbox import Inbox
from fastchannels._core.names import check_channel_name
from fastchannels.layers.codec import Codec
from fastchannels.layers.memory import InMemoryChannelLayer

MESSAGE = {"type": "chat.message", "text": "x" * 200, "n": 7}
MEMBERS = [f"specific.{'0' * 32}!{number:032x}" for number in range(1000)]
LAYERS: dict[str, Callable[[], Any]] = {
    "fastchannels": lambda: InMemoryChannelLayer(capacity=10_000),
    "channels": lambda: UpstreamLayer(capacity=10_000),
}


def test_check_name(benchmark):
    benchmark(check_channel_name, MEMBERS[0])


def test_put_and_get(benchmark):
    codec = Codec()
    inbox = Inbox(capacity_of=lambda name: 100, expiry=60.0, decode=codec.decode)
    payload = codec.encode(MESSAGE)

    def pair() -> bytes | None:
        inbox.put(MEMBERS[0], payload)
        return inbox.get(MEMBERS[0])

    assert benchmark(pair) == payload


def test_fan_out(benchmark):
    codec = Codec()
    payload = codec.encode(MESSAGE)
    seen: list[dict[str, Any]] = []

    async def measure() -> None:
        inbox = Inbox(capacity_of=lambda name: 100, expiry=60.0, decode=codec.decode)
        for member in MEMBERS:
            inbox.attach(member, seen.append)
        benchmark(inbox.fan_out, MEMBERS, payload)

    asyncio.run(measure())
    assert seen[0] == MESSAGE


@pytest.mark.parametrize("rival", LAYERS)
def test_send_and_receive(benchmark, rival):
    benchmark.group = "100 messages from one task to itself, in memory"
    layer = LAYERS[rival]()
    loop = asyncio.new_event_loop()

    async def pairs() -> int:
        for _ in range(100):
            await layer.send("bench", MESSAGE)
            await layer.receive("bench")
        return 100

    try:
        assert benchmark(lambda: loop.run_until_complete(pairs())) == 100
    finally:
        loop.close()
