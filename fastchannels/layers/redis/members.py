"""The members of groups that live in this process, and what Redis is told of them (design section 4.2)."""

from __future__ import annotations

import abc
import asyncio
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastchannels._core.names import process_of
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.connection import Link
from fastchannels.layers.redis.keys import Keys
from fastchannels.layers.redis.readers import InboxReader
from fastchannels.layers.redis.session import Seat
from fastchannels.layers.redis.shards import Shards

#: Seconds that a process counts as alive after a heartbeat (D-05).
LEASE: Final = 9.5
#: Milliseconds that an inbox outlives the messages in it: notes about members have no age.
INBOX_MARGIN: Final = 30_000
#: Whole heartbeats that Redis still counts this process in a group without a member here: most come back.
LINGER: Final = 1
#: Groups that one script call announces or leaves.
GROUP_BATCH: Final = 1000
#: Moves of one turn of the loop after which the caller lets others run, and notes that travel without being awaited.
MOVES: Final = 512
NOTES: Final = 64


class Note:
    """Moves of own channels, joins (True) and discards, that are made where their note stands in the inbox (D-50).

    Only the last move of a channel in a group counts: no message lies between those of one note.
    """

    __slots__ = ("_make", "count", "end", "link", "loop", "moves", "taking")

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link, make: Callable[[Note], None]) -> None:
        self.loop = loop
        self.link = link
        self._make = make
        self.moves: dict[tuple[str, str], bool] = {}
        self.count = 0
        #: More moves may join it: the turn of the loop in which it was written has not ended.
        self.taking = False
        #: What was written last for it.
        self.end: object = None

    def close(self) -> None:
        self.taking = False

    def __call__(self) -> None:
        """It has come through the inbox, or never will."""
        self.taking = False
        self._make(self)


