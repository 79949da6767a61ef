"""HTTP/1 over ``src_c/fc_http``: bytes in, requests and pieces of their bodies out; heads of responses. No I/O."""

from collections import deque
from http import HTTPStatus
from urllib.parse import unquote

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

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
    fc_http_is_token,
    fc_http_is_value,
    fc_http_name_text,
    fc_http_parse,
    fc_http_parse_line,
    fc_http_request,
    fc_http_same,
    fc_http_scan,
    fc_http_scanner,
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

NO_TRAILERS = frozenset((
    b"authorization", b"cache-control", b"connection", b"content-encoding", b"content-length", b"content-range",
    b"content-type", b"cookie", b"date", b"host", b"set-cookie", b"te", b"trailer", b"transfer-encoding", b"upgrade",
))

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

    # HOT: http hello. A request that these bytes are, no more and no less, and that has no body, without an event.
    # None: they are something else, or come behind something else; nothing was taken then.
    cdef Request whole(self, const uint8_t *data, Py_ssize_t size):
        cdef fc_http_error error
        cdef fc_http_request parsed
        cdef fc_http_scanner scanner
        cdef Request request
        if self.state != HEAD or self.held is not None or self.finished or self.events:
            return None
        memset(&scanner, 0, sizeof(scanner))
        if (
            fc_http_scan(&scanner, &self.limits, data, size, &error) != FC_OK
            or <Py_ssize_t>scanner.length != size
            or fc_http_parse(
                &parsed, fields, self.limits.headers, data + scanner.start, scanner.length - scanner.start, &error
            ) != FC_OK
            or parsed.chunked or parsed.content_length or parsed.websocket
        ):
            return None
        request = self.request_of(data + scanner.start, &parsed)
        request.complete = True
        self.finished = not parsed.keep_alive
        return request

    cdef int parse(self, const uint8_t *data, Py_ssize_t size) except -1:
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


# ------------------------------------------------------------------------------------------------ heads of responses

cdef struct Text:
    char *data
    Py_ssize_t size
    Py_ssize_t room
    char local[1024]


cdef inline void text_begin(Text *text) noexcept:
    text.data = text.local
    text.size = 0
    text.room = sizeof(text.local)


cdef inline void text_end(Text *text) noexcept:
    if text.data != text.local:
        PyMem_Free(text.data)


cdef inline int text_add(Text *text, const char *data, Py_ssize_t size) except -1:
    cdef char *grown
    if size > text.room - text.size:
        text.room = 2 * text.size + size
        grown = <char *>PyMem_Realloc(NULL if text.data == text.local else text.data, text.room)
        if grown == NULL:
            raise MemoryError
        if text.data == text.local:
            memcpy(grown, text.local, text.size)
        text.data = grown
    memcpy(text.data + text.size, data, size)
    text.size += size
    return 0


cdef inline int text_add_bytes(Text *text, bytes data) except -1:
    return text_add(text, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef bytes status_line(int status):
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


cdef list status_lines = [status_line(number) for number in range(100, 600)]


cdef inline int text_add_status(Text *text, int status) except -1:
    if 100 <= status < 600:
        return text_add_bytes(text, <bytes>status_lines[status - 100])
    return text_add_bytes(text, status_line(status))


cdef int text_add_field(Text *text, name, value) except -1:
    # Whatever could end a line, and so begin a header or a response of its own, is refused.
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise TypeError(f"header {name!r}: {value!r}: bytes are needed for both")
    cdef const char *name_data = PyBytes_AS_STRING(name)
    cdef const char *value_data = PyBytes_AS_STRING(value)
    cdef Py_ssize_t name_size = PyBytes_GET_SIZE(name), value_size = PyBytes_GET_SIZE(value)
    if not fc_http_is_token(<const uint8_t *>name_data, name_size):
        raise ValueError(f"header name {name!r} is not a token")
    if not fc_http_is_value(<const uint8_t *>value_data, value_size):
        raise ValueError(f"header {name!r}: its value holds a line break or another control character: {value!r}")
    text_add(text, name_data, name_size)
    text_add(text, b": ", 2)
    text_add(text, value_data, value_size)
    text_add(text, b"\r\n", 2)
    return 0


cdef inline bint named(name, const char *text) noexcept:
    return fc_http_same(<const uint8_t *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), text)


