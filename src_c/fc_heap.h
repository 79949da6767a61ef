/* The memory of a shared segment: queues of messages, groups, processes and waiters, in tables of fixed-size slots.
 *
 * Truth and derivation. A slot's `state` is the only truth about it: it becomes FC_USED by the last store of a creation
 * and FC_FREE by the first store of a removal. Free lists, hash chains, queue links, counts and member lists are
 * derived from those states, so that fc_heap_recover can rebuild them after a holder of the lock died between any two
 * stores. A message is delivered whole or not at all: its first block turns FC_USED when every byte is in place.
 *
 * Memory: the caller owns the mapping; nothing here allocates. Messages are chains of FC_BLOCK byte blocks.
 * Thread-safety: every function is called with the segment's lock held (fc_shm.c).
 * Trust: an index or length read from the segment is range-checked before use. One that is out of range sets
 * `damaged`, and the function returns FC_NIL, NULL, 0 or FC_ERR_FORMAT.
 * Complexity: O(1) for each operation but for what its comment says.
 */
#ifndef FC_HEAP_H
#define FC_HEAP_H

#include <stdatomic.h>

#include "fc_common.h"
#include "fc_lock.h"

#define FC_NIL UINT32_MAX
#define FC_SHM_MAGIC UINT64_C(0x6c6e6e6863747366)
#define FC_SHM_MIN_SIZE (UINT64_C(1) << 20)
#define FC_SHM_MAX_SIZE (UINT64_C(1) << 36)
#define FC_NAME_SIZE 103 /* bytes of the longest name that fits; names of channels and groups are shorter than 100 */
#define FC_PROCESSES 512
#define FC_WAITERS 1024
#define FC_WAITER_WORDS (FC_WAITERS / 64)
#define FC_MARKS 4096
#define FC_LINE 64 /* bytes of a cache line, or half of one */
#define FC_BLOCK 384
#define FC_FIRST_DATA 336 /* bytes of a message in its first block: the target always fits */
#define FC_PART_DATA 368  /* and in each further one */

enum { FC_FREE = 0, FC_USED = 1, FC_PART = 2 }; /* FC_PART: a block that only its chain makes valid */

enum { FC_BLOCKS, FC_QUEUES, FC_GROUPS, FC_MEMBERS, FC_MARKED, FC_PROCS, FC_WAITS, FC_TABLES };

/* The first words of every slot of every table. */
typedef struct fc_entry {
    _Atomic uint32_t state;
    uint32_t next; /* hash chain, chain of blocks, or free list */
    uint64_t hash;
} fc_entry;

typedef struct fc_named {
    fc_entry entry;
    uint8_t length;
    char name[FC_NAME_SIZE];
} fc_named;

typedef struct fc_queue {
    fc_named named;                        /* an ordinary channel, or "!<client id>": the inbox of a process */
    _Alignas(FC_LINE) uint32_t head, tail; /* first blocks of messages */
    uint32_t count;
    uint32_t members;       /* memberships that name this channel: they keep the queue */
    uint32_t process;       /* owner of an inbox; FC_NIL for an ordinary channel */
    uint32_t rotor;         /* where the search for a sleeping waiter starts, so that readers take turns */
    _Atomic uint32_t waits; /* whether anything may wait, to be read without the lock */
    uint32_t unused;
    _Alignas(FC_LINE) uint64_t watchers[FC_WAITER_WORDS];
} fc_queue;

typedef struct fc_group {
    fc_named named;
    uint32_t first; /* members */
    uint32_t count;
} fc_group;

enum { FC_MEMBER_PROCESS = 0, FC_MEMBER_CHANNEL = 1 };

typedef struct fc_member {
    fc_entry entry; /* entry.next: the group's next member */
    uint32_t group;
    uint32_t kind;
    uint32_t target; /* process slot, or queue */
    uint32_t capacity;
    uint64_t stamp; /* of the last add, for group_expiry of ordinary channels */
    uint64_t added; /* number of the last add by another process; a leave that has not seen it removes nothing */
} fc_member;

/* A process-local channel that its owner declared full. entry.hash: of its name. */
typedef struct fc_mark {
    fc_entry entry;
    uint32_t process;
    uint32_t unused;
} fc_mark;

typedef struct fc_block {
    _Atomic uint32_t state;
    uint32_t next; /* block of the same message, or free list */
    uint32_t mark; /* the walk that last met this block */
    union {
        uint32_t queue; /* of a first block */
        uint32_t unused;
    };
    union {
        struct {
            uint64_t sequence;
            uint64_t stamp; /* ns of the segment's clock at the push */
            uint32_t after; /* first block of the queue's next message */
            uint32_t expiry_ms;
            uint32_t length; /* bytes of payload */
            uint8_t kind;
            uint8_t target_length;
            uint16_t unused2;
            uint8_t data[FC_FIRST_DATA];
        } first;
        uint8_t part[FC_PART_DATA];
    };
} fc_block;

typedef struct fc_process {
    fc_entry entry;
    uint64_t start; /* start time of `pid`, so that a reused process id fools nobody */
    int32_t pid;
    uint32_t generation;
    uint32_t queue; /* its inbox */
    uint32_t marks;
} fc_process;

typedef struct fc_waiter {
    fc_entry entry;
    uint32_t process;
    uint32_t generation;
} fc_waiter;

/* Slots are taken from `free`, until it is empty and what was given back takes its place: so the next one is known long
 * before, and can be on its way to the taker's cache, whatever others give back meanwhile. */
