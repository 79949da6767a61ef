"""What a request and a socket of an ASGI application share: scope, waiting, and the end of what goes on too long."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier
from fastchannels.server.timer import Timed

Message = dict[str, Any]
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


def single_callable(application: Callable[..., Any]) -> Application:
    """``application``, or for one of ASGI 2, ``application(scope)(receive, send)``, what speaks ASGI 3 for it."""
    if _takes(application, 3) or not _takes(application, 1):
        return application

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await application(scope)(receive, send)

    return run


def _takes(application: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(application).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # of a built-in that does not tell
        return count == 3
    return True


logger = logging.getLogger("fastchannels.server")


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


def as_bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{what}: bytes are needed, not {type(value).__name__}")
    return bytes(value)
