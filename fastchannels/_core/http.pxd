from libc.stdint cimport uint8_t, uint64_t

from fastchannels._core.c_fc cimport fc_http_chunks, fc_http_limits, fc_http_request, fc_http_scanner


cdef class Request:
    cdef public str method
    cdef public str path
    cdef public bytes raw_path
    cdef public bytes query_string
    cdef public str version
    cdef public list headers
    cdef public object content_length
    cdef public object root_path
    cdef public bint keep_alive
    cdef public bint websocket
    cdef public bint chunked
    cdef public bint expect_continue
    cdef public bint te_trailers
    cdef public bint complete


cdef class HttpParser:
    cdef readonly object events
    cdef public bytes trailing
    cdef readonly bint finished
    cdef fc_http_limits limits
    cdef fc_http_scanner scanner
    cdef fc_http_chunks chunks
    cdef uint64_t left
    cdef uint8_t state
    cdef bint last
    cdef bytearray held

    cdef Request whole(self, const uint8_t *data, Py_ssize_t size)
    cdef int parse(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef Py_ssize_t head(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef Request request_of(self, const uint8_t *head, fc_http_request *parsed)
    cdef int fail(self, int status, const char *reason) except -1


cdef enum:
    # How a response's body is framed, when it is not a number of bytes.
    CHUNKED_BODY = -1
    UNTIL_CLOSE = -2
    NO_BODY = -3

cdef bytes head_of(Request request, status, headers, common, bint *stays, long long *framing)
