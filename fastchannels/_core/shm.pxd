from fastchannels._core.c_fc cimport fc_shm, fc_waiter_handle
from libc.stdint cimport uint32_t, uint64_t


cdef class Segment:
    cdef fc_shm *handle
    cdef readonly str path
    # Calls under way without the interpreter lock; close() leaves the handle to the last of them.
    cdef int users
    cdef bint closing

    cdef int begin(self) except -1
    cdef int end(self) except -1
    cdef list take_from(self, list channels, uint32_t start, uint32_t most, uint64_t size)


cdef class Waiter:
    cdef fc_waiter_handle *handle
    cdef Segment segment

    cdef int begin(self) except -1
