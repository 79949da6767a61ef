"""Requests and WebSockets over HTTP/2 against a running server, with h2 and websockets as the client."""

from __future__ import annotations

import asyncio
import logging
import os
import resource

import pytest
from h2.settings import SettingCodes
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from fastchannels.exceptions import ClientDisconnected
from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.channel_support import ack, take
from tests.server.http2_client import http2
from tests.server.support import DEADLINE, serving, text_of, until


def answering(status=200, headers=(), body=b"ok"):
    """An application with one answer, after it has read the request."""

    async def application(scope, receive, send):
        assert scope["type"] == "http"
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return application


# ---------------------------------------------------------------------------------------------------- requests


async def test_the_scope():
    scopes = []

    async def application(scope, receive, send):
        scopes.append(scope)
        await answering()(scope, receive, send)

    async with serving(application, root_path="/root", lifespan="off") as server, http2(server) as client:
        answer = await client.get("/a%20b?q=1&x=%20", ("x-a", "1"), ("cookie", "a=b"), ("x-a", "2"), ("cookie", "c=d"))
        assert (answer.status, answer.body) == (200, b"ok")
        (scope,) = scopes
        assert {key: scope[key] for key in ("type", "http_version", "method", "path", "raw_path", "query_string")} == {
            "type": "http", "http_version": "2", "method": "GET", "path": "/a b", "raw_path": b"/a%20b",
            "query_string": b"q=1&x=%20",
        }  # fmt: skip
        assert scope["headers"] == [
            (b"host", b"host.example"), (b"x-a", b"1"), (b"x-a", b"2"), (b"cookie", b"a=b; c=d"),
        ]  # fmt: skip
        assert (scope["scheme"], scope["root_path"]) == ("http", "/root")
        assert scope["client"] == client.writer.get_extra_info("sockname")
        assert scope["server"] == client.writer.get_extra_info("peername")


async def test_many_streams_at_once():
    running, most = 0, 0

    async def application(scope, receive, send):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        await answering(body=scope["path"].encode())(scope, receive, send)
        running -= 1

    async with serving(application, lifespan="off") as server, http2(server) as client:
        numbers = [client.request(f"/{index}") for index in range(100)]
        for index, number in enumerate(numbers):
            assert (await client.answer(number)).body == b"/%d" % index
        assert most == 100


@pytest.mark.parametrize(
    ("method", "status", "headers", "body"),
    [
        ("HEAD", 200, [(b"content-length", b"2")], b"ok"),
        ("GET", 204, [], b"ignored"),
        ("GET", 304, [(b"etag", b'"a"')], b"ignored"),
        ("GET", 200, [(b"content-length", b"0")], b""),
    ],
)
async def test_answers_without_a_body(method, status, headers, body):
    async with serving(answering(status, headers, body), lifespan="off") as server, http2(server) as client:
        answer = await client.get(method=method)
        assert (answer.status, answer.body, answer.reset) == (status, b"", None)
        assert [field for field in answer.headers if field[0] in ("content-length", "etag")] == [
            (name.decode(), value.decode()) for name, value in headers
        ]
        assert answer.header("server") == "fastchannels"
        assert answer.header("date")


async def test_bodies_both_ways():
    async def echo(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"close")]})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    data = os.urandom(3 * 1024 * 1024)
    async with serving(echo, lifespan="off") as server, http2(server) as client:
        number = client.request(method="POST", end=False)
        await client.send(number, data, end=True)
        answer = await client.answer(number)
        assert answer.body == data
        assert answer.header("connection") is None


async def test_continue_and_other_interim_responses():
    async with serving(answering(), lifespan="off") as server, http2(server) as client:
        number = client.request("/", ("expect", "100-continue"), method="POST", end=False)
        await client.until(lambda: client.answers[number].interim, "100")
        await client.send(number, b"body", end=True)
        answer = await client.answer(number)
        assert answer.interim == [[(":status", "100")]]
        assert answer.status == 200


