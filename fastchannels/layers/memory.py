"""The channel layer of one process: what ``runserver`` and tests use when nothing is installed."""

from __future__ import annotations

import random
import time

from fastchannels._core.names import check_channel_name
from fastchannels.layers.aim import Aim
from fastchannels.layers.base import ChannelLayer, Message

__all__ = ["InMemoryChannelLayer"]

#: Seconds between two looks at all memberships.
_HOUSEKEEPING = 10.0


class InMemoryChannelLayer(ChannelLayer):
    """Channels and groups in the memory of one process, for any number of its event loops and threads.

    Takes the options that every layer takes. Ordinary channels wait in the same inbox as process-local ones. Capacity
    and expiry are exact. A forked child starts empty, with an identity of its own. Nothing leaves the process, so
    ``symmetric_encryption_keys`` are checked and not used.
    """

    leaves_process = False
    in_one_inbox = True

    def _start_process(self) -> None:
        super()._start_process()
        self._housekeep_at = self.clock() + _HOUSEKEEPING

    async def pending(self, channel: str) -> int:
        return self.inbox.unread(channel)

    def _depth_sync(self, channel: str) -> tuple[int | None, float | None]:
        return self.inbox.unread(channel), self.inbox.age(channel)

    # ------------------------------------------------------------------ channels

    # HOT: benchmarks/bench_inbox.py
    async def send(self, channel: str, message: Message, *, single_reader: bool = False) -> None:
        channel = check_channel_name(channel, single_reader)
        if not self.inbox.offer(channel, self.codec.encode(message)):
            raise self._refuse(channel)
        self._sent += 1

    def _push_sync(self, channel: str, payload: bytes) -> None:
        if not self.inbox.offer(channel, payload):
            raise self._refuse(channel)

    async def _push(self, channel: str, payload: bytes) -> None:
        self._push_sync(channel, payload)

    def _pop_sync(self, channels: list[str], timeout: float | None) -> tuple[str, bytes] | None:
        inbox = self.inbox
        # A start at random keeps a flooded channel from hiding the ones behind it.
        start = int(random.random() * len(channels))
        channels = channels[start:] + channels[:start]
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            taken = self._first_of(channels)
            left = None if ends is None else ends - time.monotonic()
            if taken is not None or (left is not None and left <= 0):
                return taken
            waiter = inbox.wait_any(channels)
            try:
                waiter.block(left)
                taken = self._first_of(channels)
            finally:
                inbox.unwait_any(channels, waiter)
            if taken is not None:
                return taken

    def _first_of(self, channels: list[str]) -> tuple[str, bytes] | None:
        for channel in channels:
            payload = self.inbox.get(channel)
            if payload is not None:
                return channel, payload
        return None

    # ------------------------------------------------------------------ groups

    def _join_sync(self, group: str, channel: str) -> None:
        if self.clock() >= self._housekeep_at:
            self._housekeep_at = self.clock() + _HOUSEKEEPING
            self._housekeep()
        # A late join must not outlive the socket that it was for (D-11).
        if not self.inbox.is_closed(channel):
            self.groups.add(group, channel)

    async def _join(self, group: str, channel: str) -> None:
        self._join_sync(group, channel)

    def _leave_sync(self, group: str, channel: str) -> None:
        self.groups.discard(group, channel)

    async def _leave(self, group: str, channel: str) -> None:
        self._leave_sync(group, channel)

    def _publish_sync(self, group: str, payload: bytes) -> None:
        self._deliver_group(group, payload)

    async def _publish(self, group: str, payload: bytes) -> None:
        self._deliver_group(group, payload)

    def _publish_aimed_sync(self, aim: Aim, payload: bytes) -> None:
        self._deliver_aimed(aim, payload)

    async def _publish_aimed(self, aim: Aim, payload: bytes) -> None:
        self._deliver_aimed(aim, payload)

    # ------------------------------------------------------------------ flush: the base class forgets all there is

    def _wipe_sync(self) -> None:
        pass

    async def _wipe(self) -> None:
        pass
