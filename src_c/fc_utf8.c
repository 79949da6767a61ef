#include "fc_utf8.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

/* The first byte at or after p that is not ASCII, or end. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end) {
#if defined(__SSE2__)
    for (; end - p >= 16; p += 16) {
        int high = _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (high)
            return p + __builtin_ctz((unsigned)high);
    }
#elif defined(__ARM_NEON) && defined(__aarch64__)
    for (; end - p >= 16; p += 16)
        if (vmaxvq_u8(vld1q_u8(p)) >= 0x80)
            break;
#endif
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (p < end && *p < 0x80)
        p++;
    return p;
}

fc_status fc_utf8_feed(fc_utf8 *state, const uint8_t *data, size_t size) {
    if (FC_UNLIKELY(state->failed))
        return FC_ERR_UTF8;
    if (size == 0)
        return state->need ? FC_NEED_DATA : FC_OK;
    const uint8_t *p = data;
    const uint8_t *end = data + size;
    uint8_t need = state->need, lo = state->lo, hi = state->hi;

    for (;;) {
        while (need) { /* RFC 3629 section 4: only the first continuation byte can have narrower bounds */
            if (p == end) {
                state->need = need;
                state->lo = lo;
                state->hi = hi;
                return FC_NEED_DATA;
            }
            uint8_t byte = *p++;
            if (byte < lo || byte > hi)
                goto invalid;
            lo = 0x80;
            hi = 0xBF;
            need--;
        }
        if (p < end && *p < 0x80)
            p = skip_ascii(p, end);
        if (p == end) {
            state->need = 0;
            return FC_OK;
        }
        uint8_t lead = *p++;
        lo = 0x80;
        hi = 0xBF;
        if (lead < 0xC2) /* a continuation byte, or the lead of an overlong pair */
            goto invalid;
        if (lead < 0xE0) {
            need = 1;
        } else if (lead < 0xF0) {
            need = 2;
            if (lead == 0xE0) /* below A0: overlong */
                lo = 0xA0;
            else if (lead == 0xED) /* above 9F: a surrogate */
                hi = 0x9F;
        } else if (lead < 0xF5) {
            need = 3;
            if (lead == 0xF0) /* below 90: overlong */
                lo = 0x90;
            else if (lead == 0xF4) /* above 8F: beyond U+10FFFF */
                hi = 0x8F;
        } else {
            goto invalid;
        }
    }

invalid:
    state->failed = 1;
    return FC_ERR_UTF8;
}
