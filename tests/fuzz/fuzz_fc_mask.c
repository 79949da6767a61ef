/* Every implementation writes what the definition in RFC 6455 section 5.3 says. Input: phase, key, payload. */
#include <stdlib.h>
#include "fc_mask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fc_mask_variant variants[FC_MASK_VARIANTS_MAX + 1];
    if (size < 5)
        return 0;
    uint64_t phase = data[0];
    const uint8_t *key = data + 1;
    data += 5;
    size -= 5;
    uint8_t *wanted = (uint8_t *)malloc(size + 1), *out = (uint8_t *)malloc(size + 1);
    int high = 0;
    for (size_t i = 0; i < size; i++) {
        wanted[i] = data[i] ^ key[(phase + i) % 4];
        high |= wanted[i] >= 0x80;
    }
    size_t count = fc_mask_variants(variants);
    variants[count++] = (fc_mask_variant){"dispatch", fc_mask};
    for (size_t v = 0; v < count; v++) {
        out[size] = 0x5A;
        if (variants[v].run(out, data, size, key, phase) != high || memcmp(out, wanted, size) != 0 || out[size] != 0x5A)
            abort();
        memcpy(out, data, size);
        if (variants[v].run(out, out, size, key, phase) != high || memcmp(out, wanted, size) != 0 || out[size] != 0x5A)
            abort();
    }
    free(wanted);
    free(out);
    return 0;
}
