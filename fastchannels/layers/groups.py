"""The members of groups that live in this process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection


class _Group:
    """``joined`` maps each member to the time of its last add; ``frozen`` is a snapshot of it, made when asked for."""

    __slots__ = ("changes", "frozen", "joined", "oldest")

    def __init__(self) -> None:
        self.joined: dict[str, float] = {}
        self.frozen: tuple[str, ...] | None = None
        #: how often the set of members changed
        self.changes = 0
        #: no member joined before this
        self.oldest = math.inf


class LocalGroups:
    """Which channels of this process are in which group. Any thread may call any method.

    Every operation costs O(1) but :meth:`members` after a change, :meth:`discard_channel` (groups of that channel) and
    :meth:`expire` (members of what is due).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._groups: dict[str, _Group] = {}
        self._of_channel: dict[str, set[str]] = {}
        # Reentrant: the collector may run a finaliser that leaves its groups while this thread is in here, wherever a
        # container is made. So each method makes its containers first or looks again afterwards.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, group: str) -> bool:
        """Whether ``group`` has a member here."""
        return group in self._groups

    def add(self, group: str, channel: str) -> bool:
        """Make ``channel`` a member, or refresh its membership. True: it is the first member of ``group`` here."""
        now = self._clock()
        first = False
        with self._lock:
            while True:
                entry = self._groups.get(group)
                if entry is None:
                    fresh = _Group()
                    entry = self._groups.setdefault(group, fresh)
                    first = first or entry is fresh
                if channel not in entry.joined:
                    entry.changes += 1
                    entry.frozen = None
                entry.joined[channel] = now
                entry.oldest = min(entry.oldest, now)
                groups = self._of_channel.get(channel)
                if groups is None:
                    groups = self._of_channel.setdefault(channel, set())
                groups.add(group)
                # A group that became empty meanwhile was taken out, and this entry with it.
                if self._groups.get(group) is entry:
                    return first

    def discard(self, group: str, channel: str) -> bool:
        """End a membership. True: that was the last member of ``group`` here."""
        with self._lock:
            entry = self._groups.get(group)
            if entry is None or channel not in entry.joined:
                return False
            return self._remove(group, entry, channel)

    def _remove(self, group: str, entry: _Group, channel: str) -> bool:
        entry.joined.pop(channel, None)
        entry.changes += 1
        entry.frozen = None
        groups = self._of_channel.get(channel)
        if groups is not None:
            groups.discard(group)
            if not groups:
                del self._of_channel[channel]
        if entry.joined or self._groups.get(group) is not entry:
            return False
        del self._groups[group]
        return True

    def discard_channel(self, channel: str) -> list[str]:
        """End every membership of ``channel``. Returns the groups that have no member here any more."""
        with self._lock:
            return [group for group in list(self._of_channel.get(channel, ())) if self.discard(group, channel)]

    def members(self, group: str) -> Collection[str]:
        """The members now, in the order they joined: a snapshot that later changes do not touch."""
        entry = self._groups.get(group)
        if entry is None:
            return ()
        frozen = entry.frozen
        if frozen is None:
            with self._lock:
                changes = entry.changes
                # Not tuple(joined), which makes the tuple while it iterates.
                names = list(entry.joined)
                frozen = tuple(names)
                if entry.changes == changes:
                    entry.frozen = frozen
        return frozen

    def groups(self) -> list[str]:
        """The groups that have a member here."""
        return list(self._groups)

    def expire(self, lifetime: float, alive: Callable[[str], bool], group: str | None = None) -> list[str]:
        """End memberships older than ``lifetime`` seconds, of ``group`` or of all; renew those of ``alive`` channels.

        A membership of a live channel is renewed from two thirds of its lifetime on (D-49), so that a group is not
        walked again at each call. Returns the groups that have no member here any more.
        """
        now = self._clock()
        emptied = []
        for name in [group] if group is not None else self.groups():
            entry = self._groups.get(name)
            if entry is None or entry.oldest + lifetime > now:
                continue
            with self._lock:
                for channel in list(entry.joined):
                    joined = entry.joined.get(channel)
                    if joined is None or joined + lifetime * 2 / 3 > now:
                        continue
                    if alive(channel):
                        entry.joined[channel] = now
                    elif joined + lifetime <= now and self._remove(name, entry, channel):
                        emptied.append(name)
                entry.oldest = min(list(entry.joined.values()), default=math.inf)
        return emptied

    def clear(self) -> None:
        """Forget every membership."""
        with self._lock:
            self._groups.clear()
            self._of_channel.clear()
