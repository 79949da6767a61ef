"""The channel layer of one machine: many processes, a shared-memory segment, no server to install."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from fastchannels import conf
from fastchannels._core.names import check_channel_name, check_group_name, process_of
from fastchannels._core.wake import running_loop
from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.aim import Aim, parse_aimed
from fastchannels.layers.base import ChannelLayer, Message
from fastchannels.layers.deaths import Deaths
from fastchannels.layers.local_loop import BATCHES, REST, TICK, LocalLoop

if sys.platform != "win32":
    from fastchannels._core import shm
    from fastchannels._core.post import MORE, Post
    from fastchannels._core.shm import Address, Segment, SegmentGone, Waiter

__all__ = ["LocalChannelLayer"]

T = TypeVar("T")

#: Bytes of the segment when CONFIG does not say: the most and the least.
DEFAULT_SIZE = 64 * 1024 * 1024
_LEAST_SIZE = 1024 * 1024
#: Entries of the inbox that are taken at a time.
_BATCH = 256
#: Groups without a member that this process is still in, at most.
_MAX_EMPTIED = 1024
#: Names whose addresses are remembered, at most; past it all are worked out again.
_MAX_ADDRESSES = 16_384

_layers: weakref.WeakSet[LocalChannelLayer] = weakref.WeakSet()


@atexit.register
def _release_all() -> None:
    """An orderly exit gives its place back at once; after any other death the survivors notice within a second."""
    for layer in list(_layers):
        layer._release()


def default_path() -> str:
    """The directory that all processes of this user share when CONFIG names none."""
    parent = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    # Windows has no user ids; the layer is refused there in words, once it is made.
    return os.path.join(parent, f"fastchannels-{os.geteuid() if hasattr(os, 'geteuid') else 0}")


def default_size(path: str) -> int:
    """64 MiB, or half of a smaller file system: the 64 MiB that Docker gives to ``/dev/shm`` are for others too."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    system = os.statvfs(path)
    half = system.f_frsize * system.f_blocks // 2
    # A file system without a limit says 0.
    return max(_LEAST_SIZE, min(DEFAULT_SIZE, half)) if half else DEFAULT_SIZE


def _call(method: weakref.WeakMethod[Any], channel: str) -> None:
    """The inbox must not keep its layer alive: a layer that is dropped gives its place back."""
    bound = method()
    if bound is not None:
        bound(channel)


class _Thread(threading.local):
    """Where a thread sleeps, and whether its last look found nothing."""

    waiter: Waiter | None = None
    idle = False


