"""HTTP/1.1 without I/O (RFC 9112): the parser of requests, and response heads and chunks as bytes."""

from __future__ import annotations

import html
import http
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final, NamedTuple

from fastchannels._core.http import HttpParser
from fastchannels.server.events import Headers, Request

__all__ = [
    "CHUNKED",
    "LAST_CHUNK",
    "NO_BODY",
    "UNTIL_CLOSE",
    "CommonHeaders",
    "HttpLimits",
    "HttpParser",
    "chunk",
    "encode_head",
    "encode_interim",
    "error_page",
]


class HttpLimits(NamedTuple):
    """What a client may send before a body, and the last two for the trailers behind it."""

    request_line: int = 16 * 1024  #: bytes of the request line: 414
    header_bytes: int = 64 * 1024  #: bytes of all header lines: 431
    headers: int = 100  #: header lines: 431


# ---------------------------------------------------------------------------------------------------- responses

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_ORDINARY, _LENGTH, _CODING, _CONNECTION, _DATE, _SERVER = range(6)
_KINDS: Final = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"date": _DATE,
    b"server": _SERVER,
}
#: Names that were checked, as they were spelled; bounded, because applications may make names up.
_checked: dict[bytes, int] = {}
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}

#: How a body is framed, when it is not a number of bytes.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
NO_BODY: Final = -3

LAST_CHUNK: Final = b"0\r\n\r\n"


class CommonHeaders:
    """``Date``, ``Server`` and the ``further`` lines that each response carries, made once a second."""

    __slots__ = ("_second", "_with_date", "all", "date", "further", "pairs", "server")

    def __init__(
        self, server_name: str | None, with_date: bool = True, further: Iterable[tuple[str, str]] = ()
    ) -> None:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in further]
        names = {name.lower() for name, _ in pairs}
        if server_name and b"server" not in names:
            self.server = f"Server: {server_name}\r\n".encode("latin-1")
            #: For a handshake's answer.
            self.pairs: Headers = [(b"Server", server_name.encode("latin-1")), *pairs]
        else:
            self.server = b""
            self.pairs = pairs
        self.further = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        self._with_date = with_date and b"date" not in names
        self._second = -1
        self.date = b""
        self.all = b""
        self.refresh()

    def refresh(self) -> None:
        """Call at least once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            if self._with_date:
                self.date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self.all = self.date + self.server + self.further


def _kind_of(name: bytes) -> int:
    if not isinstance(name, bytes):
        raise TypeError(f"header name {name!r}: bytes are needed")
    if not _NAME(name):
        raise ValueError(f"header name {name!r} is not a token")
    kind = _KINDS.get(name.lower(), _ORDINARY)
    if len(_checked) < 1024:
        _checked[name] = kind
    return kind


def encode_head(
    request: Request, status: int, headers: Iterable[Iterable[bytes]], common: CommonHeaders, keep_alive: bool
) -> tuple[bytes, int, bool]:  # HOT: http hello
    """The head of a response to ``request``: its bytes, the framing of the body, and whether the connection stays.

    The framing is a number of bytes, or ``CHUNKED``, ``UNTIL_CLOSE``, ``NO_BODY``. Raises ``ValueError`` or
    ``TypeError`` for what may not stand in a head, line breaks above all.
    """
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"response status {status!r}: 200 to 999 is possible")
    line = _STATUS_LINES.get(status)
    parts = [line if line is not None else b"HTTP/1.1 %d \r\n" % status]
    breaks = 1
    length = CHUNKED
    has_date = has_server = False
    for name, value in headers:
        kind = _checked.get(name, -1)
        if kind:
            if kind < 0:
                kind = _kind_of(name)
            if kind == _LENGTH:
                new_length = _parse_length(value)
                if length not in (CHUNKED, new_length):
                    raise ValueError("two Content-Length headers that differ")
                if length == new_length or status == 204:
                    continue
                length = new_length
            elif kind == _CODING:
                continue  # the server frames the body (D-35)
            elif kind == _CONNECTION:
                if b"close" in value.lower():
                    keep_alive = False
                continue
            elif kind == _DATE:
                has_date = True
            elif kind == _SERVER:
                has_server = True
        breaks += 1
        parts += (name, b": ", value, b"\r\n")
    block = b"".join(parts)
    # Each line was built with one break. Any more came from the application and would smuggle a header or a response.
    if not block.count(b"\n") == block.count(b"\r") == breaks or b"\0" in block:
        raise ValueError("a response header holds a line break or a NUL")
    if not (has_date or has_server):
        tail = common.all
    else:
        tail = (b"" if has_date else common.date) + (b"" if has_server else common.server) + common.further
    if request.method == "HEAD" or status == 204 or status == 304:
        framing = NO_BODY
    elif length >= 0:
        framing = length
    elif request.version == "1.1":
        framing = CHUNKED
        tail += b"Transfer-Encoding: chunked\r\n"
    else:
        framing = UNTIL_CLOSE
        keep_alive = False
    if not keep_alive:
        tail += b"Connection: close\r\n"
    elif request.version == "1.0":
        tail += b"Connection: keep-alive\r\n"
    return b"%b%b\r\n" % (block, tail), framing, keep_alive


def encode_interim(status: int, headers: Headers) -> bytes:
    """An interim response (1xx). Raises ``ValueError`` or ``TypeError`` for what may not stand in a head."""
    parts = [_STATUS_LINES[status]]
    for name, value in headers:
        _kind_of(name)
        parts += (name, b": ", value, b"\r\n")
    block = b"".join(parts)
    if not block.count(b"\n") == block.count(b"\r") == len(headers) + 1 or b"\0" in block:
        raise ValueError("a response header holds a line break or a NUL")
    return block + b"\r\n"


def _parse_length(value: bytes) -> int:
    if not value.isdigit():
        raise ValueError(f"Content-Length {value!r} is not a number")
    return int(value)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; ``data`` is not empty, for an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_page(status: int, detail: str = "") -> tuple[Headers, bytes]:
    """Headers and body of a small page for a person."""
    try:
        title = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        title = str(status)
    text = f"<p>{html.escape(detail)}</p>\n" if detail else ""
    page = (
        '<!doctype html>\n<html lang="en">\n'
        f"<head><meta charset=utf-8><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n{text}</body>\n</html>\n"
    ).encode()
    return [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(page))], page
