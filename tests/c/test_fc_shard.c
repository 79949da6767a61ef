#include "fc_test.h"
#include "fc_name.h"
#include "fc_shard.h"

enum { REPLICAS = 128, SHARDS_MAX = 17, NAMES = 20000 };

static fc_shard_point points[2][SHARDS_MAX * REPLICAS];

static uint64_t shard_hash(size_t shard) {
    char name[40];
    const int length = snprintf(name, sizeof name, "redis://host-%zu:6379/0", shard);
    return fc_name_hash(name, (size_t)length);
}

static uint64_t channel_hash(size_t channel) {
    char name[40];
    const int length = snprintf(name, sizeof name, "room-%zu", channel);
    return fc_name_hash(name, (size_t)length);
}

/* A ring of the shards 0 to shards - 1, listed in either order, in points[which]. */
static fc_shard_ring build(int which, size_t shards, int reversed) {
    uint64_t hashes[SHARDS_MAX];
    for (size_t i = 0; i < shards; i++)
        hashes[i] = shard_hash(reversed ? shards - 1 - i : i);
    fc_shard_ring ring;
    CHECK_EQ(fc_shard_build(&ring, points[which], SHARDS_MAX * REPLICAS, hashes, shards, REPLICAS), FC_OK);
    CHECK_EQ(ring.count, shards * REPLICAS);
    return ring;
}

static void sizes(void) {
    uint64_t one = 1;
    fc_shard_ring ring;
    CHECK_EQ(fc_shard_points(3, 128), 384);
    CHECK_EQ(fc_shard_points(0, 128), 0);
    CHECK_EQ(fc_shard_points(1, 0), 0);
    CHECK_EQ(fc_shard_points((size_t)1 << 20, (size_t)1 << 20), 0);
    CHECK_EQ(fc_shard_points(SIZE_MAX, SIZE_MAX), 0);
    CHECK_EQ(fc_shard_build(&ring, points[0], 10, &one, 1, 11), FC_ERR_FULL);
    CHECK_EQ(fc_shard_build(&ring, points[0], 10, &one, 1, 0), FC_ERR_RANGE);
    CHECK_EQ(fc_shard_build(&ring, points[0], 10, NULL, 0, 1), FC_ERR_RANGE);
}

static void one_shard_owns_all(void) {
    fc_shard_ring ring = build(0, 1, 0);
    CHECK_EQ(fc_shard_find(&ring, 0), 0);
    CHECK_EQ(fc_shard_find(&ring, UINT64_MAX), 0);
}

/* The first point at or after the hash, found by looking at every point. */
static void find_matches_the_oracle(void) {
    for (size_t shards = 1; shards <= SHARDS_MAX; shards += 4) {
        fc_shard_ring ring = build(0, shards, 0);
        for (size_t i = 1; i < ring.count; i++)
            CHECK(ring.points[i - 1].at <= ring.points[i].at);
        for (int round = 0; round < 500; round++) {
            uint64_t hash = test_random();
            if (round < 100)
                hash = ring.points[test_below(ring.count)].at + (uint64_t)(round % 3) - 1;
            size_t at = 0;
            while (at < ring.count && ring.points[at].at < hash)
                at++;
            CHECK_EQ(fc_shard_find(&ring, hash), ring.points[at % ring.count].shard);
        }
    }
}

static void order_of_shards_does_not_matter(void) {
    fc_shard_ring forward = build(0, 5, 0), backward = build(1, 5, 1);
    for (size_t n = 0; n < NAMES; n++)
        CHECK_EQ(fc_shard_find(&forward, channel_hash(n)), 4 - fc_shard_find(&backward, channel_hash(n)));
}

static void one_more_shard_moves_its_share_only(void) {
    for (size_t shards = 1; shards < SHARDS_MAX; shards++) {
        fc_shard_ring before = build(0, shards, 0), after = build(1, shards + 1, 0);
        size_t moved = 0;
        for (size_t n = 0; n < NAMES; n++) {
            const uint32_t old = fc_shard_find(&before, channel_hash(n)), new = fc_shard_find(&after, channel_hash(n));
            moved += old != new;
            CHECK(old == new || new == shards);
        }
        const double share = (double)moved / NAMES * (double)(shards + 1);
        CHECK(share > 0.6 && share < 1.5);
    }
}

static void shares_are_even(void) {
    fc_shard_ring ring = build(0, 8, 0);
    size_t count[8] = {0};
    for (size_t n = 0; n < NAMES; n++)
        count[fc_shard_find(&ring, channel_hash(n))]++;
    for (size_t shard = 0; shard < 8; shard++)
        CHECK(count[shard] > NAMES / 8 * 6 / 10 && count[shard] < NAMES / 8 * 15 / 10);
}

FC_TEST_MAIN(TEST(sizes), TEST(one_shard_owns_all), TEST(find_matches_the_oracle),
             TEST(order_of_shards_does_not_matter), TEST(one_more_shard_moves_its_share_only), TEST(shares_are_even))
