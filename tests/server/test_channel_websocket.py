"""Sockets through channels, served by coroutines that stand for workers."""
# ruff: noqa: SIM117 - one block for each party reads better than one line for all

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
import websockets

from fastchannels.envelope import ABORT, ACK, BUSY, EVENT, LOST, REDELIVERED, REPLIES, SESSION
from tests.server.channel_support import (
    Layer,
    accepting,
    ack,
    open_socket,
    recv,
    server_window,
    status_of,
    take,
    worker,
)
from tests.server.support import DEADLINE, UPGRADE, connect, port_of, serving, until


@pytest.fixture
def layer():
    return Layer()


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

    @pytest.mark.parametrize("limit", ["channel_full_timeout", "websocket_connect_timeout"])
    async def test_full_connect_channel(self, limit, caplog):
        layer = Layer(channel_capacity={"websocket.connect": 1})
        await layer.send("websocket.connect", {"other": True})
        async with serving(layer=layer, **{limit: 0.1}) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            status, headers, _ = await client.response()
            assert (status, headers["retry-after"]) == (503, "1")
            await until(lambda: not server._context.bridge.sockets, "the end of the socket")
            assert await layer.pending("websocket.disconnect") == 0, "nobody was told of this socket"
            assert server._context.drops.counts == {"channel_full": 1}
        assert "'websocket.connect' holds its capacity of 1 unread messages" in caplog.text

    async def test_full_connect_channel_that_gets_room(self):
        """The worker has all of its time, however long the handshake stood in line."""
        layer = Layer(channel_capacity={"websocket.connect": 1})
        await layer.send("websocket.connect", {"other": True})
        async with serving(layer=layer, websocket_connect_timeout=1.0) as server:
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            await until(lambda: server._context.bridge.lanes["websocket.connect"].waiting, "the handshake in line")
            await asyncio.sleep(0.7)
            assert await take(layer, "websocket.connect") == {"other": True}
            message = await take(layer, "websocket.connect")
            await asyncio.sleep(0.7)
            await ack(layer, message, {"accept": True})
            await (await asyncio.wait_for(opening, DEADLINE)).close()

    async def test_full_connect_channel_and_a_client_that_does_not_wait(self):
        layer = Layer(channel_capacity={"websocket.connect": 1})
        await layer.send("websocket.connect", {"other": True})
        async with serving(layer=layer) as server, connect(server) as client:
            await client.send(UPGRADE % b"/")
            await until(lambda: server._context.bridge.lanes["websocket.connect"].waiting, "the handshake in line")
            client.abort()
            await until(lambda: not server._context.bridge.sockets, "the end of the socket")
            assert await layer.pending("websocket.connect") == 1, "no worker is told of it"
            assert await layer.pending("websocket.disconnect") == 0
            assert server._context.bridge.dropped == {"left": 1}
            assert not server._context.drops.counts

    async def test_layer_away_for_the_whole_handshake(self, layer):
        async with serving(layer=layer, websocket_connect_timeout=0.1) as server, connect(server) as client:
            layer.down = True
            await client.send(UPGRADE % b"/")
            status, headers, _ = await client.response()
            assert (status, headers["retry-after"]) == (503, "1")
            assert server._context.drops.counts == {"layer": 1}

    async def test_layer_away_during_the_handshake(self, layer):
        async with serving(layer=layer) as server:
            layer.down = True
            opening = asyncio.ensure_future(open_socket(server).__aenter__())
            await until(lambda: server._context.bridge.sockets, "the socket")
            layer.down = False
            message = await take(layer, "websocket.connect")
            await ack(layer, message, {"accept": True})
            await (await asyncio.wait_for(opening, DEADLINE)).close()


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

    async def test_a_worker_that_dies_with_many_events_is_one_line_in_the_log(self, layer, caplog):
        async with serving(layer=layer) as server, worker(layer, accepting, ["connect", "disconnect"]):
            async with contextlib.AsyncExitStack() as stack:
                for client in [await stack.enter_async_context(open_socket(server)) for _ in range(5)]:
                    await client.send("lost")
                for _ in range(5):
                    message = await take(layer, "websocket.receive")
                    await layer.send(message["reply_channel"], {ACK: message[EVENT], REPLIES: [], LOST: True})
                fates = server._context.bridge.fates
                await until(lambda: fates.counts.total() == 5, "their loss")
                assert caplog.text.count("is lost with its worker: its route does not redeliver\n") == 1
                await until(lambda: "(4 more like it)" in caplog.text or "(3 more like it)" in caplog.text, "the count")

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
        full = {"websocket.receive", "websocket.disconnect"}

        class Full(Layer):
            async def send(self, channel, message, **options):
                if channel in full:
                    raise self.ChannelFull("no room")
                await super().send(channel, message, **options)

        layer = Full(expiry=2)
        async with (
            serving(layer=layer) as server,
            worker(layer, accepting, ["connect"]) as seen,
        ):
            async with open_socket(server) as client:
                await client.send("lost")
                with pytest.raises(websockets.ConnectionClosed):
                    await recv(client)
                assert client.close_code == 1013
            assert server._context.drops.counts == {"channel_full": 1}
            await until(lambda: not server._context.connections, "the close")
            full.clear()
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

    async def test_slow_client_keeps_its_event(self, layer):
        async with serving(layer=layer, ack_timeout=0.2, ws_write_budget=0) as server, worker(layer, accepting) as seen:
            async with connect(server, limit=1024) as client:
                await client.send(UPGRADE % b"/")
                await client.read_until(b"\r\n\r\n")
                connection = next(iter(server._context.connections))
                await layer.group_add("room", seen[0][1]["reply_channel"])
                for _ in range(200):
                    await layer.group_send("room", {"bytes": bytes(100_000)})
                    await asyncio.sleep(0)
                assert connection.write_paused
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

    @pytest.mark.parametrize("policy", ["close", "drop_oldest", "latest"])
    async def test_a_member_that_reads_too_slowly_holds_up_no_other(self, layer, policy):
        count, budget = 300, 256 * 1024
        options = {"ws_write_budget": budget, "ws_slow_client": policy}
        async with serving(layer=layer, **options) as server, worker(layer, accepting) as seen:
            async with connect(server, limit=65536) as slow, open_socket(server, "/fast", max_queue=None) as fast:
                await slow.send(UPGRADE % b"/slow")
                await slow.read_until(b"\r\n\r\n")
                await until(lambda: len(seen) == 2, "both sockets")
                for _, message in seen:
                    await layer.group_add("room", message["reply_channel"])
                stream = next(c.websocket for c in server._context.connections if c.websocket.request.path == "/slow")
                for number in range(count):
                    await layer.group_send("room", {"bytes": b"%08d" % number + bytes(64 * 1024)})
                    assert (await recv(fast))[:8] == b"%08d" % number
                counts = server._context.drops.counts
                numbers = []
                while True:
                    first, size = await slow.read_exactly(2)
                    if first == 0x88:
                        code = int.from_bytes((await slow.read_exactly(size))[:2], "big")
                        break
                    length = int.from_bytes(await slow.read_exactly(8 if size == 127 else 2), "big")
                    numbers.append(int((await slow.read_exactly(length))[:8]))
                    if numbers[-1] == count - 1:
                        code = None
                        break
                assert numbers == sorted(set(numbers))
                if policy == "close":
                    assert code == 1013
                    assert numbers == list(range(len(numbers)))
                    assert counts["slow_client_closed"] == 1
                else:
                    assert code is None
                    assert counts["slow_client_dropped"] == count - len(numbers) > 0
                    await until(lambda: stream.backlog is None, "the end of the backlog")

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
