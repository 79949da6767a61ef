from cpython.object cimport PyObject


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


cdef class Receiver:
    """A receiver that is called from compiled code: for :meth:`Inbox.attach`, or for :meth:`Inbox.attach_ahead`.

    ``shared``: the message is a group's, and its other members get the same object. The receiver of
    :meth:`Inbox.attach` takes every message; one that goes ahead returns False for what it leaves to the readers.
    """
    cdef bint deliver(self, object message, bint shared) except -1


cdef class Queue:
    """What waits for one name. ``entries`` is a ring of ``room`` (a power of two, or 0) slots, owned by the queue."""
    cdef object name
    cdef Py_ssize_t capacity
    cdef entry *entries
    cdef Py_ssize_t room, head, size
    cdef object receiver, loop
    cdef Receiver ahead    # looks at each message before a reader gets it; or None
    cdef dict waiters      # Waiter or ThreadWaiter -> None, in order of arrival; None until the first one
    cdef dict woken        # those that were woken and have not called unwait yet
    cdef bint paused, delivering, scheduled, marked, dead

    cdef int push(self, object item, double deadline) except -1
    cdef object pop(self, double *deadline)
    cdef bint watched(self) noexcept
