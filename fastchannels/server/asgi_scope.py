"""What a request and a socket of an ASGI application share: scope, waiting, and the end of what goes on too long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier
from fastchannels.server.timer import Timed

Message = dict[str, Any]
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

logger = logging.getLogger("fastchannels.server")

_SPEC_VERSION: Final = "2.5"


def make_scope(connection: Carrier, request: Request, kind: str, state: dict[str, Any] | None) -> dict[str, Any]:
    secure = connection.scheme == "https"
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": _SPEC_VERSION},
        "http_version": request.version,
        "scheme": connection.scheme if kind == "http" else ("wss" if secure else "ws"),
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": connection.context.config.root_path if request.root_path is None else request.root_path,
        "headers": request.headers,
        "client": connection.client,
        "server": connection.server,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


class Reaper(Timed):
    """Cancels an application that goes on after its client left."""

    __slots__ = ("task", "what")

    def __init__(self, context: Context, task: asyncio.Task[None], what: str) -> None:
        super().__init__()
        self.task = task
        self.what = what
        context.wheel.arm(self, context.deadline(context.config.application_close_timeout))
        task.add_done_callback(lambda _: context.wheel.disarm(self))

    def expired(self, now: float) -> None:
        logger.warning("%s: the application goes on after its client left and is cancelled", self.what)
        self.task.cancel()


def describe(connection: Carrier, request: Request) -> str:
    kind = "websocket" if request.websocket else request.method
    return f"{kind} {request.shown} of {connection.client_name}"


async def wait(context: Context, waiters: list[asyncio.Future[None]]) -> None:
    """Wait for ``wake``. Each caller has a future of its own: cancelling one leaves the others."""
    waiter = context.loop.create_future()
    waiters.append(waiter)
    await waiter


def wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def as_bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{what}: bytes are needed, not {type(value).__name__}")
    return bytes(value)
