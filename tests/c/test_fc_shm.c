/* The shared segment: messages, groups, wake-ups, and what is left when a process dies between any two instructions. */
#include "../../src_c/fc_shm_private.h"
#include "fc_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char place[64];
static uint64_t space[65536];

static fc_text text(const char *s) {
    fc_text t = {s, strlen(s)};
    return t;
}

static void clean(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", place);
    CHECK_EQ(system(command), 0);
}

static fc_shm *open_as(const char *id, uint64_t size) {
    char why[FC_SHM_WHY];
    fc_shm *s = NULL;
    if (fc_shm_open(&s, place, size, text(id), why) != FC_OK) {
        fprintf(stderr, "fc_shm_open: %s\n", why);
        exit(2);
    }
    return s;
}

static fc_shm *fresh(const char *id, uint64_t size) {
    snprintf(place, sizeof place, P_tmpdir "/fc_shm_test.%d", (int)getpid());
    clean();
    return open_as(id, size);
}

static void finish(fc_shm *s) {
    const char *wrong = fc_shm_check(s);
    CHECK(wrong == NULL);
    if (wrong)
        fprintf(stderr, "  %s\n", wrong);
    fc_shm_close(s);
    clean();
}

static fc_status put(fc_shm *s, const char *channel, const void *bytes, uint64_t size) {
    return fc_shm_send(s, text(channel), (const uint8_t *)bytes, size, 1000000, 60000);
}

/* Takes one message; returns its length, -1 for none. Its head is in space. */
static int64_t get(fc_shm *s, const char *channel) {
    const fc_text name = text(channel);
    uint64_t used;
    uint32_t count;
    fc_status st = fc_shm_take(s, &name, 1, 0, 1, (uint8_t *)space, sizeof space, &used, &count);
    if (st != FC_OK)
        return st == FC_NEED_DATA ? -1 : -100 + st;
    return ((fc_taken *)space)->length;
}

static const uint8_t *body(void) {
    const fc_taken *head = (const fc_taken *)space;
    return (const uint8_t *)space + sizeof *head + head->target_length;
}

/* ------------------------------------------------------------------ messages */

static void sizes_and_order(void) {
    static uint8_t bytes[300000];
    const uint32_t sizes[] = {0,
                              1,
                              FC_FIRST_DATA - 1,
                              FC_FIRST_DATA,
                              FC_FIRST_DATA + 1,
                              FC_FIRST_DATA + FC_PART_DATA - 1,
                              FC_FIRST_DATA + FC_PART_DATA,
                              FC_FIRST_DATA + FC_PART_DATA + 1,
                              FC_FIRST_DATA + 2 * FC_PART_DATA,
                              FC_FIRST_DATA + 2 * FC_PART_DATA + 1,
                              4096,
                              65536,
                              300000};
    const size_t n = sizeof sizes / sizeof sizes[0];
    fc_shm *s = fresh("a", 4 << 20);
    test_random_bytes(bytes, sizeof bytes);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(put(s, "jobs", bytes + i, sizes[i] - (sizes[i] > 299000 ? n : 0)), FC_OK);
        for (size_t i = 0; i < n; i++) {
            uint32_t wanted = sizes[i] - (sizes[i] > 299000 ? n : 0);
            CHECK_EQ(get(s, "jobs"), wanted);
            CHECK_BYTES(body(), bytes + i, wanted);
        }
        CHECK_EQ(get(s, "jobs"), -1);
        CHECK(fc_shm_check(s) == NULL);
    }
    finish(s);
}

static void batches_fill_the_buffer_and_no_more(void) {
    const fc_text names[] = {text("a"), text("b")};
    uint64_t used;
    uint32_t count;
    fc_shm *s = fresh("a", 1 << 20);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(put(s, i < 5 ? "a" : "b", "0123456789", 10), FC_OK);
    uint64_t one = (sizeof(fc_taken) + 10 + 7) & ~UINT64_C(7);
    CHECK_EQ(fc_shm_take(s, names, 2, 0, 99, (uint8_t *)space, one - 1, &used, &count), FC_ERR_RANGE);
    CHECK_EQ(used, one);
    fc_guard room = guard_end(NULL, one * 3);
    CHECK_EQ(fc_shm_take(s, names, 2, 1, 99, room.data, room.size, &used, &count), FC_OK);
    CHECK_EQ(count, 3);
    CHECK_EQ(((fc_taken *)room.data)->name, 1);
    guard_free(&room);
    CHECK_EQ(fc_shm_take(s, names, 2, 1, 99, (uint8_t *)space, sizeof space, &used, &count), FC_OK);
    CHECK_EQ(count, 7);
    finish(s);
}

