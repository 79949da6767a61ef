/* fc_msgpack: every form at its boundaries, cut at every byte against a guard page, and random bytes. */
#include <math.h>

#include "fc_msgpack.h"
#include "fc_test.h"

/* Reads one token from a copy of bytes that ends at a guard page; every shorter copy must ask for more. */
static fc_msgpack_token read_one(const uint8_t *bytes, size_t size) {
    fc_msgpack_token token = {0};
    for (size_t cut = 0; cut <= size; cut++) {
        fc_guard guard = guard_end(bytes, cut);
        fc_msgpack_reader reader;
        fc_msgpack_reader_init(&reader, guard.data, guard.size);
        fc_status status = fc_msgpack_next(&reader, &token);
        CHECK_EQ(status, cut < size ? FC_NEED_DATA : FC_OK);
        CHECK_EQ(reader.pos, cut < size ? 0 : size);
        if (status == FC_OK && (token.kind == FC_MSGPACK_STR || token.kind == FC_MSGPACK_BIN))
            CHECK_EQ(token.data + token.size - guard.data, size);
        guard_free(&guard);
    }
    return token;
}

static void head_is(const uint8_t *got, size_t length, const char *wanted, size_t wanted_length) {
    CHECK_EQ(length, wanted_length);
    CHECK_BYTES(got, wanted, wanted_length);
}

#define HEAD_IS(call, wanted)                                                                                          \
    do {                                                                                                               \
        uint8_t p[FC_MSGPACK_SLACK];                                                                                   \
        size_t length = call;                                                                                          \
        head_is(p, length, wanted, sizeof(wanted) - 1);                                                                \
    } while (0)

