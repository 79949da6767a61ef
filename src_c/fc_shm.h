/* A channel layer in a file-backed shared segment: queues, groups and wake-ups between the processes of one machine.
 *
 * Guarantees. A message is delivered whole, to one taker at most; one sender and one taker see exact order. A process
 * may die at any instruction: the next one to lock finds that out (fc_lock.h), rebuilds what was being changed,
 * and goes on; lost is only what the dead process had already taken, and what it had not finished sending. A push wakes
 * one sleeper of its queue. A sleeper that died is replaced by another one, at the push that finds it dead or within
 * the period of fc_shm_keep. Sleepers look that often, but for those that rest: whenever one is woken for a queue, all
 * that rest on it are told, and look again.
 *
 * Ownership: an fc_shm belongs to one process; any of its threads may use it at once, but fc_shm_close, and an
 * fc_waiter belongs to one thread at a time. Pointers passed in are only read during the call. Blocking: nothing blocks
 * but for the segment's lock, at most FC_SHM_LOCK_SECONDS (FC_ERR_OS, errno ETIMEDOUT: a stopped process holds it), and
 * fc_waiter_wait. Return codes of all: FC_ERR_OS with errno; FC_ERR_FORMAT: the segment was found damaged, what made no
 * sense was dropped, and the next call works on the rest. Others are named at each function. Platform: Linux, and
 * macOS, where it compiles but has not been run.
 */
#ifndef FC_SHM_H
#define FC_SHM_H

#include "fc_common.h"

enum { FC_SHM_VERSION = 4, FC_SHM_WHY = 320, FC_SHM_LOCK_SECONDS = 10, FC_SHM_KEEP_MS = 400 };

typedef struct fc_shm fc_shm;
typedef struct fc_waiter_handle fc_waiter_handle;

/* A name: bytes and their number, at most 100. */
typedef struct fc_text {
    const char *at;
    size_t length;
} fc_text;

/* What waits in a queue. */
enum {
    FC_MESSAGE = 0, /* target: a channel (empty in the queue of an ordinary channel) */
    FC_GROUP = 1,   /* target: a group; for each of its members in the process */
    FC_ADD = 2,     /* target: a channel; payload: the add's number (8 bytes, big-endian) and the group */
    FC_DISCARD = 3, /* target: a channel; payload: the group */
    FC_WIPED = 4,   /* everything was flushed */
    FC_AIMED = 5    /* target: one of the groups; payload: whom it is for, which the process reads, then the message */
};

/* A taken message, followed in the caller's buffer by its target and payload, then padded to 8 bytes. */
typedef struct fc_taken {
    uint64_t age_ns;
    uint32_t length; /* of the payload */
    uint32_t name;   /* which of the names it waited under */
    uint32_t kind;
    uint32_t target_length;
} fc_taken;

typedef struct fc_shm_counts {
    uint64_t size, room, room_used; /* bytes of the segment; blocks for messages, and those in use */
    uint64_t processes, waiters, queues, groups, members, marks, messages;
    uint64_t pushed, taken, expired, recovered, reaped;
} fc_shm_counts;

/* A channel or a group: one line of what a segment holds. */
typedef struct fc_listed {
    uint64_t age_ns; /* of the oldest message */
    uint32_t count;  /* messages, or members */
    int32_t pid;     /* whose inbox it is; 0: an ordinary channel, or a group */
    uint32_t length; /* of the name */
    char name[108];
} fc_listed;

/* Opens the segment in directory `dir`, or makes both, and registers this process as `id`.
 * The directory (made 0700) must belong to the effective user, be no symbolic link and be writable by nobody else, and
 * so must the file. An existing segment keeps its size while a process uses it. FC_ERR_VERSION: not a segment, damaged,
 * or of another version. FC_ERR_RANGE: impossible size. FC_ERR_CLOSED: not ours to use. FC_ERR_NOMEM: no process slot
 * is free. `why` then says it in words. */
