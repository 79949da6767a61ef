"""Ready messages of groups to the sockets of Channels 4 consumers, past the consumers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest
import websockets
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import InMemoryChannelLayer as OtherLayer
from channels.layers import channel_layers

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.native import AsyncNativeGroups, NativeGroups
from tests.flows.processes import ROOT, Process, eventually, free_port
from tests.server.certificates import Authority
from tests.server.http2_client import http2
from tests.server.support import DEADLINE, UPGRADE, connect, open_socket, port_of, serving, until
from tests.server.test_http2_stream import Socket

if sys.version_info < (3, 11):
    # asyncio's TLS transports do not know there that their other end has closed them.
    pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

READY = {"type": "websocket.send", "text": "ready"}


class Chat(AsyncNativeGroups, AsyncWebsocketConsumer):
    """Counts what it is woken for."""

    woken: list[str] = []
    codes: list[int] = []

    async def connect(self):
        await self.group_join_native("room")
        await self.accept()

    async def dispatch(self, message):
        self.woken.append(message["type"])
        await super().dispatch(message)

    async def chat_message(self, event):
        await self.send(text_data="handled " + event["text"])

    async def receive(self, text_data=None, bytes_data=None):
        if text_data == "leave":
            await self.group_leave_native("room")
            await self.send(text_data="left")
        else:
            await self.channel_layer.group_send("room", {**READY, "text": text_data}, exclude=self.channel_name)
            await self.send(text_data="said")

    async def disconnect(self, code):
        self.codes.append(code)


class SyncChat(NativeGroups, WebsocketConsumer):
    woken: list[str] = []

    def connect(self):
        self.group_join_native("room")
        self.accept()

    def chat_message(self, event):
        self.woken.append(event["type"])
        self.send(text_data="handled " + event["text"])

    def websocket_send(self, event):
        self.woken.append(event["type"])
        super().websocket_send(event)

    def receive(self, text_data=None, bytes_data=None):
        self.group_leave_native("room")
        self.send(text_data="left")


@contextlib.contextmanager
def layer_is(layer):
    """Channels' default layer."""
    old = channel_layers.set("default", layer)
    try:
        yield layer
    finally:
        channel_layers.backends.pop("default", None)
        if old is not None:
            channel_layers.set("default", old)


@pytest.fixture(params=["memory", "local"])
async def layer(request, tmp_path):
    made = InMemoryChannelLayer() if request.param == "memory" else LocalChannelLayer(path=tmp_path / "layer")
    Chat.woken = []
    Chat.codes = []
    SyncChat.woken = []
    with layer_is(made):
        yield made
        await made.close()


async def recv(client):
    return await asyncio.wait_for(client.recv(), DEADLINE)


async def members(layer, count):
    await until(lambda: len(layer.groups.members("room")) == count, f"{count} members")
    await idle(layer)


async def idle(layer):
    """All consumers wait for messages."""
    await until(lambda: len(layer.inbox.waiters()) == len(layer.groups.members("room")), "consumers that wait")


async def test_ready_messages_wake_nobody_and_others_do(layer):
    async with serving(Chat.as_asgi()) as server:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(open_socket(server)) for _ in range(3)]
            await members(layer, 3)
            Chat.woken.clear()
            await layer.group_send("room", READY)
            await layer.group_send("room", {"type": "websocket.send", "bytes": b"\0" * 100_000})
            for client in clients:
                assert [await recv(client), await recv(client)] == ["ready", b"\0" * 100_000]
            assert Chat.woken == []
            await layer.group_send("room", {"type": "chat.message", "text": "hi"})
            assert [await recv(client) for client in clients] == ["handled hi"] * 3
            assert Chat.woken == ["chat.message"] * 3
            await idle(layer)
            await clients[0].send("to the others")
            assert await recv(clients[0]) == "said"
            assert [await recv(client) for client in clients[1:]] == ["to the others"] * 2
            assert Chat.woken[3:] == ["websocket.receive"]
            await clients[1].send("leave")
            assert await recv(clients[1]) == "left"
            await layer.group_send("room", {**READY, "text": "two are left"})
            assert [await recv(clients[n]) for n in (0, 2)] == ["two are left"] * 2
        await until(lambda: len(Chat.codes) == 3, "the ends")
        assert len(layer.groups.members("room")) == 0, "left at the end"