static void unsigned_forms(void) {
    HEAD_IS(fc_msgpack_put_uint(p, 0), "\x00");
    HEAD_IS(fc_msgpack_put_uint(p, 127), "\x7f");
    HEAD_IS(fc_msgpack_put_uint(p, 128), "\xcc\x80");
    HEAD_IS(fc_msgpack_put_uint(p, 255), "\xcc\xff");
    HEAD_IS(fc_msgpack_put_uint(p, 256), "\xcd\x01\x00");
    HEAD_IS(fc_msgpack_put_uint(p, 65535), "\xcd\xff\xff");
    HEAD_IS(fc_msgpack_put_uint(p, 65536), "\xce\x00\x01\x00\x00");
    HEAD_IS(fc_msgpack_put_uint(p, UINT32_MAX), "\xce\xff\xff\xff\xff");
    HEAD_IS(fc_msgpack_put_uint(p, UINT64_C(1) << 32), "\xcf\x00\x00\x00\x01\x00\x00\x00\x00");
    HEAD_IS(fc_msgpack_put_uint(p, UINT64_MAX), "\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void signed_forms(void) {
    HEAD_IS(fc_msgpack_put_int(p, 0), "\x00");
    HEAD_IS(fc_msgpack_put_int(p, INT64_MAX), "\xcf\x7f\xff\xff\xff\xff\xff\xff\xff");
    HEAD_IS(fc_msgpack_put_int(p, -1), "\xff");
    HEAD_IS(fc_msgpack_put_int(p, -32), "\xe0");
    HEAD_IS(fc_msgpack_put_int(p, -33), "\xd0\xdf");
    HEAD_IS(fc_msgpack_put_int(p, -128), "\xd0\x80");
    HEAD_IS(fc_msgpack_put_int(p, -129), "\xd1\xff\x7f");
    HEAD_IS(fc_msgpack_put_int(p, -32768), "\xd1\x80\x00");
    HEAD_IS(fc_msgpack_put_int(p, -32769), "\xd2\xff\xff\x7f\xff");
    HEAD_IS(fc_msgpack_put_int(p, INT32_MIN), "\xd2\x80\x00\x00\x00");
    HEAD_IS(fc_msgpack_put_int(p, (int64_t)INT32_MIN - 1), "\xd3\xff\xff\xff\xff\x7f\xff\xff\xff");
    HEAD_IS(fc_msgpack_put_int(p, INT64_MIN), "\xd3\x80\x00\x00\x00\x00\x00\x00\x00");
}

static void other_forms(void) {
    HEAD_IS(fc_msgpack_put_nil(p), "\xc0");
    HEAD_IS(fc_msgpack_put_bool(p, 0), "\xc2");
    HEAD_IS(fc_msgpack_put_bool(p, 7), "\xc3");
    HEAD_IS(fc_msgpack_put_float(p, 1.5), "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00");
    HEAD_IS(fc_msgpack_put_float(p, -0.0), "\xcb\x80\x00\x00\x00\x00\x00\x00\x00");
}

static void head_forms(void) {
    HEAD_IS(fc_msgpack_put_str(p, 31), "\xbf");
    HEAD_IS(fc_msgpack_put_str(p, 32), "\xd9\x20");
    HEAD_IS(fc_msgpack_put_str(p, 255), "\xd9\xff");
    HEAD_IS(fc_msgpack_put_str(p, 256), "\xda\x01\x00");
    HEAD_IS(fc_msgpack_put_str(p, 65536), "\xdb\x00\x01\x00\x00");
    HEAD_IS(fc_msgpack_put_str(p, UINT32_MAX), "\xdb\xff\xff\xff\xff");
    HEAD_IS(fc_msgpack_put_bin(p, 0), "\xc4\x00");
    HEAD_IS(fc_msgpack_put_bin(p, 255), "\xc4\xff");
    HEAD_IS(fc_msgpack_put_bin(p, 256), "\xc5\x01\x00");
    HEAD_IS(fc_msgpack_put_bin(p, 65536), "\xc6\x00\x01\x00\x00");
    HEAD_IS(fc_msgpack_put_array(p, 15), "\x9f");
    HEAD_IS(fc_msgpack_put_array(p, 16), "\xdc\x00\x10");
    HEAD_IS(fc_msgpack_put_array(p, 65536), "\xdd\x00\x01\x00\x00");
    HEAD_IS(fc_msgpack_put_map(p, 15), "\x8f");
    HEAD_IS(fc_msgpack_put_map(p, 16), "\xde\x00\x10");
    HEAD_IS(fc_msgpack_put_map(p, 65536), "\xdf\x00\x01\x00\x00");
    /* What has no form. */
    HEAD_IS(fc_msgpack_put_str(p, UINT64_C(1) << 32), "");
    HEAD_IS(fc_msgpack_put_bin(p, UINT64_C(1) << 32), "");
    HEAD_IS(fc_msgpack_put_array(p, UINT64_MAX), "");
    HEAD_IS(fc_msgpack_put_map(p, UINT64_C(1) << 32), "");
}

/* A writer keeps to its FC_MSGPACK_SLACK bytes. */
static void writers_keep_to_the_slack(void) {
    fc_guard guard = guard_end(NULL, FC_MSGPACK_SLACK);
    for (int shift = 0; shift < 64; shift++) {
        for (int less = 0; less < 2; less++) {
            uint64_t value = (UINT64_C(1) << shift) - (uint64_t)less;
            CHECK(fc_msgpack_put_uint(guard.data, value) <= FC_MSGPACK_SLACK);
            CHECK(fc_msgpack_put_int(guard.data, (int64_t)(0 - value)) <= FC_MSGPACK_SLACK);
            CHECK(fc_msgpack_put_str(guard.data, value) <= FC_MSGPACK_SLACK);
            CHECK(fc_msgpack_put_bin(guard.data, value) <= FC_MSGPACK_SLACK);
            CHECK(fc_msgpack_put_array(guard.data, value) <= FC_MSGPACK_SLACK);
            CHECK(fc_msgpack_put_map(guard.data, value) <= FC_MSGPACK_SLACK);
        }
    }
    CHECK(fc_msgpack_put_float(guard.data, 1.0) == FC_MSGPACK_SLACK);
    guard_free(&guard);
}

static void numbers_come_back(void) {
    for (int shift = 0; shift < 64; shift++) {
        for (int less = 0; less < 2; less++) {
            uint8_t p[FC_MSGPACK_SLACK];
            uint64_t value = (UINT64_C(1) << shift) - (uint64_t)less;
            fc_msgpack_token token = read_one(p, fc_msgpack_put_uint(p, value));
            CHECK_EQ(token.kind, FC_MSGPACK_UINT);
            CHECK(token.u == value);
            int64_t negative = (int64_t)(0 - value);
            token = read_one(p, fc_msgpack_put_int(p, negative));
            CHECK_EQ(token.kind, negative < 0 ? FC_MSGPACK_INT : FC_MSGPACK_UINT);
            CHECK_EQ(token.i, negative);
        }
    }
    const double floats[] = {0.0, -0.0, 1.5, -1e300, 5e-324, INFINITY, NAN};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        uint8_t p[FC_MSGPACK_SLACK];
        fc_msgpack_token token = read_one(p, fc_msgpack_put_float(p, floats[i]));
        CHECK_EQ(token.kind, FC_MSGPACK_FLOAT);
        CHECK_BYTES(&token.f, &floats[i], sizeof(double));
    }
}

