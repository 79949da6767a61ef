"""What the layer holds on one event loop, and how it ends with that loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from fastchannels.layers.redis.connection import Link
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.readers import ChannelReader, InboxReader


class Session:
    """The connections of one event loop: the link, the reader of ordinary channels, and on one loop the inbox."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, outage: Outage, channels: Callable[[Link], ChannelReader],
        on_end: Callable[[Session], None],
    ) -> None:  # fmt: skip
        self.loop = loop
        self.link = Link(loop, outage)
        self.channels = channels(self.link)
        self.inbox: InboxReader | None = None
        self._on_end = on_end
        self._ended = False
        # asyncio.run finishes the asynchronous generators of its loop while that still runs: the one place where
        # connections can be closed in order at the end of a loop, without a task that a loop would have to cancel.
        self._ending = self._wait_for_end()
        try:
            self._ending.__anext__().send(None)
        except StopIteration:
            pass

    async def _wait_for_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    async def close(self) -> None:
        """Close every connection; no message that Redis hands over meanwhile is lost to this process."""
        await self._ending.aclose()

    async def _close(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._on_end(self)
        if self.inbox is not None:
            await self.inbox.close()
        await self.channels.close()
        self.link.close()
        # The transports report the end of their sockets in the next two rounds of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def drop(self) -> None:
        """Give up the sockets without the loop: it is closed, or belongs to the parent process."""
        self._ended = True
        if self.inbox is not None:
            self.inbox.drop()
        self.channels.drop()
        self.link.drop()
