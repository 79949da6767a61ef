"""What a process on the wire of channels_redis keeps about itself: its messages as they are read, and its members."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from fastchannels._core.names import process_of
from fastchannels._core.wake import Waiter
from fastchannels.envelope import ASGI_CHANNEL
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.base import ChannelLayer, Message
from fastchannels.layers.redis import scripts
from fastchannels.layers.redis.compat_readers import CompatReader, Entry
from fastchannels.layers.redis.compat_wire import CompatKeys, CompatWire
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.readers import Kept

logger = logging.getLogger("fastchannels.layer")

#: Group of the log line about members of this process that were full: the wire does not say which it was.
_SOME_GROUP: Final = "?"
#: Channels that one script call makes members.
JOIN_BATCH: Final = 1000
#: Seconds before a note in Redis that failed is written again.
BEGIN_AGAIN: Final = 1.0


class CompatProcess(ChannelLayer):
    """The half of the layer that answers for this process; the other half asks Redis.

    It is the owner of its :class:`~fastchannels.layers.redis.compat_readers.CompatReader`, which calls the methods
    without an underscore on its loop.
    """

    keys: CompatKeys
    wire: CompatWire

    def _start_process(self) -> None:
        super()._start_process()
        self._expiry_ms = round(self.expiry * 1000)
        self._group_expiry_ms = round(self.group_expiry * 1000)
        self._kept = Kept(self.expiry, self._on_expired)
        #: Keys of the process-local names that were made here, one for each prefix of a name.
        self._inbox_keys: tuple[str, ...] = ()
        #: The reader, of one event loop, that pops them.
        self._reader: CompatReader | None = None
        #: Who waits for a process-local channel, on any loop.
        self._waiters: set[Waiter[None]] = set()
        #: Groups that this process added its own channels to, and when somebody last read those.
        self._joined: dict[str, set[str]] = {}
        self._read_at: dict[str, float] = {}
        self._refresh_at = self.clock() + self.group_expiry / 3
        #: The note of :meth:`begin` was sent once; it was found missing, and not all groups are joined again.
        self._noted = self._rejoin = False

    def _on_expired(self) -> None:
        self.drops.count("expired")

    def _on_torn_pop(self) -> None:
        self.drops.count("torn_pops")

    def _forget_local(self) -> None:
        super()._forget_local()
        self._kept.clear()
        self._joined.clear()
        self._read_at.clear()

    native = False
    waits_plainly = False

    def _decode_or_drop(self, payload: bytes) -> Message | None:
        message = super()._decode_or_drop(payload)
        if message is not None:
            message.pop(ASGI_CHANNEL, None)
        return message

    # ------------------------------------------------------------------ messages as they are read

    def inbox_keys(self, reader: CompatReader) -> tuple[str, ...]:
        return self._inbox_keys if reader is self._reader else ()

    def dispatch(self, entries: list[Entry], now: float) -> None:
        for member, score in entries:
            if now - score >= self.expiry:
                self._on_expired()
                continue
            try:
                target, body = self.wire.split(self.wire.open(member))
            except Exception as error:
                self.drops.undecodable(error)
                continue
            try:
                if isinstance(target, str):
                    self.inbox.put(target, body, now - score)
                    continue
                full = self.inbox.fan_out(target, body, now - score)
                if full:
                    self.drops.group_full(_SOME_GROUP, full, len(target))
            except Exception:
                # One bad entry must not end the reading of all others.
                logger.exception("a message for this process could not be handled")

    def admit(self, entry: Entry, now: float) -> tuple[bytes, float] | None:
        member, score = entry
        age = max(0.0, now - score)
        if age >= self.expiry:
            self._on_expired()
            return None
        try:
            return self.wire.open(member), time.monotonic() + self.expiry - age
        except Exception as error:
            self.drops.undecodable(error)
            return None

    def keep(self, key: str, body: bytes, deadline: float, first: bool) -> None:
        self._kept.put(key, body, deadline, first)
        self._offer_kept(key)

    def take_kept(self, key: str) -> tuple[bytes, float] | None:
        return self._kept.take(key)

    def _offer_kept(self, key: str) -> None:
        """Let a reader on any loop know that something is kept for ``key``."""

    def inbox_unavailable(self, error: LayerUnavailable) -> None:
        logger.error("the messages for this process cannot be read: %s", error)
        for waiter in list(self._waiters):
            try:
                waiter.get_loop().call_soon_threadsafe(fail, waiter, LayerUnavailable(str(error)))
            except RuntimeError:  # closed meanwhile
                continue

    # ------------------------------------------------------------------ members of groups

    def _note_join(self, group: str, channel: str) -> bool:
        """Remember that a channel of this process joined. False: nobody will ever read that channel (D-11)."""
        if process_of(channel) == self.client_id:
            if self.inbox.is_closed(channel):
                return False
            self._joined.setdefault(channel, set()).add(group)
            self._read_at[channel] = self.clock()
        return True

    def _note_leave(self, group: str, channel: str) -> None:
        joined = self._joined.get(channel)
        if joined is not None:
            joined.discard(group)
            if not joined:
                self._joined.pop(channel, None)
                self._read_at.pop(channel, None)

    def detach(self, channel: str) -> None:
        super().detach(channel)
        self._read_at.pop(channel, None)
        for group in self._joined.pop(channel, ()):
            self._post("ZREM", self.keys.group(group), channel)

    def housekeep(self, link: Link) -> None:
        """Every few seconds: forget what expired in this process, and renew the memberships that are due (D-49)."""
        self._kept.purge()
        self._housekeep()
        now = self.clock()
        for channel in list(self._joined):
            if self.inbox.is_watched(channel):
                self._read_at[channel] = now
            elif now - self._read_at.get(channel, now) >= self.group_expiry:
                # Nobody has read it for that long, so its memberships have expired.
                self._joined.pop(channel, None)
                self._read_at.pop(channel, None)
        if now >= self._refresh_at:
            self._refresh_at = now + self.group_expiry / 3
            link.post("PEXPIRE", self.keys.presence(self.client_id), self._group_expiry_ms)
            # One that fails is tried again in a third of group_expiry, in time.
            asyncio.gather(*self._join_all(link, "refresh"), return_exceptions=True)

    def inbox_lost(self) -> None:
        self.store_lost()

    def begin(self, link: Link) -> None:
        """The inboxes are going to be read on a new connection: when Redis lost its data, join every group again.

        A note in Redis, of which nobody but this process knows, tells that it did.
        """
        noted = link.call("SET", self.keys.presence(self.client_id), "1", "NX", "PX", self._group_expiry_ms)
        first, self._noted = not self._noted, True
        noted.add_done_callback(lambda reply: self._on_noted(link, reply, first))

    def _on_noted(self, link: Link, reply: asyncio.Future[object], first: bool) -> None:
        if self._failed(link, reply):
            return
        if not first and reply.result() is not None:
            self._rejoin = True
        joined = self._join_all(link, "add") if self._rejoin else []
        asyncio.gather(*joined).add_done_callback(lambda replies: self._on_joined(link, replies))

    def _on_joined(self, link: Link, replies: asyncio.Future[Any]) -> None:
        if not self._failed(link, replies):
            self._rejoin = False
            self.store_back()

    def _failed(self, link: Link, reply: asyncio.Future[Any]) -> bool:
        """Whether ``reply`` did not come; :meth:`begin` is tried again, while the inboxes are read beside ``link``."""
        if reply.cancelled():
            return True
        if reply.exception() is None:
            return False
        asyncio.get_running_loop().call_later(BEGIN_AGAIN, self._begin_again, link)
        return True

    def _begin_again(self, link: Link) -> None:
        if self._reader is not None and self._reader.link is link:
            self.begin(link)

    def _join_all(self, link: Link, mode: str) -> list[asyncio.Future[Any]]:
        """Make the members of this process members in Redis, in a call for each group."""
        groups: dict[str, list[str]] = {}
        for channel, joined in list(self._joined.items()):
            for group in list(joined):
                groups.setdefault(group, []).append(channel)
        return [
            link.run(scripts.COMPAT_JOIN, (self.keys.group(group),), self._group_expiry_ms, mode, *part)
            for group, channels in groups.items()
            for part in _slices(channels)
        ]

    def _post(self, *command: Argument) -> None:
        """Run a command whose outcome nobody waits for, from any thread."""
        reader = self._reader
        if reader is None:
            return
        if reader.loop is asyncio._get_running_loop():
            reader.link.post(*command)
        else:
            try:
                reader.loop.call_soon_threadsafe(reader.link.post, *command)
            except RuntimeError:  # closed meanwhile
                pass


def _slices(channels: list[str]) -> Iterable[list[str]]:
    return (channels[start : start + JOIN_BATCH] for start in range(0, len(channels), JOIN_BATCH))


def fail(future: Waiter[None], error: LayerUnavailable) -> None:
    """End a wait with ``error``, unless it has ended."""
    if not future.done():
        future.set_exception(error)