async def test_extensions_of_asgi(tmp_path):
    """Early hints leave ahead of the response, and files are sent as bodies."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300000))
    raised = asyncio.Queue()

    async def application(scope, receive, send):
        assert {"http.response.early_hint", "http.response.pathsend"} <= scope["extensions"].keys()
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(path)})
        try:
            await send({"type": "http.response.body", "body": b"too late"})
        except RuntimeError as error:
            raised.put_nowait(error)

    async with serving(application, lifespan="off") as server, http2(server) as client:
        answer = await client.get()
        assert answer.interim == [[(":status", "103"), ("link", "</a.css>; rel=preload")]]
        assert (answer.status, bytes(answer.body)) == (200, path.read_bytes())
        await asyncio.wait_for(raised.get(), DEADLINE)


@pytest.mark.parametrize("takes", [True, False])
async def test_trailers_of_a_response(takes):
    """For clients that say they take them."""

    async def application(scope, receive, send):
        assert ("http.response.trailers" in scope["extensions"]) == takes
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"X-One", b"1: 2")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-two", b"")]})

    async with serving(application, lifespan="off") as server, http2(server) as client:
        answer = await client.get("/", *([("te", "trailers")] if takes else []))
        assert (answer.body, answer.ended, answer.reset) == (b"body", True, None)
        assert answer.trailers == ([("x-one", "1: 2"), ("x-two", "")] if takes else None)


async def test_a_request_with_trailers():
    bodies = []

    async def application(scope, receive, send):
        bodies.append(await receive())
        await answering()(scope, receive, send)

    async with serving(application, lifespan="off") as server, http2(server) as client:
        number = client.request(method="POST", end=False)
        await client.send(number, b"body")
        await until(lambda: bodies, "the body")
        client.h2.send_headers(number, [("x-checksum", "1")], end_stream=True)
        client.flush()
        assert (await client.answer(number)).status == 200


async def test_an_answer_ahead_of_the_body():
    """The rest of the body is not wanted: RST_STREAM with NO_ERROR behind the whole answer."""

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 403})
        await send({"type": "http.response.body", "body": b"no"})

    async with serving(application, lifespan="off") as server, http2(server) as client:
        number = client.request(method="POST", end=False)
        await client.until(lambda: client.answers[number].reset is not None, "the reset")
        answer = client.answers[number]
        assert (answer.status, answer.body, answer.ended, answer.reset) == (403, b"no", True, 0)
        assert (await client.get()).status == 403, "the connection goes on"


@pytest.mark.parametrize(
    ("pseudo", "status"), [({"path": "/" + "a" * 20000}, 414), ({"path": "/", "extra": "b" * 70000}, 431)]
)
async def test_requests_that_are_refused(pseudo, status):
    async with serving(answering(), lifespan="off") as server, http2(server) as client:
        answer = await client.get(pseudo["path"], ("x-extra", pseudo.get("extra", "")))
        assert answer.status == status
        assert str(status) in text_of(bytes(answer.body))
        assert (await client.get()).status == 200


async def test_faults_of_the_application(caplog):
    async def application(scope, receive, send):
        if scope["path"] == "/returns":
            return
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        headers = [(b"content-length", b"5")] if scope["path"] == "/long" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/long":
            await send({"type": "http.response.body", "body": b"too much"})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.02)
        raise ZeroDivisionError

    async with serving(application, lifespan="off") as server, http2(server) as client:
        assert (await client.get("/raises")).status == 500
        assert (await client.get("/returns")).status == 500
        half = await client.get("/half")
        assert (half.status, half.body, half.ended, half.reset) == (200, b"half", False, 2), "INTERNAL_ERROR"
        long = await client.get("/long")
        assert not long.ended
        assert long.reset == 2
        assert (await client.get("/raises")).status == 500, "the connection goes on"
    assert "ZeroDivisionError" in caplog.text


async def test_a_reset_reaches_the_application_at_once():
    seen = asyncio.Queue()

    async def application(scope, receive, send):
        if scope["path"] == "/reads":
            assert (await receive())["type"] == "http.request"
            seen.put_nowait((await receive())["type"])
            return
        try:
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                await asyncio.sleep(0.01)
        except ClientDisconnected as error:
            seen.put_nowait(type(error).__name__)
            raise

    async with serving(application, lifespan="off") as server, http2(server) as client:
        number = client.request("/reads")
        ping = b"\0" * 8
        client.h2.ping(ping)
        client.flush()
        await client.until(lambda: ping in client.pings, "the ping")
        client.reset(number)
        assert await asyncio.wait_for(seen.get(), DEADLINE) == "http.disconnect"
        number = client.request("/writes")
        await client.until(lambda: client.answers[number].body, "the first piece")
        client.reset(number)
        assert await asyncio.wait_for(seen.get(), DEADLINE) == "ClientDisconnected"
        number = client.request("/reads")
        client.h2.ping(b"\1" * 8)
        client.flush()
        await client.until(lambda: b"\1" * 8 in client.pings, "the ping")
        client.abort()
        assert await asyncio.wait_for(seen.get(), DEADLINE) == "http.disconnect"


def memory():
    """Bytes of this process that are resident."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def test_a_client_that_opens_no_window_costs_no_memory():
    """``send`` waits; other streams of the same connection go on."""
    produced = 0

    async def application(scope, receive, send):
        nonlocal produced
        await send({"type": "http.response.start", "status": 200})
        if scope["path"] == "/large":
            for _ in range(30):
                await send({"type": "http.response.body", "body": bytes(1024 * 1024), "more_body": True})
                produced += 1
        await send({"type": "http.response.body", "body": b"done"})

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    async with serving(application, lifespan="off") as server, http2(server, False, settings) as client:
        assert (await client.get()).body == b"done"
        before = memory()
        number = client.request("/large")
        await client.until(lambda: len(client.answers[number].body) == 1000, "a window's worth")
        for _ in range(5):
            assert (await client.get()).body == b"done"
        assert produced <= 1
        assert memory() - before < 4 * 1024 * 1024
        client.windows = True
        client.h2.increment_flow_control_window(2**30, number)
        client.h2.increment_flow_control_window(2**30)
        client.flush()
        assert len((await client.answer(number)).body) == 30 * 1024 * 1024 + 4


