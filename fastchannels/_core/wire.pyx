"""What every connection does for each read and write: bytes from the transport to who parses them, and answers back."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport INFINITY, floor
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #ifdef _WIN32
    /* Sockets are no file descriptors there: the transport writes. */
    static Py_ssize_t fc_send_now(int fd, const char *head, Py_ssize_t head_size, const char *tail, Py_ssize_t size) {
        return -1;
    }
    #else
    #include <sys/socket.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static Py_ssize_t fc_send_now(int fd, const char *head, Py_ssize_t head_size, const char *tail, Py_ssize_t size) {
        if (!size)
            return send(fd, head, (size_t)head_size, MSG_NOSIGNAL | MSG_DONTWAIT);
        struct iovec parts[2] = {{(void *)head, (size_t)head_size}, {(void *)tail, (size_t)size}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    #endif
    """
    Py_ssize_t fc_send_now(int fd, const char *head, Py_ssize_t head_size, const char *tail, Py_ssize_t size) noexcept


cdef long long NO_SLOT = 1 << 62


cdef class Timed:
    """Something with a deadline. ``expired`` is called once when it has passed; arm again to go on."""

    def __cinit__(self):
        self.deadline = INFINITY
        self._slot = NO_SLOT

    def expired(self, now):
        raise NotImplementedError


cdef class Clock:
    """Deadlines of many :class:`Timed`, in slots of ``resolution`` seconds; a subclass says when they expire.

    Arming later than before stores a number; arming earlier moves the entry. ``now`` is the time of the last tick, for
    those who need not know better.
    """

    def __cinit__(self, *_arguments, **_options):
        self.resolution = 1.0
        self._slots = {}

    def arm(self, Timed timed not None, double deadline):  # HOT: ws accepts
        """Call ``timed.expired`` at the first tick after ``deadline``, in place of any earlier arming."""
        cdef long long slot
        timed.deadline = deadline
        if deadline == INFINITY:
            return
        slot = <long long>floor(deadline / self.resolution) + 1
        if slot < timed._slot:
            self.leave(timed)
            timed._slot = slot
            entries = self._slots.get(slot)
            if entries is None:
                entries = self._slots[slot] = set()
            (<set>entries).add(timed)

    def disarm(self, Timed timed not None):
        """Forget ``timed``."""
        timed.deadline = INFINITY
        self.leave(timed)

    cdef int leave(self, Timed timed) except -1:
        if timed._slot != NO_SLOT:
            entries = self._slots.get(timed._slot)
            if entries is not None:
                (<set>entries).discard(timed)
            timed._slot = NO_SLOT
        return 0


cdef class Sink(Timed):
    """Takes what a connection reads."""

    cdef int take(self, const uint8_t *data, Py_ssize_t size) except -1:
        raise NotImplementedError


cdef class Wire(Timed):
    """A connection's way to its transport.

    Reads go to ``sink`` where one is set, else to ``received``. ``write`` leaves when the loop comes to it, together
    with what else is written until then; ``write_now`` goes to the system at once where nothing waits before it and the
    transport is a plain socket. Both keep the order of all calls.
    """

    def __cinit__(self):
        self.fd = -1
        self.room = NULL

    def read_into(self, view not None):
        """Read into ``view``, a writable memoryview. Each read is consumed before the next, so connections share it."""
        cdef Py_buffer buffer
        PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
        self.room = <const uint8_t *>buffer.buf
        self.view = view
        PyBuffer_Release(&buffer)

    def find_socket(self):
        """Write to the socket of ``transport`` itself from now on, when it is a plain one."""
        self.fd = -1
        if self.transport.get_extra_info("sslcontext") is None:
            plain = self.transport.get_extra_info("socket")
            if plain is not None:
                self.fd = plain.fileno()

    def get_buffer(self, sizehint):
        return self.view

    def buffer_updated(self, Py_ssize_t nbytes):  # HOT: http hello, ws echo
        cdef Sink sink = self.sink  # held: what it takes may be its end
        self.bytes_in += nbytes
        if sink is not None:
            sink.take(self.room, nbytes)
        else:
            self.received(self.view[:nbytes])

    def received(self, data):
        """Bytes that no ``sink`` takes."""
        raise NotImplementedError

    def write(self, data):
        """Write ``data``; nothing happens when the connection is gone."""
        if not self.closed:
            self.bytes_out += len(data)
            self.handed = True
            self.transport.write(data)

    def write_now(self, bytes data not None):
        """Write ``data`` before this call returns, as far as the client takes it."""
        self.push(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL, 0)

    # HOT: ws echo. The head and the tail, which may be empty, in one call of the system.
    cdef int push(
        self, const char *head, Py_ssize_t head_size, const char *tail, Py_ssize_t tail_size
    ) except -1:
        cdef Py_ssize_t sent = 0, left
        cdef bytes rest
        cdef char *into
        if self.closed:
            return 0
        self.bytes_out += head_size + tail_size
        if self.fd >= 0 and (not self.handed or self.transport.get_write_buffer_size() == 0):
            self.handed = False
            sent = fc_send_now(self.fd, head, head_size, tail, tail_size)
            if sent == head_size + tail_size:
                return 0
            if sent < 0:  # no room, or an error: the transport meets it again and ends the connection
                sent = 0
        left = head_size + tail_size - sent
        rest = PyBytes_FromStringAndSize(NULL, left)
        into = PyBytes_AS_STRING(rest)
        if sent < head_size:
            memcpy(into, head + sent, head_size - sent)
            into += head_size - sent
            sent = head_size
        if tail_size:
            memcpy(into, tail + (sent - head_size), tail_size - (sent - head_size))
        self.handed = True
        self.transport.write(rest)
        return 0
