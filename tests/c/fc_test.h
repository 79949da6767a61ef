/* The harness of tests/c: checks, buffers that end at an inaccessible page, a seeded generator, and a main.
 *
 * A test file defines functions and ends with FC_TEST_MAIN(TEST(name), ...). It prints one line and returns non-zero
 * when a check failed. A byte read or written past a guarded buffer ends the process by a signal.
 */
#ifndef FC_TEST_H
#define FC_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int fc_test_checks;
static int fc_test_failures;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        fc_test_checks++;                                                                                              \
        if (!(condition)) {                                                                                            \
            fc_test_failures++;                                                                                        \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition);                      \
        }                                                                                                              \
    } while (0)

/* Integers of any width, compared and shown as long long. */
#define CHECK_EQ(got, wanted)                                                                                          \
    do {                                                                                                               \
        long long fc_got = (long long)(got), fc_wanted = (long long)(wanted);                                          \
        fc_test_checks++;                                                                                              \
        if (fc_got != fc_wanted) {                                                                                     \
            fc_test_failures++;                                                                                        \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #got, fc_got,           \
                    fc_wanted);                                                                                        \
        }                                                                                                              \
    } while (0)

#define CHECK_BYTES(got, wanted, size) CHECK((size) == 0 || memcmp((got), (wanted), (size)) == 0)

/* size bytes with an inaccessible page on one side: right behind the last byte (guard_end), or right before the first
 * (guard_start). The bytes between the other end and its page are poisoned with 0xA5 and checked by guard_free. */
typedef struct fc_guard {
    uint8_t *data;
    size_t size;
    uint8_t *base;
    size_t mapped;
} fc_guard;

static inline fc_guard fc_guard_make(const void *bytes, size_t size, int at_end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (size + page) / page * page; /* at least one byte of slack, so that size 0 works too */
    fc_guard guard = {NULL, size, NULL, body + 2 * page};
    guard.base = (uint8_t *)mmap(NULL, guard.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard.base == MAP_FAILED || mprotect(guard.base + page, body, PROT_READ | PROT_WRITE) != 0) {
        perror("guard pages");
        exit(2);
    }
    memset(guard.base + page, 0xA5, body);
    guard.data = guard.base + page + (at_end ? body - size : 0);
    if (bytes && size)
        memcpy(guard.data, bytes, size);
    return guard;
}

/* A copy of bytes (or 0xA5 bytes when it is NULL) that ends at the guard page. */
static inline fc_guard guard_end(const void *bytes, size_t size) {
    return fc_guard_make(bytes, size, 1);
}

/* The same, beginning at the guard page. */
static inline fc_guard guard_start(const void *bytes, size_t size) {
    return fc_guard_make(bytes, size, 0);
}

static inline void guard_free(fc_guard *guard) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint8_t *end = guard->base + guard->mapped - page;
    int untouched = 1;
    for (const uint8_t *p = guard->base + page; p < guard->data; p++)
        untouched &= *p == 0xA5;
    for (const uint8_t *p = guard->data + guard->size; p < end; p++)
        untouched &= *p == 0xA5;
    CHECK(untouched);
    munmap(guard->base, guard->mapped);
}

/* xorshift64: the same numbers on every machine. */
static uint64_t fc_test_state = UINT64_C(0x9E3779B97F4A7C15);

static inline uint64_t test_random(void) {
    fc_test_state ^= fc_test_state << 13;
    fc_test_state ^= fc_test_state >> 7;
    fc_test_state ^= fc_test_state << 17;
    return fc_test_state;
}

/* 0 to bound - 1. */
static inline size_t test_below(size_t bound) {
    return (size_t)(test_random() % bound);
}

static inline void test_random_bytes(uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(test_random() >> 32);
}

typedef struct fc_test_case {
    const char *name;
    void (*run)(void);
} fc_test_case;

#define TEST(name) {#name, name}

#define FC_TEST_MAIN(...)                                                                                              \
    int main(void) {                                                                                                   \
        static const fc_test_case cases[] = {__VA_ARGS__};                                                             \
        size_t count = sizeof cases / sizeof cases[0];                                                                 \
        for (size_t i = 0; i < count; i++) {                                                                           \
            int before = fc_test_failures;                                                                             \
            cases[i].run();                                                                                            \
            if (fc_test_failures != before)                                                                            \
                fprintf(stderr, "%s: %s failed\n", __FILE__, cases[i].name);                                           \
        }                                                                                                              \
        printf("%s %s: %zu tests, %d checks, %d failed\n", fc_test_failures ? "FAIL" : "ok  ", __FILE__, count,        \
               fc_test_checks, fc_test_failures);                                                                      \
        return fc_test_failures != 0;                                                                                  \
    }

#endif
