/* A lock in memory that processes share, which finds out that its holder died.
 *
 * One word: 0 when the lock is free, else its holder's name, which is written by compare-and-swap. One thread of all
 * processes holds it at a time; what was written before fc_lock_give is seen after the next fc_lock_take. Whoever takes
 * it from a dead holder is told so (EOWNERDEAD), and repairs what the lock guards before giving it back. Nothing else
 * remembers the death: should that one die too, at whatever instruction, it is a dead holder in its turn, and the next
 * one is told. Of several that wait for a dead holder, one gets the lock.
 *
 * Waiting: a few microseconds on the processor, then asleep, in pauses of an eighth of what was waited, 20 us to 4 ms;
 * a death is found out within a few milliseconds. Giving wakes nobody, so that a free lock costs no system call. Not
 * fair, not recursive.
 *
 * Ownership: the word belongs to the caller, who zeroes it; every bit pattern is harmless: a word that names nobody is
 * taken as from a dead holder, and one that names a living process makes the others wait until their time is over.
 * Thread-safety: the threads of a process share its name and keep each other out as processes do. A forked child is
 * another process, and holds nothing. exec is no death: a thread that another one's exec ends inside leaves the lock
 * held until the process ends.
 */
#ifndef FC_LOCK_H
#define FC_LOCK_H

#include <errno.h>
#include <stdatomic.h>

#include "fc_common.h"

typedef struct fc_lock {
    _Atomic uint64_t holder;
} fc_lock;

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "the lock's word must be read and written without another lock");

/* The name of process `pid` that started at `start` (fc_process_start), whose lower half tells enough. */
static inline uint64_t fc_lock_name(int pid, uint64_t start) {
    return start << 32 | (uint32_t)pid;
}

/* For fc_lock_take: `me` in the place of *seen, or *seen becomes what is there instead. */
static inline int fc_lock_replace(fc_lock *lock, uint64_t *seen, uint64_t me) {
    return atomic_compare_exchange_strong_explicit(&lock->holder, seen, me, memory_order_acquire, memory_order_relaxed);
}

/* The part of fc_lock_take that waits. */
int fc_lock_wait(fc_lock *lock, uint64_t me, uint32_t wait_ms);

/* 0: taken. EOWNERDEAD: taken, and what it guards is as a dead holder left it. Else not taken: EBUSY after a few
 * microseconds with `wait_ms` 0, ETIMEDOUT when a living process held it for so long. HOT: benchmarks/c/bench_shm.c */
static inline int fc_lock_take(fc_lock *lock, uint64_t me, uint32_t wait_ms) {
    uint64_t seen = 0;
    return FC_LIKELY(fc_lock_replace(lock, &seen, me)) ? 0 : fc_lock_wait(lock, me, wait_ms);
}

/* Called by the holder. */
static inline void fc_lock_give(fc_lock *lock) {
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}

#endif
