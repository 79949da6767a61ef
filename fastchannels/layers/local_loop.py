"""How an event loop waits for what other processes of the machine put into the shared segment."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    from fastchannels._core.shm import SegmentGone, Waiter

if TYPE_CHECKING:
    from fastchannels.layers.local import LocalChannelLayer

#: How often a batch is taken before others of the event loop have their turn.
BATCHES: Final = 4
#: Seconds between two looks of all processes at what the dead left; memberships end within two of them.
TICK: Final = 0.4
#: Ticks between two looks at all that waits in this process; how long a loop rests that nothing needs earlier.
TICKS_TO_HOUSEKEEP: Final = 12


class Deaths:
    """Calls ``told`` on the event loop when another process ends, where the system has pidfd_open (Linux 5.3)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, told: Callable[[], None]) -> None:
        self.loop = loop
        self.told = told
        #: process: its pidfd; None when it has ended, or cannot be watched
        self.watched: dict[tuple[int, int], int | None] = {}

    def follow(self, processes: set[tuple[int, int]] | None) -> bool:
        """Watch these and no others. True: all were watched before already, so that none can end unnoticed."""
        if processes is None or not hasattr(os, "pidfd_open"):
            processes, calm = set(), False
        else:
            calm = processes <= self.watched.keys() and all(self.watched[process] is not None for process in processes)
        for process in self.watched.keys() - processes:
            self.drop(process)
            del self.watched[process]
        for process in processes - self.watched.keys():
            try:
                fd = os.pidfd_open(process[0])
            except OSError:
                self.watched[process] = None
            else:
                self.watched[process] = fd
                self.loop.add_reader(fd, self.ended, process)
        return calm

    def ended(self, process: tuple[int, int]) -> None:
        self.drop(process)
        self.told()

    def drop(self, process: tuple[int, int]) -> None:
        fd, self.watched[process] = self.watched[process], None
        if fd is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(fd)
            os.close(fd)

    def close(self) -> None:
        """Let go of all, as a forked child does too: what its parent watches stays watched."""
        for fd in self.watched.values():
            if fd is not None:
                os.close(fd)
        self.watched.clear()

    __del__ = close


