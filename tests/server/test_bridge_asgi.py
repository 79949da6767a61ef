"""ASGI 3 applications of all shapes over real sockets."""
# ruff: noqa: SIM117 - one block for each party reads better than one line for all

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
import websockets

from fastchannels.exceptions import ClientDisconnected, UsageError
from tests.server.support import DEADLINE, UPGRADE, connect, port_of, serving, until


def http_only(application):
    async def run(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        await application(scope, receive, send)

    return run


def websocket_only(application):
    async def run(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        await application(scope, receive, send)

    return run


async def answer(send, body=b"ok", status=200, more=False):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": more})


def open_socket(server, path="/", **options):
    options.setdefault("open_timeout", DEADLINE)
    options.setdefault("close_timeout", DEADLINE)
    return websockets.connect(f"ws://127.0.0.1:{port_of(server)}{path}", **options)


class TestHttpScope:
    async def test_every_key(self):
        scopes = []

        @http_only
        async def application(scope, receive, send):
            scopes.append(scope)
            await answer(send)

        async with serving(application, root_path="/flag") as server, connect(server) as client:
            await client.get("/a%20b?q=1&x=%20", "X-One: 1", "X-One: 2", "X_Two: 3", "Daphne-Root-Path: /ro%20ot")
            await client.get("/")
            local = client.writer.get_extra_info("sockname")
        scope = scopes[0]
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"q=1&x=%20",
            "root_path": "/ro ot",
            "headers": [(b"host", b"a"), (b"x-one", b"1"), (b"x-one", b"2")],
            "client": tuple(local[:2]),
            "server": ("127.0.0.1", port_of_scope(scope)),
        }
        assert scopes[1]["root_path"] == "/flag"

    async def test_unix_socket(self, tmp_path):
        scopes = []

        @http_only
        async def application(scope, receive, send):
            scopes.append(scope)
            await answer(send)

        path = str(tmp_path / "s")
        async with serving(application, port=None, uds=path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"ok" in await asyncio.wait_for(reader.read(), DEADLINE)
            writer.close()
            await writer.wait_closed()
        assert scopes[0]["client"] is None
        assert scopes[0]["server"] == (path, None)


def port_of_scope(scope):
    return scope["server"][1]


class TestHttp:
    @pytest.mark.parametrize("size", [0, 1, 8192, 8193, 300_000])
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_bodies(self, size, chunked):
        @http_only
        async def application(scope, receive, send):
            body = b""
            while True:
                message = await receive()
                assert set(message) == {"type", "body", "more_body"}
                body += message["body"]
                if not message["more_body"]:
                    break
            await answer(send, body)

        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        if chunked:
            data = b"Transfer-Encoding: chunked\r\n\r\n"
            for start in range(0, size, 1000):
                piece = body[start : start + 1000]
                data += b"%x\r\n%b\r\n" % (len(piece), piece)
            data += b"0\r\n\r\n"
        else:
            data = b"Content-Length: %d\r\n\r\n" % size + body
        async with serving(application) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + data)
            assert (await client.response())[2] == body

    async def test_disconnect_in_mid_upload_comes_after_the_body(self):
        seen = []

        @http_only
        async def application(scope, receive, send):
            while True:
                message = await receive()
                seen.append(message)
                if message["type"] == "http.disconnect":
                    return

        async with serving(application) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            await until(lambda: seen, "the body")
            client.abort()
            await until(lambda: len(seen) == 2, "the disconnect")
        assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]
        assert seen[0]["body"] == b"abc"

    async def test_disconnect_is_lazy_after_the_response(self):
        seen = []
        done = asyncio.Event()

        @http_only
        async def application(scope, receive, send):
            await answer(send)
            seen.append(await receive())
            seen.append(await receive())
            done.set()

        async with serving(application) as server, connect(server) as client:
            assert (await client.get())[2] == b"ok"
            await asyncio.wait_for(done.wait(), DEADLINE)
        assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]

    async def test_a_cancelled_receive_leaves_the_next_one_working(self):
        """Django cancels a receive that listens for the disconnect."""

        @http_only
        async def application(scope, receive, send):
            assert not (await receive())["more_body"]
            listener = asyncio.ensure_future(receive())
            other = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
            await answer(send)
            assert (await other)["type"] == "http.disconnect"
            seen.append(await receive())

        seen = []
        async with serving(application) as server, connect(server) as client:
            assert (await client.get())[2] == b"ok"
            await until(lambda: seen, "the disconnect")

    async def test_streaming(self):
        gates = [asyncio.Event() for _ in range(3)]

        @http_only
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for gate in gates:
                await gate.wait()
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async with serving(application) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"chunked" in await client.read_until(b"\r\n\r\n"), "the head does not wait for the first piece"
            for gate in gates:
                gate.set()
                assert await client.read_exactly(6) == b"1\r\nx\r\n"
            assert await client.read_exactly(5) == b"0\r\n\r\n"

    @pytest.mark.parametrize(("length", "body"), [(b"5", b"hello world"), (b"5", b"hi")], ids=["too long", "too short"])
    async def test_a_body_that_contradicts_its_length(self, length, body, caplog):
        @http_only
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send({"type": "http.response.body", "body": body})

        async with serving(application) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not (await client.read_all()).endswith(body), "the client must not believe it"
            await until(lambda: "Content-Length" in caplog.text, "the log")

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.start"},
            {"type": "http.response.start", "status": "200"},
            {"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nSet-Cookie: b=c")]},
            {"type": "http.response.start", "status": 200, "headers": [("x", b"a")]},
            {"type": "websocket.accept"},
            {},
        ],
    )
    async def test_invalid_messages_raise_and_give_500(self, message, caplog):
        raised = []

        @http_only
        async def application(scope, receive, send):
            try:
                await send(message)
            except Exception as error:
                raised.append(error)
                raise

        async with serving(application) as server, connect(server) as client:
            assert (await client.get())[0] == 500
            assert isinstance(raised[0], (ValueError, TypeError))
            assert (await client.get())[0] == 500, "the connection lives on"

    async def test_start_twice_and_body_after_the_end(self):
        raised = []

        @http_only
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            with pytest.raises(ValueError, match="twice"):
                await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"ok"})
            with pytest.raises(RuntimeError):
                await send({"type": "http.response.body", "body": b"ok"})
            raised.append(True)

        async with serving(application) as server, connect(server) as client:
            assert (await client.get())[2] == b"ok"
            await until(lambda: raised, "the errors")

    async def test_exceptions_before_in_and_after_a_response(self, caplog):
        @http_only
        async def application(scope, receive, send):
            where = scope["path"]
            if where == "/before":
                raise RuntimeError("raised before")
            await send({"type": "http.response.start", "status": 200})
            if where == "/start":
                raise RuntimeError("raised after start")
            await send({"type": "http.response.body", "body": b"part", "more_body": where == "/in"})
            if where in ("/in", "/after"):
                raise RuntimeError(f"raised at {where}")

        async with serving(application) as server:
            for _ in range(2):
                async with connect(server) as client:
                    status, headers, _page = await client.get("/before")
                    assert (status, headers["content-type"]) == (500, "text/html; charset=utf-8")
                    assert (await client.get("/start"))[0] == 500
                    assert (await client.get("/after"))[2] == b"part"
                    assert (await client.get("/fine"))[2] == b"part"
                    await client.send(b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n")
                    with contextlib.suppress(ConnectionError):
                        assert not (await client.read_all()).endswith(b"0\r\n\r\n")
        assert "raised before" in caplog.text
        assert "GET /in of 127.0.0.1:" in caplog.text
        records = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(records) == 8
        assert all(record.name == "fastchannels.server" and record.exc_info for record in records)

    @pytest.mark.parametrize(("begun", "status"), [(False, 500), (True, None)])
    async def test_return_without_a_complete_answer(self, begun, status, caplog):
        @http_only
        async def application(scope, receive, send):
            if begun:
                await answer(send, b"part", more=True)

        async with serving(application) as server, connect(server) as client:
            if begun:
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    assert not (await client.read_all()).endswith(b"0\r\n\r\n")
            else:
                assert (await client.get())[0] == status
        assert "returned without" in caplog.text

    async def test_send_after_the_client_left(self, caplog):
        gate = asyncio.Event()
        raised = []

        @http_only
        async def application(scope, receive, send):
            await answer(send, b"x", more=True)
            await gate.wait()
            try:
                await send({"type": "http.response.body", "body": b"y", "more_body": True})
            except ClientDisconnected as error:
                raised.append(error)
                raise

        async with serving(application) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.read_until(b"1\r\nx\r\n")
            client.abort()
            await until(lambda: not server._context.connections, "the disconnect")
            gate.set()
            await until(lambda: not server._context.tasks, "the end of the application")
        assert isinstance(raised[0], OSError)
        assert caplog.text == "", "what the server told the application is not logged again"

    async def test_an_application_that_ignores_the_disconnect_is_cancelled(self, caplog):
        cancelled = asyncio.Event()

        @http_only
        async def application(scope, receive, send):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with serving(application, application_close_timeout=0.2) as server, connect(server) as client:
            await client.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server._context.tasks, "the application")
            client.abort()
            await asyncio.wait_for(cancelled.wait(), DEADLINE)
        assert "GET /stuck" in caplog.text
        assert "cancelled" in caplog.text

    async def test_background_work_after_the_response_is_left_alone(self):
        finished = asyncio.Event()
        gate = asyncio.Event()

        @http_only
        async def application(scope, receive, send):
            await answer(send)
            await gate.wait()
            finished.set()

        async with serving(application, application_close_timeout=0.01) as server:
            async with connect(server) as client:
                assert (await client.get())[2] == b"ok"
                assert (await client.get())[2] == b"ok"
            await until(lambda: not server._context.connections, "the close")
            for _ in range(3):
                server._context.wheel.tick()
                await asyncio.sleep(0.3)
            gate.set()
            await asyncio.wait_for(finished.wait(), DEADLINE)

    async def test_http_timeout_before_and_after_the_start(self, caplog):
        seen = []

        @http_only
        async def application(scope, receive, send):
            if scope["path"] == "/begun":
                await answer(send, b"part", more=True)
            await receive()
            seen.append((await receive())["type"])
            with pytest.raises(ClientDisconnected):
                await send({"type": "http.response.body", "body": b"late", "more_body": True})
            seen.append("raised")

        async with serving(application, http_timeout=0.3) as server:
            async with connect(server) as client:
                assert (await client.get("/silent"))[0] == 503
                await until(lambda: seen == ["http.disconnect", "raised"], "the disconnect")
            async with connect(server) as client:
                await client.send(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    assert not (await client.read_all()).endswith(b"0\r\n\r\n")
                await until(lambda: len(seen) == 4, "the second disconnect")

    async def test_http_timeout_counts_from_the_last_progress(self):
        @http_only
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for _ in range(10):
                await asyncio.sleep(0.15)
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await send({"type": "http.response.body"})

        async with serving(application, http_timeout=0.75) as server, connect(server) as client:
            assert (await client.get())[2] == b"x" * 10


class TestWebSocketScope:
    async def test_every_key(self):
        scopes = []

        @websocket_only
        async def application(scope, receive, send):
            scopes.append(scope)
            assert await receive() == {"type": "websocket.connect"}
            await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-extra", b"1")]})
            await receive()

        async with serving(application) as server:
            async with open_socket(server, "/a%20b?q=1", subprotocols=["one", "two"]) as client:
                assert client.subprotocol == "two"
                assert client.response.headers["x-extra"] == "1"
                assert client.response.headers["server"] == "fastchannels"
                local = client.local_address
        scope = scopes[0]
        headers = scope.pop("headers")
        assert (b"sec-websocket-version", b"13") in headers
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"q=1",
            "root_path": "",
            "client": tuple(local[:2]),
            "server": ("127.0.0.1", port_of_scope(scope)),
            "subprotocols": ["one", "two"],
            "extensions": {"websocket.http.response": {}},
        }


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
        monkeypatch.setattr("fastchannels.server.bridge_asgi.SEND_GRACE", 0)
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
        monkeypatch.setattr("fastchannels.server.bridge_asgi.SEND_GRACE", 0)
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
                assert len(connection.websocket._inbox) < 2000
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


