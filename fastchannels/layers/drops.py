"""What a layer dropped: counted by reason, and told in the log without flooding it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

logger = logging.getLogger("fastchannels.layer")

#: Seconds between two log lines about the same thing (D-06, D-42).
LOG_INTERVAL: Final = 10.0
#: Groups whose last line is remembered; past it the one that was silent longest is forgotten. Also full channels.
MAX_GROUPS: Final = 1024
#: Reasons that :meth:`DropLog.report` leaves out: they have lines of their own.
_TOLD: Final = frozenset({"group_full", "undecodable", "refused"})


class _Line:
    """One rate-limited log line: when it may be written again, and what happened since it was written."""

    __slots__ = ("count", "next_at")

    def __init__(self) -> None:
        self.next_at = 0.0
        self.count = 0


class DropLog:
    """Counters by reason. Any thread may call any method; memory is bounded by ``MAX_GROUPS``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._totals: Counter[str] = Counter()
        self._groups: dict[str, _Line] = {}
        self._undecodable = _Line()
        self._undecodable.next_at = self._start = clock()
        self._refused: Counter[str] = Counter()
        self._reported: Mapping[str, int] = {}
        self._report_at = self._start
        self._lock = threading.RLock()

    def count(self, reason: str, n: int = 1) -> None:
        """Add ``n`` to ``reason``."""
        with self._lock:
            self._totals[reason] += n

    def refused(self, channel: str) -> None:
        """Count a send that raised ``ChannelFull``."""
        with self._lock:
            self._totals["refused"] += 1
            # Taken out and put back: in the order of last use.
            count = self._refused.pop(channel, 0)
            if len(self._refused) >= MAX_GROUPS:
                del self._refused[next(iter(self._refused))]
            self._refused[channel] = count + 1

    def refusals(self, channel: str) -> int:
        """How often :meth:`refused` counted ``channel``, 0 when it was long ago."""
        return self._refused.get(channel, 0)

    def report(self, dropped: Mapping[str, int]) -> None:
        """One line for all that was dropped since the last one, by reason, at most every 10 s.

        ``dropped`` are totals by reason. A warning unless everything was for channels that had been closed.
        """
        now = self._clock()
        with self._lock:
            if now < self._report_at:
                return
            news = {
                reason: count - self._reported.get(reason, 0)
                for reason, count in sorted(dropped.items())
                if reason not in _TOLD and count != self._reported.get(reason, 0)
            }
            if not news:
                return
            self._reported = dict(dropped)
            self._report_at = now + LOG_INTERVAL
        logger.log(
            logging.INFO if news.keys() == {"closed"} else logging.WARNING,
            "dropped since the last line: %s",
            ", ".join(f"{count} {reason}" for reason, count in news.items()),
        )

    def totals(self) -> dict[str, int]:
        """Counts by reason since start."""
        with self._lock:
            return dict(self._totals)

    def group_full(self, group: str, full: int, members: int) -> None:
        """Count ``full`` of ``members`` as passed over by a group send; one WARNING for each group and 10 s (D-06)."""
        with self._lock:
            self._totals["group_full"] += full
            # Taken out and put back: the dict stays in the order of last use.
            line = self._groups.pop(group, None)
            if line is None:
                line = _Line()
                line.next_at = self._start
                if len(self._groups) >= MAX_GROUPS:
                    del self._groups[next(iter(self._groups))]
            self._groups[group] = line
            count = self._take(line, full)
        if count:
            logger.warning(
                "group %r: %d of %d members were full and did not get a message (%d drops since the last line); "
                "their readers are slow, or 'capacity' in CHANNEL_LAYERS CONFIG is low",
                group, full, members, count,
            )  # fmt: skip

    def undecodable(self, error: BaseException) -> None:
        """Count a message that could not be decoded; one ERROR for each 10 s (D-42)."""
        with self._lock:
            self._totals["undecodable"] += 1
            count = self._take(self._undecodable, 1)
        if count:
            logger.error(
                "dropped a message that cannot be decoded (%d since the last line): %s: %s",
                count, type(error).__name__, error,
            )  # fmt: skip

    def _take(self, line: _Line, n: int) -> int:
        """Add ``n`` to ``line``; the count to write when a line is due, else 0."""
        line.count += n
        now = self._clock()
        if now < line.next_at:
            return 0
        count, line.count, line.next_at = line.count, 0, now + LOG_INTERVAL
        return count
