"""pack and unpack beside msgpack and msgspec, on messages of the kinds that layers carry.

    python -m pytest benchmarks/bench_msgpack.py --benchmark-enable --benchmark-group-by=group --benchmark-sort=median

pytest-benchmark runs one rival after the other. On a busy machine run this file itself: it takes the rivals in turn,
round by round, and prints the medians in ns.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest

from fastchannels._core.msgpack import pack, unpack
from fastchannels.layers.codec import Codec

CODEC = Codec()

MESSAGES: dict[str, dict[str, Any]] = {
    "chat": {"type": "chat.message", "text": "x" * 200, "n": 7, "room": "lobby", "t": 1.5},
    "receive": {
        "reply_channel": "websocket.send.0123456789abcdef0123456789abcdef!0123456789abcdef0123456789abcdef",
        "path": "/chat/lobby/",
        "order": 12,
        "text": '{"say": "hello"}',
        "__event__": 12,
        "__session__": b"\x81\xa4room\xa5lobby",
    },
    "acknowledgement": {"__ack__": 12, "__replies__": [{"text": "x" * 50}, {"text": "y" * 50}]},
    "text": {"type": "chat.message", "text": "\u00e9\u20ac" * 100},
    "rows": {"type": "rows", "rows": [{"id": i, "name": f"row {i}", "score": i / 3} for i in range(100)]},
    "body": {"content": bytes(256 * 1024), "more_content": True},
}
PACKERS: dict[str, Callable[[Any], bytes]] = {
    "fastchannels": pack,
    "fastchannels codec": CODEC.encode,
    "msgspec": msgspec.msgpack.Encoder().encode,
    "msgpack": msgpack.packb,
}
UNPACKERS: dict[str, Callable[[bytes], Any]] = {
    "fastchannels": unpack,
    "fastchannels codec": CODEC.decode,
    "msgspec": msgspec.msgpack.Decoder().decode,
    "msgpack": msgpack.unpackb,
}


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("rival", PACKERS)
def test_pack(benchmark, kind, rival):
    benchmark.group = f"pack {kind}"
    assert benchmark(PACKERS[rival], MESSAGES[kind]) == msgpack.packb(MESSAGES[kind])


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("rival", UNPACKERS)
def test_unpack(benchmark, kind, rival):
    benchmark.group = f"unpack {kind}"
    assert benchmark(UNPACKERS[rival], msgpack.packb(MESSAGES[kind])) == MESSAGES[kind]


def medians(calls: dict[str, Callable[[Any], Any]], argument: Any, rounds: int = 41) -> dict[str, float]:
    """ns for each call, rivals in turn."""
    number = max(1, round(0.001 / (timeit.timeit(lambda: calls["msgpack"](argument), number=20) / 20)))
    runs: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            timer = timeit.Timer("call(argument)", globals={"call": call, "argument": argument})
            runs[name].append(timer.timeit(number) / number * 1e9)
    return {name: statistics.median(times) for name, times in runs.items()}


def main() -> None:
    print(f"{'ns, medians':22}" + "".join(f"{name:>20}" for name in PACKERS))
    for kind, message in MESSAGES.items():
        for verb, calls, argument in (("pack", PACKERS, message), ("unpack", UNPACKERS, msgpack.packb(message))):
            figures = medians(calls, argument)
            print(f"{verb + ' ' + kind:22}" + "".join(f"{figures[name]:20.0f}" for name in calls))


if __name__ == "__main__":
    main()
