from fastchannels._core.codec cimport Codec
from fastchannels._core.wake cimport Waiter


cdef class Route:
    cdef readonly str channel
    cdef readonly Py_ssize_t limit
    cdef readonly bint joined, own
    cdef readonly int shard
    cdef str key
    cdef bytes start
    cdef tuple _command
    # The arguments that begin each call, and how many; None until the first call.
    cdef bytes opening
    cdef Py_ssize_t arguments

    cdef int open(self) except -1


cdef class Batch:
    cdef Route route             # of the first message
    cdef list waiters
    cdef dict names              # how many messages by channel, here and in those before it, as far as a route asks
    cdef char *data              # the messages as the call takes them, owned
    cdef Py_ssize_t size, room
    cdef Py_ssize_t *ends        # where each of them ends in data, owned
    cdef Py_ssize_t count, slots

    cdef int append(self, bytes start, bytes payload, bint joined) except -1
    cdef int leave_out_cancelled(self) except -1


cdef class Outbox:
    cdef readonly object loop
    cdef readonly dict batches
    cdef object _begin, _full
    cdef Py_ssize_t _most, _most_bytes

    cpdef Waiter push(self, Route route, bytes payload)


cdef class Sender:
    cdef Codec _codec
    cdef readonly dict routes, outboxes

    cpdef Waiter push(self, channel, message)
