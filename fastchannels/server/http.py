"""HTTP/1.1 without I/O (RFC 9112): the parser of requests, and response heads and chunks as bytes."""

from __future__ import annotations

import html
import http
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final, NamedTuple

from fastchannels._core.http import HttpParser, encode_head, encode_interim, encode_trailers
from fastchannels.server.events import Headers

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
    "encode_trailers",
    "error_page",
]


class HttpLimits(NamedTuple):
    """What a client may send before a body, and the last two for the trailers behind it."""

    request_line: int = 16 * 1024  #: bytes of the request line: 414
    header_bytes: int = 64 * 1024  #: bytes of all header lines: 431
    headers: int = 100  #: header lines: 431


#: How a body is framed, when it is not a number of bytes.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
NO_BODY: Final = -3

LAST_CHUNK: Final = b"0\r\n\r\n"


class CommonHeaders:
    """``Date``, ``Server`` and the ``further`` lines that each response carries, made once a second."""

    __slots__ = ("_second", "_with_date", "all", "date", "further", "lines", "server")

    def __init__(
        self, server_name: str | None, with_date: bool = True, further: Iterable[tuple[str, str]] = ()
    ) -> None:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in further]
        names = {name.lower() for name, _ in pairs}
        if server_name and b"server" not in names:
            self.server = f"Server: {server_name}\r\n".encode("latin-1")
        else:
            self.server = b""
        self.further = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        #: For a handshake's answer.
        self.lines = self.server + self.further
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