static void waits_is_told_without_the_lock(void) {
    fc_shm *s = fresh("a", 1 << 20);
    CHECK_EQ(fc_shm_waits(s), 0);
    CHECK_EQ(fc_shm_join(s, text("g")), FC_OK);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    CHECK_EQ(fc_shm_waits(s), 0);
    CHECK_EQ(fc_shm_send_local(s, text("a"), text("x.a!1"), (const uint8_t *)"x", 1, 9, 60000), FC_OK);
    CHECK(fc_shm_waits(s));
    CHECK_EQ(fc_shm_send_local(s, text("a"), text("x.a!1"), (const uint8_t *)"x", 1, 9, 1), FC_OK);
    CHECK_EQ(get(s, "!a"), 1);
    CHECK(fc_shm_waits(s));
    fc_shm_skip(s, 2000000);
    CHECK_EQ(get(s, "!a"), -1);
    CHECK_EQ(fc_shm_waits(s), 0);
    CHECK_EQ(fc_shm_wipe(s), FC_OK);
    CHECK_EQ(fc_shm_waits(s), 0);
    /* Whoever repairs the segment lets its owner look. */
    fc_wakes w;
    CHECK_EQ(fc_shm_enter(s, &w), FC_OK);
    s->heap.damaged = 1;
    CHECK_EQ(fc_shm_exit(s, &w, FC_OK), FC_ERR_FORMAT);
    CHECK(fc_shm_waits(s));
    CHECK_EQ(get(s, "!a"), -1);
    CHECK_EQ(fc_shm_waits(s), 0);
    CHECK(fc_shm_check(s) == NULL);
    finish(s);
}

static void capacity_expiry_and_room(void) {
    static uint8_t big[100000];
    uint32_t count;
    uint64_t age;
    fc_shm *s = fresh("a", 1 << 20);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(fc_shm_send(s, text("jobs"), big, 10, 3, 1000), FC_OK);
    CHECK_EQ(fc_shm_send(s, text("jobs"), big, 10, 3, 1000), FC_ERR_FULL);
    fc_shm_skip(s, 2000000000);
    CHECK_EQ(fc_shm_send(s, text("jobs"), big, 11, 3, 1000), FC_OK);
    CHECK_EQ(fc_shm_pending(s, text("jobs"), &count, &age), FC_OK);
    CHECK_EQ(count, 1);
    fc_shm_skip(s, 500000000);
    CHECK_EQ(fc_shm_pending(s, text("jobs"), &count, &age), FC_OK);
    CHECK(age >= 500000000 && age < 1000000000);
    fc_shm_skip(s, 2000000000);
    CHECK_EQ(get(s, "jobs"), -1);

    int sent = 0;
    while (put(s, "jobs", big, sizeof big) == FC_OK)
        sent++;
    CHECK(sent > 3 && sent < 11);
    CHECK_EQ(put(s, "other", big, sizeof big), FC_ERR_NOMEM);
    CHECK_EQ(put(s, "other", big, 10), FC_OK);
    for (int i = 0; i < sent; i++)
        CHECK_EQ(get(s, "jobs"), sizeof big);
    CHECK_EQ(put(s, "other", big, sizeof big), FC_OK);
    /* A heap full of expired messages is not full. */
    while (put(s, "jobs", big, sizeof big) == FC_OK)
        ;
    fc_shm_skip(s, UINT64_C(61000000000));
    CHECK_EQ(put(s, "other", big, sizeof big), FC_OK);
    finish(s);
}

static void queues_come_and_go(void) {
    char name[32];
    fc_shm_counts counts;
    fc_shm *s = fresh("a", 1 << 20);
    for (int i = 0; i < 5000; i++) { /* many more than there are slots */
        snprintf(name, sizeof name, "http.request.body?%d", i);
        fc_status st = put(s, name, "x", 1);
        if (st == FC_ERR_NOMEM) { /* sweeps are 0.1 s apart */
            fc_shm_skip(s, 200000000);
            st = put(s, name, "x", 1);
        }
        CHECK_EQ(st, FC_OK);
        CHECK_EQ(get(s, name), 1);
    }
    CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
    CHECK_EQ(counts.room_used, 0);
    CHECK_EQ(counts.taken, 5000);
    finish(s);
}

