/* What every fc_ unit shares: status codes, symbol visibility, unaligned big- and little-endian access.
 *
 * Contract of the directory: C11, no Python.h, no I/O except fc_shm (which maps a file), no logging, no mutable
 * globals other than write-once dispatch. A function that can fail returns an fc_status: FC_OK, FC_NEED_DATA, or a
 * negative error. Buffers belong to the caller unless a header says otherwise.
 */
#ifndef FC_COMMON_H
#define FC_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum fc_status {
    FC_OK = 0,
    FC_NEED_DATA = 1,   /* not an error: feed more bytes and call again */
    FC_ERR_NOMEM = -1,  /* the allocator returned NULL */
    FC_ERR_RANGE = -2,  /* a length or number is outside what the format or a limit allows */
    FC_ERR_FORMAT = -3, /* the bytes break the format */
    FC_ERR_UTF8 = -4,   /* text that is not UTF-8 */
    FC_ERR_DEPTH = -5,  /* nested deeper than the limit */
    FC_ERR_FULL = -6,   /* no room: the caller drops or refuses */
    FC_ERR_CLOSED = -7, /* the other side is gone, or the object was closed */
    FC_ERR_OS = -8,     /* a system call failed: errno holds the reason */
    FC_ERR_VERSION = -9 /* a segment of another version, or not a segment at all */
} fc_status;

#if defined(__GNUC__) || defined(__clang__)
#define FC_LIKELY(x) __builtin_expect(!!(x), 1)
#define FC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define FC_LIKELY(x) (x)
#define FC_UNLIKELY(x) (x)
#endif

/* Loads and stores by memcpy: legal at any alignment, one instruction after optimisation. */
static inline uint16_t fc_load_be16(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint16_t)((uint16_t)b[0] << 8 | b[1]);
}

static inline uint32_t fc_load_be32(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static inline uint64_t fc_load_be64(const void *p) {
    return (uint64_t)fc_load_be32(p) << 32 | fc_load_be32((const uint8_t *)p + 4);
}

static inline void fc_store_be16(void *p, uint16_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)(v >> 8);
    b[1] = (uint8_t)v;
}

static inline void fc_store_be32(void *p, uint32_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)(v >> 24);
    b[1] = (uint8_t)(v >> 16);
    b[2] = (uint8_t)(v >> 8);
    b[3] = (uint8_t)v;
}

static inline void fc_store_be64(void *p, uint64_t v) {
    fc_store_be32(p, (uint32_t)(v >> 32));
    fc_store_be32((uint8_t *)p + 4, (uint32_t)v);
}

#endif
