cdef enum:
    PENDING, DONE, FAILED, CANCELLED


cpdef object running_loop()
cpdef object current_loop()


cdef class Waiter:
    """``_outcome`` is the result, the exception, or the message of the cancellation."""
    cdef readonly object _loop
    cdef object _outcome, _callback, _context
    cdef list _more        # further (callback, context); None until there are two
    cdef int state
    cdef public bint _asyncio_future_blocking

    cdef int settle(self, int state, object outcome) except -1
    cdef int run_callbacks(self) except -1


cdef class ThreadWaiter:
    cdef object _lock
    cdef bint _woken
    cdef void wake(self) noexcept


cdef class Turn:
    cdef object loop
    cdef list waiters
