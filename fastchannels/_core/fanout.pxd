from fastchannels._core.queue cimport Receiver
from fastchannels._core.socket cimport FrameStream


cdef class Fanout:
    # Of the message that is being handed out: what its frames carry, str or bytes, or None when it is more than that.
    cdef object message, payload
    # By the bits of compression that sockets agreed on.
    cdef dict frames
    # Counted up when the loop comes to its next turn, which was asked for when ``turning``.
    cdef long long turn
    cdef bint turning
    # Sockets that got a message before in this turn: what follows leaves together.
    cdef list gathering
    cdef bint typed

    cdef int take_up(self, message) except -1
    cdef object payload_of(self, message)
    cdef bytes frame(self, object payload, int deflate)


cdef class Member(Receiver):
    cdef FrameStream stream
    cdef Fanout fanout
    # Called with what is more than a payload; None: that is left to the readers.
    cdef object otherwise
    cdef long long turn

    cdef bint leave(self, object message) except -1
    cdef int hand_out(self, bytes frame) except -1
