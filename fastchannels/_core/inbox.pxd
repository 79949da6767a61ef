from libc.stdint cimport uint64_t

from fastchannels._core.queue cimport Queue, Receiver, SharedPayload


cdef class Inbox:
    cdef object _capacity_of, _decode, _clock
    cdef bint _native
    cdef readonly double expiry
    cdef public object on_full, on_room
    cdef dict _queues, _pending
    cdef object _closed
    cdef double _purge_at, _purge_every
    cdef uint64_t _received, _delivered, _full, _expired, _shut
    cdef Py_ssize_t _unread

    cpdef object get(self, channel)
    cpdef object take(self, channel)
    cpdef unwait(self, channel, waiter)
    cdef Queue _open(self, object channel, bint reopen)
    cdef int _put(self, object channel, object item, double age, object loop, bint bounded, double now) except -1
    cdef object _take(self, Queue queue, double now)
    cdef int _forget_expired_head(self, Queue queue, double now) except -1
    cdef object _decoded(self, bytes payload)
    cdef object _message(self, object item)
    cdef object _message_of_own(self, object item)
    cdef int _call(self, Queue queue, object message, bint shared) except -1
    cdef bint _goes_ahead(self, Queue queue, object item, object loop) except -1
    cdef bint _give_ahead(self, Queue queue, object item) except -1
    cdef int _drain(self, Queue queue) except -1
    cdef int _schedule(self, Queue queue) except -1
    cdef int _wake(self, Queue queue, object here) except -1
    cdef int _register(self, object channel, object waiter) except -1
    cdef int _release(self, Queue queue, object waiter) except -1
    cdef int _note_room(self, Queue queue) except -1
    cdef int _notify(self, object hook, object channel) except -1
