"""One HTTP request and its response, between a connection and a bridge."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fastchannels.server.events import Headers, Request
from fastchannels.server.http import CHUNKED, LAST_CHUNK, NO_BODY, UNTIL_CLOSE, chunk, encode_head, error_page
from fastchannels.server.timer import NEVER, NO_SLOT, Timed

if TYPE_CHECKING:
    from fastchannels.server.protocol import Connection

logger = logging.getLogger("fastchannels.server")

# Reasons to pause reading a connection; it goes on when none is left.
HOLD_PIPELINE: Final = 1  #: the next request waits for the response before it
HOLD_BODY: Final = 2  #: the application has not taken the body that is here
HOLD_SOCKET: Final = 4  #: the application or the worker lags behind the frames

#: Larger pieces are written by themselves instead of being joined to the head.
_JOIN_BELOW: Final = 64 * 1024


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
    _head: bytes | None = None
    _framing: int = NO_BODY

    def __init__(self, connection: Connection, request: Request) -> None:
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
        return self.started and self._head is None

    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Set status and headers. They leave with the first piece of the body, or by ``flush``.

        Raises ``ValueError`` or ``TypeError`` for what may not stand in a response head.
        """
        context = self.connection.context
        # A connection whose request was not read to its end cannot be used again.
        keep_alive = self.request.keep_alive and self.body_complete and not context.stopping
        self._head, self._framing, self.keep_alive = encode_head(
            self.request, status, headers, context.common, keep_alive
        )
        self.status = status
        self.started = True

    def flush(self) -> None:
        """Let a held head leave."""
        if self._head is not None and not (self.done or self.disconnected):
            self.connection.write(self._head)
            self._head = None

    def body(self, data: bytes, more: bool) -> None:  # HOT: http hello
        """Write a piece of the body; ``more`` false ends the response.

        Raises ``ValueError`` when the body is longer or shorter than the response's Content-Length; the connection is
        then cut, since the client could not tell.
        """
        framing = self._framing
        self.size += len(data)
        if framing == CHUNKED:
            if data:
                if len(data) > _JOIN_BELOW:
                    self._write(b"%x\r\n" % len(data))
                    self._write(data)
                    data = b"\r\n"
                else:
                    data = chunk(data)
            if not more:
                data = data + LAST_CHUNK
        elif framing >= 0:
            self._framing = framing = framing - len(data)
            if framing < 0 or (framing and not more):
                self.abort()
                raise ValueError(
                    f"the body is {'longer' if framing < 0 else 'shorter'} than the Content-Length of the response"
                )
        elif framing != UNTIL_CLOSE:
            self.size = 0
            data = b""
        self._write(data)
        if not more:
            self.done = True
            self.connection.response_complete(self)

    def _write(self, data: bytes) -> None:
        head = self._head
        if head is not None:
            self._head = None
            if len(data) < _JOIN_BELOW:
                self.connection.write(head + data)
                return
            self.connection.write(head)
        if data:
            self.connection.write(data)

    def fail(self, status: int, detail: str = "", headers: Headers | None = None) -> None:
        """End the response with an error page, or cut the connection when it has begun (D-33, D-36)."""
        if self.done or self.disconnected:
            return
        if self.begun:
            self.abort()
            return
        page_headers, page = error_page(status, detail)
        self.start(status, page_headers + (headers or []))
        self.body(page, False)

    def abort(self) -> None:
        """Cut the connection, so that the client sees an incomplete response."""
        self.disconnected = True
        self.connection.abort()
