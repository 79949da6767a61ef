from fastchannels._core.http1 cimport HttpStream, Shared


cdef class Served:
    cdef public object application, state


cdef class Exchange(HttpStream):
    cdef public Served bridge
    # The task that runs the application; None until it first waits for something.
    cdef public object task
    cdef public Py_ssize_t _buffered
    # The application has not been given the end of the body.
    cdef public bint _more
    cdef public list waiters
    cdef public double timeout
    cdef Shared shared
    cdef list chunks
    cdef bint in_first_step

    cdef int run_as_task(self, loop, bint eager) except -1
    cdef object call(self)
    cdef int ended(self, error) except -1
    cdef object message(self)
    cdef int take(self, message) except -1
