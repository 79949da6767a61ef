"""An ASGI 3 application for both protocols."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets

from tests.server.support import (
    DEADLINE,
    connect,
    open_socket,
    serving,
    until,
)


async def test_consumers_of_channels_4():
    """Channels' own consumers, groups included, over our server and layer."""
    from asgiref.sync import sync_to_async
    from channels.generic.http import AsyncHttpConsumer
    from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import re_path

    from fastchannels.layers.memory import InMemoryChannelLayer

    layer = InMemoryChannelLayer()
    left = []

    class Chat(AsyncJsonWebsocketConsumer):
        async def connect(self):
            self.channel_layer = layer
            self.room = self.scope["url_route"]["kwargs"]["room"]
            await layer.group_add(self.room, self.channel_name)
            await self.accept()

        async def receive_json(self, content):
            await layer.group_send(self.room, {"type": "chat.message", "text": content["text"]})

        async def chat_message(self, event):
            await self.send_json({"said": event["text"]})

        async def disconnect(self, code):
            left.append(code)
            await layer.group_discard(self.room, self.channel_name)

    class Echo(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            if text_data == "close":
                self.close(4002)
            else:
                self.send(text_data=text_data)

    class Page(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_response(200, b"page " + body, headers=[(b"Content-Type", b"text/plain")])

    async def chat(scope, receive, send):
        consumer = Chat()
        consumer.channel_layer_alias = None
        consumer.channel_name = await layer.new_channel()
        await run_with_layer(consumer, layer, scope, receive, send)

    async def run_with_layer(consumer, layer, scope, receive, send):
        # AsyncConsumer looks its layer up by alias; with an alias of None it takes none, so the loop is ours.
        from channels.consumer import await_many_dispatch
        from channels.exceptions import StopConsumer

        consumer.scope = scope
        consumer.channel_layer = layer
        consumer.base_send = send
        with contextlib.suppress(StopConsumer):
            await await_many_dispatch([receive, lambda: layer.receive(consumer.channel_name)], consumer.dispatch)

    application = ProtocolTypeRouter(
        {
            "websocket": URLRouter([re_path(r"^chat/(?P<room>\w+)/$", chat), re_path(r"^echo/$", Echo.as_asgi())]),
            "http": URLRouter([re_path("", Page.as_asgi())]),
        }
    )
    assert sync_to_async is not None
    async with serving(application) as server:
        async with open_socket(server, "/chat/one/") as first, open_socket(server, "/chat/one/") as second:
            await first.send('{"text": "hello"}')
            assert await asyncio.wait_for(first.recv(), DEADLINE) == '{"said": "hello"}'
            assert await asyncio.wait_for(second.recv(), DEADLINE) == '{"said": "hello"}'
        await until(lambda: left == [1000, 1000], "both disconnects")
        async with open_socket(server, "/echo/") as client:
            await client.send("sync")
            assert await asyncio.wait_for(client.recv(), DEADLINE) == "sync"
            await client.send("close")
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(client.recv(), DEADLINE)
            assert client.close_code == 4002
        async with connect(server) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            assert (await client.response())[2] == b"page body"
