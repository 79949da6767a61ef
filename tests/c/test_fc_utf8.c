#include "fc_test.h"
#include "fc_utf8.h"
#include "utf8_oracle.h"

static fc_status feed_whole(const uint8_t *bytes, size_t size) {
    fc_utf8 state;
    fc_utf8_init(&state);
    fc_guard at_end = guard_end(bytes, size), at_start = guard_start(bytes, size);
    fc_status status = fc_utf8_feed(&state, at_end.data, size);
    fc_utf8_init(&state);
    CHECK_EQ(fc_utf8_feed(&state, at_start.data, size), status);
    guard_free(&at_end);
    guard_free(&at_start);
    return status;
}

/* Whole, byte by byte and split at random: the same verdict as the oracle's, at every prefix. */
static void check_all_ways(const uint8_t *bytes, size_t size) {
    fc_utf8 state;
    fc_status last = FC_OK;
    fc_utf8_init(&state);
    for (size_t i = 0; i < size; i++) {
        last = fc_utf8_feed(&state, bytes + i, 1);
        CHECK_EQ(last, utf8_oracle(bytes, i + 1));
        CHECK_EQ(feed_whole(bytes, i + 1), last);
    }
    for (int round = 0; round < 4; round++) {
        fc_utf8_init(&state);
        fc_status split = FC_OK;
        for (size_t at = 0; at < size;) {
            size_t piece = test_below(size - at + 1);
            split = fc_utf8_feed(&state, bytes + at, piece);
            at += piece;
        }
        CHECK_EQ(split, last);
    }
}

static void every_pair_and_lead(void) {
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            uint8_t bytes[4] = {(uint8_t)a, (uint8_t)b, 0x80, 0xBF};
            fc_utf8 state;
            for (size_t size = 1; size <= 4; size++) {
                fc_utf8_init(&state);
                CHECK_EQ(fc_utf8_feed(&state, bytes, size), utf8_oracle(bytes, size));
            }
        }
}

static void boundaries(void) {
    static const char *const texts[] = {
        "",
        "a",
        "\x7F",
        "\xC2\x80",
        "\xDF\xBF",
        "\xE0\xA0\x80",
        "\xED\x9F\xBF",
        "\xEE\x80\x80",
        "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80",
        "\xF4\x8F\xBF\xBF",
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xE0\x9F\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFE",
        "\xFF",
        "\xC2",
        "\xE1\x80",
        "\xF1\x80\x80",
        "\xC2\xC2",
        "\xE1\x80\xC2",
        "\xF1\x80\x80\x41",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        check_all_ways((const uint8_t *)texts[i], strlen(texts[i]));
}

/* A character and a bad byte at every offset of a run that crosses the 16- and 8-byte steps. */
static void at_every_offset(void) {
    for (size_t size = 1; size <= 70; size++)
        for (size_t at = 0; at < size; at++) {
            uint8_t bytes[80];
            memset(bytes, 'x', sizeof bytes);
            bytes[at] = 0xFF;
            CHECK_EQ(feed_whole(bytes, size), FC_ERR_UTF8);
            memcpy(bytes + at, "\xE2\x82\xAC", 3);
            CHECK_EQ(feed_whole(bytes, size), utf8_oracle(bytes, size));
        }
}

static void failure_is_sticky(void) {
    fc_utf8 state;
    fc_utf8_init(&state);
    CHECK_EQ(fc_utf8_feed(&state, (const uint8_t *)"\xFF", 1), FC_ERR_UTF8);
    CHECK_EQ(fc_utf8_feed(&state, (const uint8_t *)"a", 1), FC_ERR_UTF8);
    CHECK_EQ(fc_utf8_feed(&state, NULL, 0), FC_ERR_UTF8);
    fc_utf8_init(&state);
    CHECK_EQ(fc_utf8_feed(&state, NULL, 0), FC_OK);
}

static void random_text(void) {
    static const char *const pieces[] = {"a", "hello, world: ", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (int round = 0; round < 300; round++) {
        uint8_t bytes[128];
        size_t size = 0;
        while (size < 90) {
            const char *piece = pieces[test_below(5)];
            memcpy(bytes + size, piece, strlen(piece));
            size += strlen(piece);
        }
        CHECK_EQ(feed_whole(bytes, size), FC_OK);
        for (size_t flips = test_below(3); flips; flips--)
            bytes[test_below(size)] ^= (uint8_t)(1u << test_below(8));
        check_all_ways(bytes, size);
    }
}

FC_TEST_MAIN(TEST(every_pair_and_lead), TEST(boundaries), TEST(at_every_offset), TEST(failure_is_sticky),
             TEST(random_text))