typedef struct fc_table {
    uint32_t free;  /* head of a list */
    uint32_t given; /* and of another */
    uint32_t fresh; /* slots from here on were never used */
    uint32_t used;
} fc_table;

/* What every send and every take writes lies in one cache line, next to nothing that others only read: between two
 * processes a line that changes hands costs as much as the copy of a message. */
typedef struct fc_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_size;
    uint64_t layout; /* checksum of where everything lies */
    uint64_t size;
    uint64_t boot;      /* which boot of the machine made it: a lock held across a reboot is held by nobody */
    uint64_t pid_space; /* process ids mean something only in the namespace of the maker */
    _Alignas(FC_LINE) fc_lock lock;
    _Alignas(FC_LINE) uint64_t sequence;
    uint64_t pushed, taken;
    uint64_t kept; /* when housekeeping ran last */
    fc_table table[FC_TABLES];
    uint64_t expired, recovered, reaped;
    uint64_t added;
    uint64_t swept; /* when expired messages were last swept to make room */
    uint32_t mark;
    uint32_t newcomers; /* processes that came since it was made */
    _Alignas(FC_LINE) uint64_t asleep[FC_WAITER_WORDS];
    uint64_t resting[FC_WAITER_WORDS]; /* sleepers whose timer is far off: told when one is woken for their queues */
} fc_header;

typedef struct fc_region {
    uint64_t at;
    uint64_t buckets; /* 0: slots are not found by hash */
    uint32_t stride;
    uint32_t capacity;
    uint32_t bucket_mask;
} fc_region;

/* This process's view of a mapping. */
typedef struct fc_heap {
    uint8_t *base;
    fc_header *header;
    fc_region region[FC_TABLES];
    int damaged;
} fc_heap;

typedef struct fc_item {
    const char *target;
    const uint8_t *payload;
    uint64_t length;
    uint64_t now;
    uint32_t expiry_ms;
    uint8_t target_length;
    uint8_t kind;
} fc_item;

/* Where everything lies in a segment of `size` bytes; returns the checksum, 0 when the size is out of range. */
uint64_t fc_heap_layout(fc_region region[FC_TABLES], uint64_t size);
/* Binds a view to a mapping of `size` bytes. FC_ERR_RANGE for an impossible size. */
fc_status fc_heap_bind(fc_heap *h, void *base, uint64_t size);
/* Fills a zeroed mapping, all but the header's lock and origin. */
void fc_heap_format(fc_heap *h, uint64_t size);

/* The slot, or NULL (and damaged) for an index outside the table. */
void *fc_heap_at(fc_heap *h, int table, uint32_t index);
/* The slot when it is in use, else NULL, without a claim of damage. */
void *fc_heap_used(fc_heap *h, int table, uint32_t index);
/* A slot that is free for the caller to fill and commit; FC_NIL when the table is full. */
uint32_t fc_heap_take(fc_heap *h, int table);
void fc_heap_commit(fc_entry *entry);
void fc_heap_give(fc_heap *h, int table, uint32_t index);

uint64_t fc_heap_hash(const char *name, size_t length);
/* A queue or group by name: FC_NIL when there is none. `make` returns the one that exists or makes it; FC_NIL: no room.
 */
uint32_t fc_heap_find(fc_heap *h, int table, const char *name, size_t length);
uint32_t fc_heap_make(fc_heap *h, int table, const char *name, size_t length);
/* The same with the hash of the name. */
uint32_t fc_heap_find_hashed(fc_heap *h, int table, uint64_t hash, const char *name, size_t length);
uint32_t fc_heap_make_hashed(fc_heap *h, int table, uint64_t hash, const char *name, size_t length);
/* Puts a slot of a table with buckets into, or takes it out of, the chain of its hash. */
void fc_heap_hang(fc_heap *h, int table, uint32_t index);
void fc_heap_remove(fc_heap *h, int table, uint32_t index);

/* Appends a message. FC_ERR_NOMEM: the heap is full; FC_ERR_RANGE: longer than 2 GiB. O(length). */
fc_status fc_heap_append(fc_heap *h, uint32_t queue, const fc_item *item);
/* The message at the head of a queue that is not empty, checked; NULL and damaged when it is none. */
fc_block *fc_heap_head(fc_heap *h, const fc_queue *q);
/* Copies target and payload of a checked message to `out`, which has room for both. O(length). */
fc_status fc_heap_copy(fc_heap *h, const fc_block *first, uint8_t *out);
void fc_heap_drop_head(fc_heap *h, fc_queue *q);
/* Drops what is too old at the head; returns the number dropped. */
uint32_t fc_heap_expire(fc_heap *h, fc_queue *q, uint64_t now);
/* Drops every message of the queue. O(messages). */
void fc_heap_empty(fc_heap *h, fc_queue *q);
uint64_t fc_heap_blocks_for(uint64_t length);

/* Adds a member that is not there yet, at the end of a search the caller did. FC_ERR_NOMEM: the table is full. */
uint32_t fc_heap_member_find(fc_heap *h, uint32_t group, uint32_t kind, uint32_t target);
uint32_t fc_heap_member_add(fc_heap *h, uint32_t group, uint32_t kind, uint32_t target);
/* Ends a membership, and the group with its last one. O(members of the group). */
void fc_heap_member_remove(fc_heap *h, uint32_t member);

/* Rebuilds all that is derived (fc_recover.c). Runs to the end or can be run again. O(segment). */
void fc_heap_recover(fc_heap *h);
/* NULL when every invariant holds, else which one does not. O(segment). Changes only the marks of blocks. */
const char *fc_heap_check(fc_heap *h);

#endif
