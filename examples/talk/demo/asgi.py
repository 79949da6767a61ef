import os

import django

import fastchannels.asgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
django.setup()
channel_layer = fastchannels.asgi.get_channel_layer()
