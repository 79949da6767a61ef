/* A small host of fc_http for tests and fuzzing: it reads a stream of requests as fastchannels/_core/http.pyx does and
 * logs what came out, so that two runs over the same bytes can be compared. */
#ifndef HTTP_HOST_H
#define HTTP_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include "fc_http.h"

#define HTTP_HOST_FIELDS 32

typedef struct http_host {
    fc_http_limits limits;
    fc_http_scanner scanner;
    fc_http_request request;
    fc_http_field fields[HTTP_HOST_FIELDS];
    fc_http_chunks chunks;
    fc_http_error error;
    uint64_t left; /* of a body with a length */
    int in_body;
    uint8_t *held; /* an incomplete head */
    size_t held_size;
    char *log;
    size_t log_size;
    size_t requests;
} http_host;

static inline void http_host_init(http_host *host, size_t line, size_t header_bytes, size_t headers) {
    memset(host, 0, sizeof *host);
    host->limits = (fc_http_limits){line, header_bytes, headers};
}

static inline void http_host_free(http_host *host) {
    free(host->held);
    free(host->log);
}

static inline void *http_host_grow(void *buffer, size_t size) {
    void *grown = realloc(buffer, size ? size : 1);
    if (!grown)
        abort();
    return grown;
}

static inline void http_host_log(http_host *host, const void *bytes, size_t size) {
    host->log = (char *)http_host_grow(host->log, host->log_size + size + 1);
    if (size)
        memcpy(host->log + host->log_size, bytes, size);
    host->log_size += size;
    host->log[host->log_size] = 0;
}

static inline void http_host_note(http_host *host, const char *text) {
    http_host_log(host, text, strlen(text));
}

/* method path?query name=value|... flags: */
static inline void http_host_head(http_host *host, const uint8_t *head) {
    const fc_http_request *request = &host->request;
    char flags[96];
    host->requests++;
    http_host_log(host, head, request->method_size);
    http_host_note(host, " ");
    http_host_log(host, head + request->authority, request->authority_size);
    http_host_log(host, head + request->path, request->path_size);
    http_host_note(host, "?");
    http_host_log(host, head + request->query, request->query_size);
    http_host_note(host, " ");
    for (uint32_t i = 0; i < request->fields; i++) {
        const fc_http_field *field = &host->fields[i];
        const char *known = fc_http_name_text(field->known);
        if (known && strlen(known) != field->name_size)
            abort();
        http_host_log(host, head + field->name, field->name_size);
        http_host_note(host, "=");
        http_host_log(host, head + field->value, field->value_size);
        http_host_note(host, "|");
    }
    snprintf(flags, sizeof flags, " 1.%d%s%s%s%s%s:", request->minor, request->keep_alive ? " keep" : "",
             request->expect_continue ? " expect" : "", request->websocket ? " websocket" : "",
             request->te_trailers ? " trailers" : "", request->chunked ? " chunked" : "");
    http_host_note(host, flags);
}

/* Takes all of data, or what comes before an error. */
static inline fc_status http_host_feed(http_host *host, const uint8_t *data, size_t size) {
    fc_status status;
    while (size) {
        size_t used, body;
        if (host->in_body && host->request.chunked) {
            status = fc_http_chunked(&host->chunks, &host->limits, data, size, &used, &body, &host->error);
            if (status < 0)
                return status;
            if (used == 0 || used > size || body > used)
                abort();
            http_host_log(host, data + used - body, body);
            data += used;
            size -= used;
            if (status == FC_NEED_DATA)
                continue;
        } else if (host->in_body) {
            used = host->left < size ? (size_t)host->left : size;
            http_host_log(host, data, used);
            host->left -= used;
            data += used;
            size -= used;
            if (host->left)
                continue;
        } else {
            /* The whole of what is held and new, in a block of its own size. */
            size_t whole = host->held_size + size;
            host->held = (uint8_t *)http_host_grow(host->held, whole);
            memcpy(host->held + host->held_size, data, size);
            host->held_size = whole;
            size_t first = host->scanner.first;
            status = fc_http_scan(&host->scanner, &host->limits, host->held, whole, &host->error);
            if (status == FC_NEED_DATA && !first && host->scanner.first) {
                fc_status line = fc_http_parse_line(&host->request, host->held + host->scanner.start,
                                                    host->scanner.first - 2 - host->scanner.start, &host->error);
                if (line != FC_OK)
                    return line;
            }
            if (status != FC_OK)
                return status;
            uint8_t *head = host->held + host->scanner.start;
            size_t head_size = host->scanner.length - host->scanner.start, rest = whole - host->scanner.length;
            uint8_t *block = (uint8_t *)http_host_grow(NULL, head_size);
            memcpy(block, head, head_size);
            status = fc_http_parse(&host->request, host->fields, HTTP_HOST_FIELDS, block, head_size, &host->error);
            if (status != FC_OK) {
                free(block);
                return status;
            }
            http_host_head(host, block);
            free(block);
            data += size - rest;
            size = rest;
            host->held_size = 0;
            memset(&host->scanner, 0, sizeof host->scanner);
            memset(&host->chunks, 0, sizeof host->chunks);
            host->left = host->request.content_length;
            if (host->request.chunked || host->left) {
                host->in_body = 1;
                continue;
            }
        }
        host->in_body = 0;
        http_host_note(host, ";");
    }
    return FC_NEED_DATA;
}

#endif
