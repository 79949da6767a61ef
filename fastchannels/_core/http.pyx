"""HTTP/1 requests over ``src_c/fc_http``: bytes in, requests and pieces of their bodies out. No policy, no I/O."""

from collections import deque
from urllib.parse import unquote

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Realloc
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memset

from fastchannels._core.c_fc cimport (
    FC_HTTP_DAPHNE_ROOT_PATH,
    FC_HTTP_FORM_ABSOLUTE,
    FC_HTTP_HOST,
    FC_HTTP_NAME_COUNT,
    FC_NEED_DATA,
    FC_OK,
    fc_http_chunked,
    fc_http_error,
    fc_http_field,
    fc_http_name_text,
    fc_http_parse,
    fc_http_parse_line,
    fc_http_request,
    fc_http_scan,
    fc_status,
)

from fastchannels.exceptions import HttpError, UsageError

cdef enum:
    HEAD
    LENGTH
    CHUNKED

#: The object of each known name, by its number.
cdef list names = [None]
cdef int number
for number in range(1, FC_HTTP_NAME_COUNT):
    names.append(<bytes>fc_http_name_text(number))

cdef tuple methods = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")

# Where a head is taken apart, under the interpreter lock: it holds as many as the largest limit of a parser.
cdef fc_http_field *fields = NULL
cdef size_t room = 0


class BodyEnd:
    """The last byte of a request's body has been reported."""

    __slots__ = ()


BODY_END = BodyEnd()
cdef object body_end = BODY_END


cdef class Request:
    """The head of one HTTP request. Names in ``headers`` are lower case, and none holds an underscore (D-61).

    ``root_path`` comes from the header ``Daphne-Root-Path``, which is not among ``headers``; None without it.
    ``complete``: the whole request had arrived with its head, for it has no body.
    """

    def __init__(
        self,
        str method not None,
        str path not None,
        bytes raw_path not None,
        bytes query_string not None,
        str version not None,
        list headers not None,
        bint keep_alive=True,
        bint websocket=False,
        bint chunked=False,
        bint expect_continue=False,
        content_length=None,
        root_path=None,
        bint te_trailers=False,
    ):
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query_string = query_string
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.websocket = websocket
        self.chunked = chunked
        self.expect_continue = expect_continue
        self.content_length = content_length
        self.root_path = root_path
        self.te_trailers = te_trailers

    @property
    def shown(self):
        """The path for logs: still percent-encoded, so that it holds no line break."""
        return self.raw_path.decode("ascii")