async def test_all_that_one_sender_sends_comes_in_order(layer):
    """Ready and handled messages, to the group and to the channel."""
    async with serving(Chat.as_asgi()) as server, open_socket(server) as client:
        await members(layer, 1)
        (name,) = layer.groups.members("room")
        for number in range(100):
            kind = (READY, {"type": "chat.message"})[number % 7 in (2, 3)]
            message = {**kind, "text": str(number)}
            await (layer.send(name, message) if number % 3 == 0 else layer.group_send("room", message))
            if number % 5 == 0:
                await asyncio.sleep(0)
        assert [int((await recv(client)).split()[-1]) for _ in range(100)] == list(range(100))


async def test_sockets_that_agreed_to_compress_and_others(layer):
    text = "hello " * 1000
    async with (
        serving(Chat.as_asgi()) as server,
        open_socket(server) as packed,
        open_socket(server, compression=None) as plain,
    ):
        await members(layer, 2)
        await layer.group_send("room", {**READY, "text": text})
        assert await recv(packed) == await recv(plain) == text
    assert "websocket.send" not in Chat.woken


@pytest.mark.parametrize("kind", ["tls", "http2"])
async def test_sockets_over_tls_and_http2(layer, tmp_path, kind):
    options = {}
    if kind == "tls":
        authority = Authority(tmp_path)
        certificate, key = authority.issue("localhost")
        options = {"ssl_certfile": certificate, "ssl_keyfile": key}
    async with serving(Chat.as_asgi(), **options) as server:
        if kind == "tls":
            context = ssl.create_default_context(cafile=str(authority.path))
            async with websockets.connect(
                f"wss://localhost:{port_of(server)}/", ssl=context, host="127.0.0.1", open_timeout=DEADLINE, proxy=None
            ) as client:
                await members(layer, 1)
                for number in range(3):
                    await layer.group_send("room", {**READY, "text": f"{number}" * 65536})
                assert [await recv(client) for _ in range(3)] == [f"{number}" * 65536 for number in range(3)]
        else:
            async with http2(server) as client:
                stream = await Socket.asked(client, "/")
                assert await stream.accepted() == 200
                await members(layer, 1)
                for number in range(3):
                    await layer.group_send("room", {**READY, "text": f"{number}" * 20_000})
                for number in range(3):
                    assert (await stream.frame()).data == (f"{number}" * 20_000).encode()
    assert "websocket.send" not in Chat.woken


async def test_a_slow_member_is_closed_and_the_others_go_on(layer):
    async with (
        serving(Chat.as_asgi(), ws_write_budget=256 * 1024) as server,
        connect(server, limit=65536) as slow,
        open_socket(server, max_queue=None) as fast,
    ):
        await slow.send(UPGRADE % b"/")
        await slow.read_until(b"\r\n\r\n")
        await members(layer, 2)
        for number in range(300):
            await layer.group_send("room", {"type": "websocket.send", "bytes": b"%03d" % number + bytes(65536)})
            assert (await recv(fast))[:3] == b"%03d" % number
        assert server._context.drops.counts["slow_client_closed"] == 1
        drained = b""
        while not drained.endswith(b"\x88\x0a\x03\xf5too slow"):
            drained = drained[-20:] + await asyncio.wait_for(slow.reader.read(1 << 20), DEADLINE)
        slow.abort()
        await until(lambda: 1013 in Chat.codes, "its end")


async def test_synchronous_consumers(layer):
    async with serving(SyncChat.as_asgi()) as server, open_socket(server) as client:
        await members(layer, 1)
        await layer.group_send("room", READY)
        assert await recv(client) == "ready"
        await idle(layer)
        await layer.group_send("room", {"type": "chat.message", "text": "hi"})
        assert await recv(client) == "handled hi"
        assert SyncChat.woken == ["chat.message"]
        await client.send("leave")
        assert await recv(client) == "left"
        await until(lambda: len(layer.groups.members("room")) == 0, "an empty room")


async def test_a_message_before_the_accept_waits_for_the_consumer(layer):
    joined = asyncio.Event()
    may_accept = asyncio.Event()

    class Late(Chat):
        async def connect(self):
            await self.group_join_native("room")
            joined.set()
            await may_accept.wait()
            await self.accept()

    async with serving(Late.as_asgi()) as server:
        opening = asyncio.ensure_future(open_socket(server).__aenter__())
        await asyncio.wait_for(joined.wait(), DEADLINE)
        await layer.group_send("room", READY)
        may_accept.set()
        client = await asyncio.wait_for(opening, DEADLINE)
        assert await recv(client) == "ready"
        await client.close()
        await until(lambda: Chat.codes, "its end")


