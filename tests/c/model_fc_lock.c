/* Every interleaving of a few threads on one lock, and their deaths at every point: model_fc_lock.
 *
 * It runs fc_lock.c itself. A thread gives way before each access to the word, before it asks whether the holder lives,
 * when it sleeps, and around what it does with the lock held; at each of these points its process may die. Who has
 * slept has waited long enough to ask whether the holder lives; nobody has waited long enough to give up. (Order of
 * memory: `make tsan`.)
 *
 * One holds the lock at a time. Whoever takes it from the dead, and nobody else, is told so; what the dead left half
 * done is repaired before anybody else is in, also when the one that repairs dies. Nobody who lives waits for the dead,
 * or for a lock that is free.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

static int model_sleep(const struct timespec *pause, struct timespec *rest);
static int model_clock(clockid_t id, struct timespec *t);

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_compare_exchange_strong_explicit
#define atomic_load_explicit(at, order) (routine_give_way(), __atomic_load_n(at, order))
#define atomic_store_explicit(at, value, order) (routine_give_way(), __atomic_store_n(at, value, order))
#define atomic_compare_exchange_strong_explicit(at, seen, value, order, other)                                         \
    (routine_give_way(), __atomic_compare_exchange_n(at, seen, value, 0, order, other))
#define nanosleep model_sleep
#define clock_gettime model_clock
#define FC_LOCK_SPINS 1 /* fewer states */

#include "fc_lock.c"

#undef clock_gettime
#undef nanosleep

#include "fc_test.h"

enum { ROUNDS = 2 };

typedef enum state { READY, ASLEEP, ENDED, DEAD } state;

/* A thread: which process it is of, and where it stands. */
static struct {
    int process;
    state is;
    int inside;
    int slept; /* since it began to wait */
    int alone; /* since it woke nobody else did anything */
} actors[ACTORS];

static int count, most_deaths, deaths, at_once;
static fc_lock word;
static int begun, done; /* what the lock guards: alike, but for who is inside or died there */
static int unrepaired;  /* somebody died with the lock held, and nobody has repaired since */
static const char *broken;

/* ------------------------------------------------------------------ the machine */

static uint64_t name_of(int process) {
    return fc_lock_name(1000 + process, 7);
}

static int process_of(uint64_t name) {
    for (int i = 0; i < count; i++)
        if (name_of(actors[i].process) == name)
            return i;
    return -1;
}

static int dead(uint64_t name) {
    int i = process_of(name);
    return i < 0 || actors[i].is == DEAD;
}

static int can_be_had(void) {
    return !word.holder || dead(word.holder);
}

static void wrong(const char *what) {
    if (!broken)
        broken = what;
}

static int model_sleep(const struct timespec *pause, struct timespec *rest) {
    (void)pause, (void)rest;
    if (actors[running].alone && can_be_had())
        wrong("what can be had is not taken");
    actors[running].is = ASLEEP;
    routine_give_way();
    actors[running].is = READY;
    actors[running].slept = actors[running].alone = 1;
    return 0;
}

static int model_clock(clockid_t id, struct timespec *t) {
    (void)id;
    *t = (struct timespec){.tv_sec = 1, .tv_nsec = actors[running].slept * 5000000};
    return 0;
}

int fc_process_gone(int pid, uint32_t start) {
    routine_give_way();
    return dead(fc_lock_name(pid, start));
}

static void die(int process) {
    deaths++;
    unrepaired |= word.holder == name_of(process);
    for (int i = 0; i < count; i++)
        if (actors[i].process == process) {
            actors[i].is = DEAD;
            actors[i].inside = 0;
        }
}

/* ------------------------------------------------------------------ threads */

