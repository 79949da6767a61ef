"""The messages of one layer on their way into its shared segment and out of it, in one call each."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from fastchannels._core.c_fc cimport FC_MESSAGE, fc_taken
from fastchannels._core.codec cimport Codec
from fastchannels._core.groups cimport LocalGroups
from fastchannels._core.inbox cimport Inbox
from fastchannels._core.shm cimport Address, Segment
from fastchannels._core.wake cimport running_loop

#: A call that takes more than compiled code: nothing was done.
MORE = -1

cdef enum:
    MAX_KNOWN = 16384
    ROOM = 65536  # bytes for the entries of one load, but for a longer one


cdef class Post:
    """What a layer sends and takes through ``segment`` (None: not open), where there is nothing else to do.

    ``addresses`` are those of the names that were checked; on ``loop`` the inbox of this process is read. :meth:`load`
    and :meth:`hand_out` pass the entries of this process's inbox on; they run on one thread at a time. In ``groups`` are
    the members of this process, in ``emptied`` the groups that it is still a member of and has no member in. Raises
    ``SegmentGone`` and what a ``Segment`` raises.
    """

    cdef Codec _codec
    cdef Inbox _inbox
    cdef LocalGroups _members
    cdef set _emptied
    cdef uint32_t _expiry_ms
    cdef public Segment segment
    cdef public object loop
    cdef readonly dict addresses
    cdef set _groups, _channels
    cdef readonly uint64_t sent, taken
    cdef readonly bint handing
    # Entries that were taken out of the segment and not handed out yet: `left` of them, from `at` of `buffer` on.
    cdef uint8_t *buffer
    cdef uint64_t room, at
    cdef readonly uint32_t left
    # The name met last, and its bytes. Messages of one channel come in runs, and share a name whose hash is known.
    cdef str name
    cdef const char *text
    cdef Py_ssize_t length

    def __init__(
        self, Codec codec not None, Inbox inbox not None, LocalGroups groups not None, set emptied not None,
        uint32_t expiry_ms,
    ):
        self._codec = codec
        self._inbox = inbox
        self._members = groups
        self._emptied = emptied
        self._expiry_ms = expiry_ms
        self.addresses = {}
        self._groups = set()
        self._channels = set()
        self.length = -1

    def __dealloc__(self):
        free(self.buffer)

    # HOT: benchmarks/local.py
    def send(self, channel, message):
        """Send to a known channel of another process, or an ordinary one: an outcome, or ``MORE``."""
        cdef Address to = self.addresses.get(channel)
        cdef int outcome
        if to is None or self.segment is None:
            return MORE
        outcome = self.segment.post(to, self._codec.encode(message), self._expiry_ms)
        if outcome == 0:
            self.sent += 1
        return outcome

    # HOT: benchmarks/local.py
    def take(self, channel):
        """The next message of an ordinary channel; None: there is none, or it could not be decoded and was counted."""
        cdef bytes payload
        if self.segment is None:
            return None
        payload = self.segment.pop(channel)
        if payload is None:
            return None
        message = self._inbox._decoded(payload)
        if message is not None:
            self.taken += 1
        return message

    cpdef bint joins(self, group, channel) except -1:
        """Whether a membership may change at once: on ``loop``, of names that :meth:`know` was told, nothing before it."""
        return (
            group in self._groups and channel in self._channels and self.left == 0 and not self.handing
            and self.segment is not None and not self.segment.something_waits() and running_loop() is self.loop
        )

    # HOT: benchmarks/local_redis.py
    def join(self, group, channel, bint ready=False):
        """Make a channel of this process a member: ``MORE``, unless ``ready``; else whether the segment must be told."""
        if not ready and not self.joins(group, channel):
            return MORE
        # A late join must not outlive the socket that it was for (D-11).
        if channel in self._inbox._closed or not self._members.add(group, channel):
            return False
        if group in self._emptied:
            self._emptied.discard(group)
            return False
        return True

    # HOT: benchmarks/local_redis.py
    def leave(self, group, channel):
        """End that: ``MORE``, or whether it was the last member of ``group`` here."""
        return self._members.discard(group, channel) if self.joins(group, channel) else MORE

    def know(self, group, channel):
        """Remember a checked group, and a checked process-local channel of this process."""
        for known, name in ((self._groups, group), (self._channels, channel)):
            if len(known) >= MAX_KNOWN:
                known.clear()
            known.add(name)

    def load(self, Segment segment not None, str inbox not None, uint32_t most):
        """Take up to ``most`` entries out of ``inbox``, unless some are left."""
        cdef uint64_t used
        cdef uint32_t count = 0
        while self.left == 0:
            if self.room == 0:
                self.reserve(ROOM)
            used = segment.fill(inbox, most, self.buffer, self.room, &count)
            self.at = 0
            self.left = count
            if used <= self.room:
                return
            self.reserve(used)

    cdef int reserve(self, uint64_t room) except -1:
        cdef void *grown = realloc(self.buffer, room)
        if grown == NULL:
            raise MemoryError()
        self.buffer = <uint8_t *> grown
        self.room = room
        return 0

    # HOT: benchmarks/local.py
    def hand_out(self, set full not None, dict overshoot not None, other):
        """Put what was loaded on its channels, in order; how many there were.

        Entries for channels in ``full`` or ``overshoot``, and those that are no messages, go to ``other(kind, target,
        payload, age in seconds)``. When a receiver or ``other`` raises, the rest stays; when it calls :meth:`forget`, the
        rest is gone.
        """
        cdef const fc_taken *head
        cdef const char *at
        cdef uint32_t count = self.left
        cdef double now, age
        if self.handing:
            return 0
        loop = running_loop()
        now = self._inbox._clock()
        self.handing = True
        try:
            while self.left:
                head = <const fc_taken *> (self.buffer + self.at)
                at = <const char *> (head + 1)
                self.left -= 1
                self.at += (sizeof(fc_taken) + head.target_length + head.length + 7) & ~<uint64_t> 7
                if <Py_ssize_t> head.target_length != self.length or memcmp(at, self.text, head.target_length) != 0:
                    self.length = -1
                    self.name = PyUnicode_DecodeLatin1(at, <Py_ssize_t> head.target_length, NULL)
                    self.text = PyUnicode_AsUTF8AndSize(self.name, &self.length)
                payload = PyBytes_FromStringAndSize(at + head.target_length, <Py_ssize_t> head.length)
                age = head.age_ns / 1e9
                if head.kind == FC_MESSAGE and self.name not in full and self.name not in overshoot:
                    self._inbox._put(self.name, payload, age, loop, False, now)
                else:
                    other(head.kind, self.name, payload, age)
        finally:
            self.handing = False
        return count

    def forget(self):
        """Drop what was loaded and not handed out."""
        self.left = 0
