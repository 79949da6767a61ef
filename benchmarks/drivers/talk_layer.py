"""``channel_layer`` of the talk's site, for our server and workers, and for those of Channels 1.1.8."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.drivers.talk_site"

import django

django.setup()

if os.environ.get("TALK_OLD"):
    from channels.asgi import get_channel_layer
else:
    from fastchannels.asgi import get_channel_layer

channel_layer = get_channel_layer()
