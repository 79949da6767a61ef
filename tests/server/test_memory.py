"""Ends that do not read cost the server next to nothing: its resident memory, in a process of its own."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

MIB = 1024 * 1024
ALLOWED = 2 * MIB
DEADLINE = 20.0
ROOT = Path(__file__).parent.parent.parent

SERVER = """
import asyncio
from fastchannels.server.server import Config, Server

PIECE = bytes(65536)

async def application(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        raise RuntimeError("no lifespan")
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    elif scope["path"] == "/flood":
        await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/deaf":
        await asyncio.sleep(3600)
    for _ in range(4000):
        if kind == "websocket":
            await send({"type": "websocket.send", "bytes": PIECE})
        else:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})

def ready(server):
    print(server.addresses[0][1], flush=True)

Server(Config(port=0), application=application, ready=ready).run()
"""

UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        # What the first connections cost is not what is measured.
        for path in (b"/flood", b"/deaf"):
            for data in (UPGRADE % path, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path):
                with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                    client.sendall(data)
                    with contextlib.suppress(TimeoutError):
                        client.settimeout(0.2)
                        client.recv(65536)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resident(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def growth(server, opening: bytes, data: bytes = b"", total: int = 0) -> int:
    """Send ``total`` bytes of ``data`` as far as the socket takes them, and read nothing; the most that memory grew."""
    pid, port = server
    before = highest = resident(pid)
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        client.sendall(opening)
        if b"/deaf" in opening and b"Upgrade" in opening:
            assert client.recv(4096).startswith(b"HTTP/1.1 101")
        client.setblocking(False)
        sent, quiet, end = 0, 0, time.monotonic() + DEADLINE
        while quiet < 10:
            assert time.monotonic() < end
            progress = False
            with contextlib.suppress(BlockingIOError):
                while sent < total:
                    sent += client.send(data)
                    progress = True
            time.sleep(0.05)
            now = resident(pid)
            progress = progress or now > highest
            highest = max(highest, now)
            quiet = 0 if progress else quiet + 1
        if total:
            assert sent < total, "the server took it all, and put it nowhere"
    return highest - before


def test_a_client_that_does_not_read_http(server):
    assert growth(server, b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n") <= ALLOWED


def test_a_client_that_does_not_read_websocket(server):
    assert growth(server, UPGRADE % b"/flood") <= ALLOWED


def test_an_application_that_does_not_read_http(server):
    head = b"PUT /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (200 * MIB)
    assert growth(server, head, bytes(65536), 200 * MIB) <= ALLOWED


@pytest.mark.parametrize("size", [0, 100, 65000])
def test_an_application_that_does_not_read_websocket(server, size):
    head = b"\x82" + bytes([0x80 | size]) if size < 126 else b"\x82\xfe" + struct.pack("!H", size)
    message = head + bytes(4 + size)
    block = message * (65536 // len(message))
    assert growth(server, UPGRADE % b"/deaf", block, 200 * MIB) <= ALLOWED


def test_announced_sizes_cost_nothing(server):
    announced = struct.pack("!BBQ", 0x82, 0xFF, (1 << 63) - 1) + bytes(4)
    assert growth(server, UPGRADE % b"/flood" + announced) <= ALLOWED
    head = b"PUT /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % ((1 << 63) - 1)
    assert growth(server, head) <= ALLOWED
    assert (
        growth(server, b"PUT /deaf HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n")
        <= ALLOWED
    )


def test_connections_that_end_give_back_what_they_held(server):
    """A dozen rounds of twenty floods end where they began."""
    pid, port = server

    def rounds(count: int) -> None:
        for _ in range(count):
            clients = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(20)]
            for number, client in enumerate(clients):
                client.sendall(UPGRADE % b"/flood" if number % 2 else b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
            for client in clients:
                assert client.recv(65536)
                client.close()

    rounds(3)
    before = resident(pid)
    rounds(12)
    assert resident(pid) - before <= ALLOWED


def test_the_measure_sees_what_is_held() -> None:
    before = resident(os.getpid())
    # Pages of its own: the allocator may have kept some that it gives out again.
    with mmap.mmap(-1, 8 * MIB) as held:
        held.write(b"x" * (8 * MIB))
        assert resident(os.getpid()) - before > 7 * MIB
