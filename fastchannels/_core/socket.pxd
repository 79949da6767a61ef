from libc.stdint cimport uint8_t

from fastchannels._core.websocket cimport WebSocketConnection
from fastchannels._core.wire cimport Clock, Sink, Wire


cdef class FrameStream(Sink):
    cdef public object connection, request
    cdef Wire wire        # the connection, when it is one; frames skip its transport
    cdef Clock clock
    cdef public WebSocketConnection ws
    cdef public Mailbox mailbox
    cdef public bint accepted, closing, closed
    # The client has ended the socket, and what it sent just before is still being answered.
    cdef public bint ending
    # Frames that a slow client has not room for: a deque, or None.
    cdef public object backlog
    cdef public double heard, pinged
    # In all; and up to how much of each, ``over_rate`` is not called.
    cdef readonly long long messages_in, messages_out, bytes_in
    cdef public long long messages_allowed, bytes_allowed
    # Inside ``take``: what is sent leaves together at its end.
    cdef bint in_turn
    # Reading is held because messages wait; ``rest`` is what was read of the client and not looked at.
    cdef bint behind
    cdef bytes rest

    cdef int consume(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef bint tell(self) except -1
    cdef int more(self) except -1
    cdef int depart(self) except -1
    cdef int flush_out(self) except -1
    cdef int sent(self) except -1
    cdef bint slow(self) except -1
    cdef int post(self, message) except -1


cdef class Mailbox:
    cdef FrameStream stream
    cdef object loop
    cdef object spare    # a future that nobody waits on any more, or None
    cdef list letters
    cdef Py_ssize_t first, weight
    cdef list waiters    # the futures of who waits for a letter; None: nobody

    cdef int put(self, dict letter, Py_ssize_t weight) except -1
    cdef dict take(self)
    cdef int wake(self) except -1
    cdef bint task_runs(self) except -1
    cdef int leave(self, waiter) except -1


cdef class Sender:
    cdef FrameStream stream
