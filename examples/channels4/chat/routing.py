from django.urls import re_path

from chat.consumers import ChatConsumer

websocket_urlpatterns = [re_path(r"^chat/(?P<room>[A-Za-z0-9_-]{1,40})/$", ChatConsumer.as_asgi())]