async def test_consumers_of_channels_4():
    """Channels' own consumers, groups included, over our server and layer."""
    from asgiref.sync import sync_to_async
    from channels.generic.http import AsyncHttpConsumer
    from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import re_path

    from fastchannels.layers.memory import InMemoryChannelLayer

    layer = InMemoryChannelLayer()
    left = []

    class Chat(AsyncJsonWebsocketConsumer):
        async def connect(self):
            self.channel_layer = layer
            self.room = self.scope["url_route"]["kwargs"]["room"]
            await layer.group_add(self.room, self.channel_name)
            await self.accept()

        async def receive_json(self, content):
            await layer.group_send(self.room, {"type": "chat.message", "text": content["text"]})

        async def chat_message(self, event):
            await self.send_json({"said": event["text"]})

        async def disconnect(self, code):
            left.append(code)
            await layer.group_discard(self.room, self.channel_name)

    class Echo(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            if text_data == "close":
                self.close(4002)
            else:
                self.send(text_data=text_data)

    class Page(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_response(200, b"page " + body, headers=[(b"Content-Type", b"text/plain")])

    async def chat(scope, receive, send):
        consumer = Chat()
        consumer.channel_layer_alias = None
        consumer.channel_name = await layer.new_channel()
        await run_with_layer(consumer, layer, scope, receive, send)

    async def run_with_layer(consumer, layer, scope, receive, send):
        # AsyncConsumer looks its layer up by alias; with an alias of None it takes none, so the loop is ours.
        from channels.consumer import await_many_dispatch
        from channels.exceptions import StopConsumer

        consumer.scope = scope
        consumer.channel_layer = layer
        consumer.base_send = send
        with contextlib.suppress(StopConsumer):
            await await_many_dispatch([receive, lambda: layer.receive(consumer.channel_name)], consumer.dispatch)

    application = ProtocolTypeRouter(
        {
            "websocket": URLRouter([re_path(r"^chat/(?P<room>\w+)/$", chat), re_path(r"^echo/$", Echo.as_asgi())]),
            "http": URLRouter([re_path("", Page.as_asgi())]),
        }
    )
    assert sync_to_async is not None
    async with serving(application) as server:
        async with open_socket(server, "/chat/one/") as first, open_socket(server, "/chat/one/") as second:
            await first.send('{"text": "hello"}')
            assert await asyncio.wait_for(first.recv(), DEADLINE) == '{"said": "hello"}'
            assert await asyncio.wait_for(second.recv(), DEADLINE) == '{"said": "hello"}'
        await until(lambda: left == [1000, 1000], "both disconnects")
        async with open_socket(server, "/echo/") as client:
            await client.send("sync")
            assert await asyncio.wait_for(client.recv(), DEADLINE) == "sync"
            await client.send("close")
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(client.recv(), DEADLINE)
            assert client.close_code == 4002
        async with connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            assert (await client.response())[2] == b"page body"
