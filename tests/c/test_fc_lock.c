/* The lock between processes: what holders, the dead, the stopped and garbage in its word lead to. */
#include "../../src_c/fc_lock.h"
#include "../../src_c/fc_process.h"
#include "fc_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { LONG = 10000 };

/* What the processes of a test share. */
typedef struct scene {
    fc_lock lock;
    uint64_t first, second; /* guarded: equal but for a death in between */
    _Atomic uint32_t told;  /* that the holder died */
    _Atomic uint32_t held, finished;
} scene;

static scene *shared;

static uint64_t me(void) {
    return fc_lock_name(getpid(), fc_process_start(getpid()));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fresh(void) {
    if (!shared)
        shared = (scene *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    memset(shared, 0, sizeof *shared);
}

static void hold(void) {
    if (fc_lock_take(&shared->lock, me(), LONG) == EOWNERDEAD)
        shared->told++;
    shared->held++;
    for (;;)
        pause();
}

/* A process that runs `what`; a test that fails does not leave it behind. */
static pid_t start(void (*what)(void)) {
    pid_t child = fork();
    if (!child) {
        alarm(60);
        what();
        _exit(0);
    }
    CHECK(child > 0);
    return child;
}

static void end(pid_t child) {
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

static void until_held(uint32_t times) {
    double began = now();
    while (shared->held < times && now() - began < 30)
        usleep(1000);
    CHECK_EQ(shared->held, times);
}

static void free_and_held(void) {
    fresh();
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), 0);
    CHECK(shared->lock.holder == me());
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), EBUSY); /* another thread of this process */
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 5), ETIMEDOUT);
    fc_lock_give(&shared->lock);
    CHECK(shared->lock.holder == 0);
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), 0);
}

static void a_stopped_holder_is_waited_for_asleep(void) {
    struct rusage before, after;
    int status;
    fresh();
    pid_t child = start(hold);
    until_held(1);
    kill(child, SIGSTOP);
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), EBUSY);
    getrusage(RUSAGE_SELF, &before);
    double began = now();
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 400), ETIMEDOUT);
    CHECK(now() - began >= 0.4);
    getrusage(RUSAGE_SELF, &after);
    CHECK((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
              before.ru_utime.tv_usec <
          100000);
    end(child);
}

static void the_dead_are_replaced_and_told_of_until_repaired(void) {
    fresh();
    pid_t first = start(hold);
    until_held(1);
    kill(first, SIGKILL); /* a zombie as good as gone: whose parent is slow holds up nobody */
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)first, &info, WEXITED | WNOWAIT), 0);
    pid_t second = start(hold);
    until_held(2);
    CHECK_EQ(shared->told, 1);
    end(second); /* while it repairs */
    CHECK_EQ(fc_lock_take(&shared->lock, me(), LONG), EOWNERDEAD);
    CHECK(shared->lock.holder == me());
    CHECK_EQ(waitpid(first, NULL, 0), first);
    fc_lock_give(&shared->lock);
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), 0);
}

static void a_death_is_found_out_soon(void) {
    double slowest = 0, sum = 0;
    for (int i = 0; i < 20; i++) {
        fresh();
        pid_t child = start(hold);
        until_held(1);
        end(child);
        double began = now();
        CHECK_EQ(fc_lock_take(&shared->lock, me(), LONG), EOWNERDEAD);
        double took = now() - began;
        sum += took;
        slowest = took > slowest ? took : slowest;
    }
    CHECK(sum / 20 < 0.5); /* 2 ms on a machine with nothing else to do */
    if (getenv("FC_TEST_FIGURES"))
        printf("     a dead holder is replaced after %.2f ms, at most %.2f ms\n", sum / 20 * 1e3, slowest * 1e3);
}

static void another_process_of_the_same_number_is_not_the_holder(void) {
    fresh();
    shared->lock.holder = fc_lock_name(getpid(), fc_process_start(getpid()) + 1);
    CHECK_EQ(fc_lock_take(&shared->lock, me(), LONG), EOWNERDEAD);
}

static void garbage_is_the_dead(void) {
    fresh();
    const uint64_t some[] = {1,
                             UINT64_MAX,
                             UINT64_C(1) << 63,
                             UINT64_C(1) << 32,
                             fc_lock_name(INT32_MAX, 1),
                             fc_lock_name(-1, 7),
                             fc_lock_name(0, 7),
                             fc_lock_name(INT32_MIN, 7)};
    for (size_t i = 0; i < sizeof some / sizeof some[0] + 30; i++) {
        shared->lock.holder = i < sizeof some / sizeof some[0] ? some[i] : test_random() | 1;
        CHECK_EQ(fc_lock_take(&shared->lock, me(), LONG), EOWNERDEAD);
        CHECK(shared->lock.holder == me());
    }
}

