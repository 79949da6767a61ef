/* MessagePack, one token at a time: a reader over a caller's buffer, and writers of the smallest form.
 *
 * Format: github.com/msgpack/msgpack spec.md. The writers choose the same forms as msgpack-python's packb, so that
 * equal values give equal bytes.
 *
 * Ownership: nothing is allocated and nothing is kept. A STR, BIN or EXT token points into the reader's buffer and
 * lives as long as that buffer.
 * Threads: a reader belongs to one thread at a time; the writers have no state.
 */
#ifndef FC_MSGPACK_H
#define FC_MSGPACK_H

#include "fc_common.h"

/* Bytes that a writer may touch from its first argument on, whatever it returns. The caller has them ready. */
#define FC_MSGPACK_SLACK 9

typedef enum fc_msgpack_kind {
    FC_MSGPACK_NIL,
    FC_MSGPACK_FALSE,
    FC_MSGPACK_TRUE,
    FC_MSGPACK_UINT,  /* u: 0 to 2**64-1 */
    FC_MSGPACK_INT,   /* i: below 0 */
    FC_MSGPACK_FLOAT, /* f; float32 is widened */
    FC_MSGPACK_STR,   /* size bytes at data, not checked for UTF-8 */
    FC_MSGPACK_BIN,   /* size bytes at data */
    FC_MSGPACK_ARRAY, /* size values follow */
    FC_MSGPACK_MAP,   /* size pairs follow: 2 * size values */
    FC_MSGPACK_EXT    /* size bytes at data, of application type ext_type */
} fc_msgpack_kind;

typedef struct fc_msgpack_token {
    fc_msgpack_kind kind;
    uint32_t size;
    union {
        uint64_t u;
        int64_t i;
        double f;
        const uint8_t *data;
    };
    int8_t ext_type;
} fc_msgpack_token;

/* pos is the offset of the next token; after an error, of the token at fault. owed counts the values that the
 * containers read so far still announce: 0 between two top-level values. */
typedef struct fc_msgpack_reader {
    const uint8_t *data;
    uint64_t size;
    uint64_t pos;
    uint64_t owed;
} fc_msgpack_reader;

static inline void fc_msgpack_reader_init(fc_msgpack_reader *reader, const void *data, size_t size) {
    reader->data = (const uint8_t *)data;
    reader->size = size;
    reader->pos = 0;
    reader->owed = 0;
}

/* Reads the next token and moves past it. O(1); no byte at or after data + size is touched.
 *
 * FC_OK          *token is set.
 * FC_NEED_DATA   the buffer ends before the token does.
 * FC_ERR_FORMAT  the byte 0xc1, which is no token; or a container that announces more values than bytes remain for
 *                all values announced so far. By the latter a host may allocate size slots for each container: the
 *                values announced by one buffer never outnumber its bytes.
 *
 * After an error pos is as before and the same call gives the same error.
 */
static inline fc_status fc_msgpack_next(fc_msgpack_reader *reader, fc_msgpack_token *token);

/* The same; fc_msgpack_next is the one to call, which has the commonest token in line. */
fc_status fc_msgpack_next_any(fc_msgpack_reader *reader, fc_msgpack_token *token);

static inline fc_status fc_msgpack_next(fc_msgpack_reader *reader, fc_msgpack_token *token) {
    /* Text of up to 31 bytes inside a container: two thirds of the tokens of a usual message. */
    uint64_t left = reader->size - reader->pos;
    if (FC_LIKELY(left > 0 && reader->owed > 0)) {
        const uint8_t *p = reader->data + reader->pos;
        uint64_t size = (uint64_t)*p - 0xa0;
        if (size < 32 && size < left) {
            token->kind = FC_MSGPACK_STR;
            token->size = (uint32_t)size;
            token->data = p + 1;
            reader->pos += 1 + size;
            reader->owed -= 1;
            return FC_OK;
        }
    }
    return fc_msgpack_next_any(reader, token);
}

