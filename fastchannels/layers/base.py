"""The contract of a channel layer, and the half of it that does not depend on the store.

A channel is a named, first-in-first-out, at-most-once queue; a group is a named set of channels. ``send`` never waits
for a reader. Each message leaves the store together with its read, so it reaches one reader at most.

:class:`ChannelLayer` checks names and messages, encodes once, and keeps what waits in this process. A store fills in
the methods at the end of the class, each in two forms: awaited on an event loop, and plain (``_sync``) for any thread.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import inspect
import os
import random
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

from fastchannels import conf
from fastchannels._core.groups import LocalGroups
from fastchannels._core.inbox import Inbox
from fastchannels._core.names import check_channel_name, check_group_name, process_of
from fastchannels._core.queue import Receiver
from fastchannels._core.take import Take
from fastchannels._core.wake import Waiter, current_loop
from fastchannels.exceptions import ChannelFull, MessageTooLarge
from fastchannels.layers.aim import Aim, Served, aim_of, members_of
from fastchannels.layers.codec import Codec, make_codec
from fastchannels.layers.drops import DropLog
from fastchannels.layers.names import Names
from fastchannels.layers.notices import Notices, check_notice
from fastchannels.layers.options import seconds, whole

Message: TypeAlias = dict[str, Any]

#: Names that are remembered to be received from the inbox, at most; past it all are checked again.
MAX_READABLE: Final = 16_384

#: Seconds between two looks of a thread for messages that have reached this process.
LOCAL_PAUSE: Final = 0.05

#: Layers of this process, for the one hook that a fork runs (hooks cannot be taken back, layers come and go).
_layers: weakref.WeakSet[ChannelLayer] = weakref.WeakSet()


def _after_fork() -> None:
    for layer in list(_layers):
        layer._start_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.lru_cache(maxsize=16)
def split_channels(channels: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The ordinary ones of ``channels``, and those that end in ``!``; a worker asks for the same few each time."""
    ordinary: list[str] = []
    beginnings: list[str] = []
    for channel in (check_channel_name(channel, True) for channel in channels):
        if "!" not in channel:
            ordinary.append(channel)
        elif channel.endswith("!"):
            beginnings.append(channel)
        else:
            raise RuntimeError(f"receive_many reads ordinary channels; await receive({channel!r}) on an event loop")
    return ordinary, beginnings


