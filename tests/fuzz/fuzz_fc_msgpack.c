/* Reads a value; its tokens, written again, read as the same tokens and take no more bytes than they did, float32
 * apart. Both ways to read a token agree, and what the containers announce never outnumbers the bytes. */
#include <stdlib.h>
#include "fc_msgpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition) {
    if (!condition)
        abort();
}

static int has_payload(const fc_msgpack_token *token) {
    return token->kind == FC_MSGPACK_STR || token->kind == FC_MSGPACK_BIN || token->kind == FC_MSGPACK_EXT;
}

static int equal(const fc_msgpack_token *a, const fc_msgpack_token *b) {
    if (a->kind != b->kind || a->size != b->size)
        return 0;
    if (has_payload(a))
        return a->size == 0 || memcmp(a->data, b->data, a->size) == 0;
    if (a->kind == FC_MSGPACK_UINT || a->kind == FC_MSGPACK_INT || a->kind == FC_MSGPACK_FLOAT)
        return a->u == b->u;
    return 1;
}

/* Writes the token at p and returns the length of its head and payload. */
static size_t write_token(uint8_t *p, const fc_msgpack_token *token) {
    size_t head = 0;
    switch (token->kind) {
    case FC_MSGPACK_NIL:
        return fc_msgpack_put_nil(p);
    case FC_MSGPACK_FALSE:
    case FC_MSGPACK_TRUE:
        return fc_msgpack_put_bool(p, token->kind == FC_MSGPACK_TRUE);
    case FC_MSGPACK_UINT:
        return fc_msgpack_put_uint(p, token->u);
    case FC_MSGPACK_INT:
        return fc_msgpack_put_int(p, token->i);
    case FC_MSGPACK_FLOAT:
        return fc_msgpack_put_float(p, token->f);
    case FC_MSGPACK_ARRAY:
        return fc_msgpack_put_array(p, token->size);
    case FC_MSGPACK_MAP:
        return fc_msgpack_put_map(p, token->size);
    case FC_MSGPACK_STR:
        head = fc_msgpack_put_str(p, token->size);
        break;
    case FC_MSGPACK_BIN:
    case FC_MSGPACK_EXT: /* there is no writer for ext */
        head = fc_msgpack_put_bin(p, token->size);
        break;
    }
    if (token->size)
        memcpy(p + head, token->data, token->size);
    return head + token->size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fc_msgpack_reader reader, other;
    fc_msgpack_token token, again;
    fc_msgpack_reader_init(&reader, data, size);
    /* A float32 grows from 5 bytes to 9, a fixext of one byte keeps its 3. */
    uint8_t *written = (uint8_t *)malloc(2 * size + FC_MSGPACK_SLACK);
    size_t length = 0;
    uint64_t announced = 0;
    fc_status status;
    do {
        uint64_t before = reader.pos;
        other = reader;
        status = fc_msgpack_next(&reader, &token);
        must(fc_msgpack_next_any(&other, &again) == status);
        must(other.pos == reader.pos && other.owed == reader.owed);
        if (status != FC_OK) {
            must((status == FC_NEED_DATA || status == FC_ERR_FORMAT) && reader.pos == before);
            break;
        }
        must(equal(&token, &again) && reader.pos > before && reader.pos <= size);
        if (has_payload(&token))
            must(token.data > data + before && token.data + token.size == data + reader.pos);
        announced += token.kind == FC_MSGPACK_ARRAY ? token.size : 0;
        announced += token.kind == FC_MSGPACK_MAP ? 2 * (uint64_t)token.size : 0;
        must(announced <= size);
        size_t took = write_token(written + length, &token);
        must(token.kind == FC_MSGPACK_FLOAT || took <= reader.pos - before);
        length += took;
    } while (reader.owed > 0);

    if (status == FC_OK) {
        fc_msgpack_reader first, second;
        fc_msgpack_reader_init(&first, data, size);
        fc_msgpack_reader_init(&second, written, length);
        do {
            must(fc_msgpack_next(&first, &token) == FC_OK);
            must(fc_msgpack_next(&second, &again) == FC_OK);
            if (token.kind == FC_MSGPACK_EXT)
                token.kind = FC_MSGPACK_BIN;
            must(equal(&token, &again) && first.owed == second.owed);
        } while (first.owed > 0);
        must(second.pos == length);
    }
    free(written);
    return 0;
}
