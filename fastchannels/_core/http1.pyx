"""What every HTTP/1 request costs: from the bytes of a connection to who answers, and the answer back.

:class:`Http1` is the compiled half of a connection, :class:`HttpStream` what all who answer a request share. What is rare
is left to their subclasses in ``fastchannels.server``.
"""

from time import monotonic

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from fastchannels._core.http cimport CHUNKED_BODY, NO_BODY, HttpParser, Request, head_of
from fastchannels._core.wire cimport Sink, Timed, Wire

from fastchannels._core.http import encode_interim

cdef enum:
    # Up to this size a piece of a body is copied behind its head, so that both leave in one packet and one call.
    JOINED = 8 * 1024

HOLD_PIPELINE = 1  #: the next request waits for the response before it
HOLD_BODY = 2  #: the application has not taken the body that is here
HOLD_SOCKET = 4  #: the application or the worker lags behind the frames

cdef long long NO_SLOT = 1 << 62


cdef class Shared:
    """What the connections of a server share; a subclass has the rest."""


cdef class HttpStream(Timed):
    """One HTTP request and its response, between what carries them (``connection``) and who answers.

    A subclass calls ``start``, ``body``, ``fail``; the connection calls the ``on_`` methods.
    """

    def __init__(self, connection, Request request not None):
        self.connection = connection
        if isinstance(connection, Http1):
            self.wire = connection
        self.request = request
        self.body_complete = request.complete
        self.keep_alive = request.keep_alive
        self.framing = NO_BODY

    # What a subclass overrides.

    def begin(self):
        """The head of the request is here."""

    def on_body(self, data):
        """A piece of the request's body."""

    def on_body_end(self):
        """The request is complete."""

    def on_end(self):
        """The response is complete, or the client left (``disconnected``). Nothing more is called."""

    def on_full(self):
        """The client reads too slowly: stop writing until ``on_room``."""

    def on_room(self):
        """End of ``on_full``."""

    cdef int run(self) except -1:
        self.begin()
        return 0

    cdef int over(self) except -1:
        self.on_end()
        return 0

    # What a subclass calls.

    @property
    def begun(self):
        """Something of the response has left; it can no longer become an error page."""
        return self.started and self.head is None

    def start(self, status, headers):
        """Set status and headers. They leave with the first piece of the body, or by ``flush``.

        Raises ``ValueError`` or ``TypeError`` for what may not stand in a response head.
        """
        cdef bint stays
        if self.wire is None:
            self.connection.start_response(self, status, headers)
        else:
            # A connection whose request was not read to its end cannot be used again.
            stays = self.request.keep_alive and self.body_complete and not self.wire.context.stopping
            self.head = head_of(self.request, status, headers, self.wire.context.common, &stays, &self.framing)
            self.keep_alive = stays
        self.status = status
        self.started = True

    def flush(self):
        """Let a held head leave."""
        if self.head is not None and not (self.done or self.disconnected):
            if self.wire is None:
                self.connection.flush_head(self)
            else:
                self.wire.write(self.head)
            self.head = None

    def body(self, data, bint more):
        """Write a piece of the body; ``more`` false ends the response.

        Raises ``ValueError`` when the body is longer or shorter than the response's Content-Length; the response is
        then cut, since the client could not tell.
        """
        self.put(data, more)

    cdef int put(self, data, bint more) except -1:
        if self.wire is None:
            self.connection.send_body(self, data, more)
        else:
            self.wire.send_piece(self, data, more)
        return 0

    def inform(self, int status, headers):
        """Send an interim response (1xx) before the response; nothing to a client of HTTP/1.0, which knows none."""
        if self.wire is None:
            self.connection.inform(self, status, headers)
        elif self.request.version != "1.0":
            self.wire.write(encode_interim(status, headers))

    def check_length(self, long long size, bint more):
        """Count ``size`` bytes of a body whose length was announced; raises as ``body`` does."""
        self.framing -= size
        if self.framing < 0 or (self.framing and not more):
            what = "longer" if self.framing < 0 else "shorter"
            self.abort()
            raise ValueError(f"the body is {what} than the Content-Length of the response")

    def abort(self):
        """Cut the response, so that the client sees an incomplete response."""
        self.disconnected = True
        self.connection.abort()


