"""WebSocket frames over ``src_c/fc_ws``: bytes in, messages out, and frames to send. No policy, no I/O."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, _PyBytes_Resize
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_1BYTE_DATA, PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8, PyUnicode_New
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy

from fastchannels._core.c_fc cimport (
    FC_NEED_DATA,
    FC_OK,
    FC_WS_CLIENT,
    FC_WS_CLOSE,
    FC_WS_CONTROL_MAX,
    FC_WS_HEADER_MAX,
    FC_WS_SERVER,
    FC_WS_TEXT,
    FC_ERR_FORMAT,
    FC_ERR_RANGE,
    fc_mask,
    fc_status,
    fc_ws_close_code_valid,
    fc_ws_header_write,
    fc_ws_parser_bad_text,
    fc_ws_parser_close,
    fc_ws_parser_header,
    fc_ws_parser_init,
    fc_ws_parser_payload,
    fc_ws_parser_refuse,
    fc_ws_parser_whole,
)

from fastchannels._core.deflate cimport INFLATED, TOO_BIG, inflate_into

from fastchannels.exceptions import UsageError, WebSocketError

cdef extern from "Python.h":
    # The declarations of cpython.bytes, for a pointer that Cython does not count references of.
    char *bytes_data "PyBytes_AS_STRING"(PyObject *value) noexcept
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *value) noexcept
    PyObject *bytes_new "PyBytes_FromStringAndSize"(const char *value, Py_ssize_t size) except NULL
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    SLACK = 4096


cdef class FrameParser:
    """The messages of one WebSocket, from its bytes: fragments joined, text decoded, every frame checked.

    ``max_message_size`` and ``max_frame_size`` are bytes of payload, 0 for no limit. ``server=False`` reads the frames
    of a server, which are not masked. With ``deflate`` not 0, messages may be compressed (RFC 7692), none with the help of one
    before it; the limit is on what they stand for.

    Guarantees: the events do not depend on how the bytes were cut. A frame above a limit is refused at its header, and
    text at the first byte that cannot be UTF-8. A message in pieces holds at most one and a half times what arrived of
    it and 4 KiB, whatever its headers announce. What follows a close frame is discarded (RFC 6455 section 1.4).

    ``error`` is the ``WebSocketError`` that ended the stream, or None. Raises ``UsageError`` for a negative limit.
    """

    def __cinit__(self, max_message_size=1024 * 1024, max_frame_size=0, server=True, deflate=0):
        self.partial = NULL
        self.filled = 0
        self.in_payload = False
        self.error = None
        if max_message_size < 0 or max_frame_size < 0:
            raise UsageError(
                f"max_message_size={max_message_size}, max_frame_size={max_frame_size}: a limit is 0 (none) or more"
            )
        fc_ws_parser_init(
            &self.parser,
            FC_WS_SERVER if server else FC_WS_CLIENT,
            0x40 if deflate else 0,
            min(max_frame_size, 2**63 - 1),
            min(max_message_size, 2**63 - 1),
        )

    def __dealloc__(self):
        Py_XDECREF(self.partial)

    def feed(self, data):
        """Return the events that ``data`` completes, in order: ``(opcode, payload)``.

        Text (1) comes as ``str``; binary (2), ping (9) and pong (10) as ``bytes``; close (8) as ``(code, reason)``,
        with None for the code of a close frame that has none.

        Raises ``WebSocketError`` with the close code to answer with (1002, 1007, 1009) when the bytes break RFC 6455
        or a limit. Events come first: when some precede the fault they are returned, ``error`` holds the exception
        from then on, and the next call raises it whatever it is given. After a ``MemoryError`` drop the parser.
        """
        cdef Py_buffer view
        cdef list events = []
        if self.error is None:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self.parse(<const uint8_t *>view.buf, view.len, events, PY_SSIZE_T_MAX)
            finally:
                PyBuffer_Release(&view)
        if self.error is not None and not events:
            # A fresh one: raising the one we keep would tie the caller's frames to us.
            raise WebSocketError(self.error.code, self.error.reason)
        return events

    # HOT: benchmarks/bench_ws.py, ws echo. A frame that is a whole message costs its payload, a tuple and a slot of the
    # list. Returns how many bytes were used: all of them, unless ``most`` events came before.
    cdef Py_ssize_t parse(self, const uint8_t *data, Py_ssize_t size, list events, Py_ssize_t most) except -1:
        cdef const uint8_t *begin = data
        cdef const uint8_t *end = data + size
        cdef size_t used
        cdef fc_status status
        cdef uint8_t *target
        cdef bint control, text, compressed

        while True:
            if not self.in_payload:
                status = fc_ws_parser_header(&self.parser, data, end - data, &used)
                data += used
                if status == FC_NEED_DATA:
                    return size
                if status != FC_OK:
                    return self.stop(size)

                # The common case: one frame, one message, all of it here.
                if (
                    self.parser.frame.fin
                    and 0 < self.parser.frame.opcode < FC_WS_CLOSE
                    and self.parser.frame.length <= <uint64_t>(end - data)
                ):
                    event = self.whole_message(data)
                    if event is None:
                        return self.stop(size)
                    events.append(event)
                    data += self.parser.frame.length
                    if len(events) >= most:
                        return data - begin
                    continue
                self.in_payload = True

            control = self.parser.frame.opcode >= FC_WS_CLOSE
            text = self.parser.message_opcode == FC_WS_TEXT
            compressed = self.parser.message_rsv != 0
            if control:
                target = self.control + self.parser.taken
            else:
                self.reserve(end - data)
                target = <uint8_t *>bytes_data(self.partial) + self.filled
            status = fc_ws_parser_payload(&self.parser, target, data, end - data, &used)
            data += used
            if not control:
                self.filled += used
            if status == FC_NEED_DATA:
                return size
            if status != FC_OK:
                return self.stop(size)
            self.in_payload = False

            if control:
                event = self.control_event()
                if event is None:
                    return self.stop(size)
                events.append(event)
            elif self.parser.frame.fin:
                event = self.joined_message(text, compressed)
                if event is None:
                    return self.stop(size)
                events.append(event)
            if len(events) >= most:
                return data - begin

    cdef object whole_message(self, const uint8_t *data):
        # The bytes are unmasked into the object that the application gets. None: text that is not UTF-8.
        cdef Py_ssize_t length = <Py_ssize_t>self.parser.frame.length
        cdef bint is_text = self.parser.frame.opcode == FC_WS_TEXT
        if not is_text or self.parser.frame.rsv:
            payload = PyBytes_FromStringAndSize(NULL, length)
            fc_ws_parser_whole(&self.parser, <uint8_t *>PyBytes_AS_STRING(payload), data)
            if self.parser.frame.rsv:
                return self.inflated_message(is_text, <const uint8_t *>PyBytes_AS_STRING(payload), length)
            return (2, payload)
        if length == 0:  # the empty str is shared: nothing may be written to it
            fc_ws_parser_whole(&self.parser, NULL, data)
            return (1, "")
        text = PyUnicode_New(length, 127)
        if not fc_ws_parser_whole(&self.parser, <uint8_t *>PyUnicode_1BYTE_DATA(text), data):
            return (1, text)
        # Not ASCII: the str just made was only room for the unmasked bytes, and nobody else saw it.
        try:
            return (1, PyUnicode_DecodeUTF8(<char *>PyUnicode_1BYTE_DATA(text), length, NULL))
        except UnicodeDecodeError:
            fc_ws_parser_bad_text(&self.parser)
            return None

    cdef object inflated_message(self, bint text, const uint8_t *data, Py_ssize_t length):
        # None: it is no compressed data, too large, or text that is not UTF-8.
        cdef const uint8_t *inflated = NULL
        cdef size_t size = 0
        cdef int outcome = inflate_into(data, length, self.parser.max_message_size, &inflated, &size)
        if outcome == TOO_BIG:
            fc_ws_parser_refuse(&self.parser, FC_ERR_RANGE, 1009, "message too big")
            return None
        if outcome != INFLATED:
            fc_ws_parser_refuse(&self.parser, FC_ERR_FORMAT, 1007, "compressed data is not valid")
            return None
        if not text:
            return (2, PyBytes_FromStringAndSize(<const char *>inflated, size))
        try:
            return (1, PyUnicode_DecodeUTF8(<const char *>inflated, size, NULL))
        except UnicodeDecodeError:
            fc_ws_parser_bad_text(&self.parser)
            return None

    cdef object joined_message(self, bint text, bint compressed):
        cdef PyObject *partial = self.partial
        cdef Py_ssize_t filled = self.filled
        self.partial = NULL
        self.filled = 0
        if compressed:
            try:
                return self.inflated_message(text, <const uint8_t *>bytes_data(partial), filled)
            finally:
                Py_XDECREF(partial)
        if text:  # validated as it came, so decoding cannot fail
            try:
                return (1, PyUnicode_DecodeUTF8(bytes_data(partial), filled, NULL))
            finally:
                Py_XDECREF(partial)
        _PyBytes_Resize(&partial, filled)
        payload = <object>partial
        Py_XDECREF(partial)
        return (2, payload)

    cdef object control_event(self):
        # None: a close frame that breaks the rules.
        cdef uint16_t code
        cdef Py_ssize_t length = <Py_ssize_t>self.parser.frame.length
        cdef char *body = <char *>self.control
        if self.parser.frame.opcode != FC_WS_CLOSE:
            return (self.parser.frame.opcode, PyBytes_FromStringAndSize(body, length))
        if fc_ws_parser_close(&self.parser, self.control, length, &code) != FC_OK:
            return None
        if length == 0:
            return (8, (None, ""))
        return (8, (code, PyUnicode_DecodeUTF8(body + 2, length - 2, NULL)))

    cdef int reserve(self, Py_ssize_t size) except -1:
        # Room for what of size belongs to the frame. It grows by half, so that a message in many pieces is not copied
        # over and over, and never past what its frames announce (which the parser keeps below PTRDIFF_MAX).
        cdef uint64_t left = self.parser.frame.length - self.parser.taken
        cdef Py_ssize_t needed = self.filled + (size if <uint64_t>size < left else <Py_ssize_t>left)
        cdef Py_ssize_t announced = <Py_ssize_t>self.parser.message_size
        cdef Py_ssize_t spare = needed // 2 + SLACK
        cdef Py_ssize_t room = announced if needed >= announced - spare else needed + spare
        if self.partial == NULL:
            self.partial = bytes_new(NULL, room)
        elif needed > bytes_size(self.partial):
            _PyBytes_Resize(&self.partial, room)
        return 0

    cdef Py_ssize_t stop(self, Py_ssize_t size) except -1:
        # After a close frame there is no error, only bytes to discard.
        if self.parser.close_code:
            self.error = WebSocketError(self.parser.close_code, self.parser.reason.decode("ascii"))
            Py_XDECREF(self.partial)
            self.partial = NULL
        return size


cdef size_t header_into(uint8_t *out, uint8_t first, uint64_t length) noexcept:
    return fc_ws_header_write(out, first, length, NULL)


cdef size_t write_header(uint8_t *out, int opcode, uint64_t length, bint fin, bytes key) except 0:
    cdef const uint8_t *mask = NULL
    cdef size_t size
    if opcode not in (0, 1, 2, 8, 9, 10):
        raise UsageError(f"opcode {opcode}: RFC 6455 knows 0, 1, 2, 8, 9 and 10")
    if opcode >= FC_WS_CLOSE and (length > FC_WS_CONTROL_MAX or not fin):
        raise UsageError(f"a control frame holds up to 125 bytes in one piece; this one has {length}, fin={fin}")
    if key is not None:
        if len(key) != 4:
            raise UsageError(f"a masking key has 4 bytes, not {len(key)}")
        mask = <const uint8_t *>PyBytes_AS_STRING(key)
    size = fc_ws_header_write(out, (0x80 if fin else 0) | opcode, length, mask)
    if size == 0:
        raise UsageError(f"a frame holds up to 2**63-1 bytes, not {length}")
    return size


cdef bytes build_frame(int opcode, const char *data, Py_ssize_t length, bint fin, bytes key):
    cdef uint8_t header[FC_WS_HEADER_MAX]
    cdef size_t header_size = write_header(header, opcode, length, fin, key)
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>header_size + length)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(whole)
    memcpy(out, header, header_size)
    if key is None:
        memcpy(out + header_size, data, length)
    else:
        fc_mask(out + header_size, <const uint8_t *>data, length, <const uint8_t *>PyBytes_AS_STRING(key), 0)
    return whole


# HOT: benchmarks/bench_ws.py
def frame(int opcode, payload=b"", bint fin=True, bytes key=None):
    """Return a whole frame. A ``str`` is sent as UTF-8; with ``key`` (4 bytes) the frame is masked, as a client's is.

    Raises ``UsageError`` for an opcode, length or key that RFC 6455 section 5.2 does not allow, and for a ``str`` with
    a lone surrogate, which UTF-8 cannot carry; ``TypeError`` for a payload that is neither text nor bytes.
    """
    cdef Py_buffer view
    cdef const char *data
    cdef Py_ssize_t length = 0
    if isinstance(payload, str):
        try:
            data = PyUnicode_AsUTF8AndSize(payload, &length)
        except UnicodeEncodeError as error:
            raise UsageError(f"text cannot be sent as UTF-8: lone surrogate at index {error.start}") from None
        return build_frame(opcode, data, length, fin, key)
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return build_frame(opcode, <const char *>view.buf, view.len, fin, key)
    finally:
        PyBuffer_Release(&view)


def frame_header(int opcode, uint64_t length, bint fin=True, bytes key=None):
    """Return only the header of a frame, for a payload that is written beside it.

    Raises as :func:`frame` does, and ``OverflowError`` for a length outside 0..2**64-1.
    """
    cdef uint8_t header[FC_WS_HEADER_MAX]
    cdef size_t size = write_header(header, opcode, length, fin, key)
    return PyBytes_FromStringAndSize(<const char *>header, <Py_ssize_t>size)


def close_code_valid(code):
    """Tell whether a close frame may carry ``code``: 1000-1003, 1007-1014, 3000-4999 (RFC 6455 section 7.4, IANA)."""
    return 0 <= code <= 0xFFFF and bool(fc_ws_close_code_valid(code))
