"""HTTP/1.1 without I/O: bytes in, events out (RFC 9112); response heads and chunks as bytes.

httptools parses, strictly: bare line feeds, folded headers, repeated or signed lengths, and a length beside chunks are
refused there. This file adds limits, the checks that need the whole head, and everything about the answer.
"""

from __future__ import annotations

import html
import http
import re
import time
import urllib.parse
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any, Final, NamedTuple

import httptools

from fastchannels.exceptions import HttpError
from fastchannels.server.events import BODY_END, BodyEnd, Headers, Request


class HttpLimits(NamedTuple):
    """What a client may send before a body."""

    target: int = 16 * 1024  #: bytes of the request target: 414
    header_bytes: int = 64 * 1024  #: bytes of all header lines: 431
    headers: int = 100  #: header lines: 431


# ---------------------------------------------------------------------------------------------------- requests

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*").fullmatch
_SPECIAL: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"daphne-root-path")
)


_METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class HttpParser:
    """Feed it what a client sends; take ``events`` from the left. After an ``HttpError`` event it ignores all input."""

    __slots__ = (
        "_chunked",
        "_content_length",
        "_count",
        "_expect",
        "_fed",
        "_headers",
        "_host",
        "_in_head",
        "_max_count",
        "_max_fed",
        "_max_size",
        "_max_target",
        "_parser",
        "_replaying",
        "_request",
        "_root_path",
        "_size",
        "_target",
        "_upgrade",
        "events",
        "finished",
        "trailing",
    )

    def __init__(self, limits: HttpLimits = HttpLimits()) -> None:  # noqa: B008 - an immutable tuple
        self._max_target = limits.target
        self._max_size = limits.header_bytes
        self._max_count = limits.headers
        self._max_fed = limits.target + limits.header_bytes + 65536
        self._parser: Any = httptools.HttpRequestParser(self)
        #: In order; ``BODY_END`` is left out after a request without a body, whose ``complete`` is true instead.
        self.events: deque[Request | bytes | BodyEnd | HttpError] = deque()
        #: No further event will come: an error, the last request of the connection, or an upgrade.
        self.finished = False
        #: After a WebSocket request: the bytes that followed its head.
        self.trailing = b""
        self._in_head = True
        self._fed = 0
        self._request: Request | None = None
        self._replaying = False
        self._target = b""
        self._headers: Headers = []
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers = []
        self._count = self._size = 0
        self._host: bytes | None = None
        self._chunked = self._expect = False
        self._content_length: int | None = None
        self._upgrade = b""
        self._root_path: str | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Parse ``data`` and append to ``events``. Nothing of ``data`` is kept by reference."""
        if self.finished:
            return
        # A name or value that does not end is not reported until it does: bound it by what was fed.
        if self._in_head:
            self._fed += len(data)
            if self._fed > self._max_fed:
                self._fail(HttpError(431, "the request head is too large"))
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(bytes(memoryview(data)[upgrade.args[0] :]))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, HttpError):
                raise
            self._fail(cause)
        except httptools.HttpParserError as error:
            last = self._request
            if last is None or last.keep_alive or not self._in_head:
                self._fail(HttpError(400, str(error)))
            # else: bytes after a request that said it was the last one
            self.finished = True

    def _fail(self, error: HttpError) -> None:
        self.finished = True
        self.events.append(error)

    def _upgraded(self, rest: bytes) -> None:
        request = self._request
        assert request is not None
        if request.websocket:
            self.finished = True
            self.trailing = rest
            return
        # Some other upgrade, which RFC 9110 section 7.8 lets a server ignore. The parser has stopped before the body,
        # so a new one is told only how the body is framed.
        self._parser = httptools.HttpRequestParser(self)
        self._replaying = True
        length = request.content_length
        framing = b"Transfer-Encoding: chunked\r\n" if request.chunked else b"Content-Length: %d\r\n" % (length or 0)
        close = b"" if request.keep_alive else b"Connection: close\r\n"
        self.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + close + b"\r\n")
        if rest:
            self.feed(rest)

    # ------------------------------------------------------------ callbacks of httptools

    def on_message_begin(self) -> None:
        if not self._replaying:
            self._reset()
            self._in_head = True

    def on_url(self, url: bytes) -> None:
        if self._replaying:
            return
        self._target += url
        if len(self._target) > self._max_target:
            raise HttpError(414, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:  # HOT: http hello
        if self._replaying:
            return
        self._size += len(name) + len(value) + 4
        self._count += 1
        if self._size > self._max_size or self._count > self._max_count:
            raise HttpError(431, "too many or too large header fields")
        if not self._in_head or b"_" in name:
            return  # trailers are not passed on; underscores could shadow dashes in META (D-61)
        name = name.lower()
        if name in _SPECIAL:
            self._special(name, value)
            if name == b"daphne-root-path":
                return
        self._headers.append((name, value))

    def _special(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._host is not None or not _HOST(value):
                raise HttpError(400, "Host must be given once and be a host")
            self._host = value
        elif name == b"content-length":
            self._content_length = int(value)
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise HttpError(501, "Transfer-Encoding other than chunked")
            self._chunked = True
        elif name == b"expect":
            self._expect = value.strip().lower() == b"100-continue"
        elif name == b"upgrade":
            self._upgrade = value.strip().lower()
        else:
            self._root_path = urllib.parse.unquote(value.decode("latin-1"))

    def on_headers_complete(self) -> None:  # HOT: http hello
        self._in_head = False
        self._fed = 0
        if self._replaying:
            return
        parser = self._parser
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise HttpError(505, "HTTP/1.0 or HTTP/1.1 is spoken here")
            if self._chunked:
                raise HttpError(400, "Transfer-Encoding in an HTTP/1.0 request")
        elif self._host is None:
            raise HttpError(400, "a request needs a Host header")
        method = _METHODS.get(parser.get_method()) or parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise HttpError(501, "CONNECT")
        target = self._target
        if not target.startswith(b"/") and target != b"*":
            target = self._absolute(target)
        raw_path, _, query = target.partition(b"?")
        if b"#" in target:
            raise HttpError(400, "a fragment in the request target")
        if b"%" in raw_path:
            path = urllib.parse.unquote(raw_path.decode("ascii"))
        else:
            path = raw_path.decode("ascii")
        websocket = expect = False
        if version == "1.1":
            expect = self._expect
            if self._upgrade == b"websocket" and parser.should_upgrade():
                if self._chunked or self._content_length:
                    raise HttpError(400, "a WebSocket handshake has no body")
                websocket = True
        request = Request(
            method,
            path,
            raw_path,
            query,
            version,
            self._headers,
            parser.should_keep_alive(),
            websocket,
            self._chunked,
            expect,
            self._content_length,
            self._root_path,
        )
        self._request = request
        self.events.append(request)

    def _absolute(self, target: bytes) -> bytes:
        """The origin form of an absolute target; its authority replaces Host (RFC 9112 section 3.2.2)."""
        scheme, _, rest = target.partition(b"://")
        end = min((position for position in (rest.find(b"/"), rest.find(b"?")) if position >= 0), default=len(rest))
        authority, target = rest[:end], rest[end:]
        if scheme.lower() not in (b"http", b"https", b"ws", b"wss") or not authority or not _HOST(authority):
            raise HttpError(400, "the request target is neither a path nor a URL")
        self._headers = [header for header in self._headers if header[0] != b"host"]
        self._headers.insert(0, (b"host", authority))
        return target if target.startswith(b"/") else b"/" + target

    def on_body(self, data: bytes) -> None:
        self.events.append(data)

    def on_message_complete(self) -> None:
        self._replaying, replaying = False, self._replaying
        request = self._request
        if request is None or (not replaying and self._parser.should_upgrade()):
            return  # the end of an upgrade's head: its body, if any, is still to come
        if self.events and self.events[-1] is request:
            request.complete = True
        else:
            self.events.append(BODY_END)
        self._in_head = True


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
    """``Date`` and ``Server`` lines, made once a second."""

    __slots__ = ("_second", "both", "date", "pairs", "server")

    def __init__(self, server_name: str | None) -> None:
        self.server = f"Server: {server_name}\r\n".encode("latin-1") if server_name else b""
        #: For a handshake's answer.
        self.pairs: Headers = [(b"Server", server_name.encode("latin-1"))] if server_name else []
        self._second = -1
        self.date = b""
        self.both = b""
        self.refresh()

    def refresh(self) -> None:
        """Call at least once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self.both = self.date + self.server


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
        tail = common.both
    else:
        tail = (b"" if has_date else common.date) + (b"" if has_server else common.server)
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
