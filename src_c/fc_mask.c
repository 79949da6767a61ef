#include "fc_mask.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FC_MASK_X86 1
#include <immintrin.h>
#include <stdatomic.h>
#else
#define FC_MASK_X86 0
#endif

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* Below this size a call through the dispatch pointer costs more than wider registers save. */
#define FC_MASK_DISPATCH 128

/* The key as eight bytes in memory order, turned so that its first byte belongs to offset phase. */
static inline uint64_t wide_key(const uint8_t key[4], uint64_t phase) {
    uint8_t turned[8];
    uint64_t word;
    for (unsigned i = 0; i < 8; i++)
        turned[i] = key[(phase + i) & 3];
    memcpy(&word, turned, 8);
    return word;
}

/* Eight bytes, then four, then single ones. Each step but the last takes a multiple of four, so word stays in phase. */
static inline int mask_tail(uint8_t *dst, const uint8_t *src, size_t size, uint64_t word) {
    uint64_t seen = 0;
    for (; size >= 8; dst += 8, src += 8, size -= 8) {
        uint64_t chunk;
        memcpy(&chunk, src, 8);
        chunk ^= word;
        memcpy(dst, &chunk, 8);
        seen |= chunk;
    }
    uint8_t turned[8];
    memcpy(turned, &word, 8);
    if (size >= 4) {
        uint32_t chunk, quarter;
        memcpy(&chunk, src, 4);
        memcpy(&quarter, turned, 4);
        chunk ^= quarter;
        memcpy(dst, &chunk, 4);
        seen |= chunk;
        dst += 4, src += 4, size -= 4;
    }
    for (size_t i = 0; i < size; i++) {
        dst[i] = src[i] ^ turned[i];
        seen |= dst[i];
    }
    return (seen & HIGH_BITS) != 0;
}

static int mask_words(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase) {
    return mask_tail(dst, src, size, wide_key(key, phase));
}

#if FC_MASK_X86

static int mask_sse2(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase) {
    uint64_t word = wide_key(key, phase);
    __m128i wide = _mm_set1_epi64x((long long)word);
    __m128i seen = _mm_setzero_si128();
    for (; size >= 16; dst += 16, src += 16, size -= 16) {
        __m128i chunk = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)src), wide);
        _mm_storeu_si128((__m128i *)(void *)dst, chunk);
        seen = _mm_or_si128(seen, chunk);
    }
    int high = _mm_movemask_epi8(seen) != 0;
    return mask_tail(dst, src, size, word) | high;
}

__attribute__((target("avx2"))) static int mask_avx2(uint8_t *dst, const uint8_t *src, size_t size,
                                                     const uint8_t key[4], uint64_t phase) {
    uint64_t word = wide_key(key, phase);
    __m256i wide = _mm256_set1_epi64x((long long)word);
    __m256i seen0 = _mm256_setzero_si256(), seen1 = seen0, seen2 = seen0, seen3 = seen0;
    for (; size >= 128; dst += 128, src += 128, size -= 128) {
        const __m256i *from = (const __m256i *)(const void *)src;
        __m256i *to = (__m256i *)(void *)dst;
        __m256i a = _mm256_xor_si256(_mm256_loadu_si256(from), wide);
        __m256i b = _mm256_xor_si256(_mm256_loadu_si256(from + 1), wide);
        __m256i c = _mm256_xor_si256(_mm256_loadu_si256(from + 2), wide);
        __m256i d = _mm256_xor_si256(_mm256_loadu_si256(from + 3), wide);
        _mm256_storeu_si256(to, a);
        _mm256_storeu_si256(to + 1, b);
        _mm256_storeu_si256(to + 2, c);
        _mm256_storeu_si256(to + 3, d);
        seen0 = _mm256_or_si256(seen0, a);
        seen1 = _mm256_or_si256(seen1, b);
        seen2 = _mm256_or_si256(seen2, c);
        seen3 = _mm256_or_si256(seen3, d);
    }
    for (; size >= 32; dst += 32, src += 32, size -= 32) {
        __m256i chunk = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)src), wide);
        _mm256_storeu_si256((__m256i *)(void *)dst, chunk);
        seen0 = _mm256_or_si256(seen0, chunk);
    }
    seen0 = _mm256_or_si256(_mm256_or_si256(seen0, seen1), _mm256_or_si256(seen2, seen3));
    int high = _mm256_movemask_epi8(seen0) != 0;
    return mask_tail(dst, src, size, word) | high;
}

typedef int (*mask_run)(uint8_t *, const uint8_t *, size_t, const uint8_t *, uint64_t);

static int mask_choose(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key, uint64_t phase);

/* Starts at the chooser, which replaces itself. Racing threads write the same value. */
static _Atomic(mask_run) mask_long = mask_choose;

static int mask_choose(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key, uint64_t phase) {
    mask_run best = __builtin_cpu_supports("avx2") ? mask_avx2 : mask_sse2;
    atomic_store_explicit(&mask_long, best, memory_order_relaxed);
    return best(dst, src, size, key, phase);
}

int fc_mask(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase) {
    if (FC_LIKELY(size < FC_MASK_DISPATCH))
        return mask_sse2(dst, src, size, key, phase);
    return atomic_load_explicit(&mask_long, memory_order_relaxed)(dst, src, size, key, phase);
}

#else

int fc_mask(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t key[4], uint64_t phase) {
    return mask_words(dst, src, size, key, phase);
}

#endif

size_t fc_mask_variants(fc_mask_variant *table) {
    size_t count = 0;
    table[count++] = (fc_mask_variant){"words", mask_words};
#if FC_MASK_X86
    table[count++] = (fc_mask_variant){"sse2", mask_sse2};
    if (__builtin_cpu_supports("avx2"))
        table[count++] = (fc_mask_variant){"avx2", mask_avx2};
#endif
    return count;
}
