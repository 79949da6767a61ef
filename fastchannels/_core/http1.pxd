from fastchannels._core.http cimport Request
from fastchannels._core.wire cimport Clock, Timed, Wire


cdef class Shared:
    cdef public object bridge, loop, common, front, observe
    cdef public Clock wheel
    cdef public double keep_alive_timeout, http_timeout
    # Bytes of a request body that wait for the application before the connection stops being read.
    cdef public Py_ssize_t request_buffer_size
    cdef public str root_path
    cdef public Py_ssize_t running
    cdef public bint stopping
    # Whether tasks may take their first step at once: None, not asked yet.
    cdef object eager


cdef class HttpStream(Timed):
    cdef public object connection
    cdef public Request request
    # ``start`` was called; its head may still be held, see ``begun``.
    cdef public bint started
    # The response is complete.
    cdef public bint done
    # The client left, or was cut off, before the response was complete.
    cdef public bint disconnected
    # The client sends no body before it is told to (``Expect: 100-continue``).
    cdef public bint waits_for_continue
    # The whole request has been read.
    cdef public bint body_complete
    cdef public bint keep_alive
    # Trailers follow the body, and the last chunk waits for them.
    cdef public bint trailers
    # The last piece of the body was given.
    cdef public bint body_over
    cdef public int status
    cdef public long long size
    # When it began, for the action logger.
    cdef public double since
    # For the carrier: the head that is held, in its form, and how the body is framed (see ``http.encode_head``).
    cdef public object head
    cdef public long long framing
    cdef Http1 wire        # the connection, when it is one of HTTP/1

    cdef int run(self) except -1
    cdef int over(self) except -1
    cdef int put(self, data, bint more) except -1


cdef class Http1(Wire):
    cdef public Shared context
    # An ``HttpParser``, or the session of HTTP/2; the first bytes tell which.
    cdef public object _parser
    cdef public HttpStream _stream
    # Why reading is paused, and the bytes that a closing connection has still read, or -1.
    cdef public int _holds
    cdef public long long _linger, _requests_left
    # Bytes that the client had not taken when its time was over last.
    cdef public Py_ssize_t _unsent
    # Part of a request head is here.
    cdef public bint _in_head
    # Who sent the request, or for one that came through a trusted proxy, whom the proxy names; the other end of the
    # transport; ours.
    cdef public object client, peer, server
    cdef public dict extensions
    cdef public str scheme, peer_scheme

    cdef int send_piece(self, HttpStream stream, bytes data, bint more) except -1
    cdef int complete(self, HttpStream stream) except -1
