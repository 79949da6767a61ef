"""The chat, as functions and a class. Workers run this file; no socket lives in a worker.

The frames are described at the top of chat.js.
"""

import json
import os
import time
import uuid

from fastchannels import Group
from fastchannels.generic.websockets import JsonWebsocketConsumer
from fastchannels.sessions import channel_session


def tell(target, **frame):
    """Send a frame to one socket (a reply channel) or to a whole room (a Group)."""
    target.send({"text": json.dumps(frame)})


def ws_connect(message, room):
    # The worker has refused pages of other sites by now.
    message.reply_channel.send({"accept": True})
    Group(room).add(message.reply_channel)


# channel_session belongs to the socket and travels with its messages: whichever worker takes the next one has it.
@channel_session
def ws_receive(message, room):
    frame = json.loads(message["text"])
    me = message.channel_session.get("me")
    match frame["type"]:
        case "hello":
            news = "here" if me else "join"
            me = {"id": me["id"] if me else uuid.uuid4().hex, "name": frame["name"].strip()[:40] or "Anonymous"}
            message.channel_session["me"] = me
            tell(message.reply_channel, type="welcome", **me)
            tell(Group(room), type=news, **me)
        case "here" if me:
            tell(Group(room), type="here", **me)
        case "message" if me:
            said = {"text": frame["text"][:2000], "ref": frame["ref"][:40], "at": int(time.time() * 1000)}
            tell(Group(room), type="message", process=os.getpid(), **said, **me)


@channel_session
def ws_disconnect(message, room):
    Group(room).discard(message.reply_channel)
    if me := message.channel_session.get("me"):
        tell(Group(room), type="left", **me)


class Typing(JsonWebsocketConsumer):
    channel_session = True

    def receive(self, content, room):
        if me := self.message.channel_session.get("me"):
            self.group_send(room, {"type": "typing", **me})