/* ------------------------------------------------------------------ processes and groups */

static void local_names_and_marks(void) {
    fc_shm *a = fresh("aaaa", 1 << 20), *b = open_as("bbbb", 1 << 20);
    const uint8_t *hi = (const uint8_t *)"hi";
    CHECK_EQ(fc_shm_send_local(a, text("cccc"), text("x.cccc!1"), hi, 2, 10, 60000), FC_ERR_CLOSED);
    CHECK_EQ(fc_shm_send_local(a, text("bbbb"), text("x.bbbb!1"), hi, 2, 10, 60000), FC_OK);
    CHECK_EQ(get(b, "!bbbb"), 2);
    CHECK_BYTES((const char *)space + sizeof(fc_taken), "x.bbbb!1hi", 10);
    CHECK_EQ(fc_shm_mark(b, text("x.bbbb!1"), 1), FC_OK);
    CHECK_EQ(fc_shm_mark(b, text("x.bbbb!1"), 1), FC_OK);
    CHECK_EQ(fc_shm_send_local(a, text("bbbb"), text("x.bbbb!1"), hi, 2, 10, 60000), FC_ERR_FULL);
    CHECK_EQ(fc_shm_send_local(a, text("bbbb"), text("x.bbbb!2"), hi, 2, 10, 60000), FC_OK);
    CHECK_EQ(fc_shm_mark(b, text("x.bbbb!1"), 0), FC_OK);
    CHECK_EQ(fc_shm_send_local(a, text("bbbb"), text("x.bbbb!1"), hi, 2, 10, 60000), FC_OK);
    CHECK(fc_shm_check(a) == NULL);
    fc_shm_close(b);
    CHECK_EQ(fc_shm_send_local(a, text("bbbb"), text("x.bbbb!1"), hi, 2, 10, 60000), FC_ERR_CLOSED);
    finish(a);
}

static void groups(void) {
    uint32_t members, full;
    fc_shm_counts counts;
    fc_shm *a = fresh("aaaa", 1 << 20), *b = open_as("bbbb", 1 << 20);
    const uint8_t *hi = (const uint8_t *)"hi";
    CHECK_EQ(fc_shm_publish(a, (const fc_text[]){text("g")}, 1, NULL, hi, 2, 100, 60000, UINT64_MAX, &members, &full),
             FC_OK);
    CHECK_EQ(members, 0);
    CHECK_EQ(fc_shm_join(a, text("g")), FC_OK);
    CHECK_EQ(fc_shm_join(a, text("g")), FC_OK);
    CHECK_EQ(fc_shm_add(a, text("g"), text("bbbb"), text("x.bbbb!1"), 100), FC_OK);
    CHECK_EQ(fc_shm_add_channel(a, text("g"), text("jobs"), 1), FC_OK);
    CHECK_EQ(fc_shm_add(a, text("g"), text("cccc"), text("x.cccc!1"), 100), FC_ERR_CLOSED);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(
            fc_shm_publish(b, (const fc_text[]){text("g")}, 1, NULL, hi, 2, 100, 60000, UINT64_MAX, &members, &full),
            FC_OK);
        CHECK_EQ(members, 3);
        CHECK_EQ(full, i);
    }
    CHECK_EQ(get(b, "!bbbb"), 9); /* the add is before what was sent after it */
    CHECK_EQ(((fc_taken *)space)->kind, FC_ADD);
    uint64_t seen = fc_load_be64(body());
    CHECK_EQ(get(b, "!bbbb"), 2);
    CHECK_EQ(((fc_taken *)space)->kind, FC_GROUP);

    /* A leave that has not seen an add does not undo it. */
    CHECK_EQ(fc_shm_add(a, text("g"), text("bbbb"), text("x.bbbb!2"), 100), FC_OK);
    CHECK_EQ(fc_shm_leave(b, text("g"), seen), FC_OK);
    CHECK_EQ(fc_shm_publish(b, (const fc_text[]){text("g")}, 1, NULL, hi, 2, 100, 60000, UINT64_MAX, &members, &full),
             FC_OK);
    CHECK_EQ(members, 3);
    CHECK_EQ(fc_shm_leave(b, text("g"), seen + 1), FC_OK);
    CHECK_EQ(fc_shm_discard_channel(b, text("g"), text("jobs")), FC_OK);
    CHECK_EQ(fc_shm_publish(b, (const fc_text[]){text("g")}, 1, NULL, hi, 2, 100, 60000, UINT64_MAX, &members, &full),
             FC_OK);
    CHECK_EQ(members, 1);
    CHECK_EQ(fc_shm_leave(a, text("g"), 0), FC_OK);
    CHECK_EQ(fc_shm_count(a, &counts), FC_OK);
    CHECK_EQ(counts.groups, 0);
    CHECK_EQ(counts.members, 0);

    /* group_expiry of an ordinary channel; a new add starts it again. */
    CHECK_EQ(fc_shm_add_channel(a, text("h"), text("jobs"), 100), FC_OK);
    CHECK_EQ(fc_shm_publish(a, (const fc_text[]){text("h")}, 1, NULL, hi, 2, 100, 60000, 1000000000, &members, &full),
             FC_OK);
    CHECK_EQ(members, 1);
    fc_shm_skip(a, 2000000000);
    CHECK_EQ(fc_shm_publish(a, (const fc_text[]){text("h")}, 1, NULL, hi, 2, 100, 60000, 1000000000, &members, &full),
             FC_OK);
    CHECK_EQ(members, 0);
    CHECK_EQ(fc_shm_add_channel(a, text("h"), text("jobs"), 100), FC_OK);
    CHECK_EQ(fc_shm_join(b, text("h")), FC_OK);
    CHECK_EQ(fc_shm_wipe(a), FC_OK);
    CHECK_EQ(get(b, "!bbbb"), 0);
    CHECK_EQ(((fc_taken *)space)->kind, FC_WIPED);
    CHECK_EQ(get(a, "!aaaa"), -1);
    CHECK_EQ(get(a, "jobs"), -1);
    CHECK_EQ(fc_shm_count(a, &counts), FC_OK);
    CHECK_EQ(counts.members + counts.messages + counts.room_used, 0);
    fc_shm_close(b);
    finish(a);
}

