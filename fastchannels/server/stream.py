"""One HTTP request and its response, between what carries them and a bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from fastchannels._core import http1
from fastchannels.server.events import Headers, Request
from fastchannels.server.http import error_page

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.websocket import Handshake

# Reasons to pause reading a connection; it goes on when none is left.
HOLD_PIPELINE: Final = 1  #: the next request waits for the response before it
HOLD_BODY: Final = 2  #: the application has not taken the body that is here (known to _core/exchange)
HOLD_SOCKET: Final = 4  #: the application or the worker lags behind the frames
HOLD_RATE: Final = 8  #: a socket sends more than it may


class Carrier(Protocol):
    """What carries one request at a time, or one WebSocket: a connection of HTTP/1.1, a stream of HTTP/2."""

    context: Context
    #: Who sent the request; for one that came through a trusted proxy, whom the proxy names.
    client: tuple[str, int | None] | None
    #: The other end of the transport, and what it speaks.
    peer: tuple[str, int | None] | None
    peer_scheme: str
    server: tuple[str, int | None] | None
    scheme: str
    #: What was written waits for the client: see ``drain``.
    write_paused: bool
    #: What a request may ask for beside the usual, as the scope's ``extensions`` names it.
    extensions: dict[str, dict[str, Any]]

    @property
    def client_name(self) -> str | None: ...

    @property
    def held(self) -> bool: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    async def drain(self) -> None: ...

    def hold(self, reason: int) -> None: ...

    def release(self, reason: int) -> None: ...

    def abort(self) -> None: ...

    def close_after_answer(self) -> None: ...

    def answer(self, request: Request, status: int, headers: Headers, page: bytes) -> None:
        """Send a whole response that the server makes itself, and end."""

    def accept_socket(self, handshake: Handshake, subprotocol: str | None, headers: Headers) -> None:
        """Open the WebSocket. Raises as ``Handshake.response``."""

    # How a response is framed: what ``HttpStream`` promises, in the version's own form. Of a connection of HTTP/1 these
    # are compiled, and not called.

    def start_response(self, stream: HttpStream, status: int, headers: Iterable[Iterable[bytes]]) -> None: ...

    def flush_head(self, stream: HttpStream) -> None: ...

    def send_body(self, stream: HttpStream, data: bytes, more: bool) -> None: ...

    def inform(self, stream: HttpStream, status: int, headers: Headers) -> None: ...


class HttpStream(http1.HttpStream):
    """Subclassed by each bridge: it calls ``start``, ``body``, ``fail``; the connection calls the ``on_`` methods."""

    __slots__ = ()

    def fail(self, status: int, detail: str = "", headers: Headers | None = None) -> None:
        """End the response with an error page, or cut the response when it has begun (D-33, D-36)."""
        if self.done or self.disconnected:
            return
        if self.begun:
            self.abort()
            return
        page_headers, page = error_page(status, detail)
        self.start(status, page_headers + (headers or []))
        self.body(page, False)


def log_response(action_logger: Callable[[str, str, dict[str, Any]], None], stream: HttpStream) -> None:
    """Report a complete response to the action logger."""
    connection, request = stream.connection, stream.request
    raw = request.shown
    action_logger(
        "http",
        "complete",
        {
            "path": f"{raw}?{request.query_string.decode('latin-1')}" if request.query_string else raw,
            "status": stream.status,
            "method": request.method,
            "client": connection.client_name,
            "time_taken": monotonic() - stream.since,
            "size": stream.size,
        },
    )
