"""Memory of a server: by idle socket, and when one end does not read. Resident bytes of all its processes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from benchmarks.parts import QUIET, free_port, resident, running, wait_for_port
from benchmarks.records import Figures, Scenario, Target
from benchmarks.servers import command, cores
from benchmarks.servers_load import BINARY, HANDSHAKE, OFFER, TEXT, Load, deflated, frame, loading, varied_json

MIB = 1024 * 1024
FIRST, MORE = 500, 4000  # sockets before the first reading, and between it and the second
RIVALS = ("fastchannels", "daphne", "uvicorn", "granian", "picows", "node ws")
WAYS = ("fastchannels", "daphne", "uvicorn", "granian", "hypercorn")


def idle(server: str, deflate: bool) -> Figures:
    """Sockets that have echoed one message each and then do nothing."""
    text = varied_json(1, 300)[0]
    message = deflated(text) if deflate else frame(TEXT, text)
    load = Load("idle", (message,), OFFER if deflate else HANDSHAKE, 1, FIRST)
    port = free_port()
    server_core, client_core = cores()
    with running(command(server, "echo", port, deflate), {server_core}, **QUIET) as process:
        wait_for_port(port, process)
        with loading(load, port, 0, [client_core]):
            before = resident(process.pid)
            with loading(load._replace(connections=MORE), port, 0, [client_core]):
                return {"KiB a socket": (resident(process.pid) - before) / MORE / 1024}


def growth(server: str, application: str, act: Callable[[socket.socket], None]) -> Figures:
    """How far the server's memory rises above what it was, while ``act`` is at work and until it rises no more."""
    port = free_port()
    server_core, _ = cores()
    with running(command(server, application, port), {server_core}, **QUIET) as process:
        wait_for_port(port, process)
        before = resident(process.pid)
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.setblocking(False)
            highest, since, begin = before, time.monotonic(), time.monotonic()
            while time.monotonic() < min(since + 1.0, begin + 15):
                act(client)
                time.sleep(0.02)
                now = resident(process.pid)
                if now > highest + MIB // 16:
                    highest, since = now, time.monotonic()
        return {"MiB more": (highest - before) / MIB}


class Asks:
    """Ask once, and read nothing."""

    def __init__(self, request: bytes) -> None:
        self.request = request

    def __call__(self, client: socket.socket) -> None:
        if self.request:
            client.sendall(self.request)
            self.request = b""


class Pours:
    """Open, for a WebSocket wait for the 101, then send what the socket takes, up to 200 MiB."""

    def __init__(self, opening: bytes, piece: bytes) -> None:
        self.opening = opening
        self.waiting = b"Upgrade" in opening
        self.data = self.rest = memoryview(piece * (MIB // len(piece)))
        self.left = 200 * MIB

    def __call__(self, client: socket.socket) -> None:
        try:
            if self.opening:
                client.sendall(self.opening)
                self.opening = b""
            if self.waiting:
                self.waiting = not client.recv(4096).startswith(b"HTTP/1.1 101")
            while self.left > 0:
                sent = client.send(self.rest)
                self.left -= sent
                self.rest = self.rest[sent:] or self.data
        except BlockingIOError:
            pass
        except ConnectionError:  # the server has had enough
            self.left = 0


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (200 * MIB)
BLOCK = frame(BINARY, bytes(65536 - 14))


def scenarios() -> dict[str, Scenario]:
    """By title."""
    flat = (Target("MiB more", 2),)
    return {
        "memory of an idle socket": Scenario(RIVALS, lambda server: idle(server, False), (Target("KiB a socket", 12),)),
        "memory of an idle socket, deflate offered": Scenario(
            ("fastchannels", "uvicorn", "node ws"), lambda server: idle(server, True), (Target("KiB a socket", 14),)
        ),
        "memory, a client that does not read 250 MiB of HTTP": Scenario(
            WAYS, lambda server: growth(server, "flood", Asks(REQUEST)), flat
        ),
        "memory, a client that does not read 250 MiB of WebSocket": Scenario(
            WAYS, lambda server: growth(server, "flood", Asks(HANDSHAKE)), flat
        ),
        "memory, an application that does not read 200 MiB of HTTP": Scenario(
            WAYS, lambda server: growth(server, "deaf", Pours(UPLOAD, bytes(65536))), flat
        ),
        "memory, an application that does not read 200 MiB of WebSocket": Scenario(
            WAYS, lambda server: growth(server, "deaf", Pours(HANDSHAKE, BLOCK)), flat
        ),
    }
