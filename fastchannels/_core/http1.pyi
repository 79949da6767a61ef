import asyncio
from collections.abc import Iterable
from typing import Any

from fastchannels._core.http import Request
from fastchannels._core.wire import Timed, Wire

class Shared:
    bridge: Any
    loop: asyncio.AbstractEventLoop
    common: Any
    front: Any
    observe: Any
    wheel: Any
    keep_alive_timeout: float
    http_timeout: float
    request_buffer_size: int
    root_path: str
    running: int
    stopping: bool

class HttpStream(Timed):
    connection: Any
    request: Request
    started: bool
    done: bool
    disconnected: bool
    waits_for_continue: bool
    body_complete: bool
    keep_alive: bool
    trailers: bool
    body_over: bool
    status: int
    size: int
    since: float
    head: Any
    framing: int
    def __init__(self, connection: Any, request: Request) -> None: ...
    def begin(self) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_body_end(self) -> None: ...
    def on_end(self) -> None: ...
    def on_full(self) -> None: ...
    def on_room(self) -> None: ...
    @property
    def begun(self) -> bool: ...
    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None: ...
    def flush(self) -> None: ...
    def body(self, data: bytes, more: bool) -> None: ...
    def inform(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None: ...
    def check_length(self, size: int, more: bool) -> None: ...
    def abort(self) -> None: ...

class Http1(Wire):
    context: Any
    client: tuple[str, int | None] | None
    peer: tuple[str, int | None] | None
    server: tuple[str, int | None] | None
    scheme: str
    peer_scheme: str
    extensions: dict[str, dict[str, Any]]
    _parser: Any
    _stream: Any
    _holds: int
    _linger: int
    _requests_left: int
    _unsent: int
    _in_head: bool
    def parsed(self) -> None: ...
    def end_chunks(self, stream: HttpStream, end: bytes) -> None: ...
    def response_complete(self, stream: Any) -> None: ...
