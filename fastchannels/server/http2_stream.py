"""One stream of HTTP/2 as what carries a request, or a WebSocket (RFC 8441)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final

from fastchannels.exceptions import HttpError
from fastchannels.server.events import Headers, Request
from fastchannels.server.http import CHUNKED, NO_BODY, error_page
from fastchannels.server.http2_frames import CANCEL, INTERNAL_ERROR, NO_ERROR
from fastchannels.server.http2_headers import encode_fields, encode_response, encode_status
from fastchannels.server.http2_outgoing import HIGH_WATER, Stream
from fastchannels.server.stream import HttpStream
from fastchannels.server.timer import Timed

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.http2_session import Http2Session
    from fastchannels.server.websocket import Handshake
    from fastchannels.server.websocket_stream import WebSocketStream

#: Seconds in which the client ends its side of a WebSocket after us.
_LINGER_SECONDS: Final = 2.0


class Http2Stream(Timed):
    """A ``Carrier`` (see ``stream``) over one stream.

    ``closed`` means that nobody is served any more; what was written may still be on its way.
    """

    __slots__ = (
        "_holds",
        "_unacknowledged",
        "_waiters",
        "body_deadline",
        "client",
        "closed",
        "context",
        "extensions",
        "http",
        "peer",
        "peer_scheme",
        "scheme",
        "server",
        "session",
        "stalled",
        "stream",
        "websocket",
        "write_paused",
    )

    def __init__(self, session: Http2Session, stream: Stream) -> None:
        super().__init__()
        connection = session.connection
        self.session = session
        self.stream = stream
        self.context: Context = connection.context
        self.client = self.peer = connection.peer
        self.scheme = self.peer_scheme = connection.peer_scheme
        self.server = connection.server
        self.extensions = connection.extensions
        self.closed = self.write_paused = False
        self.http: HttpStream | None = None
        self.websocket: WebSocketStream | None = None
        #: Until when the next piece of the body must come.
        self.body_deadline = 0.0
        #: What had been sent when it was looked at last, and since when it is no more.
        self.stalled = (0, 0.0)
        self._holds = 0
        self._unacknowledged = 0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def client_name(self) -> str | None:
        """``host:port`` of the client, or ``None`` on a Unix socket."""
        return f"{self.client[0]}:{self.client[1]}" if self.client else None

    @property
    def held(self) -> bool:
        """Nothing is acknowledged: the client cannot be heard for long."""
        return self._holds != 0

    # ------------------------------------------------------------ from the session

    def begin(self, request: Request) -> None:
        """Serve ``request``."""
        context = self.context
        context.running += 1
        answer = context.front.answer(self, request) if context.front is not None else None
        if answer is None and request.websocket:
            self.stream.tunnel = True
            self.websocket = websocket = context.bridge.websocket(self, request)
            websocket.open()
            return
        self.http = http = answer if answer is not None else context.bridge.http(self, request)
        if context.observe is not None:
            http.since = monotonic()
        self.body_deadline = context.deadline(context.config.body_timeout)
        if request.te_trailers:
            self.extensions = {**self.extensions, "http.response.trailers": {}}
        http.begin()

    def on_data(self, data: bytes) -> None:
        """A piece of the body, or bytes of the WebSocket."""
        if self.websocket is not None:
            self.websocket.feed(data)
        elif self.http is not None:
            config = self.context.config
            earned = len(data) / config.body_rate if config.body_rate > 0 else float("inf")
            self.body_deadline = min(self.body_deadline + earned, self.context.deadline(config.body_timeout))
            self.http.on_body(data)
        if self._holds:
            self._unacknowledged += len(data)
        else:
            self.session.acknowledge(self.stream, len(data))

    def on_end(self) -> None:
        """The client sends nothing more on this stream."""
        if self.http is not None:
            self.http.body_complete = True
            self.http.on_body_end()
        elif self.websocket is not None:
            self.lost()
        if self.stream.tunnel:
            self.context.wheel.disarm(self)
            self.session.end(self.stream)

    def on_room(self) -> None:
        """What waited has left."""
        if self.write_paused:
            self.write_paused = False
            self._wake()
            served = self.http or self.websocket
            if served is not None:
                served.on_room()

    def lost(self) -> None:
        """The stream was reset, or its connection is gone."""
        http, websocket = self.http, self.websocket
        self.finish()
        if http is not None:
            http.disconnected = True
            http.on_end()
        elif websocket is not None:
            websocket.lost()

    def too_slow(self) -> None:
        """The client does not send the body that it announced."""
        http = self.http
        if http is None:
            return
        self.finish()
        http.disconnected = True
        begun = http.begun
        http.on_end()
        if begun:
            self.session.reset(self.stream, CANCEL)
        else:
            self.refuse(HttpError(408, "the request body is too slow"))

    def refuse(self, error: HttpError) -> None:
        """Answer a request that is not served."""
        headers, page = error_page(error.status, error.reason)
        self._whole(error.status, headers, page, False)

    def finish(self) -> None:
        """Nobody is served any more; what was written may still be on its way."""
        if not self.closed:
            self.closed = True
            self.http = self.websocket = None
            self.context.running -= 1
            self.context.note_end()
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------ what a carrier does

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` when the client's windows allow it; nothing happens when the stream is gone."""
        if not self.closed:
            self._send(data, False)

    def _send(self, data: bytes | bytearray | memoryview, end: bool) -> None:
        self.session.send(self.stream, data, end)
        if self.stream.pending > HIGH_WATER and not self.write_paused:
            self.write_paused = True
            self.session.watch()
            served = self.http or self.websocket
            if served is not None:
                served.on_full()

    async def drain(self) -> None:
        """Wait until the client has room, or the stream is gone."""
        while self.write_paused and not self.closed:
            waiter = self.context.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def hold(self, reason: int) -> None:
        """Acknowledge nothing, so that the client's window closes."""
        self._holds |= reason

    def release(self, reason: int) -> None:
        """End ``hold`` for ``reason``."""
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds and self._unacknowledged:
                self.session.acknowledge(self.stream, self._unacknowledged)
                self._unacknowledged = 0

    def abort(self) -> None:
        """Reset the stream."""
        self.session.reset(self.stream, CANCEL if self.stream.tunnel else INTERNAL_ERROR)
        self.context.loop.call_soon(self.lost)

    def close_after_answer(self) -> None:
        """End our side; the client has a moment for its own."""
        self.finish()
        self.session.end(self.stream)
        if not self.stream.closed:
            self.context.wheel.arm(self, self.context.deadline(_LINGER_SECONDS))

    def expired(self, now: float) -> None:
        """The client did not end its side."""
        self.session.reset(self.stream, NO_ERROR)

    def answer(self, request: Request, status: int, headers: Headers, page: bytes) -> None:
        """Send a whole response that the server makes itself, and end."""
        self.stream.tunnel = False
        self._whole(status, headers, page, request.method == "HEAD")
        self.finish()

    def _whole(self, status: int, headers: Headers, page: bytes, bodiless: bool) -> None:
        head, framing = encode_response(status, headers, self.context.common, bodiless)
        if framing == NO_BODY:
            page = b""
        self.session.send_headers(self.stream, head, not page)
        self.session.send(self.stream, page, True)

    def accept_socket(self, handshake: Handshake, subprotocol: str | None, headers: Headers) -> None:
        """Open the WebSocket (RFC 8441 section 5). Raises as ``Handshake.fields``."""
        fields = handshake.fields(subprotocol, headers)
        self.session.send_headers(self.stream, encode_response(200, fields, self.context.common, False)[0], False)

    def start_response(self, stream: HttpStream, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        stream.head, stream.framing = encode_response(
            status, headers, self.context.common, stream.request.method == "HEAD"
        )

    def flush_head(self, stream: HttpStream) -> None:
        self.session.send_headers(self.stream, stream.head, False)

    def send_body(self, stream: HttpStream, data: bytes, more: bool) -> None:
        framing = stream.framing
        if framing == NO_BODY:
            data = b""
        else:
            stream.size += len(data)
            if framing != CHUNKED:
                stream.check_length(len(data), more)
        stream.body_over = not more
        ends = not more and not stream.trailers
        if stream.head is not None:
            head, stream.head = stream.head, None
            self.session.send_headers(self.stream, head, ends and not data)
        self._send(data, ends)
        if ends:
            self._complete(stream)

    def end_chunks(self, stream: HttpStream, end: bytes) -> None:
        """End the body with trailers, which are given as those of HTTP/1.1: each in a line behind the last chunk's."""
        if stream.head is not None:
            stream.flush()
        lines = end.split(b"\r\n")[1:-2]
        self.session.send_trailers(self.stream, encode_fields(line.split(b": ", 1) for line in lines))
        self._complete(stream)

    def _complete(self, stream: HttpStream) -> None:
        stream.done = True
        if self.context.observe is not None:
            self.context.observe(stream)
        self.finish()
        stream.on_end()

    def inform(self, stream: HttpStream, status: int, headers: Headers) -> None:
        self.session.send_headers(self.stream, encode_status(status) + encode_fields(headers), False)