fc_status fc_shm_open(fc_shm **out, const char *dir, uint64_t size, fc_text id, char why[FC_SHM_WHY]);
/* Gives back what this process holds, and removes the segment when nobody and nothing is left in it. */
void fc_shm_close(fc_shm *s);
/* In a forked child: lets go of the parent's handle and touches nothing shared. */
void fc_shm_abandon(fc_shm *s);
uint64_t fc_shm_size(const fc_shm *s);
/* Moves this handle's clock forward: for tests of expiry. */
void fc_shm_skip(fc_shm *s, uint64_t ns);

/* Where the messages of one channel go, worked out once for many sends. Plain bytes: it may be copied. */
typedef struct fc_address {
    uint64_t queue_hash, channel_hash;
    uint32_t capacity;
    uint8_t queue_length, channel_length, local;
    char queue[103], channel[103];
} fc_address;

/* `process` owns the process-local `channel`; empty: an ordinary one. FC_ERR_RANGE: a name is too long. */
fc_status fc_shm_address(fc_address *out, fc_text process, fc_text channel, uint32_t capacity);
/* Sends there: fc_shm_send or fc_shm_send_local. `at_once`: FC_ERR_OS with errno EBUSY rather than wait for the lock.
 */
fc_status fc_shm_post(fc_shm *s, const fc_address *to, const uint8_t *payload, uint64_t length, uint32_t expiry_ms,
                      int at_once);
/* Appends to an ordinary channel. FC_ERR_FULL: it holds `capacity` unexpired messages. FC_ERR_NOMEM: no room. */
fc_status fc_shm_send(fc_shm *s, fc_text channel, const uint8_t *payload, uint64_t length, uint32_t capacity,
                      uint32_t expiry_ms);
/* Appends a message for a process-local `channel` to the inbox of `process`. FC_ERR_FULL: the channel is marked full,
 * or the inbox holds `capacity`. FC_ERR_CLOSED: there is no such process. FC_ERR_NOMEM: no room. */
fc_status fc_shm_send_local(fc_shm *s, fc_text process, fc_text channel, const uint8_t *payload, uint64_t length,
                            uint32_t capacity, uint32_t expiry_ms);
/* Takes up to `most` messages that wait under `names`, looking at names[start % n] first, into `buffer` (8-byte
 * aligned). FC_NEED_DATA: nothing waits. FC_ERR_RANGE: the first one needs `used` bytes, and stays. */
fc_status fc_shm_take(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most, uint8_t *buffer,
                      uint64_t size, uint64_t *used, uint32_t *count);
/* The same, and FC_ERR_OS with errno EBUSY rather than wait for the lock. */
fc_status fc_shm_take_at_once(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most,
                              uint8_t *buffer, uint64_t size, uint64_t *used, uint32_t *count);
/* 0: nothing waits in the inbox of this process that was sent before this call. Takes no lock. */
int fc_shm_waits(fc_shm *s);
/* Unexpired messages of a channel, and how long the oldest of them has waited. */
fc_status fc_shm_pending(fc_shm *s, fc_text channel, uint32_t *count, uint64_t *age_ns);
/* Wakes a sleeper of the channel when a message waits: for a reader that was woken and will not take it. */
fc_status fc_shm_nudge(fc_shm *s, fc_text channel);

typedef struct fc_neighbour {
    uint64_t start; /* start time of `pid` */
    int32_t pid;
} fc_neighbour;

/* The other processes, up to `most`; `count` is how many there are. */
fc_status fc_shm_neighbours(fc_shm *s, fc_neighbour *out, uint32_t most, uint32_t *count);

/* Declares a channel of this process full, or no longer full. Beyond FC_MARKS of a segment, marks are not kept. */
fc_status fc_shm_mark(fc_shm *s, fc_text channel, int full);

/* This process becomes a member; it stays until it leaves or dies. FC_ERR_NOMEM: no room. */
fc_status fc_shm_join(fc_shm *s, fc_text group);
/* It ends, unless another process added to it after the add numbered `seen`. */
fc_status fc_shm_leave(fc_shm *s, fc_text group, uint64_t seen);
/* Adds a channel of another process: its process becomes a member and is sent FC_ADD, in one step.
 * FC_ERR_CLOSED: no such process. FC_ERR_NOMEM, FC_ERR_FULL: no room. */
