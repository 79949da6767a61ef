/* What the parts of fc_shm.h share: fc_segment.c (the file), fc_shm.c (lock, processes, waiters), fc_shm_ops.c. */
#ifndef FC_SHM_PRIVATE_H
#define FC_SHM_PRIVATE_H

#include "fc_heap.h"
#include "fc_lock.h"
#include "fc_process.h"
#include "fc_shm.h"
#include "fc_wake.h"

struct fc_shm {
    fc_heap heap;
    uint64_t size;
    uint64_t skew;
    uint64_t me; /* as the lock names this process */
    fc_wake_place place;
    int sender;
    int file;
    uint32_t slot; /* of this process */
    uint32_t generation;
    uint32_t inbox; /* its queue */
    uint32_t known; /* how many processes had come when this one was last told its neighbours */
    char path[4096];
};

/* Waiters to wake when the lock is released: a system call under it would make every other process wait. Each is there
 * at most twice, roused and then chosen. */
typedef struct fc_wakes {
    uint64_t now;
    uint32_t count;
    struct {
        uint32_t slot, generation;
    } at[2 * FC_WAITERS];
} fc_wakes;

/* Takes the lock, repairs the segment when its last holder died, and reads the clock. */
fc_status fc_shm_enter(fc_shm *s, fc_wakes *w);
/* The same; FC_ERR_OS with errno EBUSY when somebody holds the lock. */
fc_status fc_shm_try_enter(fc_shm *s, fc_wakes *w);
/* Releases the lock and sends the wake-ups. Returns `status`, or FC_ERR_FORMAT when damage was met. */
fc_status fc_shm_exit(fc_shm *s, fc_wakes *w, fc_status status);

/* Chooses a sleeper of the queue, the next in turn, and rouses all that rest on it. 0: nobody sleeps for it. */
int fc_shm_wake_one(fc_shm *s, fc_queue *q, fc_wakes *w);
/* Drops every expired message of the segment, at most ten times a second; true when room may have come of it. */
int fc_shm_sweep(fc_shm *s, uint64_t now);
/* Registers this process; `why` says in words what failed. Under the file lock, so that no segment is replaced or
 * removed while somebody begins to use it. */
fc_status fc_shm_enrol(fc_shm *s, fc_text id, char why[FC_SHM_WHY]);
/* Whether somebody removed the segment's file: the name may be another segment's by now. */
int fc_shm_removed(const fc_shm *s);
/* Gives back what this process holds. True: nobody and nothing is left. */
int fc_shm_retire(fc_shm *s);
/* This process's slot; NULL when somebody reclaimed it. */
fc_process *fc_shm_self(fc_shm *s);

#endif
