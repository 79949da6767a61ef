"""Frames of HTTP/2 for the tests, by hyperframe and hpack."""

from __future__ import annotations

import struct

from hpack import Encoder
from hyperframe.frame import Frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
POST = [(":method", "POST"), *GET[1:]]
SOCKET = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/ws"),
    (":authority", "a"),
    ("sec-websocket-version", "13"),
]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITIZED = 0x20


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """Raw bytes; ``length`` may lie."""
    size = len(payload) if length is None else length
    return struct.pack(">HBBBL", size >> 8, size & 0xFF, kind, flags, stream) + payload


def block(fields):
    """A header section that needs no table of before."""
    return Encoder().encode([(name, value, True) for name, value in fields])


def headers(stream, fields=GET, flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, block(fields))


def settings(*pairs, flags=0):
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def word(value):
    return struct.pack(">L", value)


def parse(data):
    """All frames in ``data``, with their bodies."""
    found = []
    view = memoryview(data)
    while view:
        parsed, length = Frame.parse_frame_header(view[:9])
        parsed.parse_body(view[9 : 9 + length])
        found.append(parsed)
        view = view[9 + length :]
    return found


START = PREFACE + settings()