fc_status fc_shm_add(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity);
fc_status fc_shm_discard(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity);
/* The same for an ordinary channel; `capacity` bounds what group messages may fill. */
fc_status fc_shm_add_channel(fc_shm *s, fc_text group, fc_text channel, uint32_t capacity);
fc_status fc_shm_discard_channel(fc_shm *s, fc_text group, fc_text channel);
/* Which members of groups a message is for. The first `head` bytes of the payload say that to processes; ordinary
 * channels get what follows, but for the `count` in `excluded`. */
typedef struct fc_aim {
    uint64_t head;
    const fc_text *excluded;
    uint32_t count;
} fc_aim;

/* Sends to every member of `n` groups: once to each process, once to each ordinary channel, whichever of the groups
 * they are in; by FC_AIMED with an `aim`, which may be NULL. Ordinary channels added longer than `group_expiry_ns` ago
 * are dropped from the group. `full` of the `members` had no room. */
fc_status fc_shm_publish(fc_shm *s, const fc_text *groups, uint32_t n, const fc_aim *aim, const uint8_t *payload,
                         uint64_t length, uint32_t inbox_capacity, uint32_t expiry_ms, uint64_t group_expiry_ns,
                         uint32_t *members, uint32_t *full);
/* Removes every message and membership, and tells the other processes by FC_WIPED. */
fc_status fc_shm_wipe(fc_shm *s);

/* FC_ERR_CLOSED: somebody removed the segment's file; open again, as the others will. Else housekeeping: reclaims what
 * dead processes held, drops expired messages, and wakes sleepers that were passed over. Done at most once a
 * FC_SHM_KEEP_MS in the whole segment; every process calls it about that often, or that long after another ended. */
fc_status fc_shm_keep(fc_shm *s);
fc_status fc_shm_count(fc_shm *s, fc_shm_counts *counts);
/* Up to `most` channels (groups: with `groups`) from slot *cursor on, which moves on; none: it was the last call. */
fc_status fc_shm_list(fc_shm *s, int groups, uint32_t *cursor, fc_listed *out, uint32_t most, uint32_t *count);
/* NULL when every invariant of the segment holds, else which one does not. */
const char *fc_shm_check(fc_shm *s);

/* A place to sleep. FC_ERR_NOMEM: all FC_WAITERS are in use. */
fc_status fc_waiter_open(fc_waiter_handle **out, fc_shm *s);
/* `abandon`: the segment is closed, or this is a forked child: closes the descriptor and touches nothing shared. */
void fc_waiter_close(fc_waiter_handle *w, int abandon);
int fc_waiter_fd(const fc_waiter_handle *w);
/* Says what the waiter is about to sleep for. FC_NEED_DATA: the next push wakes it. FC_OK: names[*ready] has something
 * already, do not sleep. FC_ERR_CLOSED: it was taken for dead, open another. FC_ERR_NOMEM: no room for a queue. */
fc_status fc_waiter_arm(fc_waiter_handle *w, const fc_text *names, uint32_t n, uint32_t *ready);
/* Takes that back; passes a wake-up that came meanwhile on to another sleeper. */
fc_status fc_waiter_disarm(fc_waiter_handle *w);
/* An armed waiter need not look until something comes through its descriptor: it is woken, or another sleeper of one of
 * its queues is, or a process comes, or a new segment was made in the place of a removed one. Whoever rests must learn
 * by himself that one of the neighbours ended. It rests on when it is armed again. FC_NEED_DATA: no, as something
 * waits, or was sent anywhere since the last time it asked, or a process came since the neighbours were told. */
fc_status fc_waiter_rest(fc_waiter_handle *w);
/* FC_OK: nothing has woken it since it was armed. FC_NEED_DATA: arm it again. */
fc_status fc_waiter_sleeps(fc_waiter_handle *w);

#endif
