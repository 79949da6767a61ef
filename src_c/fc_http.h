/* HTTP/1.0 and HTTP/1.1 requests (RFC 9110, RFC 9112): where a head ends, what it says, and the framing of chunks.
 *
 * Three steps, none of which keeps a byte:
 *   fc_http_scan     finds the end of a head, looking at each byte once however it arrives, and applies the limits;
 *   fc_http_parse    reads a complete head in one pass and applies every rule about it;
 *   fc_http_chunked  separates the data of a chunked body from its framing and reads past the trailers.
 *
 * Strict: lines end in CRLF and nothing else, a control character stands nowhere but for a tab in a value, no white
 * space before a colon, no folded line, one framing of the body. What a peer on the way could read in another way is
 * refused, never repaired.
 *
 * Errors: FC_ERR_FORMAT or FC_ERR_RANGE, with the status of the answer (400, 414, 417, 431, 501, 505) and a static
 * text in an fc_http_error. After one, drop the connection's state: a second call would start in the middle.
 *
 * Ownership: nothing is allocated and no pointer into the host's bytes is kept. Slack: none is read or written.
 * Complexity: O(bytes). Threads: nothing is shared.
 */
#ifndef FC_HTTP_H
#define FC_HTTP_H

#include "fc_common.h"

#define FC_HTTP_EXTENSIONS_MAX 16384 /* bytes of chunk extensions in one body */

typedef struct fc_http_limits {
    size_t line;         /* bytes of the request line without its end: 414 */
    size_t header_bytes; /* bytes of all header lines with their ends: 431. Of all trailer lines as well. */
    size_t headers;      /* header lines: 431. Trailer lines as well. */
} fc_http_limits;

typedef struct fc_http_error {
    const char *reason;
    uint16_t status;
} fc_http_error;

/* Zeroed for a new head. first and start are for the host to read, the rest is the scanner's own. */
typedef struct fc_http_scanner {
    size_t start;  /* where the request line begins: empty lines before it are skipped (RFC 9112 section 2.2) */
    size_t first;  /* where the line after the request line begins; 0 until that is known */
    size_t at;     /* looked at so far */
    size_t line;   /* where the current line begins */
    size_t count;  /* complete header lines */
    size_t length; /* with FC_OK: bytes up to the end of the head */
} fc_http_scanner;

/* data holds all bytes since the last head, size of them, of which those below scanner->at were given before.
 * FC_OK: the head ends at scanner->length. FC_NEED_DATA: call again with more. FC_ERR_FORMAT, FC_ERR_RANGE. */
fc_status fc_http_scan(fc_http_scanner *scanner, const fc_http_limits *limits, const uint8_t *data, size_t size,
                       fc_http_error *error);

/* Names that the host may keep one object for, and those that fc_http_parse reads itself. */
#define FC_HTTP_NAMES(X)                                                                                               \
    X(ACCEPT, "accept")                                                                                                \
    X(ACCEPT_CHARSET, "accept-charset")                                                                                \
    X(ACCEPT_ENCODING, "accept-encoding")                                                                              \
    X(ACCEPT_LANGUAGE, "accept-language")                                                                              \
    X(AUTHORIZATION, "authorization")                                                                                  \
    X(CACHE_CONTROL, "cache-control")                                                                                  \
    X(CONNECTION, "connection")                                                                                        \
    X(CONTENT_LENGTH, "content-length")                                                                                \
    X(CONTENT_TYPE, "content-type")                                                                                    \
    X(COOKIE, "cookie")                                                                                                \
    X(DAPHNE_ROOT_PATH, "daphne-root-path")                                                                            \
    X(DNT, "dnt")                                                                                                      \
    X(EXPECT, "expect")                                                                                                \
    X(FORWARDED, "forwarded")                                                                                          \
    X(HOST, "host")                                                                                                    \
    X(IF_MODIFIED_SINCE, "if-modified-since")                                                                          \
    X(IF_NONE_MATCH, "if-none-match")                                                                                  \
    X(ORIGIN, "origin")                                                                                                \
    X(PRAGMA, "pragma")                                                                                                \
    X(PRIORITY, "priority")                                                                                            \
    X(RANGE, "range")                                                                                                  \
    X(REFERER, "referer")                                                                                              \
    X(SEC_CH_UA, "sec-ch-ua")                                                                                          \
    X(SEC_CH_UA_MOBILE, "sec-ch-ua-mobile")                                                                            \
    X(SEC_CH_UA_PLATFORM, "sec-ch-ua-platform")                                                                        \
    X(SEC_FETCH_DEST, "sec-fetch-dest")                                                                                \
    X(SEC_FETCH_MODE, "sec-fetch-mode")                                                                                \
    X(SEC_FETCH_SITE, "sec-fetch-site")                                                                                \
    X(SEC_FETCH_USER, "sec-fetch-user")                                                                                \
    X(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions")                                                            \
    X(SEC_WEBSOCKET_KEY, "sec-websocket-key")                                                                          \
    X(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol")                                                                \
    X(SEC_WEBSOCKET_VERSION, "sec-websocket-version")                                                                  \
    X(TE, "te")                                                                                                        \
    X(TRAILER, "trailer")                                                                                              \
    X(TRANSFER_ENCODING, "transfer-encoding")                                                                          \
    X(UPGRADE, "upgrade")                                                                                              \
    X(UPGRADE_INSECURE_REQUESTS, "upgrade-insecure-requests")                                                          \
    X(USER_AGENT, "user-agent")                                                                                        \
    X(VIA, "via")                                                                                                      \
    X(X_CSRFTOKEN, "x-csrftoken")                                                                                      \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                                              \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                                                            \
    X(X_FORWARDED_PORT, "x-forwarded-port")                                                                            \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                                          \
    X(X_REAL_IP, "x-real-ip")                                                                                          \
    X(X_REQUESTED_WITH, "x-requested-with")

