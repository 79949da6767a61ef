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


class Flooding:
    """Sends numbered messages of 64 KiB, each as its own task, once it is told to by a message."""

    def __init__(self, count):
        self.count = count
        self.messages = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        tasks = [
            asyncio.ensure_future(send({"type": "websocket.send", "bytes": b"%08d" % number + bytes(65536 - 8)}))
            for number in range(self.count)
        ]
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "websocket.disconnect":
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                return


async def numbers_of(client):
    """The numbers of the messages, up to the last or the close frame, whose code is the last of them."""
    numbers = []
    while True:
        first, size = await client.read_exactly(2)
        if first == 0x88:
            return [*numbers, int.from_bytes((await client.read_exactly(size))[:2], "big")]
        length = int.from_bytes(await client.read_exactly(8 if size == 127 else 2), "big")
        numbers.append(int((await client.read_exactly(length))[:8]))
        if numbers[-1] == 999:
            return numbers


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "latest"])
async def test_a_client_that_reads_too_slowly(policy):
    application = Flooding(1000)
    async with serving(application, ws_write_budget=1024 * 1024, ws_slow_client=policy) as server:
        async with connect(server, limit=65536) as client:
            await shake_hands(client)
            await client.send(TEXT)
            counts = server._context.drops.counts
            stream = next(iter(server._context.connections)).websocket
            if policy == "close":
                await until(lambda: counts["slow_client_closed"], "the close")
                assert stream.backlog is None or sum(len(frame) for frame, _ in stream.backlog) < 1024
                numbers = await numbers_of(client)
                assert numbers.pop() == 1013
                assert numbers == list(range(len(numbers)))
                assert counts["slow_client_closed"] == 1
            else:
                await until(lambda: stream.backlog and stream.backlog[-1][0][10:18] == b"00000999", "the last message")
                kept = [frame for frame, _ in stream.backlog]
                assert sum(map(len, kept)) <= 1024 * 1024
                assert len(kept) == 15 if policy == "drop_oldest" else 1 <= len(kept) <= 15
                numbers = await numbers_of(client)
                assert numbers == sorted(numbers)
                assert numbers[-1] == 999
                assert counts["slow_client_dropped"] == 1000 - len(numbers) > 0
                # Later messages go their way again.
                await until(lambda: stream.backlog is None, "the end of the backlog")


async def test_a_sender_waits_for_a_slow_client_and_is_not_judged_by_one_large_message():
    sent = []

    async def application(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(6):
            await send({"type": "websocket.send", "bytes": bytes(5_000_000)})
            sent.append(number)
        await receive()

    async with serving(application, ws_write_budget=65536) as server, connect(server, limit=65536) as client:
        await shake_hands(client)
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.write_paused, "a full transport")
        assert len(sent) < 6
        for _ in range(6):
            assert (await client.read_exactly(10))[:2] == b"\x82\x7f"
            await client.read_exactly(5_000_000)
        await until(lambda: len(sent) == 6, "all messages")
        assert not server._context.drops.counts


async def test_pings_of_a_client_that_does_not_read_pile_up_nowhere():
    async def application(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(20_000_000)})
        await receive()

    async with serving(application) as server, connect(server, limit=65536) as client:
        await shake_hands(client)
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.write_paused, "a full transport")
        before = connection.transport.get_write_buffer_size()
        for number in range(1000):
            await client.send(b"\x89\x84\0\0\0\0%04d" % number)
        await asyncio.sleep(0.1)
        assert connection.transport.get_write_buffer_size() <= before
        await client.read_exactly(10 + 20_000_000)
        assert await client.read_exactly(6) == b"\x8a\x040999"


@pytest.mark.parametrize("opcode", [b"\x81", b"\x82"])
@pytest.mark.parametrize(("size", "code"), [(2**63 - 1, 1009), (2**63, 1002), (2**64 - 1, 1002)])
async def test_a_header_that_announces_too_much_costs_nothing(application, opcode, size, code):
    async with serving(application) as server, connect(server) as client:
        await shake_hands(client)
        await client.send(opcode + b"\xff" + size.to_bytes(8, "big") + b"\0\0\0\0")
        data = await client.read_all()
        assert data[0] == 0x88
        assert int.from_bytes(data[2:4], "big") == code


async def test_the_limit_of_a_frame_is_apart_from_that_of_a_message(application):
    frame = b"\x02\x8a\0\0\0\0" + b"x" * 10
    async with serving(application, ws_max_frame_size=10, ws_max_size=100) as server, connect(server) as client:
        await shake_hands(client)
        await client.send(frame + b"\x80\x8a\0\0\0\0" + b"y" * 10)
        assert await client.read_exactly(7) == b"\x81\x05bytes"
        await client.send(b"\x82\x8b\0\0\0\0" + b"z" * 11)
        assert int.from_bytes((await client.read_all())[2:4], "big") == 1009


class TestTheEnd:
    """What a client sends just before its end is answered, and the end is told once."""

    @pytest.mark.parametrize(
        ("end", "code"),
        [
            (b"\x88\x82\0\0\0\0\x0f\xa0", 4000),
            (b"\x83\x80\0\0\0\0", 1002),
            (b"\x81\x81\0\0\0\0\xff", 1007),
        ],
        ids=["close", "fault", "text"],
    )
    async def test_answers_leave_before_the_close_frame(self, application, end, code):
        async with serving(application) as server, connect(server) as client:
            await shake_hands(client)
            await client.send(TEXT + end)
            data = await client.read_all()
            assert data[:4] == b"\x81\x02hi"
            assert data[4] == 0x88
            assert int.from_bytes(data[6:8], "big") == code
            await until(lambda: len(application.messages) == 2, "the disconnect")
        assert [message["type"] for message in application.messages] == ["websocket.receive", "websocket.disconnect"]
        assert application.messages[-1]["code"] == code

    async def test_an_application_that_does_not_answer_is_not_waited_for_long(self):
        got = []

        async def application(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await receive()
            await send({"type": "websocket.accept"})
            got.append(await receive())
            await asyncio.sleep(2)
            got.append(await receive())

        async with serving(application) as server, connect(server) as client:
            await shake_hands(client)
            begun = asyncio.get_running_loop().time()
            await client.send(TEXT + b"\x88\x80\0\0\0\0")
            assert await client.read_all() == b"\x88\x00"
            assert asyncio.get_running_loop().time() - begun < 1.5
            await until(lambda: len(got) == 2, "the disconnect")
        assert got[-1]["code"] == 1005

    async def test_lost_while_the_answer_is_awaited(self):
        got = []
        gate = asyncio.Event()

        async def application(scope, receive, send):
            if scope["type"] != "websocket":
                raise NotImplementedError
            await receive()
            await send({"type": "websocket.accept"})
            got.append(await receive())
            await gate.wait()
            got.append(await receive())

        async with serving(application) as server, connect(server) as client:
            await shake_hands(client)
            await client.send(TEXT + b"\x88\x82\0\0\0\0\x0f\xa0")
            await until(lambda: got, "the message")
            client.abort()
            await until(lambda: not server._context.connections, "the loss")
            gate.set()
            await until(lambda: len(got) == 2, "the disconnect")
        assert got[-1]["code"] == 4000
