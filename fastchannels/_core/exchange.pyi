import asyncio
from collections.abc import Awaitable
from typing import Any

from fastchannels._core.http import Request
from fastchannels._core.http1 import HttpStream

def make_scope(connection: Any, request: Request, kind: str, state: dict[str, Any] | None) -> dict[str, Any]: ...

class Served:
    application: Any
    state: dict[str, Any] | None

class Exchange(HttpStream):
    bridge: Served
    task: asyncio.Task[None] | None
    waiters: list[asyncio.Future[None]] | None
    timeout: float
    _buffered: int
    _more: bool
    def __init__(self, connection: Any, request: Request, bridge: Any) -> None: ...
    def wake(self) -> None: ...
    def receive(self) -> Awaitable[dict[str, Any]]: ...
    def send(self, message: dict[str, Any]) -> Awaitable[None]: ...
    def poll(self) -> dict[str, Any] | None: ...