async def test_an_application_that_does_not_read_costs_no_memory():
    """The client's window closes; other streams of the same connection go on."""
    gate = asyncio.Event()

    async def application(scope, receive, send):
        size = 0
        if scope["method"] == "POST":
            await gate.wait()
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % size})

    size = 32 * 1024 * 1024
    async with serving(application, lifespan="off") as server, http2(server) as client:
        before = memory()
        number = client.request(method="POST", end=False)
        sending = asyncio.ensure_future(client.send(number, bytes(size), end=True))
        await until(lambda: client.h2.local_flow_control_window(number) == 0, "the closed window")
        assert (await client.get()).body == b"0"
        assert not sending.done()
        assert memory() - before < size // 2 + 4 * 1024 * 1024, "what the client holds, and a window"
        gate.set()
        await sending
        assert (await client.answer(number)).body == b"%d" % size


async def test_streams_share_the_connection():
    """A small answer is not held up by a large one."""

    async def application(scope, receive, send):
        body = bytes(8 * 1024 * 1024) if scope["path"] == "/large" else b"small"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    async with serving(application, lifespan="off") as server, http2(server) as client:
        large = client.request("/large")
        await client.until(lambda: client.answers[large].body, "a first piece")
        assert (await client.get("/small")).body == b"small"
        assert not client.answers[large].ended
        assert len((await client.answer(large)).body) == 8 * 1024 * 1024


async def test_a_body_that_does_not_come():
    async with serving(answering(), lifespan="off", body_timeout=0.3) as server, http2(server) as client:
        number = client.request(method="POST", end=False)
        answer = await client.answer(number)
        assert answer.status == 408


