/* The masking of RFC 6455 section 5.3: each byte is XORed with one of the four bytes of the key in turn. Masking and
 * unmasking are the same operation.
 *
 * Ownership: nothing is allocated or kept. dst == src works in place; otherwise the two ranges must not overlap.
 * Slack: no byte outside the size given is read or written, at any alignment. Complexity: O(size).
 * Threads: any. The instruction set for long runs is chosen at the first of them, by one write-once pointer.
 */
#ifndef FC_MASK_H
#define FC_MASK_H

#include "fc_common.h"

/* Writes src XOR key to dst; phase is the offset of src[0] in the payload (only its low two bits matter).
 * Returns 1 when some byte written has its top bit set, 0 when all of them are ASCII. Pointers may be NULL when size
 * is 0. Cannot fail. */
int fc_mask(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase);

/* The implementations that this CPU runs, the portable one first: so that tests and benchmarks meet each of them. */
typedef struct fc_mask_variant {
    const char *name;
    int (*run)(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase);
} fc_mask_variant;

#define FC_MASK_VARIANTS_MAX 3

/* Fills table, which has room for FC_MASK_VARIANTS_MAX, and returns how many it filled. */
size_t fc_mask_variants(fc_mask_variant *table);

#endif
