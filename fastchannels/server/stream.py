"""One HTTP request and its response, between what carries them and a bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from fastchannels.server.events import Headers, Request
from fastchannels.server.http import NO_BODY, error_page
from fastchannels.server.timer import NEVER, NO_SLOT, Timed

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.websocket import Handshake

# Reasons to pause reading a connection; it goes on when none is left.
HOLD_PIPELINE: Final = 1  #: the next request waits for the response before it
HOLD_BODY: Final = 2  #: the application has not taken the body that is here
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

    # How a response is framed: what ``HttpStream`` promises, in the version's own form.

    def start_response(self, stream: HttpStream, status: int, headers: Iterable[Iterable[bytes]]) -> None: ...

    def flush_head(self, stream: HttpStream) -> None: ...

    def send_body(self, stream: HttpStream, data: bytes, more: bool) -> None: ...

    def inform(self, stream: HttpStream, status: int, headers: Headers) -> None: ...


class HttpStream(Timed):
    """Subclassed by each bridge: it calls ``start``, ``body``, ``fail``; the connection calls the ``on_`` methods."""

    # One is made for each request, so what most never change stays on the class.
    #: ``start`` was called; its head may still be held, see ``begun``.
    started = False
    #: The response is complete.
    done = False
    #: The client left, or was cut off, before the response was complete.
    disconnected = False
    #: The client sends no body before it is told to (``Expect: 100-continue``).
    waits_for_continue = False
    status = 0
    size = 0
    #: When it began, for the action logger.
    since = 0.0
    # For the carrier: the head that is held, in its form, and how the body is framed (see ``http.encode_head``).
    head: Any = None
    framing: int = NO_BODY

    def __init__(self, connection: Carrier, request: Request) -> None:
        self.deadline = NEVER
        self._slot = NO_SLOT
        self.connection = connection
        self.request = request
        #: The whole request has been read.
        self.body_complete = request.complete
        self.keep_alive = request.keep_alive

    # ------------------------------------------------------------ what a bridge overrides

    def begin(self) -> None:
        """The head of the request is here."""

    def on_body(self, data: bytes) -> None:
        """A piece of the request's body."""

    def on_body_end(self) -> None:
        """The request is complete."""

    def on_end(self) -> None:
        """The response is complete, or the client left (``disconnected``). Nothing more is called."""

    def on_full(self) -> None:
        """The client reads too slowly: stop writing until ``on_room``."""

    def on_room(self) -> None:
        """End of ``on_full``."""

    # ------------------------------------------------------------ what a bridge calls

    @property
    def begun(self) -> bool:
        """Something of the response has left; it can no longer become an error page."""
        return self.started and self.head is None

    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Set status and headers. They leave with the first piece of the body, or by ``flush``.

        Raises ``ValueError`` or ``TypeError`` for what may not stand in a response head.
        """
        self.connection.start_response(self, status, headers)
        self.status = status
        self.started = True

    def flush(self) -> None:
        """Let a held head leave."""
        if self.head is not None and not (self.done or self.disconnected):
            self.connection.flush_head(self)
            self.head = None

    def body(self, data: bytes, more: bool) -> None:
        """Write a piece of the body; ``more`` false ends the response.

        Raises ``ValueError`` when the body is longer or shorter than the response's Content-Length; the response is
        then cut, since the client could not tell.
        """
        self.connection.send_body(self, data, more)

    def inform(self, status: int, headers: Headers) -> None:
        """Send an interim response (1xx) before the response; nothing to a client of HTTP/1.0, which knows none."""
        self.connection.inform(self, status, headers)

    def check_length(self, size: int, more: bool) -> None:
        """Count ``size`` bytes of a body whose length was announced; raises as ``body`` does."""
        self.framing = left = self.framing - size
        if left < 0 or (left and not more):
            self.abort()
            raise ValueError(
                f"the body is {'longer' if left < 0 else 'shorter'} than the Content-Length of the response"
            )

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

    def abort(self) -> None:
        """Cut the response, so that the client sees an incomplete response."""
        self.disconnected = True
        self.connection.abort()


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
