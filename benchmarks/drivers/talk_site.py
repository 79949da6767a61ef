"""The Django site of the talk's rows: settings, views and WebSocket consumers for today's Django and for Django 2.2.

``TALK_LAYER``: the URL of a Redis, or the path of a local layer's segment. ``TALK_OLD``: run by Channels 1.1.8.
"""

import os

from django.http import JsonResponse

try:
    from django.urls import path
except ImportError:  # pragma: no cover
    raise SystemExit("Django 2.0 or newer is needed")

ANSWER = {"hello": "world", "numbers": [1, 2, 3], "nested": {"a": None, "b": True}}


def view(request):
    return JsonResponse(ANSWER)


def echo(message):
    """The consumer of ``websocket.receive``."""
    message.reply_channel.send({"text": message.content["text"]})


def connect(message):
    """The consumer of ``websocket.connect``."""
    message.reply_channel.send({"accept": True})


urlpatterns = [path("", view)]

ALLOWED_HOSTS = ["*"]
LOGGING_CONFIG = None
ROOT_URLCONF = __name__
SECRET_KEY = "not secret"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
# What startproject writes.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True

_layer = os.environ.get("TALK_LAYER", "")
if os.environ.get("TALK_OLD"):
    INSTALLED_APPS += ["channels"]
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "asgi_redis.RedisChannelLayer",
            "CONFIG": {"hosts": [_layer]},
            "ROUTING": __name__ + ".routing",
        }
    }
elif _layer:
    INSTALLED_APPS += ["fastchannels"]
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "fastchannels.layers.redis.RedisChannelLayer",
            "CONFIG": {"hosts": [_layer]},
        }
        if "://" in _layer
        else {"BACKEND": "fastchannels.layers.local.LocalChannelLayer", "CONFIG": {"path": _layer}}
    }
    FASTCHANNELS_ROUTING = {"default": __name__ + ".routing"}
routing = {"websocket.connect": __name__ + ".connect", "websocket.receive": __name__ + ".echo"}
