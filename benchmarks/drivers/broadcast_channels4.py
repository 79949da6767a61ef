"""The room as a consumer of Channels 4, as its tutorial writes it: ``application``, and ``echo`` without a layer.

``native``, on our server, leaves what is said to the server.
"""

import importlib.util
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.drivers.broadcast_site"

import django

django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402

from benchmarks.drivers.broadcast_site import ROOM  # noqa: E402


class Room(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add(ROOM, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(ROOM, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(ROOM, {"type": "chat.message", "text": text_data})

    async def chat_message(self, event):
        await self.send(text_data=event["text"])


if importlib.util.find_spec("fastchannels._core") is not None:
    from fastchannels.native import AsyncNativeGroups

    class NativeRoom(AsyncNativeGroups, AsyncWebsocketConsumer):
        async def connect(self):
            await self.group_join_native(ROOM)
            await self.accept()

        async def receive(self, text_data=None, bytes_data=None):
            await self.channel_layer.group_send(ROOM, {"type": "websocket.send", "text": text_data})

    native = NativeRoom.as_asgi()


class Echo(AsyncWebsocketConsumer):
    channel_layer_alias = "none"

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


application = Room.as_asgi()
echo = Echo.as_asgi()
