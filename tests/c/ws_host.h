/* A small host of fc_ws for tests and fuzzing: it joins messages as fastchannels/_core/ws.pyx does and logs what came
 * out, so that two runs over the same bytes can be compared. */
#ifndef WS_HOST_H
#define WS_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include "fc_ws.h"

/* A log entry: the opcode, the length as eight bytes, the payload. */
typedef struct ws_host {
    fc_ws_parser parser;
    int in_payload;
    uint8_t *message;
    size_t message_size;
    size_t message_room;
    uint8_t control[FC_WS_CONTROL_MAX];
    uint8_t *log;
    size_t log_size;
    size_t events;
} ws_host;

static inline void ws_host_init(ws_host *host, enum fc_ws_role role, uint8_t rsv_allowed, uint64_t max_frame,
                                uint64_t max_message) {
    memset(host, 0, sizeof *host);
    fc_ws_parser_init(&host->parser, role, rsv_allowed, max_frame, max_message);
}

static inline void ws_host_free(ws_host *host) {
    free(host->message);
    free(host->log);
    host->message = host->log = NULL;
}

static inline uint8_t *ws_host_grow(uint8_t *buffer, size_t size) {
    uint8_t *grown = (uint8_t *)realloc(buffer, size ? size : 1);
    if (!grown)
        abort();
    return grown;
}

static inline void ws_host_log(ws_host *host, uint8_t opcode, const uint8_t *payload, uint64_t size) {
    host->log = ws_host_grow(host->log, host->log_size + 9 + (size_t)size);
    host->log[host->log_size] = opcode;
    fc_store_be64(host->log + host->log_size + 1, size);
    if (size)
        memcpy(host->log + host->log_size + 9, payload, (size_t)size);
    host->log_size += 9 + (size_t)size;
    host->events++;
}

/* Takes all of data, or what comes before an error or a close frame. */
static inline fc_status ws_host_feed(ws_host *host, const uint8_t *data, size_t size) {
    fc_ws_parser *parser = &host->parser;
    const uint8_t *end = data + size;
    size_t used;
    for (;;) {
        fc_status status;
        if (!host->in_payload) {
            status = fc_ws_parser_header(parser, data, (size_t)(end - data), &used);
            data += used;
            if (status != FC_OK)
                return status;
            size_t left = (size_t)(end - data);
            if (parser->frame.fin && parser->frame.opcode > 0 && parser->frame.opcode < FC_WS_CLOSE &&
                parser->frame.length <= left) {
                fc_utf8 utf8;
                size_t length = (size_t)parser->frame.length;
                uint8_t *out = ws_host_grow(NULL, length);
                fc_utf8_init(&utf8);
                int high = fc_ws_parser_whole(parser, out, data);
                status = FC_OK;
                if (parser->frame.opcode == FC_WS_TEXT && !parser->frame.rsv) {
                    if (fc_utf8_feed(&utf8, out, length) != FC_OK)
                        status = fc_ws_parser_bad_text(parser);
                    if (status != FC_OK && !high)
                        abort(); /* ASCII is UTF-8 */
                }
                if (status == FC_OK)
                    ws_host_log(host, parser->frame.opcode, out, length);
                free(out);
                if (status != FC_OK)
                    return status;
                data += length;
                continue;
            }
            host->in_payload = 1;
        }
        int control = parser->frame.opcode >= FC_WS_CLOSE;
        uint8_t opcode = control ? parser->frame.opcode : parser->message_opcode;
        uint64_t lacking = parser->frame.length - parser->taken;
        size_t room = lacking < (uint64_t)(end - data) ? (size_t)lacking : (size_t)(end - data);
        uint8_t *target;
        if (control) {
            target = host->control + parser->taken;
        } else {
            if (host->message_size + room > host->message_room || !host->message) {
                host->message_room = 2 * (host->message_size + room);
                host->message = ws_host_grow(host->message, host->message_room);
            }
            target = host->message + host->message_size;
        }
        status = fc_ws_parser_payload(parser, target, data, (size_t)(end - data), &used);
        if (used != (status == FC_ERR_CLOSED ? 0 : room))
            abort();
        data += used;
        if (!control)
            host->message_size += used;
        if (status != FC_OK)
            return status;
        host->in_payload = 0;
        if (control) {
            uint16_t code;
            if (opcode == FC_WS_CLOSE) {
                status = fc_ws_parser_close(parser, host->control, (size_t)parser->frame.length, &code);
                if (status != FC_OK)
                    return status;
            }
            ws_host_log(host, opcode, host->control, parser->frame.length);
        } else if (parser->frame.fin) {
            ws_host_log(host, opcode, host->message, host->message_size);
            host->message_size = 0;
        }
    }
}

#endif
