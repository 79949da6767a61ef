from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

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

    cdef int parse(self, const uint8_t *data, Py_ssize_t size, list events) except -1
    cdef object whole_message(self, const uint8_t *data)
    cdef object joined_message(self, bint text)
    cdef object control_event(self)
    cdef int reserve(self, Py_ssize_t size) except -1
    cdef int stop(self) except -1