class ChannelLayer(Names, abc.ABC):
    """Named queues and groups, in the API of Channels 4 with synchronous twins.

    Options, all by keyword:

    ``expiry``
        seconds that an unread message lives, by the clock of the store (default 60).
    ``group_expiry``
        seconds that a membership lives when its channel shows no sign of life (default 86400).
    ``capacity``, ``channel_capacity``
        unread messages of one full channel name (default 100); ``{glob or compiled pattern: capacity}``, first match
        wins.
    ``max_message_size``
        bytes of one encoded message (default 16 MiB, 0: no limit).
    ``serializer_format``
        ``msgpack`` (default), ``json`` (carries no ``bytes``), or a format of
        :data:`fastchannels.layers.serializers.registry`.
    ``symmetric_encryption_keys``
        a list of keys: the first encrypts every message, each one decrypts; what is not encrypted is dropped. Names of
        channels and groups stay readable. Needs ``pip install fastchannels[encryption]``.
    ``on_disconnect``, ``on_reconnect``
        the type of a message, ``{"type": value}``, that every process-local channel being read in this process gets
        once each time the store was lost, and once when it works again with all memberships (default: none). Between
        the two messages may have been missed (D-44).
    """

    #: What Channels' own code asks for before it uses a feature.
    extensions: ClassVar[list[str]] = ["groups", "flush", "statistics"]
    #: 2016 code catches ``layer.ChannelFull``.
    ChannelFull: ClassVar[type[Exception]] = ChannelFull
    MessageTooLarge: ClassVar[type[Exception]] = MessageTooLarge
    #: Whether messages go where others could read them; if not they are not encrypted.
    leaves_process: ClassVar[bool] = True
    #: Whether ordinary channels wait in the inbox of this process too.
    in_one_inbox: ClassVar[bool] = False
    #: Whether a message is what its codec decodes, and nothing else is done to it.
    native: ClassVar[bool] = True
    #: Whether a receive from the inbox is :meth:`wait` and ``inbox.take``.
    waits_plainly: ClassVar[bool] = True
    #: Seconds that never go back; ages in this process are judged by it (D-07). Tests replace it.
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(
        self,
        *,
        expiry: float = conf.EXPIRY,
        group_expiry: float = conf.GROUP_EXPIRY,
        capacity: int = conf.CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        max_message_size: int = conf.MAX_MESSAGE_SIZE,
        serializer_format: str = conf.SERIALIZER_FORMAT,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        on_disconnect: str | None = None,
        on_reconnect: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            conf.reject_unknown_options(type(self).__name__, unknown, self.option_names())
        self.expiry = seconds("expiry", expiry)
        self.group_expiry = seconds("group_expiry", group_expiry)
        self.capacity = whole("capacity", capacity, 1)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.codec = make_codec(
            whole("max_message_size", max_message_size, 0), serializer_format, symmetric_encryption_keys, self.expiry,
            encrypt=self.leaves_process,
        )  # fmt: skip
        self.on_disconnect = check_notice("on_disconnect", on_disconnect)
        self.on_reconnect = check_notice("on_reconnect", on_reconnect)
        self._start_process()
        _layers.add(self)

    @classmethod
    def option_names(cls) -> list[str]:
        """What CONFIG may hold: the keyword-only parameters of each ``__init__`` up to this class."""
        names: list[str] = []
        for parent in cls.__mro__:
            init = parent.__dict__.get("__init__")
            if init is not None and issubclass(parent, ChannelLayer):
                parameters = inspect.signature(init).parameters.values()
                names += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in names]
        return names

    def _start_process(self) -> None:
        """Fresh state for this process: at the end of ``__init__``, and again in a forked child (D-45).

        A store extends it to drop, without closing them, the connections that belong to its parent process.
        """
        self.client_id = os.urandom(16).hex()
        self._own_mark = f".{self.client_id}!"
        self.drops = DropLog(self.clock)
        self.groups = LocalGroups(self.clock)
        self._served = Served(self.expiry, self.clock)
        self.inbox = Inbox(
            capacity_of=self.get_capacity, expiry=self.expiry, decode=self._decode_or_drop, clock=self.clock,
            native=type(self.codec) is Codec and self.native,
        )  # fmt: skip
        #: Names that were found to be received from the inbox.
        self._readable: set[str] = set()
        #: None when no option asks for it: then a receive spends nothing on it.
        self.notices: Notices | None = None
        if self.on_disconnect is not None or self.on_reconnect is not None:
            self.notices = Notices(self.on_disconnect, self.on_reconnect, self.inbox, self.codec.encode, self.clock)
        self._sent = 0
        self._received = 0

    def __str__(self) -> str:
        return f"{type(self).__name__}()"

    # ------------------------------------------------------------------ bytes

    def serialize(self, message: Message) -> bytes:
        """The bytes that travel. Raises ``InvalidMessageError``, ``MessageRangeError``, ``MessageTooLarge``."""
        return self.codec.encode(message)

    def deserialize(self, payload: bytes) -> Message:
        """The message of :meth:`serialize`. Raises a ``ValueError`` for other bytes."""
        return self.codec.decode(payload)

    def _decode_or_drop(self, payload: bytes) -> Message | None:
        """None for bytes that are no message: counted, reported at most once in 10 s; readers go on (D-42)."""
        try:
            return self.codec.decode(payload)
        except Exception as error:
            self.drops.undecodable(error)
            return None

    # ------------------------------------------------------------------ the API of Channels 4

    # HOT: benchmarks/layers.py
    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None:
        """Put ``message`` on ``channel``, without waiting for a reader.

        ``single_reader`` admits the ``?`` names of 2016, which Channels 4 refuses (D-20). Raises ``ChannelFull``,
        ``MessageTooLarge``, ``InvalidNameError``, ``InvalidMessageError``, ``LayerUnavailable``.
        """
        channel = check_channel_name(channel, single_reader)
        await self._push(channel, self.codec.encode(message))
        self._sent += 1

    # HOT: benchmarks/layers.py
    async def receive(self, channel: str) -> Message:
        """The next message of ``channel``; waits for one. Cancelling at any await loses no message.

        A process-local name (with ``!``) can only be received in the process that made it: ``RuntimeError`` elsewhere.
        """
        if channel in self._readable or self.is_readable(channel):
            message = self.inbox.take(channel)
            return message if message is not None else await self._take_waiting(channel)
        if "!" in channel:
            return await self._take_noted(channel)
        while True:
            taken = self._decode_or_drop(await self._pop(check_channel_name(channel)))
            if taken is not None:
                self._received += 1
                return taken

    def is_readable(self, channel: str) -> bool:
        """Whether ``channel`` is read from the inbox and with no more ado; raises when it cannot be received here."""
        check_channel_name(channel)
        if "!" not in channel:
            if not self.in_one_inbox:
                return False
        else:
            self._check_own(channel)
            if self.notices is not None:
                return False
        if len(self._readable) >= MAX_READABLE:
            self._readable.clear()
        self._readable.add(channel)
        return True

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new process-local name ``<prefix>.<process>!<suffix>`` that only this process can receive on."""
        return self.new_local_channel(prefix)

    async def group_add(self, group: str, channel: str) -> None:
        """Make ``channel`` a member of ``group``. A later ``group_send`` of the same caller reaches it."""
        group = check_group_name(group)
        channel = check_channel_name(channel)
        await self._join(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership; no error when there is none. Nothing new is queued for ``channel`` afterwards."""
        group = check_group_name(group)
        channel = check_channel_name(channel)
        await self._leave(group, channel)

    async def group_send(
        self, group: str | Iterable[str], message: Message, *, exclude: str | Iterable[str] = ()
    ) -> None:
        """Put ``message`` on every member's channel. A full member is passed over and counted: no ``ChannelFull``.

        With a list of groups each member gets it once, whichever of them it is in. Channels in ``exclude`` get none:
        ``exclude=self.channel_name`` spares the sender its own message.
        """
        if type(group) is str and not exclude:
            group = check_group_name(group)
            await self._publish(group, self.codec.encode(message))
        else:
            await self._publish_aimed(aim_of(group, exclude), self.codec.encode(message))
        self._sent += 1

    async def flush(self) -> None:
        """Remove every message and membership; the layer stays usable."""
        await self._wipe()
        self._forget_local()

    async def close(self) -> None:
        """Release connections and tasks of the running loop; the next call opens them again."""

    async def close_pools(self) -> None:
        """The name that channels_redis gives to :meth:`close`."""
        await self.close()

    # ------------------------------------------------------------------ synchronous twins: any thread, no event loop

    def send_sync(self, channel: str, message: Message) -> None:
        """:meth:`send` for a thread without an event loop."""
        channel = check_channel_name(channel, True)
        self._push_sync(channel, self.codec.encode(message))
        self._sent += 1

    def receive_many(
        self, channels: Sequence[str], block: bool = False, timeout: float | None = None
    ) -> tuple[str, Message] | tuple[None, None]:
        """The next message of any of ``channels`` with the name of its channel, or ``(None, None)``.

        With ``block`` it waits, ``timeout`` seconds at most when that is given, without holding the interpreter lock.
        No channel starves another. A name that ends in ``!`` stands for every process-local channel of that beginning,
        as far as their messages have reached this process and nobody else waits for them; a wait looks for those twenty
        times a second. Raises ``RuntimeError`` for any other process-local name, and for ``block`` on the thread of a
        running loop (D-13).
        """
        if block and asyncio._get_running_loop() is not None:
            raise RuntimeError("receive_many(block=True) would stop the running event loop: await receive() instead")
        if not channels:
            return None, None
        ordinary, beginnings = split_channels(tuple(channels))
        wait = timeout if block else 0.0
        ends = None if wait is None else time.monotonic() + wait
        store_first = bool(ordinary) and random.random() < 0.5
        while True:
            local = self._take_local(beginnings) if beginnings and not store_first else None
            if local is not None:
                return local
            store_first = False
            # The store and this process cannot be waited for at once.
            pause = wait if not beginnings else LOCAL_PAUSE if wait is None else min(wait, LOCAL_PAUSE)
            taken = self._pop_sync(ordinary, pause) if ordinary else None
            if taken is not None:
                message = self._decode_or_drop(taken[1])
                if message is not None:
                    self._received += 1
                    return taken[0], message
            else:
                if not ordinary:
                    time.sleep(pause or 0.0)
                if pause == wait:
                    return (self._take_local(beginnings) if beginnings else None) or (None, None)
            wait = None if ends is None else max(0.0, ends - time.monotonic())

    def take_turn(
        self, channels: Sequence[str], most: int, timeout: float, outgoing: list[tuple[str, bytes]]
    ) -> list[tuple[str, Message]]:
        """Send, then take: what a thread of a worker does between two batches of work, in as few steps as can be.

        ``outgoing`` are channels with encoded messages; those that found no room stay in it, and what was not sent
        when this raises. Then up to ``most`` messages of any of ``channels`` are taken, as :meth:`receive_many` does,
        and ``timeout`` seconds waited when there is none.
        """
        self._push_all(outgoing)
        taken: list[tuple[str, Message]] = []
        while len(taken) < most:
            channel, message = self.receive_many(channels, not taken, timeout)
            if channel is None or message is None:
                break
            taken.append((channel, message))
        return taken

    def _push_all(self, outgoing: list[tuple[str, bytes]]) -> None:
        """Send each; those of a channel that is full stay."""
        full: dict[str, list[tuple[str, bytes]]] = {}
        try:
            while outgoing:
                channel, payload = outgoing[0]
                if channel in full:
                    full[channel].append(outgoing[0])
                else:
                    try:
                        self._push_sync(channel, payload)
                        self._sent += 1
                    except ChannelFull:
                        full[channel] = [outgoing[0]]
                del outgoing[0]
        finally:
            outgoing += [item for items in full.values() for item in items]

    def group_add_sync(self, group: str, channel: str) -> None:
        """:meth:`group_add` for a thread without an event loop."""
        group = check_group_name(group)
        channel = check_channel_name(channel)
        self._join_sync(group, channel)

    def group_discard_sync(self, group: str, channel: str) -> None:
        """:meth:`group_discard` for a thread without an event loop."""
        group = check_group_name(group)
        channel = check_channel_name(channel)
        self._leave_sync(group, channel)

    def group_send_sync(
        self, group: str | Iterable[str], message: Message, *, exclude: str | Iterable[str] = ()
    ) -> None:
        """:meth:`group_send` for a thread without an event loop."""
        if type(group) is str and not exclude:
            group = check_group_name(group)
            self._publish_sync(group, self.codec.encode(message))
        else:
            self._publish_aimed_sync(aim_of(group, exclude), self.codec.encode(message))
        self._sent += 1

    #: The name of 2016.
    send_group = group_send_sync

    def flush_sync(self) -> None:
        """:meth:`flush` for a thread without an event loop."""
        self._wipe_sync()
        self._forget_local()

    def close_sync(self) -> None:
        """Release what the synchronous twins opened in this thread."""

    # ------------------------------------------------------------------ for the protocol server

    def new_local_channel(self, prefix: str) -> str:
        """A process-local name, made without a round trip."""
        name = f"{prefix}.{self.client_id}!{os.urandom(16).hex()}"
        check_channel_name(name)
        return name

    def attach(self, channel: str, receiver: Callable[[Message], object] | Receiver) -> None:
        """Call ``receiver(message)`` on the running event loop for each message of process-local ``channel``.

        Members of one group share the message object: a receiver must not change it.
        """
        self._check_own(channel)
        self.inbox.attach(channel, receiver)
        self._listen()

    def attach_ahead(self, channel: str, receiver: Receiver | None) -> None:
        """Have ``receiver`` take messages of ``channel`` past its readers, where that overtakes none; None ends it."""
        self._check_own(channel)
        self.inbox.attach_ahead(channel, receiver)

    def detach(self, channel: str) -> None:
        """End :meth:`attach` and every membership of ``channel`` in this process; later messages are dropped."""
        self.inbox.close(channel)
        if self.notices is not None:
            self.notices.waits(channel)
        for group in self.groups.discard_channel(channel):
            self._group_emptied(group)

    def pause(self, channel: str) -> None:
        """Let messages of an attached ``channel`` wait (senders see ``ChannelFull`` at its capacity)."""
        self.inbox.pause(channel)

    def resume(self, channel: str) -> None:
        """End :meth:`pause`; what waits is delivered first."""
        self.inbox.resume(channel)

    @abc.abstractmethod
    async def pending(self, channel: str) -> int:
        """Unread messages on an ordinary ``channel``."""

    def statistics(self) -> dict[str, Any]:
        """What this process did since its start.

        ``messages_count`` messages it sent (a group send counts once), ``messages_received`` messages given to its
        readers, ``messages_pending`` messages that wait in it, ``channel_full_count`` sends that raised
        ``ChannelFull``, ``dropped`` messages by reason: ``full`` and ``group_full`` (over capacity), ``expired``,
        ``closed`` (nobody reads that name any more), ``undecodable``. What expires in a store that nobody reads is
        removed there, uncounted.
        """
        counts = self.inbox.counts()
        dropped = self.drops.totals()
        refused = dropped.pop("refused", 0)
        for reason in ("full", "expired", "closed"):
            if counts[reason]:
                dropped[reason] = dropped.get(reason, 0) + counts[reason]
        return {
            "messages_count": self._sent,
            "messages_received": self._received + counts["delivered"],
            "messages_pending": counts["pending"],
            "channel_full_count": refused,
            "dropped": dropped,
        }

    def global_statistics(self) -> dict[str, Any]:
        """The counters that the draft of 2016 names, of this process since its start."""
        statistics = self.statistics()
        return {key: statistics[key] for key in ("messages_count", "messages_pending", "channel_full_count")}

    def channel_statistics(self, channel: str) -> dict[str, Any]:
        """What is known of one channel, from any thread.

        ``messages_pending`` and ``messages_max_age`` (seconds that the oldest of them has waited) are left out when the
        store cannot tell; ``channel_full_count`` sends of this process raised ``ChannelFull``.
        """
        channel = check_channel_name(channel, True)
        pending, age = self._depth_sync(channel)
        statistics: dict[str, Any] = {} if pending is None else {"messages_pending": pending}
        if age is not None:
            statistics["messages_max_age"] = age
        statistics["channel_full_count"] = self.drops.refusals(channel)
        return statistics

    # ------------------------------------------------------------------ process-local channels

    def _check_own(self, channel: str) -> None:
        """``channel`` must be process-local and made here."""
        if self._own_mark not in channel:
            process = process_of(channel)
            raise RuntimeError(
                f"channel {channel!r} belongs to process {process or '(none)'}, this is {self.client_id}: "
                "a process-local channel is received where new_channel() made it (not in a forked child)"
            )

    def _take_waiting(self, channel: str) -> Awaitable[Message]:
        """The next message of ``channel`` in the inbox of this process.

        A waiter is only a wake-up: the message stays in the inbox until the task that waits goes on. So a receive that
        is cancelled leaves it there and passes the wake-up on.
        """
        self._listen()
        return Take(current_loop(), self.inbox, channel)

    def wait(self, channel: str) -> Waiter[None]:
        """A waiter of the running loop, done when the inbox may have a message; ``inbox.unwait`` ends it."""
        self._listen()
        return self.inbox.wait(channel)

    def _take_local(self, beginnings: list[str]) -> tuple[str, Message] | None:
        for beginning in beginnings:
            for channel in self.inbox.held(beginning):
                message = None if self.inbox.is_watched(channel) else self.inbox.take(channel)
                if message is not None:
                    return channel, message
        return None

    async def _take_noted(self, channel: str) -> Message:
        notices = self.notices
        assert notices is not None
        notices.waits(channel)
        message = await self._take_waiting(channel)
        notices.took(channel)
        return message

    def _deliver_group(self, group: str, payload: bytes, age: float = 0.0) -> None:
        """Hand one group message to every member that lives here; full members are passed over, counted and logged."""
        self._expire_members(group)
        members = self.groups.members(group)
        if members:
            full = self.inbox.fan_out(members, payload, age)
            if full:
                self.drops.group_full(group, full, len(members))

    def _deliver_aimed(self, aim: Aim, payload: bytes, age: float = 0.0) -> None:
        """:meth:`_deliver_group` to every member that ``aim`` means."""
        for group in aim.groups:
            self._expire_members(group)
        members = members_of(aim.groups, self.groups.members)
        excluded = aim.excluded
        if aim.token:
            excluded |= self._served.note(aim.token, members)
        full = self.inbox.fan_out(members, payload, age, excluded)
        if full:
            self.drops.group_full(aim.name, full, len(members))

    def _is_live(self, channel: str) -> bool:
        """Whether memberships of ``channel`` outlive ``group_expiry``: it is process-local, and somebody reads it."""
        return "!" in channel and self.inbox.is_watched(channel)

    def _expire_members(self, group: str | None = None) -> None:
        """End memberships of this process, in ``group`` or all groups, that are older than ``group_expiry`` (D-49)."""
        for emptied in self.groups.expire(self.group_expiry, self._is_live, group):
            self._group_emptied(emptied)

    def _housekeep(self) -> None:
        """Forget what expired in this process. A store calls it every few seconds."""
        self.inbox.purge()
        self._expire_members()
        if self.notices is not None:
            self.notices.purge()
        self.drops.report(self.statistics()["dropped"])

    def store_lost(self, part: Hashable = None) -> None:
        """For a store to call when it lost ``part`` of itself: messages to this process may be missed from now on."""
        if self.notices is not None:
            self.notices.lost(part)

    def store_back(self, part: Hashable = None) -> None:
        """For a store to call when ``part`` works again and knows the memberships of this process (D-05, D-44)."""
        if self.notices is not None:
            self.notices.back(part)

    def _forget_local(self) -> None:
        self.inbox.clear()
        self.groups.clear()

    def _refuse(self, channel: str) -> Exception:
        """Count a refused send and build its exception."""
        self.drops.refused(channel)
        return ChannelFull(
            f"channel {channel!r} holds its capacity of {self.get_capacity(channel)} unread messages: "
            "read faster, or raise 'capacity' or 'channel_capacity' in CHANNEL_LAYERS CONFIG"
        )

    # ------------------------------------------------------------------ what a store provides

    def _listen(self) -> None:
        """Make sure that this process's inbox is read on the running loop. A store without one needs nothing."""

    def _group_emptied(self, group: str) -> None:
        """The last member of ``group`` in this process is gone; tell the store when it keeps processes."""

    def _depth_sync(self, channel: str) -> tuple[int | None, float | None]:
        """How many messages wait on ``channel`` and the age of the oldest, as far as can be told."""
        if process_of(channel) != self.client_id:
            return None, None
        return self.inbox.unread(channel), self.inbox.age(channel)

    @abc.abstractmethod
    async def _push(self, channel: str, payload: bytes) -> None: ...

    async def _pop(self, channel: str) -> bytes:
        """The next payload of an ordinary channel that does not wait in the inbox."""
        raise NotImplementedError

    @abc.abstractmethod
    async def _join(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    async def _leave(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    async def _publish(self, group: str, payload: bytes) -> None: ...

    @abc.abstractmethod
    async def _publish_aimed(self, aim: Aim, payload: bytes) -> None: ...

    @abc.abstractmethod
    async def _wipe(self) -> None: ...

    @abc.abstractmethod
    def _push_sync(self, channel: str, payload: bytes) -> None: ...

    @abc.abstractmethod
    def _pop_sync(self, channels: list[str], timeout: float | None) -> tuple[str, bytes] | None: ...

    @abc.abstractmethod
    def _join_sync(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    def _leave_sync(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    def _publish_sync(self, group: str, payload: bytes) -> None: ...

    @abc.abstractmethod
    def _publish_aimed_sync(self, aim: Aim, payload: bytes) -> None: ...

    @abc.abstractmethod
    def _wipe_sync(self) -> None: ...
