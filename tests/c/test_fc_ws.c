#include "fc_test.h"
#include "fc_mask.h"
#include "ws_host.h"

typedef struct stream {
    uint8_t bytes[300000];
    size_t size;
} stream;

static stream input;

static void add_frame(uint8_t first, const void *payload, size_t size, int masked) {
    uint8_t key[4];
    test_random_bytes(key, 4);
    uint8_t *out = input.bytes + input.size;
    size_t header = fc_ws_header_write(out, first, size, masked ? key : NULL);
    CHECK_EQ(header, fc_ws_header_size(size, masked));
    if (size)
        memcpy(out + header, payload, size);
    if (masked)
        fc_mask(out + header, out + header, size, key, 0);
    input.size += header + size;
}

static void add_text(uint8_t first, const char *payload) {
    add_frame(first, payload, strlen(payload), 1);
}

typedef struct outcome {
    fc_status status;
    uint16_t close_code;
    size_t events;
} outcome;

static struct {
    enum fc_ws_role role;
    uint8_t rsv_allowed;
    uint64_t max_frame, max_message;
} config;

static void reset(void) {
    memset(&config, 0, sizeof config);
    input.size = 0;
}

/* Feeds the input whole, byte by byte and split at random, each piece against a guard page or in a block of its own,
 * and checks that all agree. */
static outcome run(void) {
    ws_host whole, other;
    ws_host_init(&whole, config.role, config.rsv_allowed, config.max_frame, config.max_message);
    fc_guard guarded = guard_end(input.bytes, input.size);
    fc_status status = ws_host_feed(&whole, guarded.data, input.size);
    guard_free(&guarded);

    for (int round = 0; round < 6; round++) {
        fc_status split = FC_NEED_DATA;
        size_t largest = round == 0 ? 1 : round == 1 ? 3 : input.size + 1;
        ws_host_init(&other, config.role, config.rsv_allowed, config.max_frame, config.max_message);
        for (size_t at = 0; at < input.size && split == FC_NEED_DATA;) {
            size_t left = input.size - at;
            size_t piece = 1 + test_below(largest < left ? largest : left);
            if (round > 1) {
                guarded = guard_end(input.bytes + at, piece);
                split = ws_host_feed(&other, guarded.data, piece);
                guard_free(&guarded);
            } else {
                uint8_t *copy = (uint8_t *)malloc(piece);
                memcpy(copy, input.bytes + at, piece);
                split = ws_host_feed(&other, copy, piece);
                free(copy);
            }
            at += piece;
        }
        CHECK(split == status || (split == FC_NEED_DATA && status == FC_ERR_CLOSED)); /* the close frame came last */
        CHECK_EQ(other.parser.close_code, whole.parser.close_code);
        CHECK(other.parser.reason == whole.parser.reason);
        CHECK_EQ(other.events, whole.events);
        CHECK_EQ(other.log_size, whole.log_size);
        if (other.log_size == whole.log_size)
            CHECK_BYTES(other.log, whole.log, whole.log_size);
        ws_host_free(&other);
    }
    outcome result = {status, whole.parser.close_code, whole.events};
    if (whole.parser.close_code) { /* sticky */
        uint8_t byte = 0x81;
        size_t used = 7;
        CHECK_EQ(fc_ws_parser_header(&whole.parser, &byte, 1, &used), status);
        CHECK_EQ(used, 0);
        CHECK_EQ(fc_ws_parser_payload(&whole.parser, &byte, &byte, 1, &used), status);
        CHECK_EQ(used, 0);
        CHECK(whole.parser.reason != NULL);
    } else {
        CHECK(whole.parser.reason == NULL);
    }
    ws_host_free(&whole);
    return result;
}

#define EXPECT(wanted_status, wanted_code, wanted_events)                                                              \
    do {                                                                                                               \
        outcome got = run();                                                                                           \
        CHECK_EQ(got.status, wanted_status);                                                                           \
        CHECK_EQ(got.close_code, wanted_code);                                                                         \
        CHECK_EQ(got.events, wanted_events);                                                                           \
    } while (0)

