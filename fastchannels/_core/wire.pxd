from libc.stdint cimport uint8_t


cdef class Timed:
    cdef public double deadline
    cdef public long long _slot


cdef class Clock:
    cdef public double now, resolution
    cdef public dict _slots

    cdef int leave(self, Timed timed) except -1


cdef class Sink(Timed):
    cdef int take(self, const uint8_t *data, Py_ssize_t size) except -1


cdef class Wire(Timed):
    cdef public object transport
    # Gone: nothing is written any more.
    cdef public bint closed
    # The transport holds more than it should; it says when it has room.
    cdef public bint write_paused
    # The file descriptor of a plain socket, or -1: then everything goes through the transport.
    cdef public int fd
    # What was read and written, in all.
    cdef readonly long long bytes_in, bytes_out
    # The transport was given something that it may not have sent yet.
    cdef bint handed
    # Takes what is read, in place of ``received``.
    cdef public Sink sink
    # Where reads go. The view keeps the memory alive and in place.
    cdef object view
    cdef const uint8_t *room

    cdef int push(
        self, const char *head, Py_ssize_t head_size, const char *tail, Py_ssize_t tail_size
    ) except -1
