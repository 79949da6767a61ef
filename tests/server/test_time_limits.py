"""Each limit of time, set to one second, holds at one second: never before it, and before two (all at once here)."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.server.support import UPGRADE, connect, serving, until

SECOND = 1.0
LATEST = 2.0 + 0.5  # two, and what a busy machine adds
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def silent(scope, receive, send):
    """Never answers; of a websocket, not even when its client has left."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.append(time.monotonic())
        raise


cancelled: list[float] = []


async def begun(scope, receive, send):
    """Answers in part."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await asyncio.sleep(60)


async def body(scope, receive, send):
    """Reads the body, then answers."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


async def flood(scope, receive, send):
    """More than a client takes that does not read."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200})
    while True:
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})


async def accepting(scope, receive, send):
    """Accepts, and closes when it gets a message."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    if (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.close", "code": 3000})


class Case:
    """What the client sends, and what it must read until the end of the connection."""

    def __init__(self, application, sends, ends_with, reads=True, **options):
        self.application = application
        self.sends = sends
        self.ends_with = ends_with
        self.reads = reads
        self.options = options


OPEN = UPGRADE % b"/"
MESSAGE = b"\x82\x80\0\0\0\0"
CASES = {
    "keep_alive_timeout": Case(body, b"", b""),
    "keep_alive_timeout after a request": Case(body, GET, b"ok\r\n0\r\n\r\n", keep_alive_timeout=SECOND),
    "header_timeout": Case(body, b"GET / HTTP/1.1\r\nHost:", b"HTTP/1.1 408 ", header_timeout=SECOND),
    "body_timeout": Case(
        body, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 408 ", body_timeout=SECOND
    ),
    "http_timeout": Case(silent, GET, b"HTTP/1.1 503 ", http_timeout=SECOND),
    "http_timeout of an answer begun": Case(begun, GET, b"part\r\n", http_timeout=SECOND),
    "websocket_connect_timeout": Case(silent, OPEN, b"HTTP/1.1 403 ", websocket_connect_timeout=SECOND),
    "websocket_timeout": Case(accepting, OPEN, b"\x88\x02\x03\xe8", websocket_timeout=SECOND),
    "ping_timeout": Case(accepting, OPEN, b"\x89", ping_interval=0.05, ping_timeout=SECOND),
    "websocket_close_timeout": Case(accepting, OPEN + MESSAGE, b"\x88\x02\x0b\xb8", websocket_close_timeout=SECOND),
    "write_timeout": Case(flood, GET, None, reads=False, write_timeout=SECOND),
}
CASES["keep_alive_timeout"].options["keep_alive_timeout"] = SECOND


async def duration(case: Case) -> tuple[float, bytes]:
    """From the moment that the client did its last, to the end of the connection."""
    async with serving(case.application, **case.options) as server, connect(server, limit=1024) as client:
        begin = time.monotonic()
        await client.send(case.sends)
        if case.reads:
            got = b""
            while piece := await asyncio.wait_for(client.reader.read(65536), 10):
                got += piece
                if case.ends_with and case.ends_with in got:
                    break
            else:
                return time.monotonic() - begin, got
            first = time.monotonic() - begin
            if b"HTTP/1.1 4" in got or b"HTTP/1.1 5" in got or case.options.get("websocket_timeout"):
                return first, got
            assert await client.read_all() == b""
            return time.monotonic() - begin, got
        context = server._context
        await until(lambda: not context.connections, "the end of the connection")
        return time.monotonic() - begin, b""


async def test_each_holds_at_its_second():
    quiet = {name: case for name, case in CASES.items() if case.application is not flood}
    results = await asyncio.gather(*map(duration, quiet.values()))
    results.append(await duration(CASES["write_timeout"]))  # alone: it keeps the loop busy
    for (name, case), (seconds, got) in zip(CASES.items(), results, strict=True):
        assert SECOND - 0.02 <= seconds <= LATEST, f"{name}: {seconds:.2f} s, {got[-200:]!r}"
        assert case.ends_with is None or case.ends_with in got, name


async def test_ping_interval():
    async with serving(accepting, ping_interval=SECOND) as server, connect(server) as client:
        await client.send(OPEN)
        await client.read_until(b"\r\n\r\n")
        begin = time.monotonic()
        assert (await client.read_exactly(1)) == b"\x89"
        assert SECOND - 0.02 <= time.monotonic() - begin <= LATEST


async def test_application_close_timeout():
    cancelled.clear()
    async with serving(silent, application_close_timeout=SECOND) as server:
        async with connect(server) as client:
            await client.send(OPEN)
            await asyncio.sleep(0.1)
        begin = time.monotonic()
        await until(lambda: cancelled, "the cancellation")
    assert SECOND - 0.02 <= cancelled[0] - begin <= LATEST


@pytest.mark.parametrize("limit", [-1, 0, None])
async def test_no_limit(limit):
    """D-30: neither of the websocket's limits, which of old meant *at once*."""
    late = asyncio.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        await receive()
        await late.wait()
        await send({"type": "websocket.accept"})
        await receive()

    options = {"websocket_timeout": limit, "websocket_connect_timeout": limit}
    async with serving(application, **options) as server, connect(server) as client:
        await client.send(OPEN)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.6)
        late.set()
        await client.read_until(b"\r\n\r\n")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.6)
