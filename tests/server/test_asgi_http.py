"""HTTP applications of all shapes over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from fastchannels.exceptions import ClientDisconnected
from tests.server.support import (
    DEADLINE,
    answer,
    connect,
    http_only,
    serving,
    until,
)


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


class TestExtensions:
    async def test_early_hints(self):
        @http_only
        async def application(scope, receive, send):
            links = [b"</style.css>; rel=preload", b"</script.js>; rel=preload"]
            if "http.response.early_hint" in scope["extensions"]:
                await send({"type": "http.response.early_hint", "links": links[:1]})
                await send({"type": "http.response.early_hint", "links": links})
            await answer(send)
            with pytest.raises(RuntimeError):
                await send({"type": "http.response.early_hint", "links": links})

        async with serving(application) as server:
            async with connect(server) as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                for expected in (1, 2):
                    hint = await client.read_until(b"\r\n\r\n")
                    assert hint.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>")
                    assert hint.count(b"link: ") == expected
                assert (await client.response())[2] == b"ok"
            async with connect(server) as client:
                await client.send(b"GET / HTTP/1.0\r\n\r\n")
                assert (await client.read_all()).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize("te", [True, False])
    async def test_trailers(self, te):
        @http_only
        async def application(scope, receive, send):
            assert ("http.response.trailers" in scope["extensions"]) == te
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            await send({"type": "http.response.body", "body": b"abc"})
            with pytest.raises(ValueError, match="line break"):
                await send(
                    {"type": "http.response.trailers", "headers": [(b"a", b"b\r\nc: d")], "more_trailers": False}
                )
            trailers = [(b"digest", b"1"), (b"x", b"2")]
            for index, trailer in enumerate(trailers):
                await send({"type": "http.response.trailers", "headers": [trailer], "more_trailers": index == 0})

        async with serving(application) as server, connect(server) as client:
            for _ in range(2):
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"TE: trailers\r\n" if te else b"") + b"\r\n")
                head = await client.read_until(b"\r\n\r\n")
                assert b"chunked" in head
                end = b"digest: 1\r\nx: 2\r\n\r\n" if te else b"\r\n"
                expected = b"3\r\nabc\r\n0\r\n" + end
                assert await client.read_exactly(len(expected)) == expected

    async def test_trailers_out_of_place(self):
        @http_only
        async def application(scope, receive, send):
            trailers = {"type": "http.response.trailers", "headers": []}
            with pytest.raises(ValueError, match="without trailers"):
                await send(trailers)
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            with pytest.raises(ValueError, match="before the end"):
                await send(trailers)
            await send({"type": "http.response.body", "body": b"abc"})
            with pytest.raises(RuntimeError):
                await send({"type": "http.response.body", "body": b"abc"})
            await send(trailers)

        async with serving(application) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            assert (await client.response())[2] == b"abc"
            assert (await client.get())[2] == b"abc"

    async def test_an_application_that_forgets_its_trailers(self, caplog):
        @http_only
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            await send({"type": "http.response.body", "body": b"abc"})

        async with serving(application) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not (await client.read_all()).endswith(b"0\r\n\r\n")
        assert "without completing its response" in caplog.text
