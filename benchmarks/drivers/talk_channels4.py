"""An echo as Channels 4 has it, with no layer: the least that it can cost."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.drivers.talk_site"

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


application = ProtocolTypeRouter({"websocket": Echo.as_asgi()})
