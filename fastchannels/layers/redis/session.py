"""What the layer holds on one event loop, and how it ends with that loop."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from fastchannels.layers.redis.connection import Link, gone
from fastchannels.layers.redis.keys import Keys
from fastchannels.layers.redis.readers import ChannelReader, InboxReader


class Seat:
    """The connections of one event loop to one host: the link, the readers of ordinary channels and of the inbox."""

    def __init__(self, link: Link, channels: ChannelReader, keys: Keys) -> None:
        self.link = link
        self.keys = keys
        self.channels = channels
        self.inbox: InboxReader | None = None
        self._watch: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, every: float) -> None:
        """Ask for a sign of life ``every`` so many seconds: the link notices when there is none, the pops do not."""
        self.link.post("PING")
        self._watch = loop.call_later(every, self.watch, loop, every)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def settle(self) -> None:
        self._end_watch()
        if self.inbox is not None:
            await self.inbox.settle()
        await self.channels.settle()

    def close(self) -> list[asyncio.Task[None]]:
        """Close the connections at once. Returns attempts to connect that have to be ended."""
        self._end_watch()
        attempts = [self.inbox.close() if self.inbox is not None else None, self.channels.close()]
        self.link.close()
        return [attempt for attempt in (*attempts, self.link.attempt) if attempt is not None]

    def drop(self) -> None:
        self._end_watch()
        if self.inbox is not None:
            self.inbox.drop()
        self.channels.drop()
        self.link.drop()


class LoopSession(abc.ABC):
    """The connections of one event loop, closed with it. ``on_end`` is called first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[Any], None]) -> None:
        self.loop = loop
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
        try:
            await self._settle_all()
        finally:
            await gone(self._close_all())
            # The transports report the end of their sockets in the next two rounds of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def drop(self) -> None:
        """Give up the sockets without the loop: it is closed, or belongs to the parent process."""
        self._ended = True
        self._drop_all()

    @abc.abstractmethod
    async def _settle_all(self) -> None:
        """End the pops so that nothing they take is lost."""

    @abc.abstractmethod
    def _close_all(self) -> list[asyncio.Task[None]]:
        """Close the connections at once. Returns attempts to connect that have to be ended."""

    @abc.abstractmethod
    def _drop_all(self) -> None: ...


class Session(LoopSession):
    """A :class:`Seat` at each host."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seats: Sequence[Seat], on_end: Callable[[Session], None]
    ) -> None:
        self.seats = tuple(seats)
        super().__init__(loop, on_end)

    async def _settle_all(self) -> None:
        await asyncio.gather(*(seat.settle() for seat in self.seats))

    def _close_all(self) -> list[asyncio.Task[None]]:
        return [attempt for seat in self.seats for attempt in seat.close()]

    def _drop_all(self) -> None:
        for seat in self.seats:
            seat.drop()


S = TypeVar("S", bound=LoopSession)

#: Sessions of a parent process. Their transports must not be collected here: that would act on the parent's sockets.
_inherited: list[object] = []


class Sessions(dict[asyncio.AbstractEventLoop, S]):
    """The session of each event loop that uses a layer."""

    def end_closed(self, on_end: Callable[[S], None]) -> None:
        """End those of loops that were closed without finishing their generators."""
        for loop, session in list(self.items()):
            if loop.is_closed():
                session.drop()
                on_end(session)

    def ask_one(self, call: Callable[[], object]) -> None:
        """Have ``call()`` run on one of the loops, if there is any whose session does not end before."""
        for loop in list(self):
            try:
                loop.call_soon_threadsafe(self._on_asked, loop, call)
            except RuntimeError:  # closed meanwhile
                continue
            return

    def _on_asked(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        if loop in self:
            call()
        else:
            self.ask_one(call)

    def leave_to_parent(self) -> None:
        """In a forked child: the descriptors here are closed without a word to Redis."""
        for session in self.values():
            session.drop()
            _inherited.append(session)
