"""What the load generator ``c/load.c`` sends: built here once, so that the client's core stays free."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.parts import compiled, next_record, running

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
HANDSHAKE = UPGRADE % b""
OFFER = UPGRADE % b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
TEXT, BINARY, COMPRESSED = 0x81, 0x82, 0xC1
MASK = b"\x01\x02\x03\x04"


class Load(NamedTuple):
    """What each of ``connections`` sends, and how many messages may wait for their answers."""

    kind: str
    messages: tuple[bytes, ...] = ()
    opening: bytes = b""
    in_flight: int = 1
    connections: int = 64


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame whose first byte is ``first``."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    mask = (MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + MASK + masked.to_bytes(size, "big")


def deflated(payload: bytes) -> bytes:
    """A frame of permessage-deflate that refers to nothing before it: right for every window that was agreed on."""
    coder = zlib.compressobj(wbits=-15)
    data = coder.compress(payload) + coder.flush(zlib.Z_SYNC_FLUSH)
    return frame(COMPRESSED, data[:-4])


def varied_json(count: int = 256, size: int = 1024) -> list[bytes]:
    """``count`` JSON texts of about ``size`` bytes: chat messages of words, names and numbers, no two alike."""
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlucmfwypvbgkjqxz", k=draw.randint(2, 9))) for _ in range(800)]
    texts = []
    for number in range(count):
        entries: list[dict[str, object]] = []
        while len(json.dumps(entries)) < size - 180:
            said = " ".join(draw.choices(words, k=draw.randint(4, 14)))
            entries.append({"id": draw.getrandbits(48), "from": draw.choice(words), "text": said, "at": draw.random()})
        texts.append(json.dumps({"type": "room.messages", "n": number, "messages": entries}).encode())
    return texts


def echo(size: int, in_flight: int, first: int = BINARY) -> Load:
    return Load("ws", (frame(first, b"x" * size),), HANDSHAKE, in_flight)


def blobs(load: Load) -> Iterator[bytes]:
    for blob in (load.opening, *load.messages):
        yield struct.pack("=I", len(blob)) + blob


@contextlib.contextmanager
def loading(load: Load, port: int, seconds: float, cores: Sequence[int]) -> Iterator[subprocess.Popen[str]]:
    """The running generator; it has printed that all its connections work."""
    with tempfile.TemporaryFile() as stdin:
        stdin.writelines(blobs(load))
        stdin.seek(0)
        numbers = (load.connections, load.in_flight, seconds)
        command = [compiled("load"), str(port), load.kind, *map(str, numbers)]
        with running(command, set(cores), stdin=stdin, stdout=subprocess.PIPE) as process:
            next_record(process)
            yield process
