import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
django_application = get_asgi_application()

from chat.routing import websocket_urlpatterns  # noqa: E402  (after the app registry is ready)

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),  # where no web server stands in front
        "websocket": AllowedHostsOriginValidator(URLRouter(websocket_urlpatterns)),
    }
)
