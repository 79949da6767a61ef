"""Responses of every framing to every kind of request, read from a socket by h11: one body, one framing, in step."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.server.hostile import answers
from tests.server.support import DEADLINE, connect, serving

PIECES = {"nothing": [b""], "one piece": [b"hello"], "pieces": [b"he", b"", b"llo"], "large": [bytes(100_000), b"end"]}
STATUSES = [200, 204, 304, 404]
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def answering(status, pieces, headers):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/next":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"next"})
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return application


@pytest.mark.parametrize("framing", ["length", "none", "coding"])
@pytest.mark.parametrize("status", STATUSES)
async def test_each_body_by_each_request(status, framing):
    """``coding``: the application names a Transfer-Encoding itself, which is the server's to choose."""
    for pieces, method, version in itertools.product(PIECES.values(), ("GET", "HEAD", "POST"), ("1.0", "1.1")):
        body = b"".join(pieces)
        headers = [(b"x", b"y")]
        if framing == "length":
            headers.append((b"content-length", b"%d" % len(body)))
        elif framing == "coding":
            headers.append((b"transfer-encoding", b"chunked"))
        async with serving(answering(status, pieces, headers)) as server, connect(server) as client:
            await client.send(f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode() + NEXT)
            data = await client.read_all()
        first, *rest = answers(data, (method, "GET"))
        names = [name for name, _ in first.headers]
        assert first.status == status
        assert len(names) == len(set(names)), "no header twice"
        assert {b"date", b"server", b"x"} <= set(names)
        assert not {b"content-length", b"transfer-encoding"} <= set(names)
        bodiless = method == "HEAD" or status in (204, 304)
        assert first.body == (b"" if bodiless else body)
        if status == 204 or version == "1.0":
            assert b"transfer-encoding" not in names
        if status == 204:
            assert b"content-length" not in names, "RFC 9110 section 8.6"
        if version == "1.0":
            assert rest == []
            assert data.endswith(b"\r\n\r\n" + first.body)
        else:
            assert [answer.body for answer in rest] == [b"next"]


async def test_a_response_of_100_mb_by_a_client_that_takes_its_time():
    total, piece = 100_000_000, bytes(250_000)

    async with (
        serving(answering(200, [piece] * (total // len(piece)), [])) as server,
        connect(server, limit=65536) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        got = 0
        while size := int(await client.read_until(b"\r\n"), 16):
            got += len(await client.read_exactly(size + 2)) - 2
        assert got == total


async def test_a_request_of_100_mb():
    total = 100_000_000
    got = 0

    async def application(scope, receive, send):
        nonlocal got
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        more = True
        while more:
            message = await receive()
            got += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with serving(application) as server, connect(server) as client:
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(100):
            client.writer.write(bytes(total // 100))
            await asyncio.wait_for(client.writer.drain(), DEADLINE)
        assert (await client.response())[0] == 200
    assert got == total
