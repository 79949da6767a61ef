"""Channel mode against a real in-memory layer; the workers are coroutines that receive, answer and acknowledge."""
# ruff: noqa: SIM117 - one block for each party reads better than one line for all

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
import websockets

from fastchannels.envelope import ABORT, ACK, BUSY, EVENT, LOST, REDELIVERED, REPLIES, SESSION
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.support import DEADLINE, UPGRADE, connect, port_of, serving, until


class Layer(InMemoryChannelLayer):
    """The in-memory layer with a switch that makes its store unreachable."""

    down = False

    async def send(self, channel, message, **options):
        if self.down:
            raise LayerUnavailable("the store is away")
        await super().send(channel, message, **options)

    async def pending(self, channel):
        if self.down:
            raise LayerUnavailable("the store is away")
        return await super().pending(channel)


@pytest.fixture
def layer():
    return Layer()


async def take(layer, channel):
    return await asyncio.wait_for(layer.receive(channel), DEADLINE)


async def ack(layer, message, *replies, **session):
    """What a worker sends when a consumer returned."""
    envelope = {ACK: message[EVENT], REPLIES: list(replies)}
    if session:
        envelope[SESSION] = session["session"]
    await layer.send(message["reply_channel"], envelope)


@contextlib.asynccontextmanager
async def worker(layer, consumer, kinds=("connect", "receive", "disconnect")):
    """Runs ``await consumer(kind, message)`` for each event, acknowledging with the replies that it returns."""
    seen = []

    async def loop(kind):
        while True:
            message = await layer.receive(f"websocket.{kind}")
            seen.append((kind, message))
            await ack(layer, message, *(await consumer(kind, message) or ()))

    tasks = [asyncio.ensure_future(loop(kind)) for kind in kinds]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def accepting(kind, message):
    if kind == "connect":
        return [{"accept": True}]
    if kind == "receive":
        return [{"text": "echo " + message["text"]}]


def open_socket(server, path="/", **options):
    options.setdefault("open_timeout", DEADLINE)
    options.setdefault("close_timeout", DEADLINE)
    return websockets.connect(f"ws://127.0.0.1:{port_of(server)}{path}", **options)


def server_window(server, path):
    """The window of the socket that was opened with ``path``."""
    (found,) = [socket for socket in server._context.bridge.sockets if socket.request.path == path]
    return found.window


async def recv(client):
    return await asyncio.wait_for(client.recv(), DEADLINE)


