"""RFC 6455 for the server side, without a socket: the handshake, then a connection of four verbs.

``receive_data`` takes what came, ``events_received`` gives what it meant, the ``send_`` methods say what to answer, and
``data_to_send`` gives the bytes to write. No extension is negotiated: permessage-deflate is declined.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from fastchannels._core.ws import FrameParser, close_code_valid, frame, frame_header
from fastchannels.exceptions import ClientDisconnected, HttpError, UsageError, WebSocketError

if TYPE_CHECKING:
    from fastchannels.server.events import Headers

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

#: ``(TEXT, str)``, ``(BINARY | PING | PONG, bytes)`` or ``(CLOSE, (code, reason))``.
Event: TypeAlias = "tuple[Literal[1], str] | tuple[Literal[2, 9, 10], bytes] | tuple[Literal[8], tuple[int, str]]"

# Close codes that are never sent: what an application is told (RFC 6455 section 7.1.5).
NO_STATUS: Final = 1005  #: the peer's close frame had no code
ABNORMAL: Final = 1006  #: the transport ended without a close frame

# From here on a payload is written beside its header instead of being copied behind it.
_COPY_LIMIT: Final = 64 * 1024

# ---------------------------------------------------------------------------------------------------- handshake

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
#: RFC 9110 section 5.5: visible bytes, space and tab; no control character, so no line break.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
#: What the handshake itself says, and what cannot stand in a 101.
_RESERVED: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    )
)


class HandshakeError(HttpError):
    """A request that cannot become a WebSocket; ``headers`` belong into the answer beside ``status``."""

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        super().__init__(status, reason)
        self.headers: Headers = headers or []


class Handshake:
    """The request to open a WebSocket (RFC 6455 section 4.2.1), checked.

    ``method`` and ``version`` are those of the HTTP request (``"GET"``, ``"1.1"``); the names in ``headers`` are lower
    case, as in an ASGI scope. ``subprotocols`` are the offered ones, best first.

    Raises ``HandshakeError``: 405 for another method, 426 for no upgrade to WebSocket or another version than 13, 400
    for every other fault.
    """

    __slots__ = ("_accept", "subprotocols")

    def __init__(self, method: str, headers: Iterable[tuple[bytes, bytes]], version: str) -> None:
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name, []).append(value)
        if method != "GET":
            raise HandshakeError(405, f"a WebSocket is opened with GET, not {method}", [(b"allow", b"GET")])
        if version != "1.1":
            raise HandshakeError(400, f"a WebSocket is opened over HTTP/1.1, not HTTP/{version}")
        if len(found.get(b"host", ())) != 1:
            raise HandshakeError(400, "one Host header is needed")
        if b"websocket" not in _lower_list(found, b"upgrade"):
            upgrade = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
            raise HandshakeError(426, "the Upgrade header does not name websocket", upgrade)
        if b"upgrade" not in _lower_list(found, b"connection"):
            raise HandshakeError(400, "the Connection header does not name Upgrade")
        if found.get(b"sec-websocket-version") != [b"13"]:
            raise HandshakeError(426, "Sec-WebSocket-Version is not 13", [(b"sec-websocket-version", b"13")])
        self._accept = _accept_value(found.get(b"sec-websocket-key", []))
        self.subprotocols: list[str] = []
        for protocol in _elements(found, b"sec-websocket-protocol"):
            if not _TOKEN(protocol):
                raise HandshakeError(400, f"the subprotocol {protocol!r} is not a token")
            if (name_ := protocol.decode("ascii")) not in self.subprotocols:
                self.subprotocols.append(name_)

    def response(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """The 101 response that opens the socket, with ``subprotocol`` chosen and ``headers`` added as they are given.

        Raises ``UsageError`` for a subprotocol that was not offered, and for a header that is not well formed (line
        breaks above all) or that the handshake sets itself.
        """
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + self._accept,
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise UsageError(
                    f"subprotocol {subprotocol!r} was not offered; the client offers {self.subprotocols or 'none'}"
                )
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode("ascii"))
        for name, value in headers:
            if not _TOKEN(name) or not _VALUE(value):
                raise UsageError(f"header {name!r}: {value!r} is not well formed")
            if name.lower() in _RESERVED:
                raise UsageError(f"header {name!r} is set by the WebSocket handshake itself")
            lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _elements(found: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """The elements of a list header, which may be spread over several lines (RFC 9110 section 5.6.1)."""
    return [part for value in found.get(name, ()) for element in value.split(b",") if (part := element.strip(b" \t"))]


def _lower_list(found: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    return [element.lower() for element in _elements(found, name)]


def _accept_value(keys: list[bytes]) -> bytes:
    """Sec-WebSocket-Accept for the one key (RFC 6455 section 4.2.2)."""
    if len(keys) != 1:
        raise HandshakeError(400, "one Sec-WebSocket-Key header is needed")
    try:
        nonce = base64.b64decode(keys[0], validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise HandshakeError(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())


# ---------------------------------------------------------------------------------------------------- connection

_OPEN, _CLOSING, _FINISHED = range(3)


class WebSocketConnection:
    """An open WebSocket: messages and the closing handshake (RFC 6455 sections 5 to 7), without I/O.

    1. Pings are answered as they come, and told as events, as pongs are.
    2. ``CLOSE`` is told once and is the last event. Its code is the peer's, 1005 when it sent none, 1006 when the
       transport ended first, or the code of the fault (1002, 1007, 1009) when the peer broke the protocol.
    3. A peer's close is answered with its own code, a fault with a close frame that names it. Then ``finished`` is
       true: write ``data_to_send`` and end the transport.
    4. After :meth:`send_close` the peer's messages are still told, until its close comes; only then is it ``finished``.
       The caller bounds that wait.

    ``max_message_size`` and ``max_frame_size`` are bytes, 0 for no limit.
    """

    __slots__ = ("_events", "_gone", "_out", "_parser", "_state")

    def __init__(self, max_message_size: int = 1024 * 1024, max_frame_size: int = 0) -> None:
        self._parser = FrameParser(max_message_size, max_frame_size)
        self._events: list[Event] = []
        self._out: list[bytes] = []
        self._state = _OPEN
        # The client ended the socket, so that a later send is nobody's mistake.
        self._gone = False

    @property
    def open(self) -> bool:
        """Neither side has begun to close: the ``send_`` methods work."""
        return self._state == _OPEN

    @property
    def finished(self) -> bool:
        """Nothing more will come or go: write :meth:`data_to_send`, then end the transport."""
        return self._state == _FINISHED

    # What comes in.

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:  # HOT: benchmarks/bench_ws.py
        """Take bytes of the transport, whatever the peer may send; nothing refers to ``data`` afterwards."""
        if self._state == _FINISHED:
            return
        error: WebSocketError | None
        try:
            events = self._parser.feed(data)
            error = self._parser.error
        except WebSocketError as fault:
            events, error = [], fault
        for event in events:
            if event[0] == CLOSE:
                self._closed_by_peer(*event[1])
                return
            if event[0] == PING and self._state == _OPEN:
                self._out.append(frame(PONG, event[1]))
            self._events.append(event)
        if error is not None:
            self._fail(error)

    def receive_eof(self) -> None:
        """The transport ended. Unless ``CLOSE`` was told before, it is now, with 1006."""
        if self._state != _FINISHED:
            self._finish(ABNORMAL, "")

    def events_received(self) -> list[Event]:
        """The events since the last call, in order."""
        events = self._events
        self._events = []
        return events

    # What goes out.

    def send_text(self, text: str) -> None:
        """Send a message of text.

        This and the methods below raise ``ClientDisconnected`` when the client has ended the socket, ``UsageError``
        after :meth:`send_close`, and ``UsageError`` for a payload that no frame can carry.
        """
        if not isinstance(text, str):
            raise TypeError(f"send_text takes str, not {type(text).__name__}")
        if self._state != _OPEN:
            self._refuse()
        self._out.append(frame(TEXT, text))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message."""
        if self._state != _OPEN:
            self._refuse()
        if type(data) is bytes and len(data) >= _COPY_LIMIT:
            self._out.append(frame_header(BINARY, len(data)))
            self._out.append(data)
        elif isinstance(data, str):
            raise TypeError("send_bytes takes bytes, not str")
        else:
            self._out.append(frame(BINARY, data))

    def send_frame(self, whole: bytes) -> None:
        """Send a frame that was built before, once for many sockets; it is trusted."""
        if self._state != _OPEN:
            self._refuse()
        self._out.append(whole)

    def send_ping(self, data: bytes = b"") -> None:
        """Send a ping of up to 125 bytes."""
        if self._state != _OPEN:
            self._refuse()
        self._out.append(frame(PING, data))

    def send_pong(self, data: bytes = b"") -> None:
        """Send a pong that nobody asked for, as a heartbeat (RFC 6455 section 5.5.3)."""
        if self._state != _OPEN:
            self._refuse()
        self._out.append(frame(PONG, data))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Begin to close; does nothing when either side has begun already.

        Raises ``UsageError`` for a code that may not stand in a close frame and a reason of more than 123 bytes.
        """
        body = _close_body(code, reason)
        if self._state == _OPEN:
            self._out.append(frame(CLOSE, body))
            self._state = _CLOSING

    def data_to_send(self) -> list[bytes]:
        """The bytes to write since the last call, in order."""
        out = self._out
        self._out = []
        return out

    def _refuse(self) -> None:
        if self._gone:
            raise ClientDisconnected("the client has ended the WebSocket")
        raise UsageError("nothing can be sent after send_close")

    def _closed_by_peer(self, code: int | None, reason: str) -> None:
        if self._state == _OPEN:
            self._out.append(frame(CLOSE, b"" if code is None else code.to_bytes(2, "big")))
        self._finish(NO_STATUS if code is None else code, reason)

    def _fail(self, error: WebSocketError) -> None:
        if self._state == _OPEN:
            self._out.append(frame(CLOSE, _close_body(error.code, error.reason)))
        self._finish(error.code, error.reason)

    def _finish(self, code: int, reason: str) -> None:
        self._gone = self._gone or self._state == _OPEN
        self._state = _FINISHED
        self._events.append((CLOSE, (code, reason)))


def _close_body(code: int, reason: str) -> bytes:
    if not close_code_valid(code):
        raise UsageError(f"close code {code}: a close frame carries 1000-1003, 1007-1014 or 3000-4999")
    try:
        text = reason.encode()
    except UnicodeEncodeError:
        raise UsageError("a close reason with a lone surrogate cannot be sent as UTF-8") from None
    if len(text) > 123:
        raise UsageError(f"a close reason has up to 123 bytes of UTF-8, not {len(text)}")
    return code.to_bytes(2, "big") + text
