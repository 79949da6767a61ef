"""Static files for messages of ``http.request``, by the finders of ``django.contrib.staticfiles``.

For development: a server in front, or a package such as WhiteNoise, serves them in production.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin

from fastchannels.handler import AsgiHandler, ViewConsumer

if TYPE_CHECKING:
    from fastchannels.message import Message

__all__ = ["StaticFilesConsumer", "StaticFilesHandler"]


class StaticFilesHandler(StaticFilesHandlerMixin, AsgiHandler):  # type: ignore[misc]
    """Serves what lies under ``STATIC_URL``; everything else goes to the views."""

    def __init__(self) -> None:
        self.base_url = urlparse(self.get_base_url())
        # The views' handler has the middleware, which static files do without.
        self.views = AsgiHandler()
        super().__init__()

    def __call__(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield the messages of the response."""
        if self._should_handle(message.content["path"]):
            return super().__call__(message)
        return self.views(message)


class StaticFilesConsumer(ViewConsumer):
    """The consumer of ``http.request`` that serves static files too."""

    handler_class = StaticFilesHandler
