#include "fc_lock.h"

#include <time.h>

#include "fc_clock.h"
#include "fc_process.h"

/* Looks before each pause; the first pause, in ns. */
#ifndef FC_LOCK_SPINS
#define FC_LOCK_SPINS 60
#define FC_LOCK_PAUSE 20000
#endif

enum { RELAXES = 8, LOOK_PAUSE = 640000, LONGEST_PAUSE = 4000000 };

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
    uint64_t until = 0;
    for (uint64_t pause = FC_LOCK_PAUSE;; pause = pause < LONGEST_PAUSE ? pause * 2 : LONGEST_PAUSE) {
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
        uint64_t now = fc_clock_ns();
        if (!until)
            until = now + (uint64_t)wait_ms * 1000000;
        /* The dead stay dead, and nobody else writes their name: if it is still there, it is to be replaced. */
        if ((pause >= LOOK_PAUSE || now >= until) && gone(seen) && fc_lock_replace(lock, &seen, me))
            return EOWNERDEAD;
        if (now >= until)
            return ETIMEDOUT;
        struct timespec sleep = {.tv_nsec = (long)pause};
        (void)nanosleep(&sleep, NULL);
    }
}
