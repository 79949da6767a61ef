"""Channel mode: makes the streams that turn requests and sockets into messages on a channel layer, and back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from fastchannels._core.fanout import Fanout
from fastchannels.server.channel_http import ChannelHttp
from fastchannels.server.channel_messages import Layer
from fastchannels.server.channel_websocket import ChannelSocket
from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.lane import Lane
from fastchannels.server.limits import Drops
from fastchannels.server.stream import Carrier, HttpStream
from fastchannels.server.websocket_stream import WebSocketStream

__all__ = ["ChannelBridge", "Layer"]

logger = logging.getLogger("fastchannels.server")

HTTP_TIMEOUT: Final = 120.0  #: seconds without progress when the configuration sets none
#: What clients fill at their own pace.
_CHANNELS: Final = ("http.request", "websocket.connect", "websocket.receive", "websocket.disconnect")


class ChannelBridge:
    """Makes the streams that speak to ``layer``."""

    def __init__(self, context: Context, layer: Layer) -> None:
        self.context = context
        self.layer = layer
        self.http_timeout = HTTP_TIMEOUT if context.config.http_timeout is None else context.config.http_timeout
        #: Sockets whose disconnect message is not yet done with; they may outlive their connections.
        self.sockets: set[ChannelSocket] = set()
        #: The ways to the channels, by their names.
        self.lanes = {channel: Lane(layer, channel, context.wheel.clock) for channel in _CHANNELS}
        #: Events that no consumer finished, by reason.
        self.dropped: Counter[str] = Counter()
        #: The log of these, and of events that are sent again.
        self.fates = Drops(context.wheel.clock)
        #: By kind of event: what was offered to its channel before this has been taken off it, for it is a queue.
        self.taken: dict[str, float] = {}
        #: What a group's message to the sockets here is made into (design section 5).
        self.fanout = Fanout()

    def http(self, connection: Carrier, request: Request) -> HttpStream:
        return ChannelHttp(connection, request, self)

    def websocket(self, connection: Carrier, request: Request) -> WebSocketStream:
        return ChannelSocket(connection, request, self)

    @property
    def unfinished(self) -> bool:
        """Some socket's disconnect message has not reached the layer."""
        return any(not socket.told for socket in self.sockets)

    async def finish(self, timeout: float) -> None:
        """The server ends: hand the disconnect messages that still wait to the layer, in at most ``timeout``."""
        waiting = [socket.tell() for socket in self.sockets if not socket.told]
        if waiting:
            try:
                await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), timeout)
            except asyncio.TimeoutError:
                logger.warning("%d sockets end without a disconnect message: the layer does not answer", len(waiting))
        for socket in list(self.sockets):
            socket.finish()