def elsewhere(application):
    """``application`` as on a server that knows nothing of the extension."""

    async def run(scope, receive, send):
        async def standard(message):
            assert message["type"].partition(".")[0] == "websocket", "a server may refuse this"
            await send(message)

        if scope["type"] == "websocket":
            scope = {**scope, "extensions": {"websocket.http.response": {}}}
        await application(scope, receive, standard)

    return run


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
async def test_it_works_under_servers_without_the_extension(layer, consumer):
    async with serving(elsewhere(consumer.as_asgi())) as server:
        async with open_socket(server) as client:
            await members(layer, 1)
            consumer.woken.clear()
            await layer.group_send("room", READY)
            await layer.group_send("room", {"type": "chat.message", "text": "hi"})
            assert [await recv(client), await recv(client)] == ["ready", "handled hi"]
            assert consumer.woken == ["websocket.send", "chat.message"]
        await until(lambda: len(layer.groups.members("room")) == 0, "an empty room")


async def test_it_works_on_other_layers():
    class Plain(Chat):
        async def receive(self, text_data=None, bytes_data=None):
            await self.channel_layer.group_send("room", {**READY, "text": text_data})

    with layer_is(OtherLayer()):
        async with serving(Plain.as_asgi()) as server, open_socket(server) as client:
            await client.send("hi")
            assert await recv(client) == "hi"


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
def test_a_consumer_without_a_layer_is_told(consumer):
    made = consumer()
    made.channel_layer = None
    with pytest.raises(InvalidChannelLayerError, match="set CHANNEL_LAYERS"):
        made._joining("room")


SITE = """
import os
import django
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={"default": {
        "BACKEND": "fastchannels.layers.local.LocalChannelLayer", "CONFIG": {"path": os.environ["LAYER"]}
    }},
    INSTALLED_APPS=["fastchannels"],
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer
from fastchannels.native import AsyncNativeGroups


class Room(AsyncNativeGroups, AsyncWebsocketConsumer):
    async def connect(self):
        await self.group_join_native("room")
        await self.accept()

    async def websocket_send(self, event):
        print("WOKEN", flush=True)
        await super().websocket_send(event)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(
            "room", {"type": "websocket.send", "text": text_data}, exclude=self.channel_name
        )

    async def who_is_there(self, event):
        await self.send(text_data=f"pid {os.getpid()}")


application = Room.as_asgi()
"""


async def test_two_servers_share_a_room_and_a_third_process_speaks_to_it(tmp_path):
    (tmp_path / "room_site.py").write_text(SITE)
    environment = {"LAYER": str(tmp_path / "layer"), "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    ports = [free_port(), free_port()]

    def server(port):
        arguments = ("-m", "fastchannels", "server", "room_site:application", "--lifespan", "off")
        return Process(*arguments, "--bind", "127.0.0.1", "--port", str(port), cwd=tmp_path, env=environment)

    class At:
        def __init__(self, port):
            self.addresses = [("127.0.0.1", port)]

    def listens(port):
        with socket.create_connection(("127.0.0.1", port), 5):
            return True

    with server(ports[0]) as one, server(ports[1]) as two:
        for port in ports:
            await asyncio.to_thread(eventually, lambda port=port: listens(port), "the server listened")
        layer = LocalChannelLayer(path=tmp_path / "layer")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(open_socket(At(ports[n % 2]))) for n in range(6)]
            await layer.group_send("room", {"type": "who.is.there"})
            assert [await recv(client) for client in clients] == [f"pid {one.pid}", f"pid {two.pid}"] * 3
            for number in range(50):
                await asyncio.to_thread(layer.group_send_sync, "room", {**READY, "text": str(number)})
            for client in clients:
                assert [await recv(client) for _ in range(50)] == [str(number) for number in range(50)]
            await clients[0].send("to the others")
            assert [await recv(client) for client in clients[1:]] == ["to the others"] * 5
            await clients[1].send("and back")
            assert await recv(clients[0]) == "and back", "without its own"
        await layer.close()
        assert "WOKEN" not in one.output + two.output
