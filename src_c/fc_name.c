#include "fc_name.h"

/* 1 for [A-Za-z0-9_.-], as runs of the ASCII table. */
static const uint8_t plain[256] = {
    ['-'] = 1, ['.'] = 1, ['_'] = 1, ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1,
    ['7'] = 1, ['8'] = 1, ['9'] = 1, ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1,
    ['H'] = 1, ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1, ['Q'] = 1,
    ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1, ['Y'] = 1, ['Z'] = 1, ['a'] = 1,
    ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1,
    ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1,
    ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1,
};

/* First position from `at` on that does not hold a plain byte. Eight look-ups at a time, so that one does not wait for
 * the branch of the one before. */
static size_t skip_plain(const uint8_t *b, size_t at, size_t length) {
    for (; length - at >= 8; at += 8)
        if (!(plain[b[at]] & plain[b[at + 1]] & plain[b[at + 2]] & plain[b[at + 3]] & plain[b[at + 4]] &
              plain[b[at + 5]] & plain[b[at + 6]] & plain[b[at + 7]]))
            break;
    while (at < length && plain[b[at]])
        at++;
    return at;
}

/* HOT: benchmarks/bench_layer.py (once a send) */
fc_status fc_name_check(const char *name, size_t length, int kind) {
    if (length == 0 || length >= FC_NAME_LIMIT)
        return FC_ERR_RANGE;
    const uint8_t *bytes = (const uint8_t *)name;
    const size_t at = skip_plain(bytes, 0, length);
    if (FC_LIKELY(at == length))
        return FC_OK;
    /* The one separator, with at least one byte before it. */
    const uint8_t separator = bytes[at];
    if (at == 0 ||
        !((separator == '!' && kind != FC_NAME_GROUP) || (separator == '?' && kind == FC_NAME_SINGLE_READER)))
        return FC_ERR_FORMAT;
    if (separator == '?' && at + 1 == length)
        return FC_ERR_FORMAT;
    return skip_plain(bytes, at + 1, length) == length ? FC_OK : FC_ERR_FORMAT;
}

size_t fc_name_local(const char *name, size_t length) {
    const char *mark = length ? memchr(name, '!', length) : NULL;
    return mark ? (size_t)(mark - name) + 1 : length;
}

uint64_t fc_name_mix(uint64_t x) {
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return x;
}

uint64_t fc_name_hash(const void *bytes, size_t length) {
    const uint8_t *p = (const uint8_t *)bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++) {
        h ^= p[i];
        h *= UINT64_C(0x100000001b3);
    }
    return fc_name_mix(h);
}
