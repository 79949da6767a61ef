"""Requests through channels, answered by coroutines that stand for workers."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fastchannels.envelope import ABORT
from tests.server.channel_support import (
    Layer,
    take,
)
from tests.server.support import DEADLINE, connect, port_of, serving, until


@pytest.fixture
def layer():
    return Layer()


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

    async def test_full_channel(self, caplog):
        layer = Layer(channel_capacity={"http.request": 1})
        options = {"layer": layer, "channel_full_timeout": 0.1}
        async with serving(**options) as server, connect(server) as first, connect(server) as second:
            await first.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: layer.inbox.unread("http.request"), "the request")
            status, headers, _ = await second.get()
            assert (status, headers["retry-after"]) == (503, "1")
            assert server._context.drops.counts == {"channel_full": 1}
        assert "'http.request' holds its capacity of 1 unread messages" in caplog.text

    async def test_full_channel_and_a_client_that_does_not_wait(self):
        """Its request is not put before a worker, and nobody is told of its end."""
        layer = Layer(channel_capacity={"http.request": 1})
        async with serving(layer=layer) as server, connect(server) as first, connect(server) as second:
            await first.send(b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: layer.inbox.unread("http.request"), "the request")
            lane = server._context.bridge.lanes["http.request"]
            await second.send(b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: lane.waiting, "the second request in line")
            second.abort()
            await until(lambda: not lane.waiting, "the end of the line")
            assert (await take(layer, "http.request"))["path"] == "/first"
            assert await layer.pending("http.request") == await layer.pending("http.disconnect") == 0
            assert not server._context.drops.counts

    async def test_full_channel_for_longer_than_the_layer_has(self, caplog):
        layer = Layer(channel_capacity={"http.request": 1})
        async with serving(layer=layer, layer_timeout=0.2) as server, connect(server) as client:
            await layer.send("http.request", {"other": True})
            status, headers, _ = await client.get()
            assert (status, headers["retry-after"]) == (503, "1")
            assert server._context.drops.counts == {"channel_full": 1}
            assert server._context.bridge.lanes["http.request"].waiting == 0
        assert "'http.request' holds its capacity of 1 unread messages" in caplog.text

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