static void body(int me) {
    for (int round = 0; round < ROUNDS;) {
        actors[me].slept = 0;
        int rc = fc_lock_take(&word, name_of(actors[me].process), at_once && !round ? 0 : 10000);
        if (rc == EBUSY) {
            round++;
            continue;
        }
        if (rc && rc != EOWNERDEAD)
            wrong("somebody gives up");
        for (int i = 0; i < count; i++)
            if (actors[i].inside)
                wrong("two hold the lock");
        actors[me].inside = 1;
        if ((rc == EOWNERDEAD) != unrepaired)
            wrong(rc ? "told of a death without one" : "not told of the death");
        routine_give_way();
        if (rc == EOWNERDEAD) {
            done = begun; /* the repair */
            routine_give_way();
            unrepaired = 0;
        }
        if (begun != done)
            wrong("what the dead left is not repaired");
        begun = (begun + 1) % 2;
        routine_give_way();
        done = begun;
        routine_give_way();
        actors[me].inside = 0;
        fc_lock_give(&word);
        round++;
    }
    actors[me].is = ENDED;
    routine_give_way();
}

/* ------------------------------------------------------------------ the search */

/* To wake for nothing changes nothing. */
static int can_run(int i) {
    return actors[i].is == READY || (actors[i].is == ASLEEP && can_be_had());
}

static uint64_t state_of_all(void) {
    const int rest[] = {deaths, begun, done, unrepaired};
    uint64_t hash = mix(mix(1, &word, sizeof word), rest, sizeof rest);
    for (int i = 0; i < count; i++) {
        hash = mix(hash, &actors[i], sizeof actors[i]);
        if (actors[i].is == READY || actors[i].is == ASLEEP)
            hash = routine_mix(hash, i);
    }
    return hash;
}

static const char *walk(void) {
    word.holder = 0;
    deaths = begun = done = unrepaired = 0;
    broken = NULL;
    for (int i = 0; i < count; i++) {
        actors[i].is = READY;
        actors[i].inside = actors[i].slept = actors[i].alone = 0;
        routine_start(i, body);
    }
    for (;;) {
        int options[2 * ACTORS], n = 0, waits = 0;
        for (int i = 0; i < count; i++) {
            if (can_run(i))
                options[n++] = i;
            waits += actors[i].is == READY || actors[i].is == ASLEEP;
        }
        if (broken)
            return broken;
        if (!n)
            return waits ? "somebody waits for ever" : NULL;
        for (int i = 0; i < count && deaths < most_deaths; i++)
            if (actors[i].is != DEAD && process_of(name_of(actors[i].process)) == i)
                options[n++] = ACTORS + i;
        if (met(state_of_all()))
            return NULL;
        if (depth == DEEP)
            return "a way without an end";
        int option = options[choose(n)];
        for (int i = 0; i < count; i++)
            actors[i].alone &= i == option;
        if (option < ACTORS)
            routine_resume(option);
        else
            die(actors[option - ACTORS].process);
    }
}

/* `processes`: a digit for each thread. */
static void explore(const char *name, const char *processes, int some_at_once, int deaths_allowed) {
    if (fc_test_failures)
        return;
    count = (int)strlen(processes);
    at_once = some_at_once;
    most_deaths = deaths_allowed;
    for (int i = 0; i < count; i++)
        actors[i].process = processes[i] - '0';
    const char *what = search(walk);
    CHECK(what == NULL);
    if (what)
        fprintf(stderr, "  %s: %s, after %d steps\n", name, what, depth);
    printf("     %s: %llu states, %llu ways\n", name, (unsigned long long)states, (unsigned long long)ways);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    explore("two processes", "01", 0, 0);
    explore("two processes, a death", "01", 0, 1);
    explore("two threads of a process, and another one, a death", "001", 0, 1);
    explore("three processes", "012", 0, 0);
    explore("three processes, one is not willing to wait, a death", "012", 1, 1);
    explore("three processes, two deaths", "012", 0, 2);
    printf("%s model_fc_lock: %d checks, %d failed\n", fc_test_failures ? "FAIL" : "ok  ", fc_test_checks,
           fc_test_failures);
    return fc_test_failures != 0;
}
