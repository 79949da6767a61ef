"""Who reads from Redis on an event loop: the reader of ordinary channels and the reader of the inbox."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.connection import Link
from fastchannels.layers.redis.keys import Keys
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.popline import CLOSE_TIMEOUT, ListLine
from fastchannels.layers.redis.takers import Takers

#: Entries of the inbox that one pop takes.
INBOX_BATCH: Final = 256
#: Messages of an ordinary channel that one pop takes, at most; never more than there are readers for.
CHANNEL_BATCH: Final = 100
#: Milliseconds that a wake token outlives its use.
WAKE_LIFETIME: Final = 60_000
#: What the lease of a process holds once it had a heartbeat (see heartbeat.lua).
ALIVE: Final = b"heartbeat"
#: Seconds before a wake-up that did not reach Redis is tried again.
WAKE_RETRY: Final = 0.1


class Kept:
    """Messages that were popped for a reader who was cancelled meanwhile: the next reader here gets them first.

    They are kept in this process until they expire, and lost with it (D-04: a message is never put back). Any thread
    may call any method.
    """

    def __init__(self, expiry: float, on_expired: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self._expiry = expiry
        self._on_expired = on_expired
        self._clock = clock
        self._waiting: dict[str, deque[tuple[bytes, float]]] = {}

    def put(self, channel: str, payload: bytes, deadline: float, first: bool = False) -> None:
        """Keep ``payload`` until ``deadline``; ``first``: before what is kept already."""
        waiting = self._waiting.setdefault(channel, deque())
        if first:
            waiting.appendleft((payload, deadline))
        else:
            waiting.append((payload, deadline))

    def take(self, channel: str) -> tuple[bytes, float] | None:
        """The next payload of ``channel`` and its deadline."""
        if not self._waiting:
            return None
        waiting = self._waiting.get(channel)
        while waiting:
            try:
                taken = waiting.popleft()
            except IndexError:  # another thread was faster
                break
            if taken[1] > self._clock():
                return taken
            self._on_expired()
        if waiting is not None and not waiting:
            self._waiting.pop(channel, None)
        return None

    def count(self, channel: str) -> int:
        """Messages kept for ``channel``."""
        return len(self._waiting.get(channel, ()))

    def purge(self) -> None:
        """Drop what expired."""
        now = self._clock()
        for channel, waiting in list(self._waiting.items()):
            while waiting and waiting[0][1] <= now:
                waiting.popleft()
                self._on_expired()
            if not waiting:
                self._waiting.pop(channel, None)

    def clear(self) -> None:
        self._waiting.clear()


class ChannelReader:
    """Waits for all ordinary channels that are awaited on one loop, in one blocking pop.

    The pop names the channels in rotated order, so none starves another, and takes as many messages as readers wait.
    When the set of awaited channels changes while it blocks, a token on a list of this loop's own ends it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Link, outage: Outage, keys: Keys, wake: str, expiry: float,
        kept: Kept, on_kept: Callable[[str], None], on_expired: Callable[[], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._link = link
        self._outage = outage
        self._keys = keys
        self._wake = wake
        self._expiry = expiry
        self._kept = kept
        self._on_kept = on_kept
        self._on_expired = on_expired
        self._line = ListLine(loop, outage, self)
        self._takers = Takers(loop, self._arm_soon, self._keep)
        self._asked: set[str] = set()
        self._arming = False
        self._waking = False
        self._closing = False
        self._refused_wake = False
        self._skip = len(keys.queue(""))

    async def take(self, channel: str) -> bytes:
        """The next payload of ``channel``. A cancelled caller's message goes to the next reader in this process."""
        return await self._takers.take(channel)

    def _keep(self, channel: str, payload: bytes, deadline: float, first: bool) -> None:
        self._kept.put(channel, payload, deadline, first)
        self._on_kept(channel)

    def offer_kept(self, channel: str) -> None:
        """Give what another loop kept for ``channel`` to the readers here."""
        self._takers.offer(channel, self._kept.take)

    def waits_for(self, channel: str) -> bool:
        return channel in self._takers

    def _arm_soon(self) -> None:
        # Once a tick, so that a reader who comes back for its next message is counted, and one who comes and goes
        # costs nothing.
        if not self._arming:
            self._arming = True
            self._loop.call_soon(self._arm)

    def _arm(self) -> None:
        self._arming = False
        takers = self._takers
        if self._closing:
            return
        if self._line.blocked:
            if self._asked != set(takers):
                self.wake()
        elif takers:
            self._asked = set(takers)
            count = min(CHANNEL_BATCH, min(takers.counts().values()))
            self._line.pop((self._wake, *map(self._keys.queue, takers)), count)
        else:
            self._line.forget()

    def wake(self) -> None:
        """End the pop that blocks."""
        if self._waking:
            return
        self._waking = True
        if self._refused_wake:
            self._refused_wake = False
            token = self._link.run(scripts.INSIST, (self._wake,), "1", WAKE_LIFETIME)
        else:
            token = self._link.call("RPUSH", self._wake, "1")
            self._link.post("PEXPIRE", self._wake, WAKE_LIFETIME)
        token.add_done_callback(self._on_token)

    def _on_token(self, token: asyncio.Future[int]) -> None:
        if not token.cancelled() and token.exception() is not None:
            self._waking = False
            self._refused_wake = True
            if not self._loop.is_closed():
                self._loop.call_later(WAKE_RETRY, self._arm_soon)

    # ------------------------------------------------------------------ what the line tells

    def on_batch(self, key: str, entries: list[bytes], now: int) -> None:
        self._waking = False
        if key != self._wake:
            channel = key[self._skip :]
            clock = time.monotonic()
            for entry in entries:
                stamp, payload = wire.parse_queued(entry)
                age = max(0, now - stamp) / 1000
                if age >= self._expiry:
                    self._on_expired()
                else:
                    self._takers.give(channel, payload, clock + self._expiry - age)
            self._takers.served(channel)
        self._arm_soon()

    def on_lost(self) -> None:
        self._waking = False
        self._arm_soon()

    def on_torn(self) -> None:
        self._outage.tore()

    def on_unavailable(self, error: LayerUnavailable) -> bool:
        self._takers.fail(error)
        return False

    async def settle(self) -> None:
        """End the pop so that nothing it takes is lost; there is no other."""
        self._closing = True
        if self._line.blocked:
            self.wake()
            await self._line.settled()

    def close(self) -> asyncio.Task[None] | None:
        """Close the connection; who still waits gets ``LayerUnavailable``. Returns an attempt that has to be ended."""
        self._closing = True
        self._line.close()
        self.on_unavailable(LayerUnavailable("the channel layer was closed while this waited for a message"))
        return self._line.attempt

    def drop(self) -> None:
        self._line.drop()


class InboxOwner(Protocol):
    """What :class:`InboxReader` asks of the layer."""

    client_id: str
    group_expiry: float

    def dispatch(self, entries: list[bytes], now: int) -> None:
        """Hand entries of the inbox to those they are for."""

    def reannounce(self, link: Link) -> None:
        """The lease was new: Redis may have lost its data, or other processes took us for dead (D-05)."""

    def refresh(self, link: Link) -> None:
        """Renew the memberships of this process (D-49)."""

    def inbox_lost(self) -> None:
        """Entries that were popped may have been lost."""

    def tally(self, link: Link) -> None:
        """Count them, when Redis is back."""

    def store_lost(self) -> None:
        """The connection broke, or the lease ended: messages may be missed from now on. Told more than once."""

    def store_back(self) -> None:
        """Redis answers and knows the memberships of this process (D-44). Also told at the start."""

    def inbox_unavailable(self, error: LayerUnavailable) -> None:
        """Readers of process-local channels get ``error``."""

    def housekeep(self) -> None:
        """Called with each heartbeat."""


class InboxReader:
    """Reads the inbox of this process, a batch at a time, and keeps its lease alive.

    The next pop is written before a batch is handed on: Redis works while this process does.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Link, outage: Outage, keys: Keys, owner: InboxOwner,
        heartbeat: float, lease: float,
    ) -> None:  # fmt: skip
        self.loop = loop
        self.link = link
        self._owner = owner
        self._key = keys.inbox(owner.client_id)
        self._lease_key = keys.lease(owner.client_id)
        self._heartbeat = min(heartbeat, owner.group_expiry / 3)
        self._lease = lease
        self._line = ListLine(loop, outage, self)
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Future[Any] | None = None
        self._refresh_at = loop.time() + owner.group_expiry / 3
        self._closing = False
        #: Redis has answered, since the connection was made, that it knows this process and its memberships.
        self._confirmed = False
        self._hurry = False

    def start(self) -> None:
        self._beat()
        self._line.pop((self._key,), INBOX_BATCH)

    def _beat(self) -> None:
        self._timer = self.loop.call_later(self._heartbeat, self._beat)
        self._owner.housekeep()
        if self._beating is None or self._beating.done():
            self._beat_now()

    def _beat_now(self) -> None:
        lease = round(self._lease * 1000)
        if self._confirmed:
            # In one plain command, that Redis runs also when it is out of memory.
            self._beating = self.link.call("GETEX", self._lease_key, "PX", lease)
        else:
            self._beating = self.link.run(scripts.HEARTBEAT, (self._lease_key,), lease)
        self._beating.add_done_callback(self._on_beat)

    def _on_beat(self, beat: asyncio.Future[Any]) -> None:
        failed = beat.cancelled() or beat.exception() is not None
        if self._closing:
            return
        if failed:
            # Told by the outage log. The next beat tries again; at once when this one left on a broken connection.
            if self._hurry and beat is self._beating:
                self._hurry = False
                self._beat_now()
            return
        answer = beat.result()
        if answer not in (0, 1, ALIVE):
            # It was renewed, and there was none: nothing broke, but Redis or this process stood still for longer than
            # the lease, or Redis lost its data (D-05).
            if self._confirmed:
                self._confirmed = False
                self._owner.store_lost()
            self._beat_now()
            return
        new_lease = answer == 0
        due = new_lease or self.loop.time() >= self._refresh_at
        if new_lease:
            self._owner.reannounce(self.link)
        elif due:
            self._owner.refresh(self.link)
        if due:
            self._refresh_at = self.loop.time() + self._owner.group_expiry / 3
        if not self._confirmed and beat is self._beating:
            # Commands are answered in order: with this one every membership has arrived.
            self.link.call("PING").add_done_callback(functools.partial(self._on_announced, beat))

    def _on_announced(self, beat: asyncio.Future[int], answer: asyncio.Future[bytes]) -> None:
        answered = not answer.cancelled() and answer.exception() is None
        if answered and beat is self._beating and not self._confirmed and not self._closing:
            self._confirmed = True
            self._owner.store_back()

    # HOT: benchmarks/layers.py
    def on_batch(self, key: str, entries: list[bytes], now: int) -> None:
        if not self._closing:
            self._line.pop((self._key,), INBOX_BATCH)
        self._owner.dispatch(entries, now)

    def on_lost(self) -> None:
        self._owner.inbox_lost()
        if not self._closing:
            self._confirmed = False
            self._owner.store_lost()
            # What an earlier beat was answered says nothing of what Redis is now. The lease may stand, and the newest
            # memberships be lost all the same: the next master, or what Redis had on disk, may be behind.
            self._refresh_at = self.loop.time()
            self._hurry = True
            self._beat_now()
            self._owner.tally(self.link)

    def on_torn(self) -> None:
        """What it took is counted by :meth:`InboxOwner.tally`."""

    def on_unavailable(self, error: LayerUnavailable) -> bool:
        self._owner.inbox_unavailable(error)
        return not self._closing

    async def settle(self) -> None:
        """End the pop so that nothing it takes is lost; there is no other, and no heartbeat."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._line.blocked:
            fence = self.link.run(scripts.INSIST, (self._key,), wire.note(wire.FENCE))
            with contextlib.suppress(LayerUnavailable, asyncio.TimeoutError):
                await asyncio.wait_for(fence, CLOSE_TIMEOUT)
                await self._line.settled()

    def close(self) -> asyncio.Task[None] | None:
        """Close the connection. Returns an attempt that has to be ended."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._line.close()
        return self._line.attempt

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._line.drop()
