#include "fc_ws.h"
#include "fc_mask.h"

#define FIN 0x80
#define RSV 0x70
#define OPCODE 0x0F
#define CONTROL 0x08
#define MASKED 0x80
#define LENGTH 0x7F

static fc_status fail(fc_ws_parser *parser, fc_status status, uint16_t close_code, const char *reason) {
    parser->status = status;
    parser->close_code = close_code;
    parser->reason = reason;
    return status;
}

static fc_status protocol_error(fc_ws_parser *parser, const char *reason) {
    return fail(parser, FC_ERR_FORMAT, 1002, reason);
}

static uint64_t limit(uint64_t size) {
    return size == 0 || size > (uint64_t)PTRDIFF_MAX ? (uint64_t)PTRDIFF_MAX : size;
}

void fc_ws_parser_init(fc_ws_parser *parser, enum fc_ws_role role, uint8_t rsv_allowed, uint64_t max_frame_size,
                       uint64_t max_message_size) {
    memset(parser, 0, sizeof *parser);
    parser->role = (uint8_t)role;
    parser->rsv_allowed = rsv_allowed & RSV;
    parser->max_frame_size = limit(max_frame_size);
    parser->max_message_size = limit(max_message_size);
}

/* RFC 6455 section 5.2, in the order of the bytes, so that the verdict does not depend on how the input was split. */
static fc_status read_header(fc_ws_parser *parser, const uint8_t *head, size_t have, size_t *size) {
    if (have < 1)
        return FC_NEED_DATA;
    uint8_t opcode = head[0] & OPCODE;
    uint8_t rsv = head[0] & RSV;
    int fin = (head[0] & FIN) != 0;
    int control = (opcode & CONTROL) != 0;

    if (opcode > (control ? FC_WS_PONG : FC_WS_BINARY))
        return protocol_error(parser, "reserved opcode");
    if (FC_UNLIKELY(rsv) && (rsv & ~parser->rsv_allowed || control || opcode == FC_WS_CONTINUATION))
        return protocol_error(parser, "reserved bit set");
    if (control) {
        if (!fin)
            return protocol_error(parser, "fragmented control frame");
    } else if (opcode == FC_WS_CONTINUATION) {
        if (!parser->message_opcode)
            return protocol_error(parser, "continuation frame without a message");
    } else if (parser->message_opcode) {
        return protocol_error(parser, "new message before the end of the last");
    }

    if (have < 2)
        return FC_NEED_DATA;
    int masked = (head[1] & MASKED) != 0;
    uint64_t length = head[1] & LENGTH;
    size_t offset = 2;
    if (masked != (parser->role == FC_WS_SERVER)) /* section 5.1 */
        return protocol_error(parser, masked ? "masked frame from the server" : "unmasked frame from the client");
    if (control && length > FC_WS_CONTROL_MAX)
        return protocol_error(parser, "control frame longer than 125 bytes");
    if (length == 126) {
        if (have < 4)
            return FC_NEED_DATA;
        length = fc_load_be16(head + 2);
        offset = 4;
        if (length < 126)
            return protocol_error(parser, "length not in its shortest form");
    } else if (length == 127) {
        if (have < 10)
            return FC_NEED_DATA;
        length = fc_load_be64(head + 2);
        offset = 10;
        if (length > (uint64_t)INT64_MAX)
            return protocol_error(parser, "length above 2**63-1");
        if (length < 65536)
            return protocol_error(parser, "length not in its shortest form");
    }

    if (!control) {
        /* The frames before were within the limit, so the subtraction cannot wrap, nor can the sum below. */
        uint64_t before = opcode == FC_WS_CONTINUATION ? parser->message_size : 0;
        if (length > parser->max_frame_size)
            return fail(parser, FC_ERR_RANGE, 1009, "frame too big");
        if (length > parser->max_message_size - before)
            return fail(parser, FC_ERR_RANGE, 1009, "message too big");
        if (have < offset + (masked ? 4 : 0))
            return FC_NEED_DATA;
        parser->message_size = before + length;
        if (opcode != FC_WS_CONTINUATION) {
            parser->message_opcode = opcode;
            parser->message_rsv = rsv;
        }
    } else if (have < offset + (masked ? 4 : 0)) {
        return FC_NEED_DATA;
    }

    if (masked)
        memcpy(parser->frame.key, head + offset, 4);
    parser->frame.length = length;
    parser->frame.opcode = opcode;
    parser->frame.fin = (uint8_t)fin;
    parser->frame.rsv = rsv;
    parser->taken = 0;
    *size = offset + (masked ? 4 : 0);
    return FC_OK;
}