class LocalLoop:
    """How one event loop sleeps: one place in the segment for all that its tasks wait for. Runs on that loop only."""

    def __init__(self, layer: LocalChannelLayer, loop: asyncio.AbstractEventLoop) -> None:
        self.layer = layer
        self.loop = loop
        #: channel: readers that sleep
        self.sleeping: dict[str, deque[asyncio.Future[None]]] = {}
        #: channel: the reader that was woken and has not looked yet; the others wait for it
        self.woken: dict[str, asyncio.Future[None]] = {}
        self.scheduled = False
        self.ticks = 0
        #: the next tick may be far off: nothing here needs it before a process comes or ends
        self.resting = False
        self.deaths = Deaths(loop, self.rouse)
        self.waiter: Waiter | None = None
        self.renew()
        self.timer = loop.call_later(TICK, self.tick)

    def renew(self) -> None:
        """A new place: at the start, and when the old one is gone with its segment."""
        if self.waiter is not None:
            self.loop.remove_reader(self.waiter.fileno())
            self.waiter.close()
        self.waiter = self.layer._ask(Waiter)
        #: how many processes had come when they were last looked at; -1: never
        self.newcomers = -1
        self.loop.add_reader(self.waiter.fileno(), self.readable)

    def end(self) -> None:
        waiter, self.waiter = self.waiter, None
        self.timer.cancel()
        self.deaths.follow(None)
        if waiter is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(waiter.fileno())
            waiter.close()

    def readable(self) -> None:
        if self.waiter is not None:
            self.waiter.acknowledge()
            if self.layer._reader is self:
                self.layer._drain()
            self.serve()

    def serve_soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.serve)

    def serve(self) -> None:
        """Hand out what is there, then sleep for the rest."""
        self.scheduled = False
        layer = self.layer
        batches = 0
        while self.waiter is not None:
            names = [name for name in self.sleeping if name not in self.woken]
            if layer._reader is self:
                if layer._post.handing:
                    # Called by a receiver: sleeping without the inbox would miss what is pushed to it meanwhile.
                    self.serve_soon()
                    return
                names.append(layer._inbox_name)
            try:
                ready = self.waiter.arm(names)
                if ready < 0 and self.resting and self.waiter.newcomers() != self.newcomers:
                    self.rouse()
            except SegmentGone:
                self.renew()
                continue
            if ready < 0:
                return
            if names[ready] != layer._inbox_name:
                self.wake(names[ready])
            elif batches == BATCHES:
                self.serve_soon()
                return
            else:
                layer._drain()
                batches += 1

    def wake(self, channel: str) -> None:
        """Wake the reader that slept longest."""
        sleeping = self.sleeping[channel]
        while sleeping:
            future = sleeping.popleft()
            if not future.done():
                self.woken[channel] = future
                future.set_result(None)
                break
        if not sleeping:
            del self.sleeping[channel]

    def wait(self, channel: str) -> asyncio.Future[None]:
        """A future that is done when ``channel`` may have a message. Call :meth:`unwait` afterwards, always."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.sleeping.setdefault(channel, deque()).append(future)
        if self.resting:
            self.rouse()
        if channel not in self.woken:
            self.serve()
        return future

    def unwait(self, channel: str, future: asyncio.Future[None], took: bool) -> None:
        sleeping = self.sleeping.get(channel)
        woken = self.woken.get(channel) is future
        if woken:
            del self.woken[channel]
        elif sleeping is not None:
            # wake() leaves out a reader that was cancelled.
            if future in sleeping:
                sleeping.remove(future)
            if not sleeping:
                del self.sleeping[channel]
        if self.waiter is None:
            return
        if channel in self.sleeping:
            # The next reader of this loop looks, or sleeps on.
            if woken:
                self.serve()
            return
        if not woken:
            self.serve()  # so that nothing is pushed at a name that nobody waits for here
        if not took:
            # A message that this loop was woken for is for a reader of another process now.
            self.layer._ask(lambda segment: segment.nudge(channel))

    def rouse(self) -> None:
        """Something needs a look within a tick. What others saw less than that ago may be older than it."""
        if self.resting and self.waiter is not None:
            self.resting = False
            self.timer.cancel()
            self.timer = self.loop.call_later(TICK, self.tick)

    def tick(self) -> None:
        """Look after the dead, after wake-ups that went astray, and after what expired here; then again."""
        self.timer = self.loop.call_later(TICK, self.tick)
        layer = self.layer
        layer._keep()
        layer._leave_emptied()
        reader = layer._reader
        if reader is not None and reader is not self and not reader.loop.is_running():
            layer._read_with(self)
        self.ticks += TICKS_TO_HOUSEKEEP if self.resting else 1
        self.resting = False
        if self.ticks >= TICKS_TO_HOUSEKEEP and layer._reader is self:
            self.ticks = 0
            layer._housekeep()
        self.serve()
        self.rest()

    def rest(self) -> None:
        """Put the next tick off when the end of any process wakes this loop, and nothing else needs it.

        A message on an ordinary channel may be one that a slow reader was woken for; another loop of this process may
        stop, and this one then reads for it.
        """
        waiter, layer = self.waiter, self.layer
        if waiter is None:
            return
        try:
            newcomers = waiter.newcomers()
            calm = self.deaths.follow(layer._open().neighbours())
        except SegmentGone:
            return
        if calm and newcomers == self.newcomers and not self.sleeping and not layer._emptied and len(layer._loops) == 1:
            self.resting = True
            self.timer.cancel()
            self.timer = self.loop.call_later(TICK * TICKS_TO_HOUSEKEEP, self.tick)
        self.newcomers = newcomers