#define FC_HTTP_ENUM(id, text) FC_HTTP_##id,
enum fc_http_name { FC_HTTP_OTHER = 0, FC_HTTP_NAMES(FC_HTTP_ENUM) FC_HTTP_NAME_COUNT };
#undef FC_HTTP_ENUM

/* The name in lower case; NULL for FC_HTTP_OTHER and what is no fc_http_name. */
const char *fc_http_name_text(int name);

/* Offsets count from the first byte of the head. */
typedef struct fc_http_field {
    uint32_t name;
    uint32_t name_size;
    uint32_t value; /* without the optional white space around it */
    uint32_t value_size;
    uint8_t known;      /* an fc_http_name */
    uint8_t underscore; /* 1: there is one in the name */
} fc_http_field;

enum fc_http_form { FC_HTTP_FORM_ORIGIN, FC_HTTP_FORM_ABSOLUTE, FC_HTTP_FORM_ASTERISK };

typedef struct fc_http_request {
    uint64_t content_length; /* 0 without the field */
    uint32_t method;         /* offsets and sizes, as in fc_http_field */
    uint32_t method_size;
    uint32_t path; /* of an absolute target without a path it has size 0 */
    uint32_t path_size;
    uint32_t query; /* what follows the first "?" */
    uint32_t query_size;
    uint32_t authority; /* of an absolute target */
    uint32_t authority_size;
    uint32_t fields; /* how many were written */
    uint8_t form;    /* an fc_http_form */
    uint8_t minor;   /* HTTP/1.minor, 0 or 1: a later one is spoken to as 1.1 (RFC 9110 section 2.5) */
    uint8_t escaped; /* the path holds a "%" */
    uint8_t has_length;
    uint8_t chunked;
    uint8_t keep_alive;
    uint8_t expect_continue;
    uint8_t websocket; /* an upgrade to WebSocket is asked for, without a body */
    uint8_t te_trailers;
} fc_http_request;

/* head holds size bytes, from the request line to the empty line, as fc_http_scan found them (below 4 GiB; other bytes
 * give an error or a request, but no harm). fields has room for `room` of them, of which more give FC_ERR_RANGE.
 * FC_OK, FC_ERR_FORMAT or FC_ERR_RANGE. */
fc_status fc_http_parse(fc_http_request *request, fc_http_field *fields, size_t room, const uint8_t *head, size_t size,
                        fc_http_error *error);

/* Checks the request line alone, for the answer to a client that sends no more than that: its size bytes without CRLF.
 * FC_OK, FC_ERR_FORMAT or FC_ERR_RANGE. */
fc_status fc_http_parse_line(fc_http_request *request, const uint8_t *line, size_t size, fc_http_error *error);

/* For the heads that a host writes. 1 when the bytes are a token, that is a field name; when they may be a field's
 * value (no control character but a tab); when they are `text`, which is in lower case, whatever their own case. */
int fc_http_is_token(const uint8_t *bytes, size_t size);
int fc_http_is_value(const uint8_t *bytes, size_t size);
int fc_http_same(const uint8_t *bytes, size_t size, const char *text);

/* Zeroed for a new body. */
typedef struct fc_http_chunks {
    uint64_t left; /* data bytes of the current chunk that were not seen */
    size_t extensions;
    size_t trailer_bytes;
    size_t trailers;
    uint8_t digits;
    uint8_t state;
} fc_http_chunks;

/* Takes *used of the size bytes (at least one, when there is one). The last *body of those are data of the body.
 * FC_OK: the body and its trailers are complete. FC_NEED_DATA: call again with what follows. FC_ERR_FORMAT (400),
 * FC_ERR_RANGE (400 for a chunk, 431 for trailers). */
fc_status fc_http_chunked(fc_http_chunks *chunks, const fc_http_limits *limits, const uint8_t *data, size_t size,
                          size_t *used, size_t *body, fc_http_error *error);

#endif