static void aims(void) {
    uint32_t members, full;
    fc_shm *a = fresh("aaaa", 1 << 20), *b = open_as("bbbb", 1 << 20);
    const fc_text all[] = {text("g"), text("nobody"), text("h")}, excluded[] = {text("other"), text("jobs")};
    const uint8_t *payload = (const uint8_t *)"headhi";
    CHECK_EQ(fc_shm_join(a, all[0]), FC_OK);
    CHECK_EQ(fc_shm_join(a, all[2]), FC_OK);
    CHECK_EQ(fc_shm_join(b, all[2]), FC_OK);
    CHECK_EQ(fc_shm_add_channel(a, all[0], text("jobs"), 10), FC_OK);
    CHECK_EQ(fc_shm_add_channel(a, all[2], text("jobs"), 10), FC_OK);
    CHECK_EQ(fc_shm_add_channel(a, all[2], text("more"), 10), FC_OK);
    /* Whoever is in two of the groups gets it once; without an aim, all of it. */
    CHECK_EQ(fc_shm_publish(a, all, 3, NULL, payload, 6, 100, 60000, UINT64_MAX, &members, &full), FC_OK);
    CHECK_EQ(members, 4);
    for (int i = 0; i < 4; i++) {
        const char *const queues[] = {"!aaaa", "!bbbb", "jobs", "more"};
        CHECK_EQ(get(a, queues[i]), 6);
        CHECK_EQ(((fc_taken *)space)->kind, i < 2 ? FC_GROUP : FC_MESSAGE);
        CHECK_EQ(get(a, queues[i]), -1);
    }
    /* With one, processes get all of it, and ordinary channels what is for them. */
    const fc_aim aim = {.head = 4, .excluded = excluded, .count = 2};
    CHECK_EQ(fc_shm_publish(b, all, 3, &aim, payload, 6, 100, 60000, UINT64_MAX, &members, &full), FC_OK);
    CHECK_EQ(members, 3);
    CHECK_EQ(get(a, "!aaaa"), 6);
    CHECK_EQ(((fc_taken *)space)->kind, FC_AIMED);
    CHECK_EQ(get(a, "!bbbb"), 6);
    CHECK_EQ(get(a, "more"), 2);
    CHECK(!memcmp(body(), "hi", 2));
    CHECK_EQ(get(a, "jobs"), -1);
    CHECK_EQ(fc_shm_publish(a, all, 0, &aim, payload, 6, 100, 60000, UINT64_MAX, &members, &full), FC_OK);
    CHECK_EQ(members, 0);
    fc_shm_close(b);
    finish(a);
}

