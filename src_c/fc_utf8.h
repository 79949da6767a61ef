/* Validates UTF-8 that arrives in pieces (RFC 3629 section 4).
 *
 * The verdict falls at the first byte after which no continuation can be valid: a stray continuation byte, an overlong
 * form, a surrogate, a value above U+10FFFF.
 *
 * Ownership: nothing is allocated and nothing is kept but the state, which is the caller's.
 * Slack: no byte outside data[0..size) is read. Complexity: O(size); runs of ASCII go 16 bytes at a time.
 * Threads: a state belongs to one thread at a time.
 */
#ifndef FC_UTF8_H
#define FC_UTF8_H

#include "fc_common.h"

/* All zero: at the start of a character. need is the number of bytes that the open character still lacks, lo and hi
 * bound the next of them. */
typedef struct fc_utf8 {
    uint8_t need;
    uint8_t lo;
    uint8_t hi;
    uint8_t failed;
} fc_utf8;

static inline void fc_utf8_init(fc_utf8 *state) {
    memset(state, 0, sizeof *state);
}

/* Takes the next size bytes (data may be NULL when size is 0).
 * FC_OK: all valid so far, at the end of a character. FC_NEED_DATA: valid so far, inside a character.
 * FC_ERR_UTF8: invalid; every later call says so too, until fc_utf8_init. */
fc_status fc_utf8_feed(fc_utf8 *state, const uint8_t *data, size_t size);

#endif
