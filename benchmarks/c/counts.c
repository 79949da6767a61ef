/* Work of the C units for a counter of instructions: counts WHAT TIMES.
 *
 * Prepares its input once, then does WHAT that often; the difference between two numbers of times is the work alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include "fc_http.h"
#include "fc_mask.h"
#include "fc_name.h"
#include "fc_ws.h"

enum { FRAMES = 1000, PAYLOAD = 32, LARGE = 65536, NAMES = 1000 };

static const uint8_t key[4] = {0x11, 0x22, 0x33, 0x44};
static uint8_t large[LARGE];
static uint8_t stream[FRAMES * (FC_WS_HEADER_MAX + PAYLOAD)];
static size_t stream_size;

static const char bare[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n";
static const char browser[] =
    "GET /rooms/lobby/?page=2 HTTP/1.1\r\nHost: chat.example.org\r\nConnection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    "Cookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=0123456789abcdef0123456789abcdef\r\n\r\n";

static void expect(int right, const char *what) {
    if (right)
        return;
    fprintf(stderr, "counts: %s\n", what);
    exit(1);
}

static void make_frames(void) {
    uint8_t payload[PAYLOAD];
    memset(payload, 'x', sizeof payload);
    for (int number = 0; number < FRAMES; number++) {
        stream_size += fc_ws_header_write(stream + stream_size, 0x80 | FC_WS_BINARY, PAYLOAD, key);
        fc_mask(stream + stream_size, payload, PAYLOAD, key, 0);
        stream_size += PAYLOAD;
    }
}

static void frames(void) {
    fc_ws_parser parser;
    uint8_t payload[PAYLOAD];
    int count = 0;
    fc_ws_parser_init(&parser, FC_WS_SERVER, 0, 1 << 20, 1 << 20);
    for (size_t at = 0; at < stream_size; count++) {
        size_t used;
        expect(fc_ws_parser_header(&parser, stream + at, stream_size - at, &used) == FC_OK, "no header");
        at += used;
        fc_ws_parser_whole(&parser, payload, stream + at);
        at += (size_t)parser.frame.length;
    }
    expect(count == FRAMES, "not all frames");
}

static void unmask(void) {
    expect(fc_mask(large, large, sizeof large, key, 0) >= 0, "no mask");
}

static void head(const char *text) {
    static const fc_http_limits limits = {16384, 65536, 100};
    fc_http_scanner scanner = {0};
    fc_http_request request;
    fc_http_field fields[100];
    fc_http_error error;
    const uint8_t *data = (const uint8_t *)text;
    expect(fc_http_scan(&scanner, &limits, data, strlen(text), &error) == FC_OK, "no head");
    expect(fc_http_parse(&request, fields, 100, data, scanner.length, &error) == FC_OK, "no request");
}

/* As a process-local channel is named: 74 characters, of which two differ. */
static void names(void) {
    char name[] = "specific.0123456789abcdef0123456789abcdef!0123456789abcdef0123456789abcd--";
    uint64_t all = 0;
    for (int number = 0; number < NAMES; number++) {
        name[sizeof name - 3] = (char)('a' + number % 26);
        name[sizeof name - 2] = (char)('a' + number / 26 % 26);
        all ^= fc_name_hash(name, sizeof name - 1);
    }
    expect(all != 0, "no hash");
}

static void bare_head(void) {
    head(bare);
}

static void browser_head(void) {
    head(browser);
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } works[] = {{"frames", frames},
                 {"unmask", unmask},
                 {"bare-head", bare_head},
                 {"browser-head", browser_head},
                 {"names", names}};
    expect(count == 3, "counts WHAT TIMES");
    make_frames();
    for (size_t index = 0; index < sizeof works / sizeof *works; index++) {
        if (strcmp(works[index].name, arguments[1]))
            continue;
        for (int times = atoi(arguments[2]); times > 0; times--)
            works[index].run();
        return 0;
    }
    expect(0, "no such work");
}