cdef class Http1(Wire):
    """The half of an HTTP/1 connection that each request goes through."""

    def __cinit__(self, *_arguments):
        self.scheme = self.peer_scheme = "http"
        self._linger = -1

    def buffer_updated(self, Py_ssize_t nbytes):  # HOT: http hello, ws echo
        cdef HttpParser parser
        cdef Request request
        cdef Shared shared
        cdef HttpStream stream
        cdef Sink sink = self.sink  # held: what it takes may be its end
        self.bytes_in += nbytes
        if sink is not None:
            sink.take(self.room, nbytes)
            return
        if type(self._parser) is not HttpParser or self._linger >= 0:
            self.received(self.view[:nbytes])
            return
        shared = self.context
        parser = self._parser
        # A whole request by itself, and nothing to be done beside it.
        if (
            self._stream is None and self._requests_left <= 0 and not self._holds and not self._in_head
            and shared.front is None and not self.closed
        ):
            request = parser.whole(self.room, nbytes)
            if request is not None:
                shared.running += 1
                self._stream = stream = shared.bridge.http(self, request)
                if shared.observe is not None:
                    stream.since = monotonic()
                stream.run()
                return
        parser.parse(self.room, nbytes)
        self.parsed()

    def parsed(self):
        """Act on what the parser reported."""
        raise NotImplementedError

    # HOT: http hello. The head that is held goes along.
    cdef int send_piece(self, HttpStream stream, bytes data, bint more) except -1:
        cdef char joined[JOINED + 64]
        cdef Py_ssize_t filled = 0, size = PyBytes_GET_SIZE(data), head_size
        cdef long long framing = stream.framing
        cdef bytes head = stream.head
        cdef const char *tail = NULL
        cdef Py_ssize_t tail_size = 0
        cdef bint ends = not more and not stream.trailers
        if framing >= 0:
            stream.check_length(size, more)
        elif framing == NO_BODY:
            size = 0
        stream.size += size
        stream.body_over = not more
        stream.head = None
        head_size = PyBytes_GET_SIZE(head) if head is not None else 0
        if framing == CHUNKED_BODY:
            if size:
                tail, tail_size = (b"\r\n0\r\n\r\n", 7) if ends else (b"\r\n", 2)
            elif ends:
                tail, tail_size = b"0\r\n\r\n", 5
        if head_size + size <= JOINED:
            if head_size:
                memcpy(joined, PyBytes_AS_STRING(head), head_size)
                filled = head_size
            if framing == CHUNKED_BODY and size:
                filled += snprintf(joined + filled, 24, b"%llx\r\n", <unsigned long long>size)
            if size:
                memcpy(joined + filled, PyBytes_AS_STRING(data), size)
                filled += size
            if tail_size:
                memcpy(joined + filled, tail, tail_size)
                filled += tail_size
            if filled:
                self.push(joined, filled, NULL, 0)
        else:
            if head_size:
                self.write(head)
            if framing == CHUNKED_BODY and size:
                filled = snprintf(joined, 24, b"%llx\r\n", <unsigned long long>size)
                self.write(PyBytes_FromStringAndSize(joined, filled))
            if size:
                self.write(data)
            if tail_size:
                self.write(PyBytes_FromStringAndSize(tail, tail_size))
            if self.write_paused:  # perhaps before the last of these
                self._unsent = self.transport.get_write_buffer_size()
        if ends:
            stream.done = True
            self.complete(stream)
        return 0

    def end_chunks(self, HttpStream stream not None, bytes end not None):
        """Write what ends a body of chunks, trailers included."""
        if stream.head is not None:
            self.write(stream.head)
            stream.head = None
        self.write(end)
        stream.done = True
        self.complete(stream)

    # HOT: http hello
    cdef int complete(self, HttpStream stream) except -1:
        cdef Shared shared = self.context
        if (
            shared.stopping or self._holds or not stream.keep_alive or not stream.request.complete
            or self._slot == NO_SLOT or self._stream is not stream
        ):
            self.response_complete(stream)
            return 0
        if shared.observe is not None:
            shared.observe(stream)
        self._stream = None
        shared.running -= 1
        stream.over()
        self.deadline = shared.wheel.now + shared.keep_alive_timeout
        if (<HttpParser>self._parser).events:
            # Not now: the application whose answer this was has not returned yet.
            shared.loop.call_soon(self.parsed)
        return 0

    def response_complete(self, HttpStream stream):
        """``stream`` has written its last byte: go on with the next request, or close."""
        raise NotImplementedError
