/* Whole, and in two pieces cut where the first byte says, the verdict is that of the oracle. */
#include <stdlib.h>
#include "fc_utf8.h"
#include "utf8_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    size_t cut = data[0];
    data++;
    size--;
    if (cut > size)
        cut = size;
    fc_utf8 state;
    fc_status wanted = utf8_oracle(data, size);
    fc_utf8_init(&state);
    if (fc_utf8_feed(&state, data, size) != wanted)
        abort();
    fc_utf8_init(&state);
    if (fc_utf8_feed(&state, data, cut) != utf8_oracle(data, cut) ||
        fc_utf8_feed(&state, data + cut, size - cut) != wanted)
        abort();
    return 0;
}
