"""A group's message on its way to sockets of every kind, over the real server in channel mode."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
import websockets

from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer
from tests.server.certificates import Authority
from tests.server.channel_support import open_socket, recv, worker
from tests.server.http2_client import http2
from tests.server.support import DEADLINE, UPGRADE, connect, port_of, serving, until
from tests.server.test_http2_stream import Socket

LARGE = 64 * 1024


@pytest.fixture(params=["memory", "local"])
async def layer(request, tmp_path):
    made = InMemoryChannelLayer() if request.param == "memory" else LocalChannelLayer(path=tmp_path / "layer")
    yield made
    await made.close()


async def room(kind, message):
    """A consumer that accepts, and answers."""
    if kind == "connect":
        return [{"accept": True}]
    if kind == "receive":
        return [{"text": "direct " + message["text"]}]


async def enter_room(layer, seen, count):
    """The reply channels of ``count`` sockets, from now on in the room."""
    await until(lambda: sum(kind == "connect" for kind, _ in seen) == count, f"{count} sockets")
    names = [message["reply_channel"] for kind, message in seen if kind == "connect"]
    for name in names:
        await layer.group_add("room", name)
    return names


@contextlib.asynccontextmanager
async def entered(layer, count):
    """The server, what its worker sees, and ``count`` clients in the room, with their reply channels."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(layer=layer))
        seen = await stack.enter_async_context(worker(layer, room))
        clients = [await stack.enter_async_context(open_socket(server, f"/{n}")) for n in range(count)]
        await enter_room(layer, seen, count)
        names = {message["path"]: message["reply_channel"] for kind, message in seen if kind == "connect"}
        yield server, seen, clients, [names[f"/{n}"] for n in range(count)]


class TestKinds:
    """Plain, compressed, TLS and HTTP/2 sockets in one room."""

    async def test_all_get_the_same_in_order(self, layer, tmp_path):
        authority = Authority(tmp_path)
        certificate, key = authority.issue("localhost")
        context = ssl.create_default_context(cafile=str(authority.path))
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            seen = await enter(worker(layer, room))
            server = await enter(serving(layer=layer))
            secure = await enter(serving(layer=layer, ssl_certfile=certificate, ssl_keyfile=key))
            url = f"wss://localhost:{port_of(secure)}/"
            options = {"ssl": context, "host": "127.0.0.1", "open_timeout": DEADLINE, "proxy": None}
            clients = [
                await enter(open_socket(server, compression=None)),
                await enter(open_socket(server)),
                await enter(websockets.connect(url, compression=None, **options)),
                await enter(websockets.connect(url, **options)),
            ]
            client = await enter(http2(server))
            stream = await Socket.asked(client)
            assert await stream.accepted() == 200
            names = await enter_room(layer, seen, 5)
            texts = [f"{number} " + "x" * (LARGE if number % 4 == 1 else 200) for number in range(12)]
            for number, text in enumerate(texts):
                await layer.group_send("room", {"text": text})
                if number % 3 == 2:
                    for name in names:
                        await layer.send(name, {"text": f"own {number}"})
            wanted = []
            for number, text in enumerate(texts):
                wanted.append(text)
                if number % 3 == 2:
                    wanted.append(f"own {number}")
            for each in clients:
                assert [await recv(each) for _ in wanted] == wanted
            for text in wanted:
                assert (await stream.frame()).data == text.encode()


class TestChanges:
    async def test_direct_and_group_messages_keep_their_order(self, layer):
        async with serving(layer=layer) as server, worker(layer, room) as seen, open_socket(server) as client:
            (name,) = await enter_room(layer, seen, 1)
            for number in range(300):
                if number % 3:
                    await layer.group_send("room", {"text": str(number)})
                else:
                    await layer.send(name, {"text": str(number)})
                if number % 7 == 0:
                    await asyncio.sleep(0)
            assert [await recv(client) for _ in range(300)] == [str(number) for number in range(300)]

    async def test_the_sender_is_spared_and_others_hear_once(self, layer):
        async with entered(layer, 4) as (_, _, clients, names):
            for n in (1, 2):
                await layer.group_add("more", names[n])
            await layer.group_send(["room", "more"], {"text": "all"}, exclude=names[0])
            await layer.group_send("room", {"text": "end"})
            got = [[await recv(client)] for client in clients]
            for client, heard in zip(clients[1:], got[1:], strict=True):
                heard.append(await recv(client))
            assert got == [["end"], ["all", "end"], ["all", "end"], ["all", "end"]]

    async def test_members_close_and_leave_while_messages_are_written(self, layer):
        async with entered(layer, 8) as (server, _, clients, names):
            streams = {s.request.path: s for s in server._context.bridge.sockets}
            for number in range(40):
                await layer.group_send("room", {"text": str(number)})
                if number == 10:
                    await layer.group_discard("room", names[0])
                elif number == 20:
                    await layer.send(names[1], {"close": True})
                    streams["/2"].connection.abort()
                elif number == 30:
                    streams["/3"].connection.transport.close()
                if number % 4 == 0:
                    await asyncio.sleep(0)
            await layer.send(names[0], {"text": "end"})
            assert [await recv(clients[0]) for _ in range(12)] == [*map(str, range(11)), "end"]
            heard = [message async for message in client_messages(clients[1])]
            assert heard == [str(number) for number in range(21)]
            assert clients[1].close_code == 1000
            for n in (2, 3):
                heard = [message async for message in client_messages(clients[n])]
                assert heard == [str(number) for number in range(len(heard))]
            for client in clients[4:]:
                assert [await recv(client) for _ in range(40)] == [str(number) for number in range(40)]

    async def test_text_and_close_for_all_is_framed_once_and_closes_each(self, layer):
        async with entered(layer, 3) as (_, seen, clients, _):
            await layer.group_send("room", {"text": "bye", "close": 4000})
            for client in clients:
                assert [message async for message in client_messages(client)] == ["bye"]
                assert client.close_code == 4000
            await until(lambda: sum(kind == "disconnect" for kind, _ in seen) == 3, "the ends")

    async def test_one_that_has_not_answered_its_handshake_is_accepted_by_the_first_message(self, layer):
        joined = asyncio.Event()

        async def silent(kind, message):
            if kind == "connect":
                await layer.group_add("room", message["reply_channel"])
                joined.set()

        async with serving(layer=layer) as server, worker(layer, silent), connect(server) as client:
            await client.send(UPGRADE % b"/")
            await asyncio.wait_for(joined.wait(), DEADLINE)
            await layer.group_send("room", {"text": "hi"})
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await client.read_exactly(4) == b"\x81\x02hi"


async def client_messages(client):
    """What comes until the close."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            yield await recv(client)
