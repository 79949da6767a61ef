"""The end of a server that serves: who is told, and when (D-31)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final

from fastchannels.server.bridge_channels import ChannelBridge

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.websocket_stream import WebSocketStream

#: Seconds in which an idle connection may still bring a request: it may have left the client already.
_IDLE_GRACE: Final = 0.05
#: Clients of a server that closes all sockets at once are asked to come back over this many seconds.
_RETRY_SPREAD: Final = 4.0


async def drain(context: Context, graceful_timeout: float) -> None:
    """Close idle connections, close websockets over ``drain_seconds``, and wait for what runs.

    Returns when nothing is open, or ``graceful_timeout`` seconds after the last websocket was told.
    """
    loop = context.loop
    spread = max(context.config.drain_seconds, 0.0)
    sockets = [socket for connection in context.connections for socket in connection.sockets]
    handles = [loop.call_later(_IDLE_GRACE, _close_idle, context)]
    for index, socket in enumerate(sockets):
        handles.append(loop.call_later(spread * index / len(sockets), _close, socket, spread))
    deadline = loop.time() + spread + graceful_timeout

    def running() -> bool:
        pending = isinstance(context.bridge, ChannelBridge) and context.bridge.unfinished
        return bool(context.connections or context.tasks or pending)

    try:
        while running() and (left := deadline - loop.time()) > 0:
            context.ended.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(context.ended.wait(), left)
    finally:
        for handle in handles:
            handle.cancel()


def retry_reason(spread: float) -> str:
    """A close reason that tells the client when to come back; each is told another time."""
    return f"service restart, retry after {random.uniform(1.0, 1.0 + max(spread, _RETRY_SPREAD)):.1f} s"


def _close_idle(context: Context) -> None:
    for connection in list(context.connections):
        connection.stop()


def _close(socket: WebSocketStream, spread: float) -> None:
    socket.go_away(retry_reason(spread))
