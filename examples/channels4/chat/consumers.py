"""The chat as a Channels 4 consumer: one instance a socket, in the server's process.

The frames are described at the top of chat.js.
"""

import os
import time
import uuid

from channels.generic.websocket import AsyncJsonWebsocketConsumer


class ChatConsumer(AsyncJsonWebsocketConsumer):
    me = None

    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)
        if self.me:
            await self.tell_room(type="left", **self.me)

    async def receive_json(self, frame):
        match frame["type"]:
            case "hello":
                news = "here" if self.me else "join"
                ident = self.me["id"] if self.me else uuid.uuid4().hex
                self.me = {"id": ident, "name": frame["name"].strip()[:40] or "Anonymous"}
                await self.send_json({"type": "welcome", **self.me})
                await self.tell_room(type=news, **self.me)
            case "here" | "typing" as kind if self.me:
                await self.tell_room(type=kind, **self.me)
            case "message" if self.me:
                said = {"text": frame["text"][:2000], "ref": frame["ref"][:40], "at": int(time.time() * 1000)}
                await self.tell_room(type="message", process=os.getpid(), **said, **self.me)

    async def tell_room(self, **frame):
        await self.channel_layer.group_send(self.room, {"type": "chat.frame", "frame": frame})

    async def chat_frame(self, event):
        await self.send_json(event["frame"])
