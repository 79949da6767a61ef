"""Reading the sorted sets of channels_redis on an event loop: ordinary channels and inboxes, in one blocking pop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.connection import Link, pack
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.popline import PopLine
from fastchannels.layers.redis.readers import WAKE_LIFETIME, WAKE_RETRY
from fastchannels.layers.redis.session import LoopSession
from fastchannels.layers.redis.takers import Takers

#: Messages of one inbox, and of one ordinary channel, that one pop takes at most.
INBOX_BATCH: Final = 256
CHANNEL_BATCH: Final = 100

#: A message and its score.
Entry = tuple[bytes, float]


def parse_entries(flat: list[bytes] | None) -> list[Entry]:
    """Pairs of what ``ZPOPMIN`` answers."""
    flat = flat or []
    return [(flat[index], float(flat[index + 1])) for index in range(0, len(flat), 2)]


class CompatOwner(Protocol):
    """What :class:`CompatReader` asks of the layer."""

    def inbox_keys(self, reader: CompatReader) -> tuple[str, ...]:
        """The keys of this process's names, when it is ``reader`` that reads them; else none."""

    def dispatch(self, entries: list[Entry], now: float) -> None:
        """Hand entries of an inbox to the channels they are for. ``now`` is the store's clock in seconds."""

    def admit(self, entry: Entry, now: float) -> tuple[bytes, float] | None:
        """The body of a message of an ordinary channel and its deadline by the process's clock; None: dropped."""

    def keep(self, key: str, body: bytes, deadline: float, first: bool) -> None:
        """A message that was popped has no reader on this loop any more."""

    def take_kept(self, key: str) -> tuple[bytes, float] | None:
        """What another loop kept for an ordinary channel."""

    def inbox_unavailable(self, error: LayerUnavailable) -> None:
        """Readers of process-local channels get ``error``."""

    def inbox_lost(self) -> None:
        """The connection that the inboxes are read on was lost."""

    def begin(self, link: Link) -> None:
        """The inboxes are going to be read, for the first time on this connection."""

    def housekeep(self, link: Link) -> None:
        """Called every ``interval`` seconds on the loop that reads the inboxes."""


