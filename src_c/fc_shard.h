/* The shard ring: which of several stores a name belongs to, by consistent hashing.
 *
 * Every shard owns `replicas` points on a circle of 64-bit numbers; a name belongs to the shard of the first point at
 * or after its hash. A point depends on the shard's own name and the number of the replica only, so the order in which
 * the shards are listed does not matter, and one more shard among n takes about 1/(n+1) of the names and moves no
 * other.
 *
 * Memory: the caller provides the points and keeps them as long as the ring; nothing is allocated here.
 * Threads: a built ring is read-only; any number of threads may look up.
 */
#ifndef FC_SHARD_H
#define FC_SHARD_H

#include "fc_common.h"

typedef struct fc_shard_point {
    uint64_t at;
    uint32_t shard;
} fc_shard_point;

typedef struct fc_shard_ring {
    fc_shard_point *points; /* sorted by (at, shard) */
    size_t count;           /* a multiple of the number of shards */
} fc_shard_ring;

/* The most points a ring may have; 16 bytes each. */
#define FC_SHARD_POINTS_MAX ((size_t)1 << 24)

/* Points that a ring of `shards` needs, 0 when that is none or above FC_SHARD_POINTS_MAX. */
size_t fc_shard_points(size_t shards, size_t replicas);

/* Build a ring from hashes[i] = fc_name_hash(name of shard i) in `points`, an array of `room` points.
 * FC_OK; FC_ERR_RANGE: no shards, no replicas, or too many; FC_ERR_FULL: `room` is less than fc_shard_points().
 * O(p log p) for p points. */
fc_status fc_shard_build(fc_shard_ring *ring, fc_shard_point *points, size_t room, const uint64_t *hashes,
                         size_t shards, size_t replicas);

/* Index of the shard that owns a name of hash `hash`. The ring must have been built. O(log p). */
uint32_t fc_shard_find(const fc_shard_ring *ring, uint64_t hash);

#endif
