"""The channel layer for many machines: Redis or Valkey, from version 6.2 (design sections 4.1 and 4.2)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, Final

from fastchannels import conf
from fastchannels._core.names import process_of
from fastchannels._core.outbox import Outbox, Route, Sender
from fastchannels._core.take import Take
from fastchannels._core.wake import current_loop
from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.aim import Aim
from fastchannels.layers.base import Message, split_channels
from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.calls import take_turn
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.flush import wipe, wipe_sync
from fastchannels.layers.redis.hosts import parse_hosts
from fastchannels.layers.redis.keys import MARK, Keys
from fastchannels.layers.redis.outage import Outage, ReplyError
from fastchannels.layers.redis.places import tag_of
from fastchannels.layers.redis.process import InboxSide, ProcessSide, fail
from fastchannels.layers.redis.readers import ChannelReader, InboxReader
from fastchannels.layers.redis.session import Seat, Session, Sessions
from fastchannels.layers.redis.shards import Shards
from fastchannels.layers.redis.waiting import pop_any

logger = logging.getLogger("fastchannels.layer")

#: What the scripts say of one message.
_STORED: Final = ord("0")
_CHANNEL_FULL: Final = ord("2")


#: Channels whose route is remembered, at most; past it all are found again.
_MAX_ROUTES: Final = 4096


class RedisChannelLayer(ProcessSide):
    """Channels and groups in Redis. Safe for several event loops and threads of a process, each with own connections.

    Options beside those of :class:`~fastchannels.layers.base.ChannelLayer`:

    ``hosts``
        a list, each entry one shard: a URL (``redis://``, ``rediss://``, ``unix://``), ``(host, port)``,
        ``{"address": URL}`` or ``{"host": ..., "port": ..., "username": ..., "password": ..., "db": ...}``, the dicts
        with ``ssl_ca_certs``, ``ssl_cert_reqs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_check_hostname``. Default
        ``redis://localhost:6379``. ``{"sentinels": [(host, port), ...], "master_name": ..., "sentinel_kwargs": {...}}``
        with the options of the master beside them is followed through failovers. Replication is not awaited: what the
        master did in the instant before it died may be undone, so that a message is lost, or a popped one comes again.
        The same holds for ``{"cluster": [(host, port), ...], "shards": 6}``, the nodes of a Redis Cluster: each of that
        many shards is one hash tag, so the number is the same in every process, and best a few times that of masters.
        While a slot moves, what is on its shard waits.
    ``prefix``
        of every key (default ``asgi``). Layers of different prefixes share nothing.
    ``inbox_capacity``
        unread messages that Redis holds for one process (default 100 000), whatever their channels.
    ``reconnect_timeout``
        seconds that a call waits for a Redis that is away (default 30), before ``LayerUnavailable``.
    ``random_prefix_length``
        for settings of channels_redis, without effect: equal messages stay apart here without a prefix.

    Several ``hosts`` share the names: each group, ordinary channel and process has its shard by consistent hashing, in
    every process that has the same hosts, in any order. A process reads an inbox at each shard. Between a group send
    and a direct send to a member order is then promised only when both have one shard. A shard that is away stops what
    is on it and nothing else. When a host is added to n, about one name in n + 1 moves, to the new host, and nothing is
    copied: once all processes have the new list, unread messages of a moved channel are left to expire where they were,
    and a moved group has the members that joined after; until then, processes with the old and the new list do not meet
    on moved names.

    ``statistics()["dropped"]`` also counts

    ``torn``
        messages for process-local channels and for groups that Redis had handed to a connection of this process that
        broke: each of them, once Redis is back. Those that expired there while this process was away are among them.
    ``torn_pops``
        not messages: pops of ordinary channels that were not answered when their connection broke. How many messages
        each had taken Redis does not tell: perhaps none, and at most one for each reader that waited here.
    ``gone``
        processes that a group send passed over because their lease had ended, or Redis had lost its data. Such a
        process is dead, or it or Redis stood still for longer than the lease, or Redis started empty; then it announces
        its memberships again by itself, and has missed what was sent meanwhile. Of a Redis that lost all members of a
        group only a process that has some itself can tell.

    A Redis that is out of memory refuses sends at once with ``LayerUnavailable``, and nothing was stored; messages can
    still be received. One that became a replica is waited for as one that is away.

    ``group_add`` and ``group_discard`` of a channel of this process, in a group that Redis knows it to be in, return
    when they are on their way: ahead of all that is sent on this loop afterwards. With several shards, and with many on
    their way, they wait for Redis. A group without a member here is left with the second heartbeat after.

    Delivery is at most once (D-04). A message that was popped for a receive that was cancelled meanwhile stays in this
    process for the next receive on its channel, until it expires. A send that lost its connection before the answer
    raises ``LayerUnavailable`` and is not repeated: it may have taken effect.
    """

    def __init__(
        self,
        *,
        hosts: Any = None,
        prefix: str = conf.PREFIX,
        inbox_capacity: int = conf.INBOX_CAPACITY,
        reconnect_timeout: float = 30.0,
        random_prefix_length: int = 12,
        **options: Any,
    ) -> None:
        self.shards = Shards(parse_hosts(hosts))
        self._shard_keys = tuple(Keys(prefix, tag_of(place)) for place in self.shards.places)
        #: Those of the first shard; but in a cluster of all.
        self.keys = self._shard_keys[0]
        self.prefix = prefix
        if isinstance(inbox_capacity, bool) or not isinstance(inbox_capacity, int) or inbox_capacity < 1:
            raise InvalidChannelLayerError(
                f"CONFIG option inbox_capacity={inbox_capacity!r}: a whole number, at least 1"
            )
        if not isinstance(reconnect_timeout, (int, float)) or not 0 < reconnect_timeout < math.inf:
            raise InvalidChannelLayerError(f"CONFIG option reconnect_timeout={reconnect_timeout!r}: seconds, above 0")
        if isinstance(random_prefix_length, bool) or not isinstance(random_prefix_length, int):
            raise InvalidChannelLayerError(
                f"CONFIG option random_prefix_length={random_prefix_length!r}: a whole number, which has no effect here"
            )
        self.inbox_capacity = inbox_capacity
        self.reconnect_timeout = reconnect_timeout
        self._sessions: Sessions[Session] = Sessions()
        self._clients: weakref.WeakSet[BlockingClient] = weakref.WeakSet()
        super().__init__(**options)
        logger.info("%s speaks a wire of its own (prefix %r)", self, prefix)  # D-48

    def __str__(self) -> str:
        return f"{type(self).__name__}(hosts={[str(place) for place in self.shards.places]!r})"

    def _start_process(self) -> None:
        # After a fork: the connections are the parent's, their descriptors here are closed without a word to Redis.
        self._sessions.leave_to_parent()
        for client in list(self._clients):
            client.drop()
        super()._start_process()
        self._outages = tuple(Outage(place, self.reconnect_timeout, self._on_torn_pop) for place in self.shards.places)
        self._sessions = Sessions()
        self._session_numbers = itertools.count()
        self._turns = itertools.count()
        self._sender = Sender(self.codec)
        self._clients = weakref.WeakSet()
        self._local = threading.local()

    # ------------------------------------------------------------------ event loops and threads

    def _session(self) -> Session:
        loop = current_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._open_session(loop)
        return session

    def _open_session(self, loop: asyncio.AbstractEventLoop) -> Session:
        self._sessions.end_closed(self._end_session)
        number = next(self._session_numbers)
        seats = []
        for outage, keys in zip(self._outages, self._shard_keys, strict=True):
            link = Link(loop, outage)
            wake = keys.wake(f"{self.client_id}.{number}")
            channels = ChannelReader(
                loop, link, outage, keys, wake, self.expiry, self._kept, self._offer_kept, self._on_expired
            )
            seat = Seat(link, channels, keys)
            if outage.may_move:
                seat.watch(loop, self.reconnect_timeout / 3)
            seats.append(seat)
        session = self._sessions[loop] = Session(loop, seats, self._end_session)
        self._sender.outboxes[loop] = tuple(seat.link.outbox for seat in seats)
        return session

    def _seat(self, name: str) -> Seat:
        """Of the running loop, at the shard of a group or process."""
        seats = self._session().seats
        return seats[0] if len(seats) == 1 else seats[self.shards.of(name)]

    def _end_session(self, session: Session) -> None:
        if self._sessions.get(session.loop) is session:
            del self._sessions[session.loop]
            del self._sender.outboxes[session.loop]
        with self._lock:
            readers = self._readers
            if readers and session.seats[0].inbox is not readers[0]:
                return
            self._readers = ()
        if readers:
            for shard in range(len(self.shards)):
                self.inbox_lost(shard)
        elif not self.inbox.watched():
            return
        # Readers on other loops need the inbox read there.
        self._sessions.ask_one(self._listen)

    def _listen(self) -> None:
        # Every loop that reads has a session, so that one of them can take over when the loop of the reader ends.
        session = self._session()
        readers = self._readers
        if readers and not readers[0].loop.is_closed():
            return
        with self._lock:
            if self._readers is not readers:
                return
            for shard, seat in enumerate(session.seats):
                seat.inbox = InboxReader(
                    session.loop, seat.link, self._outages[shard], seat.keys, InboxSide(self, shard), self.heartbeat,
                    self.lease,
                )  # fmt: skip
            self._readers = tuple(seat.inbox for seat in session.seats if seat.inbox is not None)
        for reader in self._readers:
            reader.start()

    def _client(self, shard: int = 0, purpose: str = "commands") -> BlockingClient:
        """The connection of this thread to a shard; one that waits in a pop is ended by another, for that purpose."""
        try:
            clients: dict[tuple[int, str], BlockingClient] = self._local.clients
        except AttributeError:
            clients = self._local.clients = {}
        client = clients.get((shard, purpose))
        if client is None:
            client = clients[shard, purpose] = BlockingClient(self._outages[shard])
            self._clients.add(client)
        return client

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            return
        await session.close()
        if not self._readers:
            error = LayerUnavailable("the channel layer was closed while this waited for a message")
            for waiter in self.inbox.waiters():
                if waiter.get_loop() is loop:
                    fail(waiter, error)

    def close_sync(self) -> None:
        for client in getattr(self._local, "clients", {}).values():
            client.close()

    def new_local_channel(self, prefix: str) -> str:
        name = super().new_local_channel(prefix)
        if asyncio._get_running_loop() is not None:
            # The lease goes out before anything that is sent under this name, so that groups take it for alive.
            self._listen()
        return name

    # HOT: benchmarks/layers.py
    def _take_waiting(self, channel: str) -> Awaitable[Message]:
        loop = current_loop()
        readers = self._readers
        if not readers or readers[0].loop is not loop:
            self._listen()
        return Take(loop, self.inbox, channel)

    # ------------------------------------------------------------------ sending

    def _queue_head(self, channel: str) -> tuple[Argument, ...]:
        return self._expiry_ms, self.get_capacity(channel)

    def _inbox_head(self) -> tuple[Argument, ...]:
        return self._expiry_ms, self.inbox_capacity, self._inbox_lifetime

    # HOT: benchmarks/layers.py
    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None:
        sending = self._sender.push(channel, message)
        if sending is None:
            await super().send(channel, message, single_reader=single_reader)
            return
        code = await sending
        if code != _STORED:
            raise self._refusal(channel, code)
        self._sent += 1

    def _find_route(self, channel: str) -> Route:
        """Where messages for ``channel`` go and how, kept for the next one."""
        capacity = self.get_capacity(channel)
        if "!" not in channel:
            route = Route(
                channel, scripts.QUEUE_SEND.digest, (self._keys(channel).queue(channel),), self._queue_head(channel),
                limit=capacity, shard=self.shards.of(channel),
            )  # fmt: skip
        else:
            owner = process_of(channel)
            own = owner == self.client_id
            route = Route(
                channel, scripts.INBOX_SEND.digest, self._inbox_keys(owner), self._inbox_head(),
                wire.body(wire.OWN if own else wire.MESSAGE, channel), limit=capacity, joined=True,
                shard=self.shards.of(owner), own=own,
            )  # fmt: skip
        routes = self._sender.routes
        if len(routes) >= _MAX_ROUTES:
            routes.clear()
        if "?" not in channel:
            # Such a name is good for a caller who asks for a single reader alone.
            routes[channel] = route
        return route

    def _inbox_keys(self, process: str) -> tuple[str, ...]:
        keys = self._keys(process)
        return keys.inbox(process), keys.full(process), keys.counter(process), *keys.anchor

    async def _push(self, channel: str, payload: bytes) -> None:
        route = self._sender.routes.get(channel) or self._find_route(channel)
        outbox = self._session().seats[route.shard].link.outbox
        if route.own:
            await self._push_own(outbox, route, payload)
            return
        stored = outbox.push(route, payload)
        code = _CHANNEL_FULL if stored is None else await stored
        if code != _STORED:
            raise self._refusal(channel, code)

    async def _push_own(self, outbox: Outbox, route: Route, payload: bytes) -> None:
        """To a channel of this process: what flies and what waits is known here, so the capacity holds exactly."""
        channel = route.channel
        self._listen()
        flying = self._flying.get(channel, 0)
        if flying + self.inbox.unread(channel) >= route.limit:
            raise self._refuse(channel)
        self._flying[channel] = flying + 1
        try:
            stored = outbox.push(route, payload)
            code = _CHANNEL_FULL if stored is None else await stored
        except LayerUnavailable:
            self._landed(channel)
            raise
        if code != _STORED:
            self._landed(channel)
            raise self._refusal(channel, code)

    def _refusal(self, channel: str, code: int) -> Exception:
        if code == _CHANNEL_FULL or "!" not in channel:
            return self._refuse(channel)
        self.drops.refused(channel)
        return ChannelFull(
            f"the inbox of the process behind channel {channel!r} holds its capacity, {self.inbox_capacity} messages: "
            "that process is stuck or gone, or raise 'inbox_capacity' in CHANNEL_LAYERS CONFIG"
        )

    def _push_sync(self, channel: str, payload: bytes) -> None:
        client = self._client(self.shards.of_channel(channel))
        if "!" not in channel:
            code = client.run(
                scripts.QUEUE_SEND, (self._keys(channel).queue(channel),), *self._queue_head(channel), payload
            )[0]
            if code != _STORED:
                raise self._refuse(channel)
            return
        owner = process_of(channel)
        if owner == self.client_id and self.inbox.unread(channel) >= self.get_capacity(channel):
            raise self._refuse(channel)
        message = wire.message(wire.MESSAGE, channel, payload)
        code = client.run(scripts.INBOX_SEND, self._inbox_keys(owner), *self._inbox_head(), 1, message)[0]
        if code != _STORED:
            raise self._refusal(channel, code)

    # ------------------------------------------------------------------ receiving

    async def _pop(self, channel: str) -> bytes:
        kept = self._kept.take(channel)
        return kept[0] if kept is not None else await self._seat(channel).channels.take(channel)

    def _offer_kept(self, channel: str) -> None:
        for session in list(self._sessions.values()):
            channels = session.seats[self.shards.of(channel)].channels
            if channels.waits_for(channel):
                try:
                    session.loop.call_soon_threadsafe(channels.offer_kept, channel)
                except RuntimeError:  # closed meanwhile
                    continue
                return

    def _pop_sync(self, channels: list[str], timeout: float | None) -> tuple[str, bytes] | None:
        for channel in channels:
            kept = self._kept.take(channel)
            if kept is not None:
                return channel, kept[0]
        wanted: dict[int, list[str]] = {}
        for channel in channels:
            shard = self.shards.of(channel)
            wanted.setdefault(shard, []).append(self._shard_keys[shard].queue(channel))
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            popped = self._pop_shards(wanted, left)
            if popped is None:
                return None
            key, stamp, payload, now = popped
            if now - stamp < self._expiry_ms:
                return key.rpartition(MARK)[2], payload
            self._on_expired()

    # HOT: benchmarks/talk.py
    def take_turn(
        self, channels: Sequence[str], most: int, timeout: float, outgoing: list[tuple[str, bytes]]
    ) -> list[tuple[str, Message]]:
        ordinary, beginnings = split_channels(tuple(channels))
        shards = {0} if len(self.shards) == 1 else {self.shards.of(channel) for channel in ordinary}
        if beginnings or len(shards) != 1 or any(self._kept.count(channel) for channel in ordinary):
            # Of several shards one message at a time is taken.
            return super().take_turn(channels, min(most, 1), timeout, outgoing)
        return take_turn(self, shards.pop(), ordinary, most, timeout, outgoing)

    def _pop_shards(self, wanted: dict[int, list[str]], timeout: float | None) -> tuple[str, int, bytes, int] | None:
        if len(wanted) == 1:
            ((shard, keys),) = wanted.items()
            return self._client(shard).pop(keys, timeout)

        def keep(popped: tuple[str, int, bytes, int]) -> None:
            key, stamp, payload, now = popped
            channel = key.rpartition(MARK)[2]
            self._kept.put(channel, payload, time.monotonic() + self.expiry - max(0, now - stamp) / 1000)
            self._offer_kept(channel)

        turn = next(self._turns)
        first = turn % len(wanted)
        shards = [*wanted][first:] + [*wanted][:first]
        return pop_any(
            [
                (
                    self._client(shard), wanted[shard], self._client(shard, "end of a pop"),
                    self._shard_keys[shard].wake(f"{self.client_id}.t{turn}"),
                )
                for shard in shards
            ], timeout, keep,
        )  # fmt: skip

    async def pending(self, channel: str) -> int:
        """Unread messages on an ordinary ``channel``, or on a process-local one of this process."""
        if "!" in channel:
            self._check_own(channel)
            return self.inbox.unread(channel) + self._flying.get(channel, 0)
        held: int = await self._seat(channel).link.call("LLEN", self._keys(channel).queue(channel))
        return held + self._kept.count(channel)

    def _depth_sync(self, channel: str) -> tuple[int | None, float | None]:
        if "!" in channel:
            return super()._depth_sync(channel)
        client, key = self._client(self.shards.of_channel(channel)), self._keys(channel).queue(channel)
        try:
            held, oldest, clock = client.call("LLEN", key), client.call("LINDEX", key, 0), client.call("TIME")
        except ReplyError as error:
            raise LayerUnavailable(f"Redis refused a command of channel_statistics: {error}") from error
        if oldest is None:
            return held + self._kept.count(channel), 0.0
        age = int(clock[0]) + int(clock[1]) / 1e6 - wire.parse_queued(oldest)[0] / 1000
        return held + self._kept.count(channel), max(0.0, age)

    # ------------------------------------------------------------------ groups

    def _publish_arguments(
        self, group: str, message: bytes, before: int, excluded: Iterable[str] = ()
    ) -> tuple[Argument, ...]:
        return (
            self._keys(group).base, message, before, self._expiry_ms, self._group_expiry_ms,
            self.inbox_capacity, self._inbox_lifetime, 0 if len(self.shards) == 1 else 1, *excluded,
        )  # fmt: skip

    def _to_group(self, group: str, payload: bytes) -> tuple[tuple[str, ...], tuple[Argument, ...]]:
        message, keys = wire.message(wire.GROUP, group, payload), self._keys(group)
        arguments = self._publish_arguments(group, message, len(message) - len(payload))
        return (keys.group(group), *keys.anchor), arguments

    def _to_groups(self, aim: Aim, payload: bytes) -> Iterator[tuple[str, tuple[str, ...], tuple[Argument, ...]]]:
        """For each shard: one of its groups, and what the script gets."""
        shards: dict[int, list[str]] = {}
        for group in aim.groups:
            shards.setdefault(self.shards.of(group), []).append(group)
        token = os.urandom(16) if len(shards) > 1 else b""
        for groups in shards.values():
            head = aim._replace(groups=tuple(groups), token=token).head
            message = wire.message(wire.AIMED, groups[0], head + payload)
            at = self._keys(groups[0])
            keys = (*map(at.group, groups), *at.anchor)
            before = len(message) - len(payload)
            yield groups[0], keys, self._publish_arguments(groups[0], message, before, aim.excluded)

    async def _publish(self, group: str, payload: bytes) -> None:
        keys, arguments = self._to_group(group, payload)
        full, met, gone, *elsewhere = await self._seat(group).link.run(scripts.GROUP_SEND, keys, *arguments)
        self._count_gone((group,), met, gone)
        if elsewhere:
            full += await self._publish_elsewhere(elsewhere, payload)
        if full:
            self.drops.group_full(group, full, met)

    async def _publish_aimed(self, aim: Aim, payload: bytes) -> None:
        sent = [
            self._seat(group).link.run(scripts.GROUP_SEND, keys, *arguments)
            for group, keys, arguments in self._to_groups(aim, payload)
        ]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        full, met, elsewhere = self._together(aim.groups, answered)
        if elsewhere:
            full += await self._publish_elsewhere(elsewhere, payload)
        if full:
            self.drops.group_full(aim.name, full, met)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _count_gone(self, groups: tuple[str, ...], met: int, gone: int) -> None:
        if not met and not gone and any(group in self.groups for group in groups):
            # Redis knows of nobody: it lost its data, and this process has not announced its members again.
            gone = 1
        if gone:
            self.drops.count("gone", gone)

    def _together(self, groups: tuple[str, ...], answers: list[list[Any]]) -> tuple[int, int, list[Any]]:
        """What several shards said: passed over, met, and ordinary channels with their capacity, each once."""
        full = met = 0
        elsewhere: dict[bytes, int] = {}
        for answer in answers:
            full += answer[0]
            met += answer[1]
            elsewhere.update(zip(answer[3::2], answer[4::2], strict=True))
        if answers:
            self._count_gone(groups, met, sum(answer[2] for answer in answers))
        return full, met, [part for item in elsewhere.items() for part in item]

    async def _publish_elsewhere(self, members: list[Any], payload: bytes) -> int:
        """To ordinary channels, each on its own shard, in one write to each; returns how many were full."""
        full = 0
        waiting = []
        for raw, capacity in zip(members[::2], members[1::2], strict=True):
            channel = raw.decode("ascii")
            stored = self._seat(channel).link.push(
                scripts.QUEUE_SEND,
                (self._keys(channel).queue(channel),),
                (self._expiry_ms, capacity),
                payload,
                channel,
                capacity,
            )
            if stored is None:
                full += 1
            else:
                waiting.append(stored)
        errors = []
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(outcome, BaseException):
                errors.append(outcome)
            elif outcome != _STORED:
                full += 1
        if errors:
            raise errors[0]
        return full

    def _publish_sync(self, group: str, payload: bytes) -> None:
        keys, arguments = self._to_group(group, payload)
        answer = self._client(self.shards.of(group)).run(scripts.GROUP_SEND, keys, *arguments)
        self._publish_rest_sync(group, (group,), payload, [answer])

    def _publish_aimed_sync(self, aim: Aim, payload: bytes) -> None:
        answers = [
            self._client(self.shards.of(group)).run(scripts.GROUP_SEND, keys, *arguments)
            for group, keys, arguments in self._to_groups(aim, payload)
        ]
        self._publish_rest_sync(aim.name, aim.groups, payload, answers)

    def _publish_rest_sync(self, name: str, groups: tuple[str, ...], payload: bytes, answers: list[list[Any]]) -> None:
        full, met, elsewhere = self._together(groups, answers)
        for raw, capacity in zip(elsewhere[::2], elsewhere[1::2], strict=True):
            channel = raw.decode("ascii")
            queue = (self._keys(channel).queue(channel),)
            client = self._client(self.shards.of(channel))
            full += client.run(scripts.QUEUE_SEND, queue, self._expiry_ms, capacity, payload)[0] != _STORED
        if full:
            self.drops.group_full(name, full, met)

    # ------------------------------------------------------------------ flush

    async def _wipe(self) -> None:
        seats = self._session().seats
        await asyncio.gather(*(self._wipe_shard(shard, seat.link) for shard, seat in enumerate(seats)))

    async def _wipe_shard(self, shard: int, link: Link) -> None:
        keys = self._shard_keys[shard]
        await wipe(link, keys, self.shards.names[shard], self.client_id, self._inbox_lifetime)
        if self._readers:
            # What was popped before the wipe is on its way here: it has arrived when the fence has.
            loop = asyncio.get_running_loop()
            fence: asyncio.Future[None] = loop.create_future()
            token = self._new_fence(shard, lambda: loop.call_soon_threadsafe(_settle, fence))
            link.post("RPUSH", keys.inbox(self.client_id), wire.note(wire.FENCE, rest=token))
            link.post("PEXPIRE", keys.inbox(self.client_id), self._inbox_lifetime)
            try:
                await asyncio.wait_for(fence, self.heartbeat)
            except asyncio.TimeoutError:
                self._fences[shard].pop(token, None)

    def _wipe_sync(self) -> None:
        own = "" if self._readers else self.client_id
        for shard, name in enumerate(self.shards.names):
            wipe_sync(self._client(shard), self._shard_keys[shard], name, own, self._inbox_lifetime)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