fc_status fc_ws_parser_header(fc_ws_parser *parser, const uint8_t *data, size_t size, size_t *used) {
    size_t header_size = 0;
    *used = 0;
    if (FC_UNLIKELY(parser->status))
        return parser->status;
    if (FC_LIKELY(!parser->stashed)) {
        fc_status status = read_header(parser, data, size, &header_size);
        if (status == FC_NEED_DATA && size) { /* so fewer than FC_WS_HEADER_MAX bytes came */
            memcpy(parser->stash, data, size);
            parser->stashed = (uint8_t)size;
            *used = size;
        } else if (status == FC_OK) {
            *used = header_size;
        }
        return status;
    }
    size_t before = parser->stashed;
    size_t room = FC_WS_HEADER_MAX - before;
    size_t more = size < room ? size : room;
    if (more)
        memcpy(parser->stash + before, data, more);
    fc_status status = read_header(parser, parser->stash, before + more, &header_size);
    if (status == FC_NEED_DATA) {
        parser->stashed = (uint8_t)(before + more);
        *used = more;
    } else if (status == FC_OK) {
        parser->stashed = 0;
        *used = header_size - before;
    }
    return status;
}

/* The payload of the frame is complete. */
static fc_status end_frame(fc_ws_parser *parser) {
    if (parser->frame.opcode & CONTROL) {
        if (parser->frame.opcode == FC_WS_CLOSE)
            parser->status = FC_ERR_CLOSED;
    } else if (parser->frame.fin) {
        if (parser->utf8.need) /* the text ends inside a character */
            return fc_ws_parser_bad_text(parser);
        parser->message_opcode = 0;
    }
    return FC_OK;
}

fc_status fc_ws_parser_payload(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src, size_t size, size_t *used) {
    *used = 0;
    if (FC_UNLIKELY(parser->status))
        return parser->status;
    uint64_t left = parser->frame.length - parser->taken;
    size_t take = left < size ? (size_t)left : size;
    int high = fc_mask(dst, src, take, parser->frame.key, parser->taken);
    parser->taken += take;
    *used = take;

    int text = !(parser->frame.opcode & CONTROL) && parser->message_opcode == FC_WS_TEXT && !parser->message_rsv;
    if (text && (high || parser->utf8.need) && fc_utf8_feed(&parser->utf8, dst, take) == FC_ERR_UTF8)
        return fc_ws_parser_bad_text(parser);
    return parser->taken < parser->frame.length ? FC_NEED_DATA : end_frame(parser);
}

int fc_ws_parser_whole(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src) {
    parser->taken = parser->frame.length;
    parser->message_opcode = 0;
    return fc_mask(dst, src, (size_t)parser->frame.length, parser->frame.key, 0);
}

fc_status fc_ws_parser_bad_text(fc_ws_parser *parser) {
    return fail(parser, FC_ERR_UTF8, 1007, "text is not UTF-8");
}

fc_status fc_ws_parser_refuse(fc_ws_parser *parser, fc_status status, uint16_t close_code, const char *reason) {
    return fail(parser, status, close_code, reason);
}

fc_status fc_ws_parser_close(fc_ws_parser *parser, const uint8_t *body, size_t size, uint16_t *code) {
    fc_utf8 utf8;
    *code = 0;
    if (size == 0)
        return FC_OK;
    if (size == 1)
        return protocol_error(parser, "close frame of one byte");
    *code = fc_load_be16(body);
    if (!fc_ws_close_code_valid(*code))
        return protocol_error(parser, "invalid close code");
    fc_utf8_init(&utf8);
    if (fc_utf8_feed(&utf8, body + 2, size - 2) != FC_OK)
        return fail(parser, FC_ERR_UTF8, 1007, "close reason is not UTF-8");
    return FC_OK;
}

int fc_ws_close_code_valid(uint32_t code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

size_t fc_ws_header_write(uint8_t *out, uint8_t first, uint64_t length, const uint8_t *key) {
    if (length > (uint64_t)INT64_MAX)
        return 0;
    uint8_t mask = key ? MASKED : 0;
    size_t size = 2;
    out[0] = first;
    if (length < 126) {
        out[1] = mask | (uint8_t)length;
    } else if (length < 65536) {
        out[1] = mask | 126;
        fc_store_be16(out + 2, (uint16_t)length);
        size = 4;
    } else {
        out[1] = mask | 127;
        fc_store_be64(out + 2, length);
        size = 10;
    }
    if (key) {
        memcpy(out + size, key, 4);
        size += 4;
    }
    return size;
}
