"""The sends of one tick of an event loop, gathered for one script call to each list, as RESP."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from fastchannels._core.codec cimport Codec
from fastchannels._core.wake cimport CANCELLED, DONE, FAILED, PENDING, Waiter, current_loop

cdef enum:
    SIZE = 4
    COUNTED = 512  # messages of one channel are counted for a limit below this


cdef bytes argument(value):
    """One argument of a command."""
    cdef bytes data
    if type(value) is bytes:
        data = value
    else:
        data = str(value).encode("utf-8")
    return b"$%d\r\n%b\r\n" % (len(data), data)


cdef class Route:
    """How messages to one channel are sent: a script that is called with ``keys`` and ``head``, and then the messages.

    ``start`` goes before each payload. A message is an argument of its own; ``joined``: they are one argument after
    their number, each behind its size (4 bytes, big endian). One call takes ``limit`` messages for ``channel`` at most.
    """

    def __init__(self, str channel, str digest, tuple keys, tuple head, bytes start=b"", *, Py_ssize_t limit,
                 bint joined=False, int shard=0, bint own=False):
        self.channel = channel
        self.key = keys[0]
        self.start = start
        self.limit = limit
        self.joined = joined
        self.shard = shard
        self.own = own
        self._command = (digest, keys, head)

    cdef int open(self) except -1:
        """Find the bytes that begin each call."""
        digest, keys, head = self._command
        arguments = ["EVALSHA", digest, len(keys), *keys, *head]
        self.opening = b"".join([argument(each) for each in arguments])
        self.arguments = len(arguments)
        return 0


cdef class Batch:
    """The messages of one script call, and who waits for what becomes of each."""

    def __dealloc__(self):
        free(self.data)
        free(self.ends)

    def __len__(self):
        return len(self.waiters)

    cdef int append(self, bytes start, bytes payload, bint joined) except -1:
        cdef Py_ssize_t before = PyBytes_GET_SIZE(start), behind = PyBytes_GET_SIZE(payload), size = before + behind
        cdef Py_ssize_t room
        cdef char *at
        cdef void *grown
        # 24: a size in digits, and two line ends.
        if self.room - self.size < size + 24:
            room = max(2 * self.room, self.size + size + 512)
            grown = realloc(self.data, <size_t> room)
            if grown == NULL:
                raise MemoryError()
            self.data = <char *> grown
            self.room = room
        if self.count == self.slots:
            room = max(2 * self.slots, 16)
            grown = realloc(self.ends, <size_t> room * sizeof(Py_ssize_t))
            if grown == NULL:
                raise MemoryError()
            self.ends = <Py_ssize_t *> grown
            self.slots = room
        at = self.data + self.size
        if joined:
            at[0], at[1], at[2], at[3] = <char> (size >> 24), <char> (size >> 16), <char> (size >> 8), <char> size
            at += SIZE
        else:
            at[0] = c"$"
            at = digits(at + 1, size)
            at[0], at[1] = c"\r", c"\n"
            at += 2
        memcpy(at, PyBytes_AS_STRING(start), <size_t> before)
        memcpy(at + before, PyBytes_AS_STRING(payload), <size_t> behind)
        at += size
        if not joined:
            at[0], at[1] = c"\r", c"\n"
            at += 2
        self.size = at - self.data
        self.ends[self.count] = self.size
        self.count += 1
        return 0

    def request(self):
        """The script call, or None when every sender was cancelled."""
        cdef Route route = self.route
        cdef bytes messages
        self.leave_out_cancelled()
        if self.count == 0:
            return None
        if route.opening is None:
            route.open()
        messages = PyBytes_FromStringAndSize(self.data, self.size)
        free(self.data)
        self.data = NULL
        self.size = self.room = 0
        if not route.joined:
            return b"*%d\r\n%b%b" % (route.arguments + self.count, route.opening, messages)
        count = b"%d" % self.count
        return b"*%d\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            route.arguments + 2, route.opening, len(count), count, len(messages), messages
        )

    cdef int leave_out_cancelled(self) except -1:
        cdef Py_ssize_t index, begin = 0, end, size = 0, kept = 0
        cdef Waiter waiter
        cdef list waiters
        for waiter in self.waiters:
            if waiter.state == CANCELLED:
                break
        else:
            return 0
        waiters = []
        for index in range(self.count):
            end = self.ends[index]
            waiter = self.waiters[index]
            if waiter.state != CANCELLED:
                memmove(self.data + size, self.data + begin, <size_t> (end - begin))
                size += end - begin
                self.ends[kept] = size
                kept += 1
                waiters.append(waiter)
            begin = end
        self.size, self.count, self.waiters = size, kept, waiters
        return 0

    def settle(self, bytes codes not None):
        """Give each sender that was not cancelled since its byte of ``codes``, one for each message of the request."""
        cdef Py_ssize_t index
        cdef Waiter waiter
        if PyBytes_GET_SIZE(codes) != self.count:
            raise ValueError(f"{len(codes)} answers for {self.count} messages")
        for index in range(self.count):
            waiter = self.waiters[index]
            if waiter.state == PENDING:
                waiter.settle(DONE, <unsigned char> codes[index])

    def fail(self, error):
        """End every wait with ``error``."""
        cdef Waiter waiter
        for waiter in self.waiters:
            if waiter.state == PENDING:
                waiter.settle(FAILED, error)


cdef char *digits(char *at, Py_ssize_t number) noexcept:
    cdef char reversed[20]
    cdef int length = 0
    while True:
        reversed[length] = <char> (c"0" + number % 10)
        length += 1
        number //= 10
        if number == 0:
            break
    while length:
        length -= 1
        at[0] = reversed[length]
        at += 1
    return at


cdef Batch new_batch(Route route, dict names):
    cdef Batch batch = Batch.__new__(Batch)
    batch.route = route
    batch.names = names
    batch.waiters = []
    return batch


cdef class Outbox:
    """The batches of one link that nobody has written yet, by list; the sends to a list go in the order given.

    ``begin()`` is called when there is a first batch, ``full(batch)`` with one that holds ``most`` messages or
    ``most_bytes`` of them; another takes its place.
    """

    def __init__(self, loop, begin, full, *, Py_ssize_t most, Py_ssize_t most_bytes):
        self.loop = loop
        self.batches = {}
        self._begin = begin
        self._full = full
        self._most = most
        self._most_bytes = most_bytes

    # HOT: benchmarks/layers.py
    cpdef Waiter push(self, Route route, bytes payload):
        """Have ``payload`` sent; the waiter gives the digit that the script returns for it.

        None: since the list was begun it was given as many messages for this channel as the route allows.
        """
        cdef Waiter waiter
        cdef Batch batch = self.batches.get(route.key)
        if batch is None:
            batch = new_batch(route, None)
            if not self.batches:
                self._begin()
            self.batches[route.key] = batch
        if route.limit < COUNTED:
            if batch.names is None:
                batch.names = {}
            count = batch.names.get(route.channel, 0)
            if count >= route.limit:
                return None
            batch.names[route.channel] = count + 1
        batch.append(route.start, payload, route.joined)
        waiter = Waiter.__new__(Waiter)
        waiter._loop = self.loop
        batch.waiters.append(waiter)
        if batch.count >= self._most or batch.size >= self._most_bytes:
            self.batches[route.key] = new_batch(batch.route, batch.names)
            self._full(batch)
        return waiter

    def clear(self):
        """Take the batches out, in the order in which they were begun."""
        cdef dict batches = self.batches
        self.batches = {}
        return list(batches.values())


cdef class Sender:
    """The send of a message whose way is known, without a step of Python.

    ``routes`` are those of the names that were checked, ``outboxes`` those of each event loop by shard.
    """

    def __init__(self, Codec codec):
        self._codec = codec
        self.routes = {}
        self.outboxes = {}

    # HOT: benchmarks/layers.py
    cpdef Waiter push(self, channel, message):
        """:meth:`Outbox.push` of the encoded ``message``; None when there is more to do than this."""
        cdef Route route = self.routes.get(channel)
        cdef tuple outboxes
        if route is None or route.own:
            return None
        outboxes = self.outboxes.get(current_loop())
        if outboxes is None:
            return None
        return (<Outbox> outboxes[route.shard]).push(route, self._codec.encode(message))
