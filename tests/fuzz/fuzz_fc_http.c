/* Any bytes give the same requests, bodies and error whether they come whole or in pieces.
 *
 * Input: a byte of limits, a byte that seeds the pieces, then the stream.
 */
#include "http_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t lines[] = {16, 64, 1024, 65536}, bytes[] = {32, 200, 1024, 65536}, counts[] = {1, 4, 30, 100};
    if (size < 2)
        return 0;
    http_host whole, pieces;
    http_host_init(&whole, lines[data[0] & 3], bytes[data[0] >> 2 & 3], counts[data[0] >> 4 & 3]);
    http_host_init(&pieces, lines[data[0] & 3], bytes[data[0] >> 2 & 3], counts[data[0] >> 4 & 3]);
    uint32_t seed = data[1];
    data += 2;
    size -= 2;

    /* A head that its scanner did not see is read without harm. */
    fc_http_request request;
    fc_http_field fields[4];
    fc_http_error error;
    (void)fc_http_parse(&request, fields, 4, data, size, &error);

    fc_status status = http_host_feed(&whole, data, size), split = FC_NEED_DATA;
    for (size_t at = 0; at < size && split == FC_NEED_DATA;) {
        seed = seed * 1103515245u + 12345u;
        size_t piece = 1 + (seed >> 16) % 23;
        if (piece > size - at)
            piece = size - at;
        uint8_t *copy = (uint8_t *)http_host_grow(NULL, piece);
        memcpy(copy, data + at, piece);
        split = http_host_feed(&pieces, copy, piece);
        free(copy);
        at += piece;
    }
    /* Of a head with several faults the first one that is seen is told: in pieces it may be another one. */
    if ((status < 0) != (split < 0) || whole.requests != pieces.requests)
        abort();
    if (status < 0 && (whole.error.status < 400 || whole.error.status > 505 || !whole.error.reason))
        abort();
    if (whole.log_size != pieces.log_size || (whole.log_size && memcmp(whole.log, pieces.log, whole.log_size) != 0))
        abort();
    http_host_free(&whole);
    http_host_free(&pieces);
    return 0;
}
