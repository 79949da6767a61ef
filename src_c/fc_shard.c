#include "fc_shard.h"

#include <stdlib.h>

#include "fc_name.h"

/* 2^64 divided by the golden ratio: multiples of it spread evenly before they are mixed. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

static int compare(const void *left, const void *right) {
    const fc_shard_point *a = (const fc_shard_point *)left;
    const fc_shard_point *b = (const fc_shard_point *)right;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return (a->shard > b->shard) - (a->shard < b->shard);
}

size_t fc_shard_points(size_t shards, size_t replicas) {
    if (shards == 0 || replicas == 0 || shards > UINT32_MAX || replicas > FC_SHARD_POINTS_MAX / shards)
        return 0;
    return shards * replicas;
}

fc_status fc_shard_build(fc_shard_ring *ring, fc_shard_point *points, size_t room, const uint64_t *hashes,
                         size_t shards, size_t replicas) {
    const size_t count = fc_shard_points(shards, replicas);
    if (count == 0)
        return FC_ERR_RANGE;
    if (room < count)
        return FC_ERR_FULL;
    fc_shard_point *next = points;
    for (size_t shard = 0; shard < shards; shard++)
        for (size_t replica = 0; replica < replicas; replica++, next++) {
            next->at = fc_name_mix(hashes[shard] + STEP * (uint64_t)(replica + 1));
            next->shard = (uint32_t)shard;
        }
    qsort(points, count, sizeof *points, compare);
    ring->points = points;
    ring->count = count;
    return FC_OK;
}

uint32_t fc_shard_find(const fc_shard_ring *ring, uint64_t hash) {
    size_t low = 0, high = ring->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ring->points[middle].at < hash)
            low = middle + 1;
        else
            high = middle;
    }
    /* Past the last point the circle begins again. */
    return ring->points[low == ring->count ? 0 : low].shard;
}