/* Whether the size bytes at data are all below 0x80. O(size). */
static inline int fc_msgpack_is_ascii(const uint8_t *data, size_t size) {
    uint64_t word, seen = 0;
    if (size >= 8) {
        size_t at = 0;
        for (; at + 8 <= size; at += 8) {
            memcpy(&word, data + at, 8);
            seen |= word;
        }
        /* The last eight bytes, some of them for the second time. */
        memcpy(&word, data + size - 8, 8);
        seen |= word;
    } else {
        for (size_t at = 0; at < size; at++)
            seen |= data[at];
    }
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

/* The writers. Each stores one token head at p and returns its length in bytes, 1 to FC_MSGPACK_SLACK. O(1).
 * str and bin heads are followed by size bytes that the caller copies; array and map heads by size values or pairs.
 * A size above 2**32-1 has no form: the four functions that take one return 0 for it. */
static inline size_t fc_msgpack_put_nil(uint8_t *p) {
    p[0] = 0xc0;
    return 1;
}

static inline size_t fc_msgpack_put_bool(uint8_t *p, int value) {
    p[0] = value ? 0xc3 : 0xc2;
    return 1;
}

static inline size_t fc_msgpack_put_uint(uint8_t *p, uint64_t value) {
    if (FC_LIKELY(value < 0x80)) {
        p[0] = (uint8_t)value;
        return 1;
    }
    if (value <= UINT8_MAX) {
        p[0] = 0xcc;
        p[1] = (uint8_t)value;
        return 2;
    }
    if (value <= UINT16_MAX) {
        p[0] = 0xcd;
        fc_store_be16(p + 1, (uint16_t)value);
        return 3;
    }
    if (value <= UINT32_MAX) {
        p[0] = 0xce;
        fc_store_be32(p + 1, (uint32_t)value);
        return 5;
    }
    p[0] = 0xcf;
    fc_store_be64(p + 1, value);
    return 9;
}

/* A value of 0 or more takes the unsigned form. */
static inline size_t fc_msgpack_put_int(uint8_t *p, int64_t value) {
    if (FC_LIKELY(value >= 0))
        return fc_msgpack_put_uint(p, (uint64_t)value);
    if (value >= -32) {
        p[0] = (uint8_t)value;
        return 1;
    }
    if (value >= INT8_MIN) {
        p[0] = 0xd0;
        p[1] = (uint8_t)value;
        return 2;
    }
    if (value >= INT16_MIN) {
        p[0] = 0xd1;
        fc_store_be16(p + 1, (uint16_t)value);
        return 3;
    }
    if (value >= INT32_MIN) {
        p[0] = 0xd2;
        fc_store_be32(p + 1, (uint32_t)value);
        return 5;
    }
    p[0] = 0xd3;
    fc_store_be64(p + 1, (uint64_t)value);
    return 9;
}

/* float64 always, as packb does by default; NaN keeps its bits. */
static inline size_t fc_msgpack_put_float(uint8_t *p, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    p[0] = 0xcb;
    fc_store_be64(p + 1, bits);
    return 9;
}

static inline size_t fc_msgpack_put_str(uint8_t *p, uint64_t size) {
    if (FC_LIKELY(size < 32)) {
        p[0] = (uint8_t)(0xa0 | size);
        return 1;
    }
    if (size <= UINT8_MAX) {
        p[0] = 0xd9;
        p[1] = (uint8_t)size;
        return 2;
    }
    if (size <= UINT16_MAX) {
        p[0] = 0xda;
        fc_store_be16(p + 1, (uint16_t)size);
        return 3;
    }
    if (size <= UINT32_MAX) {
        p[0] = 0xdb;
        fc_store_be32(p + 1, (uint32_t)size);
        return 5;
    }
    return 0;
}

static inline size_t fc_msgpack_put_bin(uint8_t *p, uint64_t size) {
    if (FC_LIKELY(size <= UINT8_MAX)) {
        p[0] = 0xc4;
        p[1] = (uint8_t)size;
        return 2;
    }
    if (size <= UINT16_MAX) {
        p[0] = 0xc5;
        fc_store_be16(p + 1, (uint16_t)size);
        return 3;
    }
    if (size <= UINT32_MAX) {
        p[0] = 0xc6;
        fc_store_be32(p + 1, (uint32_t)size);
        return 5;
    }
    return 0;
}

static inline size_t fc_msgpack_put_array(uint8_t *p, uint64_t size) {
    if (FC_LIKELY(size < 16)) {
        p[0] = (uint8_t)(0x90 | size);
        return 1;
    }
    if (size <= UINT16_MAX) {
        p[0] = 0xdc;
        fc_store_be16(p + 1, (uint16_t)size);
        return 3;
    }
    if (size <= UINT32_MAX) {
        p[0] = 0xdd;
        fc_store_be32(p + 1, (uint32_t)size);
        return 5;
    }
    return 0;
}

static inline size_t fc_msgpack_put_map(uint8_t *p, uint64_t size) {
    if (FC_LIKELY(size < 16)) {
        p[0] = (uint8_t)(0x80 | size);
        return 1;
    }
    if (size <= UINT16_MAX) {
        p[0] = 0xde;
        fc_store_be16(p + 1, (uint16_t)size);
        return 3;
    }
    if (size <= UINT32_MAX) {
        p[0] = 0xdf;
        fc_store_be32(p + 1, (uint32_t)size);
        return 5;
    }
    return 0;
}

#endif
