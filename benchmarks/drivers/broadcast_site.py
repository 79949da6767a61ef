"""One room that everybody joins, in channel mode and as a consumer of Channels 4; settings of both.

``BROADCAST_LAYER``: ``local:PATH``, ``redis:URL`` (ours), ``core:URL`` or ``pubsub:URL`` (channels_redis).
``BROADCAST_FAST``: the app of fastchannels is installed beside Channels 4, with its fast dispatch.
"""

import os

kind, _, address = os.environ["BROADCAST_LAYER"].partition(":")
ROOM = "room"


def connect(message):
    from fastchannels import Group

    message.reply_channel.send({"accept": True})
    Group(ROOM).add(message.reply_channel)


def receive(message):
    from fastchannels import Group

    Group(ROOM).send({"text": message.content["text"]})


def disconnect(message):
    from fastchannels import Group

    Group(ROOM).discard(message.reply_channel)


routing = {f"websocket.{name}": f"{__name__}.{name}" for name in ("connect", "receive", "disconnect")}

LAYERS = {
    "local": ("fastchannels.layers.local.LocalChannelLayer", {"path": address}),
    "redis": ("fastchannels.layers.redis.RedisChannelLayer", {"hosts": [address]}),
    "core": ("channels_redis.core.RedisChannelLayer", {"hosts": [address]}),
    "pubsub": ("channels_redis.pubsub.RedisPubSubChannelLayer", {"hosts": [address]}),
}
CHANNEL_LAYERS = {"default": {"BACKEND": LAYERS[kind][0], "CONFIG": LAYERS[kind][1]}}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
FASTCHANNELS_ORIGIN_CHECK = False
FASTCHANNELS_ROUTING = {"default": __name__ + ".routing"}
INSTALLED_APPS = ["fastchannels"] if os.environ.get("BROADCAST_FAST") else []
LOGGING_CONFIG = None
SECRET_KEY = "not secret"
USE_TZ = True
