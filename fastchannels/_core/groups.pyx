"""The members of groups that live in this process."""

import math
import time

from cpython.dict cimport PyDict_Keys, PyDict_Values


cdef class Members:
    def __cinit__(self):
        self.joined = {}
        self.oldest = math.inf


cdef class LocalGroups:
    """Which channels of this process are in which group. Any thread may call any method.

    Every operation costs O(1) but :meth:`members` after a change, :meth:`discard_channel` (groups of that channel) and
    :meth:`expire` (members of what is due). The state is guarded by the interpreter lock, and the collector may run a
    finaliser that leaves its groups wherever a container is made: so each method makes its containers first, or looks
    again afterwards.
    """
    def __cinit__(self, clock=time.monotonic):
        self._clock = clock
        self._groups = {}
        self._of_channel = {}

    def __len__(self):
        return len(self._groups)

    def __contains__(self, group):
        """Whether ``group`` has a member here."""
        return group in self._groups

    # HOT: benchmarks/local_redis.py
    cpdef bint add(self, object group, object channel) except -1:
        """Make ``channel`` a member, or refresh its membership. True: it is the first member of ``group`` here."""
        cdef double now = self._clock()
        cdef bint first = False
        cdef Members entry, fresh
        cdef set of
        while True:
            entry = self._groups.get(group)
            if entry is None:
                fresh = Members()
                entry = self._groups.setdefault(group, fresh)
                first = first or entry is fresh
            of = self._of_channel.get(channel)
            if of is None:
                of = set()
                of = self._of_channel.setdefault(channel, of)
            # No container is made from here on. What became empty meanwhile was taken out.
            if self._groups.get(group) is not entry or self._of_channel.get(channel) is not of:
                continue
            if channel not in entry.joined:
                entry.changes += 1
                entry.frozen = None
            entry.joined[channel] = now
            entry.oldest = min(entry.oldest, now)
            of.add(group)
            return first

    # HOT: benchmarks/local_redis.py
    cpdef bint discard(self, object group, object channel) except -1:
        """End a membership. True: that was the last member of ``group`` here."""
        cdef Members entry = self._groups.get(group)
        if entry is None or channel not in entry.joined:
            return False
        return self._remove(group, entry, channel)

    cdef bint _remove(self, object group, Members entry, object channel) except -1:
        cdef set of = self._of_channel.get(channel)
        entry.joined.pop(channel, None)
        entry.changes += 1
        entry.frozen = None
        if of is not None:
            of.discard(group)
            if not of:
                del self._of_channel[channel]
        if entry.joined or self._groups.get(group) is not entry:
            return False
        del self._groups[group]
        return True

    def discard_channel(self, channel):
        """End every membership of ``channel``. Returns the groups that have no member here any more."""
        return [group for group in list(self._of_channel.get(channel, ())) if self.discard(group, channel)]

    def members(self, group):
        """The members now, in the order they joined: a snapshot that later changes do not touch."""
        cdef Members entry = self._groups.get(group)
        cdef Py_ssize_t changes
        cdef tuple frozen
        cdef list names
        if entry is None:
            return ()
        frozen = entry.frozen
        if frozen is None:
            names = PyDict_Keys(entry.joined)
            changes = entry.changes
            frozen = tuple(names)
            if entry.changes == changes:
                entry.frozen = frozen
        return frozen

    def groups(self):
        """The groups that have a member here."""
        return list(self._groups)

    def expire(self, double lifetime, alive, group=None):
        """End memberships older than ``lifetime`` seconds, of ``group`` or of all; renew those of ``alive`` channels.

        A membership of a live channel is renewed from two thirds of its lifetime on (D-49), so that a group is not
        walked again at each call. Returns the groups that have no member here any more.
        """
        cdef double now = self._clock(), joined
        cdef Members entry
        cdef list emptied = [], names
        names = PyDict_Keys(self._groups) if group is None else [group]
        for name in names:
            entry = self._groups.get(name)
            if entry is None or entry.oldest + lifetime > now:
                continue
            for channel in PyDict_Keys(entry.joined):
                added = entry.joined.get(channel)
                if added is None:
                    continue
                joined = added
                if joined + lifetime * 2 / 3 > now:
                    continue
                if alive(channel):
                    if channel in entry.joined:
                        entry.joined[channel] = now
                elif joined + lifetime <= now and channel in entry.joined and self._remove(name, entry, channel):
                    emptied.append(name)
            entry.oldest = min(PyDict_Values(entry.joined), default=math.inf)
        return emptied

    def clear(self):
        """Forget every membership."""
        self._groups.clear()
        self._of_channel.clear()
