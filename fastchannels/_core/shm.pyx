"""The shared segment of one machine's processes, and a place to sleep until something is pushed to it."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeLatin1
from libc.errno cimport EBUSY, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastchannels._core.c_fc cimport (
    FC_ADD, FC_AIMED, FC_DISCARD, FC_ERR_CLOSED, FC_ERR_FORMAT, FC_ERR_FULL, FC_ERR_NOMEM, FC_ERR_OS, FC_ERR_RANGE,
    FC_ERR_VERSION, FC_GROUP, FC_MESSAGE, FC_NEED_DATA, FC_OK, FC_SHM_VERSION, FC_SHM_WHY, FC_WIPED, fc_shm,
    fc_shm_abandon, fc_shm_add, fc_shm_add_channel, fc_shm_address, fc_shm_check, fc_shm_close, fc_shm_count,
    fc_shm_counts, fc_shm_discard, fc_shm_discard_channel, fc_shm_join, fc_shm_keep, fc_shm_leave, fc_shm_list,
    fc_shm_mark, fc_shm_nudge, fc_shm_open, fc_shm_pending, fc_shm_post, fc_shm_publish, fc_shm_skip, fc_shm_take,
    fc_shm_take_at_once, fc_shm_waits, fc_shm_wipe, fc_aim, fc_listed, fc_status, fc_taken, fc_text, fc_neighbour,
    fc_shm_neighbours, fc_waiter_arm, fc_waiter_close, fc_waiter_disarm, fc_waiter_fd,
    fc_waiter_handle, fc_waiter_open, fc_waiter_rest, fc_waiter_sleeps, fc_wake_drain, fc_wake_wait,
)
from fastchannels.exceptions import CorruptSegmentError, InvalidChannelLayerError, LayerUnavailable

MESSAGE = FC_MESSAGE
GROUP = FC_GROUP
ADD = FC_ADD
DISCARD = FC_DISCARD
WIPED = FC_WIPED
AIMED = FC_AIMED

#: What a send came to: taken, its queue is full, the segment is full, no such process.
SENT, FULL, NO_ROOM, GONE = range(4)

cdef enum:
    WORDS = 1024        # on the stack, for one message; a longer one gets memory of its own
    FEW = 16            # names on the stack
    LINES = 64          # of a listing, at a time; neighbours that are told
    AT_ONCE = 16384     # bytes of a message that is copied with the interpreter lock held


class SegmentGone(Exception):
    """The segment was closed or replaced, or gave this process's place away: open it again."""


cdef inline fc_text text_of(str name) except *:
    # The pointer lives as long as `name`, which the caller holds.
    cdef fc_text text
    cdef Py_ssize_t length
    text.at = PyUnicode_AsUTF8AndSize(name, &length)
    text.length = <size_t> length
    return text


cdef int raise_for(fc_status status, Segment segment) except -1:
    cdef int number = errno
    if status == FC_ERR_CLOSED:
        raise SegmentGone(f"{segment.path}: this process is not known there any more")
    if status == FC_ERR_FORMAT:
        raise CorruptSegmentError(
            f"{segment.path}: the shared segment was damaged; what made no sense was dropped, the rest is in use"
        )
    if status == FC_ERR_OS:
        raise LayerUnavailable(
            f"{segment.path}: the shared segment does not answer: {os.strerror(number)} (a stopped process may hold it)"
        )
    if status == FC_ERR_NOMEM:
        raise MemoryError(f"{segment.path}: no room in the shared segment")
    raise CorruptSegmentError(f"{segment.path}: unexpected status {<int> status}")


cdef inline int outcome(fc_status status, Segment segment) except -1:
    if status == FC_OK:
        return 0
    if status == FC_ERR_FULL:
        return 1
    if status == FC_ERR_NOMEM or status == FC_ERR_RANGE:
        return 2
    if status == FC_ERR_CLOSED:
        return 3
    return raise_for(status, segment)


