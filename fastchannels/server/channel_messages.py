"""What requests and sockets of channel mode share: the formats of Channels 1.x (talk-api.md section 8), and the layer.

The reserved keys of ``fastchannels.envelope`` come on top, for the socket's window and session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from fastchannels._core.queue import Receiver
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier

Message = dict[str, Any]

RETRY_AFTER: Final = [(b"retry-after", b"1")]
FULL_DELAY: Final = 0.05  #: seconds before a full channel is tried again


class Layer(Protocol):
    """What the server asks of a channel layer; every ``fastchannels.layers`` class has it."""

    expiry: float

    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None: ...

    async def pending(self, channel: str) -> int: ...

    def new_local_channel(self, prefix: str) -> str: ...

    def attach(self, channel: str, receiver: Callable[[Message], None] | Receiver) -> None: ...

    def detach(self, channel: str) -> None: ...

    def pause(self, channel: str) -> None: ...

    def resume(self, channel: str) -> None: ...


def envelope_of(connection: Carrier, request: Request) -> Message:
    """The keys that ``http.request`` and ``websocket.connect`` share."""
    secure = connection.scheme == "https"
    root_path = request.root_path
    message = {
        "scheme": connection.scheme if not request.websocket else ("wss" if secure else "ws"),
        "path": request.path,
        "query_string": request.query_string,
        "root_path": connection.context.config.root_path if root_path is None else root_path,
        "headers": request.headers,
    }
    if connection.client is not None:
        message["client"] = connection.client
    if connection.server is not None:
        message["server"] = connection.server
    return message