/* ------------------------------------------------------------------ wake-ups */

static int woken(const fc_waiter_handle *w) {
    return fc_wake_wait(fc_waiter_fd(w), -1, 0) == FC_OK;
}

static void a_push_wakes_one_sleeper_in_turn(void) {
    const fc_text jobs[] = {text("jobs"), text("more")};
    fc_waiter_handle *w[3];
    uint32_t ready = 9;
    fc_shm *s = fresh("aaaa", 1 << 20);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fc_waiter_open(&w[i], s), FC_OK);
        CHECK_EQ(fc_waiter_arm(w[i], jobs, 2, &ready), FC_NEED_DATA);
    }
    CHECK_EQ(put(s, "none", "x", 1), FC_OK);
    CHECK_EQ(woken(w[0]) + woken(w[1]) + woken(w[2]), 0);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(put(s, round ? "jobs" : "more", "x", 1), FC_OK);
        CHECK_EQ(woken(w[0]) + woken(w[1]) + woken(w[2]), 1); /* each time another one: nobody armed again */
    }
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    CHECK_EQ(woken(w[0]) + woken(w[1]) + woken(w[2]), 0);
    CHECK_EQ(fc_waiter_arm(w[0], jobs, 2, &ready), FC_OK);
    CHECK_EQ(ready, 0);
    while (get(s, "jobs") > 0 || get(s, "more") > 0)
        ;

    /* One that is woken and does not want it passes it on; so does one that goes. */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(fc_waiter_arm(w[i], jobs, 1, &ready), FC_NEED_DATA);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    int first = woken(w[0]) ? 0 : woken(w[1]) ? 1 : 2;
    CHECK_EQ(fc_waiter_disarm(w[first]), FC_OK);
    int second = woken(w[(first + 1) % 3]) ? (first + 1) % 3 : (first + 2) % 3;
    int third = 3 - first - second;
    fc_waiter_close(w[second], 0);
    CHECK_EQ(woken(w[third]), 1);
    fc_waiter_close(w[first], 0);
    fc_waiter_close(w[third], 0);
    CHECK_EQ(get(s, "jobs"), 1);
    finish(s);
}

static void who_rests_is_told(void) {
    const fc_text jobs = text("jobs"), more = text("more");
    fc_waiter_handle *w[3];
    uint32_t ready, others;
    fc_shm *s = fresh("aaaa", 1 << 20);
    CHECK_EQ(put(s, "none", "x", 1), FC_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fc_waiter_open(&w[i], s), FC_OK);
        CHECK_EQ(fc_waiter_rest(w[i]), FC_NEED_DATA); /* it is not armed */
        CHECK_EQ(fc_waiter_arm(w[i], i < 2 ? &jobs : &more, 1, &ready), FC_NEED_DATA);
        if (!i) {
            CHECK_EQ(fc_waiter_rest(w[i]), FC_NEED_DATA); /* it was not told who is there */
            CHECK_EQ(fc_shm_neighbours(s, NULL, 0, &others), FC_OK);
        }
        CHECK_EQ(fc_waiter_rest(w[i]), FC_OK);
        CHECK_EQ(fc_waiter_arm(w[i], i < 2 ? &jobs : &more, 1, &ready), FC_NEED_DATA); /* it rests on */
    }

    /* One is woken, and the other one of that queue is told. Once: it looks by itself then. */
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    CHECK(woken(w[0]) && woken(w[1]) && !woken(w[2]));
    CHECK_EQ(fc_waiter_sleeps(w[0]), FC_NEED_DATA);
    CHECK_EQ(fc_waiter_sleeps(w[1]), FC_OK);
    CHECK_EQ(fc_waiter_rest(w[1]), FC_NEED_DATA); /* something was sent */
    CHECK_EQ(fc_waiter_rest(w[1]), FC_NEED_DATA); /* and it waits */
    CHECK_EQ(get(s, "jobs"), 1);
    CHECK_EQ(fc_waiter_arm(w[0], &jobs, 1, &ready), FC_NEED_DATA);
    CHECK_EQ(fc_waiter_rest(w[0]), FC_NEED_DATA);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    CHECK_EQ(woken(w[0]) + woken(w[1]), 1);
    CHECK_EQ(get(s, "jobs"), 1);
    fc_waiter_close(w[0], 0);

    /* A process comes. */
    CHECK_EQ(fc_waiter_arm(w[1], &jobs, 1, &ready), FC_NEED_DATA);
    fc_shm *other = open_as("bbbb", 1 << 20);
    CHECK(!woken(w[1]) && woken(w[2]));
    CHECK_EQ(fc_waiter_sleeps(w[2]), FC_OK);
    fc_shm_close(other);

    /* The segment is removed, and made anew; what is left of this process wakes its sleepers. */
    CHECK_EQ(unlinkat(s->place.at, "segment", 0), 0);
    CHECK_EQ(fc_shm_keep(s), FC_ERR_CLOSED);
    other = open_as("bbbb", 1 << 20);
    CHECK(woken(w[1]) && woken(w[2]));
    CHECK_EQ(fc_waiter_sleeps(w[2]), FC_OK);
    CHECK_EQ(fc_shm_retire(s), 0);
    CHECK(woken(w[1]) && woken(w[2]));
    CHECK_EQ(fc_waiter_sleeps(w[2]), FC_NEED_DATA);
    CHECK_EQ(fc_waiter_arm(w[2], &more, 1, &ready), FC_ERR_CLOSED);
    for (int i = 1; i < 3; i++)
        fc_waiter_close(w[i], 1);
    fc_shm_close(s); /* the last one of its segment, and yet the name is the other one's */
    CHECK_EQ(faccessat(other->place.at, "segment", F_OK, 0), 0);
    finish(other);
}

