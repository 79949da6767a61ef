"""The ceilings of the layer benchmarks: hiredis and a socket, with no layer, codec, capacity or expiry between.

``raw.py ROLE URL SECONDS``. Roles print the records that the roles of ``layer.py`` print.

``push`` and ``pop``
    messages of the same size through one list: 64 ``RPUSH`` a write, ``BLMPOP`` of 256, blocking sockets.
``ping`` and ``echo``
    a round trip over two lists, on the transports of an event loop: a connection that pushes, one that waits in a pop
    before the push goes out. Nobody waits for the reply of a push.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from urllib.parse import urlsplit

import hiredis

BODY = b"x" * 256
IN_FLIGHT = 64
QUIET = 0.5


def report(**figures) -> None:
    print(json.dumps(figures), flush=True)


def pack(*command) -> bytes:
    return hiredis.pack_command(command)


class Blocking:
    """One blocking socket."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader(notEnoughData=self)

    def call(self, data: bytes, replies: int = 1):
        self.socket.sendall(data)
        reply = None
        for _ in range(replies):
            while (reply := self.reader.gets()) is self:
                self.reader.feed(self.socket.recv(65536))
        return reply


def push(address: tuple[str, int], seconds: float) -> None:
    line = Blocking(address)
    sent = 0
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        held = line.call(b"".join([pack("RPUSH", "raw", BODY) for _ in range(IN_FLIGHT)]), IN_FLIGHT)
        sent += IN_FLIGHT
        if held > 10_000:
            time.sleep(0.001)
    report(sent=sent, cpu=time.process_time() - cpu)


def pop(address: tuple[str, int], _seconds: float) -> None:
    line = Blocking(address)
    report(channels=["raw"])
    received, first, last, cpu = 0, 0.0, 0.0, 0.0
    data = pack("BLMPOP", QUIET, 1, "raw", "LEFT", "COUNT", 256)
    while (reply := line.call(data)) is not None or not received:
        if reply is None:
            continue
        last = time.perf_counter()
        if not received:
            first, cpu = last, time.process_time()
        for _entry in reply[1]:
            received += 1
    report(received=received, seconds=last - first, cpu=time.process_time() - cpu)


class Line(asyncio.Protocol):
    """One transport; ``call`` gives the future of the next reply."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader(notEnoughData=self)
        self.waiting: list[asyncio.Future] = []

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not self:
            self.waiting.pop(0).set_result(reply)

    def call(self, data: bytes) -> asyncio.Future:
        future = self.loop.create_future()
        self.waiting.append(future)
        self.transport.write(data)
        return future


async def lines(address: tuple[str, int]) -> tuple[Line, Line]:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Line, *address))[1], (await loop.create_connection(Line, *address))[1]


async def echo(address: tuple[str, int], _seconds: float) -> None:
    out, back = await lines(address)
    report(channels=["raw.there"])
    popped = back.call(pack("BLPOP", "raw.there", 0))
    while (body := (await popped)[1]) != b"end":
        popped = back.call(pack("BLPOP", "raw.there", 0))
        out.call(pack("RPUSH", "raw.here", body))


async def ping(address: tuple[str, int], seconds: float) -> None:
    out, back = await lines(address)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        popped = back.call(pack("BLPOP", "raw.here", 0))
        out.call(pack("RPUSH", "raw.there", BODY))
        await popped
        times.append(time.perf_counter() - start)
    await out.call(pack("RPUSH", "raw.there", b"end"))
    report(trips=len(times), p50_us=statistics.median(times[len(times) // 10 :]) * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["push", "pop", "ping", "echo"])
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    parts = urlsplit(arguments.url)
    address = parts.hostname or "127.0.0.1", parts.port or 6379
    if arguments.role in ("push", "pop"):
        (push if arguments.role == "push" else pop)(address, arguments.seconds)
        return
    role = (ping if arguments.role == "ping" else echo)(address, arguments.seconds)
    if arguments.loop == "uvloop":
        import uvloop

        uvloop.run(role)
    else:
        asyncio.run(role)


if __name__ == "__main__":
    main()
