"""What the sans-I/O halves report upward, and both bridges consume."""

from __future__ import annotations

from typing import Final, TypeAlias

from fastchannels.exceptions import HttpError

Headers: TypeAlias = list[tuple[bytes, bytes]]


class Request:
    """The head of one HTTP request. Names in ``headers`` are lower case, and none holds an underscore (D-61)."""

    __slots__ = (
        "chunked",
        "complete",
        "content_length",
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
        "root_path",
        "version",
        "websocket",
    )

    def __init__(
        self,
        method: str,
        path: str,
        raw_path: bytes,
        query_string: bytes,
        version: str,
        headers: Headers,
        keep_alive: bool = True,
        websocket: bool = False,
        chunked: bool = False,
        expect_continue: bool = False,
        content_length: int | None = None,
        root_path: str | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query_string = query_string
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.websocket = websocket
        self.chunked = chunked
        self.expect_continue = expect_continue
        self.content_length = content_length
        #: From the header ``Daphne-Root-Path``, which is not among ``headers``.
        self.root_path = root_path
        #: The whole request had arrived with its head: it has no body.
        self.complete = False

    @property
    def shown(self) -> str:
        """The path for logs: still percent-encoded, so that it holds no line break."""
        return self.raw_path.decode("ascii")


class BodyEnd:
    """The last byte of a request's body has been reported."""

    __slots__ = ()


BODY_END: Final = BodyEnd()

#: A ``bytes`` is a piece of the body of the request before it; an ``HttpError`` is the last event of a connection.
HttpEvent: TypeAlias = "Request | bytes | BodyEnd | HttpError"