static void a_dead_sleeper_swallows_nothing(void) {
    const fc_text jobs = text("jobs");
    fc_waiter_handle *w;
    fc_shm_counts counts;
    uint32_t ready;
    int pipes[2];
    fc_shm *s = fresh("aaaa", 1 << 20);
    CHECK_EQ(pipe(pipes), 0);
    pid_t child = fork();
    if (!child) {
        fc_waiter_handle *mine;
        fc_shm_abandon(s);
        s = open_as("bbbb", 1 << 20);
        if (fc_waiter_open(&mine, s) || fc_waiter_arm(mine, &jobs, 1, &ready) != FC_NEED_DATA ||
            fc_shm_join(s, text("g")))
            _exit(1);
        (void)!write(pipes[1], "x", 1);
        for (;;)
            pause();
    }
    char byte;
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
    CHECK_EQ(fc_waiter_open(&w, s), FC_OK);
    CHECK_EQ(fc_waiter_arm(w, &jobs, 1, &ready), FC_NEED_DATA);
    CHECK_EQ(kill(child, SIGKILL), 0);
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0); /* a zombie from here on */
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK); /* its turn, by rotation: found dead, and passed on */
    CHECK_EQ(woken(w), 1);
    CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
    CHECK_EQ(counts.waiters, 1);
    s->heap.header->kept = 0;
    CHECK_EQ(fc_shm_keep(s), FC_OK);
    CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
    CHECK_EQ(counts.processes, 1);
    CHECK_EQ(counts.members, 0);
    CHECK_EQ(counts.reaped, 1);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    fc_waiter_close(w, 0);
    close(pipes[0]);
    close(pipes[1]);
    CHECK_EQ(get(s, "jobs"), 1);
    finish(s);
}

/* ------------------------------------------------------------------ death at any instruction */

typedef struct note {
    uint64_t sender, number, sum;
} note;

static void work_until_killed(unsigned seed) {
    static uint8_t bytes[3000];
    char id[32], name[64];
    uint32_t members, full;
    fc_test_state ^= (uint64_t)seed * 0x9E3779B97F4A7C15u;
    snprintf(id, sizeof id, "child%u", seed);
    fc_shm *s = open_as(id, 4 << 20);
    note n = {seed, 0, 0};
    for (;;) {
        switch (test_below(8)) {
        case 0:
        case 1:
        case 2:
            n.number++;
            n.sum = n.sender * 31 + n.number;
            memcpy(bytes, &n, sizeof n);
            if (put(s, "jobs", bytes, sizeof n + test_below(2000)) != FC_OK)
                n.number--;
            break;
        case 3:
            (void)get(s, "jobs");
            break;
        case 4:
            snprintf(name, sizeof name, "g%zu", test_below(20));
            (void)(test_below(2) ? fc_shm_join(s, text(name)) : fc_shm_leave(s, text(name), UINT64_MAX));
            break;
        case 5:
            snprintf(name, sizeof name, "g%zu", test_below(20));
            (void)fc_shm_publish(s, (const fc_text[]){text(name)}, 1, NULL, bytes, test_below(900), 50, 1000,
                                 UINT64_MAX, &members, &full);
            break;
        case 6:
            snprintf(name, sizeof name, "x.%s!%zu", id, test_below(9));
            (void)fc_shm_mark(s, text(name), (int)test_below(2));
            break;
        default:
            snprintf(name, sizeof name, "!%s", id);
            (void)get(s, name);
        }
    }
}

