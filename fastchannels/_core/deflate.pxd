from libc.stdint cimport uint8_t

cdef enum:
    INFLATED, TOO_BIG, BAD_DATA


# Both put their result into memory of this module, which the next call uses again; out[0] and size[0] say where.
cdef int deflate_into(const uint8_t *data, size_t length, int bits, const uint8_t **out, size_t *size) except -1
cdef int inflate_into(
    const uint8_t *data, size_t length, size_t limit, const uint8_t **out, size_t *size
) except -1