async def test_a_window_that_stays_closed():
    left = asyncio.Event()

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(100000), "more_body": True})
        except ClientDisconnected:
            left.set()
            raise

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
    options = {"lifespan": "off", "write_timeout": 0.3}
    async with serving(application, **options) as server, http2(server, False, settings) as client:
        number = client.request()
        answer = await client.answer(number)
        assert (answer.status, answer.reset) == (200, 8)
        await asyncio.wait_for(left.wait(), DEADLINE)


async def test_the_access_log():
    logged = []
    async with serving(answering(), lifespan="off", action_logger=lambda *call: logged.append(call)) as server:
        async with http2(server) as client:
            await client.get("/logged?a")
            name = ":".join(map(str, client.writer.get_extra_info("sockname")))
        ((protocol, action, details),) = logged
        assert (protocol, action) == ("http", "complete")
        assert (details["path"], details["status"], details["size"]) == ("/logged?a", 200, 2)
        assert details["client"] == name


async def test_proxy_headers_are_those_of_each_stream():
    seen = []

    async def application(scope, receive, send):
        seen.append((scope["client"][0], scope["scheme"]))
        await answering()(scope, receive, send)

    async with serving(application, lifespan="off", proxy_headers=True) as server, http2(server) as client:
        await client.get("/", ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"))
        await client.get("/")
        assert seen == [("192.0.2.1", "https"), ("127.0.0.1", "http")]


# ---------------------------------------------------------------------------------------------------- channel mode


async def test_requests_in_channel_mode():
    layer = InMemoryChannelLayer()
    async with serving(layer=layer) as server, http2(server) as client:
        number = client.request("/form?a", method="POST", end=False)
        await client.send(number, b"body", end=True)
        message = await take(layer, "http.request")
        assert (message["http_version"], message["path"], message["body"]) == ("2", "/form", b"body")
        assert (b"host", b"host.example") in [tuple(header) for header in message["headers"]]
        reply = message["reply_channel"]
        await layer.send(reply, {"status": 201, "headers": [(b"X-A", b"b")], "content": b"one", "more_content": True})
        await layer.send(reply, {"content": b"two", "more_content": False})
        answer = await client.answer(number)
        assert (answer.status, answer.header("x-a"), answer.body) == (201, "b", b"onetwo")


async def test_a_reset_in_channel_mode():
    layer = InMemoryChannelLayer()
    async with serving(layer=layer) as server, http2(server) as client:
        number = client.request("/slow")
        message = await take(layer, "http.request")
        client.reset(number)
        assert (await take(layer, "http.disconnect"))["reply_channel"] == message["reply_channel"]


async def test_websockets_in_channel_mode():
    layer = InMemoryChannelLayer()
    async with serving(layer=layer) as server, http2(server) as client:
        socket = await Socket.asked(client, "/room")
        message = await take(layer, "websocket.connect")
        await ack(layer, message, {"accept": True, "text": "welcome"})
        assert await socket.receive() == "welcome"
        socket.send("hello")
        message = await take(layer, "websocket.receive")
        assert message["text"] == "hello"
        await ack(layer, message, {"bytes": b"\1", "close": 4001})
        assert await socket.receive() == b"\1"
        assert (await socket.receive()).code == 4001
        socket.flush()
        assert (await take(layer, "websocket.disconnect"))["code"] == 4001


# ---------------------------------------------------------------------------------------------------- WebSocket


class Socket:
    """A client's WebSocket over one stream."""

    def __init__(self, client, number, extensions=()):
        self.client = client
        self.number = number
        self.protocol = Protocol(CLIENT, state=OPEN)
        self.protocol.extensions = list(extensions)
        self.taken = 0
        self.frames = []

    @classmethod
    async def asked(cls, client, path="/ws", *headers, extensions=()):
        """After the server's settings, which must allow it, and a request."""
        await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1, "the setting")
        fields = [("sec-websocket-version", "13"), *headers]
        number = client.request(path, *fields, method="CONNECT", end=False, protocol="websocket")
        return cls(client, number, extensions)

    @property
    def answer(self):
        return self.client.answers[self.number]

    async def accepted(self):
        await self.client.until(lambda: self.answer.status or self.answer.over, "an answer")
        return self.answer.status

    def send(self, message):
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        self.flush()

    async def send_large(self, message):
        """As the server's windows allow."""
        opcode, data = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
        await self.client.send(self.number, Frame(opcode, data).serialize(mask=True))

    def flush(self):
        for data in self.protocol.data_to_send():
            if data:
                self.client.h2.send_data(self.number, data)
        self.client.flush()

    async def frame(self):
        """The next frame."""

        def look():
            data = bytes(self.answer.body[self.taken :])
            if data:
                self.taken += len(data)
                self.protocol.receive_data(data)
                self.frames += self.protocol.events_received()
            return self.frames or self.answer.over

        await self.client.until(look, "a frame")
        return self.frames.pop(0) if self.frames else None

    async def receive(self):
        """The next message, a ``Close``, or None at the end of the stream."""
        found = await self.frame()
        if found is None:
            return None
        if found.opcode == Opcode.CLOSE:
            return Close.parse(found.data)
        return bytes(found.data).decode() if found.opcode == Opcode.TEXT else bytes(found.data)


