/* The clock that the processes of one machine share: nanoseconds that never step back. */
#ifndef FC_CLOCK_H
#define FC_CLOCK_H

#include <stdint.h>
#include <time.h>

#ifdef __APPLE__
/* Its CLOCK_MONOTONIC has been seen to step back. This one stands still while the machine sleeps, as Linux's does. */
#define FC_CLOCK CLOCK_UPTIME_RAW
#else
#define FC_CLOCK CLOCK_MONOTONIC
#endif

static inline uint64_t fc_clock_ns(void) {
    struct timespec t;
    clock_gettime(FC_CLOCK, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

#endif
