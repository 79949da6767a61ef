"""The opening handshake of RFC 6455 for the server side, without a socket."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from fastchannels.exceptions import HttpError, UsageError
from fastchannels.server.deflate import Agreement, negotiate

if TYPE_CHECKING:
    from fastchannels.server.events import Headers

# ---------------------------------------------------------------------------------------------------- handshake

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch
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


_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


class HandshakeError(HttpError):
    """A request that cannot become a WebSocket; ``headers`` belong into the answer beside ``status``."""

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        super().__init__(status, reason)
        self.headers: Headers = headers or []


class Handshake:
    """The request to open a WebSocket (RFC 6455 section 4.2.1), checked.

    ``method`` and ``version`` are those of the HTTP request (``"GET"``, ``"1.1"``); the names in ``headers`` are lower
    case, as in an ASGI scope. ``subprotocols`` are the offered ones, best first. With ``deflate``, an offer to compress
    is accepted: then ``deflate`` is the agreement.

    Raises ``HandshakeError``: 405 for another method, 426 for no upgrade to WebSocket or another version than 13, 400
    for every other fault.
    """

    __slots__ = ("_accept", "deflate", "subprotocols")

    def __init__(
        self, method: str, headers: Iterable[tuple[bytes, bytes]], version: str, deflate: bool = False
    ) -> None:
        given = list(headers)
        found = dict(given)
        if len(found) != len(given):
            found = _joined(given)
        if version == "2" and method == "CONNECT":
            # RFC 8441 section 5: the extended CONNECT and its :protocol stand for all that names an upgrade.
            self._accept = b""
        else:
            self._accept = _check_upgrade(method, found, version)
        if found.get(b"sec-websocket-version") != b"13":
            raise HandshakeError(426, "Sec-WebSocket-Version is not 13", [(b"sec-websocket-version", b"13")])
        self.subprotocols: list[str] = []
        if b"sec-websocket-protocol" in found:
            for protocol in _elements(found, b"sec-websocket-protocol"):
                if not _TOKEN(protocol):
                    raise HandshakeError(400, f"the subprotocol {protocol!r} is not a token")
                if (name_ := protocol.decode("ascii")) not in self.subprotocols:
                    self.subprotocols.append(name_)
        self.deflate: Agreement | None = None
        if deflate and b"sec-websocket-extensions" in found:
            self.deflate = negotiate(_elements(found, b"sec-websocket-extensions"))

    def response(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = (), common: bytes = b""
    ) -> bytes:
        """The 101 response that opens the socket over HTTP/1.1, with the ``common`` lines as they are.

        Raises as :meth:`fields`.
        """
        lines = b"".join([b"%b: %b\r\n" % field for field in self.fields(subprotocol, headers)])
        return b"%b%b\r\n%b%b\r\n" % (_SWITCHING, self._accept, common, lines)

    def fields(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> Headers:
        """The header fields of the response, with ``subprotocol`` chosen and ``headers`` added as they are given.

        Raises ``UsageError`` for a subprotocol that was not offered, and for a header that is not well formed (line
        breaks above all) or that the handshake sets itself.
        """
        fields: Headers = []
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise UsageError(
                    f"subprotocol {subprotocol!r} was not offered; the client offers {self.subprotocols or 'none'}"
                )
            fields.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
        if self.deflate is not None:
            fields.append((b"Sec-WebSocket-Extensions", self.deflate.response))
        for name, value in headers:
            if not _TOKEN(name) or not _VALUE(value):
                raise UsageError(f"header {name!r}: {value!r} is not well formed")
            if name.lower() in _RESERVED:
                raise UsageError(f"header {name!r} is set by the WebSocket handshake itself")
            fields.append((name, value))
        return fields


def _joined(headers: Headers) -> dict[bytes, bytes]:
    """Fields by name, the lines of one in one list (RFC 9110 section 5.2)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in found:
            found[name] = value
        elif name == b"host":  # a comma may stand in its value
            raise HandshakeError(400, "one Host header is needed")
        else:
            found[name] += b"," + value
    return found


def _check_upgrade(method: str, found: dict[bytes, bytes], version: str) -> bytes:
    """What asks for an upgrade in HTTP/1.1; returns the value of Sec-WebSocket-Accept (RFC 6455 section 4.2.2)."""
    if method != "GET":
        raise HandshakeError(405, f"a WebSocket is opened with GET, not {method}", [(b"allow", b"GET")])
    if version != "1.1":
        raise HandshakeError(400, f"a WebSocket is opened over HTTP/1.1, not HTTP/{version}")
    if b"host" not in found:
        raise HandshakeError(400, "a Host header is needed")
    if found.get(b"upgrade") != b"websocket" and b"websocket" not in _lower_elements(found, b"upgrade"):
        upgrade = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        raise HandshakeError(426, "the Upgrade header does not name websocket", upgrade)
    if found.get(b"connection") != b"Upgrade" and b"upgrade" not in _lower_elements(found, b"connection"):
        raise HandshakeError(400, "the Connection header does not name Upgrade")
    key = found.get(b"sec-websocket-key", b"")
    if not _KEY(key):
        raise HandshakeError(400, "one Sec-WebSocket-Key header of 16 bytes in base64 is needed")
    return binascii.b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def _elements(found: dict[bytes, bytes], name: bytes) -> list[bytes]:
    """The elements of a list header (RFC 9110 section 5.6.1)."""
    return [part for element in found.get(name, b"").split(b",") if (part := element.strip(b" \t"))]


def _lower_elements(found: dict[bytes, bytes], name: bytes) -> list[bytes]:
    return [element.lower() for element in _elements(found, name)]
