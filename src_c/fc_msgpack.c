#include "fc_msgpack.h"

/* A token of `head` bytes before `size` bytes of payload. */
static fc_status payload(fc_msgpack_reader *reader, fc_msgpack_token *token, fc_msgpack_kind kind, uint64_t head,
                         uint64_t size) {
    uint64_t left = reader->size - reader->pos;
    if (FC_UNLIKELY(left < head || left - head < size))
        return FC_NEED_DATA;
    token->kind = kind;
    token->size = (uint32_t)size;
    token->data = reader->data + reader->pos + head;
    reader->pos += head + size;
    reader->owed -= 1;
    return FC_OK;
}

/* A container of `head` bytes before `size` values, or pairs when kind is MAP. size is below 2**32, so the sums fit:
 * owed never passes the size of the buffer. */
static fc_status container(fc_msgpack_reader *reader, fc_msgpack_token *token, fc_msgpack_kind kind, uint64_t head,
                           uint64_t size) {
    uint64_t left = reader->size - reader->pos - head;
    uint64_t owed = reader->owed - 1 + (kind == FC_MSGPACK_MAP ? 2 * size : size);
    /* Each value takes at least a byte. */
    if (FC_UNLIKELY(owed > left))
        return FC_ERR_FORMAT;
    token->kind = kind;
    token->size = (uint32_t)size;
    reader->pos += head;
    reader->owed = owed;
    return FC_OK;
}

static fc_status scalar(fc_msgpack_reader *reader, fc_msgpack_token *token, fc_msgpack_kind kind, uint64_t length) {
    token->kind = kind;
    token->size = 0;
    reader->pos += length;
    reader->owed -= 1;
    return FC_OK;
}

static fc_status signed_int(fc_msgpack_reader *reader, fc_msgpack_token *token, int64_t value, uint64_t length) {
    if (value >= 0) {
        token->u = (uint64_t)value;
        return scalar(reader, token, FC_MSGPACK_UINT, length);
    }
    token->i = value;
    return scalar(reader, token, FC_MSGPACK_INT, length);
}

/* Bytes before the payload of the tokens 0xc0 to 0xdf: the first byte, the number or length, and the type of an ext. */
static const uint8_t HEADS[32] = {
    1, 1, 1, 1, 2, 3, 5, 3, 4, 6, 5, 9, 2, 3, 5, 9, /* nil, 0xc1, bool, bin, ext, float, uint */
    2, 3, 5, 9, 2, 2, 2, 2, 2, 2, 3, 5, 3, 5, 3, 5, /* int, fixext, str, array, map */
};

/* HOT: benchmarks/bench_msgpack.py */
fc_status fc_msgpack_next_any(fc_msgpack_reader *reader, fc_msgpack_token *token) {
    if (FC_UNLIKELY(reader->pos >= reader->size))
        return FC_NEED_DATA;
    const uint8_t *p = reader->data + reader->pos;
    uint8_t first = p[0];
    /* The start of a top-level value. When it fails below, owed stays 1 and the next call is a start again. */
    if (reader->owed == 0)
        reader->owed = 1;

    if (first < 0x80) {
        token->u = first;
        return scalar(reader, token, FC_MSGPACK_UINT, 1);
    }
    if (first >= 0xa0 && first < 0xc0)
        return payload(reader, token, FC_MSGPACK_STR, 1, first & 0x1f);
    if (first < 0x90)
        return container(reader, token, FC_MSGPACK_MAP, 1, first & 0x0f);
    if (first < 0xa0)
        return container(reader, token, FC_MSGPACK_ARRAY, 1, first & 0x0f);
    if (first >= 0xe0) {
        token->i = (int8_t)first;
        return scalar(reader, token, FC_MSGPACK_INT, 1);
    }

    uint64_t head = HEADS[first - 0xc0];
    if (FC_UNLIKELY(reader->size - reader->pos < head))
        return FC_NEED_DATA;
    switch (first) {
    case 0xc0:
        return scalar(reader, token, FC_MSGPACK_NIL, head);
    case 0xc2:
        return scalar(reader, token, FC_MSGPACK_FALSE, head);
    case 0xc3:
        return scalar(reader, token, FC_MSGPACK_TRUE, head);
    case 0xc4:
        return payload(reader, token, FC_MSGPACK_BIN, head, p[1]);
    case 0xc5:
        return payload(reader, token, FC_MSGPACK_BIN, head, fc_load_be16(p + 1));
    case 0xc6:
        return payload(reader, token, FC_MSGPACK_BIN, head, fc_load_be32(p + 1));
    case 0xc7:
    case 0xc8:
    case 0xc9: {
        uint64_t size = first == 0xc7 ? p[1] : first == 0xc8 ? fc_load_be16(p + 1) : fc_load_be32(p + 1);
        token->ext_type = (int8_t)p[head - 1];
        return payload(reader, token, FC_MSGPACK_EXT, head, size);
    }
    case 0xca: {
        uint32_t bits = fc_load_be32(p + 1);
        float value;
        memcpy(&value, &bits, 4);
        token->f = value;
        return scalar(reader, token, FC_MSGPACK_FLOAT, head);
    }
    case 0xcb: {
        uint64_t bits = fc_load_be64(p + 1);
        memcpy(&token->f, &bits, 8);
        return scalar(reader, token, FC_MSGPACK_FLOAT, head);
    }
    case 0xcc:
        token->u = p[1];
        return scalar(reader, token, FC_MSGPACK_UINT, head);
    case 0xcd:
        token->u = fc_load_be16(p + 1);
        return scalar(reader, token, FC_MSGPACK_UINT, head);
    case 0xce:
        token->u = fc_load_be32(p + 1);
        return scalar(reader, token, FC_MSGPACK_UINT, head);
    case 0xcf:
        token->u = fc_load_be64(p + 1);
        return scalar(reader, token, FC_MSGPACK_UINT, head);
    case 0xd0:
        return signed_int(reader, token, (int8_t)p[1], head);
    case 0xd1:
        return signed_int(reader, token, (int16_t)fc_load_be16(p + 1), head);
    case 0xd2:
        return signed_int(reader, token, (int32_t)fc_load_be32(p + 1), head);
    case 0xd3:
        return signed_int(reader, token, (int64_t)fc_load_be64(p + 1), head);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        token->ext_type = (int8_t)p[1];
        return payload(reader, token, FC_MSGPACK_EXT, head, UINT64_C(1) << (first - 0xd4));
    case 0xd9:
        return payload(reader, token, FC_MSGPACK_STR, head, p[1]);
    case 0xda:
        return payload(reader, token, FC_MSGPACK_STR, head, fc_load_be16(p + 1));
    case 0xdb:
        return payload(reader, token, FC_MSGPACK_STR, head, fc_load_be32(p + 1));
    case 0xdc:
        return container(reader, token, FC_MSGPACK_ARRAY, head, fc_load_be16(p + 1));
    case 0xdd:
        return container(reader, token, FC_MSGPACK_ARRAY, head, fc_load_be32(p + 1));
    case 0xde:
        return container(reader, token, FC_MSGPACK_MAP, head, fc_load_be16(p + 1));
    case 0xdf:
        return container(reader, token, FC_MSGPACK_MAP, head, fc_load_be32(p + 1));
    default: /* 0xc1 */
        return FC_ERR_FORMAT;
    }
}
