"""What the server decides about a request before a bridge sees it: who sent it, health, and whether there is room."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from fastchannels.server.events import Headers, Request
from fastchannels.server.http import error_page
from fastchannels.server.proxy import ProxyHeaders, TrustedAddresses
from fastchannels.server.stream import Carrier, HttpStream

if TYPE_CHECKING:
    from fastchannels.server.config import Config, Context

logger = logging.getLogger("fastchannels.server")

_RETRY_AFTER = (b"retry-after", b"1")


class Front:
    """Asked about each request, of HTTP and of sockets, when :attr:`needed` says that some option wants it."""

    def __init__(self, config: Config, context: Context, trusted: TrustedAddresses) -> None:
        self._context = context
        self._proxy = (
            ProxyHeaders(trusted, config.proxy_headers_host, config.proxy_headers_port)
            if config.proxy_headers
            else None
        )
        self._health = config.health_path.encode("ascii") if config.health_path else None
        self._concurrency = config.limit_concurrency or 0
        #: Requests until the server has served enough, spread so that its siblings do not end all at once.
        self._left = config.limit_max_requests or 0
        self._left += random.randrange(self._left // 10 + 1)
        self.needed = bool(self._proxy or self._health or self._concurrency > 0 or self._left)

    def answer(self, connection: Carrier, request: Request) -> HttpStream | None:
        """The server's own answer to ``request``, or None: then it is the bridge's."""
        context = self._context
        if self._proxy is not None:
            connection.client, connection.scheme = self._proxy.resolve(
                connection.peer, connection.peer_scheme, request.headers
            )
        if request.raw_path == self._health and request.method in ("GET", "HEAD"):
            return Answer(connection, request, *health(context.stopping))
        if request.websocket and context.stopping:
            return _unavailable(connection, request)
        if self._left:
            self._left -= 1
            if not self._left:
                context.spent()
        if self._concurrency > 0 and context.running > self._concurrency:
            context.drops.note(
                "concurrency",
                f"{request.method} {request.shown}: 503, {context.running - 1} requests and sockets are open "
                "(limit_concurrency)",
            )
            return _unavailable(connection, request)
        return None


def health(stopping: bool) -> tuple[int, Headers, bytes]:
    """The answer to a question after the server's health: status, headers, body."""
    body = b"draining\n" if stopping else b"ok\n"
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return (503 if stopping else 200), headers, body


def _unavailable(connection: Carrier, request: Request) -> HttpStream:
    headers, page = error_page(503, "There is no room for this request now.")
    return Answer(connection, request, 503, [*headers, _RETRY_AFTER], page)


class Answer(HttpStream):
    """A response that is made with its request."""

    def __init__(self, connection: Carrier, request: Request, status: int, headers: Headers, page: bytes) -> None:
        if request.websocket:
            request.keep_alive = False  # what follows may be frames
        super().__init__(connection, request)
        self._response = (status, headers, page)

    def begin(self) -> None:
        status, headers, page = self._response
        self.start(status, headers)
        self.body(page, False)
