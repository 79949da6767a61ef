"""A group's message on its way to the sockets that are its members: framed once, then written to each."""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact

from fastchannels._core.queue cimport Receiver
from fastchannels._core.socket cimport FrameStream
from fastchannels._core.wake cimport current_loop
from fastchannels._core.websocket cimport OPEN, WebSocketConnection
from fastchannels._core.wire cimport Wire

from fastchannels._core.websocket import message_frame

cdef object logger = logging.getLogger("fastchannels.server")

# Bytes that are copied together so that one call of the system takes them.
cdef Py_ssize_t TOGETHER = 64 * 1024


cdef class Fanout:
    """What the sockets of one loop share of a group's message: its frames, one for each way of compressing it.

    The members of a group get one and the same dict, which nobody changes. A ready message is ``{"text": str}`` or
    ``{"bytes": bytes}``; with ``typed`` it has ``"type": "websocket.send"`` beside that. What a message left here is
    let go of with the turn of the loop.
    """

    def __cinit__(self, bint typed=False):
        self.typed = typed
        self.frames = {}
        self.gathering = []

    def frame_of(self, message not None, payload not None, int deflate):
        """The frame of ``payload``, which is that of ``message``. Raises as ``message_frame``."""
        if message is not self.message:
            self.take_up(message)
        return self.frame(payload, deflate)

    cdef int take_up(self, message) except -1:
        self.frames.clear()
        self.payload = self.payload_of(message)
        self.message = message
        if not self.turning:
            current_loop().call_soon(self.end_turn)
            self.turning = True
        return 0

    cdef object payload_of(self, message):
        cdef Py_ssize_t rest = len(message)
        if self.typed:
            if message.get("type") != "websocket.send":
                return None
            rest -= 1
        text, data = message.get("text"), message.get("bytes")
        if rest != ("text" in message) + ("bytes" in message):
            return None
        if PyUnicode_CheckExact(text) and data is None:
            return text
        return data if PyBytes_CheckExact(data) and text is None else None

    cdef bytes frame(self, object payload, int deflate):
        frame = self.frames.get(deflate)
        if frame is None:
            frame = self.frames[deflate] = message_frame(payload, deflate)
        return <bytes> frame

    def end_turn(self):
        """The loop has come round: what was gathered for sockets leaves."""
        cdef list gathering = self.gathering
        self.turn += 1
        self.turning = False
        self.message = self.payload = None
        self.frames.clear()
        self.gathering = []
        for stream in gathering:
            try:
                release(stream)
            except Exception:
                logger.exception("group messages could not be written to a socket")


cdef class Member(Receiver):
    """The receiver of a socket's channel.

    Ready messages of groups go out from here; ``otherwise`` is called with each other one. Without ``otherwise`` ready
    messages to the socket alone go out from here too, and every other one, or one to a socket that is not open, is left
    to the readers of the channel.

    The first message of a turn of the loop is written at once, what follows in it together at its end. Behind all that
    was sent to the socket before; with a slow client it waits as other messages do.
    """

    def __cinit__(self, FrameStream stream not None, Fanout fanout not None, otherwise=None):
        self.stream = stream
        self.fanout = fanout
        self.otherwise = otherwise
        self.turn = -1

    cdef bint deliver(self, object message, bint shared) except -1:  # HOT: broadcast, "Room of 1,000 sockets"
        cdef Fanout fanout = self.fanout
        cdef FrameStream stream = self.stream
        cdef WebSocketConnection ws = stream.ws
        if ws is None or ws.state != OPEN or stream.closing or stream.closed:
            return self.leave(message)
        if not shared:
            payload = None if self.otherwise is not None else fanout.payload_of(message)
            if payload is None:
                return self.leave(message)
            if PyUnicode_CheckExact(payload):
                stream.send_text(payload)
            else:
                stream.send_binary(payload)
            return True
        if message is not fanout.message:
            fanout.take_up(message)
        if fanout.payload is None:
            return self.leave(message)
        self.hand_out(fanout.frame(fanout.payload, ws.deflate_bits))
        return True

    cdef bint leave(self, object message) except -1:
        if self.otherwise is None:
            return False
        self.otherwise(message)
        return True

    cdef int hand_out(self, bytes frame) except -1:
        cdef FrameStream stream = self.stream
        cdef WebSocketConnection ws = stream.ws
        cdef Wire wire = stream.wire
        cdef bint waiting = ws.parts is not None or ws.size or ws.last is not None
        if wire is None or wire.write_paused or stream.backlog is not None or stream.in_turn:
            stream.send_frame(frame)
            return 0
        if wire.fd < 0 and not waiting:
            wire.write(frame)
        elif self.turn != self.fanout.turn and not waiting:
            self.turn = self.fanout.turn
            wire.push(PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), NULL, 0)
        else:
            if ws.parts is None:
                self.fanout.gathering.append(stream)
            ws.spill()
            ws.parts.append(frame)
        stream.messages_out += 1
        return 0


cdef int release(FrameStream stream) except -1:
    """Write what was gathered for ``stream``; what goes out of it otherwise took that along."""
    cdef WebSocketConnection ws = stream.ws
    cdef list parts
    cdef Py_ssize_t size = 0
    if ws.parts is None or stream.in_turn or stream.closed:
        return 0
    parts = ws.data_to_send()
    for part in parts:
        size += PyBytes_GET_SIZE(part)
    if size <= TOGETHER:
        parts = [b"".join(parts)]
    for part in parts:
        if stream.closing:
            break
        if stream.slow():
            ws.parts = [part]
            stream.keep_back(True)
        else:
            stream.wire.write_now(part)
    return 0
