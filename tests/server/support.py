"""A running server and raw clients for the tests: every wait has a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import re

import websockets

from fastchannels._core.http1 import Http1
from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.server import Config, Server
from fastchannels.server.stream import HttpStream

DEADLINE = 10.0


async def hello(scope, receive, send):
    """Says hello to each request, and keeps each socket until its client leaves."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serving(application=None, *, layer=None, action_logger=None, **options):
    """A server on a free port of the loopback, stopped at once when the block ends."""
    options.setdefault("port", 0)
    server = Server(Config(**options), application=application, layer=layer, action_logger=action_logger)
    await server.start()
    try:
        yield server
    finally:
        await asyncio.wait_for(server.stop(0), DEADLINE)


def port_of(server):
    return server.addresses[0][1]


class Client:
    """Raw bytes over TCP."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), DEADLINE)

    async def read_until(self, separator: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(separator), DEADLINE)

    async def read_exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), DEADLINE)

    async def read_all(self) -> bytes:
        """Until the server closes."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    async def response(self, body=True) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of the next response."""
        head = (await self.read_until(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if not body or status in (204, 304) or status < 200:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(await self.read_until(b"\r\n"), 16):
                content += (await self.read_exactly(size + 2))[:-2]
            await self.read_exactly(2)
            return status, headers, content
        if "content-length" in headers:
            return status, headers, await self.read_exactly(int(headers["content-length"]))
        return status, headers, await self.read_all()

    async def get(self, path="/", *headers: str, method="GET"):
        extra = "".join(f"{header}\r\n" for header in headers)
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{extra}\r\n".encode())
        return await self.response(body=method != "HEAD")

    def abort(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def connect(server, **options):
    """A raw connection to ``server``."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port_of(server), **options), DEADLINE)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), DEADLINE)


async def until(condition, what="the condition"):
    """Wait until ``condition()`` is true; the failure says ``what`` it was."""

    async def poll():
        while not (value := condition()):  # noqa: ASYNC110 - the conditions have no event of their own
            await asyncio.sleep(0.01)
        return value

    try:
        return await asyncio.wait_for(poll(), DEADLINE)
    except asyncio.TimeoutError:
        raise AssertionError(f"{what} did not come true in {DEADLINE} s") from None


UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text_of(page: bytes) -> str:
    """An error page without its tags."""
    return re.sub(r"<[^>]*>", " ", page.decode())


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


class Written(Http1):
    """A connection that takes what is written. Sockets are the matter of test_protocol.py."""

    def __init__(self):
        self.context = Context(Config(server_name=None))
        self.transport = self
        self.data = b""
        self.completed = 0
        self.cut = False

    def write(self, data):
        self.data += bytes(data)

    def response_complete(self, stream):
        self.completed += 1

    def abort(self):
        self.cut = True

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]


def stream_of(method="GET", version="1.1"):
    request = Request(method, "/", b"/", b"", version, [])
    request.complete = True
    connection = Written()
    return HttpStream(connection, request), connection
