"""WebSocket applications of all shapes over real sockets."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from fastchannels.exceptions import ClientDisconnected, UsageError
from tests.server.support import (
    DEADLINE,
    UPGRADE,
    connect,
    open_socket,
    serving,
    until,
    websocket_only,
)


class TestWebSocket:
    async def test_echo_of_text_and_bytes_and_empty_ones(self):
        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                assert len(message) == 2
                await send({**message, "type": "websocket.send"})

        async with serving(application) as server, open_socket(server) as client:
            for payload in ("hi", b"hi", "", b"", "ä" * 70000, bytes(200_000)):
                await client.send(payload)
                assert await asyncio.wait_for(client.recv(), DEADLINE) == payload

    @pytest.mark.parametrize(
        ("code", "reason", "seen"), [(1000, "bye", (1000, "bye")), (4001, "", (4001, "")), (None, "", (1005, ""))]
    )
    async def test_close_by_the_client(self, code, reason, seen, monkeypatch):
        monkeypatch.setattr("fastchannels.server.asgi_websocket.SEND_GRACE", 0)
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            messages.append(await receive())
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.send", "text": "late"})
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.close"})
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.05)
            messages.append("told once")

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await client.read_until(b"\r\n\r\n")
            body = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
            await client.send(bytes((0x88, 0x80 | len(body), 0, 0, 0, 0)) + body)
            echo = await client.read_all()
            assert echo[:1] == b"\x88"
            assert echo[2:4] == body[:2], "the client's code is echoed"
            await until(lambda: len(messages) == 2, "the disconnect")
        assert messages[0] == {"type": "websocket.disconnect", "code": seen[0], "reason": seen[1]}

    async def test_what_is_sent_to_a_client_that_has_just_left_is_dropped(self):
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            messages.append(await receive())
            await send({"type": "websocket.send", "text": "for nobody"})
            messages.append("dropped")

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await client.read_until(b"\r\n\r\n")
            client.abort()
            await until(lambda: len(messages) == 2, "the end of the application")
        assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}, "dropped"]

    async def test_lost_connection(self):
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            messages.append(await receive())

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await client.read_until(b"\r\n\r\n")
            client.abort()
            await until(lambda: messages, "the disconnect")
        assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]

    async def test_lost_while_the_handshake_waits(self, monkeypatch):
        monkeypatch.setattr("fastchannels.server.asgi_websocket.SEND_GRACE", 0)
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            messages.append(await receive())
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.accept"})
            messages.append("refused")

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await until(lambda: server._context.tasks, "the application")
            client.abort()
            await until(lambda: len(messages) == 2, "the disconnect")
        assert messages[0]["code"] == 1006

    async def test_close_by_the_application(self):
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            for code in (1005, 1006, 999, 5000):
                with pytest.raises(UsageError):
                    await send({"type": "websocket.close", "code": code})
            await send({"type": "websocket.close", "code": 4321, "reason": "enough"})
            with pytest.raises(RuntimeError):
                await send({"type": "websocket.send", "text": "late"})
            messages.append(await receive())

        async with serving(application) as server, open_socket(server) as client:
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(client.recv(), DEADLINE)
            assert (client.close_code, client.close_reason) == (4321, "enough")
            await until(lambda: messages, "the disconnect")
        assert messages[0]["code"] == 4321

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "websocket.send"},
            {"type": "websocket.send", "text": None, "bytes": None},
            {"type": "websocket.send", "text": "a", "bytes": b"b"},
            {"type": "websocket.send", "text": b"a"},
            {"type": "websocket.send", "bytes": "a"},
            {"type": "websocket.accept"},
            {"type": "http.response.start", "status": 200},
            {},
        ],
    )
    async def test_invalid_messages_leave_the_socket_open(self, message):
        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            with pytest.raises((ValueError, TypeError)):
                await send(message)
            await send({"type": "websocket.send", "text": "still here"})
            await receive()

        async with serving(application) as server, open_socket(server) as client:
            assert await asyncio.wait_for(client.recv(), DEADLINE) == "still here"

    async def test_invalid_messages_before_the_accept(self):
        @websocket_only
        async def application(scope, receive, send):
            await receive()
            for message in (
                {"type": "websocket.send", "text": "early"},
                {"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]},
                {"type": "websocket.accept", "subprotocol": "never offered"},
                {"type": "websocket.http.response.start"},
                {},
            ):
                with pytest.raises((ValueError, TypeError, UsageError)):
                    await send(message)
            await send({"type": "websocket.accept"})
            await receive()

        async with serving(application) as server, open_socket(server):
            pass

    @pytest.mark.parametrize("what", ["close", "raise", "return", "silence"])
    async def test_handshakes_that_are_not_accepted(self, what, caplog):
        messages = []
        logged = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            if what == "raise":
                raise RuntimeError("no")
            if what == "return":
                return
            if what == "close":
                await send({"type": "websocket.close", "code": 4000})
            messages.append(await receive())

        async with serving(
            application, websocket_connect_timeout=0.3, action_logger=lambda *call: logged.append(call[:2])
        ) as server:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await asyncio.wait_for(open_socket(server).__aenter__(), DEADLINE)
            assert refused.value.response.status_code == (500 if what in ("raise", "return") else 403)
            if what in ("close", "silence"):
                await until(lambda: messages, "the disconnect")
                assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
        assert logged == [("websocket", "connecting"), ("websocket", "rejected"), ("websocket", "disconnected")]

    async def test_denial_response(self):
        messages = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")],
                }
            )
            await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"are you"})
            messages.append(await receive())

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            status, headers, body = await client.response()
            assert (status, headers["www-authenticate"], body) == (401, "Basic", b"who are you")
            assert headers["connection"] == "close"
            assert await client.read_all() == b""
            await until(lambda: messages, "the disconnect")
        assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]

    @pytest.mark.parametrize("what", ["raise", "return"])
    async def test_failure_after_the_accept(self, what, caplog):
        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            if what == "raise":
                raise RuntimeError("broken consumer")

        async with serving(application) as server, open_socket(server, "/room") as client:
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(client.recv(), DEADLINE)
            assert client.close_code == 1011
        assert "websocket /room of 127.0.0.1:" in caplog.text

    async def test_frames_behind_the_handshake_in_one_packet(self):
        got = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await asyncio.sleep(0)
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "first"})
            got.append(await receive())

        async with serving(application) as server, connect(server) as client:
            await client.send(UPGRADE % b"/" + b"\x81\x82\0\0\0\0hi")
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert await client.read_exactly(7) == b"\x81\x05first"
            await until(lambda: got, "the frame")
        assert got[0]["text"] == "hi"

    async def test_a_slow_application_stops_the_reading(self):
        gate = asyncio.Event()
        got = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            await gate.wait()
            while (message := await receive())["type"] == "websocket.receive":
                got.append(message["text"])

        count = 20000
        async with serving(application) as server:
            async with open_socket(server) as client:
                connection = next(iter(server._context.connections))

                async def produce():
                    for number in range(count):
                        await client.send(f"{number} " + "x" * 1000)

                producing = asyncio.ensure_future(produce())
                await until(lambda: connection.held, "paused reading")
                assert len(connection.websocket.mailbox) <= 64
                gate.set()
                await asyncio.wait_for(producing, DEADLINE * 2)
            await until(lambda: len(got) == count, "all frames")
        assert [text.split()[0] for text in got] == [str(number) for number in range(count)]

    async def test_many_empty_frames_do_not_stop_the_reading_for_good(self):
        got = []

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                got.append(message)

        async with serving(application) as server, open_socket(server) as client:
            for _ in range(500):
                await client.send("")
            await until(lambda: len(got) == 500, "all frames")

    async def test_an_application_that_ignores_the_disconnect_is_cancelled(self, caplog):
        cancelled = asyncio.Event()

        @websocket_only
        async def application(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with serving(application, application_close_timeout=0.2) as server:
            async with open_socket(server):
                pass
            await asyncio.wait_for(cancelled.wait(), DEADLINE)
        assert "cancelled" in caplog.text
