"""An open WebSocket without a transport: messages, pings and the closing handshake, over the frames of ``ws``."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from fastchannels._core.deflate cimport deflate_into
from fastchannels._core.wire cimport Wire
from fastchannels._core.ws cimport FrameParser, header_into

from fastchannels._core.ws import close_code_valid
from fastchannels.exceptions import ClientDisconnected, UsageError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    FIN = 0x80
    COMPRESSED = 0x40
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    CONTROL_MAX = 125
    HEADER_MAX = 10
    # From here on a payload is written beside its header instead of being copied behind it.
    COPY_LIMIT = 16 * 1024
    SPARE_ROOM = 64 * 1024
    # Smaller messages are sent as they are: their header and packet outweigh what compression saves.
    DEFLATE_FROM = 128

# One buffer for what is sent serves all sockets: each gives it back when its turn is over.
cdef char *spare = NULL


cdef class WebSocketConnection(FrameParser):
    """An open WebSocket: messages and the closing handshake (RFC 6455 sections 5 to 7), without I/O.

    ``receive_data`` takes what came, ``events_received`` gives what it meant, the ``send_`` methods say what to answer,
    and ``data_to_send`` gives the bytes to write.

    1. Pings are answered as they come, and told as events, as pongs are.
    2. ``CLOSE`` is told once and is the last event. Its code is the peer's, 1005 when it sent none, 1006 when the
       transport ended first, or the code of the fault (1002, 1007, 1009) when the peer broke the protocol.
    3. A peer's close is answered with its own code, a fault with a close frame that names it. Then ``finished`` is
       true: write ``data_to_send`` and end the transport.
    4. After :meth:`send_close` the peer's messages are still told, until its close comes; only then is it ``finished``.
       The caller bounds that wait.

    ``max_message_size`` and ``max_frame_size`` are bytes, 0 for no limit. With ``deflate``, 9 to 15, messages come and
    go compressed (RFC 7692), the latter from a window of so many bits.
    """

    def __cinit__(self, *_arguments, deflate=0, **_options):
        self.deflate_bits = deflate
        self.events = []
        self.state = OPEN
        self.out = NULL

    def __dealloc__(self):
        if self.out != NULL:
            PyMem_Free(self.out)

    @property
    def open(self):
        """Neither side has begun to close: the ``send_`` methods work."""
        return self.state == OPEN

    @property
    def finished(self):
        """Nothing more will come or go: write :meth:`data_to_send`, then end the transport."""
        return self.state == FINISHED

    # What comes in.

    def receive_data(self, data):  # HOT: benchmarks/bench_ws.py
        """Take bytes of the transport, whatever the peer may send; nothing refers to ``data`` afterwards."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.receive(<const uint8_t *>view.buf, view.len, PY_SSIZE_T_MAX)
        finally:
            PyBuffer_Release(&view)
        if self.ending():
            self.end()

    # HOT: ws echo. Stops after ``most`` messages; returns how many bytes were used. The end that the peer asks for, by
    # a close frame or a fault, waits for ``end``, so that what came before it can be answered.
    cdef Py_ssize_t receive(self, const uint8_t *data, Py_ssize_t size, Py_ssize_t most) except -1:
        cdef Py_ssize_t used, index, first = len(self.events)
        cdef list events = self.events
        cdef bytes body
        if self.state == FINISHED or self.ending():
            return size
        used = self.parse(data, size, events, first + most if most < PY_SSIZE_T_MAX else most)
        for index in range(first, len(events)):
            event = <tuple>events[index]
            if <object>event[0] == PING:
                body = event[1]
                if self.mute:  # RFC 6455 section 5.5.3
                    self.ping = body
                elif self.state == OPEN:
                    self.put(FIN | PONG, body, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
            elif <object>event[0] == CLOSE:
                self.farewell = event[1]
                del events[index:]
                return size
        return used

    cdef bint ending(self) noexcept:
        return self.farewell is not None or (self.error is not None and self.state != FINISHED)

    cdef int end(self) except -1:
        # Answer the close frame or the fault, and tell it.
        cdef bytes body
        cdef int code
        if self.farewell is not None:
            told, reason = self.farewell
            self.farewell = None
            code = 1005 if told is None else told
            body = b"" if told is None else code.to_bytes(2, "big")
        else:
            code, reason = self.error.code, self.error.reason
            body = close_body(code, reason)
        if self.state == OPEN:
            self.put(FIN | CLOSE, body, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        self.finish(code, reason)
        return 0

    cdef int finish(self, int code, str reason) except -1:
        self.gone = self.gone or self.state == OPEN
        self.state = FINISHED
        self.events.append((CLOSE, (code, reason)))
        return 0

    def receive_eof(self):
        """The transport ended. Unless ``CLOSE`` was told before, it is now, with 1006."""
        if self.state != FINISHED:
            self.finish(1006, "")

    def events_received(self):
        """The events since the last call, in order: ``(TEXT, str)``, ``(BINARY | PING | PONG, bytes)`` or ``(CLOSE,
        (code, reason))``."""
        events = self.events
        self.events = []
        return events

    # What goes out.

    def send_text(self, text):
        """Send a message of text.

        This and the methods below raise ``ClientDisconnected`` when the client has ended the socket, ``UsageError``
        after :meth:`send_close`, and ``UsageError`` for a payload that no frame can carry.
        """
        cdef const char *data
        cdef Py_ssize_t size = 0
        if not isinstance(text, str):
            raise TypeError(f"send_text takes str, not {type(text).__name__}")
        if self.state != OPEN:
            self.refuse()
        try:
            data = PyUnicode_AsUTF8AndSize(text, &size)
        except UnicodeEncodeError as error:
            raise UsageError(f"text cannot be sent as UTF-8: lone surrogate at index {error.start}") from None
        self.put_message(TEXT, text, data, size)

    def send_bytes(self, data):
        """Send a binary message."""
        cdef Py_buffer view
        if self.state != OPEN:
            self.refuse()
        if PyBytes_CheckExact(data):
            self.put_message(BINARY, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        elif isinstance(data, str):
            raise TypeError("send_bytes takes bytes, not str")
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self.put_message(BINARY, None, <const char *>view.buf, view.len)
            finally:
                PyBuffer_Release(&view)

    def send_frame(self, bytes whole not None):
        """Send a frame that was built before, once for many sockets; it is trusted."""
        if self.state != OPEN:
            self.refuse()
        self.spill()
        self.parts.append(whole)

    def send_ping(self, bytes data=b""):
        """Send a ping of up to 125 bytes."""
        self.put_control(PING, data)

    def send_pong(self, bytes data=b""):
        """Send a pong that nobody asked for, as a heartbeat (RFC 6455 section 5.5.3)."""
        self.put_control(PONG, data)

    def send_close(self, code=1000, reason=""):
        """Begin to close; does nothing when either side has begun already.

        Raises ``UsageError`` for a code that may not stand in a close frame and a reason of more than 123 bytes.
        """
        cdef bytes body = close_body(code, reason)
        if self.state == OPEN:
            self.put(FIN | CLOSE, body, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
            self.state = CLOSING

    def data_to_send(self):
        """The bytes to write since the last call, in order."""
        cdef list parts
        cdef bytes ping
        if self.ping is not None and not self.mute:
            ping, self.ping = self.ping, None
            if self.state == OPEN:
                self.put_control(PONG, ping)
        if self.size or self.last is not None:
            self.spill()
        parts = self.parts
        self.parts = None
        return [] if parts is None else parts

    # Own.

    cdef int put_control(self, int opcode, bytes data) except -1:
        if self.state != OPEN:
            self.refuse()
        if PyBytes_GET_SIZE(data) > CONTROL_MAX:
            raise UsageError(f"a control frame holds up to 125 bytes in one piece; this one has {len(data)}")
        self.put(FIN | opcode, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0

    cdef int put_message(self, int opcode, object owner, const char *data, Py_ssize_t size) except -1:
        cdef const uint8_t *compressed = NULL
        cdef size_t compressed_size = 0
        if self.deflate_bits and size >= DEFLATE_FROM:
            deflate_into(<const uint8_t *>data, size, self.deflate_bits, &compressed, &compressed_size)
            if <Py_ssize_t>compressed_size < size:
                return self.put(
                    FIN | COMPRESSED | opcode, None, <const char *>compressed, <Py_ssize_t>compressed_size
                )
        return self.put(FIN | opcode, owner, data, size)

    # HOT: ws echo. A small payload is copied behind its header. Of a large one that owner keeps in place, only the
    # header is built; the next frame finds the two and puts them aside.
    cdef int put(self, uint8_t first, object owner, const char *data, Py_ssize_t size) except -1:
        cdef char *out
        if self.last is not None:
            self.spill()
        if size >= COPY_LIMIT and owner is not None:
            out = self.reserve_out(HEADER_MAX)
            self.size += <Py_ssize_t>header_into(<uint8_t *>out, first, size)
            self.last = owner
            self.last_data = data
            self.last_size = size
            return 0
        out = self.reserve_out(HEADER_MAX + size)
        out += header_into(<uint8_t *>out, first, size)
        memcpy(out, data, size)
        self.size = out + size - self.out
        return 0

    cdef char *reserve_out(self, Py_ssize_t more) except NULL:
        # Room for more bytes behind those that are there.
        global spare
        cdef char *grown
        if self.out == NULL:
            if spare != NULL and more <= SPARE_ROOM:
                self.out, spare = spare, NULL
                self.room = SPARE_ROOM
                return self.out
            self.room = more if more > SPARE_ROOM else SPARE_ROOM
            self.out = <char *>PyMem_Malloc(self.room)
            if self.out == NULL:
                raise MemoryError()
        elif self.size + more > self.room:
            grown = <char *>PyMem_Realloc(self.out, 2 * (self.size + more))
            if grown == NULL:
                raise MemoryError()
            self.out = grown
            self.room = 2 * (self.size + more)
        return self.out + self.size

    cdef int clear(self) except -1:
        # What was to be sent is sent: the buffer is the next one's.
        global spare
        if self.out != NULL:
            if spare == NULL and self.room == SPARE_ROOM:
                spare = self.out
            else:
                PyMem_Free(self.out)
            self.out = NULL
        self.size = 0
        self.last = None
        return 0

    cdef int spill(self) except -1:
        if self.parts is None:
            self.parts = []
        if self.size:
            self.parts.append(PyBytes_FromStringAndSize(self.out, self.size))
        if self.last is not None:
            self.parts.append(
                self.last if PyBytes_CheckExact(self.last) else PyBytes_FromStringAndSize(self.last_data, self.last_size)
            )
        self.clear()
        return 0

    # HOT: ws echo
    cdef int push(self, Wire wire) except -1:
        if self.parts is not None:
            for part in self.data_to_send():
                wire.write_now(part)
        elif self.size:
            try:
                wire.push(self.out, self.size, self.last_data, self.last_size if self.last is not None else 0)
            finally:
                self.clear()
        return 0

    cdef int refuse(self) except -1:
        if self.gone:
            raise ClientDisconnected("the client has ended the WebSocket")
        raise UsageError("nothing can be sent after send_close")


def message_frame(message not None, int deflate=0):
    """The frame of a message, ``str`` or ``bytes``, for many sockets that agreed on ``deflate``.

    Raises as :meth:`WebSocketConnection.send_text` does.
    """
    cdef WebSocketConnection connection = WebSocketConnection(0, 0, deflate=deflate)
    if isinstance(message, str):
        connection.send_text(message)
    else:
        connection.send_bytes(message)
    return b"".join(connection.data_to_send())


def close_body(code, reason):
    """The payload of a close frame. Raises ``UsageError`` for what may not stand in it."""
    if not close_code_valid(code):
        raise UsageError(f"close code {code}: a close frame carries 1000-1003, 1007-1014 or 3000-4999")
    try:
        text = reason.encode()
    except UnicodeEncodeError:
        raise UsageError("a close reason with a lone surrogate cannot be sent as UTF-8") from None
    if len(text) > 123:
        raise UsageError(f"a close reason has up to 123 bytes of UTF-8, not {len(text)}")
    return code.to_bytes(2, "big") + text
