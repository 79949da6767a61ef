from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from fastchannels.exceptions import HttpError

class BodyEnd: ...

BODY_END: Final[BodyEnd]

class Request:
    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    content_length: int | None
    root_path: str | None
    keep_alive: bool
    websocket: bool
    chunked: bool
    expect_continue: bool
    te_trailers: bool
    complete: bool
    def __init__(
        self,
        method: str,
        path: str,
        raw_path: bytes,
        query_string: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool = True,
        websocket: bool = False,
        chunked: bool = False,
        expect_continue: bool = False,
        content_length: int | None = None,
        root_path: str | None = None,
        te_trailers: bool = False,
    ) -> None: ...
    @property
    def shown(self) -> str: ...

class HttpParser:
    trailing: bytes
    def __init__(self, limits: Sequence[int] = ...) -> None: ...
    @property
    def events(self) -> deque[Request | bytes | BodyEnd | HttpError]: ...
    @property
    def finished(self) -> bool: ...
    def feed(self, data: bytes | bytearray | memoryview) -> None: ...

class CommonLines(Protocol):
    @property
    def all(self) -> bytes: ...
    @property
    def date(self) -> bytes: ...
    @property
    def server(self) -> bytes: ...
    @property
    def further(self) -> bytes: ...

def encode_head(
    request: Request, status: int, headers: Iterable[Iterable[bytes]], common: CommonLines, keep_alive: bool
) -> tuple[bytes, int, bool]: ...
def encode_interim(status: int, headers: Iterable[Iterable[bytes]]) -> bytes: ...
def encode_trailers(headers: Iterable[Iterable[bytes]]) -> bytes: ...
