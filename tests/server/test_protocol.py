"""Connections over real sockets: order, keep-alive, limits, back-pressure, closing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastchannels.exceptions import ClientDisconnected
from tests.server.support import DEADLINE, connect, serving, text_of, until


async def echo_path(scope, receive, send):
    """Answers with the path and the body."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["path"].encode() + b" " + body})


async def test_keep_alive_and_pipelining_in_order():
    async with serving(echo_path) as server, connect(server) as client:
        for number in range(3):
            assert (await client.get(f"/{number}"))[2] == b"/%d " % number
        await client.send(
            b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n for n in range(50))
        )
        for number in range(50):
            assert (await client.response())[2] == b"/%d abc" % number


async def test_pipelined_requests_wait_for_a_slow_response():
    started = []
    gate = asyncio.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        started.append(scope["path"])
        if scope["path"] == "/slow":
            await gate.wait()
        await echo_path(scope, receive, send)

    async with serving(application) as server, connect(server) as client:
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /fast HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: started, "the first request")
        await asyncio.sleep(0)
        assert started == ["/slow"]
        gate.set()
        assert (await client.response())[2] == b"/slow "
        assert (await client.response())[2] == b"/fast "


@pytest.mark.parametrize(
    "request_head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]
)
async def test_close_when_asked(request_head):
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(request_head)
        data = await client.read_all()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in data


async def test_http_1_0_body_is_not_chunked():
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert (await client.read_all()).endswith(b"\r\n\r\n/x ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /%s HTTP/1.1\r\n" % (b"a" * 70000), 414),
    ],
)
async def test_bad_requests_get_a_page_and_a_close(data, status):
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(data)
        found, headers, page = await client.response()
        assert found == status
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["connection"] == "close"
        assert str(status) in text_of(page)
        assert await client.read_all() == b""


async def test_an_error_waits_for_the_answers_before_it():
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\r\n\r\n")
        assert (await client.response())[2] == b"/good "
        assert (await client.response())[0] == 400
        assert await client.read_all() == b""


async def test_a_large_upload_after_an_early_answer_is_not_reset():
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async with serving(application) as server, connect(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"a" * 1000)
        status, headers, body = await client.response()
        assert (status, headers["connection"], body) == (403, "close", b"no")
        await client.send(b"a" * 299000)
        assert await client.read_all() == b""


async def test_idle_connections_are_closed():
    async with serving(echo_path, keep_alive_timeout=0.2, header_timeout=None) as server:
        async with connect(server) as client:
            assert await client.read_all() == b"", "no request at all"
        async with connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost:")
            assert (await client.response())[0] == 408, "a head that does not end"
        async with connect(server) as client:
            await client.get()
            assert await client.read_all() == b"", "no second request"


async def test_a_body_is_read_no_faster_than_the_application_takes_it():
    gate = asyncio.Event()
    got = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        await gate.wait()
        more = True
        while more:
            message = await receive()
            got.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    size = 64 * 1024 * 1024
    async with serving(application) as server, connect(server) as client:
        client.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            client.writer.write(bytes(size // 64))
        sending = asyncio.ensure_future(client.writer.drain())
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.held, "paused reading")
        stream = connection._stream
        assert stream._buffered <= 64 * 1024 + 256 * 1024
        assert not sending.done()
        gate.set()
        await asyncio.wait_for(sending, DEADLINE)
        assert (await client.response())[0] == 204
        assert sum(got) == size


async def test_send_waits_for_a_client_that_does_not_read():
    sent = 0
    outcome = asyncio.get_running_loop().create_future()

    async def application(scope, receive, send):
        nonlocal sent
        if scope["type"] == "lifespan":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
                sent += 65536
        except ClientDisconnected as error:
            outcome.set_result(error)
            raise

    async with serving(application) as server, connect(server, limit=1024) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.write_paused, "paused writing")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 32 * 1024 * 1024
        assert connection.transport.get_write_buffer_size() < 512 * 1024
        client.abort()
        assert isinstance(await asyncio.wait_for(outcome, DEADLINE), OSError)


async def test_expect_100_continue():
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ok")
        assert (await client.response())[2] == b"/x ok"


async def test_head_has_no_body():
    async with serving(echo_path) as server, connect(server) as client:
        status, headers, _ = await client.get(method="HEAD")
        assert status == 200
        assert "transfer-encoding" not in headers
        assert (await client.get("/next"))[2] == b"/next ", "the connection is still in step"


async def test_upgrade_to_something_else_is_ignored():
    async with serving(echo_path) as server, connect(server) as client:
        await client.send(
            b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert (await client.response())[2] == b"/x abc"
        assert (await client.response())[2] == b"/y "


async def test_a_broken_body_reaches_the_application_as_disconnect():
    seen = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        while True:
            message = await receive()
            seen.append(message["type"])
            if message["type"] == "http.disconnect":
                return

    async with serving(application) as server, connect(server) as client:
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        assert (await client.response())[0] == 400
        await until(lambda: seen and seen[-1] == "http.disconnect", "http.disconnect")


@pytest.mark.parametrize("sends", [True, False])
async def test_a_client_that_leaves_is_noticed_at_once_though_it_sent_requests_ahead(sends):
    seen = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        seen.append(scope["path"])
        if sends:
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
                    await asyncio.sleep(0.01)
            except OSError:
                seen.append("http.disconnect")
                raise
        await receive()
        seen.append((await receive())["type"])

    async with serving(application) as server, connect(server) as client:
        await client.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: seen, "the first request")
        client.abort()
        await until(lambda: len(seen) == 2, "the disconnect")
    assert seen == ["/first", "http.disconnect"]


async def test_requests_sent_ahead_are_bounded():
    gate = asyncio.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        await gate.wait()
        await echo_path(scope, receive, send)

    async with serving(application) as server, connect(server) as client:
        for number in range(10):
            await client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            await asyncio.sleep(0)
        connection = await until(lambda: next(iter(server._context.connections), None), "the connection")
        await until(lambda: connection.held, "paused reading")
        gate.set()
        for number in range(10):
            assert (await client.response())[2] == b"/%d " % number