static void killed_at_any_instruction(void) {
    fc_shm *s = fresh("parent", 4 << 20);
    fc_shm_counts counts;
    uint64_t last[400] = {0};
    int recovered = 0;
    for (unsigned i = 1; i <= 150; i++) {
        pid_t child = fork();
        if (!child) {
            fc_shm_abandon(s);
            work_until_killed(i);
        }
        struct timespec pause_for = {0, (long)(1500000 + test_below(2500000))};
        nanosleep(&pause_for, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        const char *wrong = fc_shm_check(s);
        CHECK(wrong == NULL);
        if (wrong) {
            fprintf(stderr, "  kill %u: %s\n", i, wrong);
            break;
        }
        for (int64_t size; (size = get(s, "jobs")) != -1;) {
            note n;
            CHECK(size >= (int64_t)sizeof n);
            memcpy(&n, body(), sizeof n);
            CHECK_EQ(n.sum, n.sender * 31 + n.number);
            CHECK(n.sender <= 150 && n.number > last[n.sender]); /* whole, in order, and never twice */
            last[n.sender % 400] = n.number;
        }
        s->heap.header->kept = 0;
        CHECK_EQ(fc_shm_keep(s), FC_OK);
        CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
        CHECK_EQ(counts.processes, 1);
        CHECK_EQ(counts.members + counts.marks + counts.messages + counts.room_used, 0);
        recovered = (int)counts.recovered;
    }
    CHECK(recovered > 10); /* else the kills missed what they were for */
    finish(s);
}

static void recovery_changes_nothing_that_is_whole(void) {
    fc_shm *s = fresh("aaaa", 1 << 20);
    char name[16];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "q%d", i % 7);
        CHECK_EQ(put(s, name, &i, sizeof i), FC_OK);
        CHECK_EQ(fc_shm_add_channel(s, text(name), text("jobs"), 5), FC_OK);
    }
    for (int round = 0; round < 3; round++) {
        fc_heap_recover(&s->heap);
        CHECK(fc_shm_check(s) == NULL);
    }
    for (int i = 0; i < 300; i++) {
        int got;
        snprintf(name, sizeof name, "q%d", i % 7);
        CHECK_EQ(get(s, name), sizeof got);
        memcpy(&got, body(), sizeof got);
        CHECK_EQ(got, i);
    }
    finish(s);
}

/* Bytes that nobody wrote on purpose: no call may crash or hang, and afterwards the segment is valid again. */
static void scribbles_are_survived(void) {
    static uint8_t bytes[2000];
    char name[16];
    uint32_t members, full;
    for (int round = 0; round < 60; round++) {
        fc_shm *s = fresh("aaaa", 1 << 20);
        for (int i = 0; i < 200; i++) {
            snprintf(name, sizeof name, "q%zu", test_below(20));
            (void)put(s, name, bytes, test_below(sizeof bytes));
            (void)fc_shm_add_channel(s, text(name), text("jobs"), 5);
            (void)fc_shm_join(s, text(name));
        }
        for (int i = 0; i < 40; i++) {
            int t = (int)test_below(FC_TABLES);
            uint32_t fresh_slots = s->heap.header->table[t].fresh, capacity = s->heap.region[t].capacity;
            fresh_slots = fresh_slots < capacity ? fresh_slots : capacity;
            uint8_t *at = s->heap.base + s->heap.region[t].at +
                          (fresh_slots ? test_below(fresh_slots) * s->heap.region[t].stride : 0);
            at[test_below(64)] = (uint8_t)test_random();
            if (i % 8 == 0)
                ((uint8_t *)s->heap.header->table)[test_below(sizeof s->heap.header->table)] = (uint8_t)test_random();
        }
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "q%zu", test_below(20));
            (void)put(s, name, bytes, test_below(sizeof bytes));
            (void)get(s, name);
            (void)fc_shm_publish(s, (const fc_text[]){text(name)}, 1, NULL, bytes, 100, 50, 1000, UINT64_MAX, &members,
                                 &full);
            (void)fc_shm_leave(s, text(name), UINT64_MAX);
            (void)fc_shm_join(s, text(name));
        }
        fc_heap_recover(&s->heap);
        CHECK(fc_shm_check(s) == NULL);
        fc_shm_close(s);
    }
    clean();
}