cdef long long parse_length(bytes value) except -1:
    if not value.isdigit() or len(value) > 18:
        raise ValueError(f"Content-Length {value!r} is not a number below 10**18")
    return int(value)


# HOT: http hello. In framing a number of bytes or one of CHUNKED_BODY, UNTIL_CLOSE and NO_BODY; in stays whether the
# connection does.
cdef bytes head_of(Request request, status, headers, common, bint *stays, long long *framing):
    cdef Text text
    cdef long code
    cdef int overflow
    cdef long long length = CHUNKED_BODY, other
    cdef bint has_date = False, has_server = False
    cdef Py_ssize_t size
    code = PyLong_AsLongAndOverflow(status, &overflow) if isinstance(status, int) else 0
    if not 200 <= code <= 999:
        raise ValueError(f"response status {status!r}: 200 to 999 is possible")
    text_begin(&text)
    try:
        text_add_status(&text, code)
        for name, value in headers:
            # Those that mean something here are known by their size first.
            size = PyBytes_GET_SIZE(name) if isinstance(name, bytes) else 0
            if size == 14 and named(name, b"content-length"):
                other = parse_length(value)
                if length != CHUNKED_BODY and length != other:
                    raise ValueError("two Content-Length headers that differ")
                if length == other or code == 204:
                    continue
                length = other
            elif size == 17 and named(name, b"transfer-encoding"):
                continue  # the server frames the body (D-35)
            elif size == 10 and named(name, b"connection"):
                if b"close" in value.lower():
                    stays[0] = False
                continue
            elif size == 4 and named(name, b"date"):
                has_date = True
            elif size == 6 and named(name, b"server"):
                has_server = True
            text_add_field(&text, name, value)
        if not (has_date or has_server):
            text_add_bytes(&text, <bytes>common.all)
        else:
            if not has_date:
                text_add_bytes(&text, <bytes>common.date)
            if not has_server:
                text_add_bytes(&text, <bytes>common.server)
            text_add_bytes(&text, <bytes>common.further)
        if code == 204 or code == 304 or request.method == "HEAD":
            framing[0] = NO_BODY
        elif length >= 0:
            framing[0] = length
        elif request.version == "1.1":
            framing[0] = CHUNKED_BODY
            text_add_bytes(&text, b"Transfer-Encoding: chunked\r\n")
        else:
            framing[0] = UNTIL_CLOSE
            stays[0] = False
        if not stays[0]:
            text_add_bytes(&text, b"Connection: close\r\n")
        elif request.version == "1.0":
            text_add_bytes(&text, b"Connection: keep-alive\r\n")
        text_add(&text, b"\r\n", 2)
        return PyBytes_FromStringAndSize(text.data, text.size)
    finally:
        text_end(&text)


def encode_head(Request request not None, status, headers, common, bint keep_alive):
    """The head of a response to ``request``: its bytes, the framing of the body, and whether the connection stays.

    ``common`` has the lines that each response carries. The framing is a number of bytes, or -1 for chunks, -2 for all
    until the connection closes, -3 for no body. Raises ``ValueError`` or ``TypeError`` for what may not stand in a
    head, line breaks above all.
    """
    cdef long long framing = NO_BODY
    head = head_of(request, status, headers, common, &keep_alive, &framing)
    return head, framing, keep_alive


def encode_interim(int status, headers):
    """An interim response (1xx). Raises ``ValueError`` or ``TypeError`` for what may not stand in a head."""
    cdef Text text
    text_begin(&text)
    try:
        text_add_status(&text, status)
        for name, value in headers:
            text_add_field(&text, name, value)
        text_add(&text, b"\r\n", 2)
        return PyBytes_FromStringAndSize(text.data, text.size)
    finally:
        text_end(&text)


def encode_trailers(headers):
    """The last chunk of a body and the trailers behind it (RFC 9112 section 7.1.2).

    What frames or routes a message may not stand there (RFC 9110 section 6.5.1). Raises as :func:`encode_head`.
    """
    cdef Text text
    text_begin(&text)
    try:
        text_add(&text, b"0\r\n", 3)
        for name, value in headers:
            if isinstance(name, bytes) and name.lower() in NO_TRAILERS:
                raise ValueError(f"header {name!r} may not stand in trailers")
            text_add_field(&text, name, value)
        text_add(&text, b"\r\n", 2)
        return PyBytes_FromStringAndSize(text.data, text.size)
    finally:
        text_end(&text)
