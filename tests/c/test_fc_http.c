#include "fc_test.h"
#include "http_host.h"

static struct {
    size_t line, header_bytes, headers;
} limits;

static http_host last;

static void reset(void) {
    limits.line = 1024;
    limits.header_bytes = 4096;
    limits.headers = 30;
}

/* Feeds the stream whole against a guard page, byte by byte and split at random, and checks that all agree. */
static fc_status run_bytes(const void *stream, size_t size) {
    http_host_free(&last);
    http_host_init(&last, limits.line, limits.header_bytes, limits.headers);
    fc_guard guarded = guard_end(stream, size);
    fc_status status = http_host_feed(&last, guarded.data, size);
    guard_free(&guarded);
    for (int round = 0; round < 6; round++) {
        http_host other;
        fc_status split = FC_NEED_DATA;
        http_host_init(&other, limits.line, limits.header_bytes, limits.headers);
        for (size_t at = 0; at < size && split == FC_NEED_DATA;) {
            size_t left = size - at, largest = round == 0 ? 1 : round == 1 ? 3 : size;
            size_t piece = 1 + test_below(largest < left ? largest : left);
            fc_guard part = guard_end((const uint8_t *)stream + at, piece);
            split = http_host_feed(&other, part.data, piece);
            guard_free(&part);
            at += piece;
        }
        CHECK_EQ(split, status);
        CHECK_EQ(other.error.status, last.error.status);
        CHECK_EQ(other.log_size, last.log_size);
        CHECK_BYTES(other.log, last.log, last.log_size);
        http_host_free(&other);
    }
    return status;
}

static fc_status run(const char *stream) {
    return run_bytes(stream, strlen(stream));
}

/* The stream is valid and means `wanted`, in the words of http_host_head. */
static void gives(const char *stream, const char *wanted) {
    fc_status status = run(stream);
    CHECK_EQ(status, FC_NEED_DATA);
    CHECK(last.log && strcmp(last.log, wanted) == 0);
    if (status != FC_NEED_DATA || !last.log || strcmp(last.log, wanted) != 0)
        fprintf(stderr, "  %s\n  gave %s (%s)\n", stream, last.log ? last.log : "nothing",
                last.error.reason ? last.error.reason : "");
}

/* The stream is refused with `status`, before any request. */
static void refused(const char *stream, int status) {
    fc_status got = run(stream);
    CHECK(got < 0 && last.requests == 0);
    CHECK_EQ(last.error.status, status);
    if (got >= 0 || last.error.status != status)
        fprintf(stderr, "  %s\n  gave %s\n", stream, last.log ? last.log : "nothing");
}

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void requests(void) {
    reset();
    gives(HEAD "\r\n", "GET /? Host=a| 1.1 keep:;");
    gives("GET /a?b?c=%41 HTTP/1.1\r\nhOST:a:80  \r\nX-Y:\t\tz \t z\t \r\nE:\r\n\r\n",
          "GET /a?b?c=%41 hOST=a:80|X-Y=z \t z|E=| 1.1 keep:;");
    gives("\r\n\r\n" HEAD "\r\n\r\n" HEAD "Connection: x, Close\r\n\r\n",
          "GET /? Host=a| 1.1 keep:;GET /? Host=a|Connection=x, Close| 1.1:;");
    gives("GET / HTTP/1.0\r\n\r\n", "GET /?  1.0:;");
    gives("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET /? Connection=Keep-Alive| 1.0 keep:;");
    gives("GET / HTTP/1.9\r\nHost:\r\n\r\n", "GET /? Host=| 1.1 keep:;");
    gives("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS *? Host=a| 1.1 keep:;");
    gives("GET http://b:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET b:1/p?q Host=a| 1.1 keep:;");
    gives("GET HTTPS://[::1]?q HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", "GET [::1]?q Host=[::1]:8| 1.1 keep:;");
    gives(HEAD "Expect: 100-Continue\r\nTE: gzip, Trailers\r\n\r\n",
          "GET /? Host=a|Expect=100-Continue|TE=gzip, Trailers| 1.1 keep expect trailers:;");
    gives(HEAD "Connection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n",
          "GET /? Host=a|Connection=keep-alive, Upgrade|Upgrade=h2c, WebSocket| 1.1 keep websocket:;");
    gives(HEAD "Upgrade: websocket\r\n\r\n", "GET /? Host=a|Upgrade=websocket| 1.1 keep:;");
    gives(POST "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\nabc" HEAD "\r\n",
          "POST /? Host=a|Upgrade=h2c|Connection=upgrade|Content-Length=3| 1.1 keep:abc;GET /? Host=a| 1.1 keep:;");
}

