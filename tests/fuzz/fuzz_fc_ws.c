/* Any bytes give the same events, error and close code whether they come whole or in pieces.
 *
 * Input: a byte of configuration, a byte that seeds the pieces, then the stream.
 */
#include "ws_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint64_t limits[] = {0, 16, 125, 70000};
    if (size < 2)
        return 0;
    enum fc_ws_role role = data[0] & 1 ? FC_WS_CLIENT : FC_WS_SERVER;
    uint8_t rsv = data[0] & 2 ? 0x40 : 0;
    uint64_t max_frame = limits[data[0] >> 2 & 3], max_message = limits[data[0] >> 4 & 3];
    uint32_t seed = data[1];
    data += 2;
    size -= 2;

    ws_host whole, pieces;
    ws_host_init(&whole, role, rsv, max_frame, max_message);
    ws_host_init(&pieces, role, rsv, max_frame, max_message);
    fc_status status = ws_host_feed(&whole, data, size), split = FC_NEED_DATA;
    for (size_t at = 0; at < size && split == FC_NEED_DATA;) {
        seed = seed * 1103515245u + 12345u;
        size_t piece = 1 + (seed >> 16) % 23;
        if (piece > size - at)
            piece = size - at;
        uint8_t *copy = ws_host_grow(NULL, piece);
        memcpy(copy, data + at, piece);
        split = ws_host_feed(&pieces, copy, piece);
        free(copy);
        at += piece;
    }
    if (split != status && !(split == FC_NEED_DATA && status == FC_ERR_CLOSED))
        abort();
    if (whole.parser.close_code != pieces.parser.close_code || whole.parser.reason != pieces.parser.reason)
        abort();
    if ((status < 0 && status != FC_ERR_CLOSED) != (whole.parser.close_code != 0))
        abort();
    if (whole.log_size != pieces.log_size || (whole.log_size && memcmp(whole.log, pieces.log, whole.log_size) != 0))
        abort();
    ws_host_free(&whole);
    ws_host_free(&pieces);
    return 0;
}
