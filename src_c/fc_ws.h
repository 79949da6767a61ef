/* WebSocket frames (RFC 6455 section 5): an incremental parser that holds no payload, and a writer of headers.
 *
 * The host alternates two steps. fc_ws_parser_header reads a frame's header and applies every rule and limit to it
 * before one byte of its payload is stored anywhere; then the payload is taken, in pieces with fc_ws_parser_payload or
 * at once with fc_ws_parser_whole. The parser keeps the order of fragments, the size of the open message and the
 * validity of text. What the payload is put into is the host's affair.
 *
 * Errors: FC_ERR_FORMAT, FC_ERR_UTF8 and FC_ERR_RANGE, with the close code to answer with (1002, 1007 and 1009) in
 * close_code and a static text in reason. They are sticky: every later call returns the same one and takes nothing.
 *
 * Ownership: nothing is allocated; no pointer into the host's bytes is kept. Slack: none is read or written.
 * Complexity: O(bytes taken). Threads: a parser belongs to one thread at a time.
 */
#ifndef FC_WS_H
#define FC_WS_H

#include "fc_common.h"
#include "fc_utf8.h"

#define FC_WS_HEADER_MAX 14   /* bytes of the longest header */
#define FC_WS_CONTROL_MAX 125 /* bytes of payload that a control frame may have */

enum fc_ws_opcode {
    FC_WS_CONTINUATION = 0,
    FC_WS_TEXT = 1,
    FC_WS_BINARY = 2,
    FC_WS_CLOSE = 8,
    FC_WS_PING = 9,
    FC_WS_PONG = 10
};

enum fc_ws_role {
    FC_WS_SERVER = 0, /* reads frames of a client: masked */
    FC_WS_CLIENT = 1  /* reads frames of a server: not masked */
};

typedef struct fc_ws_frame {
    uint64_t length; /* of the payload, as announced: within the limits of the parser */
    uint8_t opcode;
    uint8_t fin;    /* 1: the last frame of its message */
    uint8_t rsv;    /* the bits 0x40, 0x20, 0x10 as sent */
    uint8_t key[4]; /* all zero when the frame is not masked */
} fc_ws_frame;

/* frame, taken, close_code and reason are for the host to read; the rest is the parser's own. */
typedef struct fc_ws_parser {
    fc_ws_frame frame;       /* the frame whose header was read last */
    uint64_t taken;          /* payload bytes of that frame that were taken */
    uint64_t message_size;   /* announced by all frames so far of the open message */
    uint64_t max_frame_size; /* of a data frame */
    uint64_t max_message_size;
    const char *reason;     /* of the error; NULL without one */
    fc_status status;       /* sticky: FC_OK, FC_ERR_CLOSED or the error */
    uint16_t close_code;    /* of the error; 0 without one */
    uint8_t message_opcode; /* FC_WS_TEXT or FC_WS_BINARY while a message is open, else 0 */
    uint8_t message_rsv;    /* of the first frame of the open message */
    uint8_t rsv_allowed;
    uint8_t role;
    uint8_t stashed; /* bytes of an incomplete header */
    uint8_t stash[FC_WS_HEADER_MAX];
    fc_utf8 utf8;
} fc_ws_parser;

/* rsv_allowed: the RSV bits (0x40, 0x20, 0x10) that the first frame of a data message may carry, as the negotiated
 * extension says; no other frame may carry any (RFC 7692 section 6 asks the same). Text that carries one is not checked
 * for UTF-8, since its bytes are the extension's. A limit of 0 means none but that of the address space. */
void fc_ws_parser_init(fc_ws_parser *parser, enum fc_ws_role role, uint8_t rsv_allowed, uint64_t max_frame_size,
                       uint64_t max_message_size);

/* Reads the header of the next frame; *used is how many of the size bytes belong to it. Call it at the start and after
 * a frame's payload was taken (a payload of length 0 is taken too).
 * FC_OK: frame holds it. FC_NEED_DATA: all bytes were used and the header goes on. FC_ERR_CLOSED: a close frame came
 * before, so what follows is to be discarded (RFC 6455 section 1.4). FC_ERR_FORMAT, FC_ERR_RANGE: see above. */
fc_status fc_ws_parser_header(fc_ws_parser *parser, const uint8_t *data, size_t size, size_t *used);

/* Unmasks up to size bytes of the frame's payload into dst (which may be src, and else must not overlap it) and sets
 * *used; dst must have room for the smaller of size and what the frame still lacks. Text is validated as it comes.
 * FC_OK: the payload is complete. FC_NEED_DATA: the frame goes on. FC_ERR_UTF8: see above. */
fc_status fc_ws_parser_payload(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src, size_t size, size_t *used);

/* Takes the whole payload of a data frame that is a message by itself (fin, and not a continuation): src and dst hold
 * frame.length bytes, of which none were taken. Text is not validated: the host decodes it, and reports what is
 * no UTF-8 to fc_ws_parser_bad_text. Returns 1 when some byte is not ASCII, else 0. */
int fc_ws_parser_whole(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src);

/* Makes FC_ERR_UTF8 the state of the parser, and returns it. */
fc_status fc_ws_parser_bad_text(fc_ws_parser *parser);

/* The host's own verdict on a payload, such as one of an extension: makes the error, which is not FC_OK, the state of
 * the parser, and returns it. reason is static. */
fc_status fc_ws_parser_refuse(fc_ws_parser *parser, fc_status status, uint16_t close_code, const char *reason);

/* Checks the body of a close frame (RFC 6455 section 5.5.1); *code is 0 when it has none. The reason is what follows
 * the two bytes of the code. FC_OK, FC_ERR_FORMAT or FC_ERR_UTF8, which the parser then remembers. */
fc_status fc_ws_parser_close(fc_ws_parser *parser, const uint8_t *body, size_t size, uint16_t *code);

/* 1 when a close frame may carry the code: RFC 6455 section 7.4 and the IANA registry allow 1000-1003, 1007-1014 and
 * 3000-4999. */
int fc_ws_close_code_valid(uint32_t code);

/* Bytes of the header for a payload of length bytes. */
static inline size_t fc_ws_header_size(uint64_t length, int masked) {
    return (size_t)(length < 126 ? 2 : length < 65536 ? 4 : 10) + (masked ? 4 : 0);
}

/* Writes a header in its shortest form into out, which has room for FC_WS_HEADER_MAX bytes of which only those of the
 * header are touched; first is the first byte: FIN (0x80), RSV bits, opcode. key is NULL, or the four bytes with which
 * the caller masks the payload. Returns the size, or 0 when length is above 2**63-1. */
size_t fc_ws_header_write(uint8_t *out, uint8_t first, uint64_t length, const uint8_t *key);

#endif
