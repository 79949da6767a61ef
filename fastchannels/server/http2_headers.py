"""Header fields of HTTP/2: those of a request, checked (RFC 9113 section 8), and a response's, encoded (RFC 7541).

The encoder keeps no dynamic table: a response's fields are literals, with names of the static table where it has them.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from typing import Final

from fastchannels.exceptions import HttpError
from fastchannels.server.events import Headers, Request
from fastchannels.server.http import CHUNKED, NO_BODY, CommonHeaders, HttpLimits


class Malformed(Exception):
    """A request that RFC 9113 section 8.1.1 calls malformed: its stream is reset."""


# ---------------------------------------------------------------------------------------------------- requests

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
#: RFC 9110 section 5.5, and no white space at the ends.
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?").fullmatch
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]+").fullmatch
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*|\*").fullmatch
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
#: RFC 9113 section 8.2.2: what speaks of one connection.
_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_SPECIAL: Final = _CONNECTION | {b"te", b"host", b"content-length", b"cookie", b"expect", b"daphne-root-path"}


def check_field(name: bytes, value: bytes) -> None:
    """Raises ``Malformed`` for what may not stand in a header or trailer section."""
    if not _NAME(name):
        raise Malformed("a field name in upper case, or none")
    if not _VALUE(value):
        raise Malformed("a field value with control characters, or white space at its ends")
    if name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed(f"the field {name.decode()} speaks of a connection")


def read_request(fields: Iterable[tuple[bytes, bytes]], complete: bool, limits: HttpLimits) -> Request:
    """The request with these fields; ``complete`` says that it has no body.

    Raises ``Malformed``, or ``HttpError`` for a request that is well formed and that the server refuses.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    cookies: list[bytes] = []
    host: bytes | None = None
    root_path: str | None = None
    length: int | None = None
    expect = regular = takes_trailers = False
    size = count = 0
    for name, value in fields:
        size += len(name) + len(value) + 4
        count += 1
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO:
                raise Malformed("a pseudo-header field that is unknown, repeated or late")
            if not _VALUE(value):
                raise Malformed("a pseudo-header field with control characters")
            pseudo[name] = value
            continue
        regular = True
        check_field(name, value)
        if name in _SPECIAL:
            if name == b"cookie":
                cookies.append(value)
                continue
            if name == b"host":
                if host is not None:
                    raise Malformed("two Host fields")
                host = value
            elif name == b"content-length":
                if not value.isdigit() or (length is not None and length != int(value)):
                    raise Malformed("Content-Length is not one number")
                length = int(value)
            elif name == b"te":
                takes_trailers = True
            elif name == b"expect":
                expect = value.lower() == b"100-continue"
            elif name == b"daphne-root-path":
                root_path = urllib.parse.unquote(value.decode("latin-1"))
                continue
        if b"_" not in name:  # it could shadow dashes in META (D-61)
            headers.append((name, value))
    if size > limits.header_bytes or count > limits.headers:
        raise HttpError(431, "too many or too large header fields")
    if cookies:
        headers.append((b"cookie", b"; ".join(cookies)))  # RFC 9113 section 8.2.3
    method = _method(pseudo)
    authority = pseudo.get(b":authority")
    if authority is None:
        authority = host
    elif host is not None:
        if host.lower() != authority.lower():
            raise Malformed("Host and :authority differ")
        headers = [header for header in headers if header[0] != b"host"]
    if authority is None or not _AUTHORITY(authority):
        raise Malformed("a request needs an authority that is a host")
    if host is None or b":authority" in pseudo:
        headers.insert(0, (b"host", authority))
    if complete and length:
        raise Malformed("a body is announced and there is none")
    protocol = pseudo.get(b":protocol")
    if protocol is not None and (complete or length is not None):
        raise Malformed("a tunnel that has ended, or has a length")
    if method == "CONNECT" and protocol != b"websocket":
        raise HttpError(501, "CONNECT")
    target = pseudo[b":path"]
    if len(target) > limits.request_line:
        raise HttpError(414, "the request target is too long")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    request = Request(
        method,
        urllib.parse.unquote(path) if "%" in path else path,
        raw_path,
        query,
        "2",
        headers,
        websocket=protocol is not None,
        expect_continue=expect and not complete,
        content_length=length,
        root_path=root_path,
        te_trailers=takes_trailers,
    )
    request.complete = complete
    return request


def _method(pseudo: dict[bytes, bytes]) -> str:
    """The method, when the pseudo-header fields that belong to it are there (RFC 9113 section 8.3.1, RFC 8441)."""
    method = pseudo.get(b":method")
    if method is None or not _METHOD(method):
        raise Malformed(":method is missing or no token")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if b":scheme" in pseudo or b":path" in pseudo:
            raise Malformed("CONNECT has neither :scheme nor :path")
        return "CONNECT"
    if b":protocol" in pseudo and method != b"CONNECT":
        raise Malformed(":protocol goes with CONNECT only")
    if pseudo.get(b":scheme") not in (b"http", b"https"):
        raise Malformed(":scheme is neither http nor https")
    path = pseudo.get(b":path", b"")
    if not _TARGET(path) or (path == b"*" and method != b"OPTIONS"):
        raise Malformed(":path is missing or no path")
    return method.decode("ascii")


