"""permessage-deflate (RFC 7692 section 7.2) over zlib, a message at a time.

No message refers to one before it ("no context takeover"), so one stream each way serves all sockets: a socket costs no
memory for its compression, and a message is compressed once for all that may have it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport uint8_t
from libc.string cimport memset

from fastchannels.exceptions import UsageError, WebSocketError

cdef extern from "zlib.h" nogil:
    ctypedef struct z_stream:
        uint8_t *next_in  # const, but not in every zlib.h
        unsigned int avail_in
        uint8_t *next_out
        unsigned int avail_out

    enum:
        Z_OK
        Z_STREAM_END
        Z_BUF_ERROR
        Z_MEM_ERROR
        Z_SYNC_FLUSH
        Z_DEFLATED
        Z_DEFAULT_STRATEGY
    int deflateInit2(z_stream *stream, int level, int method, int bits, int memory, int strategy) noexcept
    int deflateReset(z_stream *stream) noexcept
    unsigned long deflateBound(z_stream *stream, unsigned long size) noexcept
    int deflate(z_stream *stream, int flush) noexcept
    int inflateInit2(z_stream *stream, int bits) noexcept
    int inflateReset(z_stream *stream) noexcept
    int inflateResetKeep(z_stream *stream) noexcept
    int inflate(z_stream *stream, int flush) noexcept

cdef enum:
    LEAST_BITS = 9
    MOST_BITS = 15
    # A window of 4 KiB and tables of 16 KiB, quick to clear, for messages that are not large.
    SMALL = 16 * 1024
    SMALL_BITS = 12
    # The fastest: what stronger levels save, on messages of a kilobyte, is 2%.
    LEVEL = 1
    ROOM = 64 * 1024
    # A larger buffer is given back after its message.
    KEPT_ROOM = 1024 * 1024
    # zlib counts in unsigned int.
    LARGEST = 1 << 30

cdef z_stream *deflaters[MOST_BITS + 1]
cdef z_stream *inflater = NULL
cdef uint8_t *room = NULL
cdef size_t room_size = 0
cdef const uint8_t *TAIL = b"\x00\x00\xff\xff"

memset(deflaters, 0, sizeof(deflaters))


cdef int make_room(size_t size, bint keep) except -1:
    global room, room_size
    cdef uint8_t *grown
    if room != NULL and not keep and (room_size < size or room_size > KEPT_ROOM >= size):
        PyMem_Free(room)
        room = NULL
    if room == NULL or room_size < size:
        if size < ROOM:
            size = ROOM
        grown = <uint8_t *>PyMem_Realloc(room, size)
        if grown == NULL:
            raise MemoryError()
        room = grown
        room_size = size
    return 0


cdef z_stream *new_stream() except NULL:
    cdef z_stream *stream = <z_stream *>PyMem_Malloc(sizeof(z_stream))
    if stream == NULL:
        raise MemoryError()
    memset(stream, 0, sizeof(z_stream))
    return stream


# HOT: permessage-deflate echo
cdef int deflate_into(const uint8_t *data, size_t length, int bits, const uint8_t **out, size_t *size) except -1:
    cdef z_stream *stream
    cdef int window = SMALL_BITS if length <= SMALL and bits > SMALL_BITS else bits
    if length > LARGEST:
        raise UsageError(f"a message of {length} bytes is too large to be compressed")
    stream = deflaters[window]
    if stream == NULL:
        stream = new_stream()
        if deflateInit2(
            stream, LEVEL, Z_DEFLATED, -window, 5 if window <= SMALL_BITS else 8, Z_DEFAULT_STRATEGY
        ) != Z_OK:
            PyMem_Free(stream)
            raise MemoryError()
        deflaters[window] = stream
    else:
        deflateReset(stream)
    make_room(deflateBound(stream, length) + 16, False)
    stream.next_in = <uint8_t *>data
    stream.avail_in = <unsigned int>length
    stream.next_out = room
    stream.avail_out = <unsigned int>room_size
    deflate(stream, Z_SYNC_FLUSH)
    # Section 7.2.1: the empty block at the end, 00 00 ff ff, is left out.
    size[0] = room_size - stream.avail_out - 4
    out[0] = room
    return 0


# HOT: permessage-deflate echo
cdef int inflate_into(
    const uint8_t *data, size_t length, size_t limit, const uint8_t **out, size_t *size
) except -1:
    global inflater
    cdef z_stream *stream = inflater
    cdef size_t done = 0
    cdef bint tail = False
    cdef int status
    if length > LARGEST:
        return TOO_BIG
    if stream == NULL:
        stream = new_stream()
        if inflateInit2(stream, -MOST_BITS) != Z_OK:
            PyMem_Free(stream)
            raise MemoryError()
        inflater = stream
    else:
        inflateReset(stream)
    make_room(ROOM, False)
    stream.next_in = <uint8_t *>data
    stream.avail_in = <unsigned int>length
    while True:
        stream.next_out = room + done
        stream.avail_out = <unsigned int>min(room_size - done, <size_t>LARGEST)
        done += stream.avail_out
        status = inflate(stream, Z_SYNC_FLUSH)
        done -= stream.avail_out
        # The limit is looked at each time the buffer is full, before it grows.
        if done > limit:
            return TOO_BIG
        if status == Z_STREAM_END:  # section 7.2.3.4: a last block does not end the message
            if stream.avail_in == 0 and not tail:
                break
            if inflateResetKeep(stream) != Z_OK:
                return BAD_DATA
        elif status == Z_MEM_ERROR:
            raise MemoryError()
        elif status != Z_OK and status != Z_BUF_ERROR:
            return BAD_DATA
        if stream.avail_out == 0:
            make_room(2 * room_size, True)
        elif stream.avail_in == 0:
            if tail:
                break
            tail = True
            stream.next_in = <uint8_t *>TAIL
            stream.avail_in = 4
        elif status == Z_BUF_ERROR:
            return BAD_DATA
    size[0] = done
    out[0] = room
    return INFLATED


def compress(bytes data not None, int bits=MOST_BITS):
    """The payload of a compressed frame for ``data``, from a window of ``2**bits`` bytes. ``UsageError`` outside 9-15."""
    cdef const uint8_t *out = NULL
    cdef size_t size = 0
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise UsageError(f"a window of {bits} bits: 9 to 15 are possible")
    deflate_into(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), bits, &out, &size)
    return PyBytes_FromStringAndSize(<const char *>out, size)


def decompress(bytes data not None, Py_ssize_t limit):
    """What ``data``, the payload of a compressed message, stands for.

    Raises ``WebSocketError``: 1009 when it is more than ``limit`` bytes, 1007 when it is no compressed data. Never
    holds more than four times the limit, whatever the data would grow to.
    """
    cdef const uint8_t *out = NULL
    cdef size_t size = 0
    cdef int outcome = inflate_into(
        <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), limit, &out, &size
    )
    if outcome == TOO_BIG:
        raise WebSocketError(1009, "message too big")
    if outcome == BAD_DATA:
        raise WebSocketError(1007, "compressed data is not valid")
    return PyBytes_FromStringAndSize(<const char *>out, size)
