#include "fc_test.h"
#include "fc_mask.h"

/* Section 5.3, a byte at a time. */
static int oracle(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key, uint64_t phase) {
    int high = 0;
    for (size_t i = 0; i < size; i++) {
        dst[i] = src[i] ^ key[(phase + i) % 4];
        high |= dst[i] >= 0x80;
    }
    return high;
}

static fc_mask_variant variants[FC_MASK_VARIANTS_MAX + 1];

static size_t all_variants(void) {
    size_t count = fc_mask_variants(variants);
    variants[count++] = (fc_mask_variant){"dispatch", fc_mask};
    return count;
}

/* The buffers lie against a guard page at either end; fill, when not negative, makes the output that byte. */
static void check(const fc_mask_variant *variant, size_t size, uint64_t phase, int fill) {
    uint8_t key[4], plain[1200], wanted[1200];
    test_random_bytes(key, 4);
    test_random_bytes(plain, size);
    if (fill >= 0) {
        memset(wanted, fill, size);
        oracle(plain, wanted, size, key, phase);
    }
    int high = oracle(wanted, plain, size, key, phase);
    for (int at_end = 0; at_end < 2; at_end++) {
        fc_guard src = fc_guard_make(plain, size, at_end), dst = fc_guard_make(NULL, size, at_end);
        CHECK_EQ(variant->run(dst.data, src.data, size, key, phase), high);
        CHECK_BYTES(dst.data, wanted, size);
        CHECK_BYTES(src.data, plain, size);
        CHECK_EQ(variant->run(src.data, src.data, size, key, phase), high);
        CHECK_BYTES(src.data, wanted, size);
        guard_free(&src);
        guard_free(&dst);
    }
}

static void every_small_size_and_phase(void) {
    size_t count = all_variants();
    for (size_t v = 0; v < count; v++)
        for (size_t size = 0; size <= 150; size++)
            for (uint64_t phase = 0; phase < 4; phase++)
                check(&variants[v], size, phase, -1);
}

static void larger_sizes(void) {
    size_t count = all_variants();
    for (size_t v = 0; v < count; v++)
        for (int round = 0; round < 60; round++)
            check(&variants[v], 150 + test_below(1000), test_random(), -1);
}

/* Alignment of source and destination apart from each other. */
static void every_alignment(void) {
    size_t count = all_variants();
    uint8_t key[4] = {1, 2, 3, 4}, src[400], dst[400], wanted[400];
    test_random_bytes(src, sizeof src);
    for (size_t v = 0; v < count; v++)
        for (size_t a = 0; a < 33; a++)
            for (size_t b = 0; b < 33; b++) {
                memset(dst, 0xEE, sizeof dst);
                memset(wanted, 0xEE, sizeof wanted);
                int high = oracle(wanted + b, src + a, 300, key, a);
                CHECK_EQ(variants[v].run(dst + b, src + a, 300, key, a), high);
                CHECK_BYTES(dst, wanted, sizeof dst);
            }
}

/* The verdict on ASCII: nothing above 0x7F, then exactly one such byte, at every place. */
static void top_bit(void) {
    size_t count = all_variants();
    uint8_t key[4] = {0xF1, 0x82, 0x03, 0x74}, plain[300], masked[300], out[300];
    for (size_t v = 0; v < count; v++)
        for (size_t size = 1; size <= 280; size += size < 70 ? 1 : 35) {
            check(&variants[v], size, 3, 'a');
            for (size_t at = 0; at < size; at++) {
                memset(plain, 0x7F, size);
                plain[at] = 0x80;
                oracle(masked, plain, size, key, 2);
                CHECK_EQ(variants[v].run(out, masked, size, key, 2), 1);
            }
        }
}

/* Cut anywhere, with the phase carried on, the pieces give what the whole gives. */
static void split_at_random(void) {
    uint8_t key[4] = {9, 0xA8, 0x77, 0x56}, plain[1000], wanted[1000], out[1000];
    test_random_bytes(plain, sizeof plain);
    oracle(wanted, plain, sizeof plain, key, 0);
    for (int round = 0; round < 200; round++) {
        memset(out, 0, sizeof out);
        for (size_t at = 0; at < sizeof plain;) {
            size_t piece = 1 + test_below(sizeof plain - at);
            fc_mask(out + at, plain + at, piece, key, at);
            at += piece;
        }
        CHECK_BYTES(out, wanted, sizeof out);
    }
}

static void nothing_at_all(void) {
    uint8_t key[4] = {1, 2, 3, 4};
    CHECK_EQ(fc_mask(NULL, NULL, 0, key, 7), 0);
}

FC_TEST_MAIN(TEST(every_small_size_and_phase), TEST(larger_sizes), TEST(every_alignment), TEST(top_bit),
             TEST(split_at_random), TEST(nothing_at_all))
