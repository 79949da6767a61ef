from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef struct entry:
    double deadline
    PyObject *item  # a reference of ours to bytes or to a SharedPayload


cdef class SharedPayload:
    """One group payload that waits on many names: decoded once for all receivers, when the first of them takes it.

    Readers get a dict of their own each: a copy of ``pattern`` when no value in it can be changed.
    """
    cdef bytes payload
    cdef object message
    cdef dict pattern
    cdef bint decoded, read, nested


cdef class Queue:
    """What waits for one name. ``entries`` is a ring of ``room`` (a power of two, or 0) slots, owned by the queue."""
    cdef object name
    cdef Py_ssize_t capacity
    cdef entry *entries
    cdef Py_ssize_t room, head, size
    cdef object receiver, loop
    cdef dict waiters      # Waiter or ThreadWaiter -> None, in order of arrival; None until the first one
    cdef dict woken        # those that were woken and have not called unwait yet
    cdef bint paused, delivering, scheduled, marked, dead

    cdef int push(self, object item, double deadline) except -1
    cdef object pop(self, double *deadline)
    cdef bint watched(self) noexcept


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
    cdef int _call(self, Queue queue, object message) except -1
    cdef int _drain(self, Queue queue) except -1
    cdef int _schedule(self, Queue queue) except -1
    cdef int _wake(self, Queue queue, object here) except -1
    cdef int _register(self, object channel, object waiter) except -1
    cdef int _release(self, Queue queue, object waiter) except -1
    cdef int _note_room(self, Queue queue) except -1
    cdef int _notify(self, object hook, object channel) except -1
