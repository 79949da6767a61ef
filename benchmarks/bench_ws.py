"""Frames of the WebSocket core beside ``websockets``' parser, without sockets.

python -m pytest benchmarks/bench_ws.py --benchmark-enable --benchmark-group-by=group
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from fastchannels._core.websocket import WebSocketConnection
from fastchannels._core.ws import FrameParser, frame

TEXT = 1
KEY = b"\x11\x22\x33\x44"
SMALL = frame(TEXT, "x" * 32, key=KEY)
LARGE = frame(TEXT, "x" * 65536, key=KEY)
MANY = SMALL * 1000
LIMIT = 1 << 20


def parse_ours(data: bytes) -> int:
    return len(FrameParser(LIMIT).feed(data))


def parse_websockets(data: bytes) -> int:
    reader = StreamReader()
    reader.feed_data(data)
    count = 0
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=True, max_size=LIMIT)
        try:
            while True:
                next(parser)
        except StopIteration as done:
            count += done.value.opcode is Opcode.TEXT
    return count


PARSERS: dict[str, Callable[[bytes], int]] = {"fastchannels": parse_ours, "websockets": parse_websockets}


@pytest.mark.parametrize("rival", PARSERS)
def test_thousand_small_frames(benchmark, rival):
    benchmark.group = "parse 1,000 masked frames of 32 bytes"
    assert benchmark(PARSERS[rival], MANY) == 1000


@pytest.mark.parametrize("rival", PARSERS)
def test_one_large_frame(benchmark, rival):
    benchmark.group = "parse one masked frame of 64 KiB"
    assert benchmark(PARSERS[rival], LARGE) == 1


def test_echo(benchmark):
    benchmark.group = "echo a payload of 32 bytes"
    connection = WebSocketConnection(LIMIT)

    def echo() -> int:
        connection.receive_data(SMALL)
        for _, payload in connection.events_received():
            connection.send_text(payload)
        return sum(map(len, connection.data_to_send()))

    assert benchmark(echo) == 34
