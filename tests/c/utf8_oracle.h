#ifndef UTF8_ORACLE_H
#define UTF8_ORACLE_H

#include "fc_common.h"

/* Independent of fc_utf8: decodes a character and looks at its value. Returns its size, 0 when it is invalid, -1 when
 * the bytes end inside a character that can still become valid. */
static inline int utf8_oracle_one(const uint8_t *p, size_t size) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int length = p[0] < 0x80             ? 1
                 : (p[0] & 0xE0) == 0xC0 ? 2
                 : (p[0] & 0xF0) == 0xE0 ? 3
                 : (p[0] & 0xF8) == 0xF0 ? 4
                                         : 0;
    if (length < 2)
        return length;
    uint32_t low = p[0] & (0x7Fu >> length), high = low;
    for (int i = 1; i < length; i++) {
        /* Past the end of the bytes: the range of values that the character may still get. */
        int known = (size_t)i < size;
        if (known && (p[i] & 0xC0) != 0x80)
            return 0;
        low = low << 6 | (known ? p[i] & 0x3Fu : 0);
        high = high << 6 | (known ? p[i] & 0x3Fu : 0x3F);
    }
    if (high < least[length] || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF))
        return 0;
    return (size_t)length <= size ? length : -1;
}

static inline fc_status utf8_oracle(const uint8_t *p, size_t size) {
    while (size) {
        int used = utf8_oracle_one(p, size);
        if (used <= 0)
            return used == 0 ? FC_ERR_UTF8 : FC_NEED_DATA;
        p += used;
        size -= (size_t)used;
    }
    return FC_OK;
}

#endif
