#include "fc_lock.h"

#include <time.h>

#include "fc_clock.h"
#include "fc_process.h"

#ifndef FC_LOCK_SPINS
#define FC_LOCK_SPINS 60 /* looks before each pause */
#endif

enum { RELAXES = 8, SHORTEST_NS = 20000, LONGEST_NS = 4000000, ASK_AFTER_NS = 1200000 };

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A name that was found in the word, of anybody or nobody. */
static int gone(uint64_t name) {
    return fc_process_gone((int32_t)(uint32_t)name, (uint32_t)(name >> 32));
}

int fc_lock_wait(fc_lock *lock, uint64_t me, uint32_t wait_ms) {
    for (uint64_t began = 0;;) {
        uint64_t seen = 0;
        /* It is held for a fraction of a microsecond, unless its holder was put off its core: to sleep costs more. */
        for (int i = 0; i < FC_LOCK_SPINS; i++) {
            for (int k = 0; k < RELAXES; k++)
                relax();
            seen = atomic_load_explicit(&lock->holder, memory_order_relaxed);
            if (!seen && fc_lock_replace(lock, &seen, me))
                return 0;
        }
        if (!wait_ms)
            return EBUSY;
        const uint64_t now = fc_clock_ns();
        began = began ? began : now;
        const uint64_t waited = now - began, limit = (uint64_t)wait_ms * 1000000;
        /* The dead stay dead, and nobody else writes their name: if it is still there, it is to be replaced. */
        if ((waited >= limit || waited >= ASK_AFTER_NS) && gone(seen) && fc_lock_replace(lock, &seen, me))
            return EOWNERDEAD;
        if (waited >= limit)
            return ETIMEDOUT;
        /* In proportion, so that what is slept too long is little beside what the holder took. */
        uint64_t pause = waited / 8;
        pause = pause < SHORTEST_NS ? SHORTEST_NS : pause > LONGEST_NS ? LONGEST_NS : pause;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)pause}, NULL);
    }
}
