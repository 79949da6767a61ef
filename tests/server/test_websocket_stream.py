"""What a socket does by itself, whatever the bridge: handshake errors, pings, time-outs, protocol errors."""
# ruff: noqa: SIM117 - one block for each party reads better than one line for all

from __future__ import annotations

import asyncio

import pytest

from tests.server.support import UPGRADE, connect, serving, until

TEXT = b"\x81\x82\0\0\0\0hi"


class Accepting:
    """An application that accepts and notes what it gets."""

    def __init__(self):
        self.messages = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": message.get("text") or "bytes"})


@pytest.fixture
def application():
    return Accepting()


async def shake_hands(client):
    await client.send(UPGRADE % b"/")
    assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("old", "new", "status", "header"),
    [
        (b"GET", b"POST", 405, "allow"),
        (b"Version: 13", b"Version: 8", 426, "sec-websocket-version"),
        (b"Sec-WebSocket-Key", b"X-Key", 400, None),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400, None),
    ],
)
async def test_handshakes_that_the_application_never_sees(application, old, new, status, header):
    logged = []
    async with serving(application, action_logger=lambda *call: logged.append(call)) as server:
        async with connect(server) as client:
            await client.send((UPGRADE % b"/").replace(old, new))
            found, headers, _ = await client.response()
            assert found == status
            assert headers["connection"] == "close"
            assert header is None or header in headers
            assert await client.read_all() == b""
        await until(lambda: not server._context.connections, "the close")
        assert not server._context.tasks
    assert application.messages == []
    assert logged == []


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x02hi", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\xfe\x04\x01\0\0\0\0", 1009),
    ],
    ids=["unmasked", "bad opcode", "bad utf-8", "too large"],
)
async def test_protocol_errors_reach_client_and_application(application, frames, code):
    async with serving(application, ws_max_size=1024) as server, connect(server) as client:
        await shake_hands(client)
        await client.send(frames)
        data = await client.read_all()
        assert data[0] == 0x88
        assert int.from_bytes(data[2:4], "big") == code
        await until(lambda: application.messages, "the disconnect")
    assert [message["code"] for message in application.messages] == [code]


async def test_ping_is_answered(application):
    async with serving(application) as server, connect(server) as client:
        await shake_hands(client)
        await client.send(b"\x89\x84\0\0\0\0abcd")
        assert await client.read_exactly(6) == b"\x8a\x04abcd"


async def test_silence_is_pinged_and_then_cut(application):
    async with serving(application, ping_interval=0.3, ping_timeout=0.3) as server, connect(server) as client:
        await shake_hands(client)
        assert await client.read_exactly(2) == b"\x89\x00"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.read_exactly(1)
        await until(lambda: application.messages, "the disconnect")
    assert application.messages[0]["code"] == 1006


async def test_pongs_keep_a_socket_alive(application):
    async with serving(application, ping_interval=0.3, ping_timeout=0.3) as server, connect(server) as client:
        await shake_hands(client)
        for _ in range(4):
            assert await client.read_exactly(2) == b"\x89\x00"
            await client.send(b"\x8a\x80\0\0\0\0")
        await client.send(TEXT)
        data = await client.read_until(b"hi")
        assert data.endswith(b"\x81\x02hi")


async def test_traffic_makes_pings_needless(application):
    async with serving(application, ping_interval=0.8) as server, connect(server) as client:
        await shake_hands(client)
        for _ in range(10):
            await client.send(TEXT)
            assert await client.read_exactly(4) == b"\x81\x02hi", "no ping in between"
            await asyncio.sleep(0.15)


@pytest.mark.parametrize("interval", [None, 0, -1])
async def test_no_pings(application, interval):
    async with serving(application, ping_interval=interval) as server, connect(server) as client:
        await shake_hands(client)
        await client.send(TEXT)
        await client.read_exactly(4)
        stream = next(iter(server._context.connections)).websocket
        stream.expired(server._context.wheel.clock() + 1000)
        await client.send(TEXT)
        assert await client.read_exactly(4) == b"\x81\x02hi"


async def test_end_of_life(application):
    async with serving(application, websocket_timeout=0.3) as server, connect(server) as client:
        await shake_hands(client)
        assert await client.read_exactly(4) == b"\x88\x02\x03\xe8"
        await client.send(b"\x88\x82\0\0\0\0\x03\xe8")
        assert await client.read_all() == b""
        await until(lambda: application.messages, "the disconnect")
    assert application.messages[0]["code"] == 1000


@pytest.mark.parametrize("timeout", [None, 0, -1])
async def test_no_limits(application, timeout):
    async with serving(application, websocket_timeout=timeout, websocket_connect_timeout=timeout) as server:
        async with connect(server) as client:
            await shake_hands(client)
            for _ in range(3):
                server._context.wheel.tick()
            await client.send(TEXT)
            assert await client.read_exactly(4) == b"\x81\x02hi"


async def test_a_client_that_does_not_close_is_cut(application):
    async with serving(application, websocket_timeout=0.1, websocket_close_timeout=0.1) as server:
        async with connect(server) as client:
            await shake_hands(client)
            assert (await client.read_exactly(4))[:1] == b"\x88"
            await client.send(TEXT)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.read_exactly(1)
            await until(lambda: application.messages, "the disconnect")
    assert [message["type"] for message in application.messages] == ["websocket.disconnect"]


async def test_too_much_ahead_of_the_answer_stops_the_reading():
    gate = asyncio.Event()
    got = []

    async def application(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await gate.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["text"])

    async with serving(application, websocket_connect_timeout=None) as server, connect(server) as client:
        client.writer.write(UPGRADE % b"/")
        for _ in range(200_000):
            client.writer.write(TEXT)
        sending = asyncio.ensure_future(client.send(b""))
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.held, "paused reading")
        assert len(connection.websocket._early) < 1024 * 1024
        gate.set()
        await sending
        await until(lambda: len(got) == 200_000, "all frames")