async def status_of(server, path="/"):
    """The status of a handshake that is not accepted."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        await asyncio.wait_for(open_socket(server, path).__aenter__(), DEADLINE)
    return refused.value.response.status_code


# ---------------------------------------------------------------------------------------------------- HTTP


class TestHttp:
    async def test_message_and_answer(self, layer):
        async with serving(layer=layer, root_path="/root") as server, connect(server) as client:
            await client.send(
                b"POST /a%20b?q=%20 HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 4\r\n\r\nbody"
            )
            message = await take(layer, "http.request")
            reply = message.pop("reply_channel")
            assert reply.startswith("http.response.")
            assert message == {
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/a b",
                "query_string": b"q=%20",
                "root_path": "/root",
                "headers": [[b"host", b"h"], [b"x-one", b"1"], [b"x-one", b"2"], [b"content-length", b"4"]],
                "body": b"body",
                "client": list(client.writer.get_extra_info("sockname")[:2]),
                "server": ["127.0.0.1", port_of(server)],
            }
            await layer.send(
                reply, {"status": 201, "headers": [[b"X-A", b"1"]], "content": b"he", "more_content": True}
            )
            await layer.send(reply, {"content": b"llo"})
            status, headers, body = await client.response()
            assert (status, headers["x-a"], body) == (201, "1", b"hello")
            await client.send(b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
            message = await take(layer, "http.request")
            await layer.send(message["reply_channel"], {"status": 204})
            assert (await client.response())[0] == 204
            assert await layer.pending("http.disconnect") == 0, "only for a client that left early (D-16)"

    async def test_full_channel(self):
        layer = Layer(channel_capacity={"http.request": 1})
        async with serving(layer=layer) as server, connect(server) as first, connect(server) as second:
            await first.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: layer.inbox.unread("http.request"), "the request")
            status, headers, _ = await second.get()
            assert (status, headers["retry-after"]) == (503, "1")

    async def test_layer_away(self, layer):
        layer.down = True
        async with serving(layer=layer) as server, connect(server) as client:
            status, headers, _ = await client.get()
            assert (status, headers["retry-after"]) == (503, "1")

    async def test_layer_that_does_not_answer(self, layer, monkeypatch, caplog):
        """A layer that looks for its store for longer than a client should wait (D-41)."""
        cancelled = []

        async def search(channel, message):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(channel)

        monkeypatch.setattr(layer, "send", search)
        async with serving(layer=layer, layer_timeout=0.3, http_timeout=60) as server, connect(server) as client:
            status, headers, _ = await client.get()
            assert (status, headers["retry-after"]) == (503, "1")
            assert cancelled == ["http.request"]
            assert server._context.drops.counts == {"layer": 1}
            monkeypatch.undo()
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            message = await take(layer, "http.request")
            await asyncio.sleep(0.6)
            await layer.send(message["reply_channel"], {"status": 204})
            assert (await client.response())[0] == 204, "what the layer took has the time of http_timeout"
        assert "layer_timeout" in caplog.text

    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_response_that_its_worker_gives_up(self, layer, begun):
        """The client gets an error page, or sees that what it got is not whole."""
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            reply = (await take(layer, "http.request"))["reply_channel"]
            if begun:
                await layer.send(reply, {"status": 200, "content": b"part", "more_content": True})
                await layer.send(reply, {ABORT: True})
                with contextlib.suppress(ConnectionError):
                    assert not (await client.read_all()).endswith(b"0\r\n\r\n")
            else:
                await layer.send(reply, {ABORT: True})
                assert (await client.response())[0] == 500

    async def test_layer_that_fails(self, layer, monkeypatch, caplog):
        """Whatever goes wrong before the layer has the request, the client is answered."""

        def broken(prefix):
            raise RuntimeError("no names left")

        monkeypatch.setattr(layer, "new_local_channel", broken)
        async with serving(layer=layer) as server, connect(server) as client:
            assert (await client.get("/a"))[0] == 500
        assert "GET /a: the request could not be sent" in caplog.text

    async def test_message_too_large(self):
        async with serving(layer=Layer(max_message_size=1000)) as server, connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n" + bytes(2000))
            assert (await client.response())[0] == 413

    async def test_timeout(self, layer):
        async with serving(layer=layer, http_timeout=0.3) as server:
            async with connect(server) as client:
                assert (await client.get())[0] == 503
            async with connect(server) as client:
                await take(layer, "http.request")
                await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                message = await take(layer, "http.request")
                await layer.send(message["reply_channel"], {"status": 200, "content": b"part", "more_content": True})
                with contextlib.suppress(ConnectionError):
                    assert not (await client.read_all()).endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize("begun", [False, True])
    async def test_client_leaves_early(self, layer, begun):
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            message = await take(layer, "http.request")
            reply = message["reply_channel"]
            if begun:
                await layer.send(reply, {"status": 200, "content": b"part", "more_content": True})
                await client.read_until(b"part\r\n")
            client.abort()
            assert await take(layer, "http.disconnect") == {"reply_channel": reply, "path": "/x"}
            await layer.send(reply, {"status": 200, "content": b"late"})
            assert layer.inbox.unread(reply) == 0, "a channel that nobody reads any more holds nothing"

    async def test_long_body_in_chunks(self, layer):
        size = 3 * 1024 * 1024 + 5
        body = bytes(range(256)) * (size // 256) + bytes(5)
        async with serving(layer=layer) as server, connect(server) as client:
            sending = asyncio.ensure_future(
                client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + body)
            )
            message = await take(layer, "http.request")
            assert len(message["body"]) == 256 * 1024
            channel = message["body_channel"]
            assert channel.startswith("http.request.body?")
            got = message["body"]
            more = True
            while more:
                _, chunk = await asyncio.wait_for(
                    asyncio.to_thread(layer.receive_many, [channel], True, DEADLINE), DEADLINE
                )
                assert len(chunk["content"]) <= 256 * 1024
                got += chunk["content"]
                more = chunk["more_content"]
            assert got == body
            await sending
            await layer.send(message["reply_channel"], {"status": 200, "headers": [], "content": b"ok"})
            assert (await client.response())[2] == b"ok"

    async def test_a_full_body_channel_holds_the_client_back(self):
        layer = Layer(channel_capacity={"http.request.body*": 2})
        async with serving(layer=layer) as server, connect(server) as client:
            client.writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000000\r\n\r\n")
            client.writer.write(bytes(90000000))
            sending = asyncio.ensure_future(client.writer.drain())
            message = await take(layer, "http.request")
            connection = next(iter(server._context.connections))
            await until(lambda: connection.held, "paused reading")
            assert layer.inbox.unread(message["body_channel"]) <= 2
            sending.cancel()
            client.abort()
            closed = False
            while not closed:
                _, chunk = await asyncio.wait_for(
                    asyncio.to_thread(layer.receive_many, [message["body_channel"]], True, DEADLINE), DEADLINE
                )
                closed = chunk.get("closed", False)
            assert (await take(layer, "http.disconnect"))["path"] == "/"

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": "200", "content": b""},
            {"status": 200, "headers": [[b"a\nb", b"c"]], "content": b""},
            {"status": 200, "headers": [["a", "b"]], "content": b""},
            {"status": 200, "content": "text"},
        ],
    )
    async def test_invalid_answer(self, layer, answer, caplog):
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            message = await take(layer, "http.request")
            await layer.send(message["reply_channel"], answer)
            with contextlib.suppress(asyncio.IncompleteReadError):
                assert (await client.response())[0] == 500
            assert "invalid" in caplog.text

    async def test_second_start_and_message_without_status(self, layer, caplog):
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            message = await take(layer, "http.request")
            reply = message["reply_channel"]
            await layer.send(reply, {"content": b"no status"})
            await layer.send(reply, {"request": {"path": "/pushed"}})
            await layer.send(reply, {"type": "on_reconnect of the layer"})
            await layer.send(reply, {"status": 200, "content": b"a", "more_content": True})
            await layer.send(reply, {"type": "on_reconnect of the layer"})
            await layer.send(reply, {"status": 404, "content": b"b", "more_content": True})
            await layer.send(reply, {"content": b"c"})
            status, _, body = await client.response()
            assert (status, body) == (200, b"ac")
            assert len(caplog.records) == 2


# ---------------------------------------------------------------------------------------------------- handshake


class TestHandshake:
    async def test_connect_message(self, layer):
        async with serving(layer=layer, ws_protocols=["b"]) as server:
            opening = asyncio.ensure_future(open_socket(server, "/a%20b?q", subprotocols=["a", "b"]).__aenter__())
            message = await take(layer, "websocket.connect")
            assert message["reply_channel"].startswith("websocket.send.")
            assert (message["order"], message[EVENT]) == (0, 0)
            assert SESSION not in message
            assert (message["scheme"], message["path"], message["query_string"]) == ("ws", "/a b", b"q")
            assert [b"sec-websocket-version", b"13"] in message["headers"]
            assert message["server"] == ["127.0.0.1", port_of(server)]
            await ack(layer, message, {"accept": True})
            client = await asyncio.wait_for(opening, DEADLINE)
            assert client.subprotocol == "b"
            await client.close()

    @pytest.mark.parametrize(
        ("reply", "frames"),
        [
            ({"accept": True}, []),
            ({"accept": True, "text": "hi"}, ["hi"]),
            ({"accept": True, "bytes": b"hi"}, [b"hi"]),
            ({"accept": True, "text": ""}, [""]),
            ({"text": "hi"}, ["hi"]),
            ({"bytes": b"hi"}, [b"hi"]),
            ({"text": "hi", "bytes": None, "close": False}, ["hi"]),
            ({"text": "hi", "close": True}, ["hi", 1000]),
            ({"bytes": b"hi", "close": 4001}, [b"hi", 4001]),
            ({"accept": True, "close": 4001}, [4001]),
        ],
    )
    @pytest.mark.parametrize("enveloped", [True, False])
    async def test_accepted(self, layer, reply, frames, enveloped):
        async with serving(layer=layer) as server:
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            message = await take(layer, "websocket.connect")
            if enveloped:
                await ack(layer, message, reply)
            else:
                await layer.send(message["reply_channel"], reply)
                await ack(layer, message)
            client = await asyncio.wait_for(opening, DEADLINE)
            for frame in frames:
                if isinstance(frame, int):
                    with pytest.raises(websockets.ConnectionClosed):
                        await recv(client)
                    assert client.close_code == frame
                else:
                    assert await recv(client) == frame
            await client.close()

    @pytest.mark.parametrize(
        "reply", [{"accept": False}, {"accept": False, "text": "hi"}, {"close": True}, {"close": 4001}]
    )
    async def test_rejected(self, layer, reply):
        async with serving(layer=layer) as server:
            refused = asyncio.ensure_future(status_of(server, "/no"))
            message = await take(layer, "websocket.connect")
            await ack(layer, message, reply)
            assert await refused == 403
            end = await take(layer, "websocket.disconnect")
            assert end == {
                "reply_channel": message["reply_channel"],
                "path": "/no",
                "code": 1006,
                "order": 1,
                EVENT: 1,
            }

    @pytest.mark.parametrize(
        "replies",
        [
            [],
            [{"text": ""}],
            [{"bytes": b""}],
            [{"text": "a", "bytes": b"b"}],
            [{"unknown": 1}],
            [{"accept": None, "close": False}],
        ],
    )
    async def test_no_answer_gives_403_in_time(self, layer, replies, caplog):
        async with serving(layer=layer, websocket_connect_timeout=0.3) as server:
            refused = asyncio.ensure_future(status_of(server))
            message = await take(layer, "websocket.connect")
            await ack(layer, message, *replies)
            assert await refused == 403
            assert (await take(layer, "websocket.disconnect"))["code"] == 1006
        bad = bool(replies) and ("unknown" in replies[0] or (len(replies[0]) == 2 and "text" in replies[0]))
        assert bool([record for record in caplog.records if record.levelno == logging.ERROR]) is bad

    async def test_accept_then_a_second_message(self, layer):
        async with serving(layer=layer) as server:
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            message = await take(layer, "websocket.connect")
            await ack(layer, message, {"accept": True}, {"accept": False, "text": "still open"})
            client = await asyncio.wait_for(opening, DEADLINE)
            assert await recv(client) == "still open"
            await client.close()

    async def test_another_consumer_answers_later(self, layer):
        async with serving(layer=layer) as server:
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            message = await take(layer, "websocket.connect")
            await ack(layer, message)
            assert not opening.done()
            await layer.send(message["reply_channel"], {"accept": True})
            await (await asyncio.wait_for(opening, DEADLINE)).close()

    async def test_disconnect_waits_for_the_connect_consumer(self, layer):
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            message = await take(layer, "websocket.connect")
            client.abort()
            await until(lambda: not server._context.connections, "the loss")
            assert await layer.pending("websocket.disconnect") == 0
            await ack(layer, message, {"accept": True})
            assert (await take(layer, "websocket.disconnect"))["order"] == 1

    async def test_full_connect_channel(self):
        layer = Layer(channel_capacity={"websocket.connect": 1})
        await layer.send("websocket.connect", {"other": True})
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            status, headers, _ = await client.response()
            assert (status, headers["retry-after"]) == (503, "1")
            await until(lambda: not server._context.bridge.sockets, "the end of the socket")
            assert await layer.pending("websocket.disconnect") == 0, "nobody was told of this socket"

    async def test_layer_away_during_the_handshake(self, layer):
        async with serving(layer=layer) as server:
            layer.down = True
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            await until(lambda: server._context.bridge.sockets, "the socket")
            layer.down = False
            message = await take(layer, "websocket.connect")
            await ack(layer, message, {"accept": True})
            await (await asyncio.wait_for(opening, DEADLINE)).close()


# ---------------------------------------------------------------------------------------------------- open sockets


class TestSocket:
    async def test_events_in_order_with_one_in_flight(self, layer):
        inside = 0
        most = 0

        async def consumer(kind, message):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            return await accepting(kind, message)

        async with serving(layer=layer) as server, worker(layer, consumer) as seen:
            async with open_socket(server, "/room") as client:
                for number in range(200):
                    await client.send(str(number))
                for number in range(200):
                    assert await recv(client) == f"echo {number}"
            await until(lambda: seen[-1][0] == "disconnect", "the disconnect")
            await until(lambda: not server._context.bridge.sockets, "its acknowledgement")
        assert most == 1
        assert [message["order"] for _, message in seen] == list(range(202))
        assert [message[EVENT] for _, message in seen] == list(range(202))
        reply = seen[0][1]["reply_channel"]
        assert seen[1][1] == {"reply_channel": reply, "path": "/room", "text": "0", "order": 1, EVENT: 1}
        assert seen[-1][1] == {"reply_channel": reply, "path": "/room", "code": 1000, "order": 201, EVENT: 201}

    async def test_bytes(self, layer):
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send(b"\x00\xff")
                message = await take(layer, "websocket.receive")
                assert message["bytes"] == b"\x00\xff"
                assert "text" not in message
                await ack(layer, message, {"bytes": b"\xff"}, {"text": "ä"}, {"text": ""})
                assert [await recv(client) for _ in range(3)] == [b"\xff", "ä", ""]

    async def test_session_travels_with_the_events(self, layer):
        async with serving(layer=layer) as server:
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            message = await take(layer, "websocket.connect")
            await ack(layer, message, {"accept": True}, session=b"one")
            client = await asyncio.wait_for(opening, DEADLINE)
            await client.send("a")
            message = await take(layer, "websocket.receive")
            assert message[SESSION] == b"one"
            await ack(layer, message)
            await client.send("b")
            message = await take(layer, "websocket.receive")
            assert message[SESSION] == b"one"
            stale = message
            await ack(layer, message, session=b"two")
            await client.send("c")
            message = await take(layer, "websocket.receive")
            await ack(layer, stale, session=b"stale")
            await ack(layer, message)
            await client.close()
            assert (await take(layer, "websocket.disconnect"))[SESSION] == b"two"

    @pytest.mark.parametrize(
        "reply",
        [
            {"text": "x", "bytes": b"x"},
            {"text": b"x"},
            {"bytes": "x"},
            {"close": 1001, "text": "x"},
            {"close": 5000},
            {"close": "yes"},
            {"unknown": 1, "text": "x"},
        ],
    )
    async def test_invalid_replies_are_logged_and_ignored(self, layer, reply, caplog):
        async with serving(layer=layer) as server, worker(layer, accepting) as seen:
            async with open_socket(server) as client:
                channel = seen[0][1]["reply_channel"]
                await layer.send(channel, reply)
                await layer.send(channel, {"accept": True, "text": "still open"})
                assert await recv(client) == "still open"
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    @pytest.mark.parametrize(("close", "code"), [(True, 1000), (1000, 1000), (4321, 4321)])
    async def test_close_by_the_worker(self, layer, close, code):
        async def consumer(kind, message):
            return [{"accept": True, "text": "bye", "close": close}] if kind == "connect" else None

        async with serving(layer=layer) as server, worker(layer, consumer) as seen:
            async with open_socket(server) as client:
                assert await recv(client) == "bye"
                with pytest.raises(websockets.ConnectionClosed):
                    await recv(client)
                assert client.close_code == code
                await until(lambda: len(seen) == 2, "the disconnect")
        assert (seen[1][1]["code"], seen[1][1]["order"]) == (code, 1)

    async def test_group_message_reaches_all_members(self, layer):
        async def consumer(kind, message):
            if kind == "connect":
                await layer.group_add("room", message["reply_channel"])
                return [{"accept": True}]
            if kind == "receive":
                await layer.group_send("room", {"text": message["text"]})
                return None
            await layer.group_discard("room", message["reply_channel"])

        async with serving(layer=layer) as server, worker(layer, consumer):
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(open_socket(server)) for _ in range(5)]
                for text in ("a", "b"):
                    await clients[0].send(text)
                    assert [await recv(client) for client in clients] == [text] * 5
            await until(lambda: not server._context.bridge.sockets, "the end")
        assert len(layer.groups.members("room")) == 0

    async def test_lagging_worker_stops_the_reading_of_its_socket_only(self, layer):
        count = 3000
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server, "/slow") as slow, open_socket(server, "/fast") as fast:
                held = next(c for c in server._context.connections if c.websocket.request.path == "/slow")

                async def produce():
                    for number in range(count):
                        await slow.send(f"{number} " + "x" * 2000)

                producing = asyncio.ensure_future(produce())
                first = await take(layer, "websocket.receive")
                await until(lambda: held.held, "paused reading")
                assert len(held.websocket.window._waiting) < 400
                await fast.send("fast")
                message = await take(layer, "websocket.receive")
                assert message["path"] == "/fast"
                await ack(layer, message)
                await ack(layer, first)
                for number in range(1, count):
                    message = await take(layer, "websocket.receive")
                    assert message["text"].split()[0] == str(number)
                    await ack(layer, message)
                await asyncio.wait_for(producing, DEADLINE)

    async def test_dead_worker_whose_route_does_not_redeliver(self, layer, caplog):
        async with serving(layer=layer, ack_timeout=0.2) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("taken by one that dies")
                await take(layer, "websocket.receive")
                await client.send("next")
                again = await take(layer, "websocket.receive")
                assert (again["text"], again["order"], again[REDELIVERED]) == ("taken by one that dies", 1, 1)
                await layer.send(again["reply_channel"], {ACK: again[EVENT], REPLIES: [], LOST: True})
                message = await take(layer, "websocket.receive")
                assert (message["text"], message["order"]) == ("next", 2)
                assert REDELIVERED not in message
                await ack(layer, message, {"text": "ok"})
                assert await recv(client) == "ok"
            await until(lambda: not server._context.bridge.sockets, "the end")
            assert server._context.bridge.dropped == {"worker": 1}
        assert "websocket.receive 1 of / " in caplog.text
        assert "its route does not redeliver" in caplog.text

    async def test_dead_worker_whose_route_redelivers(self, layer):
        async with serving(layer=layer, ack_timeout=0.2) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("hi")
                for _ in range(3):
                    await take(layer, "websocket.receive")
                again = await take(layer, "websocket.receive")
                assert again[REDELIVERED] == 3
                await ack(layer, again, {"text": "ok"})
                assert await recv(client) == "ok"
            await until(lambda: not server._context.bridge.sockets, "the end")
            assert server._context.bridge.dropped == {}

    async def test_dead_worker_behind_which_others_always_wait(self, layer):
        """What waits on the channel says nothing of an event that was before it."""
        async with serving(layer=layer, ack_timeout=0.2) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server, "/dead") as dead, open_socket(server, "/busy") as busy:
                await dead.send("taken by one that dies")
                await take(layer, "websocket.receive")
                loop = asyncio.get_running_loop()
                deadline = loop.time() + DEADLINE
                # A backlog that never ends, of another server's sockets.
                await layer.send("websocket.receive", {"path": "/other"})
                while (message := await take(layer, "websocket.receive"))["path"] != "/dead":
                    assert loop.time() < deadline
                    await layer.send("websocket.receive", {"path": "/other"})
                    if message["path"] == "/busy":
                        await ack(layer, message)
                    if not server_window(server, "/busy").current:
                        await busy.send("x")
                    await asyncio.sleep(0.02)
                assert message[REDELIVERED] == 1
                await ack(layer, message)
                while (message := await layer.receive("websocket.receive"))["path"] == "/busy":
                    await ack(layer, message)

    async def test_workers_that_always_die(self, layer, caplog):
        async with serving(layer=layer, ack_timeout=0.2) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("deadly")
                for _ in range(4):
                    await take(layer, "websocket.receive")
                await client.send("next")
                assert (await take(layer, "websocket.receive"))["text"] == "next"
                assert server._context.bridge.sockets.copy().pop().window.dropped == {"worker": 1}
        assert "is dropped: its worker gave no sign of life" in caplog.text

    async def test_a_consumer_that_failed_ends_its_socket(self, layer):
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("hi")
                message = await take(layer, "websocket.receive")
                await ack(layer, message, {"text": "first"}, {ABORT: True})
                assert await recv(client) == "first"
                with pytest.raises(websockets.ConnectionClosed):
                    await recv(client)
                assert client.close_code == 1011

    async def test_a_connect_consumer_that_failed_is_a_500(self, layer):
        async def failing(kind, message):
            return [{ABORT: True}] if kind == "connect" else None

        async with serving(layer=layer) as server, worker(layer, failing, ["connect", "disconnect"]):
            assert await status_of(server) == 500

    async def test_busy_worker_is_waited_for_and_late_replies_arrive(self, layer, caplog):
        async with serving(layer=layer, ack_timeout=0.4) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("long")
                message = await take(layer, "websocket.receive")
                await client.send("next")
                for _ in range(12):
                    await layer.send(message["reply_channel"], {BUSY: message[EVENT]})
                    await asyncio.sleep(0.1)
                assert await layer.pending("websocket.receive") == 0
                await ack(layer, message, {"text": "done"})
                assert await recv(client) == "done"
                later = await take(layer, "websocket.receive")
                await ack(layer, message, {"text": "late reply of an old event"})
                assert await recv(client) == "late reply of an old event"
                assert later["text"] == "next"
                await ack(layer, later)
        assert caplog.text == ""

    async def test_events_waiting_in_the_layer_are_not_dropped(self, layer):
        async with serving(layer=layer, ack_timeout=0.1) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with open_socket(server) as client:
                await client.send("no worker yet")
                await asyncio.sleep(1.0)
                message = await take(layer, "websocket.receive")
                await ack(layer, message, {"text": "served"})
                assert await recv(client) == "served"
            await until(lambda: not server._context.bridge.sockets, "the end")
            assert not server._context.bridge.dropped

    async def test_layer_away_keeps_the_socket_and_its_events(self, layer):
        async with serving(layer=layer, ack_timeout=0.1) as server, worker(layer, accepting):
            async with open_socket(server) as client:
                await client.send("1")
                assert await recv(client) == "echo 1"
                layer.down = True
                await client.send("2")
                await client.send("3")
                await asyncio.wait_for(await client.ping(), DEADLINE)
                layer.down = False
                assert await recv(client) == "echo 2"
                assert await recv(client) == "echo 3"

    async def test_full_receive_channel_is_waited_for(self):
        layer = Layer(channel_capacity={"websocket.receive": 1})
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "disconnect"]):
            await layer.send("websocket.receive", {"other": True})
            async with open_socket(server) as client:
                await client.send("patient")
                await asyncio.wait_for(await client.ping(), DEADLINE)
                assert await take(layer, "websocket.receive") == {"other": True}
                message = await take(layer, "websocket.receive")
                await ack(layer, message, {"text": "ok"})
                assert await recv(client) == "ok"

    async def test_receive_channel_that_stays_full(self):
        layer = Layer(channel_capacity={"websocket.receive": 1, "websocket.disconnect": 1})
        async with (
            serving(layer=layer, channel_full_timeout=0) as server,
            worker(layer, accepting, ["connect"]) as seen,
        ):
            await layer.send("websocket.receive", {"other": True})
            await layer.send("websocket.disconnect", {"other": True})
            async with open_socket(server) as client:
                await client.send("lost")
                with pytest.raises(websockets.ConnectionClosed):
                    await recv(client)
                assert client.close_code == 1013
            await until(lambda: not server._context.connections, "the close")
            assert await take(layer, "websocket.disconnect") == {"other": True}
            message = await take(layer, "websocket.disconnect")
            assert (message["code"], message["order"]) == (1013, 1)
            assert message["reply_channel"] == seen[0][1]["reply_channel"]

    async def test_event_too_large_for_the_layer(self):
        layer = Layer(max_message_size=2000)
        async with serving(layer=layer) as server, worker(layer, accepting) as seen, open_socket(server) as client:
            await client.send("x" * 3000)
            with pytest.raises(websockets.ConnectionClosed):
                await recv(client)
            assert client.close_code == 1009
            await until(lambda: len(seen) == 2, "the disconnect")
            assert (seen[1][1]["code"], seen[1][1]["order"]) == (1009, 1)

    async def test_replies_to_a_closed_socket_are_ignored_and_the_channel_forgotten(self, layer):
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "receive"]) as seen:
            async with open_socket(server):
                pass
            message = await take(layer, "websocket.disconnect")
            reply = seen[0][1]["reply_channel"]
            await layer.group_add("room", reply)
            await layer.send(reply, {"text": "too late"})
            await ack(layer, message)
            await until(lambda: not server._context.bridge.sockets, "the end")
            assert len(layer.groups.members("room")) == 0
            await layer.send(reply, {"text": "much too late"})
            assert layer.inbox.unread(reply) == 0

    async def test_slow_client_pauses_its_channel_and_keeps_its_event(self):
        layer = Layer(channel_capacity={"websocket.send.*": 20})
        async with serving(layer=layer, ack_timeout=0.2) as server, worker(layer, accepting) as seen:
            async with connect(server, limit=1024) as client:
                await client.send(UPGRADE % b"/")
                await client.read_until(b"\r\n\r\n")
                connection = next(iter(server._context.connections))
                reply = seen[0][1]["reply_channel"]
                await layer.group_add("room", reply)
                for _ in range(200):
                    await layer.group_send("room", {"bytes": bytes(100_000)})
                    await asyncio.sleep(0)
                assert connection.write_paused
                assert layer.inbox.unread(reply) == 20
                assert connection.transport.get_write_buffer_size() < 1024 * 1024
                await client.send(b"\x81\x82\0\0\0\0hi")
                await until(lambda: connection.websocket.window.ready, "its event")
                assert layer.inbox.unread("websocket.receive") == 0, "it waits for the client to read"
                client.writer.transport.resume_reading()
                drained = b""
                while b"echo hi" not in drained:
                    drained = drained[-10:] + await asyncio.wait_for(client.reader.read(1 << 20), DEADLINE)
                client.abort()
                await until(lambda: seen[-1][0] == "disconnect", "the disconnect")
            await until(lambda: not server._context.bridge.sockets, "the end")
            assert not server._context.bridge.dropped

    async def test_server_stop_tells_the_workers(self, layer):
        async with serving(layer=layer) as server, worker(layer, accepting) as seen:
            async with open_socket(server) as client:
                stopping = asyncio.ensure_future(server.stop())
                with pytest.raises(websockets.ConnectionClosed):
                    await recv(client)
                assert client.close_code == 1012
                await asyncio.wait_for(stopping, DEADLINE)
            await until(lambda: seen[-1][0] == "disconnect", "the disconnect")
            assert seen[-1][1]["code"] == 1012

    async def test_server_stop_does_not_wait_for_a_worker_that_is_away(self, layer):
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect"]):
            async with open_socket(server) as client:
                await client.send("nobody takes it")
                await until(lambda: layer.inbox.unread("websocket.receive"), "the event")
                await asyncio.wait_for(server.stop(0.3), DEADLINE)
            message = await take(layer, "websocket.disconnect")
            assert (message["code"], message["order"]) == (1012, 2)
