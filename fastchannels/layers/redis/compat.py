"""The channel layer that shares Redis with processes on channels_redis, while one is exchanged for the other (D-48)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastchannels import conf
from fastchannels._core.names import process_of
from fastchannels.exceptions import InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.aim import Aim
from fastchannels.layers.base import Message
from fastchannels.layers.options import seconds
from fastchannels.layers.redis import scripts
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.compat_process import CompatProcess, fail
from fastchannels.layers.redis.compat_readers import CompatReader, CompatSession, Entry, parse_entries
from fastchannels.layers.redis.compat_wire import RANDOM_PREFIX, CompatKeys, CompatWire
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.hosts import parse_hosts
from fastchannels.layers.redis.outage import Outage, ReplyError
from fastchannels.layers.redis.places import Place, tag_of
from fastchannels.layers.redis.session import Sessions

logger = logging.getLogger("fastchannels.layer")

#: What the script says of one message.
_STORED: Final = ord("0")
#: Seconds between two looks at what expired in this process.
HOUSEKEEPING: Final = 5.0
SCAN_COUNT: Final = 1000
_ZSETS: Final = ("TYPE", "zset")


def parse_single_host(hosts: Any) -> Place:
    """The place in CONFIG ``hosts``: nothing, or a list of one entry. Raises ``InvalidChannelLayerError``."""
    places = parse_hosts(hosts)
    if tag_of(places[0]):
        raise InvalidChannelLayerError(
            "CONFIG option hosts names a Redis Cluster: channels_redis, and so RedisCompatChannelLayer, cannot use one"
        )
    if len(places) != 1:
        # D-46: processes of channels_redis look for a process-local message at another host than they send it to.
        raise InvalidChannelLayerError(
            f"CONFIG option hosts has {len(places)} entries: RedisCompatChannelLayer shares one with channels_redis"
        )
    return places[0]


class RedisCompatChannelLayer(CompatProcess):
    """Channels and groups in the keys and bytes of channels_redis 4, so that old and new processes reach each other.

    It is for the time of a deploy: see ``docs/migration.md``. Options beside those of
    :class:`~fastchannels.layers.base.ChannelLayer`, with the meaning and defaults that channels_redis gives them:

    ``hosts``
        a list of one entry, as :class:`~fastchannels.layers.redis.RedisChannelLayer` takes it.
    ``prefix``
        of every key (default ``asgi``); nothing separates it from a name, so no prefix may begin another.
    ``serializer_format``, ``symmetric_encryption_keys``, ``random_prefix_length``
        how a message is stored. They must be those of the other processes.
    ``reconnect_timeout``
        seconds that a call waits for a Redis that is away (default 30), before ``LayerUnavailable``.

    What this wire cannot promise: a message that a process of channels_redis has popped may be delivered twice (D-04);
    the order of its messages is that of its clock (D-08); the capacity of a process-local name is that of all names of
    its process together while they wait in Redis, and a full name of another process is not told to the sender (D-39);
    members of a dead process stay until ``group_expiry`` (D-05). What this class sends and reads itself is read once,
    in the order in which it reached Redis, and not after ``expiry`` seconds.
    """

    def __init__(
        self,
        *,
        hosts: Any = None,
        prefix: str = conf.PREFIX,
        random_prefix_length: int = RANDOM_PREFIX,
        serializer_format: str = conf.SERIALIZER_FORMAT,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        reconnect_timeout: float = 30.0,
        **options: Any,
    ) -> None:
        self.place = parse_single_host(hosts)
        self.keys = CompatKeys(prefix)
        self.prefix = prefix
        self.reconnect_timeout = seconds("reconnect_timeout", reconnect_timeout)
        self._sessions: Sessions[CompatSession] = Sessions()
        self._clients: weakref.WeakSet[BlockingClient] = weakref.WeakSet()
        # What the base class encodes and decodes is a body; the wire addresses and encrypts it, so it gets the keys.
        super().__init__(serializer_format=serializer_format, **options)
        self.wire = CompatWire(
            self.codec, serializer_format, symmetric_encryption_keys, self.expiry, random_prefix_length
        )
        logger.info(
            "%s speaks the wire of channels_redis (prefix %r): processes of both share channels and groups; "
            "those on RedisChannelLayer do not take part", self, prefix,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{type(self).__name__}(hosts=[{str(self.place)!r}])"

    def _start_process(self) -> None:
        # After a fork: the connections are the parent's, their descriptors here are closed without a word to Redis.
        self._sessions.leave_to_parent()
        for client in list(self._clients):
            client.drop()
        super()._start_process()
        self._outage = Outage(self.place, self.reconnect_timeout, self._on_torn_pop)
        self._sessions = Sessions()
        self._session_numbers = itertools.count()
        self._clients = weakref.WeakSet()
        self._local = threading.local()
        self._lock = threading.RLock()
        self._turn = 0

    # ------------------------------------------------------------------ bytes

    def serialize(self, message: Message) -> bytes:
        """The bytes of a member, random prefix included. Raises what :meth:`send` raises for the message."""
        return self.wire.seal(self.codec.encode(message))

    def deserialize(self, payload: bytes) -> Message:
        """The message of :meth:`serialize`. Raises a ``ValueError`` for other bytes."""
        return self.codec.decode(self.wire.open(payload))

    # ------------------------------------------------------------------ event loops and threads

    def _session(self) -> CompatSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            self._sessions.end_closed(self._end_session)
            wake = self.keys.wake(f"{self.client_id}.{next(self._session_numbers)}")
            link = Link(loop, self._outage)
            interval = min(HOUSEKEEPING, self.group_expiry / 3)
            reader = CompatReader(loop, link, self._outage, self, wake, interval)
            session = self._sessions[loop] = CompatSession(loop, link, reader, self._end_session)
        return session

    def _end_session(self, session: CompatSession) -> None:
        if self._sessions.get(session.loop) is session:
            del self._sessions[session.loop]
        with self._lock:
            reader = self._reader
            if reader is not None and session.reader is not reader:
                return
            self._reader = None
        if reader is None and not self.inbox.watched():
            return
        # Readers on other loops need the inboxes read there.
        self._sessions.ask_one(self._listen)

    def _listen(self) -> None:
        # Every loop that reads has a session, so that one of them can take over when the loop of the reader ends.
        session = self._session()
        reader = self._reader
        if reader is not None and not reader.loop.is_closed():
            return
        with self._lock:
            if self._reader is not reader:
                return
            self._reader = session.reader
        session.reader.start_inbox()

    def _client(self) -> BlockingClient:
        client: BlockingClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = BlockingClient(self._outage)
            self._clients.add(client)
        return client

    def _call(self, *command: Argument) -> Any:
        try:
            return self._client().call(*command)
        except ReplyError as error:
            raise LayerUnavailable(f"Redis at {self.place} answered {error}") from error

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            return
        await session.close()
        if self._reader is None:
            error = LayerUnavailable("the channel layer was closed while this waited for a message")
            for waiter in list(self._waiters):
                if waiter.get_loop() is loop:
                    fail(waiter, error)

    def close_sync(self) -> None:
        client: BlockingClient | None = getattr(self._local, "client", None)
        if client is not None:
            client.close()

    async def wait_received(self) -> None:
        """Nothing to wait for: what was popped is not kept in Redis (channels_redis has this method)."""

    # ------------------------------------------------------------------ process-local names

    def new_local_channel(self, prefix: str) -> str:
        name = super().new_local_channel(prefix)
        self._open_inbox(name)
        if asyncio._get_running_loop() is not None:
            self._listen()
        return name

    def _check_own(self, channel: str) -> None:
        super()._check_own(channel)
        self._open_inbox(channel)

    def _open_inbox(self, channel: str) -> None:
        """Have the key of ``channel`` read with the others."""
        key = self.keys.channel(channel)
        if key in self._inbox_keys:
            return
        with self._lock:
            if key not in self._inbox_keys:
                self._inbox_keys = (*self._inbox_keys, key)
        reader = self._reader
        if reader is not None:
            try:
                reader.loop.call_soon_threadsafe(reader.arm_soon)
            except RuntimeError:  # closed: the next reader asks for all keys
                pass

    async def _take_waiting(self, channel: str) -> Message:
        inbox = self.inbox
        message = inbox.take(channel)
        while message is None:
            waiter = inbox.wait(channel)
            self._waiters.add(waiter)
            try:
                self._listen()
                await waiter
                message = inbox.take(channel)
            finally:
                self._waiters.discard(waiter)
                inbox.unwait(channel, waiter)
        return message

    # ------------------------------------------------------------------ sending

    def _sealed(self, channel: str, payload: bytes) -> bytes:
        """An argument of the script: the capacity of ``channel``, and the member."""
        body = self.wire.address(payload, channel) if "!" in channel else payload
        return b"%d " % self.get_capacity(channel) + self.wire.seal(body)

    def _check_room(self, channel: str) -> None:
        """A full name of this process is known here before its messages are dropped."""
        if process_of(channel) == self.client_id and self.inbox.unread(channel) >= self.get_capacity(channel):
            raise self._refuse(channel)

    async def _push(self, channel: str, payload: bytes) -> None:
        self._check_room(channel)
        stored = self._session().link.push(
            scripts.COMPAT_SEND, (self.keys.channel(channel),), (self._expiry_ms,), self._sealed(channel, payload),
            channel, self.get_capacity(channel),
        )  # fmt: skip
        if stored is None or await stored != _STORED:
            raise self._refuse(channel)

    def _push_sync(self, channel: str, payload: bytes) -> None:
        self._check_room(channel)
        keys = (self.keys.channel(channel),)
        stored = self._client().run(scripts.COMPAT_SEND, keys, self._expiry_ms, self._sealed(channel, payload))
        if stored[0] != _STORED:
            raise self._refuse(channel)

    # ------------------------------------------------------------------ receiving from ordinary channels

    def _offer_kept(self, key: str) -> None:
        for session in list(self._sessions.values()):
            if session.reader.waits_for(key):
                try:
                    session.loop.call_soon_threadsafe(session.reader.offer_kept, key)
                except RuntimeError:  # closed meanwhile
                    continue
                return

    async def _pop(self, channel: str) -> bytes:
        key = self.keys.channel(channel)
        kept = self._kept.take(key)
        return kept[0] if kept is not None else await self._session().reader.take(key)

    def _pop_sync(self, channels: list[str], timeout: float | None) -> tuple[str, bytes] | None:
        keys = [self.keys.channel(channel) for channel in channels]
        self._turn = (self._turn + 1) % len(keys)
        keys = keys[self._turn :] + keys[: self._turn]
        for key in keys:
            kept = self._kept.take(key)
            if kept is not None:
                return self.keys.name(key), kept[0]
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            popped = self._pop_once(keys, None if ends is None else ends - time.monotonic())
            if popped is not None:
                key, entry = popped
                admitted = self.admit(entry, self._now_sync())
                if admitted is not None:
                    return self.keys.name(key), admitted[0]
            elif ends is not None and time.monotonic() >= ends:
                return None

    def _pop_once(self, keys: list[str], left: float | None) -> tuple[str, Entry] | None:
        """The first message of any key; None when there is none in ``left`` seconds, or for some of them."""
        if left is not None and left <= 0:
            for key in keys:
                entries = parse_entries(self._call("ZPOPMIN", key))
                if entries:
                    return key, entries[0]
            return None
        # A client takes a connection that is silent for reconnect_timeout for a lost one.
        longest = min(5.0, self.reconnect_timeout / 2)
        wait = longest if left is None else max(0.001, min(left, longest))
        try:
            popped = self._call("BZPOPMIN", *keys, wait)
        except LayerUnavailable:
            # At most once: what that pop took is lost. This raises when Redis stays away.
            self._call("PING")
            return None
        return (popped[0].decode("utf-8"), (popped[1], float(popped[2]))) if popped is not None else None

    async def pending(self, channel: str) -> int:
        """Unread messages on an ordinary ``channel``, or on a process-local one of this process."""
        if "!" in channel:
            self._check_own(channel)
            return self.inbox.unread(channel)
        key = self.keys.channel(channel)
        held: int = await self._session().link.call("ZCARD", key)
        return held + self._kept.count(key)

    def _depth_sync(self, channel: str) -> tuple[int | None, float | None]:
        if "!" in channel:
            return super()._depth_sync(channel)
        key = self.keys.channel(channel)
        held, oldest = self._call("ZCARD", key), parse_entries(self._call("ZRANGE", key, 0, 0, "WITHSCORES"))
        return held + self._kept.count(key), max(0.0, self._now_sync() - oldest[0][1]) if oldest else None

    def _now_sync(self) -> float:
        """The store's clock, in seconds."""
        whole, micros = self._call("TIME")
        return int(whole) + int(micros) / 1_000_000

    # ------------------------------------------------------------------ groups

    async def _join(self, group: str, channel: str) -> None:
        link = self._session().link
        if not self._note_join(group, channel):
            return
        if process_of(channel) == self.client_id:
            self._listen()
        await link.run(scripts.COMPAT_JOIN, (self.keys.group(group),), self._group_expiry_ms, "add", channel)

    def _join_sync(self, group: str, channel: str) -> None:
        if self._note_join(group, channel):
            self._client().run(
                scripts.COMPAT_JOIN, (self.keys.group(group),), self._group_expiry_ms, "add", channel
            )  # fmt: skip

    async def _leave(self, group: str, channel: str) -> None:
        self._note_leave(group, channel)
        await self._session().link.call("ZREM", self.keys.group(group), channel)

    def _leave_sync(self, group: str, channel: str) -> None:
        self._note_leave(group, channel)
        self._call("ZREM", self.keys.group(group), channel)

    def _by_key(self, members: Iterable[bytes]) -> dict[str, list[str]]:
        """The members behind each key: one message reaches all names of one process that share a prefix."""
        found: dict[str, list[str]] = {}
        for raw in members:
            name = raw.decode("utf-8", "replace")
            found.setdefault(self.keys.channel(name), []).append(name)
        return found

    def _sealed_for(self, names: list[str], payload: bytes) -> bytes:
        return b"%d " % self.get_capacity(names[0]) + self.wire.seal(self.wire.address(payload, names))

    async def _publish(self, group: str, payload: bytes) -> None:
        await self._publish_aimed(Aim((group,)), payload)

    async def _publish_aimed(self, aim: Aim, payload: bytes) -> None:
        # Its bytes know no aim: the sender, who asks for the members, makes the choice.
        link = self._session().link
        asked = [
            link.run(scripts.COMPAT_MEMBERS, (self.keys.group(group),), self._group_expiry_ms) for group in aim.groups
        ]
        found = self._by_key(self._chosen(aim, await asyncio.gather(*asked)))
        pushed = [
            link.push(
                scripts.COMPAT_SEND, (key,), (self._expiry_ms,), self._sealed_for(names, payload),
                key, self.get_capacity(names[0]),
            )
            for key, names in found.items()
        ]  # fmt: skip
        stored = await asyncio.gather(*(future for future in pushed if future is not None), return_exceptions=True)
        for outcome in stored:
            if isinstance(outcome, BaseException):
                raise outcome
        full = len(pushed) - sum(outcome == _STORED for outcome in stored)
        if full:
            self.drops.group_full(aim.name, full, len(found))

    def _publish_sync(self, group: str, payload: bytes) -> None:
        self._publish_aimed_sync(Aim((group,)), payload)

    def _publish_aimed_sync(self, aim: Aim, payload: bytes) -> None:
        client = self._client()
        answers = [
            client.run(scripts.COMPAT_MEMBERS, (self.keys.group(group),), self._group_expiry_ms) for group in aim.groups
        ]
        full = 0
        found = self._by_key(self._chosen(aim, answers))
        for key, names in found.items():
            stored = client.run(scripts.COMPAT_SEND, (key,), self._expiry_ms, self._sealed_for(names, payload))
            full += stored[0] != _STORED
        if full:
            self.drops.group_full(aim.name, full, len(found))

    def _chosen(self, aim: Aim, members: Sequence[Iterable[bytes]]) -> Iterable[bytes]:
        chosen = dict.fromkeys(itertools.chain.from_iterable(members))
        for channel in aim.excluded:
            chosen.pop(channel.encode("ascii"), None)
        return chosen

    # ------------------------------------------------------------------ flush

    def _ours(self, page: list[bytes]) -> list[bytes]:
        return [raw for raw in page if self.keys.is_ours(raw.decode("utf-8", "surrogateescape"))]

    async def _wipe(self) -> None:
        link = self._session().link
        cursor: Any = b"0"
        while True:
            cursor, page = await link.call("SCAN", cursor, "MATCH", self.keys.pattern(), "COUNT", SCAN_COUNT, *_ZSETS)
            doomed = self._ours(page)
            if doomed:
                await link.call("UNLINK", *doomed)
            if cursor == b"0":
                break
        reader = self._reader
        if reader is not None and reader.loop is asyncio.get_running_loop():
            # What was popped before is on its way here.
            await reader.fence()

    def _wipe_sync(self) -> None:
        cursor: Any = b"0"
        while True:
            cursor, page = self._call("SCAN", cursor, "MATCH", self.keys.pattern(), "COUNT", SCAN_COUNT, *_ZSETS)
            doomed = self._ours(page)
            if doomed:
                self._call("UNLINK", *doomed)
            if cursor == b"0":
                break