static void take_once(void) {
    int rc = fc_lock_take(&shared->lock, me(), LONG);
    if (rc == EOWNERDEAD)
        shared->told++;
    else if (rc)
        return;
    shared->first++;
    fc_lock_give(&shared->lock);
    shared->finished++;
}

static void one_of_many_replaces_the_dead(void) {
    enum { MANY = 6 };
    for (int round = 0; round < 10; round++) {
        pid_t children[MANY];
        fresh();
        pid_t dead = start(hold);
        until_held(1);
        for (int i = 0; i < MANY; i++)
            children[i] = start(take_once);
        end(dead);
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(waitpid(children[i], NULL, 0), children[i]);
        CHECK_EQ(shared->told, 1);
        CHECK_EQ(shared->finished, MANY);
        CHECK_EQ(shared->first, MANY);
    }
}

static void a_child_holds_nothing(void) {
    fresh();
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), 0);
    pid_t child = start(take_once);
    usleep(20000);
    CHECK_EQ(shared->finished, 0);
    CHECK(shared->lock.holder == me());
    fc_lock_give(&shared->lock);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(shared->finished, 1);
    CHECK_EQ(shared->told, 0);
}

/* With no descriptor free nobody can be looked at, and nobody who lives is taken for dead. */
static void take_without_descriptors(void) {
    uint64_t name = me();
    const struct rlimit none = {0, 0};
    if (!setrlimit(RLIMIT_NOFILE, &none) && fc_lock_take(&shared->lock, name, 50) == ETIMEDOUT)
        shared->finished++;
}

static void who_cannot_be_looked_at_lives(void) {
    fresh();
    CHECK_EQ(fc_lock_take(&shared->lock, me(), 0), 0);
    pid_t child = start(take_without_descriptors);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(shared->finished, 1);
    CHECK(shared->lock.holder == me());
}

static void *count_up(void *name) {
    for (int i = 0; i < 20000; i++) {
        if (fc_lock_take(&shared->lock, *(uint64_t *)name, LONG))
            break;
        shared->first++;
        shared->second = shared->first;
        fc_lock_give(&shared->lock);
    }
    return NULL;
}

static void count_by_two_threads(void) {
    pthread_t other;
    uint64_t name = me();
    if (pthread_create(&other, NULL, count_up, &name))
        _exit(1);
    (void)count_up(&name);
    pthread_join(other, NULL);
}

static void one_at_a_time(void) {
    enum { MANY = 3 };
    pid_t children[MANY];
    fresh();
    for (int i = 0; i < MANY; i++)
        children[i] = start(count_by_two_threads);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(waitpid(children[i], NULL, 0), children[i]);
    CHECK_EQ(shared->first, MANY * 2 * 20000);
    CHECK_EQ(shared->second, shared->first);
}

/* Two steps under the lock; who finds them half done does the second one. */
static void step_until_killed(void) {
    uint64_t name = me();
    for (;;) {
        int rc = fc_lock_take(&shared->lock, name, LONG);
        if (rc && rc != EOWNERDEAD)
            _exit(1);
        if (rc)
            shared->second = shared->first;
        shared->told += shared->second != shared->first;
        shared->first++;
        for (volatile int i = 0; i < 200; i++)
            ;
        shared->second = shared->first;
        fc_lock_give(&shared->lock);
    }
}

static void killed_at_any_time(void) {
    enum { MANY = 3 };
    pid_t children[MANY];
    fresh();
    for (int i = 0; i < MANY; i++)
        children[i] = start(step_until_killed);
    for (int kills = 0; kills < 60; kills++) {
        usleep((useconds_t)test_below(3000));
        size_t i = test_below(MANY);
        end(children[i]);
        children[i] = start(step_until_killed);
    }
    for (int i = 0; i < MANY; i++)
        end(children[i]);
    if (fc_lock_take(&shared->lock, me(), LONG) != EOWNERDEAD)
        CHECK(shared->first == shared->second);
    CHECK(shared->first > 60);
    CHECK_EQ(shared->told, 0);
}

FC_TEST_MAIN(TEST(free_and_held), TEST(a_stopped_holder_is_waited_for_asleep),
             TEST(the_dead_are_replaced_and_told_of_until_repaired), TEST(a_death_is_found_out_soon),
             TEST(another_process_of_the_same_number_is_not_the_holder), TEST(garbage_is_the_dead),
             TEST(one_of_many_replaces_the_dead), TEST(a_child_holds_nothing), TEST(who_cannot_be_looked_at_lives),
             TEST(one_at_a_time), TEST(killed_at_any_time))