class MemberSide(ChannelLayer):
    """The part of the Redis layer that keeps groups.

    Redis knows, by group, the processes that have a member, and each process its members. A group is *announced* while
    Redis is known to have this process in it. Joins and discards of own channels are made when a note of them has come
    through the inbox: behind what was queued before them, and ahead of what is published after (D-50): by this loop,
    and by whoever heard of it through the layer. A note is written, not waited for, so a process that hears of a join
    by another way, within the time that Redis takes for what it was sent, may publish ahead of it.
    """

    lease: float = LEASE
    shards: Shards
    #: By shard.
    _shard_keys: tuple[Keys, ...]
    #: One for each shard, all on one loop; none while nothing is received on a process-local channel.
    _readers: tuple[InboxReader, ...]

    def _start_process(self) -> None:
        super()._start_process()
        self._expiry_ms = round(self.expiry * 1000)
        self._group_expiry_ms = round(self.group_expiry * 1000)
        self._lease_ms = round(self.lease * 1000)
        self._inbox_lifetime = self._expiry_ms + INBOX_MARGIN
        self._lock = threading.RLock()
        self._readers = ()
        #: The announced groups, with the counter of their entry for this process (see leave_process.lua).
        self._announced: dict[str, int] = {}
        #: Groups that Redis may count this process in and that have no member here; heartbeats since that was noticed.
        self._vacant: dict[str, int] = {}
        #: Who waits for an announcement that leaves with this turn of a loop.
        self._announcing: dict[Link, dict[str, list[asyncio.Future[None]]]] = {}
        self._tokens = itertools.count(1)
        #: By shard, what is to be done when a token has come through the inbox.
        self._fences: tuple[dict[bytes, Callable[[], object]], ...] = tuple({} for _ in self._shard_keys)
        #: The note that was written last without being awaited.
        self._note: Note | None = None

    def _forget_local(self) -> None:
        super()._forget_local()
        self._announced.clear()
        self._vacant.clear()

    def _keys(self, name: str) -> Keys:
        """Of the shard of a group or process, or of an ordinary channel."""
        return self._shard_keys[self.shards.of(name)]

    @abc.abstractmethod
    def _seat(self, name: str) -> Seat:
        """The connections of the running loop to the shard of a group, a process or an ordinary channel."""

    @abc.abstractmethod
    def _client(self, shard: int = 0, purpose: str = "commands") -> BlockingClient:
        """The connection of this thread to a shard."""

    # ------------------------------------------------------------------ joining and leaving

    # HOT: benchmarks/layers.py, group_add and group_discard
    async def _join(self, group: str, channel: str) -> None:
        if self._own_mark not in channel:
            await self._join_elsewhere(group, channel)
        elif not self.inbox.is_closed(channel):  # D-11
            note = self._move_now(group, channel, True)
            if note is None:
                await self._move(group, channel, True)
            elif note.count % MOVES == 0:
                await asyncio.sleep(0)

    # HOT: benchmarks/layers.py, group_add and group_discard
    async def _leave(self, group: str, channel: str) -> None:
        if self._own_mark not in channel:
            await self._leave_elsewhere(group, channel)
        elif not self._readers:
            self._discard(group, channel)
        else:
            note = self._move_now(group, channel, False)
            if note is None:
                await self._move(group, channel, False)
            elif note.count % MOVES == 0:
                await asyncio.sleep(0)

    def _move_now(self, group: str, channel: str, joining: bool) -> Note | None:
        """Make a move of an own channel whose place the connection alone keeps; None: it has to be awaited.

        The note of the first move in a turn of the loop is written at once, so that nothing which the caller does next
        overtakes it. Those that follow join it for as long as nothing else was given to the link.
        """
        if group not in self._announced:
            return None
        note = self._note
        if note is None or not note.taking or not note.link.ends_with(note.end):
            note = self._write_note()
        elif note.loop is not asyncio._get_running_loop():
            return None
        if note is not None:
            note.moves[group, channel] = joining
            note.count += 1
        return note

    def _write_note(self) -> Note | None:
        # With several shards the caller's next message may go by another of them, so each move is awaited.
        if len(self._readers) != 1 or len(self._fences[0]) >= NOTES:
            return None
        (reader,) = self._readers
        loop, link = reader.loop, reader.link
        if loop is not asyncio._get_running_loop() or not link.stands:
            return None
        note = Note(loop, link, self._make_moves)
        token = self._new_fence(0, note)
        key = self._shard_keys[0].inbox(self.client_id)
        note.end = link.write(
            functools.partial(self._on_note, token),
            ("RPUSH", key, wire.note(wire.FENCE, rest=token)),
            ("PEXPIRE", key, self._inbox_lifetime),
        )
        note.taking = True
        loop.call_soon(note.close)
        self._note = note
        return note

    def _on_note(self, token: bytes, reply: object) -> None:
        if isinstance(reply, Exception):
            # Refused, or lost with the connection, and with it the order among what was sent there.
            self._reach(token)

    async def _move(self, group: str, channel: str, joining: bool) -> None:
        """Make a move of an own channel, and return when Redis has its note. Raises ``LayerUnavailable``."""
        shard, link = self.shards.of(group), self._seat(group).link
        if joining:
            self._listen()
            while group not in self._announced:
                await self._announce_soon(link, group)
        note = Note(asyncio.get_running_loop(), link, self._make_moves)
        note.moves[group, channel] = joining
        token = self._new_fence(shard, note)
        try:
            await self._push_note(link, group, self.client_id, wire.note(wire.FENCE, rest=token))
        except LayerUnavailable:
            if self._fences[shard].pop(token, None) is not None and not joining:
                self._discard(group, channel)
            raise

    async def _push_note(self, link: Link, group: str, process: str, note: bytes) -> None:
        key = self._keys(group).inbox(process)
        pushed = link.call("RPUSH", key, note)
        link.post("PEXPIRE", key, self._inbox_lifetime)
        await pushed

    async def _join_elsewhere(self, group: str, channel: str) -> None:
        link = self._seat(group).link
        if "!" in channel:
            await link.run(scripts.JOIN_PROCESS, *self._join_process(process_of(channel), group, channel))
        else:
            await link.run(scripts.JOIN_CHANNEL, *self._join_channel(group, channel))

    async def _leave_elsewhere(self, group: str, channel: str) -> None:
        link = self._seat(group).link
        if "!" in channel:
            await self._push_note(
                link, group, process_of(channel), wire.note(wire.DISCARD, channel, group.encode("ascii"))
            )
        else:
            await link.call("HDEL", self._keys(group).group(group), "=" + channel)

    def _join_sync(self, group: str, channel: str) -> None:
        client = self._client(self.shards.of(group))
        if "!" not in channel:
            client.run(scripts.JOIN_CHANNEL, *self._join_channel(group, channel))
        elif self._own_mark in channel and not self._readers:
            # Nobody reads the inbox yet; whoever does will announce the group.
            self.groups.add(group, channel)
        else:
            client.run(scripts.JOIN_PROCESS, *self._join_process(process_of(channel), group, channel))

    def _leave_sync(self, group: str, channel: str) -> None:
        client = self._client(self.shards.of(group))
        if "!" not in channel:
            client.call("HDEL", self._keys(group).group(group), "=" + channel)
        elif self._own_mark in channel and not self._readers:
            self._discard(group, channel)
        else:
            key = self._keys(group).inbox(process_of(channel))
            client.call("RPUSH", key, wire.note(wire.DISCARD, channel, group.encode("ascii")))
            client.call("PEXPIRE", key, self._inbox_lifetime)

    def _join_channel(self, group: str, channel: str) -> tuple[Any, ...]:
        return (self._keys(group).group(group),), channel, self._group_expiry_ms, self.get_capacity(channel)

    def _join_process(self, owner: str, group: str, channel: str) -> tuple[Any, ...]:
        at = self._keys(group)
        keys = at.group(group), at.lease(owner), at.inbox(owner)
        body = wire.body(wire.ADD, channel, group.encode("ascii"))
        return keys, owner, self._group_expiry_ms, self._lease_ms, self._inbox_lifetime, body

    # ------------------------------------------------------------------ what comes through the inbox

    def _new_fence(self, shard: int, fence: Callable[[], object]) -> bytes:
        """A token; ``fence`` is called when it has come through the inbox, or was lost with a connection."""
        token = b"%d" % next(self._tokens)
        self._fences[shard][token] = fence
        return token

    def _reach(self, token: bytes) -> None:
        for fences in self._fences:
            fence = fences.pop(token, None)
            if fence is not None:
                fence()

    def _make_moves(self, note: Note) -> None:
        for (group, channel), joining in note.moves.items():
            if not joining:
                self._discard(group, channel)
            elif not self.inbox.is_closed(channel):  # D-11
                self.groups.add(group, channel)
                if group not in self._announced:
                    # A flush came between.
                    self._at_inbox(self.shards.of(group), self._announce, [group])

    def _on_member_note(self, kind: int, channel: str, rest: bytes) -> None:
        """Another process, or a thread without a loop, made a move of a channel of this one."""
        if kind == wire.DISCARD:
            self._discard(rest.decode("ascii"), channel)
            return
        group, counter = rest.decode("ascii").split(" ")
        if not self.inbox.is_closed(channel):  # D-11
            self.groups.add(group, channel)
        self._on_announced([group], int(counter))

    def _on_group(self, group: str, payload: bytes, age: float) -> None:
        self._deliver_group(group, payload, age)
        if group not in self._announced and group not in self.groups:
            self._vacant.setdefault(group, 0)

    def _discard(self, group: str, channel: str) -> None:
        if self.groups.discard(group, channel):
            self._group_emptied(group)

    # ------------------------------------------------------------------ what Redis is told

    async def _announce_soon(self, link: Link, group: str) -> None:
        """Return when ``group`` is announced; those of one turn of the loop share a script call."""
        waiting = self._announcing.get(link)
        loop = asyncio.get_running_loop()
        if waiting is None:
            waiting = self._announcing[link] = {}
            loop.call_soon(self._announce_waiting, link)
        told: asyncio.Future[None] = loop.create_future()
        waiting.setdefault(group, []).append(told)
        await told

    def _announce_waiting(self, link: Link) -> None:
        waiting = self._announcing.pop(link)
        for part in _parts(list(waiting)):
            told = [future for group in part for future in waiting[group]]
            self._announce(link, part).add_done_callback(functools.partial(_pass_on, told))

    def _announce(self, link: Link, groups: list[str]) -> asyncio.Future[bytes]:
        """Have Redis count this process in ``groups``, which are on one shard."""
        at = self._keys(groups[0])
        keys = (at.lease(self.client_id), *map(at.group, groups))
        reply = link.run(scripts.ANNOUNCE, keys, self.client_id, self._group_expiry_ms, self._lease_ms)
        reply.add_done_callback(functools.partial(self._on_announcement, groups))
        return reply

    def _on_announcement(self, groups: list[str], reply: asyncio.Future[bytes]) -> None:
        if not reply.cancelled() and reply.exception() is None:
            self._on_announced(groups, int(reply.result()))

    def _on_announced(self, groups: list[str], counter: int) -> None:
        for group in groups:
            self._announced[group] = max(counter, self._announced.get(group, 0))
            if group not in self.groups:
                self._vacant.setdefault(group, 0)

    def _group_emptied(self, group: str) -> None:
        self._vacant[group] = 0

    def _leave_vacant(self) -> None:
        """With each heartbeat: have Redis forget this process in groups that had no member here for a while."""
        notes = [fence for fences in self._fences for fence in list(fences.values()) if isinstance(fence, Note)]
        moving = {group for note in notes for group, _ in list(note.moves)}
        left: dict[int, list[str]] = {}
        for group, beats in list(self._vacant.items()):
            if group in self.groups:
                self._vacant.pop(group, None)
            elif beats < LINGER or group in moving:
                self._vacant[group] = beats + 1
            else:
                self._vacant.pop(group, None)
                left.setdefault(self.shards.of(group), []).append(group)
        for shard, groups in left.items():
            for part in _parts(groups):
                self._leave_groups(self._readers[shard].link, part)

    def _leave_groups(self, link: Link, groups: list[str]) -> None:
        known = [(group, self._announced.pop(group)) for group in groups if group in self._announced]
        if known:
            keys = [self._keys(group).group(group) for group, _ in known]
            counters = [counter for _, counter in known]
            link.post("EVALSHA", scripts.LEAVE_PROCESS.digest, len(keys), *keys, self.client_id, *counters)
        unknown = list({*groups} - {group for group, _ in known})
        if unknown:
            # Without the counter it is not known whether somebody adds a member meanwhile; it comes back vacant.
            self._announce(link, unknown)

    def _groups_at(self, shard: int) -> list[str]:
        groups = {*self.groups.groups(), *list(self._announced)}
        return list(groups) if len(self.shards) == 1 else [group for group in groups if self.shards.of(group) == shard]

    def refresh(self, link: Link, shard: int = 0) -> None:
        """Renew the memberships of this process at ``shard`` (D-49)."""
        for part in _parts(self._groups_at(shard)):
            self._announce(link, part)

    def inbox_lost(self, shard: int = 0) -> None:
        """Entries of the inbox at ``shard`` may be gone: nothing waits for their return any longer.

        Nor is it known what Redis knows: joins announce their groups again.
        """
        for token in list(self._fences[shard]):
            self._reach(token)
        for group in list(self._announced):
            if self.shards.of(group) == shard:
                self._announced.pop(group, None)

    def _forget_groups(self, shard: int) -> None:
        """The shard was flushed."""
        for group in self._groups_at(shard):
            for channel in self.groups.members(group):
                self.groups.discard(group, channel)
            self._announced.pop(group, None)
            self._vacant.pop(group, None)

    def _at_inbox(self, shard: int, act: Callable[..., object], *arguments: object) -> None:
        """Call ``act(link, *arguments)`` with the link of the inboxes' loop, there, from any thread."""
        readers = self._readers
        if not readers:
            return
        reader = readers[shard]
        if reader.loop is asyncio._get_running_loop():
            act(reader.link, *arguments)
        else:
            try:
                reader.loop.call_soon_threadsafe(act, reader.link, *arguments)
            except RuntimeError:  # closed: its lease ends, and the next reader announces what is true then
                pass


def _parts(groups: list[str]) -> Iterator[list[str]]:
    return (groups[start : start + GROUP_BATCH] for start in range(0, len(groups), GROUP_BATCH))


def _pass_on(told: list[asyncio.Future[None]], reply: asyncio.Future[bytes]) -> None:
    """End the waits in ``told`` as ``reply`` did."""
    error = reply.exception()
    for future in told:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)
