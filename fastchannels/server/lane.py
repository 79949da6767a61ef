"""The way to an ordinary channel: straight on while it has room, one behind the other while it is full (channel mode).

A burst of clients, all of them after a deploy, is larger than a channel's capacity but soon worked off. So who finds
the channel full waits here, and only who is first in line asks the layer again: what waits costs it nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fastchannels.exceptions import ChannelFull

if TYPE_CHECKING:
    from fastchannels.server.channel_messages import Layer, Message

logger = logging.getLogger("fastchannels.server")

#: Seconds before a full channel is tried again, doubled up to the bound while it stays full.
PAUSE: Final = 0.005
PAUSE_MAX: Final = 0.05
#: Seconds between two log lines that tell of a line.
_LOG_INTERVAL: Final = 10.0


class Lane:
    """For one ``channel`` and one event loop. What waits is bounded by what waits for it: open connections."""

    def __init__(self, layer: Layer, channel: str, clock: Callable[[], float]) -> None:
        self.channel = channel
        self._layer = layer
        self._clock = clock
        #: A ticket is done when it is its owner's turn, cancelled when the owner has left.
        self._line: deque[asyncio.Future[None]] = deque()
        self._log_at = float("-inf")
        #: Messages that wait for room, and that ever did.
        self.waiting = 0
        self.waited = 0
        #: Why the layer took none when it was last asked.
        self.reason = ""

    async def send(self, message: Message, until: float, wanted: Callable[[], bool]) -> bool:
        """Put ``message`` on the channel, behind all that wait for room; True when the layer has it.

        False when ``wanted()``, which is called right before each try, was not true. Raises ``ChannelFull`` when there
        is no room at the time ``until``, and at once whatever else the layer raises.
        """
        ticket = self._join() if self._line else None
        pause = PAUSE
        try:
            if ticket is not None:
                await ticket
            while wanted():
                try:
                    await self._layer.send(self.channel, message)
                    return True
                except ChannelFull as error:
                    self.reason = str(error)
                    if self._clock() >= until:
                        raise
                if ticket is None:
                    ticket = self._join()
                    await ticket
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MAX)
            return False
        finally:
            if ticket is not None:
                self._leave(ticket)

    def _join(self) -> asyncio.Future[None]:
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._line:
            ticket.set_result(None)
            self._tell()
        self._line.append(ticket)
        self.waiting += 1
        self.waited += 1
        return ticket

    def _leave(self, ticket: asyncio.Future[None]) -> None:
        self.waiting -= 1
        if ticket.cancel() or ticket.cancelled():
            return  # it was not its turn
        line = self._line
        line.popleft()
        while line and line[0].cancelled():
            line.popleft()
        if line:
            line[0].set_result(None)

    def _tell(self) -> None:
        now = self._clock()
        if now >= self._log_at:
            self._log_at = now + _LOG_INTERVAL
            logger.info("clients wait in line: %s", self.reason)