def echo(events=None):
    """Echoes; tells ``events`` of its scope and its end."""

    async def application(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        if events is not None:
            events.put_nowait((scope, message))

    return application


async def test_a_websocket():
    events = asyncio.Queue()
    async with serving(echo(events), lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(
            client, "/ws?a=b", ("sec-websocket-protocol", "chat, super"), ("origin", "http://a")
        )
        assert await socket.accepted() == 200
        assert socket.answer.header("sec-websocket-protocol") == "chat"
        assert socket.answer.header("sec-websocket-accept") is None
        for message in ("text", b"bytes", "", "a" * 70000, os.urandom(200000)):
            await socket.send_large(message)
            assert await socket.receive() == message
        socket.protocol.send_ping(b"are you there")
        socket.flush()
        pong = await socket.frame()
        assert (pong.opcode, pong.data) == (Opcode.PONG, b"are you there")
        socket.protocol.send_close(4000, "bye")
        socket.flush()
        assert (await socket.receive()).code == 4000
        scope, message = await asyncio.wait_for(events.get(), DEADLINE)
        assert message == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
        assert (scope["type"], scope["http_version"], scope["scheme"], scope["path"]) == ("websocket", "2", "ws", "/ws")
        assert (scope["query_string"], scope["subprotocols"]) == (b"a=b", ["chat", "super"])
        assert (b"host", b"host.example") in scope["headers"]
        await client.until(lambda: socket.answer.ended, "the end of the stream")
        client.h2.end_stream(socket.number)
        client.flush()
        assert socket.answer.reset is None


async def test_sockets_and_requests_side_by_side():
    async def application(scope, receive, send):
        await (echo() if scope["type"] == "websocket" else answering())(scope, receive, send)

    async with serving(application, lifespan="off") as server, http2(server) as client:
        sockets = [await Socket.asked(client) for _ in range(20)]
        for index, socket in enumerate(sockets):
            await socket.accepted()
            socket.send(str(index))
        for index, socket in enumerate(sockets):
            assert await socket.receive() == str(index)
        assert (await client.get()).body == b"ok"


async def test_permessage_deflate():
    offer = ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
    async with serving(echo(), lifespan="off") as server, http2(server) as client:
        deflate = PerMessageDeflate(False, False, 15, 15)
        socket = await Socket.asked(client, "/ws", offer, extensions=[deflate])
        await socket.accepted()
        assert socket.answer.header("sec-websocket-extensions").startswith("permessage-deflate")
        before = len(socket.answer.body)
        socket.send("again and " * 1000)
        assert await socket.receive() == "again and " * 1000
        assert len(socket.answer.body) - before < 1000


@pytest.mark.parametrize("end", ["END_STREAM", "RST_STREAM", "connection"])
async def test_a_socket_that_ends_without_a_close(end):
    events = asyncio.Queue()
    async with serving(echo(events), lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(client)
        await socket.accepted()
        if end == "END_STREAM":
            client.h2.end_stream(socket.number)
            client.flush()
            await client.until(lambda: socket.answer.ended, "the end of the server's side")
        elif end == "RST_STREAM":
            client.reset(socket.number)
        else:
            client.abort()
        _, message = await asyncio.wait_for(events.get(), DEADLINE)
        assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)


async def test_the_server_closes():
    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"X-Own", b"1")]})
        await send({"type": "websocket.close", "code": 4001, "reason": "over"})

    async with serving(application, lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(client)
        assert await socket.receive() == Close(4001, "over")
        assert socket.answer.header("x-own") == "1"
        socket.flush()
        await client.until(lambda: socket.answer.ended, "the end")


async def test_a_socket_whose_client_does_not_end_its_side():
    async with serving(echo(), lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(client)
        await socket.accepted()
        socket.protocol.send_close(1000, "")
        socket.flush()
        await client.until(lambda: socket.answer.reset is not None, "the reset")
        assert (socket.answer.ended, socket.answer.reset) == (True, 0)


async def test_frames_that_break_the_protocol():
    events = asyncio.Queue()
    async with serving(echo(events), lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(client)
        await socket.accepted()
        await client.send(socket.number, b"\x83\x80\0\0\0\0")
        assert (await socket.receive()).code == 1002
        assert (await asyncio.wait_for(events.get(), DEADLINE))[1]["code"] == 1002


@pytest.mark.parametrize(
    ("messages", "status", "body"),
    [
        ([{"type": "websocket.close"}], 403, None),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"b")]},
                {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
                {"type": "websocket.http.response.body", "body": b"are you?"},
            ],
            401,
            b"who are you?",
        ),
    ],
)
async def test_denials(messages, status, body):
    left = asyncio.Queue()

    async def application(scope, receive, send):
        await receive()
        for message in messages:
            await send(message)
        left.put_nowait(await receive())

    async with serving(application, lifespan="off") as server, http2(server) as client:
        socket = await Socket.asked(client)
        answer = await client.answer(socket.number)
        assert answer.status == status
        assert body is None or answer.body == body
        assert (await asyncio.wait_for(left.get(), DEADLINE))["code"] == 1006