/* Sections 5.7 and 5.2: payloads around each form of the length. */
static void lengths(void) {
    static const size_t sizes[] = {0, 1, 2, 124, 125, 126, 127, 65535, 65536, 65537};
    static uint8_t payload[65537];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        reset();
        memset(payload, 'p', sizeof payload);
        add_frame(0x82, payload, sizes[i], 1);
        add_frame(0x81, payload, sizes[i], 1);
        EXPECT(FC_NEED_DATA, 0, 2);
    }
}

static void the_headers_themselves(void) {
    uint8_t key[4] = {1, 2, 3, 4};
    static const struct {
        uint64_t length;
        size_t size;
        uint8_t bytes[10];
    } table[] = {
        {0, 2, {0x82, 0}},
        {125, 2, {0x82, 125}},
        {126, 4, {0x82, 126, 0, 126}},
        {65535, 4, {0x82, 126, 0xFF, 0xFF}},
        {65536, 10, {0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
        {INT64_MAX, 10, {0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        fc_guard out = guard_end(NULL, table[i].size);
        CHECK_EQ(fc_ws_header_write(out.data, 0x82, table[i].length, NULL), table[i].size);
        CHECK_BYTES(out.data, table[i].bytes, table[i].size);
        guard_free(&out);
        out = guard_end(NULL, table[i].size + 4);
        CHECK_EQ(fc_ws_header_write(out.data, 0x82, table[i].length, key), table[i].size + 4);
        CHECK_EQ(out.data[1], table[i].bytes[1] | 0x80);
        CHECK_BYTES(out.data + table[i].size, key, 4);
        guard_free(&out);
    }
    uint8_t out[FC_WS_HEADER_MAX];
    CHECK_EQ(fc_ws_header_write(out, 0x82, (uint64_t)INT64_MAX + 1, NULL), 0);
}

static void bad_headers(void) {
    static const struct {
        uint8_t bytes[14];
        size_t size;
        uint16_t code;
    } table[] = {
        {{0x83}, 1, 1002}, /* reserved opcodes */
        {{0x87}, 1, 1002},
        {{0x8B}, 1, 1002},
        {{0x8F}, 1, 1002},
        {{0xC1}, 1, 1002}, /* reserved bits */
        {{0xA1}, 1, 1002},
        {{0x91}, 1, 1002},
        {{0xC9}, 1, 1002},
        {{0x80}, 1, 1002}, /* nothing to continue */
        {{0x00}, 1, 1002},
        {{0x09}, 1, 1002}, /* control frames in fragments */
        {{0x08}, 1, 1002},
        {{0x81, 0x05}, 2, 1002}, /* not masked */
        {{0x89, 0xFE}, 2, 1002}, /* long control frames */
        {{0x88, 0xFF}, 2, 1002},
        {{0x82, 0xFE, 0, 125}, 4, 1002}, /* lengths that had a shorter form */
        {{0x82, 0xFE, 0, 0}, 4, 1002},
        {{0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 10, 1002},
        {{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0}, 10, 1002}, /* the top bit */
        {{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 10, 1002},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        reset();
        add_text(0x81, "before");
        memcpy(input.bytes + input.size, table[i].bytes, table[i].size);
        input.size += table[i].size;
        EXPECT(FC_ERR_FORMAT, table[i].code, 1);
    }
}

static void roles(void) {
    reset();
    config.role = FC_WS_CLIENT;
    add_frame(0x81, "hello", 5, 0);
    EXPECT(FC_NEED_DATA, 0, 1);
    add_text(0x81, "masked");
    EXPECT(FC_ERR_FORMAT, 1002, 1);
}

static void fragments(void) {
    reset();
    add_text(0x01, "a\xE2");
    add_text(0x89, "ping between");
    add_text(0x00, "\x82");
    add_text(0x00, "");
    add_text(0x8A, "");
    add_text(0x80, "\xACz");
    add_text(0x02, "");
    add_text(0x80, "");
    add_text(0x01, "");
    add_text(0x80, "end");
    EXPECT(FC_NEED_DATA, 0, 5);

    reset();
    add_text(0x01, "one");
    add_text(0x81, "two");
    EXPECT(FC_ERR_FORMAT, 1002, 0);

    reset();
    add_text(0x81, "one");
    add_text(0x80, "two");
    EXPECT(FC_ERR_FORMAT, 1002, 1);
}

static void text(void) {
    reset();
    add_text(0x81, "\xE2\x82\xAC");
    add_text(0x81, "\xFF");
    EXPECT(FC_ERR_UTF8, 1007, 1);

    reset();
    add_text(0x81, "cut \xE2\x82");
    EXPECT(FC_ERR_UTF8, 1007, 0);

    reset();
    add_text(0x01, "cut \xE2\x82");
    add_text(0x80, "");
    EXPECT(FC_ERR_UTF8, 1007, 0);

    reset();
    add_text(0x01, "\xE2");
    add_text(0x80, "a");
    EXPECT(FC_ERR_UTF8, 1007, 0);

    reset(); /* binary is nobody's text */
    add_text(0x82, "\xFF");
    add_text(0x02, "\xFF");
    add_text(0x80, "\xC0");
    EXPECT(FC_NEED_DATA, 0, 2);
}

/* Invalid text is refused although its frame, of which only the start is there, announces more. */
static void text_fails_early(void) {
    uint8_t frame[] = {0x81, 0xFE, 0x10, 0x00, 0, 0, 0, 0, 'a', 0xED, 0xA0};
    reset();
    memcpy(input.bytes, frame, sizeof frame);
    input.size = sizeof frame - 1;
    EXPECT(FC_NEED_DATA, 0, 0);
    input.size = sizeof frame;
    EXPECT(FC_ERR_UTF8, 1007, 0);
}

static void close_frames(void) {
    static const struct {
        uint16_t code;
        int valid;
    } codes[] = {{0, 0},    {999, 0},  {1000, 1}, {1003, 1}, {1004, 0}, {1005, 0}, {1006, 0}, {1007, 1},
                 {1014, 1}, {1015, 0}, {1016, 0}, {2999, 0}, {3000, 1}, {4999, 1}, {5000, 0}, {65535, 0}};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        uint8_t body[6] = {0, 0, 'b', 'y', 'e', '!'};
        fc_store_be16(body, codes[i].code);
        CHECK_EQ(fc_ws_close_code_valid(codes[i].code), codes[i].valid);
        reset();
        add_frame(0x88, body, i % 2 ? 2 : 6, 1);
        add_text(0x81, "discarded");
        if (codes[i].valid)
            EXPECT(FC_ERR_CLOSED, 0, 1);
        else
            EXPECT(FC_ERR_FORMAT, 1002, 0);
    }
    CHECK(!fc_ws_close_code_valid(UINT32_MAX));
    CHECK(!fc_ws_close_code_valid(65536 + 1000));

    reset();
    add_text(0x88, "");
    EXPECT(FC_ERR_CLOSED, 0, 1);
    reset();
    add_text(0x88, "\x03");
    EXPECT(FC_ERR_FORMAT, 1002, 0);
    reset();
    add_text(0x88, "\x03\xE8\xE2\x82");
    EXPECT(FC_ERR_UTF8, 1007, 0);
    reset(); /* a whole message is not needed for a close */
    add_text(0x01, "open");
    add_text(0x88, "\x03\xE8\xE2\x82\xAC");
    EXPECT(FC_ERR_CLOSED, 0, 1);
}

static void control_frame_of_125(void) {
    uint8_t payload[125];
    memset(payload, 0xFE, sizeof payload);
    reset();
    add_frame(0x89, payload, 125, 1);
    add_frame(0x8A, payload, 125, 1);
    config.max_frame = 10; /* the limit is for data */
    EXPECT(FC_NEED_DATA, 0, 2);
}

static void limits(void) {
    reset();
    config.max_frame = 5;
    add_text(0x81, "12345");
    EXPECT(FC_NEED_DATA, 0, 1);
    add_text(0x81, "123456");
    EXPECT(FC_ERR_RANGE, 1009, 1);

    reset();
    config.max_message = 10;
    add_text(0x01, "12345");
    add_text(0x00, "1234");
    add_text(0x80, "1");
    EXPECT(FC_NEED_DATA, 0, 1);
    add_text(0x01, "12345");
    add_text(0x00, "1234");
    add_text(0x80, "12");
    EXPECT(FC_ERR_RANGE, 1009, 1);
}

/* The header alone is enough, and sums of announced lengths do not wrap. */
static void huge_lengths(void) {
    static const uint8_t most[] = {0x02, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    reset();
    config.max_message = 1 << 20;
    memcpy(input.bytes, most, sizeof most);
    input.size = sizeof most;
    EXPECT(FC_ERR_RANGE, 1009, 0);

    reset();
    add_text(0x02, "1");
    memcpy(input.bytes + input.size, most, sizeof most);
    input.bytes[input.size] = 0x00;
    input.size += sizeof most;
    EXPECT(FC_ERR_RANGE, 1009, 0);

    reset(); /* without a limit it may be announced */
    memcpy(input.bytes, most, sizeof most);
    input.size = sizeof most;
    EXPECT(FC_NEED_DATA, 0, 0);
}

static void reserved_bits_of_an_extension(void) {
    reset();
    config.rsv_allowed = 0x40;
    add_text(0xC1, "\xFF no text yet");
    add_text(0x41, "\xFF");
    add_text(0x80, "\xFE");
    EXPECT(FC_NEED_DATA, 0, 2);
    size_t good = input.size;
    static const uint8_t bad[] = {0xA1, 0x91, 0xC9, 0xC8};
    for (size_t i = 0; i < sizeof bad; i++) {
        input.size = good;
        input.bytes[input.size++] = bad[i];
        EXPECT(FC_ERR_FORMAT, 1002, 2);
    }
    input.size = good;
    add_text(0x41, "x");
    add_text(0xC0, "continuation with the bit");
    EXPECT(FC_ERR_FORMAT, 1002, 2);
}

/* What the host finds wrong with a payload stays the state of the parser. */
static void refused_by_the_host(void) {
    static const uint8_t ping[] = {0x89, 0x80, 0, 0, 0, 0};
    fc_ws_parser parser;
    size_t used;
    fc_ws_parser_init(&parser, FC_WS_SERVER, 0x40, 0, 0);
    CHECK(fc_ws_parser_refuse(&parser, FC_ERR_RANGE, 1009, "message too big") == FC_ERR_RANGE);
    CHECK(parser.close_code == 1009 && strcmp(parser.reason, "message too big") == 0);
    CHECK(fc_ws_parser_header(&parser, ping, sizeof ping, &used) == FC_ERR_RANGE && used == 0);
}

/* Random frames, some of them corrupted: any outcome, but the same one however the bytes are cut. */
static void random_streams(void) {
    static const uint8_t firsts[] = {0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88};
    for (int round = 0; round < 400; round++) {
        reset();
        config.max_message = 400;
        for (size_t frames = 1 + test_below(6); frames; frames--) {
            uint8_t payload[300];
            size_t size = test_below(4) ? test_below(20) : test_below(sizeof payload);
            if (test_below(2))
                memset(payload, 'a' + (int)test_below(26), size);
            else
                test_random_bytes(payload, size);
            add_frame(firsts[test_below(sizeof firsts)], payload, size, 1);
        }
        for (size_t flips = test_below(3); flips; flips--)
            input.bytes[test_below(input.size)] ^= (uint8_t)(1u << test_below(8));
        run();
    }
}

FC_TEST_MAIN(TEST(lengths), TEST(the_headers_themselves), TEST(bad_headers), TEST(roles), TEST(fragments), TEST(text),
             TEST(text_fails_early), TEST(close_frames), TEST(control_frame_of_125), TEST(limits), TEST(huge_lengths),
             TEST(reserved_bits_of_an_extension), TEST(refused_by_the_host), TEST(random_streams))