class ScoredLine(PopLine):
    """A line that pops the lowest scores, first of any key that its reader wants, then of those it wants more of.

    The keys are asked for as the pop is written, so that one that was delayed by an outage is up to date.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outage: Outage, reader: CompatReader) -> None:
        super().__init__(loop, outage, reader)
        self._reader = reader
        self._more: list[str] = []

    def _command(self, keys: tuple[str, ...], count: int) -> tuple[bytes, int]:
        first, more = self._reader.choose()
        self._more = list(more)
        commands = [pack("BZPOPMIN", *first, 0), *(pack("ZPOPMIN", key, number) for key, number in more.items())]
        return b"".join(commands), len(commands) + 1

    def _deliver(self, replies: list[Any], now: int) -> None:
        key, member, score = replies[0]
        self._reader.on_popped(key.decode("utf-8"), [(member, float(score))], now / 1000)
        for key, flat in zip(self._more, replies[1:], strict=True):
            self._reader.on_popped(key, parse_entries(flat), now / 1000)
        self._reader.on_end_of_batch()


class CompatReader:
    """Everything that one event loop waits for: ordinary channels with a reader there and, on one loop, the inboxes.

    The pop names the keys in rotated order, so none starves another. When the set of keys changes while it blocks, a
    token on a key of this loop's own ends it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        outage: Outage,
        owner: CompatOwner,
        wake: str,
        interval: float,
    ) -> None:
        self.loop = loop
        self.link = link
        self._outage = outage
        self._owner = owner
        self._wake = wake
        self._interval = interval
        self._line = ScoredLine(loop, outage, self)
        #: By key of an ordinary channel, who waits for it.
        self._takers = Takers(loop, self.arm_soon, owner.keep)
        self._asked: set[str] = set()
        self._turn = 0
        self._arming = False
        self._waking = False
        self._closing = False
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ ordinary channels

    async def take(self, key: str) -> bytes:
        """The next body of an ordinary channel. What a cancelled caller was given goes to the next reader here."""
        return await self._takers.take(key)

    def offer_kept(self, key: str) -> None:
        """Give what another loop kept for ``key`` to the readers here."""
        self._takers.offer(key, self._owner.take_kept)

    def waits_for(self, key: str) -> bool:
        return key in self._takers

    # ------------------------------------------------------------------ the pop

    def start_inbox(self) -> None:
        """This loop reads the inboxes from now on."""
        self.arm_soon()
        if self._timer is None:
            self._tick()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self._interval, self._tick)
        self._owner.housekeep(self.link)

    def arm_soon(self) -> None:
        """Have the pop wait for what is wanted now: once a tick, so that a reader who comes back is counted."""
        if not self._arming and not self._closing:
            self._arming = True
            self.loop.call_soon(self._arm)

    def _arm(self) -> None:
        self._arming = False
        if self._closing:
            return
        wanted = {*self._owner.inbox_keys(self), *self._takers}
        if self._line.blocked:
            if wanted != self._asked:
                self.wake()
        elif wanted:
            self._line.pop((), 0)
        else:
            self._line.forget()

    def choose(self) -> tuple[list[str], dict[str, int]]:
        """The keys to wait for, and how many messages more to take from which of them."""
        more = dict.fromkeys(self._owner.inbox_keys(self), INBOX_BATCH - 1)
        if more and not self._begun:
            self._begun = True
            self._owner.begin(self.link)
        keys = [*more, *self._takers]
        self._asked = set(keys)
        for key, count in self._takers.counts().items():
            if count > 1:
                more[key] = min(CHANNEL_BATCH, count - 1)
        self._turn += 1
        turn = self._turn % len(keys) if keys else 0
        return [self._wake, *keys[turn:], *keys[:turn]], more

    def wake(self) -> None:
        """End the pop that blocks."""
        if self._waking:
            return
        self._waking = True
        token = self.link.call("ZADD", self._wake, 0, "1")
        self.link.post("PEXPIRE", self._wake, WAKE_LIFETIME)
        token.add_done_callback(self._on_token)

    def _on_token(self, token: asyncio.Future[int]) -> None:
        if not token.cancelled() and token.exception() is not None:
            self._waking = False
            if not self.loop.is_closed():
                self.loop.call_later(WAKE_RETRY, self.arm_soon)

    async def fence(self) -> None:
        """Return when what was popped before has been handed on; it is called on the loop of this reader."""
        if self._line.blocked:
            self.wake()
            await self._line.settled()

    # ------------------------------------------------------------------ what the line tells

    def on_popped(self, key: str, entries: list[Entry], now: float) -> None:
        """``now`` is the store's clock right after, in seconds."""
        if key == self._wake:
            return
        if key.endswith("!"):
            self._owner.dispatch(entries, now)
            return
        for entry in entries:
            admitted = self._owner.admit(entry, now)
            if admitted is not None:
                self._takers.give(key, *admitted)

    def on_end_of_batch(self) -> None:
        self._waking = False
        self.arm_soon()

    def on_lost(self) -> None:
        self._waking = False
        if self._begun:
            self._begun = False
            self._owner.inbox_lost()
        self.arm_soon()

    def on_torn(self) -> None:
        self._outage.tore()

    def on_unavailable(self, error: LayerUnavailable) -> bool:
        self._takers.fail(error)
        reads_inboxes = bool(self._owner.inbox_keys(self))
        if reads_inboxes:
            self._owner.inbox_unavailable(error)
        return reads_inboxes and not self._closing

    async def settle(self) -> None:
        """End the pop so that nothing it takes is lost; there is no other."""
        self._closing = True
        await self.fence()

    def close(self) -> asyncio.Task[None] | None:
        """Close the connection; who still waits gets ``LayerUnavailable``. Returns an attempt that has to be ended."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._line.close()
        self._takers.fail(LayerUnavailable("the channel layer was closed while this waited for a message"))
        return self._line.attempt

    def drop(self) -> None:
        """:meth:`close` when the loop cannot run."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._line.drop()


class CompatSession(LoopSession):
    """The link and the reader."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Link, reader: CompatReader, on_end: Callable[[CompatSession], None]
    ) -> None:
        self.link = link
        self.reader = reader
        super().__init__(loop, on_end)

    async def _settle_all(self) -> None:
        await self.reader.settle()

    def _close_all(self) -> list[asyncio.Task[None]]:
        attempt = self.reader.close()
        self.link.close()
        return [each for each in (attempt, self.link.attempt) if each is not None]

    def _drop_all(self) -> None:
        self.reader.drop()
        self.link.drop()