async def test_handshakes_that_are_refused():
    async with serving(echo(), lifespan="off") as server, http2(server) as client:
        await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1, "the setting")
        number = client.request("/", ("sec-websocket-version", "8"), method="CONNECT", end=False, protocol="websocket")
        answer = await client.answer(number)
        assert (answer.status, answer.header("sec-websocket-version")) == (426, "13")
        number = client.request("/", method="CONNECT", end=False, protocol="connect-udp")
        assert (await client.answer(number)).status == 501


async def test_pings_keep_a_socket_and_silence_ends_it(caplog):
    events = asyncio.Queue()
    options = {"ping_interval": 0.2, "ping_timeout": 0.3, "lifespan": "off"}
    async with serving(echo(events), **options) as server, http2(server) as client:
        socket = await Socket.asked(client)
        for _ in range(2):
            assert (await socket.frame()).opcode == Opcode.PING
            socket.flush()
        assert (await socket.frame()).opcode == Opcode.PING
        answer = await client.answer(socket.number)
        assert answer.reset == 8
        assert (await asyncio.wait_for(events.get(), DEADLINE))[1]["code"] == 1006
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_socket_that_is_not_read_waits():
    sent = 0

    async def application(scope, receive, send):
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": bytes(100000)})
            sent += 1
        await send({"type": "websocket.close"})

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    async with serving(application, lifespan="off") as server, http2(server, False, settings) as client:
        socket = await Socket.asked(client)
        await client.until(lambda: len(socket.answer.body) == 1000, "a window's worth")
        client.h2.ping(b"12345678")
        client.flush()
        await client.until(lambda: client.pings, "the ping")
        assert sent <= 2
        client.windows = True
        client.h2.increment_flow_control_window(2**30, socket.number)
        client.h2.increment_flow_control_window(2**30)
        client.flush()
        for _ in range(100):
            assert len(await socket.receive()) == 100000
        assert (await socket.receive()).code == 1000