/* Forms that our writers never choose: other writers may. */
static void longer_forms_are_read(void) {
    CHECK_EQ(read_one((const uint8_t *)"\xd0\x05", 2).kind, FC_MSGPACK_UINT);
    CHECK_EQ(read_one((const uint8_t *)"\xd1\x00\x05", 3).u, 5);
    CHECK_EQ(read_one((const uint8_t *)"\xd2\xff\xff\xff\xfb", 5).i, -5);
    CHECK_EQ(read_one((const uint8_t *)"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 9).u, 5);
    CHECK_EQ(read_one((const uint8_t *)"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 9).u, 5);
    fc_msgpack_token token = read_one((const uint8_t *)"\xca\x3f\xc0\x00\x00", 5);
    CHECK_EQ(token.kind, FC_MSGPACK_FLOAT);
    CHECK(token.f == 1.5);
    token = read_one((const uint8_t *)"\xdb\x00\x00\x00\x02hi", 7);
    CHECK_EQ(token.kind, FC_MSGPACK_STR);
    CHECK_EQ(token.size, 2);
}

static void texts_and_bytes_come_back(void) {
    const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int bin = 0; bin < 2; bin++) {
            uint8_t *bytes = malloc(FC_MSGPACK_SLACK + sizes[i]);
            size_t head = bin ? fc_msgpack_put_bin(bytes, sizes[i]) : fc_msgpack_put_str(bytes, sizes[i]);
            memset(bytes + head, 'x', sizes[i]);
            /* Whole, without the last byte, and without the last byte of the head. */
            for (int less = 0; less < 3; less++) {
                size_t size = less == 0 ? head + sizes[i] : less == 1 ? head + sizes[i] - 1 : head - 1;
                fc_guard guard = guard_end(bytes, size);
                fc_msgpack_reader reader;
                fc_msgpack_token token;
                fc_msgpack_reader_init(&reader, guard.data, size);
                CHECK_EQ(fc_msgpack_next(&reader, &token), less ? FC_NEED_DATA : FC_OK);
                CHECK_EQ(reader.pos, less ? 0 : size);
                if (!less) {
                    CHECK_EQ(token.kind, bin ? FC_MSGPACK_BIN : FC_MSGPACK_STR);
                    CHECK_EQ(token.size, sizes[i]);
                    CHECK(token.data == guard.data + head);
                }
                guard_free(&guard);
            }
            free(bytes);
        }
    }
}

static void extensions_are_read(void) {
    uint8_t bytes[300] = {0};
    for (int form = 0; form < 5; form++) {
        bytes[0] = (uint8_t)(0xd4 + form);
        bytes[1] = 0xff;
        fc_msgpack_token token = read_one(bytes, 2 + ((size_t)1 << form));
        CHECK_EQ(token.kind, FC_MSGPACK_EXT);
        CHECK_EQ(token.ext_type, -1);
        CHECK_EQ(token.size, 1 << form);
    }
    CHECK_EQ(read_one((const uint8_t *)"\xc7\x03\x05"
                                       "abc",
                      6)
                 .ext_type,
             5);
    CHECK_EQ(read_one((const uint8_t *)"\xc8\x00\x03\x05"
                                       "abc",
                      7)
                 .size,
             3);
    CHECK_EQ(read_one((const uint8_t *)"\xc9\x00\x00\x00\x03\x7f"
                                       "abc",
                      9)
                 .ext_type,
             127);
}

static fc_status status_of(const char *bytes, size_t size, uint64_t *pos) {
    fc_guard guard = guard_end(bytes, size);
    fc_msgpack_reader reader;
    fc_msgpack_token token;
    fc_status status;
    fc_msgpack_reader_init(&reader, guard.data, size);
    do
        status = fc_msgpack_next(&reader, &token);
    while (status == FC_OK && reader.owed > 0);
    *pos = reader.pos;
    guard_free(&guard);
    return status;
}

#define STATUS(bytes, wanted, at)                                                                                      \
    do {                                                                                                               \
        uint64_t pos;                                                                                                  \
        CHECK_EQ(status_of(bytes, sizeof(bytes) - 1, &pos), wanted);                                                   \
        CHECK_EQ(pos, at);                                                                                             \
    } while (0)

static void containers_that_cannot_fit(void) {
    STATUS("\x90", FC_OK, 1);
    STATUS("\x92\x01\x02", FC_OK, 3);
    STATUS("\x92\x01", FC_ERR_FORMAT, 0);
    STATUS("\x81\xa1", FC_ERR_FORMAT, 0);
    STATUS("\x81\xa0\xc0", FC_OK, 3);
    STATUS("\xdd\xff\xff\xff\xff", FC_ERR_FORMAT, 0);
    STATUS("\xdf\xff\xff\xff\xff\x01\x02", FC_ERR_FORMAT, 0);
    STATUS("\xdf\x80\x00\x00\x00\x01\x02", FC_ERR_FORMAT, 0);
    STATUS("\xdc\x00\x02\x01\x02", FC_OK, 5);
    /* The second array fits in what remains, but not beside the value that the first still announces. */
    STATUS("\x92\x92\x01\x02", FC_ERR_FORMAT, 1);
    STATUS("\x92\x92\x01\x02\x03", FC_OK, 5);
    STATUS("\xc1", FC_ERR_FORMAT, 0);
    STATUS("\x91\xc1", FC_ERR_FORMAT, 1);
    STATUS("\xdc\x00", FC_NEED_DATA, 0);
    STATUS("", FC_NEED_DATA, 0);
}

static void an_error_repeats(void) {
    const uint8_t bytes[] = {0x92, 0x01, 0xc1};
    fc_msgpack_reader reader;
    fc_msgpack_token token;
    fc_msgpack_reader_init(&reader, bytes, sizeof bytes);
    CHECK_EQ(fc_msgpack_next(&reader, &token), FC_OK);
    CHECK_EQ(fc_msgpack_next(&reader, &token), FC_OK);
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(fc_msgpack_next(&reader, &token), FC_ERR_FORMAT);
        CHECK_EQ(reader.pos, 2);
        CHECK_EQ(reader.owed, 1);
    }
}

static void several_values_in_a_row(void) {
    const uint8_t bytes[] = {0x01, 0x91, 0xa1, 'x', 0xc0};
    fc_msgpack_reader reader;
    fc_msgpack_token token;
    int values = 0;
    fc_msgpack_reader_init(&reader, bytes, sizeof bytes);
    while (fc_msgpack_next(&reader, &token) == FC_OK)
        values += reader.owed == 0;
    CHECK_EQ(values, 3);
    CHECK_EQ(reader.pos, sizeof bytes);
}

/* Random bytes, most of them heads of containers and texts: the reader stays inside, and what it announces fits. */
static void random_bytes_stay_inside(void) {
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t size = test_below(sizeof bytes) + 1;
        test_random_bytes(bytes, size);
        for (size_t i = 0; i < size; i += 1 + test_below(4))
            bytes[i] = (uint8_t)(0x80 + test_below(0x60));
        fc_guard guard = guard_end(bytes, size);
        fc_msgpack_reader reader;
        fc_msgpack_token token;
        uint64_t announced = 0;
        fc_msgpack_reader_init(&reader, guard.data, size);
        do {
            uint64_t before = reader.pos;
            if (fc_msgpack_next(&reader, &token) != FC_OK) {
                CHECK_EQ(reader.pos, before);
                break;
            }
            CHECK(reader.pos > before && reader.pos <= size && reader.owed <= size);
            if (token.kind == FC_MSGPACK_STR || token.kind == FC_MSGPACK_BIN || token.kind == FC_MSGPACK_EXT)
                CHECK(token.data >= guard.data && token.data + token.size == guard.data + reader.pos);
            if (token.kind == FC_MSGPACK_ARRAY)
                announced += token.size;
            if (token.kind == FC_MSGPACK_MAP)
                announced += 2 * (uint64_t)token.size;
            CHECK(announced <= size);
        } while (reader.owed > 0);
        guard_free(&guard);
    }
}

static void ascii_at_every_length(void) {
    for (size_t size = 0; size < 70; size++) {
        fc_guard guard = guard_end(NULL, size);
        memset(guard.data, 0x7f, size);
        CHECK(fc_msgpack_is_ascii(guard.data, size));
        for (size_t at = 0; at < size; at++) {
            guard.data[at] = 0x80;
            CHECK(!fc_msgpack_is_ascii(guard.data, size));
            guard.data[at] = 0x7f;
        }
        guard_free(&guard);
    }
}

FC_TEST_MAIN(TEST(unsigned_forms), TEST(signed_forms), TEST(other_forms), TEST(head_forms),
             TEST(writers_keep_to_the_slack), TEST(numbers_come_back), TEST(longer_forms_are_read),
             TEST(texts_and_bytes_come_back), TEST(extensions_are_read), TEST(containers_that_cannot_fit),
             TEST(an_error_repeats), TEST(several_values_in_a_row), TEST(random_bytes_stay_inside),
             TEST(ascii_at_every_length))
