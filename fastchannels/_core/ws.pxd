from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from fastchannels._core.c_fc cimport FC_WS_CONTROL_MAX, fc_ws_parser


cdef class FrameParser:
    cdef fc_ws_parser parser
    # The payload so far of a message that did not arrive whole: a bytes object that only we refer to, so that it may
    # be written and resized, or NULL. The first filled bytes of it are in use.
    cdef PyObject *partial
    cdef Py_ssize_t filled
    # The payload of the current frame goes on in the next feed.
    cdef bint in_payload
    # The payload of a control frame, which may stand between any two fragments.
    cdef uint8_t control[FC_WS_CONTROL_MAX]
    cdef readonly object error

    cdef Py_ssize_t parse(self, const uint8_t *data, Py_ssize_t size, list events, Py_ssize_t most) except -1
    cdef object whole_message(self, const uint8_t *data)
    cdef object inflated_message(self, bint text, const uint8_t *data, Py_ssize_t length)
    cdef object joined_message(self, bint text, bint compressed)
    cdef object control_event(self)
    cdef int reserve(self, Py_ssize_t size) except -1
    cdef Py_ssize_t stop(self, Py_ssize_t size) except -1


# Writes the header of an unmasked frame, shortest form, into up to 10 bytes; its size.
cdef size_t header_into(uint8_t *out, uint8_t first, uint64_t length) noexcept
