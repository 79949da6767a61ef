"""How an event loop waits for what other processes of the machine put into the shared segment."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    from fastchannels._core.shm import SegmentGone, Waiter

if TYPE_CHECKING:
    from fastchannels.layers.local import LocalChannelLayer

#: How often a batch is taken before others of the event loop have their turn.
BATCHES: Final = 4
#: Seconds between two looks of a sleeper that does not rest: at what the dead left, and at what a reader is slow to
#: take. Memberships of the dead end within two of them.
TICK: Final = 0.4
#: Seconds between two looks at all that waits in this process.
HOUSEKEEP: Final = 4.8
#: Seconds until a sleeper looks that rests. Somebody may have removed the segment's whole directory.
REST: Final = 60.0


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
        #: when this loop last looked at all that waits in this process
        self.housekept = 0.0
        #: the next tick is far off, as whatever may need one before that is told
        self.resting = False
        #: what is told through other descriptors than the waiter's; the last may be a copy of another loop's
        self.listening: list[int] = []
        self.waiter: Waiter | None = None
        self.renew()
        self.timer = loop.call_later(TICK, self.tick)

    def renew(self) -> None:
        """A new place: at the start, and when the old one is gone with its segment."""
        if self.waiter is not None:
            self.loop.remove_reader(self.waiter.fileno())
            self.waiter.close()
        self.waiter = self.layer._ask(Waiter)
        self.loop.add_reader(self.waiter.fileno(), self.readable)

    def end(self) -> None:
        waiter, self.waiter = self.waiter, None
        self.timer.cancel()
        self.resting = False
        self.unlisten()
        if waiter is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(waiter.fileno())
            waiter.close()

    def abandon(self) -> None:
        """In a forked child: the loop is the parent's, the copy of a descriptor is not."""
        for fd in self.listening[1:]:
            os.close(fd)
        self.listening.clear()

    def readable(self) -> None:
        if self.waiter is not None:
            self.waiter.acknowledge()
            if self.resting and self.told():
                return
            if self.layer._reader is self:
                self.layer._drain()
            self.serve()

    def told(self) -> bool:
        """Whether what ended the rest was for another sleeper: this one only looks after it then."""
        self.rouse()
        try:
            return self.waiter is not None and self.waiter.asleep()
        except SegmentGone:
            return False

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
        if self.resting:
            self.resting = False
            self.unlisten()
            self.timer.cancel()
            self.timer = self.loop.call_later(TICK, self.tick)

    def unlisten(self) -> None:
        for fd in self.listening:
            if not self.loop.is_closed():
                self.loop.remove_reader(fd)
        self.abandon()

    def tick(self) -> None:
        """Look after the dead, after wake-ups that went astray, and after what expired here; then again, or rest."""
        self.resting = False
        self.unlisten()
        self.timer = self.loop.call_later(TICK, self.tick)
        layer = self.layer
        layer._keep()
        layer._leave_emptied()
        reader = layer._reader
        if reader is not None and reader is not self and not reader.loop.is_running():
            layer._read_with(self)
        due = layer._reader is self and self.loop.time() >= self.housekept + HOUSEKEEP
        if due:
            self.housekept = self.loop.time()
            layer._housekeep()
        self.serve()
        self.rest(due)

    def rest(self, housekept: bool) -> None:
        """Put the next tick off, when whatever needs one comes through a descriptor."""
        layer, reader = self.layer, self.layer._reader
        others = reader.waiter if reader is not None and reader is not self else None
        try:
            if self.waiter is None or layer._emptied or not layer._may_rest(self.waiter):
                return
            # Should the loop stop that reads for this process, what comes through its descriptor is for this one to
            # take. It is a copy, as that one may be closed at any time.
            copy = [] if others is None else [os.dup(others.fileno())]
        except SegmentGone:
            return
        self.resting = True
        self.listening = [layer._deaths.fileno(), *copy]
        for fd in self.listening:
            self.loop.add_reader(fd, self.rouse)
        expires = reader is self and (not housekept or layer.inbox.counts()["pending"])
        self.timer.cancel()
        self.timer = self.loop.call_later(HOUSEKEEP if expires else REST, self.tick)