/* ------------------------------------------------------------------ the file */

static fc_status open_status(uint64_t size, char why[FC_SHM_WHY]) {
    fc_shm *s = NULL;
    fc_status st = fc_shm_open(&s, place, size, text("b"), why);
    if (st == FC_OK)
        fc_shm_close(s);
    return st;
}

static void what_is_no_segment_is_refused(void) {
    char why[FC_SHM_WHY], path[128], other[128];
    fc_shm *s = fresh("a", 1 << 20);
    snprintf(path, sizeof path, "%s/segment", place);
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK_EQ(stat(place, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0700);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK); /* so that the file stays */

    s->heap.header->version++;
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_VERSION);
    CHECK(strstr(why, "another version") != NULL);
    s->heap.header->version--;
    s->heap.header->layout++;
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_VERSION);
    s->heap.header->layout--;
    s->heap.header->magic++;
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_VERSION);
    s->heap.header->magic--;
    s->heap.header->pid_space++;
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_CLOSED); /* in use over there */
    s->heap.header->pid_space--;
    CHECK_EQ(open_status(1 << 20, why), FC_OK);
    CHECK_EQ(open_status(2 << 20, why), FC_OK); /* in use: keeps its size */
    CHECK_EQ(get(s, "jobs"), 1);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    fc_shm_close(s);

    CHECK_EQ(chmod(path, 0622), 0);
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_CLOSED);
    CHECK_EQ(chmod(path, 0600), 0);
    CHECK_EQ(chmod(place, 0777), 0);
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_CLOSED);
    CHECK_EQ(chmod(place, 0700), 0);
    snprintf(other, sizeof other, "%s/elsewhere", place);
    CHECK_EQ(rename(path, other), 0);
    CHECK_EQ(symlink(other, path), 0);
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_CLOSED);
    CHECK(strstr(why, "symbolic link") != NULL);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rename(other, path), 0);

    /* Nobody uses it: another size, or another boot of the machine, starts anew. */
    s = open_as("a", 2 << 20);
    CHECK_EQ(fc_shm_size(s), 2 << 20);
    CHECK_EQ(get(s, "jobs"), -1);
    CHECK_EQ(put(s, "jobs", "x", 1), FC_OK);
    s->heap.header->boot++;
    fc_shm_close(s);
    s = open_as("a", 2 << 20);
    CHECK_EQ(get(s, "jobs"), -1);
    CHECK_EQ(open_status(1000, why), FC_OK);
    fc_shm_close(s);
    CHECK_EQ(open_status(1000, why), FC_ERR_RANGE);
    CHECK_EQ(stat(path, &st), -1); /* the last one out left nothing */

    CHECK_EQ(truncate(path, 0) == -1 && errno == ENOENT, 1);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK_EQ(write(fd, "junk", 4), 4);
    close(fd);
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_VERSION);
    clean();
    snprintf(other, sizeof other, "%s.link", place);
    CHECK_EQ(symlink(".", other), 0);
    char kept[64];
    memcpy(kept, place, sizeof kept);
    snprintf(place, sizeof place, "%.58s.link", kept);
    CHECK_EQ(open_status(1 << 20, why), FC_ERR_CLOSED);
    CHECK_EQ(unlink(place), 0);
}

FC_TEST_MAIN(TEST(sizes_and_order), TEST(batches_fill_the_buffer_and_no_more), TEST(waits_is_told_without_the_lock),
             TEST(capacity_expiry_and_room), TEST(queues_come_and_go), TEST(local_names_and_marks), TEST(groups),
             TEST(aims), TEST(a_push_wakes_one_sleeper_in_turn), TEST(who_rests_is_told),
             TEST(a_dead_sleeper_swallows_nothing), TEST(killed_at_any_instruction),
             TEST(recovery_changes_nothing_that_is_whole), TEST(scribbles_are_survived),
             TEST(what_is_no_segment_is_refused))
