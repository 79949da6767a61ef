/* Names of channels and groups: the check, the split at "!", the hash.
 *
 * Memory: reads `length` bytes at `name` and nothing beyond them (no slack); owns and keeps nothing.
 * Threads: no state; any thread. Complexity: one pass over the name.
 */
#ifndef FC_NAME_H
#define FC_NAME_H

#include "fc_common.h"

/* A name is shorter than this, in bytes (channel-layer specification, "Channel Capabilities"). */
#define FC_NAME_LIMIT 100

/* What fc_name_check accepts. */
enum fc_name_kind {
    FC_NAME_GROUP = 0,         /* [A-Za-z0-9_.-]+ */
    FC_NAME_CHANNEL = 1,       /* the same, then optionally one '!' and [A-Za-z0-9_.-]* */
    FC_NAME_SINGLE_READER = 2, /* as FC_NAME_CHANNEL, or one '?' and [A-Za-z0-9_.-]+ in place of the '!' part (D-20) */
};

/* FC_OK; FC_ERR_RANGE: empty, or FC_NAME_LIMIT bytes and more; FC_ERR_FORMAT: a byte that may not stand there.
 * `kind` is one of enum fc_name_kind. */
fc_status fc_name_check(const char *name, size_t length, int kind);

/* Length of the part up to and including the first '!', or `length` when there is none. */
size_t fc_name_local(const char *name, size_t length);

/* 64 bits that depend on the bytes alone: the same on every platform, in every process and release.
 * FNV-1a (Fowler, Noll, Vo) over the bytes, then the finaliser of MurmurHash3 (Appleby), because the high bits of
 * FNV-1a hardly move for short names and a hash ring orders by them. Not for use against hostile collisions. */
uint64_t fc_name_hash(const void *bytes, size_t length);

/* The finaliser alone: a bijection of 64-bit numbers. */
uint64_t fc_name_mix(uint64_t x);

#endif
