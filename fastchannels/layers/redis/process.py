"""What a process keeps about itself: its inbox as it is read, its members of groups, and what it owes to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Iterator
from typing import Any, Final

from fastchannels._core.entries import hand_on
from fastchannels._core.wake import Waiter
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.keys import Keys
from fastchannels.layers.redis.readers import InboxReader, Kept
from fastchannels.layers.redis.shards import Shards

logger = logging.getLogger("fastchannels.layer")

#: Seconds between two heartbeats, and that a process counts as alive after one (D-05).
HEARTBEAT: Final = 2.0
LEASE: Final = 6.0
#: Milliseconds that an inbox outlives the messages in it: notes about members have no age.
INBOX_MARGIN: Final = 30_000


class InboxSide:
    """The owner of the inbox reader at one shard: what it tells goes to the process, with the number of the shard."""

    def __init__(self, process: ProcessSide, shard: int) -> None:
        self.client_id = process.client_id
        self.group_expiry = process.group_expiry
        self.dispatch = process.dispatch
        self._process = process
        self._shard = shard

    def reannounce(self, link: Link) -> None:
        self._process.reannounce(link, self._shard)

    def refresh(self, link: Link) -> None:
        self._process.refresh(link, self._shard)

    def inbox_lost(self) -> None:
        self._process.inbox_lost(self._shard)

    def store_lost(self) -> None:
        self._process.store_lost(self._shard)

    def store_back(self) -> None:
        self._process.store_back(self._shard)

    def inbox_unavailable(self, error: LayerUnavailable) -> None:
        self._process.inbox_unavailable(error, self._shard)

    def housekeep(self) -> None:
        self._process.housekeep(self._shard)


class ProcessSide(ChannelLayer):
    """The half of the Redis layer that answers for this process; the other half asks Redis.

    It has an inbox at each shard: direct messages come through the one of its *home*, the shard of its own name, those
    of a group through the one of the group. The readers call the methods without an underscore, by an
    :class:`InboxSide`, on the loop that reads the inboxes.
    """

    heartbeat: float = HEARTBEAT
    lease: float = LEASE
    #: By shard.
    _shard_keys: tuple[Keys, ...]
    shards: Shards

    def _start_process(self) -> None:
        super()._start_process()
        self._expiry_ms = round(self.expiry * 1000)
        self._group_expiry_ms = round(self.group_expiry * 1000)
        self._lease_ms = round(self.lease * 1000)
        self._inbox_lifetime = self._expiry_ms + INBOX_MARGIN
        self._lock = threading.RLock()
        self._home = self.shards.of(self.client_id)
        #: One for each shard, all on one loop; none while nothing is received on a process-local channel.
        self._readers: tuple[InboxReader, ...] = ()
        self._kept = Kept(self.expiry, self._on_expired)
        #: Channels of this process that hold their capacity, as Redis was told.
        self._full: set[str] = set()
        #: Messages that this process sent to a channel of its own and that have not come back yet.
        self._flying: dict[str, int] = {}
        #: The counter of each group's entry for this process, as far as it was seen (see leave_process.lua).
        self._seen: dict[str, int] = {}
        #: Joins (True) and discards of own channels that travel through the inbox, behind what was queued before them
        #: (D-50), by the token of their note; in order.
        self._moves: dict[tuple[str, str], dict[bytes, bool]] = {}
        self._tokens = itertools.count(1)
        self._fences: dict[bytes, asyncio.Future[None]] = {}
        self.inbox.on_full = self._tell_full
        self.inbox.on_room = self._tell_room

    def _on_expired(self) -> None:
        self.drops.count("expired")

    def _on_torn(self) -> None:
        self.drops.count("torn")

    def _forget_local(self) -> None:
        super()._forget_local()
        self._kept.clear()
        self._flying.clear()
        self._seen.clear()
        self._moves.clear()

    def _keys(self, name: str) -> Keys:
        """Of the shard of a group or process, or of an ordinary channel."""
        return self._shard_keys[self.shards.of(name)]

    @property
    def _reader(self) -> InboxReader | None:
        """The reader at home."""
        return self._readers[self._home] if self._readers else None

    def _landed(self, channel: str) -> None:
        flying = self._flying.get(channel, 0)
        if flying > 1:
            self._flying[channel] = flying - 1
        elif flying:
            del self._flying[channel]

    # ------------------------------------------------------------------ the inbox as it is read

    def dispatch(self, entries: list[bytes], now: int) -> None:
        """Hand entries of the inbox to their channels and groups; ``now`` is the store's clock in milliseconds."""
        hand_on(self.inbox, entries, now, self._flying, self._dispatch_other)

    def _dispatch_other(self, kind: int, name: str, rest: bytes, age: float) -> None:
        if kind == wire.GROUP:
            self._dispatch_group(name, rest, age)
        else:
            self._dispatch_note(kind, name, rest)

    def _dispatch_group(self, group: str, payload: bytes, age: float) -> None:
        self._deliver_group(group, payload, age)
        if group in self._seen and not self.groups.members(group):
            self._group_emptied(group)

    def _dispatch_note(self, kind: int, channel: str, rest: bytes) -> None:
        if kind == wire.ADD:
            group, token, counter = rest.decode("ascii").split(" ")
            # D-11; and a token that is not known any more is of a move that was made when the inbox was lost.
            if self._arrived(group, channel, token) and not self.inbox.is_closed(channel):
                self.groups.add(group, channel)
            self._saw(group, int(counter))
        elif kind == wire.DISCARD:
            group, token = rest.decode("ascii").split(" ")
            if self._arrived(group, channel, token):
                self._discard(group, channel)
        elif kind == wire.FORGET:
            # One host may be spelled in many ways.
            self._forget_shard(self.shards.number(rest.decode("utf-8")) if len(self.shards) > 1 else 0)
        elif kind == wire.FENCE:
            fence = self._fences.pop(rest, None)
            if fence is not None and not fence.done():
                fence.get_loop().call_soon_threadsafe(_settle, fence)

    def _forget_shard(self, shard: int) -> None:
        """A shard was flushed. What waits in this process is taken for the home's, where most of it came from."""
        if len(self.shards) == 1:
            self._forget_local()
            return
        if shard == self._home:
            self.inbox.clear()
            self._kept.clear()
            self._flying.clear()
        for group in self._groups_at(shard):
            for channel in self.groups.members(group):
                self.groups.discard(group, channel)
            self._seen.pop(group, None)
        with self._lock:
            for move in [move for move in self._moves if self.shards.of(move[0]) == shard]:
                del self._moves[move]

    def _groups_at(self, shard: int) -> list[str]:
        return [group for group in self.groups.groups() if self.shards.of(group) == shard]

    def reannounce(self, link: Link, shard: int = 0) -> None:
        """The lease at ``shard`` was new: Redis may know nothing of this process there any more (D-05)."""
        self.inbox_lost(shard)
        if shard == self._home:
            key = self._shard_keys[self._home].full(self.client_id)
            link.post("DEL", key)
            if self._full:
                link.post("SADD", key, *self._full)
                link.post("PEXPIRE", key, self._lease_ms)
        self.refresh(link, shard)

    def refresh(self, link: Link, shard: int = 0) -> None:
        """Renew the memberships of this process at ``shard`` (D-49)."""
        for group in self._groups_at(shard):
            joined = link.run(scripts.JOIN_PROCESS, *self._join_own(group))
            joined.add_done_callback(functools.partial(self._on_refreshed, group))

    def _on_refreshed(self, group: str, reply: asyncio.Future[bytes]) -> None:
        if not reply.cancelled() and reply.exception() is None:
            self._saw(group, int(reply.result()))

    def inbox_lost(self, shard: int = 0) -> None:
        """Entries of the inbox at ``shard`` may be gone: nothing waits for their return any longer."""
        if shard == self._home:
            self._flying.clear()
        with self._lock:
            moves = {move: self._moves[move] for move in self._moves if self.shards.of(move[0]) == shard}
            for move in moves:
                del self._moves[move]
        for (group, channel), pending in moves.items():
            if [*pending.values()][-1] and not self.inbox.is_closed(channel):
                self.groups.add(group, channel)
            else:
                self._discard(group, channel)

    def inbox_unavailable(self, error: LayerUnavailable, shard: int = 0) -> None:
        """A shard stayed away for ``reconnect_timeout``: who waits for a process-local channel is told.

        Only when it is the home: without another shard this process misses its groups there, and nothing else.
        """
        logger.error("an inbox of this process cannot be read: %s", error)
        if shard != self._home:
            return
        for waiter in self.inbox.waiters():
            try:
                waiter.get_loop().call_soon_threadsafe(fail, waiter, LayerUnavailable(str(error)))
            except RuntimeError:  # closed meanwhile
                continue

    def housekeep(self, shard: int = 0) -> None:
        """With each heartbeat: forget what expired in this process."""
        if shard != self._home:
            return
        self._kept.purge()
        self._housekeep()

    def _tell_full(self, channel: str) -> None:
        self._full.add(channel)
        key = self._shard_keys[self._home].full(self.client_id)
        self._post(self._home, "SADD", key, channel)
        self._post(self._home, "PEXPIRE", key, self._lease_ms)

    def _tell_room(self, channel: str) -> None:
        self._full.discard(channel)
        self._post(self._home, "SREM", self._shard_keys[self._home].full(self.client_id), channel)

    # ------------------------------------------------------------------ members of groups

    def _join_own(self, group: str) -> tuple[Any, ...]:
        keys = self._keys(group).group(group), self._keys(group).lease(self.client_id)
        return keys, self.client_id, self._group_expiry_ms, self._lease_ms

    @contextlib.contextmanager
    def _moving(self, group: str, channel: str, joining: bool) -> Iterator[bytes]:
        """A token for the note of a move; the move is void when the note is not known to be on its way."""
        token = b"%d" % next(self._tokens)
        with self._lock:
            self._moves.setdefault((group, channel), {})[token] = joining
        try:
            yield token
        except LayerUnavailable:
            if self._arrived(group, channel, token.decode()) and not joining:
                self._discard(group, channel)
            raise

    def _arrived(self, group: str, channel: str, token: str) -> bool:
        """Forget the move of ``token`` and those before it. False: it is not to be made any more."""
        if not token:
            return True
        with self._lock:
            pending = self._moves.get((group, channel), {})
            if token.encode() not in pending:
                return False
            for earlier in list(pending):
                del pending[earlier]
                if earlier == token.encode():
                    break
            if not pending:
                del self._moves[group, channel]
            return True

    def _discard(self, group: str, channel: str) -> None:
        if self.groups.discard(group, channel):
            self._group_emptied(group)

    def _saw(self, group: str, counter: int) -> None:
        self._seen[group] = max(counter, self._seen.get(group, 0))
        if not self.groups.members(group):
            # The last member left while its add was on the way.
            self._group_emptied(group)

    def _group_emptied(self, group: str) -> None:
        counter = self._seen.pop(group, None)
        if counter is not None:
            digest = scripts.LEAVE_PROCESS.digest
            self._post(
                self.shards.of(group), "EVALSHA", digest, 1, self._keys(group).group(group), self.client_id, counter
            )

    def _post(self, shard: int, *command: Argument) -> None:
        """Run a command on the shard's link of the inboxes' loop, from any thread; one link keeps these in order."""
        readers = self._readers
        if not readers:
            return
        reader = readers[shard]
        if reader.loop is asyncio._get_running_loop():
            reader.link.post(*command)
        else:
            try:
                reader.loop.call_soon_threadsafe(reader.link.post, *command)
            except RuntimeError:  # closed: its lease ends, and the next reader announces what is true then
                pass


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def fail(waiter: Waiter[None], error: LayerUnavailable) -> None:
    """End a wait with ``error``, unless it has ended."""
    if not waiter.done():
        waiter.set_exception(error)