def check_trailers(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises ``Malformed`` for a trailer section that may not be."""
    for name, value in fields:
        check_field(name, value)


# ---------------------------------------------------------------------------------------------------- responses

_ORDINARY, _LENGTH, _LEFT_OUT, _DATE, _SERVER = range(5)
_KINDS: Final = {
    b"content-length": _LENGTH,
    **dict.fromkeys(_CONNECTION, _LEFT_OUT),
    b"date": _DATE,
    b"server": _SERVER,
}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_BREAK = re.compile(rb"[\r\n\0]").search
_INDEXED_STATUS: Final = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
_STATUS_NAME: Final = 8
_STATIC_NAMES: Final = {
    name: index
    for index, name in enumerate(
        b"accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow "
        b"authorization cache-control content-disposition content-encoding content-language content-length "
        b"content-location content-range content-type cookie date etag expect expires from host if-match "
        b"if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
        b"proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
        b"strict-transport-security transfer-encoding user-agent vary via www-authenticate".split(),
        15,
    )
}
_LITERAL: Final = 0x00
_NEVER_INDEXED: Final = 0x10  #: RFC 7541 section 7.1.3: a proxy shall not keep it in a table either
#: Names as they were spelled: what they are, and their encoding. Bounded, because applications may make names up.
_names: dict[bytes, tuple[int, bytes]] = {}

#: Begins the first header section of a connection: our dynamic table is empty and stays so (RFC 7541 section 6.3).
NO_TABLE: Final = b"\x20"


def _integer(value: int, prefix_bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS: Final = tuple(_integer(length, 7, 0) for length in range(512))


def _name(name: bytes) -> tuple[int, bytes]:
    if not isinstance(name, bytes):
        raise TypeError(f"header name {name!r}: bytes are needed")
    if not _TOKEN(name):
        raise ValueError(f"header name {name!r} is not a token")
    lower = name.lower()
    form = _NEVER_INDEXED if lower == b"set-cookie" else _LITERAL
    index = _STATIC_NAMES.get(lower)
    encoded = _integer(index, 4, form) if index else bytes((form,)) + _integer(len(lower), 7, 0) + lower
    found = (_KINDS.get(lower, _ORDINARY), encoded)
    if len(_names) < 1024:
        _names[name] = found
    return found


def _value(value: bytes) -> bytes:
    value = value.strip(b" \t")
    if _BREAK(value):
        raise ValueError("a response header holds a line break or a NUL")
    length = len(value)
    return (_LENGTHS[length] if length < 512 else _integer(length, 7, 0)) + value


def encode_fields(headers: Iterable[Iterable[bytes]]) -> bytes:
    """Fields as they are given, but for those that HTTP/2 does not know: trailers, and heads of interim responses.

    Raises ``ValueError`` or ``TypeError`` for what may not stand there.
    """
    parts: list[bytes] = []
    for name, value in headers:
        kind, encoded = _names.get(name) or _name(name)
        if kind != _LEFT_OUT:
            parts += (encoded, _value(value))
    return b"".join(parts)


def encode_status(status: int) -> bytes:
    """The field ``:status``."""
    index = _INDEXED_STATUS.get(status)
    return bytes((0x80 | index,)) if index else b"\x08\x03%d" % status


def encode_response(
    status: int, headers: Iterable[Iterable[bytes]], common: CommonHeaders, bodiless: bool
) -> tuple[bytes, int]:
    """The header section of a response, and the framing of its body as ``http.encode_head`` gives it.

    ``bodiless``: it answers HEAD. Raises ``ValueError`` or ``TypeError`` for what may not stand in a head.
    """
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"response status {status!r}: 200 to 999 is possible")
    parts = [encode_status(status)]
    length = CHUNKED
    own = _ORDINARY
    for name, value in headers:
        kind, encoded = _names.get(name) or _name(name)
        if kind:
            if kind == _LENGTH:
                if not value.isdigit():
                    raise ValueError(f"Content-Length {value!r} is not a number")
                new_length = int(value)
                if length not in (CHUNKED, new_length):
                    raise ValueError("two Content-Length headers that differ")
                if length == new_length or status == 204:
                    continue
                length = new_length
            elif kind == _LEFT_OUT:
                continue
            else:
                own |= 1 << kind
        parts += (encoded, _value(value))
    for kind, line in _common_lines(common.all):
        if not own & 1 << kind:
            parts.append(line)
    framing = NO_BODY if bodiless or status == 204 or status == 304 else length
    return b"".join(parts), framing


_last_common: tuple[bytes, list[tuple[int, bytes]]] = (b"", [])


def _common_lines(block: bytes) -> list[tuple[int, bytes]]:
    """The kind and encoding of each field that every response carries; they change once a second."""
    global _last_common
    if block is not _last_common[0]:
        lines = []
        for line in block.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            kind, encoded = _name(name)
            lines.append((kind, encoded + _value(value)))
        _last_common = (block, lines)
    return _last_common[1]
