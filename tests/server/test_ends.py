"""However a connection ends, the application hears of it exactly once, and no task or connection is left."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.server.support import DEADLINE, UPGRADE, connect, serving, until

CLOSE_1000 = b"\x88\x82\0\0\0\0\x03\xe8"


class Recorder:
    """An application that goes on receiving after the first disconnect, for a while."""

    def __init__(self, answer: bool = True, raises: bool = False) -> None:
        self.answer = answer
        self.raises = raises
        self.disconnects: list[dict] = []
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        try:
            if scope["type"] == "websocket":
                await receive()
                if self.answer:
                    await send({"type": "websocket.accept"})
            elif self.answer:
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            self.ready.set()
            while not self.disconnects:
                message = await receive()
                if message["type"].endswith(".disconnect"):
                    self.disconnects.append(message)
            if self.raises:
                raise ValueError("told")
            with contextlib.suppress(asyncio.TimeoutError, RuntimeError, OSError):
                while True:
                    message = await asyncio.wait_for(receive(), 0.05)
                    if message["type"] == "websocket.disconnect":
                        self.disconnects.append(message)
                    else:
                        break
        finally:
            self.ended.set()


async def fin(client, server):
    client.writer.close()


async def half(client, server):
    client.writer.write_eof()


async def reset(client, server):
    client.abort()


async def silence(client, server):
    """No pong."""


async def close_frame(client, server):
    await client.send(CLOSE_1000)


async def close_and_reset(client, server):
    await client.send(CLOSE_1000)
    client.abort()


async def two_close_frames(client, server):
    await client.send(CLOSE_1000 + CLOSE_1000)


async def protocol_error(client, server):
    await client.send(b"\xff\xff")


async def bad_text(client, server):
    await client.send(b"\x81\x81\0\0\0\0\xff")


async def oversize(client, server):
    await client.send(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))


async def error_and_reset(client, server):
    await client.send(b"\xff\xff")
    client.abort()


async def drain(client, server):
    task = asyncio.ensure_future(server.stop(2))
    with contextlib.suppress(asyncio.IncompleteReadError):
        await client.read_until(b"\x88")
    await client.send(CLOSE_1000)
    client.abort()
    await asyncio.wait_for(task, DEADLINE)


async def stop(client, server):
    await asyncio.wait_for(server.stop(0), DEADLINE)


#: how it ends: the code that the application is told
SOCKET_ENDS = {
    fin: 1006,
    half: 1006,
    reset: 1006,
    silence: 1006,
    close_frame: 1000,
    close_and_reset: 1000,
    two_close_frames: 1000,
    protocol_error: 1002,
    bad_text: 1007,
    oversize: 1009,
    error_and_reset: 1002,
    drain: 1012,
    stop: 1006,
}


@contextlib.asynccontextmanager
async def one_connection(application, opening, **options):
    """The server and a client whose request the application has begun to serve; after it, nothing may be left."""
    async with serving(application, **options) as server, connect(server) as client:
        await client.send(opening)
        await asyncio.wait_for(application.ready.wait(), DEADLINE)
        context = server._context
        yield server, client
        await asyncio.wait_for(application.ended.wait(), DEADLINE)
        await until(lambda: not context.tasks, "the end of all tasks")
        await until(lambda: not context.connections, "the end of all connections")


@pytest.mark.parametrize("end", SOCKET_ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("answer", [True, False], ids=["open", "unanswered"])
async def test_a_websocket(end, answer):
    application = Recorder(answer)
    options = {"ping_interval": 0.1, "ping_timeout": 0.1} if end is silence else {}
    if not answer:
        if end not in (fin, half, reset, stop):
            return  # frames are not read before the answer
        options["application_close_timeout"] = 0.3
    async with one_connection(application, UPGRADE % b"/", **options) as (server, client):
        if answer:
            await client.read_until(b"\r\n\r\n")
        await end(client, server)
        await asyncio.wait_for(application.ended.wait(), DEADLINE)
        client.abort()
    assert [message["code"] for message in application.disconnects] == [SOCKET_ENDS[end]]


@pytest.mark.parametrize("end", [fin, reset, stop], ids=lambda end: end.__name__)
@pytest.mark.parametrize("answer", [True, False], ids=["begun", "unanswered"])
@pytest.mark.parametrize("opening", ["GET", "POST"])
async def test_a_request(end, answer, opening):
    application = Recorder(answer)
    length = "Content-Length: 100\r\n" if opening == "POST" else ""
    head = f"{opening} / HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode()
    async with one_connection(application, head) as (server, client):
        await end(client, server)
    assert len(application.disconnects) == 1


@pytest.mark.parametrize("end", [fin, reset, close_frame, protocol_error, oversize], ids=lambda end: end.__name__)
async def test_an_application_that_fails_when_told(end, caplog):
    application = Recorder(raises=True)
    async with one_connection(application, UPGRADE % b"/") as (server, client):
        await client.read_until(b"\r\n\r\n")
        await end(client, server)
        await asyncio.wait_for(application.ended.wait(), DEADLINE)
        client.abort()
    assert len(application.disconnects) == 1
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
