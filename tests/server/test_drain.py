"""The end of a server: who is told what, and that nothing is lost that need not be."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import uvloop
import websockets

from fastchannels.envelope import ACK, EVENT, REPLIES
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.server.drain import retry_reason
from tests.server.support import DEADLINE, UPGRADE, connect, hello, port_of, serving, until

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


def test_retry_reason():
    reasons = [retry_reason(20.0) for _ in range(100)]
    assert all(re.fullmatch(r"service restart, retry after \d+\.\d s", reason) for reason in reasons)
    times = [float(reason.split()[-2]) for reason in reasons]
    assert min(times) >= 1
    assert 10 < max(times) <= 21
    assert max(len(reason) for reason in reasons) <= 123


async def test_sockets_are_told_when_to_come_back():
    async with serving(hello) as server:
        clients = [await websockets.connect(f"ws://127.0.0.1:{port_of(server)}/") for _ in range(5)]
        await asyncio.wait_for(server.stop(), DEADLINE)
        for client in clients:
            await asyncio.wait_for(client.wait_closed(), DEADLINE)
            assert client.close_code == 1012
        assert len({client.close_reason for client in clients}) > 1


async def test_an_open_connection_while_the_server_stops():
    """Health says 503, a request is answered, a socket is refused; then the connection ends."""
    gate = asyncio.Event()

    async def slow(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/slow":
            await gate.wait()
        await hello(scope, receive, send)

    async with (
        serving(slow, health_path="/health") as server,
        connect(server) as first,
        connect(server) as health,
        connect(server) as half,
        connect(server) as ws,
    ):
        await first.send(GET % b"/slow")
        await until(lambda: server._context.running == 1, "the request")
        requests = {half: GET % b"/half", health: GET % b"/health", ws: UPGRADE % b"/ws"}
        for client, request in requests.items():
            await client.send(request[:10])
        await until(lambda: sum(c._in_head for c in server._context.connections) == 3, "parts of heads")
        stopping = asyncio.ensure_future(server.stop())
        await until(lambda: server._context.stopping, "the stop")
        for client, request in requests.items():
            await client.send(request[10:])
        status, headers, body = await health.response()
        assert (status, headers["connection"], body) == (503, "close", b"draining\n")
        status, headers, _ = await ws.response()
        assert (status, headers["retry-after"]) == (503, "1")
        assert (await half.response())[2] == b"hello"
        assert not stopping.done()
        gate.set()
        status, headers, body = await first.response()
        assert (status, headers["connection"], body) == (200, "close", b"hello")
        for client in (first, health, half, ws):
            assert await client.read_all() == b""
        await asyncio.wait_for(stopping, DEADLINE)


async def test_a_request_of_the_last_instant_is_answered():
    async with serving(hello) as server, connect(server) as client:
        await client.get()
        client.writer.write(GET % b"/")
        stopping = asyncio.ensure_future(server.stop())
        status, headers, body = await client.response()
        assert (status, headers["connection"], body) == (200, "close", b"hello")
        await asyncio.wait_for(stopping, DEADLINE)


@pytest.mark.parametrize("handshake", [False, True])
async def test_a_client_that_had_just_connected_is_answered(handshake):
    """Its first request comes long after the moment that idle connections are closed."""
    async with serving(hello) as server, connect(server) as idle, connect(server) as client:
        await idle.get()
        stopping = asyncio.ensure_future(server.stop())
        assert await idle.read_all() == b""
        await client.send(UPGRADE % b"/" if handshake else GET % b"/")
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == ((503, "close") if handshake else (200, "close"))
        await asyncio.wait_for(stopping, DEADLINE)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_waits_to_be_accepted_is_answered(loop):
    """Of a server alone on its socket: who connected before the stop is not reset by it."""

    async def run():
        async with serving(hello) as server:
            clients = [socket.create_connection(("127.0.0.1", port_of(server)), DEADLINE) for _ in range(50)]
            stopping = asyncio.ensure_future(server.stop())
            for client in clients:
                client.sendall(GET % b"/")
            for client in clients:
                with client:
                    assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 200")
            await asyncio.wait_for(stopping, DEADLINE)

    running = asyncio.new_event_loop() if loop == "asyncio" else uvloop.new_event_loop()
    try:
        running.run_until_complete(run())
        running.run_until_complete(running.shutdown_default_executor())
    finally:
        running.close()


async def test_a_client_that_connects_and_asks_nothing():
    """It does not hold up the end for long, and not at all when it has been there for a while."""
    async with serving(hello) as server, connect(server) as old:
        await until(lambda: server._context.connections, "the connection")
        for connection in server._context.connections:
            connection.deadline -= 10.0
        async with connect(server) as new:
            await until(lambda: len(server._context.connections) == 2, "the other")
            begun = time.monotonic()
            stopping = asyncio.ensure_future(server.stop())
            assert await old.read_all() == b""
            assert time.monotonic() - begun < 1.5
            assert await new.read_all() == b""
            await asyncio.wait_for(stopping, DEADLINE)
            assert time.monotonic() - begun < 5


async def test_replies_reach_sockets_until_they_are_closed():
    layer = InMemoryChannelLayer()
    async with serving(layer=layer, drain_seconds=0.8) as server:
        clients = []
        for _ in range(2):
            handshake = asyncio.ensure_future(websockets.connect(f"ws://127.0.0.1:{port_of(server)}/").__aenter__())
            message = await asyncio.wait_for(layer.receive("websocket.connect"), DEADLINE)
            await layer.group_add("all", message["reply_channel"])
            await layer.send(message["reply_channel"], {ACK: message[EVENT], REPLIES: [{"accept": True}]})
            clients.append(await asyncio.wait_for(handshake, DEADLINE))
        stopping = asyncio.ensure_future(server.stop())
        await until(lambda: any(client.close_code for client in clients), "the first close")
        await layer.group_send("all", {"text": "still here"})
        left = next(client for client in clients if not client.close_code)
        assert await asyncio.wait_for(left.recv(), DEADLINE) == "still here"
        for _ in range(2):
            message = await asyncio.wait_for(layer.receive("websocket.disconnect"), DEADLINE)
            assert message["code"] == 1012
            await layer.send(message["reply_channel"], {ACK: message[EVENT], REPLIES: []})
        await asyncio.wait_for(stopping, DEADLINE)
        for client in clients:
            await client.close()
            assert client.close_code == 1012


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from fastchannels.server.server import Config, Server

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shutdown", flush=True)
            if sys.argv[1] == "stubborn":
                await asyncio.Event().wait()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await asyncio.sleep(60 if sys.argv[1] == "stubborn" else 0.5)
            await send({"type": "http.response.body", "body": b" done"})

    server = Server(Config(port=0), application=application, ready=lambda s: print(s.addresses[0][1], flush=True))
    server.run()
    """
)


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_signals(manner):
    """The first lets the response and the lifespan finish; a second one stops at once, whatever runs."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, manner], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            client.sendall(GET % b"/")
            received = b""
            while b"begun" not in received:
                received += client.recv(65536)
            process.send_signal(signal.SIGTERM)
            if manner == "stubborn":
                time.sleep(0.2)
                process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            while part := client.recv(65536):
                received += part
        assert process.wait(DEADLINE) == 0
        assert time.monotonic() - begun < 4
        assert received.endswith(b"0\r\n\r\n") == (manner == "polite")
        assert process.stdout.read() == "shutdown\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
