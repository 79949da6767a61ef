"""One clock for all time-outs of a server: entries lie in slots of a wheel, and setting a later deadline is free."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from fastchannels._core.wire import Clock, Timed

RESOLUTION: Final = 0.25  #: seconds; a deadline is noticed at most this much late
NEVER: Final = math.inf
NO_SLOT: Final = 1 << 62  #: of an entry that is not armed

logger = logging.getLogger("fastchannels.server")


__all__ = ["NEVER", "NO_SLOT", "RESOLUTION", "Timed", "Wheel"]


class Wheel(Clock):
    """Deadlines of many :class:`Timed`, and the ticks at which they are found to have passed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, resolution: float = RESOLUTION) -> None:
        self.clock = clock
        self.resolution = resolution
        self.now = clock()
        self._handle: asyncio.TimerHandle | None = None

    def tick(self) -> None:
        """Fire what is due."""
        self.now = now = self.clock()
        current = int(now / self.resolution)
        for slot in [slot for slot in self._slots if slot <= current]:
            for timed in self._slots.pop(slot):
                if timed._slot != slot:
                    continue  # moved or disarmed by one of its neighbours
                timed._slot = NO_SLOT
                if timed.deadline > now:
                    self.arm(timed, timed.deadline)
                    continue
                timed.deadline = NEVER
                try:
                    timed.expired(now)
                except Exception:
                    logger.exception("a time-out could not be handled")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tick on ``loop`` until :meth:`stop`."""
        self._handle = loop.call_later(self.resolution, self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        # Armed before the work, so that an error in one ``expired`` does not stop the clock.
        self.start(loop)
        self.tick()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
