#include "fc_http.h"

/* Bytes of a token (RFC 9110 section 5.6.2) as their lower case; 0 for all others. */
static const uint8_t token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',   ['~'] = '~', ['0'] = '0',
    ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',   ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e',   ['F'] = 'f', ['G'] = 'g',
    ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm',   ['N'] = 'n', ['O'] = 'o',
    ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u',   ['V'] = 'v', ['W'] = 'w',
    ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c',   ['d'] = 'd', ['e'] = 'e',
    ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k',   ['l'] = 'l', ['m'] = 'm',
    ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's',   ['t'] = 't', ['u'] = 'u',
    ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

static fc_status fail(fc_http_error *error, fc_status status, uint16_t code, const char *reason) {
    error->status = code;
    error->reason = reason;
    return status;
}

static fc_status malformed(fc_http_error *error, const char *reason) {
    return fail(error, FC_ERR_FORMAT, 400, reason);
}

static inline int is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

static inline int hex_value(uint8_t byte) {
    if (is_digit(byte))
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static inline int is_control(uint8_t byte) {
    return byte < 0x20 || byte == 0x7F;
}

int fc_http_same(const uint8_t *bytes, size_t size, const char *text) {
    if (size != strlen(text))
        return 0;
    for (size_t i = 0; i < size; i++)
        if (token[bytes[i]] != (uint8_t)text[i])
            return 0;
    return 1;
}

int fc_http_is_token(const uint8_t *bytes, size_t size) {
    size_t at = 0;
    while (at < size && token[bytes[at]])
        at++;
    return size > 0 && at == size;
}

/* ------------------------------------------------------------------ the end of a head */

/* The first control character from p on, or end. Eight bytes at a time: the classic test for a zero byte, once with
 * the top three bits in mind and once for 0x7F; it has false alarms above a true hit only, which the last loop sorts
 * out. */
static const uint8_t *find_control(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    for (; end - p >= 8; p += 8) {
        uint64_t word, deleted;
        memcpy(&word, p, 8);
        deleted = word ^ ones * 0x7F;
        if ((((word - ones * 0x20) & ~word) | ((deleted - ones) & ~deleted)) & tops)
            break;
    }
    while (p < end && !is_control(*p))
        p++;
    return p;
}

int fc_http_is_value(const uint8_t *bytes, size_t size) {
    const uint8_t *p = bytes, *end = bytes + size;
    while ((p = find_control(p, end)) < end && *p == '\t')
        p++;
    return p == end;
}

/* HOT: benchmarks/bench_http.py */
fc_status fc_http_scan(fc_http_scanner *scanner, const fc_http_limits *limits, const uint8_t *data, size_t size,
                       fc_http_error *error) {
    const uint8_t *end = data + size, *p = data + scanner->at;
    for (;;) {
        p = find_control(p, end);
        if (p < end && *p == '\t' && scanner->first) {
            p++;
            continue;
        }
        if (p < end && *p != '\r')
            return malformed(error, *p == '\n' ? "a line ends in LF without CR" : "a control character in the head");
        if (end - p >= 2 && p[1] != '\n')
            return malformed(error, "CR without LF");

        size_t length = (size_t)(p - data) - scanner->line;
        int whole = end - p >= 2;
        if (!scanner->first) {
            /* Empty lines before it count: nobody may send those for ever. */
            if ((size_t)(p - data) > limits->line)
                return fail(error, FC_ERR_RANGE, 414, "the request line is too long");
            if (whole && length) {
                scanner->start = scanner->line;
                scanner->first = (size_t)(p - data) + 2;
            }
        } else {
            if ((size_t)(p - data) - scanner->first > limits->header_bytes)
                return fail(error, FC_ERR_RANGE, 431, "the header fields are too large");
            if (whole && length == 0) {
                scanner->length = (size_t)(p - data) + 2;
                return FC_OK;
            }
            if (whole && ++scanner->count > limits->headers)
                return fail(error, FC_ERR_RANGE, 431, "too many header fields");
        }
        if (!whole) {
            scanner->at = (size_t)(p - data);
            return FC_NEED_DATA;
        }
        p += 2;
        scanner->line = (size_t)(p - data);
    }
}

/* ------------------------------------------------------------------ names */

#define FC_HTTP_TEXT(id, text) text,
static const char *const name_texts[FC_HTTP_NAME_COUNT] = {NULL, FC_HTTP_NAMES(FC_HTTP_TEXT)};
#undef FC_HTTP_TEXT

#define NAME_MAX_SIZE 25 /* of "upgrade-insecure-requests" */

const char *fc_http_name_text(int name) {
    return name > 0 && name < FC_HTTP_NAME_COUNT ? name_texts[name] : NULL;
}

/* Which name the lower-case bytes are: one comparison of the size, and one for each name of that size. */
static uint8_t name_known(const uint8_t *lower, size_t size) {
#define TRY(id, text)                                                                                                  \
    if (size == sizeof text - 1 && memcmp(lower, text, sizeof text - 1) == 0)                                          \
        return FC_HTTP_##id;
    switch (lower[0]) { /* the compiler drops what cannot be of this letter */
#define LETTER(letter, ...)                                                                                            \
    case letter:                                                                                                       \
        __VA_ARGS__                                                                                                    \
        return FC_HTTP_OTHER;
        LETTER('a',
               TRY(ACCEPT, "accept") TRY(ACCEPT_ENCODING, "accept-encoding") TRY(ACCEPT_LANGUAGE, "accept-language")
                   TRY(ACCEPT_CHARSET, "accept-charset") TRY(AUTHORIZATION, "authorization"))
        LETTER('c', TRY(COOKIE, "cookie") TRY(CONNECTION, "connection") TRY(CACHE_CONTROL, "cache-control")
                        TRY(CONTENT_LENGTH, "content-length") TRY(CONTENT_TYPE, "content-type"))
        LETTER('d', TRY(DNT, "dnt") TRY(DAPHNE_ROOT_PATH, "daphne-root-path"))
        LETTER('e', TRY(EXPECT, "expect"))
        LETTER('f', TRY(FORWARDED, "forwarded"))
        LETTER('h', TRY(HOST, "host"))
        LETTER('i', TRY(IF_NONE_MATCH, "if-none-match") TRY(IF_MODIFIED_SINCE, "if-modified-since"))
        LETTER('o', TRY(ORIGIN, "origin"))
        LETTER('p', TRY(PRAGMA, "pragma") TRY(PRIORITY, "priority"))
        LETTER('r', TRY(REFERER, "referer") TRY(RANGE, "range"))
        LETTER('s', TRY(SEC_CH_UA, "sec-ch-ua") TRY(SEC_CH_UA_MOBILE, "sec-ch-ua-mobile")
                        TRY(SEC_CH_UA_PLATFORM, "sec-ch-ua-platform") TRY(SEC_FETCH_DEST, "sec-fetch-dest")
                            TRY(SEC_FETCH_MODE, "sec-fetch-mode") TRY(SEC_FETCH_SITE, "sec-fetch-site")
                                TRY(SEC_FETCH_USER, "sec-fetch-user") TRY(SEC_WEBSOCKET_KEY, "sec-websocket-key")
                                    TRY(SEC_WEBSOCKET_VERSION, "sec-websocket-version")
                                        TRY(SEC_WEBSOCKET_PROTOCOL, "sec-websocket-protocol")
                                            TRY(SEC_WEBSOCKET_EXTENSIONS, "sec-websocket-extensions"))
        LETTER('t', TRY(TE, "te") TRY(TRAILER, "trailer") TRY(TRANSFER_ENCODING, "transfer-encoding"))
        LETTER('u', TRY(USER_AGENT, "user-agent") TRY(UPGRADE, "upgrade")
                        TRY(UPGRADE_INSECURE_REQUESTS, "upgrade-insecure-requests"))
        LETTER('v', TRY(VIA, "via"))
        LETTER('x', TRY(X_FORWARDED_FOR, "x-forwarded-for") TRY(X_FORWARDED_HOST, "x-forwarded-host")
                        TRY(X_FORWARDED_PORT, "x-forwarded-port") TRY(X_FORWARDED_PROTO, "x-forwarded-proto")
                            TRY(X_REAL_IP, "x-real-ip") TRY(X_REQUESTED_WITH, "x-requested-with")
                                TRY(X_CSRFTOKEN, "x-csrftoken"))
#undef LETTER
#undef TRY
    default:
        return FC_HTTP_OTHER;
    }
}

/* ------------------------------------------------------------------ the request line */

/* Bytes of reg-name without "%" (RFC 3986 section 3.2.2). */
static int is_name_byte(uint8_t byte) {
    return is_digit(byte) || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
           (byte && memchr("-._~!$&'()*+,;=", byte, 15) != NULL);
}

/* uri-host [ ":" port ] (RFC 9110 section 7.2), which may be empty. */
static int is_host(const uint8_t *host, size_t size) {
    size_t at = 0;
    if (size && host[0] == '[') {
        for (at = 1; at < size && host[at] != ']'; at++)
            if (!is_name_byte(host[at]) && host[at] != ':')
                return 0;
        if (at < 3 || at++ == size)
            return 0;
    } else {
        for (; at < size && host[at] != ':'; at++) {
            if (host[at] == '%') {
                if (size - at < 3 || hex_value(host[at + 1]) < 0 || hex_value(host[at + 2]) < 0)
                    return 0;
                at += 2;
            } else if (!is_name_byte(host[at])) {
                return 0;
            }
        }
    }
    if (at == size)
        return 1;
    if (host[at++] != ':')
        return 0;
    while (at < size && is_digit(host[at]))
        at++;
    return at == size;
}

/* Splits an absolute target (RFC 9112 section 3.2.2), which is size bytes at `at` of the line. */
static int split_absolute(fc_http_request *request, const uint8_t *line, size_t at, size_t size, size_t *path) {
    const uint8_t *target = line + at;
    size_t scheme = 0;
    while (scheme < size && target[scheme] != ':')
        scheme++;
    if (size - scheme < 3 || target[scheme + 1] != '/' || target[scheme + 2] != '/')
        return 0;
    if (!fc_http_same(target, scheme, "http") && !fc_http_same(target, scheme, "https") &&
        !fc_http_same(target, scheme, "ws") && !fc_http_same(target, scheme, "wss"))
        return 0;
    size_t begin = scheme + 3, end = begin;
    while (end < size && target[end] != '/' && target[end] != '?')
        end++;
    if (end == begin || target[begin] == ':' || !is_host(target + begin, end - begin))
        return 0;
    request->form = FC_HTTP_FORM_ABSOLUTE;
    request->authority = (uint32_t)(at + begin);
    request->authority_size = (uint32_t)(end - begin);
    *path = at + end;
    return 1;
}

fc_status fc_http_parse_line(fc_http_request *request, const uint8_t *line, size_t size, fc_http_error *error) {
    memset(request, 0, sizeof *request);
    size_t at = 0;
    while (at < size && token[line[at]])
        at++;
    request->method_size = (uint32_t)at;
    if (at == 0 || at == size || line[at] != ' ')
        return malformed(error, "the method is not a token");

    const size_t target = ++at;
    size_t query = 0;
    for (; at < size && line[at] != ' '; at++) {
        const uint8_t byte = line[at];
        if (byte <= ' ' || byte >= 0x7F)
            return malformed(error, "the request target holds a byte that needs percent-encoding");
        if (byte == '#')
            return malformed(error, "a fragment in the request target");
        if (byte == '%')
            request->escaped |= !query;
        else if (byte == '?' && !query)
            query = at;
    }
    const size_t end = at;
    if (end == target)
        return malformed(error, "the request has no target");

    /* HTTP-version, which is case-sensitive (RFC 9112 section 2.3). */
    const uint8_t *version = line + end;
    const size_t rest = size - end;
    if (rest != 9 || memcmp(version, " HTTP/", 6) != 0 || !is_digit(version[6]) || version[7] != '.' ||
        !is_digit(version[8])) {
        if (rest == 0)
            return fail(error, FC_ERR_FORMAT, 505, "a request line without a version");
        return malformed(error, "the request line does not end in an HTTP version");
    }
    if (version[6] != '1')
        return fail(error, FC_ERR_FORMAT, 505, "HTTP/1.0 or HTTP/1.1 is spoken here");
    request->minor = version[8] != '0';

    const int connect = request->method_size == 7 && memcmp(line, "CONNECT", 7) == 0;
    const int options = request->method_size == 7 && memcmp(line, "OPTIONS", 7) == 0;
    size_t path = target;
    if (connect) {
        if (!is_host(line + target, end - target))
            return malformed(error, "the target of CONNECT is not a host and a port");
        return fail(error, FC_ERR_FORMAT, 501, "CONNECT");
    }
    if (line[target] == '*' && end - target == 1) {
        if (!options)
            return malformed(error, "the target * belongs to OPTIONS");
        request->form = FC_HTTP_FORM_ASTERISK;
    } else if (line[target] != '/' && !split_absolute(request, line, target, end - target, &path)) {
        return malformed(error, "the request target is neither a path nor a URL");
    }
    request->path = (uint32_t)path;
    request->path_size = (uint32_t)((query ? query : end) - path);
    request->query = (uint32_t)(query ? query + 1 : end);
    request->query_size = (uint32_t)(end - request->query);
    return FC_OK;
}

/* ------------------------------------------------------------------ header fields */

/* The next element of a comma-separated list, without white space around it; 0 at the end. *at starts at 0. Elements
 * may be empty. */
static int next_element(const uint8_t *value, size_t size, size_t *at, const uint8_t **element, size_t *length) {
    if (*at > size)
        return 0;
    size_t begin = *at, end = begin;
    while (end < size && value[end] != ',')
        end++;
    *at = end + 1;
    while (begin < end && (value[begin] == ' ' || value[begin] == '\t'))
        begin++;
    while (end > begin && (value[end - 1] == ' ' || value[end - 1] == '\t'))
        end--;
    *element = value + begin;
    *length = end - begin;
    return 1;
}

/* What the lines of a head said together. */
typedef struct head_state {
    uint8_t host;
    uint8_t coding; /* a Transfer-Encoding line was there */
    uint8_t unknown_coding;
    uint8_t close;
    uint8_t keep_alive;
    uint8_t upgrade; /* Connection names Upgrade */
    uint8_t websocket;
    uint8_t expect_other;
} head_state;

/* 1*DIGIT below 2^63 (RFC 9112 section 6.3). */
static fc_status read_length(fc_http_request *request, const uint8_t *value, size_t size, fc_http_error *error) {
    uint64_t length = 0;
    if (request->has_length)
        return malformed(error, "Content-Length twice");
    if (size == 0)
        return malformed(error, "an empty Content-Length");
    for (size_t i = 0; i < size; i++) {
        if (!is_digit(value[i]))
            return malformed(error, "Content-Length is not a number");
        if (length > (UINT64_C(0x7FFFFFFFFFFFFFFF) - 9) / 10)
            return fail(error, FC_ERR_RANGE, 400, "Content-Length is too large");
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    request->has_length = 1;
    request->content_length = length;
    return FC_OK;
}

/* chunked is known and must come last; codings that we do not decode are 501 (RFC 9112 sections 6.1 and 6.3). */
static fc_status read_coding(fc_http_request *request, head_state *state, const uint8_t *value, size_t size,
                             fc_http_error *error) {
    const uint8_t *element;
    size_t at = 0, length;
    state->coding = 1;
    while (next_element(value, size, &at, &element, &length)) {
        if (request->chunked)
            return malformed(error, "a transfer coding after chunked");
        if (length == 0 || !token[element[0]])
            return malformed(error, "Transfer-Encoding is not a list of codings");
        if (fc_http_same(element, length, "chunked"))
            request->chunked = 1;
        else
            state->unknown_coding = 1;
    }
    return FC_OK;
}

/* A field whose meaning concerns the framing or the connection. */
static fc_status read_special(fc_http_request *request, head_state *state, uint8_t known, const uint8_t *value,
                              size_t size, fc_http_error *error) {
    const uint8_t *element;
    size_t at = 0, length;
    switch (known) {
    case FC_HTTP_HOST:
        if (state->host)
            return malformed(error, "Host twice");
        if (!is_host(value, size))
            return malformed(error, "Host is not a host");
        state->host = 1;
        return FC_OK;
    case FC_HTTP_CONTENT_LENGTH:
        return read_length(request, value, size, error);
    case FC_HTTP_TRANSFER_ENCODING:
        return read_coding(request, state, value, size, error);
    case FC_HTTP_CONNECTION:
        while (next_element(value, size, &at, &element, &length)) {
            state->close |= (uint8_t)fc_http_same(element, length, "close");
            state->keep_alive |= (uint8_t)fc_http_same(element, length, "keep-alive");
            state->upgrade |= (uint8_t)fc_http_same(element, length, "upgrade");
        }
        return FC_OK;
    case FC_HTTP_UPGRADE:
        while (next_element(value, size, &at, &element, &length))
            state->websocket |= (uint8_t)fc_http_same(element, length, "websocket");
        return FC_OK;
    case FC_HTTP_EXPECT:
        if (fc_http_same(value, size, "100-continue"))
            request->expect_continue = 1;
        else
            state->expect_other = 1;
        return FC_OK;
    case FC_HTTP_TE:
        while (next_element(value, size, &at, &element, &length))
            request->te_trailers |= (uint8_t)fc_http_same(element, length, "trailers");
        return FC_OK;
    default:
        return FC_OK;
    }
}

/* What can only be judged when all lines were read. */
static fc_status conclude(fc_http_request *request, const head_state *state, fc_http_error *error) {
    if (state->coding) {
        if (request->has_length)
            return malformed(error, "Content-Length beside Transfer-Encoding");
        if (request->minor == 0)
            return malformed(error, "Transfer-Encoding in an HTTP/1.0 request");
        if (state->unknown_coding)
            return fail(error, FC_ERR_FORMAT, 501, "a transfer coding other than chunked");
    }
    if (request->minor == 0) {
        request->keep_alive = state->keep_alive && !state->close;
        request->expect_continue = 0; /* RFC 9110 section 10.1.1 */
        request->te_trailers = 0;
        return FC_OK;
    }
    if (!state->host)
        return malformed(error, "a request needs a Host header");
    if (state->expect_other)
        return fail(error, FC_ERR_FORMAT, 417, "an expectation other than 100-continue");
    request->keep_alive = !state->close;
    if (state->websocket && state->upgrade) {
        if (request->chunked || request->content_length)
            return malformed(error, "a WebSocket handshake has no body");
        request->websocket = 1;
    }
    return FC_OK;
}

/* HOT: benchmarks/bench_http.py */
fc_status fc_http_parse(fc_http_request *request, fc_http_field *fields, size_t room, const uint8_t *head, size_t size,
                        fc_http_error *error) {
    const uint8_t *end = head + size;
    const uint8_t *line = head, *stop = (const uint8_t *)memchr(head, '\r', size);
    head_state state = {0};
    if (!stop || end - stop < 4)
        return malformed(error, "the head does not end");
    fc_status status = fc_http_parse_line(request, head, (size_t)(stop - head), error);
    if (status != FC_OK)
        return status;

    for (;;) {
        line = stop + 2;
        stop = line < end ? (const uint8_t *)memchr(line, '\r', (size_t)(end - line)) : NULL;
        if (!stop || end - stop < 2)
            return malformed(error, "the head does not end");
        if (stop == line)
            return conclude(request, &state, error);
        if (request->fields == room)
            return fail(error, FC_ERR_RANGE, 431, "too many header fields");

        /* field-name ":" OWS field-value OWS (RFC 9112 section 5): no space before the colon, none before the name. */
        uint8_t lower[NAME_MAX_SIZE];
        uint8_t underscore = 0;
        const uint8_t *p = line;
        for (uint8_t byte; (byte = token[*p]) != 0; p++) {
            underscore |= byte == '_';
            if (p - line < NAME_MAX_SIZE)
                lower[p - line] = byte;
        }
        const size_t name_size = (size_t)(p - line);
        if (name_size == 0 || *p != ':') {
            if (*line == ' ' || *line == '\t')
                return malformed(error, "a header line that begins with white space");
            return malformed(error, "a header name that is not a token");
        }
        const uint8_t *value = p + 1, *last = stop;
        while (value < last && (*value == ' ' || *value == '\t'))
            value++;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
            last--;

        fc_http_field *field = &fields[request->fields++];
        field->name = (uint32_t)(line - head);
        field->name_size = (uint32_t)name_size;
        field->value = (uint32_t)(value - head);
        field->value_size = (uint32_t)(last - value);
        field->known = name_size <= NAME_MAX_SIZE ? name_known(lower, name_size) : FC_HTTP_OTHER;
        field->underscore = underscore;
        if (field->known) {
            status = read_special(request, &state, field->known, value, (size_t)(last - value), error);
            if (status != FC_OK)
                return status;
        }
    }
}

/* ------------------------------------------------------------------ chunks */

enum {
    SIZE,      /* the digits of a chunk's size */
    BLANK,     /* white space before an extension */
    EXTENSION, /* up to CR */
    SIZE_LF,   /* the end of the line */
    DATA,
    DATA_CR, /* behind the data */
    DATA_LF,
    LINE, /* at the start of a trailer line */
    NAME,
    VALUE,
    VALUE_LF,
    LAST_LF
};

fc_status fc_http_chunked(fc_http_chunks *chunks, const fc_http_limits *limits, const uint8_t *data, size_t size,
                          size_t *used, size_t *body, fc_http_error *error) {
    *body = 0;
    for (size_t at = 0; at < size; at++) {
        const uint8_t byte = data[at];
        switch (chunks->state) {
        case SIZE: {
            const int digit = hex_value(byte);
            if (digit >= 0) {
                /* Sixteen digits at most, leading zeros included, and a size below 2^63. */
                if (chunks->digits == 16 || chunks->left >> 59)
                    return fail(error, FC_ERR_RANGE, 400, "a chunk is too large");
                chunks->digits++;
                chunks->left = chunks->left << 4 | (uint64_t)digit;
                break;
            }
            if (chunks->digits == 0)
                return malformed(error, "a chunk does not begin with its size");
            chunks->digits = 0;
            chunks->state = byte == '\r' ? SIZE_LF : byte == ';' ? EXTENSION : BLANK;
            if (chunks->state == BLANK && byte != ' ' && byte != '\t')
                return malformed(error, "a chunk's size is followed by neither CRLF nor an extension");
            break;
        }
        case BLANK:
        case EXTENSION:
            if (byte == '\r' && chunks->state == EXTENSION) {
                chunks->state = SIZE_LF;
                break;
            }
            if (++chunks->extensions > FC_HTTP_EXTENSIONS_MAX)
                return fail(error, FC_ERR_RANGE, 400, "too many chunk extensions");
            if (chunks->state == EXTENSION ? is_control(byte) && byte != '\t'
                                           : byte != ' ' && byte != '\t' && byte != ';')
                return malformed(error, "a chunk's size is followed by neither CRLF nor an extension");
            if (byte == ';')
                chunks->state = EXTENSION;
            break;
        case SIZE_LF:
            if (byte != '\n')
                return malformed(error, "CR without LF behind the size of a chunk");
            chunks->state = chunks->left ? DATA : LINE;
            break;
        case DATA: {
            const size_t here = size - at;
            *body = chunks->left < here ? (size_t)chunks->left : here;
            chunks->left -= *body;
            if (chunks->left == 0)
                chunks->state = DATA_CR;
            *used = at + *body;
            return FC_NEED_DATA;
        }
        case DATA_CR:
            if (byte != '\r')
                return malformed(error, "a chunk is longer than its size");
            chunks->state = DATA_LF;
            break;
        case DATA_LF:
            if (byte != '\n')
                return malformed(error, "a chunk is longer than its size");
            chunks->state = SIZE;
            break;
        case LINE:
            if (byte == '\r') {
                chunks->state = LAST_LF;
                break;
            }
            if (++chunks->trailers > limits->headers)
                return fail(error, FC_ERR_RANGE, 431, "too many trailer fields");
            if (!token[byte])
                return malformed(error, "a trailer name that is not a token");
            chunks->trailer_bytes++;
            chunks->state = NAME;
            break;
        case NAME:
        case VALUE:
            if (++chunks->trailer_bytes > limits->header_bytes)
                return fail(error, FC_ERR_RANGE, 431, "the trailer fields are too large");
            if (chunks->state == NAME) {
                if (byte == ':')
                    chunks->state = VALUE;
                else if (!token[byte])
                    return malformed(error, "a trailer name that is not a token");
            } else if (byte == '\r') {
                chunks->state = VALUE_LF;
            } else if (is_control(byte) && byte != '\t') {
                return malformed(error, "a control character in a trailer");
            }
            break;
        case VALUE_LF:
            if (byte != '\n')
                return malformed(error, "CR without LF in a trailer");
            chunks->state = LINE;
            break;
        default:
            if (byte != '\n')
                return malformed(error, "CR without LF behind a chunked body");
            *used = at + 1;
            return FC_OK;
        }
    }
    *used = size;
    return FC_NEED_DATA;
}