static void bad_lines(void) {
    static const char *const lines[] = {
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/1",
        "G\x80T / HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\xc3\xa4 HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET a HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "G(T / HTTP/1.1",
        "nonsense",
        "GET ftp://a/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://a:b/ HTTP/1.1",
        "GET http://:1/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET / XTTP/1.1",
        "GET /\x01 HTTP/1.1",
    };
    reset();
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char stream[100];
        snprintf(stream, sizeof stream, "%s\r\nHost: a\r\n\r\n", lines[i]);
        refused(stream, 400);
    }
    refused("GET /\r\n", 505);
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    refused("PRI * HTTP/2.0\r\n\r\n", 505);
    refused("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501);
    refused("nonsense\r\n", 400);
}

static void bad_headers(void) {
    static const char *const bad[] = {
        "Host: b",
        "Host: a",
        "X : a",
        " X: a",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X",
        ": a",
        "X\x80: a",
        "X(: a",
        "X: a\x01",
        "X: a\x7f",
        "X: a\x0b",
        "X: a\rb",
        "X: a\nb",
        "X: a\n",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length:",
        "Content-Length: 1 1",
        "Content-Length: 0x1",
        "Content-Length: 9223372036854775808",
        "Content-Length: 99999999999999999999",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: \"chunked\"",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1",
    };
    static const char *const hosts[] = {"a b", "a/b", "a:b", "a:1:2", "[a", "[]", "[::1]x", "u@a", "a%2", "a%zz", "\""};
    char stream[200];
    reset();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(stream, sizeof stream, HEAD "%s\r\n\r\n", bad[i]);
        refused(stream, 400);
    }
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        snprintf(stream, sizeof stream, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        refused(stream, 400);
    }
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    refused("\x16\x03\x01\x02", 400);
    refused(HEAD "Transfer-Encoding: gzip\r\n\r\n", 501);
    refused(HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", 501);
    refused(HEAD "Transfer-Encoding: identity\r\n\r\n", 501);
    refused(HEAD "Expect: a-miracle\r\n\r\n", 417);
    CHECK_EQ(run_bytes(HEAD "X: a\0b\r\n\r\n", sizeof HEAD + 9), FC_ERR_FORMAT);
    gives("GET / HTTP/1.0\r\nExpect: a-miracle\r\n\r\n", "GET /? Expect=a-miracle| 1.0:;");
    gives(HEAD "X: \xc3\xa4\r\n\r\n", "GET /? Host=a|X=\xc3\xa4| 1.1 keep:;");
}

static void limits_hold(void) {
    char stream[400];
    reset();
    limits.line = 20;
    gives("GET /34567 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /34567? Host=a| 1.1 keep:;");
    refused("GET /34567890 HTTP/1.1\r\nHost: a\r\n\r\n", 414);
    refused("GET /34567890123456789", 414);
    refused("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", 414);
    reset();
    limits.headers = 2;
    gives(HEAD "X: a\r\n\r\n", "GET /? Host=a|X=a| 1.1 keep:;");
    refused(HEAD "X: a\r\nX: a\r\n\r\n", 431);
    run(POST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\nX: a\r\nX: a\r\n");
    CHECK_EQ(last.error.status, 431);
    reset();
    limits.header_bytes = 40;
    gives(HEAD "X: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n", "GET /? Host=a|X=aaaaaaaaaaaaaaaaaaaaaaaaa| 1.1 keep:;");
    refused(HEAD "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 431);
    run(POST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    CHECK_EQ(last.error.status, 431);
    reset();
    limits.headers = 100;
    memset(stream, 0, sizeof stream);
    for (int i = 0; i < 32; i++)
        strcat(stream, "X: a\r\n");
    char whole[500];
    snprintf(whole, sizeof whole, HEAD "%s\r\n", stream);
    refused(whole, 431); /* the host has room for HTTP_HOST_FIELDS */
}

static void chunks(void) {
    reset();
    gives(CHUNKED "3\r\nabc\r\n00A;x=\"y z\";q \r\n0123456789\r\n0\r\nTrailer: t\r\nU:\r\n\r\n" HEAD "\r\n",
          "POST /? Host=a|Transfer-Encoding=chunked| 1.1 keep chunked:abc0123456789;GET /? Host=a| 1.1 keep:;");
    gives(CHUNKED "1 \t;x\r\na\r\n0\r\n\r\n", "POST /? Host=a|Transfer-Encoding=chunked| 1.1 keep chunked:a;");
    static const char *const bad[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\ra",
        "1;a\n",
        "1;\x01\r\n",
        "1,\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\rb",
        "00000000000000001\r\n",
        "8000000000000000\r\n",
        "FFFFFFFFFFFFFFFF1\r\n",
        "0\r\nX\r\n",
        "0\r\n X: a\r\n",
        "0\r\nX : a\r\n",
        "0\r\n: a\r\n",
        "0\r\nX: a\nb",
        "0\r\nX: a\rb",
        "0\r\nX: \x01",
        "0\r\n\n",
        "0\r\n\ra",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char stream[200];
        snprintf(stream, sizeof stream, CHUNKED "%s", bad[i]);
        fc_status status = run(stream);
        CHECK(status < 0);
        CHECK_EQ(last.error.status, 400);
        if (status >= 0)
            fprintf(stderr, "  %s\n", stream);
    }
    gives(CHUNKED "7FFFFFFFFFFFFFFF\r\nab", "POST /? Host=a|Transfer-Encoding=chunked| 1.1 keep chunked:ab");
    size_t size = FC_HTTP_EXTENSIONS_MAX + 200;
    char *stream = (char *)http_host_grow(NULL, size);
    int at = snprintf(stream, size, CHUNKED "1;");
    memset(stream + at, 'x', size - (size_t)at);
    CHECK_EQ(run_bytes(stream, size), FC_ERR_RANGE);
    CHECK_EQ(last.error.status, 400);
    free(stream);
}

static void names(void) {
    char stream[100];
    reset();
    CHECK(fc_http_name_text(FC_HTTP_OTHER) == NULL && fc_http_name_text(FC_HTTP_NAME_COUNT) == NULL);
    for (int name = 1; name < FC_HTTP_NAME_COUNT; name++) {
        const char *text = fc_http_name_text(name);
        if (name == FC_HTTP_HOST || name == FC_HTTP_CONTENT_LENGTH || name == FC_HTTP_TRANSFER_ENCODING ||
            name == FC_HTTP_EXPECT)
            continue;
        snprintf(stream, sizeof stream, HEAD "%s: 1\r\n%s_: 2\r\n\r\n", text, text);
        stream[sizeof HEAD - 1] ^= 0x20;
        CHECK_EQ(run(stream), FC_NEED_DATA);
        CHECK_EQ(last.fields[1].known, name);
        CHECK_EQ(last.fields[1].underscore, 0);
        CHECK_EQ(last.fields[2].known, FC_HTTP_OTHER);
        CHECK_EQ(last.fields[2].underscore, 1);
    }
}

static int ask(int (*what)(const uint8_t *, size_t), const char *bytes, size_t size) {
    fc_guard guarded = guard_end(bytes, size);
    int answer = what(guarded.data, size);
    guard_free(&guarded);
    return answer;
}

static void words(void) {
    CHECK(ask(fc_http_is_token, "X-a^_`|~!", 9));
    CHECK(!ask(fc_http_is_token, "", 0) && !ask(fc_http_is_token, "a b", 3) && !ask(fc_http_is_token, "a:", 2));
    CHECK(ask(fc_http_is_value, "", 0) && ask(fc_http_is_value, "a b\tc: \xe4\xff, 0123456789", 21));
    for (int byte = 0; byte < 256; byte++) {
        char value[20] = "0123456789abcdefghi";
        value[byte % 20] = (char)byte;
        CHECK_EQ(ask(fc_http_is_value, value, 20 - (byte % 20 != 19)), byte == '\t' || (byte >= 0x20 && byte != 0x7f));
    }
    CHECK(fc_http_same((const uint8_t *)"Keep-ALIVE", 10, "keep-alive"));
    CHECK(!fc_http_same((const uint8_t *)"keep-alive", 9, "keep-alive"));
    CHECK(!fc_http_same((const uint8_t *)"keep alive", 10, "keep-alive"));
}

FC_TEST_MAIN(TEST(requests), TEST(bad_lines), TEST(bad_headers), TEST(limits_hold), TEST(chunks), TEST(names),
             TEST(words))