cdef class HttpParser:
    """Feed it what a client sends; take ``events`` from the left. After an ``HttpError`` event it ignores all input.

    ``limits`` are the bytes of a request line, the bytes of all header lines, and the number of these; each is 1 or
    more. Trailers have the same limits.

    ``events`` holds requests, bytes of their bodies, and ``BODY_END``, which is left out after a request without a
    body, whose ``complete`` is true instead. ``finished``: no further event will come, for there was an error, the
    last request of the connection, or a WebSocket handshake, and then ``trailing`` has the bytes that followed it.

    Guarantees: the events do not depend on how the bytes were cut, but for which of several faults of one head is
    told. An incomplete head is held up to its limits, a body not at all. Raises ``UsageError`` for a limit below 1.
    """

    def __cinit__(self, limits=(16384, 65536, 100)):
        global fields, room
        line, header_bytes, headers = limits
        if min(line, header_bytes, headers) < 1 or max(line, header_bytes, headers) >= 2**30:
            raise UsageError(f"limits of a request head: {tuple(limits)}; each is at least 1 and below 2**30")
        self.limits.line = line
        self.limits.header_bytes = header_bytes
        self.limits.headers = headers
        if self.limits.headers > room:
            grown = PyMem_Realloc(fields, self.limits.headers * sizeof(fc_http_field))
            if grown == NULL:
                raise MemoryError
            fields = <fc_http_field *>grown
            room = self.limits.headers
        self.events = deque()
        self.trailing = b""

    def feed(self, data):
        """Parse ``data`` and append to ``events``. Nothing of ``data`` is kept by reference."""
        cdef Py_buffer view
        if self.finished:
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.parse(<const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int parse(self, const uint8_t *data, Py_ssize_t size) except -1:  # HOT: http hello
        cdef fc_http_error error
        cdef fc_status status
        cdef size_t used, body
        cdef Py_ssize_t taken
        while size and not self.finished:
            if self.state == HEAD:
                taken = self.head(data, size)
                data += taken
                size -= taken
                continue
            if self.state == LENGTH:
                used = body = size if <uint64_t>size < self.left else <size_t>self.left
                self.left -= body
                status = FC_OK if self.left == 0 else FC_NEED_DATA
            else:
                status = fc_http_chunked(&self.chunks, &self.limits, data, size, &used, &body, &error)
                if status < 0:
                    return self.fail(error.status, error.reason)
            if body:
                self.events.append(PyBytes_FromStringAndSize(<const char *>data + used - body, body))
            data += used
            size -= used
            if status == FC_OK:
                self.events.append(body_end)
                self.state = HEAD
                self.finished = self.last
        return 0

    cdef Py_ssize_t head(self, const uint8_t *data, Py_ssize_t size) except -1:
        # How many bytes of data were taken: those of the head, or all.
        cdef fc_http_error error
        cdef fc_http_request parsed
        cdef fc_status status
        cdef size_t first = self.scanner.first
        cdef Py_ssize_t before = 0, taken
        cdef Request request
        if self.held is not None:
            before = len(self.held)
            self.held += data[:size]
            data = self.held
            size += before
        status = fc_http_scan(&self.scanner, &self.limits, data, size, &error)
        if status == FC_NEED_DATA:
            # A client that sends no more than a bad request line is answered all the same.
            if self.scanner.first and not first:
                status = fc_http_parse_line(
                    &parsed, data + self.scanner.start, self.scanner.first - 2 - self.scanner.start, &error
                )
                if status != FC_OK:
                    self.fail(error.status, error.reason)
            if self.held is None:
                self.held = bytearray(data[:size])
            return size - before
        if status == FC_OK:
            status = fc_http_parse(
                &parsed, fields, self.limits.headers, data + self.scanner.start,
                self.scanner.length - self.scanner.start, &error,
            )
        if status != FC_OK:
            self.fail(error.status, error.reason)
            return size - before
        request = self.request_of(data + self.scanner.start, &parsed)
        taken = <Py_ssize_t>self.scanner.length
        self.events.append(request)
        if request.websocket:
            self.finished = True
            self.trailing = data[taken:size]
        self.held = None
        memset(&self.scanner, 0, sizeof(self.scanner))
        self.last = not parsed.keep_alive
        if parsed.chunked:
            memset(&self.chunks, 0, sizeof(self.chunks))
            self.state = CHUNKED
        elif parsed.content_length:
            self.left = parsed.content_length
            self.state = LENGTH
        else:
            request.complete = True
            self.finished = self.finished or self.last
        return taken - before

    cdef Request request_of(self, const uint8_t *head, fc_http_request *parsed):
        cdef Request request = Request.__new__(Request)
        cdef const char *text = <const char *>head
        cdef fc_http_field *field
        cdef Py_ssize_t count = 0
        cdef size_t index
        cdef bint absolute = parsed.form == FC_HTTP_FORM_ABSOLUTE
        cdef list headers = PyList_New(parsed.fields + absolute)
        request.method = method_of(text + parsed.method, parsed.method_size)
        request.version = "1.1" if parsed.minor else "1.0"
        set_target(request, text, parsed)
        if absolute:  # its authority replaces Host (RFC 9112 section 3.2.2)
            count = put(headers, 0, names[FC_HTTP_HOST], text + parsed.authority, parsed.authority_size)
        for index in range(parsed.fields):
            field = &fields[index]
            if field.known:
                if field.known == FC_HTTP_DAPHNE_ROOT_PATH:
                    value = PyUnicode_DecodeLatin1(text + field.value, field.value_size, NULL)
                    request.root_path = unquote(value)
                    continue
                if absolute and field.known == FC_HTTP_HOST:
                    continue
                name = names[field.known]
            elif field.underscore:
                continue  # it could shadow a name with dashes in META (D-61)
            else:
                name = lower_case(text + field.name, field.name_size)
            count = put(headers, count, name, text + field.value, field.value_size)
        if count != <Py_ssize_t>(parsed.fields + absolute):
            del headers[count:]
        request.headers = headers
        request.keep_alive = parsed.keep_alive
        request.websocket = parsed.websocket
        request.chunked = parsed.chunked
        request.expect_continue = parsed.expect_continue
        request.te_trailers = parsed.te_trailers
        if parsed.has_length:
            request.content_length = parsed.content_length
        return request

    cdef int fail(self, int status, const char *reason) except -1:
        self.finished = True
        self.held = None
        self.events.append(HttpError(status, reason.decode("ascii")))
        return 0


cdef inline Py_ssize_t put(list headers, Py_ssize_t at, object name, const char *value, Py_ssize_t size) except -1:
    cdef tuple pair = (name, PyBytes_FromStringAndSize(value, size))
    Py_INCREF(pair)
    PyList_SET_ITEM(headers, at, pair)
    return at + 1


cdef object lower_case(const char *name, Py_ssize_t size):
    cdef bytes lowered = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = PyBytes_AS_STRING(lowered)
    cdef Py_ssize_t index
    for index in range(size):
        out[index] = name[index] | (0x20 if c"A" <= name[index] <= c"Z" else 0)
    return lowered


cdef str method_of(const char *method, Py_ssize_t size):
    # The object of the most common two without building another.
    if size == 3 and memcmp(method, b"GET", 3) == 0:
        return "GET"
    if size == 4 and memcmp(method, b"POST", 4) == 0:
        return "POST"
    return PyUnicode_DecodeASCII(method, size, NULL)


cdef int set_target(Request request, const char *text, fc_http_request *parsed) except -1:
    # An absolute target without a path means "/", and for OPTIONS without a query "*" (RFC 9112 section 3.2.4).
    if parsed.path_size == 0:
        request.raw_path = b"*" if request.method == "OPTIONS" and parsed.query_size == 0 else b"/"
        request.path = "*" if request.raw_path == b"*" else "/"
    else:
        request.raw_path = PyBytes_FromStringAndSize(text + parsed.path, parsed.path_size)
        if parsed.escaped:
            request.path = unescape(request.raw_path)
        else:
            request.path = PyUnicode_DecodeASCII(text + parsed.path, parsed.path_size, NULL)
    request.query_string = PyBytes_FromStringAndSize(text + parsed.query, parsed.query_size)
    return 0


cdef inline int hex_digit(char byte) noexcept:
    if c"0" <= byte <= c"9":
        return byte - c"0"
    byte = byte | 0x20
    return byte - c"a" + 10 if c"a" <= byte <= c"f" else -1


cdef str unescape(bytes raw):
    # Percent-decoded UTF-8. What is no UTF-8 becomes U+FFFD, and a "%" without two hexadecimal digits stays.
    cdef Py_ssize_t size = len(raw), at = 0, filled = 0
    cdef const char *source = raw
    cdef bytes decoded = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = PyBytes_AS_STRING(decoded)
    cdef int high, low
    while at < size:
        if source[at] == c"%" and size - at > 2:
            high = hex_digit(source[at + 1])
            low = hex_digit(source[at + 2])
            if high >= 0 and low >= 0:
                out[filled] = <char>(high << 4 | low)
                filled += 1
                at += 3
                continue
        out[filled] = source[at]
        filled += 1
        at += 1
    return PyUnicode_DecodeUTF8(out, filled, "replace")
