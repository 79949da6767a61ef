#include "fc_test.h"
#include "fc_name.h"

static fc_status check(const char *name, size_t length, int kind) {
    fc_guard guard = guard_end(name, length);
    fc_status status = fc_name_check((const char *)guard.data, length, kind);
    guard_free(&guard);
    return status;
}

/* The rule, a character at a time. */
static fc_status oracle(const char *name, size_t length, int kind) {
    static const char *plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    if (length < 1 || length > 99)
        return FC_ERR_RANGE;
    int separators = 0;
    for (size_t i = 0; i < length; i++) {
        if (name[i] && strchr(plain, name[i]))
            continue;
        separators++;
        if (i == 0 || separators > 1)
            return FC_ERR_FORMAT;
        if (!(name[i] == '!' && kind >= FC_NAME_CHANNEL) &&
            !(name[i] == '?' && kind == FC_NAME_SINGLE_READER && i + 1 < length))
            return FC_ERR_FORMAT;
    }
    return FC_OK;
}

static void named_cases(void) {
    static const struct {
        const char *name;
        fc_status group, channel, single;
    } cases[] = {
        {"a", FC_OK, FC_OK, FC_OK},
        {"room-1_x.Y", FC_OK, FC_OK, FC_OK},
        {"", FC_ERR_RANGE, FC_ERR_RANGE, FC_ERR_RANGE},
        {"a!", FC_ERR_FORMAT, FC_OK, FC_OK},
        {"a!b", FC_ERR_FORMAT, FC_OK, FC_OK},
        {"!a", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a!b!", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a?b", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_OK},
        {"a?", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"?a", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a?b!", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a!b?c", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a\n", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a!\xc3\xa9", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
        {"a b", FC_ERR_FORMAT, FC_ERR_FORMAT, FC_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t length = strlen(cases[i].name);
        CHECK_EQ(check(cases[i].name, length, FC_NAME_GROUP), cases[i].group);
        CHECK_EQ(check(cases[i].name, length, FC_NAME_CHANNEL), cases[i].channel);
        CHECK_EQ(check(cases[i].name, length, FC_NAME_SINGLE_READER), cases[i].single);
    }
}

static void every_length(void) {
    char name[300];
    memset(name, 'x', sizeof name);
    for (size_t length = 0; length < sizeof name; length++)
        CHECK_EQ(check(name, length, FC_NAME_GROUP), length >= 1 && length <= 99 ? FC_OK : FC_ERR_RANGE);
}

static void every_byte_at_every_place(void) {
    char name[40];
    for (int byte = 0; byte < 256; byte++)
        for (size_t at = 0; at < sizeof name; at++) {
            memset(name, 'x', sizeof name);
            name[at] = (char)byte;
            for (int kind = FC_NAME_GROUP; kind <= FC_NAME_SINGLE_READER; kind++)
                CHECK_EQ(fc_name_check(name, sizeof name, kind), oracle(name, sizeof name, kind));
        }
}

static void random_names_match_the_oracle(void) {
    static const char letters[] = "aZ9-_.!?!? \n";
    for (int round = 0; round < 20000; round++) {
        char name[110];
        const size_t length = test_below(sizeof name + 1);
        for (size_t i = 0; i < length; i++)
            name[i] = test_below(20) ? letters[test_below(6)] : letters[test_below(sizeof letters)];
        for (int kind = FC_NAME_GROUP; kind <= FC_NAME_SINGLE_READER; kind++)
            CHECK_EQ(fc_name_check(name, length, kind), oracle(name, length, kind));
    }
}

static void local_part(void) {
    CHECK_EQ(fc_name_local("jobs", 4), 4);
    CHECK_EQ(fc_name_local("a.b!c", 5), 4);
    CHECK_EQ(fc_name_local("a!b!c", 5), 2);
    CHECK_EQ(fc_name_local("!", 1), 1);
    CHECK_EQ(fc_name_local(NULL, 0), 0);
}

/* Golden values: a name must not change its shard with a release or a platform. */
static void hash(void) {
    CHECK_EQ(fc_name_hash(NULL, 0), UINT64_C(17280346270528514342));
    CHECK_EQ(fc_name_hash("a", 1), UINT64_C(9413272369427828315));
    CHECK_EQ(fc_name_hash("http.request", 12), UINT64_C(9976006302779090068));
    CHECK_EQ(fc_name_hash("\x00\xff\x80", 3), UINT64_C(18156623020725019931));
    fc_guard guard = guard_end("specific.x!", 11);
    CHECK_EQ(fc_name_hash(guard.data, 11), fc_name_hash("specific.x!", 11));
    guard_free(&guard);
}

FC_TEST_MAIN(TEST(named_cases), TEST(every_length), TEST(every_byte_at_every_place),
             TEST(random_names_match_the_oracle), TEST(local_part), TEST(hash))
