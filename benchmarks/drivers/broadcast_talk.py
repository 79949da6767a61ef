"""``channel_layer`` of the room, for our server and worker."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.drivers.broadcast_site"

import django

django.setup()

from fastchannels.asgi import get_channel_layer  # noqa: E402

channel_layer = get_channel_layer()
