"""What a process keeps about itself: its inbox as it is read, its members of groups, and what it owes to Redis."""

from __future__ import annotations

import logging
from typing import Final

from fastchannels._core.entries import Intake
from fastchannels._core.wake import Waiter
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.aim import parse_aimed
from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.members import MemberSide
from fastchannels.layers.redis.readers import InboxReader, Kept

logger = logging.getLogger("fastchannels.layer")

#: Seconds between two heartbeats (D-05); one in a row may be lost.
HEARTBEAT: Final = 4.5


class InboxSide:
    """The owner of the inbox reader at one shard: what it tells goes to the process, with the number of the shard."""

    def __init__(self, process: ProcessSide, shard: int) -> None:
        self.client_id = process.client_id
        self.group_expiry = process.group_expiry
        self.dispatch = process._intakes[shard].hand_on
        self._process = process
        self._shard = shard

    def reannounce(self, link: Link) -> None:
        self._process.reannounce(link, self._shard)

    def refresh(self, link: Link) -> None:
        self._process.refresh(link, self._shard)

    def inbox_lost(self) -> None:
        self._process.inbox_lost(self._shard)

    def tally(self, link: Link) -> None:
        self._process.tally(link, self._shard)

    def store_lost(self) -> None:
        self._process.store_lost(self._shard)

    def store_back(self) -> None:
        self._process.store_back(self._shard)

    def inbox_unavailable(self, error: LayerUnavailable) -> None:
        self._process.inbox_unavailable(error, self._shard)

    def housekeep(self) -> None:
        self._process.housekeep(self._shard)


class ProcessSide(MemberSide):
    """The half of the Redis layer that answers for this process; the other half asks Redis.

    It has an inbox at each shard: direct messages come through the one of its *home*, the shard of its own name, those
    of a group through the one of the group. The readers call the methods without an underscore, by an
    :class:`InboxSide`, on the loop that reads the inboxes.
    """

    heartbeat: float = HEARTBEAT

    def _start_process(self) -> None:
        super()._start_process()
        self._home = self.shards.of(self.client_id)
        self._kept = Kept(self.expiry, self._on_expired)
        #: Channels of this process that hold their capacity, as Redis was told.
        self._full: set[str] = set()
        #: Messages that this process sent to a channel of its own and that have not come back yet.
        self._flying: dict[str, int] = {}
        self._intakes = tuple(
            Intake(self.inbox, self._flying, self._dispatch_other, self._on_torn) for _ in self._shard_keys
        )
        self.inbox.on_full = self._tell_full
        self.inbox.on_room = self._tell_room

    def _on_expired(self) -> None:
        self.drops.count("expired")

    def _on_torn(self, messages: int) -> None:
        self.drops.count("torn", messages)

    def _on_torn_pop(self) -> None:
        self.drops.count("torn_pops")

    def _forget_local(self) -> None:
        super()._forget_local()
        self._kept.clear()
        self._flying.clear()

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

    def _dispatch_other(self, kind: int, name: str, rest: bytes, age: float) -> None:
        if kind == wire.GROUP:
            self._on_group(name, rest, age)
        elif kind == wire.AIMED:
            self._deliver_aimed(*parse_aimed(rest), age)
        elif kind == wire.FENCE:
            self._reach(rest)
        elif kind == wire.FORGET:
            # One host may be spelled in many ways.
            self._forget_shard(self.shards.number(rest.decode("utf-8")) if len(self.shards) > 1 else 0)
        else:
            self._on_member_note(kind, name, rest)

    def _forget_shard(self, shard: int) -> None:
        """A shard was flushed. What waits in this process is taken for the home's, where most of it came from."""
        if len(self.shards) == 1:
            self._forget_local()
            return
        if shard == self._home:
            self.inbox.clear()
            self._kept.clear()
            self._flying.clear()
        self._forget_groups(shard)

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

    def inbox_lost(self, shard: int = 0) -> None:
        if shard == self._home:
            self._flying.clear()
        super().inbox_lost(shard)

    def tally(self, link: Link, shard: int = 0) -> None:
        """Have Redis put in how many messages it was given for this process: some may not come (D-04)."""
        keys = self._shard_keys[shard]
        script, head = scripts.TALLY, wire.note(wire.TALLY)
        inbox, counter = keys.inbox(self.client_id), keys.counter(self.client_id)
        link.post("EVALSHA", script.digest, 2, inbox, counter, head, self._inbox_lifetime)

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
        if self._full:
            self._tell("PEXPIRE", self._shard_keys[self._home].full(self.client_id), self._lease_ms)
        if self._vacant:
            self._leave_vacant()
        self._kept.purge()
        self._housekeep()

    def _tell_full(self, channel: str) -> None:
        self._full.add(channel)
        key = self._shard_keys[self._home].full(self.client_id)
        self._tell("SADD", key, channel)
        self._tell("PEXPIRE", key, self._lease_ms)

    def _tell_room(self, channel: str) -> None:
        self._full.discard(channel)
        self._tell("SREM", self._shard_keys[self._home].full(self.client_id), channel)

    def _tell(self, *command: Argument) -> None:
        """Run a command at home, whose outcome nobody waits for; one link keeps these in order."""
        self._at_inbox(self._home, Link.post, *command)


def fail(waiter: Waiter[None], error: LayerUnavailable) -> None:
    """End a wait with ``error``, unless it has ended."""
    if not waiter.done():
        waiter.set_exception(error)
