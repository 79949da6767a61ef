"""Django views behind its ASGI handler: no database, no middleware; JSON from a function and from a coroutine."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path

ANSWER = {"hello": "world", "numbers": [1, 2, 3], "nested": {"a": None, "b": True}}


def sync_view(request: HttpRequest) -> JsonResponse:
    return JsonResponse(ANSWER)


async def async_view(request: HttpRequest) -> JsonResponse:
    return JsonResponse(ANSWER)


urlpatterns = [path("sync", sync_view), path("async", async_view)]

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="not secret", MIDDLEWARE=[], LOGGING_CONFIG=None
    )
    django.setup()


def at(handler: ASGIHandler, where: str):
    """``handler``, which sees every request at ``where``."""

    async def application(scope, receive, send):
        await handler({**scope, "path": where}, receive, send)

    return application


django_sync = at(get_asgi_application(), "/sync")
django_async = at(get_asgi_application(), "/async")
