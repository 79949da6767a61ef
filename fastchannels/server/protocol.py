"""The connection: the only file that touches a transport.

Bytes go to the HTTP parser until a WebSocket handshake, then to the socket's stream. Requests that a client sends ahead
wait, with reading paused, until the response before them is complete.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from fastchannels._core.http1 import Http1
from fastchannels.exceptions import HttpError
from fastchannels.server.config import Context
from fastchannels.server.events import BodyEnd, Headers, Request
from fastchannels.server.http import HttpParser, encode_head, error_page
from fastchannels.server.http2_frames import INSTALLED, NOT_SPOKEN, PREFACE
from fastchannels.server.stream import HOLD_BODY, HOLD_PIPELINE, HttpStream
from fastchannels.server.timer import NEVER, NO_SLOT
from fastchannels.server.tls_extension import tls_extension
from fastchannels.server.websocket_stream import WebSocketStream

if TYPE_CHECKING:
    import ssl

    from fastchannels.server.http2_session import Http2Session
    from fastchannels.server.websocket import Handshake

logger = logging.getLogger("fastchannels.server")

_READ_SIZE: Final = 256 * 1024
#: Bytes and seconds for which a closing connection still reads, so that a reset does not destroy the last response.
_LINGER_BYTES: Final = 1024 * 1024
_LINGER_SECONDS: Final = 2.0
#: Seconds that a new connection has for its first request when the server stops.
_FIRST_REQUEST: Final = 2.0
#: Requests that a client may send ahead before it is read no further.
_AHEAD: Final = 4
#: To a connection over a limit. It is not waited for: the client may not see it.
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)

#: What an application may ask for beside the usual.
_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}

_NOT_A_REQUEST = Request("GET", "", b"", b"", "1.1", [])

Address = tuple[str, "int | None"]


def _address(value: Any) -> Address | None:
    """``(host, port)`` of an internet address."""
    if isinstance(value, tuple) and len(value) >= 2:
        return (value[0], value[1])
    return None


class Connection(Http1, asyncio.BufferedProtocol):
    """One accepted connection. Its own deadline is that of what the client owes: a head, a body, taking its answer."""

    __slots__ = (
        "_early",
        "_waiters",
        "http2",
        "websocket",
    )

    def __init__(self, context: Context, buffer: memoryview | None = None) -> None:
        super().__init__()
        self.context = context
        self.extensions = _EXTENSIONS
        self.websocket: WebSocketStream | None = None
        # Each read is consumed before the next one, so all connections of a thread read into one buffer.
        self.read_into(buffer if buffer is not None else memoryview(bytearray(_READ_SIZE)))
        #: Bytes that may become the preface of HTTP/2.
        self._early = b""
        self.http2: Http2Session | None = None
        self._requests_left = context.config.keep_alive_requests
        self._waiters: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------ called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport
        self.find_socket()
        self.client = self.peer = _address(transport.get_extra_info("peername"))
        local = transport.get_extra_info("sockname")
        self.server = _address(local)
        if self.server is None and isinstance(local, str) and local:
            self.server = (local, None)
        if self.fd < 0 and transport.get_extra_info("sslcontext") is not None:
            self.scheme = self.peer_scheme = "https"
        context = self.context
        if not context.gate.enter(self.peer[0] if self.peer else None):
            self.closed = True
            transport.write(_REFUSAL)
            transport.close()
            return
        context.connections.add(self)
        context.wheel.arm(self, context.wheel.now + context.config.keep_alive_timeout)
        if self.scheme == "https":
            self._begin_tls(transport.get_extra_info("ssl_object"))
        if context.stopping:
            self.stop()

    def _begin_tls(self, tls: ssl.SSLObject) -> None:
        self.extensions = {**_EXTENSIONS, "tls": tls_extension(tls)}
        if tls.selected_alpn_protocol() == "h2":
            self._begin_http2()

    def received(self, data: memoryview) -> None:  # HOT: http hello
        if self._linger >= 0:
            self._linger += len(data)
            if self._linger > _LINGER_BYTES:
                self.transport.close()
        elif self._parser is None:
            self._open(data)
        else:
            self._parser.feed(data)
            self.parsed()

    def parsed(self) -> None:
        """Act on what the parser reported, or wait for the rest of a head no longer than that may take."""
        if self._parser.events:
            self._pump()
        elif self._stream is None and not self._in_head:
            self._in_head = True
            context = self.context
            if context.config.header_timeout:
                context.wheel.arm(self, context.deadline(context.config.header_timeout))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        context = self.context
        if self not in context.connections:
            return  # it was refused
        self.closed = True
        context.connections.discard(self)
        context.gate.leave(self.peer[0] if self.peer else None)
        if context.metrics is not None:
            context.metrics.connection_ended(self)
        context.wheel.disarm(self)
        stream, self._stream = self._stream, None
        if stream is not None:
            context.running -= 1
            stream.disconnected = True
            stream.on_end()
        # Not kept: it knows this connection, and the two would wait for the collector.
        websocket, self.websocket = self.websocket, None
        if websocket is not None:
            context.running -= 1
            self.sink = None
            websocket.lost()
        if self.http2 is not None:
            self.http2.lost()
        self.resume_writing()
        context.note_end()

    def pause_writing(self) -> None:
        self.write_paused = True
        stream = self._stream
        if stream is not None:
            if stream.body_complete and self.http2 is None:
                # Watch what the client takes from now on, not when its next request would be due.
                context = self.context
                self._unsent = self.transport.get_write_buffer_size()
                context.wheel.arm(self, min(self.deadline, context.deadline(context.config.write_timeout)))
            stream.on_full()
        if self.websocket is not None:
            self.websocket.on_full()

    def resume_writing(self) -> None:
        if not self.write_paused:
            return
        self.write_paused = False
        self._unsent = 0
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._stream is not None:
            self._stream.on_room()
        if self.websocket is not None:
            self.websocket.on_room()
        if self.http2 is not None:
            self.http2.on_room()

    # ------------------------------------------------------------ called by streams and bridges

    async def drain(self) -> None:
        """Wait until the transport's buffer has room, or the connection is gone."""
        while self.write_paused and not self.closed:
            waiter = self.context.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def hold(self, reason: int) -> None:
        """Pause reading for ``reason``."""
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def release(self, reason: int) -> None:
        """End ``hold`` for ``reason``."""
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection."""
        self.fd = -1
        self.transport.abort()

    def close(self) -> None:
        """Close when what was written has left."""
        self.fd = -1
        self.transport.close()

    def answer(self, request: Request, status: int, headers: Headers, page: bytes) -> None:
        """Send a whole response that the server makes itself, and close."""
        self.write(encode_head(request, status, headers, self.context.common, False)[0] + page)
        self.close_after_answer()

    def accept_socket(self, handshake: Handshake, subprotocol: str | None, headers: Headers) -> None:
        """Write the 101 response. Raises as ``Handshake.response``."""
        self.write_now(handshake.response(subprotocol, headers, self.context.common.lines))

    def close_after_answer(self) -> None:
        """Close, but read on for a moment: unread input would make the system reset the connection."""
        if self._linger >= 0 or self.transport.is_closing():
            return
        self._linger = 0
        self.fd = -1
        if self.websocket is not None:
            self.websocket = self.sink = None
            self.context.running -= 1
        self.release(self._holds)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.context.wheel.arm(self, self.context.deadline(_LINGER_SECONDS))
        else:
            self.transport.close()

    def response_complete(self, stream: HttpStream) -> None:
        """``stream`` has written its last byte: go on with the next request, or close."""
        context = self.context
        if context.observe is not None:
            context.observe(stream)
        self._stream = None
        context.running -= 1
        stream.on_end()
        if stream.keep_alive and not context.stopping:
            wheel = context.wheel
            if self._slot == NO_SLOT or not stream.request.complete:
                wheel.arm(self, wheel.now + context.config.keep_alive_timeout)
            else:
                self.deadline = wheel.now + context.config.keep_alive_timeout
            if self._holds:
                self.release(HOLD_BODY)
            if self._parser.events:
                # Not now: the application whose answer this was has not returned yet.
                context.loop.call_soon(self.parsed)
        elif stream.body_complete and not self._parser.events and self._linger < 0:
            self.transport.close()
        else:
            self.close_after_answer()

    def stop(self) -> None:
        """The server stops: close now when idle, after the response otherwise, also when its request is on the way."""
        if self.http2 is not None:
            self.http2.go_away()
        elif self._stream is None and self.websocket is None and not self._in_head and self._linger < 0:
            wheel = self.context.wheel
            # No client sends its first request twice, as it would a later one of a connection that was idle.
            until = self.deadline - self.context.config.keep_alive_timeout + _FIRST_REQUEST
            if self._parser is None and until > wheel.now:
                wheel.arm(self, min(self.deadline, until))
            else:
                self.transport.close()

    @property
    def held(self) -> bool:
        """Reading is paused: the client cannot be heard."""
        return self._holds != 0

    @property
    def client_name(self) -> str | None:
        """``host:port`` of the client, or ``None`` on a Unix socket."""
        return f"{self.client[0]}:{self.client[1]}" if self.client else None

    @property
    def busy(self) -> bool:
        """A request or a socket is open."""
        return self._stream is not None or bool(self.sockets)

    @property
    def sockets(self) -> list[WebSocketStream]:
        """The WebSockets that are open."""
        if self.http2 is not None:
            return self.http2.sockets
        return [] if self.websocket is None else [self.websocket]

    # ------------------------------------------------------------ HTTP

    def _open(self, data: memoryview) -> None:
        """The first bytes: those of HTTP/2 say so (RFC 9113 section 3.4)."""
        if not self._early and data[0] != PREFACE[0]:
            self._parser = HttpParser(self.context.config.limits)
            self.received(data)
            return
        early = self._early + bytes(data)
        if not PREFACE.startswith(early[: len(PREFACE)]):
            self._parser = HttpParser(self.context.config.limits)
            self.received(memoryview(early))
        elif len(early) < len(PREFACE):
            self._early = early
            if not self._in_head:
                self._in_head = True
                self.context.wheel.arm(self, self.context.deadline(self.context.config.header_timeout))
        elif INSTALLED and self.context.config.http2:
            self._begin_http2()
            self.received(memoryview(early))
        else:
            logger.warning("%s speaks HTTP/2, which needs the extra fastchannels[http2]", self.client_name)
            self.write(NOT_SPOKEN)
            self.close_after_answer()

    def _begin_http2(self) -> None:
        # Not before: where nobody speaks HTTP/2, nothing of it is loaded.
        from fastchannels.server.http2_session import Http2Session

        self._in_head = True
        self._parser = self.http2 = Http2Session(self)

    def _pump(self) -> None:  # HOT: http hello
        """Act on what the parser reported, up to a request that must wait."""
        events = self._parser.events
        while events and not self.closed and self._linger < 0:
            event = events[0]
            stream = self._stream
            if type(event) is Request:
                if stream is not None:
                    # A client that is read is one whose leaving is seen.
                    if len(events) > _AHEAD or type(events[-1]) is not Request:
                        self.hold(HOLD_PIPELINE)
                    return
                events.popleft()
                self._in_head = False
                context = self.context
                context.running += 1
                self._requests_left -= 1
                if not self._requests_left:
                    event.keep_alive = False
                answer = context.front.answer(self, event) if context.front is not None else None
                if answer is None and event.websocket:
                    self._begin_websocket(event)
                    continue
                self._stream = stream = answer if answer is not None else context.bridge.http(self, event)
                if context.observe is not None:
                    stream.since = monotonic()
                if not event.complete:
                    context.wheel.arm(self, context.deadline(context.config.body_timeout))
                stream.begin()
            elif type(event) is bytes:
                events.popleft()
                if stream is not None:
                    self._extend(len(event))
                    stream.on_body(event)
            elif type(event) is BodyEnd:
                events.popleft()
                if stream is not None:
                    stream.body_complete = True
                    stream.on_body_end()
            else:
                assert isinstance(event, HttpError)
                if stream is not None and stream.body_complete:
                    return  # it belongs to a later request; the answers before it come first
                events.popleft()
                self._answer_error(event, stream)
        if self._holds:
            self.release(HOLD_PIPELINE)

    def _answer_error(self, error: HttpError, stream: HttpStream | None) -> None:
        """The client broke HTTP: answer in place of the response that has not begun, then close."""
        if stream is not None:
            self._stream = None
            self.context.running -= 1
            stream.disconnected = True
            begun = stream.begun
            stream.on_end()
            if begun:
                self.abort()
                return
        headers, page = error_page(error.status, error.reason)
        self.answer(_NOT_A_REQUEST, error.status, headers, page)

    def _begin_websocket(self, request: Request) -> None:
        self.context.wheel.disarm(self)
        stream = self.context.bridge.websocket(self, request)
        self.websocket = self.sink = stream
        trailing, self._parser.trailing = self._parser.trailing, b""
        stream.open()
        if trailing:
            stream.feed(memoryview(trailing))

    def _extend(self, received: int) -> None:
        """Part of a body arrived: give it the time that its size earns, at the slowest rate allowed."""
        context = self.context
        config = context.config
        if self.deadline != NEVER:
            earned = received / config.body_rate if config.body_rate > 0 else NEVER
            context.wheel.arm(self, min(self.deadline + earned, context.deadline(config.body_timeout)))

    def expired(self, now: float) -> None:
        """The client was too slow with a head or a body, takes nothing of its answer, or has nothing more to ask."""
        if self.http2 is not None and self._linger < 0:
            self.http2.expired(now)
            return
        context = self.context
        config = context.config
        stream = self._stream
        unsent = self.transport.get_write_buffer_size() if self.websocket is None else 0
        if unsent and unsent == self._unsent:
            context.drops.note("write_timeout", f"{self.client_name} is cut off: it takes nothing of its answer")
            self.abort()
        elif unsent or (stream is not None and stream.body_complete):
            self._unsent = unsent if self.write_paused or stream is None else 0
            context.wheel.arm(self, context.deadline(config.write_timeout))
            if stream is None:
                self.transport.close()
        elif stream is not None:
            if self._holds or stream.waits_for_continue:
                context.wheel.arm(self, context.deadline(config.body_timeout))
            else:
                context.drops.note("body_timeout", f"{self.client_name} is cut off: its request body is too slow")
                self._answer_error(HttpError(408, "the request body is too slow"), stream)
        elif self._in_head and self._linger < 0:
            context.drops.note("header_timeout", f"{self.client_name} is cut off: its request head is too slow")
            self._answer_error(HttpError(408, "the request head is too slow"), None)
        else:
            self.transport.close()


def connection_factory(context: Context) -> Callable[[], Connection]:
    """Makes the connections of one server. They share a read buffer where a read is consumed at once."""
    if sys.platform == "win32":
        return lambda: Connection(context)
    buffer = memoryview(bytearray(_READ_SIZE))
    return lambda: Connection(context, buffer)