cdef class Address:
    """Where the messages of one channel go, worked out once; good for any segment.

    ``process`` owns a process-local ``channel``; "" for an ordinary one. ``capacity`` of the inbox, or of the channel.
    """

    def __cinit__(self, str process not None, str channel not None, uint32_t capacity):
        if fc_shm_address(&self.to, text_of(process), text_of(channel), capacity) != FC_OK:
            raise ValueError(f"{channel!r}: too long for the shared segment")


cdef class Segment:
    """This process's handle of the segment in directory ``path``, which is made when it is missing.

    Any thread may call any method; each releases the interpreter lock. :meth:`close` waits for nobody: the handle goes
    when the last call that is under way returns, and later calls raise ``SegmentGone``. Opening raises
    ``CorruptSegmentError`` (not a segment, of another version, not ours), ``InvalidChannelLayerError`` (``size``) and
    ``LayerUnavailable`` (the system refused). Any call may raise ``CorruptSegmentError`` (damage was found, and
    mended) and ``LayerUnavailable`` (a stopped process holds the lock).
    """

    def __cinit__(self, str path not None, uint64_t size, str client_id not None):
        cdef char why[FC_SHM_WHY]
        cdef fc_status status
        cdef fc_text identity = text_of(client_id)
        cdef bytes directory = os.fsencode(path)
        cdef const char *where = directory
        self.path = path
        with nogil:
            status = fc_shm_open(&self.handle, where, size, identity, why)
        if status == FC_OK:
            return
        text = f"{path}: {(<bytes> why).decode('utf-8', 'replace')}"
        if status == FC_ERR_RANGE:
            raise InvalidChannelLayerError(f"CONFIG option size={size}: {text}")
        if status == FC_ERR_VERSION:
            raise CorruptSegmentError(
                f"{text}; stop the processes that use it and remove {os.path.join(path, 'segment')}, "
                "or set another 'path' in CHANNEL_LAYERS CONFIG"
            )
        if status == FC_ERR_CLOSED:
            raise CorruptSegmentError(f"{text}; set another 'path' in CHANNEL_LAYERS CONFIG")
        raise LayerUnavailable(f"{text}; see 'path' and 'size' ({size} bytes) in CHANNEL_LAYERS CONFIG")

    def __dealloc__(self):
        if self.handle != NULL:
            fc_shm_close(self.handle)

    cdef int begin(self) except -1:
        if self.handle == NULL or self.closing:
            raise SegmentGone(f"{self.path}: closed")
        self.users += 1
        return 0

    cdef int end(self) except -1:
        cdef fc_shm *handle = self.handle
        self.users -= 1
        if self.closing and self.users == 0 and handle != NULL:
            self.handle = NULL
            with nogil:
                fc_shm_close(handle)
        return 0

    cdef int done(self, fc_status status) except -1:
        """End a call: an outcome."""
        self.end()
        return outcome(status, self)

    @property
    def version(self):
        """Of the layout; a segment of another one is refused."""
        return FC_SHM_VERSION

    @property
    def closed(self):
        return self.handle == NULL or self.closing

    def close(self):
        """Give back what this process holds in the segment."""
        if self.handle != NULL and not self.closing:
            self.users += 1
            self.closing = True
            self.end()

    def abandon(self):
        """In a forked child: let go of the parent's handle, touching nothing shared."""
        cdef fc_shm *handle = self.handle
        self.handle = NULL
        if handle != NULL:
            fc_shm_abandon(handle)

    def skip(self, double seconds):
        """Move this handle's clock forward, for tests of expiry."""
        self.begin()
        fc_shm_skip(self.handle, <uint64_t> (seconds * 1e9))
        self.end()

    # ---------------------------------------------------------------- messages

    def send(self, str channel not None, bytes payload not None, uint32_t capacity, uint32_t expiry_ms):
        """Append to an ordinary channel: ``SENT``, ``FULL`` (it holds ``capacity``) or ``NO_ROOM``."""
        return self.post(Address("", channel, capacity), payload, expiry_ms)

    def send_local(
        self, str process not None, str channel not None, bytes payload not None, uint32_t capacity, uint32_t expiry_ms
    ):
        """Append to the inbox of ``process``: also ``GONE``. ``FULL``: the channel is marked, or the inbox is full."""
        return self.post(Address(process, channel, capacity), payload, expiry_ms) if process else GONE

    def take(self, list channels not None, uint32_t start=0):
        """``(channel, payload)`` of the next message of any of ``channels``, or None. Looks at ``start`` first."""
        cdef list taken = self.take_from(channels, start, 1, WORDS * 8)
        if not taken:
            return None
        name, _, _, payload, _ = taken[0]
        return channels[name], payload

    cdef list take_from(self, list channels, uint32_t start, uint32_t most, uint64_t size):
        cdef uint64_t stack[WORDS]
        cdef fc_text few[FEW]
        cdef fc_text *names = few
        cdef uint8_t *buffer = <uint8_t *> stack
        cdef Py_ssize_t index, n = len(channels)
        cdef uint32_t count = 0
        cdef uint64_t used = 0, at = 0
        cdef fc_status status = FC_ERR_RANGE
        cdef fc_taken head
        cdef list result = []
        if n == 0:
            return result
        try:
            if n > FEW:
                names = <fc_text *> malloc(<size_t> n * sizeof(fc_text))
                if names == NULL:
                    raise MemoryError()
            for index in range(n):
                names[index] = text_of(channels[index])
            if size > sizeof(stack):
                buffer = <uint8_t *> malloc(size)
            while True:
                if buffer == NULL:
                    raise MemoryError()
                self.begin()
                with nogil:
                    status = fc_shm_take(
                        self.handle, names, <uint32_t> n, start, most, buffer, size, &used, &count
                    )
                self.end()
                if status != FC_ERR_RANGE:
                    break
                # The first message is longer: it stays, and is asked for again with room for it.
                if buffer != <uint8_t *> stack:
                    free(buffer)
                size = used
                buffer = <uint8_t *> malloc(size)
            if status == FC_NEED_DATA:
                return result
            if status != FC_OK and count == 0:
                raise_for(status, self)
            for index in range(count):
                memcpy(&head, buffer + at, sizeof(head))
                at += sizeof(head)
                target = PyUnicode_DecodeLatin1(<char *> buffer + at, <Py_ssize_t> head.target_length, NULL)
                payload = PyBytes_FromStringAndSize(
                    <char *> buffer + at + head.target_length, <Py_ssize_t> head.length
                )
                result.append((head.name, head.kind, target, payload, head.age_ns / 1e9))
                at += (<uint64_t> head.target_length + head.length + 7) & ~<uint64_t> 7
            return result
        finally:
            if buffer != <uint8_t *> stack:
                free(buffer)
            if names != few:
                free(names)

    cdef bint something_waits(self) noexcept:
        """False: nothing waits in the inbox of this process that was sent before."""
        return self.handle == NULL or self.closing or fc_shm_waits(self.handle) != 0

    # HOT: benchmarks/local.py
    cdef int post(self, Address to, bytes payload, uint32_t expiry_ms) except -1:
        """Append a message: an outcome."""
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(payload)
        cdef uint64_t length = <uint64_t> PyBytes_GET_SIZE(payload)
        cdef fc_status status = FC_ERR_OS
        self.begin()
        errno = EBUSY
        # Giving the interpreter lock away and back costs more than a short message.
        if length <= AT_ONCE:
            status = fc_shm_post(self.handle, &to.to, data, length, expiry_ms, 1)
        if status == FC_ERR_OS and errno == EBUSY:
            with nogil:
                status = fc_shm_post(self.handle, &to.to, data, length, expiry_ms, 0)
        self.end()
        return outcome(status, self)

    # HOT: benchmarks/local.py
    cpdef bytes pop(self, str channel):
        """The payload of the next message of ``channel``, or None."""
        cdef uint64_t stack[WORDS]
        cdef fc_text name = text_of(channel)
        cdef uint32_t count = 0
        cdef uint64_t used = 0
        cdef fc_status status
        cdef fc_taken *head = <fc_taken *> stack
        self.begin()
        status = fc_shm_take_at_once(self.handle, &name, 1, 0, 1, <uint8_t *> stack, sizeof(stack), &used, &count)
        if status == FC_ERR_OS and errno == EBUSY:
            with nogil:
                status = fc_shm_take(self.handle, &name, 1, 0, 1, <uint8_t *> stack, sizeof(stack), &used, &count)
        self.end()
        if status == FC_NEED_DATA:
            return None
        if status == FC_OK:
            return PyBytes_FromStringAndSize(<char *> (head + 1) + head.target_length, <Py_ssize_t> head.length)
        if status != FC_ERR_RANGE:
            raise_for(status, self)
        taken = self.take_from([channel], 0, 1, used)
        return taken[0][3] if taken else None

    # HOT: benchmarks/local.py
    cdef uint64_t fill(
        self, str inbox, uint32_t most, uint8_t *buffer, uint64_t size, uint32_t *count
    ) except? 0xFFFFFFFFFFFFFFFF:
        """Up to ``most`` entries of an inbox into ``buffer``, as fc_shm_take does; how many bytes of it they take.

        More than ``size``: the first one needs so many, and stays.
        """
        cdef fc_text name = text_of(inbox)
        cdef uint32_t some = 1, wanted
        cdef uint64_t used = 0, total = 0
        cdef fc_status status = FC_OK
        count[0] = 0
        self.begin()
        with nogil:
            # A few at a time, so that a sender waits for none of the others.
            while count[0] < most:
                wanted = min(most - count[0], <uint32_t> FEW)
                status = fc_shm_take(
                    self.handle, &name, 1, 0, wanted, buffer + total, size - total, &used, &some
                )
                if status != FC_OK:
                    break
                total += used
                count[0] += some
                if some < wanted:
                    break
        self.end()
        if count[0] == 0 and status != FC_NEED_DATA:
            if status != FC_ERR_RANGE:
                raise_for(status, self)
            return used
        return total

    def pending(self, str channel not None):
        """``(unexpired messages of a channel, seconds that the oldest has waited)``."""
        cdef fc_text name = text_of(channel)
        cdef uint32_t count = 0
        cdef uint64_t age_ns = 0
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_pending(self.handle, name, &count, &age_ns)
        self.done(status)
        return count, age_ns / 1e9

    def nudge(self, str channel not None):
        """Wake a sleeper of ``channel`` when a message waits: for a reader that was woken and does not take it."""
        cdef fc_text name = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_nudge(self.handle, name)
        self.done(status)

    def mark(self, str channel not None, bint full):
        """Declare a process-local channel of this process full, or no longer full."""
        cdef fc_text name = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_mark(self.handle, name, full)
        if self.done(status):
            raise_for(status, self)

    # ---------------------------------------------------------------- groups

    def join(self, str group not None):
        """Make this process a member of ``group``: ``SENT`` or ``NO_ROOM``. Raises ``SegmentGone``."""
        cdef fc_text name = text_of(group)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_join(self.handle, name)
        self.end()
        if status == FC_ERR_CLOSED:
            raise_for(status, self)
        return outcome(status, self)

    def leave(self, str group not None, uint64_t seen):
        """End that, unless another process added a channel after the add numbered ``seen``."""
        cdef fc_text name = text_of(group)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_leave(self.handle, name, seen)
        self.done(status)

    def add(self, str group not None, str process not None, str channel not None, uint32_t capacity):
        """Make ``process`` a member and send it ``ADD`` for its ``channel``, in one step."""
        cdef fc_text name = text_of(group), owner = text_of(process), member = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_add(self.handle, name, owner, member, capacity)
        return self.done(status)

    def discard(self, str group not None, str process not None, str channel not None, uint32_t capacity):
        """Send ``process`` ``DISCARD`` for its ``channel``, when it is a member."""
        cdef fc_text name = text_of(group), owner = text_of(process), member = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_discard(self.handle, name, owner, member, capacity)
        return self.done(status)

    def add_channel(self, str group not None, str channel not None, uint32_t capacity):
        """Make an ordinary channel a member, or refresh it. ``capacity`` bounds what group messages may fill."""
        cdef fc_text name = text_of(group), member = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_add_channel(self.handle, name, member, capacity)
        return self.done(status)

    def discard_channel(self, str group not None, str channel not None):
        """End that."""
        cdef fc_text name = text_of(group), member = text_of(channel)
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_discard_channel(self.handle, name, member)
        self.done(status)

    def publish(
        self, tuple groups not None, bytes payload not None, uint32_t inbox_capacity, uint32_t expiry_ms,
        double group_expiry, tuple excluded=None, uint64_t head=0,
    ):
        """Send to every process and ordinary channel in ``groups``, once: ``(members, those without room)``.

        With ``excluded``, ordinary channels that get nothing, it comes as ``AIMED``, and ordinary channels get what
        follows the first ``head`` bytes.
        """
        cdef list texts = [*groups, *(excluded or ())]
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(payload)
        cdef uint64_t length = <uint64_t> PyBytes_GET_SIZE(payload), lifetime = <uint64_t> min(group_expiry * 1e9, 9e18)
        cdef uint32_t members = 0, full = 0, n = <uint32_t> len(groups), index
        cdef fc_aim aim
        cdef fc_aim *how
        cdef fc_status status
        cdef fc_text *names = <fc_text *> malloc(<size_t> (len(texts) + 1) * sizeof(fc_text))
        if names == NULL:
            raise MemoryError()
        try:
            for index in range(<uint32_t> len(texts)):
                names[index] = text_of(texts[index])
            aim.head, aim.excluded, aim.count = min(head, length), names + n, <uint32_t> len(texts) - n
            self.begin()
            how = NULL if excluded is None else &aim
            with nogil:
                status = fc_shm_publish(
                    self.handle, names, n, how, data, length, inbox_capacity, expiry_ms, lifetime, &members, &full
                )
            self.end()
        finally:
            free(names)
        outcome(status, self)
        return members, full

    # ---------------------------------------------------------------- the whole

    def wipe(self):
        """Remove every message and membership, and send every other process ``WIPED``."""
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_wipe(self.handle)
        self.done(status)

    def keep(self):
        """Housekeeping, for every process to call 0.4 seconds after another one ended. Raises ``SegmentGone``."""
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_keep(self.handle)
        if self.done(status):
            raise_for(status, self)

    def neighbours(self):
        """``(pid, its start time)`` of every other process of the segment; None when they are more than 64."""
        cdef fc_neighbour others[LINES]
        cdef uint32_t count = 0, index
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_neighbours(self.handle, others, LINES, &count)
        if self.done(status) or count > LINES:
            return None
        return {(others[index].pid, others[index].start) for index in range(count)}

    def counts(self):
        """What the segment holds, and what went through it since it was made."""
        cdef fc_shm_counts counts
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_shm_count(self.handle, &counts)
        self.done(status)
        return counts

    def listing(self, bint groups):
        """Channels, or groups: ``(name, messages or members, age of the oldest message, pid of an inbox or 0)`` each."""
        cdef fc_listed lines[LINES]
        cdef uint32_t cursor = 0, count = 1, index
        cdef fc_status status
        cdef list result = []
        while count:
            self.begin()
            with nogil:
                status = fc_shm_list(self.handle, groups, &cursor, lines, LINES, &count)
            self.done(status)
            for index in range(count):
                name = PyUnicode_DecodeLatin1(lines[index].name, <Py_ssize_t> lines[index].length, NULL)
                result.append((name, lines[index].count, lines[index].age_ns / 1e9, lines[index].pid))
        return result

    def check(self):
        """None when every invariant of the segment holds, else which one does not."""
        cdef const char *wrong
        self.begin()
        with nogil:
            wrong = fc_shm_check(self.handle)
        self.end()
        return None if wrong == NULL else (<bytes> wrong).decode()


