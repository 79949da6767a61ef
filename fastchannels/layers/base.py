"""The contract of a channel layer, and the half of it that does not depend on the store.

A channel is a named, first-in-first-out, at-most-once queue; a group is a named set of channels. ``send`` never waits
for a reader. Each message leaves the store together with its read, so it reaches one reader at most.

:class:`ChannelLayer` checks names and messages, encodes once, and keeps what waits in this process. A store fills in the
methods at the end of the class, each in two forms: awaited on an event loop, and plain (``_sync``) for any thread.
"""

from __future__ import annotations

import abc
import asyncio
import fnmatch
import os
import re
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from fastchannels import conf
from fastchannels._core.inbox import Inbox
from fastchannels._core.names import check_channel_name, check_group_name, local_part, process_of
from fastchannels.exceptions import ChannelFull, InternalError, InvalidChannelLayerError, InvalidMessageError
from fastchannels.exceptions import MessageTooLarge
from fastchannels.layers.codec import Codec
from fastchannels.layers.drops import DropLog
from fastchannels.layers.groups import LocalGroups

Message: TypeAlias = dict[str, Any]
Receiver: TypeAlias = Callable[[Message], None]


class ChannelLayer(abc.ABC):
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
    """

    #: What Channels' own code asks for before it uses a feature.
    extensions: ClassVar[list[str]] = ["groups", "flush", "statistics"]
    #: 2016 code catches ``layer.ChannelFull``.
    ChannelFull: ClassVar[type[Exception]] = ChannelFull
    MessageTooLarge: ClassVar[type[Exception]] = MessageTooLarge

    def __init__(
        self,
        *,
        expiry: float = conf.EXPIRY,
        group_expiry: int = conf.GROUP_EXPIRY,
        capacity: int = conf.CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        max_message_size: int = conf.MAX_MESSAGE_SIZE,
    ) -> None:
        for option, value in (("expiry", expiry), ("group_expiry", group_expiry), ("capacity", capacity)):
            if not value > 0:
                raise InvalidChannelLayerError(f"CONFIG option {option}={value!r}: must be above 0")
        if max_message_size < 0:
            raise InvalidChannelLayerError(f"CONFIG option max_message_size={max_message_size}: 0 means no limit")
        self.expiry = expiry
        self.group_expiry = group_expiry
        self.capacity = capacity
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.codec = Codec(max_message_size)
        self.drops = DropLog()
        self._start_process()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: (layer := this()) and layer._start_process())

    def _start_process(self) -> None:
        """Fresh state for this process; a forked child runs it again (D-45)."""
        self.client_id = uuid.uuid4().hex
        self.inbox = Inbox(capacity_of=self.get_capacity, expiry=self.expiry, decode=self.codec.decode)
        self.groups = LocalGroups()

    # ------------------------------------------------------------------ capacities

    @staticmethod
    def compile_capacities(
        channel_capacity: Mapping[str | re.Pattern[str], int],
    ) -> list[tuple[re.Pattern[str], int]]:
        """Globs become patterns; anything with ``match`` is used as it is. Order is kept: the first match wins."""
        return [
            (re.compile(fnmatch.translate(pattern)) if isinstance(pattern, str) else pattern, capacity)
            for pattern, capacity in channel_capacity.items()
        ]

    def get_capacity(self, channel: str) -> int:
        """Unread messages that ``channel`` may hold."""
        for pattern, capacity in self.channel_capacity:
            if pattern.match(channel):
                return capacity
        return self.capacity

    # ------------------------------------------------------------------ the API of Channels 4

    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None:
        """Put ``message`` on ``channel``, without waiting for a reader.

        ``single_reader`` admits the ``?`` names of 2016, which Channels 4 refuses (D-20). Raises ``ChannelFull``, ``MessageTooLarge``, ``InvalidNameError``, ``InvalidMessageError``,
        ``LayerUnavailable``.
        """
        check_channel_name(channel, single_reader)
        await self._push(channel, self.codec.encode(message))

    async def receive(self, channel: str) -> Message:
        """The next message of ``channel``; waits for one. Cancelling at any await loses no message.

        A process-local name (with ``!``) can only be received in the process that made it: ``RuntimeError`` elsewhere.
        """
        check_channel_name(channel)
        if "!" in channel:
            return await self._receive_local(channel)
        return self.codec.decode(await self._pop(channel))

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new process-local name ``<prefix>.<process>!<suffix>`` that only this process can receive on."""
        return self.new_local_channel(prefix)

    async def group_add(self, group: str, channel: str) -> None:
        """Make ``channel`` a member of ``group``. A later ``group_send`` of the same caller reaches it."""
        check_group_name(group)
        check_channel_name(channel)
        await self._join(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership; no error when there is none. Nothing new is queued for ``channel`` afterwards."""
        check_group_name(group)
        check_channel_name(channel)
        await self._leave(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        """Put ``message`` on every member's channel. Full members are passed over and counted; never ``ChannelFull``."""
        check_group_name(group)
        await self._publish(group, self.codec.encode(message))

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
        check_channel_name(channel, True)
        self._push_sync(channel, self.codec.encode(message))

    def receive_many(
        self, channels: Sequence[str], block: bool = False, timeout: float | None = None
    ) -> tuple[str, Message] | tuple[None, None]:
        """The next message of any of ``channels`` with the name of its channel, or ``(None, None)``.

        With ``block`` it waits, ``timeout`` seconds at most when that is given, without holding the interpreter lock.
        No channel starves another. Takes ordinary channels; process-local ones are received on the event loop.
        """
        for channel in channels:
            check_channel_name(channel, True)
            if "!" in channel:
                raise RuntimeError(f"receive_many reads ordinary channels; await receive({channel!r}) on an event loop")
        if not channels:
            return None, None
        taken = self._pop_sync(list(channels), timeout if block else 0.0)
        if taken is None:
            return None, None
        channel, payload = taken
        return channel, self.codec.decode(payload)

    def group_add_sync(self, group: str, channel: str) -> None:
        """:meth:`group_add` for a thread without an event loop."""
        check_group_name(group)
        check_channel_name(channel)
        self._join_sync(group, channel)

    def group_discard_sync(self, group: str, channel: str) -> None:
        """:meth:`group_discard` for a thread without an event loop."""
        check_group_name(group)
        check_channel_name(channel)
        self._leave_sync(group, channel)

    def group_send_sync(self, group: str, message: Message) -> None:
        """:meth:`group_send` for a thread without an event loop."""
        check_group_name(group)
        self._publish_sync(group, self.codec.encode(message))

    def flush_sync(self) -> None:
        """:meth:`flush` for a thread without an event loop."""
        self._wipe_sync()
        self._forget_local()

    def close_sync(self) -> None:
        """Release what the synchronous twins opened in this thread."""

    # ------------------------------------------------------------------ for the protocol server

    def new_local_channel(self, prefix: str) -> str:
        """A process-local name, made without a round trip."""
        name = f"{prefix}.{self.client_id}!{uuid.uuid4().hex}"
        check_channel_name(name)
        return name

    def attach(self, channel: str, receiver: Receiver) -> None:
        """Call ``receiver(message)`` on the running event loop for each message of process-local ``channel``.

        Members of one group share the message object: a receiver must not change it.
        """
        self._check_own(channel)
        self.inbox.attach(channel, receiver)
        self._listen()

    def detach(self, channel: str) -> None:
        """End :meth:`attach` and every membership of ``channel`` in this process; later messages are dropped."""
        self.inbox.close(channel)
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
        """Counters since start: ``messages_count``, ``channel_full_count`` and ``dropped`` by reason."""
        counts = self.inbox.counts()
        dropped = self.drops.totals()
        for reason in ("full", "expired", "closed"):
            if counts[reason]:
                dropped[reason] = dropped.get(reason, 0) + counts[reason]
        return {
            "messages_count": counts["received"],
            "channel_full_count": dropped.get("refused", 0),
            "dropped": dropped,
        }

    # ------------------------------------------------------------------ process-local channels

    def _check_own(self, channel: str) -> None:
        """``channel`` must be process-local and made here."""
        process = process_of(channel)
        if process != self.client_id:
            raise RuntimeError(
                f"channel {channel!r} belongs to process {process or '(none)'}, this is {self.client_id}: "
                "a process-local channel is received where new_channel() made it (not in a forked child)"
            )

    async def _receive_local(self, channel: str) -> Message:
        self._check_own(channel)
        inbox = self.inbox
        payload = inbox.get(channel)
        while payload is None:
            waiter = inbox.wait(channel)
            self._listen()
            try:
                await waiter
            finally:
                # A waiter is only a wake-up: the message stays in the inbox until it is taken below, so a cancelled
                # receive leaves it there and passes the wake-up on.
                inbox.unwait(channel, waiter)
            payload = inbox.get(channel)
        return self.codec.decode(payload)

    def _deliver_group(self, group: str, payload: bytes, age: float = 0.0) -> None:
        """Hand one group message to every member that lives here; full members are dropped and counted."""
        members = self.groups.members(group)
        if members:
            full = self.inbox.fan_out(members, payload, age)
            if full:
                self.drops.group_full(group, full, len(members))

    def _forget_local(self) -> None:
        self.inbox.clear()
        self.groups.clear()

    def _refuse(self, channel: str) -> ChannelFull:
        """Count a refused send and build its exception."""
        self.drops.count("refused")
        return ChannelFull(
            f"channel {channel!r} holds its capacity of {self.get_capacity(channel)} unread messages: "
            "read faster, or raise 'capacity' or 'channel_capacity' in CHANNEL_LAYERS CONFIG"
        )

    # ------------------------------------------------------------------ what a store provides

    def _listen(self) -> None:
        """Make sure that this process's inbox is being read on the running loop. A store without one needs nothing."""

    def _group_emptied(self, group: str) -> None:
        """The last member of ``group`` in this process is gone; tell the store when it keeps processes."""

    @abc.abstractmethod
    async def _push(self, channel: str, payload: bytes) -> None: ...

    @abc.abstractmethod
    async def _pop(self, channel: str) -> bytes: ...

    @abc.abstractmethod
    async def _join(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    async def _leave(self, group: str, channel: str) -> None: ...

    @abc.abstractmethod
    async def _publish(self, group: str, payload: bytes) -> None: ...

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
    def _wipe_sync(self) -> None: ...
