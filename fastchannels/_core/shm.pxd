from fastchannels._core.c_fc cimport fc_address, fc_shm, fc_status, fc_waiter_handle
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class Address:
    """Where the messages of one channel go. Made by :meth:`Segment.address`; good for any segment."""
    cdef fc_address to


cdef class Segment:
    cdef fc_shm *handle
    cdef readonly str path
    # Calls under way without the interpreter lock; close() leaves the handle to the last of them.
    cdef int users
    cdef bint closing

    cdef int begin(self) except -1
    cdef int end(self) except -1
    cdef int done(self, fc_status status) except -1
    cdef list take_from(self, list channels, uint32_t start, uint32_t most, uint64_t size)
    cdef bint something_waits(self) noexcept
    cdef int post(self, Address to, bytes payload, uint32_t expiry_ms) except -1
    cpdef bytes pop(self, str channel)
    cdef uint64_t fill(
        self, str inbox, uint32_t most, uint8_t *buffer, uint64_t size, uint32_t *count) except? 0xFFFFFFFFFFFFFFFF


cdef class Waiter:
    cdef fc_waiter_handle *handle
    cdef Segment segment

    cdef int begin(self) except -1
    cdef bint done(self, fc_status status) except -1
