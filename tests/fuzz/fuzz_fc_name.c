/* Any bytes as a name: the check agrees with the rule, a byte at a time, and nothing reads past the end. */
#include <stdlib.h>

#include "fc_name.h"

static int legal(const uint8_t *name, size_t size, int kind) {
    size_t separators = 0;
    if (size < 1 || size > 99)
        return 0;
    for (size_t i = 0; i < size; i++) {
        const uint8_t c = name[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
            c == '.')
            continue;
        if (i == 0 || ++separators > 1)
            return 0;
        if (c == '!' ? kind == FC_NAME_GROUP : c != '?' || kind != FC_NAME_SINGLE_READER || i + 1 == size)
            return 0;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int kind = FC_NAME_GROUP; kind <= FC_NAME_SINGLE_READER; kind++)
        if ((fc_name_check((const char *)data, size, kind) == FC_OK) != legal(data, size, kind))
            abort();
    const size_t local = fc_name_local((const char *)data, size);
    if (local > size || (local < size && data[local - 1] != '!'))
        abort();
    return 0;
}