cdef class Waiter:
    """A place to sleep, for one event loop or one thread at a time. Raises ``SegmentGone`` once its segment closed."""

    def __cinit__(self, Segment segment not None):
        cdef fc_status status
        # Kept: the C handle points into the segment's.
        self.segment = segment
        segment.begin()
        with nogil:
            status = fc_waiter_open(&self.handle, segment.handle)
        segment.end()
        if status == FC_ERR_NOMEM:
            raise LayerUnavailable(f"{segment.path}: too many threads and event loops wait in this segment")
        if status != FC_OK:
            raise_for(status, segment)

    def __dealloc__(self):
        if self.handle != NULL:
            fc_waiter_close(self.handle, self.segment.handle == NULL)

    def close(self):
        """Give the place back; a wake-up that was not used goes to another sleeper."""
        cdef fc_waiter_handle *handle = self.handle
        cdef bint abandon = self.segment.handle == NULL or self.segment.closing
        self.handle = NULL
        if handle != NULL and abandon:
            fc_waiter_close(handle, 1)
        elif handle != NULL:
            self.segment.begin()
            with nogil:
                fc_waiter_close(handle, 0)
            self.segment.end()

    cdef int begin(self) except -1:
        if self.handle == NULL:
            raise SegmentGone(f"{self.segment.path}: this waiter is closed")
        return self.segment.begin()

    def fileno(self):
        """Readable when something woke it; call :meth:`acknowledge` then."""
        if self.handle == NULL:
            raise SegmentGone(f"{self.segment.path}: this waiter is closed")
        return fc_waiter_fd(self.handle)

    def acknowledge(self):
        """Take the wake-up out of the descriptor."""
        fc_wake_drain(self.fileno())

    def arm(self, list channels not None):
        """Say what is waited for: -1 when the next push to one of them will wake, else which of them has something."""
        cdef fc_text few[FEW]
        cdef fc_text *names = few
        cdef Py_ssize_t index, n = len(channels)
        cdef uint32_t ready = 0
        cdef fc_status status
        try:
            if n > FEW:
                names = <fc_text *> malloc(<size_t> n * sizeof(fc_text))
                if names == NULL:
                    raise MemoryError()
            for index in range(n):
                names[index] = text_of(channels[index])
            self.begin()
            with nogil:
                status = fc_waiter_arm(self.handle, names, <uint32_t> n, &ready)
            return <int> ready if self.done(status) else -1
        finally:
            if names != few:
                free(names)

    cdef bint done(self, fc_status status) except -1:
        self.segment.end()
        if status != FC_OK and status != FC_NEED_DATA:
            raise_for(status, self.segment)
        return status == FC_OK

    def rest(self):
        """Whether no look is needed until something comes through the descriptor, or one of the ``neighbours`` ends.

        Not when anything was sent in the segment since this was last asked. It rests on when it is armed again.
        """
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_waiter_rest(self.handle)
        return self.done(status)

    def asleep(self):
        """Whether the next push still wakes it: what came through the descriptor only ended its rest."""
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_waiter_sleeps(self.handle)
        return self.done(status)

    def disarm(self):
        """Wait for nothing any more; a wake-up that was not used goes to another sleeper."""
        cdef fc_status status
        self.begin()
        with nogil:
            status = fc_waiter_disarm(self.handle)
        self.done(status)

    def wait(self, double seconds, int also=-1):
        """Sleep without the interpreter lock, until this is readable or the descriptor ``also``.

        False: it is ``also``, or the time is over, or a signal was handled.
        """
        cdef int fd = self.fileno(), reason = 0
        cdef int ms = <int> min(max(seconds, 0.0) * 1000 + 0.999, 2e9)
        cdef fc_status status
        with nogil:
            status = fc_wake_wait(fd, also, ms)
            reason = errno
        if status == FC_ERR_OS:
            if reason != EINTR:
                raise OSError(reason, os.strerror(reason))
            PyErr_CheckSignals()
        return status == FC_OK
