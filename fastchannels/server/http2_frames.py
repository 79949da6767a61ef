"""The alphabet of HTTP/2 (RFC 9113): frame types, flags, settings and error codes."""

from __future__ import annotations

import importlib.util
import struct
from typing import Final

#: The extra ``http2`` is installed.
INSTALLED: Final = importlib.util.find_spec("hpack") is not None

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Error codes (RFC 9113 section 7).
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB
HTTP_1_1_REQUIRED: Final = 0xD

(
    F_DATA,
    F_HEADERS,
    F_PRIORITY,
    F_RST_STREAM,
    F_SETTINGS,
    F_PUSH_PROMISE,
    F_PING,
    F_GOAWAY,
    F_WINDOW_UPDATE,
    F_CONTINUATION,
) = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

# Settings (RFC 9113 section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1).
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8
NO_PRIORITIES: Final = 0x9

FRAME_HEAD: Final = struct.Struct(">HBBBL")  #: length in 16 and 8 bits, type, flags, stream
WORD: Final = struct.Struct(">L")
SETTING: Final = struct.Struct(">HL")
FRAME_SIZE: Final = 16384  #: the largest frame that either side sends unless the other allows more
DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1  #: and the highest number of a stream


class ConnectionFault(Exception):
    """A connection error (RFC 9113 section 5.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Budget:
    """So many at once, and a tenth of it again each second."""

    __slots__ = ("_left", "_limit", "_when")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = float(limit)
        self._when = 0.0

    def spend(self, now: float) -> bool:
        """Take one; False when none is left."""
        self._left = min(self._limit, self._left + max(0.0, now - self._when) * self._limit / 10) - 1
        self._when = now
        return self._left >= 0

    def earn(self, amount: int) -> None:
        """Give back ahead of time."""
        self._left = min(self._limit, self._left + amount)


def content_of(flags: int, payload: bytes) -> tuple[int, int]:
    """Where the content of a frame begins and ends (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return 0, len(payload)
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "a frame is shorter than its padding")
    return 1, len(payload) - payload[0]


def goaway(last: int, code: int, reason: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return FRAME_HEAD.pack(0, 8 + len(reason), F_GOAWAY, 0, 0) + WORD.pack(last) + WORD.pack(code) + reason


#: To a client that speaks HTTP/2 where nobody does.
NOT_SPOKEN: Final = FRAME_HEAD.pack(0, 0, F_SETTINGS, 0, 0) + goaway(
    0, HTTP_1_1_REQUIRED, b"HTTP/2 is not spoken here: it needs the extra fastchannels[http2]"
)
