/* Who lives: what tells a process from another one that got its number later, and one start of the machine from the
 * next.
 *
 * Linux reads /proc, macOS asks sysctl. Reads only, no state; thread-safe, a few system calls each.
 */
#ifndef FC_PROCESS_H
#define FC_PROCESS_H

#include "fc_common.h"

/* When process `pid` started: clock ticks since boot on Linux, microseconds since 1970 on macOS; the same as long as it
 * lives. 0: errno ESRCH when it is gone, or a zombie, whose descriptors are closed; else why that cannot be told. */
uint64_t fc_process_start(int pid);
/* Whether the process `pid`, whose start had the lower half `start`, is gone for certain. A process that cannot be
 * looked at (no descriptor is free) is not. The lower half is enough: the same one comes back with the same tick of 497
 * days (Linux), the same microsecond of 71 minutes (macOS). */
int fc_process_gone(int pid, uint32_t start);
/* A number that differs after a reboot; 0 when unknown. */
uint64_t fc_boot_number(void);
/* A number that differs between process-id namespaces; 0 when unknown, and where there are none (macOS). */
uint64_t fc_pid_space(void);

#endif
