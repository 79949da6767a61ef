"""One WebSocket, between a connection and a bridge: handshake, time-outs, pings and the end, which is told once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any, Final

from fastchannels._core.socket import FrameStream
from fastchannels._core.websocket import WebSocketConnection
from fastchannels.server.events import Request
from fastchannels.server.http import error_page
from fastchannels.server.stream import HOLD_RATE, HOLD_SOCKET, Carrier, HttpStream
from fastchannels.server.timer import NEVER, Timed
from fastchannels.server.websocket import Handshake, HandshakeError

logger = logging.getLogger("fastchannels.server")

#: Bytes that a client may send ahead of the answer to its handshake.
_EARLY_BYTES: Final = 64 * 1024
#: Seconds that an application has to answer what came just before its client's end.
_ANSWER_GRACE: Final = 0.5
#: For the application, when the transport ended without a close frame (RFC 6455 section 7.1.5).
_ABNORMAL: Final = 1006


class WebSocketStream(FrameStream):
    """Subclassed by each bridge: it calls ``accept``, ``reject``, ``send_*``, ``close``; the connection the rest."""

    __slots__ = ("_close_code", "_early", "_earned_at", "_handshake", "_kept", "_life", "_since", "subprotocols")

    connection: Carrier
    request: Request
    #: Frames that wait for a slow client, and whether each is a message, which may be dropped.
    backlog: deque[tuple[bytes, bool]] | None

    def __init__(self, connection: Carrier, request: Request) -> None:
        self.request = request
        #: What the client offers, best first.
        self.subprotocols: list[str] = []
        self._handshake: Handshake
        self._early = b""
        self._close_code = _ABNORMAL
        self._life = NEVER
        self._since = monotonic()
        #: Bytes of the messages in ``backlog``.
        self._kept = 0

    # ------------------------------------------------------------ what a bridge overrides

    def begin(self) -> None:
        """The handshake is valid and waits for ``accept``, ``reject`` or ``deny``."""

    def on_text(self, text: str) -> None:
        """A message of text."""

    def on_binary(self, data: bytes) -> None:
        """A binary message."""

    def on_close(self, code: int, reason: str) -> None:
        """The end, once: refused, closed by either side, or lost (1006). Nothing follows."""

    def send_other(self, message: dict[str, Any]) -> None:
        """A message of an ASGI application that is no ``websocket.send`` to an open socket."""

    # ------------------------------------------------------------ what a bridge calls

    def accept(self, subprotocol: str | None, headers: Iterable[Iterable[bytes]]) -> None:
        """Open the socket. Raises ``UsageError`` for a subprotocol that was not offered or a malformed header."""
        pairs = [(name, value) for name, value in headers]
        connection = self.connection
        context = connection.context
        connection.accept_socket(self._handshake, subprotocol, pairs)
        config = context.config
        self.accepted = True
        agreed = self._handshake.deflate
        self.ws = WebSocketConnection(
            config.ws_max_size, config.ws_max_frame_size, deflate=agreed.bits if agreed is not None else 0
        )
        self._earned_at = self.heard = context.wheel.clock()
        if config.ws_message_rate > 0:
            self.messages_allowed = config.ws_message_rate
        if config.ws_byte_rate > 0:
            self.bytes_allowed = config.ws_byte_rate
        if config.websocket_timeout is not None and config.websocket_timeout > 0:
            self._life = self.heard + config.websocket_timeout
        self._schedule()
        self._log("connected")
        early, self._early = self._early, b""
        if early:
            # Not now: what the bridge sends with its accept goes out before anything the client's frames cause.
            self.put_off(early)
            context.loop.call_soon(self.catch_up)

    def reject(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with an error page, and end the socket with 1006 for the application."""
        if self.accepted or self.closed:
            return
        self._answer(status, "", headers)
        self._denied()

    def deny(self) -> HttpStream:
        """The stream on which an application answers the handshake with an HTTP response of its own."""
        return _Denial(self)

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close; ``on_close`` follows with this code. Raises ``UsageError`` for a code that cannot be sent."""
        if self.ws is None or self.closing or self.closed:
            return
        self.ws.send_close(code, reason)
        self.closing = True
        self._close_code = code
        self.flush()
        context = self.connection.context
        context.wheel.arm(self, context.deadline(context.config.websocket_close_timeout))
        # The client's close frame must be read, whatever held reading back. Its messages are dropped from here on.
        if self.ending:
            self.end_now()
        else:
            self.catch_up()

    # ------------------------------------------------------------ what the connection calls

    def open(self) -> None:
        """The head of the request is here: check it and ask the bridge."""
        try:
            request = self.request
            deflate = self.connection.context.config.ws_per_message_deflate
            self._handshake = Handshake(request.method, request.headers, request.version, deflate)
        except HandshakeError as error:
            self.closed = True
            self._answer(error.status, error.reason, error.headers)
            return
        self.subprotocols = self._handshake.subprotocols
        self._log("connecting")
        context = self.connection.context
        context.wheel.arm(self, context.deadline(context.config.websocket_connect_timeout))
        self.begin()

    def on_full(self) -> None:
        """The client reads too slowly: what is sent is kept back until ``on_room``."""
        if self.ws is not None:
            self.ws.mute = True

    def on_room(self) -> None:
        """End of ``on_full``."""
        if self.ws is None:
            return
        backlog = self.backlog
        while backlog and not self.connection.write_paused:
            frame, message = backlog.popleft()
            if message:
                self._kept -= len(frame)
            self.connection.write(frame)
        if not backlog:
            self.backlog = None
            if not self.connection.write_paused:
                self.ws.mute = False
                self.flush()

    def lost(self) -> None:
        """The transport is gone."""
        if self.ending:
            self.end_now()
        self.socket_ends(_ABNORMAL, "")

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
        if self.ending:
            self.end_now()
            return
        if self.closing:
            self.connection.abort()
            return
        config = self.connection.context.config
        if now >= self._life:
            self.close(1000)
            return
        if config.ping_interval and config.ping_interval > 0 and not self.connection.held:
            if self.pinged and config.ping_timeout and now - self.pinged >= config.ping_timeout:
                self.connection.abort()
                return
            if not self.pinged and now - self.heard >= config.ping_interval:
                assert self.ws is not None
                self.ws.send_ping()
                self.flush()
                self.pinged = now
        self._schedule()

    # ------------------------------------------------------------ what the half below calls

    def over_rate(self) -> None:
        """More came than is allowed: let time earn it, and read no further until it has."""
        context = self.connection.context
        config = context.config
        now = context.wheel.clock()
        earned, self._earned_at = now - self._earned_at, now
        wait = 0.0
        if config.ws_message_rate > 0:
            rate = config.ws_message_rate
            self.messages_allowed = min(self.messages_allowed + int(earned * rate), self.messages_in + rate)
            wait = (self.messages_in - self.messages_allowed) / rate
        if config.ws_byte_rate > 0:
            rate = config.ws_byte_rate
            self.bytes_allowed = min(self.bytes_allowed + int(earned * rate), self.bytes_in + rate)
            wait = max(wait, (self.bytes_in - self.bytes_allowed) / rate)
        if wait > 0:
            context.drops.note(
                "rate",
                f"websocket {self.request.shown} of {self.connection.client_name} is held for {wait:.1f} s: it sends "
                "too fast (ws_message_rate, ws_byte_rate)",
            )
            self.connection.hold(HOLD_RATE)
            context.wheel.arm(_Earning(self), now + wait)

    def early(self, data: bytes) -> None:
        """Bytes that come before the handshake is answered."""
        self._early += data
        if len(self._early) > _EARLY_BYTES:
            self.hold()

    def hold(self) -> None:
        """Read no further."""
        self.connection.hold(HOLD_SOCKET)

    def go_on(self) -> None:
        """End of ``hold``."""
        self.connection.release(HOLD_SOCKET)

    def client_ends(self, told: bool) -> None:
        """The client's close frame or fault is here; ``told`` when messages came just before it."""
        if told and not self.closing and self.mailbox is not None and not self.mailbox.idle:
            # What the application answers to them leaves before the close frame.
            self.ending = True
            self.hold()
            context = self.connection.context
            context.wheel.arm(self, context.deadline(_ANSWER_GRACE))
        else:
            self.end_now()

    def waits_for_room(self) -> bool:
        """A sender waits for a slow client; else it goes on, and messages are dropped."""
        return self.connection.context.config.ws_slow_client == "close"

    def keep_back(self, message: bool) -> None:
        """Keep what was just sent, a message or a control frame, until a slow client has room for it."""
        assert self.ws is not None
        frame = b"".join(self.ws.data_to_send())
        if self.backlog is None:
            self.backlog = deque()
        if message:
            config = self.connection.context.config
            budget = config.ws_write_budget
            if self._kept and budget and self._kept + len(frame) > budget:
                if config.ws_slow_client == "close":
                    self._too_slow()
                    return
                self._make_room(budget - len(frame) if config.ws_slow_client == "drop_oldest" else 0)
            self._kept += len(frame)
        self.backlog.append((frame, message))

    def socket_ends(self, code: int, reason: str) -> None:
        """The end, told once to the bridge."""
        if self.closed:
            return
        self.closed = True
        self.backlog = None
        self.connection.context.wheel.disarm(self)
        code = self._close_code if self.closing else code
        self._log("disconnected", code=code, time_taken=monotonic() - self._since)
        self.on_close(code, reason)

    # ------------------------------------------------------------ own

    def _make_room(self, kept: int) -> None:
        """Drop the oldest messages of the backlog until at most ``kept`` bytes of them are left."""
        assert self.backlog is not None
        rest: deque[tuple[bytes, bool]] = deque()
        for frame, message in self.backlog:
            if message and self._kept > kept:
                self._kept -= len(frame)
                self._drop("dropped")
            else:
                rest.append((frame, message))
        self.backlog = rest

    def _too_slow(self) -> None:
        self._drop("closed")
        self.backlog = deque(entry for entry in self.backlog or () if not entry[1])
        self._kept = 0
        self.close(1013, "too slow")

    def _drop(self, what: str) -> None:
        self.connection.context.drops.note(
            f"slow_client_{what}",
            f"websocket {self.request.shown} of {self.connection.client_name} reads too slowly: "
            + ("a message is dropped" if what == "dropped" else "it is closed")
            + " (ws_write_budget, ws_slow_client)",
        )

    def _schedule(self) -> None:
        """The earliest of what can happen next to an open socket."""
        context = self.connection.context
        config = context.config
        deadline = self._life
        if config.ping_interval and config.ping_interval > 0:
            if not self.pinged:
                # A peer that was heard since this was set is found out then, and the rest waited for.
                deadline = min(
                    deadline, max(self.heard, context.wheel.now - config.ping_interval) + config.ping_interval
                )
            elif config.ping_timeout and config.ping_timeout > 0:
                deadline = min(deadline, self.pinged + config.ping_timeout)
            if self.connection.held:
                deadline = max(deadline, context.wheel.now + 1.0)
        context.wheel.arm(self, deadline)

    def _answer(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        page_headers, page = error_page(status, detail)
        self.connection.answer(self.request, status, [*page_headers, *headers], page)

    def _denied(self) -> None:
        self._log("rejected")
        self.socket_ends(_ABNORMAL, "")

    def _log(self, action: str, **details: Any) -> None:
        context = self.connection.context
        if context.metrics is not None:
            context.metrics.socket(self, action, details.get("code", 0))
        logged = context.action_logger
        if logged is not None:
            request = self.request
            details |= {"path": request.shown, "query": request.query_string.decode("latin-1")}
            logged("websocket", action, {**details, "client": self.connection.client_name})


class _Earning(Timed):
    """The time after which a socket that sent too fast is read again."""

    __slots__ = ("_socket",)

    def __init__(self, socket: WebSocketStream) -> None:
        super().__init__()
        self._socket = socket

    def expired(self, now: float) -> None:
        self._socket.connection.release(HOLD_RATE)


class _Denial(HttpStream):
    """A response in place of a WebSocket (extension ``websocket.http.response``)."""

    def __init__(self, socket: WebSocketStream) -> None:
        super().__init__(socket.connection, socket.request)
        socket.request.keep_alive = False
        self._socket = socket

    def on_end(self) -> None:
        self._socket._denied()