class LocalChannelLayer(ChannelLayer):
    """Channels and groups shared by all processes of one user on one machine.

    Beside the options that every layer takes:

    ``path``
        directory of the segment; processes with the same path share channels and groups. Made private (0700) when it is
        missing, refused when it is a symbolic link or somebody else could write to it. Default: ``fastchannels-<uid>``
        in ``/dev/shm``, or in the directory for temporary files.
    ``size``
        bytes of the segment, reserved at the start (default 64 MiB, half of the file system when that is smaller).
        ``ChannelFull`` names it when messages fill it. A new size counts when every process that uses the old segment
        has ended.

    A process may be killed at any moment: what it had taken is lost, everything else is delivered once and in order,
    and its memberships end within a second. Messages live as long as the segment: until the machine restarts, or
    until the last process ends and nothing is left in it.

    Raises ``CorruptSegmentError`` for a segment that cannot be used, ``LayerUnavailable`` when the system refuses
    memory or when a stopped process holds the lock for ten seconds. For Linux; nobody has run it on macOS.
    """

    def __init__(self, *, path: str | os.PathLike[str] | None = None, size: int | None = None, **options: Any) -> None:
        if sys.platform == "win32":
            raise InvalidChannelLayerError(
                "LocalChannelLayer needs shared memory of POSIX systems: on Windows use "
                "fastchannels.layers.memory.InMemoryChannelLayer (one process) or "
                "fastchannels.layers.redis.RedisChannelLayer"
            )
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
            raise InvalidChannelLayerError(f"CONFIG option size={size!r}: bytes, a whole number above 0")
        if path is not None and not (isinstance(path, (str, os.PathLike)) and str(path)):
            raise InvalidChannelLayerError(f"CONFIG option path={path!r}: a directory")
        self.path = os.path.abspath(path) if path is not None else default_path()
        self.size = size if size is not None else default_size(self.path)
        self._segment: Segment | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LocalLoop] = {}
        self._deaths = Deaths()
        super().__init__(**options)
        _layers.add(self)

    def __str__(self) -> str:
        return f"{type(self).__name__}(path={self.path!r})"

    def _start_process(self) -> None:
        super()._start_process()
        self._expiry_ms = max(1, min(int(self.expiry * 1000), 2**32 - 2))
        #: groups that have no member here any more, and that this process is still a member of
        self._emptied: set[str] = set()
        self._post = Post(self.codec, self.inbox, self.groups, self._emptied, self._expiry_ms)
        # In a forked child all of this belongs to the parent: it is let go of, and nothing shared is touched.
        if self._segment is not None:
            self._segment.abandon()
        for context in self._loops.values():
            context.abandon()
        self._deaths.close()
        self._deaths = Deaths()
        self._segment = None
        self._loops = {}
        self._read_with(None)
        self._thread = _Thread()
        self._lock = threading.RLock()
        self._turn = itertools.count()
        self._inbox_name = f"!{self.client_id}"
        #: group: number of the last add by another process that was carried out here
        self._seen: dict[str, int] = {}
        #: channels of this process that are full, and what was under way to them when they became so
        self._full: set[str] = set()
        self._overshoot: dict[str, deque[tuple[bytes, float]]] = {}
        on_full, on_room = weakref.WeakMethod(self._on_full), weakref.WeakMethod(self._on_room)
        self.inbox.on_full = lambda channel: _call(on_full, channel)
        self.inbox.on_room = lambda channel: _call(on_room, channel)

    # ------------------------------------------------------------------ the segment

    def _open(self) -> Segment:
        """The segment, opened and this process registered in it."""
        segment = self._segment
        if segment is not None and not segment.closed:
            return segment
        with self._lock:
            if self._segment is None or self._segment.closed:
                segment = Segment(self.path, self.size, self.client_id)
                self._seen.clear()
                self._emptied.clear()
                for group in self.groups.groups():
                    segment.join(group)
                self._segment = self._post.segment = segment
            return self._segment

    def _lost(self, segment: Segment) -> None:
        """Somebody removed the segment or gave our place away; the next call opens it again."""
        with self._lock:
            if self._segment is segment:
                self._segment = self._post.segment = None
        segment.close()

    def _ask(self, call: Callable[[Segment], T]) -> T:
        """``call(segment)``, once more on a new segment when that one is gone."""
        segment = self._open()
        try:
            return call(segment)
        except SegmentGone:
            self._lost(segment)
        return call(self._open())

    def _release(self) -> None:
        for context in list(self._loops.values()):
            context.end()
        self._loops.clear()
        self._read_with(None)
        self._deaths.follow(lambda: None)
        segment, self._segment = self._segment, None
        self._post.segment = None
        if segment is not None:
            segment.close()

    def _keep(self) -> None:
        segment = self._segment
        if segment is not None:
            try:
                segment.keep()
            except SegmentGone:
                self._lost(segment)

    def _may_rest(self, waiter: Waiter) -> bool:
        """Whether ``waiter`` needs no look until something comes through it, or through the descriptor of deaths."""
        return self._deaths.follow(self._open().neighbours) and waiter.rest()

    async def close(self) -> None:
        """Release what the running loop uses, and with the last loop this process's place in the segment.

        What waits for this process is kept in it, as are its memberships, for the next call that opens the layer.
        """
        context = self._loops.pop(asyncio.get_running_loop(), None)
        if context is not None:
            if self._reader is context:
                while self._drain():
                    pass
                self._read_with(None)
            context.end()
        others = [other.loop for other in list(self._loops.values()) if other.loop.is_running()]
        if not others:
            self._release()
        elif self._reader is None:
            others[0].call_soon_threadsafe(self._listen)

    def close_sync(self) -> None:
        """Release the place in which this thread waits."""
        waiter, self._thread.waiter = self._thread.waiter, None
        if waiter is not None:
            waiter.close()

    def _outcome(self, outcome: int, channel: str) -> None:
        if outcome == shm.FULL:
            raise self._refuse(channel)
        if outcome == shm.NO_ROOM:
            self.drops.refused(channel)
            raise self.ChannelFull(
                f"no room for {channel!r}: the shared segment in {self.path} is full; read faster, or raise 'size' "
                f"({self.size} bytes) in CHANNEL_LAYERS CONFIG"
            )
        if outcome == shm.GONE:
            # Nobody can ever read that name again (D-40).
            self.drops.count("closed")

    # ------------------------------------------------------------------ channels

    # HOT: benchmarks/local.py
    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None:
        try:
            outcome = self._post.send(channel, message)
        except SegmentGone:
            outcome = MORE
        if outcome == MORE:
            channel = check_channel_name(channel, single_reader)
            payload = self.codec.encode(message)
            await self._push(channel, payload)
            self._sent += 1
            self._remember(channel)
        elif outcome:
            self._outcome(outcome, channel)
            self._sent += 1

    def _remember(self, channel: str) -> None:
        """The next send to ``channel`` goes to its address at once."""
        process = process_of(channel) if "!" in channel else ""
        # A "?" is good for a caller who asks for a single reader alone; a channel of this process takes a look at it.
        if "?" in channel or process == self.client_id or ("!" in channel and not process):
            return
        addresses = self._post.addresses
        if len(addresses) >= _MAX_ADDRESSES:
            addresses.clear()
        addresses[channel] = Address(process, channel, conf.INBOX_CAPACITY if process else self.get_capacity(channel))

    # HOT: benchmarks/local.py
    async def receive(self, channel: str) -> Message:
        if channel in self._readable or self.is_readable(channel):
            message = self.inbox.take(channel)
            return message if message is not None else await self._take_waiting(channel)
        if "!" in channel:
            return await self._take_noted(channel)
        if type(channel) is not str:
            channel = check_channel_name(channel)
        try:
            message = self._post.take(channel)
        except SegmentGone:
            message = None
        while message is None:
            message = self._decode_or_drop(await self._pop(channel))
            self._received += message is not None
        return message

    def _push_sync(self, channel: str, payload: bytes) -> None:
        if "!" not in channel:
            capacity = self.get_capacity(channel)
            outcome = self._ask(lambda segment: segment.send(channel, payload, capacity, self._expiry_ms))
        else:
            process = process_of(channel)
            if not process:
                outcome = shm.GONE
            else:
                outcome = self._ask(
                    lambda segment: segment.send_local(process, channel, payload, conf.INBOX_CAPACITY, self._expiry_ms)
                )
        if outcome:
            self._outcome(outcome, channel)

    async def _push(self, channel: str, payload: bytes) -> None:
        self._push_sync(channel, payload)
        if "!" in channel and process_of(channel) == self.client_id:
            self._drain_here()

    async def _pop(self, channel: str) -> bytes:
        taken = self._ask(lambda segment: segment.pop(channel))
        while taken is None:
            context = self._context()
            future = context.wait(channel)
            try:
                await future
                # Nothing is awaited between this and the return: a cancelled receive has taken nothing.
                taken = self._ask(lambda segment: segment.pop(channel))
            finally:
                context.unwait(channel, future, taken is not None)
        return taken

    def _pop_sync(self, channels: list[str], timeout: float | None) -> tuple[str, bytes] | None:
        turn = next(self._turn)
        ends = None if timeout is None else time.monotonic() + timeout
        waiter: Waiter | None = None
        try:
            while True:
                taken = self._ask(lambda segment: segment.take(channels, turn))
                if taken is not None or (ends is not None and time.monotonic() >= ends):
                    return taken
                try:
                    waiter = self._thread_waiter()
                    if waiter.arm(channels) < 0 and not self._sleep(waiter, ends):
                        self._keep()
                except SegmentGone:
                    waiter, self._thread.waiter = None, None
        finally:
            # Whatever comes now is for a reader that sleeps: this one is about to be busy.
            if waiter is not None:
                try:
                    waiter.disarm()
                except SegmentGone:
                    self._thread.waiter = None

    def _thread_waiter(self) -> Waiter:
        waiter = self._thread.waiter
        if waiter is None:
            waiter = self._thread.waiter = self._ask(Waiter)
        return waiter

    def _sleep(self, waiter: Waiter, ends: float | None) -> bool:
        """Until something was pushed for this thread. False: it is time for a look."""

        def left(most: float) -> float:
            return most if ends is None else min(most, ends - time.monotonic())

        # What ends a rest without waking it is looked after a tick later, as a loop does.
        rested = self._thread.idle and self._may_rest(waiter) and waiter.wait(left(REST), self._deaths.fileno())
        woken = (rested and not waiter.asleep()) or waiter.wait(left(TICK))
        self._thread.idle = not woken
        return woken

    def new_local_channel(self, prefix: str) -> str:
        # Whoever learns this name may send to it at once: the segment must know whose it is.
        self._open()
        return super().new_local_channel(prefix)

    async def pending(self, channel: str) -> int:
        if "!" in channel:
            return self.inbox.unread(channel) if process_of(channel) == self.client_id else 0
        return self._ask(lambda segment: segment.pending(channel))[0]

    # ------------------------------------------------------------------ groups

    def _join_sync(self, group: str, channel: str) -> None:
        if "!" not in channel:
            capacity = self.get_capacity(channel)
            outcome = self._ask(lambda segment: segment.add_channel(group, channel, capacity))
        elif process := process_of(channel):
            outcome = self._ask(lambda segment: segment.add(group, process, channel, conf.INBOX_CAPACITY))
        else:
            outcome = shm.GONE
        if outcome:
            self._outcome(outcome, channel)

    # HOT: benchmarks/local_redis.py
    async def group_add(self, group: str, channel: str) -> None:
        first = self._post.join(group, channel)
        if first == MORE:
            group, channel = self._check_names(group, channel)
            if self._own_mark not in channel:
                self._join_sync(group, channel)
                return
            self._listen()
            if not self._drain_here():
                self._join_sync(group, channel)
                return
            first = self._post.join(group, channel, True)
        if first:
            self._become_member(group, channel)

    def _become_member(self, group: str, channel: str) -> None:
        self._outcome(self._ask(lambda segment: segment.join(group)), channel)

    def _leave_sync(self, group: str, channel: str) -> None:
        if "!" not in channel:
            self._ask(lambda segment: segment.discard_channel(group, channel))
        elif process := process_of(channel):
            outcome = self._ask(lambda segment: segment.discard(group, process, channel, conf.INBOX_CAPACITY))
            if outcome:
                self._outcome(outcome, channel)

    # HOT: benchmarks/local_redis.py
    async def group_discard(self, group: str, channel: str) -> None:
        emptied = self._post.leave(group, channel)
        if emptied == MORE:
            group, channel = self._check_names(group, channel)
            if self._own_mark not in channel or not self._drain_here():
                self._leave_sync(group, channel)
                return
            emptied = self.groups.discard(group, channel)
        if emptied:
            self._group_emptied(group)

    def _check_names(self, group: str, channel: str) -> tuple[str, str]:
        group, channel = check_group_name(group), check_channel_name(channel)
        if self._own_mark in channel:
            self._post.know(group, channel)
        return group, channel

    _join, _leave = group_add, group_discard

    def _group_emptied(self, group: str) -> None:
        self._emptied.add(group)
        if len(self._emptied) >= _MAX_EMPTIED or self._reader is None:
            self._leave_emptied()
        elif self._reader.resting:
            if self._reader.loop is running_loop():
                self._reader.rouse()
            elif not self._reader.loop.is_closed():
                self._reader.loop.call_soon_threadsafe(self._reader.rouse)

    def _leave_emptied(self) -> None:
        """End this process's memberships in groups that have no member here any more."""

        def leave(segment: Segment) -> None:
            while self._emptied:
                group = self._emptied.pop()
                if group not in self.groups:
                    segment.leave(group, self._seen.pop(group, 0))

        if self._emptied:
            self._ask(leave)

    def _publish_sync(self, group: str, payload: bytes) -> None:
        self._publish_to((group,), payload)

    async def _publish(self, group: str, payload: bytes) -> None:
        self._publish_to((group,), payload)
        self._drain_here()

    def _publish_aimed_sync(self, aim: Aim, payload: bytes) -> None:
        head = aim.head
        self._publish_to(aim.groups, head + payload, tuple(aim.excluded), len(head))

    async def _publish_aimed(self, aim: Aim, payload: bytes) -> None:
        self._publish_aimed_sync(aim, payload)
        self._drain_here()

    def _publish_to(
        self, groups: tuple[str, ...], payload: bytes, excluded: tuple[str, ...] | None = None, head: int = 0
    ) -> None:
        expiry, group_expiry = self._expiry_ms, self.group_expiry
        members, full = self._ask(
            lambda segment: segment.publish(groups, payload, conf.INBOX_CAPACITY, expiry, group_expiry, excluded, head)
        )
        if full:
            self.drops.group_full(", ".join(groups), full, members)

    # ------------------------------------------------------------------ flush, statistics

    def _depth_sync(self, channel: str) -> tuple[int | None, float | None]:
        if "!" in channel:
            return super()._depth_sync(channel)
        count, age = self._ask(lambda segment: segment.pending(channel))
        return count, age if count else None

    def _wipe_sync(self) -> None:
        self._ask(lambda segment: segment.wipe())

    async def _wipe(self) -> None:
        self._wipe_sync()

    def _forget_local(self) -> None:
        self._overshoot.clear()
        self._post.forget()
        self._seen.clear()
        self._emptied.clear()
        super()._forget_local()

    def statistics(self) -> dict[str, Any]:
        """As for every layer; ``segment`` tells what the shared segment holds, for all processes."""
        statistics = super().statistics()
        statistics["messages_count"] += self._post.sent
        statistics["messages_received"] += self._post.taken
        segment = self._segment
        if segment is not None and not segment.closed:
            statistics["segment"] = segment.counts()
        return statistics

    # ------------------------------------------------------------------ this process's inbox

    def _context(self) -> LocalLoop:
        """What the running loop waits with."""
        loop = asyncio.get_running_loop()
        context = self._loops.get(loop)
        if context is None:
            with self._lock:
                for other in list(self._loops.values()):
                    if other.loop.is_closed():
                        self._loops.pop(other.loop, None)
                        other.end()
                context = self._loops[loop] = LocalLoop(self, loop)
        return context

    def _read_with(self, reader: LocalLoop | None) -> None:
        """Let ``reader`` read the inbox of this process, or nobody."""
        self._reader = reader
        self._post.loop = None if reader is None else reader.loop

    # HOT: benchmarks/local_redis.py
    def _listen(self) -> None:
        reader = self._reader
        if reader is not None and reader.loop is running_loop():
            return
        context = self._context()
        # One loop reads the inbox, for all; another takes over when that one has stopped.
        if reader is not context and (reader is None or not reader.loop.is_running()):
            self._read_with(context)
            context.serve()

    def _drain_here(self) -> bool:
        """Hand out what the inbox holds, when the running loop is the one that does. False: it is not."""
        reader = self._reader
        if reader is None or reader.loop is not running_loop():
            return False
        for _ in range(BATCHES):
            if self._drain() < _BATCH:
                break
        return True

    def _drain(self) -> int:
        """Take a batch out of the segment and hand it out, in order; returns how many there were."""
        post = self._post
        if post.handing:
            # A receiver that sends to its own process must not have that overtake the rest of this batch.
            return 0
        if not post.left:
            self._ask(lambda segment: post.load(segment, self._inbox_name, _BATCH))
        return post.hand_out(self._full, self._overshoot, self._carry_out)

    def _on_full(self, channel: str) -> None:
        self._full.add(channel)
        if channel not in self._overshoot and process_of(channel) == self.client_id:
            self._ask(lambda segment: segment.mark(channel, True))

    def _on_room(self, channel: str) -> None:
        self._full.discard(channel)
        overshoot = self._overshoot.get(channel)
        while overshoot and channel not in self._full:
            payload, sent = overshoot.popleft()
            self.inbox.put(channel, payload, self.clock() - sent)
        if not overshoot:
            self._overshoot.pop(channel, None)
            if channel not in self._full and process_of(channel) == self.client_id:
                self._ask(lambda segment: segment.mark(channel, False))

    def _put(self, channel: str, payload: bytes, age: float) -> None:
        """A message that its sender was told is taken, so it is kept: senders are refused from now on (D-39)."""
        if channel in self._full or channel in self._overshoot:
            self._overshoot.setdefault(channel, deque()).append((payload, self.clock() - age))
        else:
            self.inbox.put(channel, payload, age)

    def detach(self, channel: str) -> None:
        late = self._overshoot.pop(channel, None)
        if late:
            self.drops.count("closed", len(late))
        super().detach(channel)

    def _carry_out(self, kind: int, target: str, payload: bytes, age: float) -> None:
        if kind == shm.MESSAGE:
            self._put(target, payload, age)
        elif kind == shm.GROUP:
            self._deliver_group(target, payload, age)
        elif kind == shm.AIMED:
            self._deliver_aimed(*parse_aimed(payload), age)
        elif kind == shm.ADD:
            group = payload[8:].decode()
            self._seen[group] = int.from_bytes(payload[:8], "big")
            if not self.inbox.is_closed(target):
                if self.groups.add(group, target):
                    self._emptied.discard(group)
                    self._ask(lambda segment: segment.join(group))
            elif not self.groups.members(group):
                self._group_emptied(group)
        elif kind == shm.DISCARD:
            group = payload.decode()
            if self.groups.discard(group, target):
                self._group_emptied(group)
        elif kind == shm.WIPED:
            self._overshoot.clear()
            self._seen.clear()
            self._emptied.clear()
            super()._forget_local()
