from libc.stdint cimport uint8_t

from fastchannels._core.wire cimport Wire
from fastchannels._core.ws cimport FrameParser

cdef enum:
    OPEN, CLOSING, FINISHED


cdef class WebSocketConnection(FrameParser):
    cdef list events
    # (code, reason) of the client's close frame, until it is answered and told.
    cdef tuple farewell
    cdef int state
    # Messages are compressed in a window of this many bits; 0: they are not.
    cdef readonly int deflate_bits
    # The client ended the socket, so that a later send is nobody's mistake.
    cdef bint gone
    # The client takes nothing at the moment: only the last of its pings is answered, when it is over.
    cdef public bint mute
    cdef bytes ping
    # What is to be sent, in order: parts, then the first size bytes of out, then the payload last (bytes or str).
    cdef list parts
    cdef char *out
    cdef Py_ssize_t size, room
    cdef object last
    cdef const char *last_data
    cdef Py_ssize_t last_size

    cdef Py_ssize_t receive(self, const uint8_t *data, Py_ssize_t size, Py_ssize_t most) except -1
    cdef bint ending(self) noexcept
    cdef int end(self) except -1
    cdef int finish(self, int code, str reason) except -1
    cdef int put(self, uint8_t first, object owner, const char *data, Py_ssize_t size) except -1
    cdef int put_message(self, int opcode, object owner, const char *data, Py_ssize_t size) except -1
    cdef char *reserve_out(self, Py_ssize_t more) except NULL
    cdef int spill(self) except -1
    cdef int push(self, Wire wire) except -1
    cdef int clear(self) except -1
    cdef int refuse(self) except -1
    cdef int put_control(self, int opcode, bytes data) except -1
