"""One WebSocket, between a connection and a bridge: handshake, time-outs, pings and the end, which is told once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from fastchannels.server.events import Request
from fastchannels.server.http import error_page
from fastchannels.server.stream import HOLD_SOCKET, Carrier, HttpStream
from fastchannels.server.timer import NEVER, Timed
from fastchannels.server.websocket import (
    ABNORMAL,
    BINARY,
    CLOSE,
    PONG,
    TEXT,
    Handshake,
    HandshakeError,
    WebSocketConnection,
)

logger = logging.getLogger("fastchannels.server")

#: Bytes that a client may send ahead of the answer to its handshake.
_EARLY_BYTES: Final = 64 * 1024


class WebSocketStream(Timed):
    """Subclassed by each bridge: it calls ``accept``, ``reject``, ``send_*``, ``close``; the connection the rest."""

    __slots__ = (
        "_close_code",
        "_early",
        "_handshake",
        "_heard",
        "_life",
        "_pinged",
        "_ws",
        "accepted",
        "closed",
        "closing",
        "connection",
        "request",
        "subprotocols",
    )

    def __init__(self, connection: Carrier, request: Request) -> None:
        super().__init__()
        self.connection = connection
        self.request = request
        #: What the client offers, best first.
        self.subprotocols: list[str] = []
        self.accepted = False
        #: Our close frame is on its way; the client's is awaited.
        self.closing = False
        #: ``on_close`` was called: the socket is gone, or was never opened.
        self.closed = False
        self._handshake: Handshake
        self._ws: WebSocketConnection | None = None
        self._early = bytearray()
        self._close_code = ABNORMAL
        self._life = NEVER
        self._heard = 0.0
        #: When a ping was sent whose pong is awaited, or 0.
        self._pinged = 0.0

    # ------------------------------------------------------------ what a bridge overrides

    def begin(self) -> None:
        """The handshake is valid and waits for ``accept``, ``reject`` or ``deny``."""

    def on_text(self, text: str) -> None:
        """A message of text."""

    def on_binary(self, data: bytes) -> None:
        """A binary message."""

    def on_close(self, code: int, reason: str) -> None:
        """The end, once: refused, closed by either side, or lost (1006). Nothing follows."""

    def on_full(self) -> None:
        """The client reads too slowly: stop sending until ``on_room``."""

    def on_room(self) -> None:
        """End of ``on_full``."""

    # ------------------------------------------------------------ what a bridge calls

    def accept(self, subprotocol: str | None, headers: Iterable[Iterable[bytes]]) -> None:
        """Open the socket. Raises ``UsageError`` for a subprotocol that was not offered or a malformed header."""
        pairs = [(name, value) for name, value in headers]
        connection = self.connection
        context = connection.context
        connection.accept_socket(self._handshake, subprotocol, pairs)
        config = context.config
        self.accepted = True
        self._ws = WebSocketConnection(config.ws_max_size)
        self._life = context.deadline(config.websocket_timeout)
        self._heard = context.wheel.clock()
        self._schedule()
        self._log("connected")
        early, self._early = self._early, bytearray()
        if early:
            connection.release(HOLD_SOCKET)
            # Not now: what the bridge sends with its accept goes out before anything the client's frames cause.
            context.loop.call_soon(self.feed, early)

    def reject(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with an error page, and end the socket with 1006 for the application."""
        if self.accepted or self.closed:
            return
        self._answer(status, "", headers)
        self._denied()

    def deny(self) -> HttpStream:
        """The stream on which an application answers the handshake with an HTTP response of its own."""
        return _Denial(self)

    def send_text(self, text: str) -> None:  # HOT: ws echo
        """Send a message of text. Only between ``accept`` and the end."""
        assert self._ws is not None
        self._ws.send_text(text)
        for part in self._ws.data_to_send():
            self.connection.write(part)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message. Only between ``accept`` and the end."""
        assert self._ws is not None
        self._ws.send_bytes(data)
        for part in self._ws.data_to_send():
            self.connection.write(part)

    def send_frame(self, whole: bytes) -> None:
        """Send a frame that was built for several sockets."""
        assert self._ws is not None
        self._ws.send_frame(whole)
        for part in self._ws.data_to_send():
            self.connection.write(part)

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close; ``on_close`` follows with this code. Raises ``UsageError`` for a code that cannot be sent."""
        if self._ws is None or self.closing or self.closed:
            return
        self._ws.send_close(code, reason)
        self.closing = True
        self._close_code = code
        self._flush()
        # The client's close frame must be read, whatever held reading back. Its messages are dropped from here on.
        self.connection.release(HOLD_SOCKET)
        context = self.connection.context
        context.wheel.arm(self, context.deadline(context.config.websocket_close_timeout))

    # ------------------------------------------------------------ what the connection calls

    def open(self) -> None:
        """The head of the request is here: check it and ask the bridge."""
        try:
            self._handshake = Handshake(self.request.method, self.request.headers, self.request.version)
        except HandshakeError as error:
            self.closed = True
            self._answer(error.status, error.reason, error.headers)
            return
        self.subprotocols = self._handshake.subprotocols
        self._log("connecting")
        context = self.connection.context
        context.wheel.arm(self, context.deadline(context.config.websocket_connect_timeout))
        self.begin()

    def feed(self, data: bytes | bytearray | memoryview) -> None:  # HOT: ws echo
        """Bytes of the client."""
        ws = self._ws
        if ws is None:
            self._early += data
            if len(self._early) > _EARLY_BYTES:
                self.connection.hold(HOLD_SOCKET)
            return
        self._heard = self.connection.context.wheel.now
        ws.receive_data(data)
        for event in ws.events_received():
            if event[0] == TEXT:
                if not self.closing:
                    self.on_text(event[1])
            elif event[0] == BINARY:
                if not self.closing:
                    self.on_binary(event[1])
            elif event[0] == PONG:
                self._pinged = 0.0
            elif event[0] == CLOSE:
                self._end(*event[1])
        for part in ws.data_to_send():
            self.connection.write(part)
        if ws.finished:
            self.connection.close_after_answer()

    def lost(self) -> None:
        """The transport is gone."""
        self._end(ABNORMAL, "")

    def go_away(self, reason: str = "") -> None:
        """The server stops (D-31)."""
        if self.accepted:
            self.close(1012, reason)
        else:
            self.reject(503)

    def expired(self, now: float) -> None:
        """No answer to the handshake, the end of its life, silence, or a client that does not close."""
        if self.closed:
            return
        if not self.accepted:
            self.reject(403)
            return
        if self.closing:
            self.connection.abort()
            return
        config = self.connection.context.config
        if now >= self._life:
            self.close(1000)
            return
        if config.ping_interval and config.ping_interval > 0 and not self.connection.held:
            if self._pinged and config.ping_timeout and now - self._pinged >= config.ping_timeout:
                self.connection.abort()
                return
            if not self._pinged and now - self._heard >= config.ping_interval:
                assert self._ws is not None
                self._ws.send_ping()
                self._flush()
                self._pinged = now
        self._schedule()

    # ------------------------------------------------------------ own

    def _schedule(self) -> None:
        """The earliest of what can happen next to an open socket."""
        context = self.connection.context
        config = context.config
        deadline = self._life
        if config.ping_interval and config.ping_interval > 0:
            if not self._pinged:
                # A peer that was heard since this was set is found out then, and the rest waited for.
                deadline = min(
                    deadline, max(self._heard, context.wheel.now - config.ping_interval) + config.ping_interval
                )
            elif config.ping_timeout and config.ping_timeout > 0:
                deadline = min(deadline, self._pinged + config.ping_timeout)
            if self.connection.held:
                deadline = max(deadline, context.wheel.now + 1.0)
        context.wheel.arm(self, deadline)

    def _flush(self) -> None:
        assert self._ws is not None
        for part in self._ws.data_to_send():
            self.connection.write(part)

    def _answer(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        page_headers, page = error_page(status, detail)
        self.connection.answer(self.request, status, [*page_headers, *headers], page)

    def _denied(self) -> None:
        self._log("rejected")
        self._end(ABNORMAL, "")

    def _end(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self.connection.context.wheel.disarm(self)
        self._log("disconnected")
        self.on_close(self._close_code if self.closing else code, reason)

    def _log(self, action: str) -> None:
        logged = self.connection.context.action_logger
        if logged is not None:
            logged("websocket", action, {"path": self.request.shown, "client": self.connection.client_name})


class _Denial(HttpStream):
    """A response in place of a WebSocket (extension ``websocket.http.response``)."""

    def __init__(self, socket: WebSocketStream) -> None:
        super().__init__(socket.connection, socket.request)
        socket.request.keep_alive = False
        self._socket = socket

    def on_end(self) -> None:
        self._socket._denied()
