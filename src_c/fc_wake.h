/* How the shared segment wakes a sleeper.
 *
 * A waiter owns a datagram socket in the segment's directory, named after its slot and generation. One byte wakes it.
 * Sockets and not pipes: a send to a dead one fails at once, no descriptor is kept for each peer, and nothing raises
 * SIGPIPE. Thread-safe; nothing here blocks but fc_wake_wait.
 */
#ifndef FC_WAKE_H
#define FC_WAKE_H

#include "fc_common.h"

/* Where the sockets are. `at` is a descriptor of the directory `path`; both belong to the caller. */
typedef struct fc_wake_place {
    const char *path;
    int at;
} fc_wake_place;

/* A descriptor that can send to every waiter; -1 and errno. Close-on-exec. */
int fc_wake_sender(void);
/* A waiter's own socket; -1 and errno. Replaces a stale file of that name. Close-on-exec, non-blocking. */
int fc_wake_bind(const fc_wake_place *place, uint32_t slot, uint32_t generation);
void fc_wake_unlink(const fc_wake_place *place, uint32_t slot, uint32_t generation);
/* FC_OK: it will wake. FC_ERR_CLOSED: nobody holds that socket. FC_ERR_FULL: alive, but it could not be told now. */
fc_status fc_wake_send(const fc_wake_place *place, int sender, uint32_t slot, uint32_t generation);
/* Takes one byte that waits in a waiter's socket: more than one is rare, and costs a look for nothing. */
void fc_wake_drain(int fd);
/* Wakes whoever has a socket there, of whichever segment. */
void fc_wake_everybody(const fc_wake_place *place, int sender);
/* Sleeps until a byte comes. FC_ERR_CLOSED: `also` is readable (-1: there is no such descriptor). FC_NEED_DATA:
 * `timeout_ms` passed (negative: no limit). FC_ERR_OS: errno, EINTR too. */
fc_status fc_wake_wait(int fd, int also, int timeout_ms);

#endif
