"""A load of 64 connections on one server: ``load.py PORT http|ws SECONDS [IN_FLIGHT]``; prints its figures as JSON.

Requests and frames are made once and answers are counted by their length, so that the client costs little beside the
server. It still is Python: compare servers by work per second of *server CPU*, which the runner reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

CONNECTIONS = 64
PAYLOAD = b"x" * 32
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"
FRAME = bytes([0x82, 0x80 | len(PAYLOAD)]) + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(PAYLOAD))
ANSWER = 2 + len(PAYLOAD)


class Load:
    """What all connections share: the count and whether to go on."""

    def __init__(self) -> None:
        self.count = 0
        self.running = True


class HttpClient(asyncio.Protocol):
    """One request at a time; an answer ends with the body that the application sends."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.tail = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-13:]
        if self.tail == b"Hello, world!":
            self.tail = b""
            self.load.count += 1
            if self.load.running:
                self.transport.write(REQUEST)


class WebSocketClient(asyncio.Protocol):
    """``in_flight`` small frames on the way at any time."""

    def __init__(self, load: Load, in_flight: int) -> None:
        self.load = load
        self.in_flight = in_flight
        self.pending = 0
        self.head: bytes | None = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            if not self.head.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"no upgrade: {self.head[:80]!r}")
            self.head = None
            self.transport.write(FRAME * self.in_flight)
            return
        self.pending += len(data)
        answers, self.pending = divmod(self.pending, ANSWER)
        self.load.count += answers
        if answers and self.load.running:
            self.transport.write(FRAME * answers)


async def main(port: int, kind: str, seconds: float, in_flight: int) -> None:
    load = Load()
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(CONNECTIONS):
        client = HttpClient(load) if kind == "http" else WebSocketClient(load, in_flight)
        transport, _ = await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        transports.append(transport)
    await asyncio.sleep(0.3)
    print(json.dumps({"started": True}), flush=True)
    before, start = load.count, time.perf_counter()
    cpu = time.process_time()
    await asyncio.sleep(seconds)
    figures = {
        "count": load.count - before,
        "seconds": time.perf_counter() - start,
        "client_cpu": time.process_time() - cpu,
    }
    print(json.dumps(figures), flush=True)
    load.running = False
    for transport in transports:
        transport.close()
    await asyncio.sleep(0)


if __name__ == "__main__":
    in_flight = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), in_flight))
