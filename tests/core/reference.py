"""Plain-Python oracles of the compiled core: slow, short, and written from the specifications alone. Never shipped."""

from __future__ import annotations

import itertools
import struct

# ---------------------------------------------------------------------------------------------------- WebSocket


def mask(data: bytes, key: bytes, phase: int = 0) -> bytes:
    """RFC 6455 section 5.3."""
    return bytes(byte ^ key[(phase + i) % 4] for i, byte in enumerate(data))


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# Whatever character is open, one of these completes it.
_TAILS = [bytes(tail) for n in range(4) for tail in itertools.product((0x80, 0x90, 0xA0, 0xBF), repeat=n)]


def can_become_utf8(data: bytes) -> bool:
    """Whether some continuation makes ``data`` valid UTF-8."""
    return any(is_utf8(data + tail) for tail in _TAILS)


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, key: bytes | None = None) -> bytes:
    """A frame as RFC 6455 section 5.2 draws it."""
    masked = 0 if key is None else 0x80
    n = len(payload)
    first = (0x80 if fin else 0) | rsv | opcode
    if n < 126:
        head = struct.pack("!BB", first, masked | n)
    elif n < 65536:
        head = struct.pack("!BBH", first, masked | 126, n)
    else:
        head = struct.pack("!BBQ", first, masked | 127, n)
    return head + payload if key is None else head + key + mask(payload, key)


def close_code_valid(code: int) -> bool:
    """RFC 6455 section 7.4 and the IANA registry of close codes."""
    return code in {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014} or 3000 <= code < 5000


class Fault(Exception):
    """The close code that a stream earns."""


def parse(data: bytes, max_message: int, max_frame: int = 0, server: bool = True) -> tuple[list[tuple], int | None]:
    """The events of a whole stream so far, as FrameParser gives them, and the close code of its fault, if any."""
    events: list[tuple] = []
    message: tuple[int, bytes] | None = None
    at = 0

    def need(n: int) -> bytes:
        nonlocal at
        if len(data) - at < n:
            raise EOFError
        at += n
        return data[at - n : at]

    try:
        while True:
            (first,) = need(1)
            fin, rsv, opcode = first >> 7, first >> 4 & 7, first & 15
            if rsv or opcode not in (0, 1, 2, 8, 9, 10):
                raise Fault(1002)
            if opcode >= 8 and not fin:
                raise Fault(1002)
            if (opcode == 0 and message is None) or (opcode in (1, 2) and message is not None):
                raise Fault(1002)
            (second,) = need(1)
            masked, length = second >> 7, second & 127
            if masked != server or (opcode >= 8 and length > 125):
                raise Fault(1002)
            if length == 126:
                length = int.from_bytes(need(2), "big")
                if length < 126:
                    raise Fault(1002)
            elif length == 127:
                length = int.from_bytes(need(8), "big")
                if length < 65536 or length >= 2**63:
                    raise Fault(1002)
            if opcode < 8:
                before = len(message[1]) if message else 0
                if (max_frame and length > max_frame) or (max_message and before + length > max_message):
                    raise Fault(1009)
            key = need(4) if masked else bytes(4)
            payload = mask(data[at : at + length], key)
            complete = len(payload) == length
            at += len(payload)
            if opcode < 8:
                kind, start = message or (opcode, b"")
                message = kind, start + payload
                whole = message[1]
                if kind == 1 and not (is_utf8 if complete and fin else can_become_utf8)(whole):
                    raise Fault(1007)
                if not complete:
                    raise EOFError
                if fin:
                    events.append((kind, whole.decode() if kind == 1 else whole))
                    message = None
                continue
            if not complete:
                raise EOFError
            if opcode != 8:
                events.append((opcode, payload))
                continue
            if not payload:
                events.append((8, (None, "")))
                return events, None
            if len(payload) == 1 or not close_code_valid(int.from_bytes(payload[:2], "big")):
                raise Fault(1002)
            if not is_utf8(payload[2:]):
                raise Fault(1007)
            events.append((8, (int.from_bytes(payload[:2], "big"), payload[2:].decode())))
            return events, None
    except EOFError:
        return events, None
    except Fault as fault:
        return events, fault.args[0]
