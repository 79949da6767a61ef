/* Every interleaving of a few processes on one segment, and a death at every point: model_fc_shm.
 *
 * It runs the code itself. Each process is a coroutine that gives way wherever another one could act or the machine
 * could stop it: before it takes the lock, at each store that decides what exists (of two processes; with the lock
 * held, where it can only die), before it releases the lock, before it sends a wake-up, and when it sleeps. A search
 * tries every choice at each of these points, and turns back where it has been: memory, wake-ups, and stacks of all
 * processes are the same.
 *
 * Without a death nobody sleeps while a message waits: no wake-up is lost, and one that was woken and then stopped is
 * looked after by those whose timers run. After a death the others are woken once, as their timers do, and then what
 * was sent is delivered whole, once and in the order of its sender, but for what the dead held; the segment's
 * invariants hold, and nothing of the dead is left. Deaths between any two instructions: step_fc_shm.
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

static void give_way(void);
static int model_clock(clockid_t id, struct timespec *t);
static int model_pid(void);
static void store_point(void);

#define clock_gettime model_clock
#define getpid model_pid
#undef atomic_store_explicit
#define atomic_store_explicit(at, value, order) (store_point(), __atomic_store_n(at, value, order))

#include "fc_heap.h"
/* The lock has a model of its own: here it is taken and given in one step. */
static int model_lock(fc_lock *lock, uint64_t me, uint32_t wait_ms);
static void model_unlock(fc_lock *lock);
#define fc_lock_take model_lock
#define fc_lock_give model_unlock
/* Smaller tables and stacks: there is less to compare. */
#undef FC_WAITERS
#define FC_WAITERS 64
#undef FC_PROCESSES
#define FC_PROCESSES 8

#include "fc_heap.c"
#include "fc_recover.c"
#include "fc_shm.c"
#include "fc_shm_ops.c"

#undef clock_gettime
#undef getpid

#include "fc_test.h"

enum { SLOTS = 6, MESSAGES = 3 };

typedef enum state { READY, LOCKING, ASLEEP, ENDED, DEAD } state;

typedef struct actor {
    void (*run)(int me);
    fc_shm *s;
    fc_waiter_handle *waiter;
    fc_waiter_handle waiter_then;
    state is;
    int bytes; /* wake-ups that it has not looked at */
    int ticks;
    int rests; /* no timer of it runs */
} actor;

/* A message is its sender and number. What arrived, and how many the dead may have taken with them. */
static uint8_t arrived[ACTORS][MESSAGES];
static int next_of[ACTORS][ACTORS], sent[ACTORS], held[ACTORS];

static actor actors[ACTORS];
static int count, owner, owner_died, deaths, most_deaths, stopped, ticked, wrong_order, twice, torn, setting_up = 1;

/* ------------------------------------------------------------------ the machine */

static void give_way(void) {
    if (!setting_up)
        routine_give_way();
}

static void store_point(void) {
    if (!setting_up && most_deaths > deaths && owner == running && count == 2)
        give_way();
}

static int model_lock(fc_lock *lock, uint64_t me, uint32_t wait_ms) {
    (void)lock, (void)me, (void)wait_ms;
    if (setting_up)
        return 0;
    actors[running].is = LOCKING;
    give_way();
    actors[running].is = READY;
    int died = owner_died;
    owner = running;
    return died ? EOWNERDEAD : 0;
}

static void model_unlock(fc_lock *lock) {
    (void)lock;
    if (setting_up)
        return;
    if (most_deaths > deaths)
        give_way();
    owner = -1;
    owner_died = 0;
}

static int model_clock(clockid_t id, struct timespec *t) {
    (void)id;
    t->tv_sec = 1000000 + deaths; /* so that housekeeping is due, and nothing expires */
    t->tv_nsec = 0;
    return 0;
}

static int model_pid(void) {
    return 1000 + running;
}

uint64_t fc_process_start(int pid) {
    int i = pid - 1000;
    return i >= 0 && i < ACTORS && actors[i].is != DEAD ? 7 : 0;
}

int fc_process_gone(int pid, uint32_t start) {
    return fc_process_start(pid) != start;
}

int fc_wake_sender(void) {
    return -1;
}
int fc_wake_bind(const fc_wake_place *at, uint32_t slot, uint32_t generation) {
    (void)at, (void)slot, (void)generation;
    return -1;
}
void fc_wake_unlink(const fc_wake_place *at, uint32_t slot, uint32_t generation) {
    (void)at, (void)slot, (void)generation;
}
fc_status fc_wake_send(const fc_wake_place *at, int sender, uint32_t slot, uint32_t generation) {
    (void)at, (void)sender;
    give_way();
    for (int i = 0; i < count; i++)
        if (actors[i].waiter && actors[i].waiter->slot == slot && actors[i].waiter->generation == generation &&
            actors[i].is != DEAD) {
            actors[i].bytes++;
            return FC_OK;
        }
    return FC_ERR_CLOSED;
}
void fc_shm_abandon(fc_shm *s) {
    (void)s;
}
int fc_shm_removed(const fc_shm *s) {
    return (void)s, 0;
}

/* True: woken. False: the time is over. */
static int sleep_here(int me) {
    actors[me].is = ASLEEP;
    give_way();
    actors[me].is = READY;
    if (actors[me].bytes) {
        actors[me].bytes--;
        return 1;
    }
    actors[me].ticks--;
    return 0;
}

/* ------------------------------------------------------------------ processes */

static const fc_text jobs = {"jobs", 4};

static void send_some(int me, int n) {
    for (uint8_t i = 0; i < n; i++) {
        /* Longer than a block, so that a message is a chain. */
        uint8_t bytes[400];
        memset(bytes, me * 16 + i, sizeof bytes);
        sent[me]++;
        if (fc_shm_send(actors[me].s, jobs, bytes, sizeof bytes, 100, 60000) != FC_OK)
            torn++;
    }
}

static void sender_of_one(int me) {
    send_some(me, 1);
}

static void sender_of_two(int me) {
    send_some(me, 2);
}

static int take_one(int me) {
    uint64_t space[128], used;
    uint32_t n = 0;
    held[me] = 1; /* should it die in here, one message may be gone */
    fc_status status = fc_shm_take(actors[me].s, &jobs, 1, 0, 1, (uint8_t *)space, sizeof space, &used, &n);
    held[me] = 0;
    if (status != FC_OK)
        return 0;
    const uint8_t *bytes = (const uint8_t *)((const fc_taken *)space + 1);
    int from = bytes[0] / 16, number = bytes[0] % 16;
    for (int i = 0; i < 400; i++)
        torn += bytes[i] != bytes[0];
    if (((const fc_taken *)space)->length != 400 || from >= ACTORS || number >= MESSAGES) {
        torn++;
        return 1;
    }
    twice += arrived[from][number]++ > 0;
    wrong_order += number < next_of[me][from];
    next_of[me][from] = number + 1;
    return 1;
}

/* As layers/local.py: looks, says what it waits for, sleeps; on its timer it keeps house and looks again. */
static void receiver(int me) {
    uint32_t ready;
    for (;;)
        if (!take_one(me) && fc_waiter_arm(actors[me].waiter, &jobs, 1, &ready) == FC_NEED_DATA && !sleep_here(me))
            (void)fc_shm_keep(actors[me].s);
}

/* As layers/local_loop.py: when nothing stirs it sleeps without a timer. Told, but not chosen, it has one again. */
static void receiver_that_rests(int me) {
    actor *a = &actors[me];
    uint32_t ready;
    for (;;) {
        if (take_one(me) || fc_waiter_arm(a->waiter, &jobs, 1, &ready) != FC_NEED_DATA)
            continue;
        if (fc_waiter_rest(a->waiter) == FC_OK) {
            a->rests = 1;
            int told = sleep_here(me);
            a->rests = 0;
            if (told && fc_waiter_sleeps(a->waiter) == FC_NEED_DATA)
                continue;
        }
        if (!sleep_here(me))
            (void)fc_shm_keep(a->s);
    }
}

/* Is stopped by somebody once it was woken: what it was woken for is for the others. */
static void receiver_that_is_stopped(int me) {
    uint32_t ready;
    if (fc_waiter_arm(actors[me].waiter, &jobs, 1, &ready) == FC_NEED_DATA)
        (void)sleep_here(me);
    stopped = 1;
}

/* Takes one message only, and is busy with it for ever: what it was woken for besides goes to somebody else. */
static void receiver_of_one(int me) {
    uint32_t ready;
    while (!take_one(me))
        if (fc_waiter_arm(actors[me].waiter, &jobs, 1, &ready) == FC_NEED_DATA && !sleep_here(me))
            (void)fc_shm_keep(actors[me].s);
    (void)fc_waiter_disarm(actors[me].waiter);
}

/* Gives up before a message comes, as a cancelled receive does. */
static void receiver_that_leaves(int me) {
    uint32_t ready;
    if (fc_waiter_arm(actors[me].waiter, &jobs, 1, &ready) == FC_NEED_DATA)
        give_way();
    (void)fc_waiter_disarm(actors[me].waiter);
}

static void body(int me) {
    actors[me].run(me);
    actors[me].is = ENDED;
    give_way();
}

/* ------------------------------------------------------------------ what a state is */

/* The parts of the segment that a few processes use: from `at` on, `size` bytes, in `then` as they were at the start.
 */
typedef struct part {
    uint8_t *at, *then;
    size_t size;
} part;

static part parts[2 * FC_TABLES + 1];
static int part_count;

static void add_part(uint8_t *at, size_t size) {
    part *p = &parts[part_count++];
    p->at = at;
    p->size = size;
    p->then = (uint8_t *)malloc(size);
    memcpy(p->then, at, size);
}

/* With the lock free, what the segment holds is what matters, and not in which of its blocks, which are all alike. */
static uint64_t contents(uint64_t hash) {
    fc_heap *h = &actors[0].s->heap;
    const fc_header *header = h->header;
    hash = mix(hash, header->asleep, sizeof header->asleep);
    hash = mix(hash, header->resting, sizeof header->resting);
    hash = mix(hash, &header->pushed, sizeof header->pushed);
    hash = mix(hash, &header->kept, sizeof header->kept);
    for (int t = 0; t < FC_TABLES; t++) {
        if (t == FC_BLOCKS)
            continue;
        hash = mix(hash, &header->table[t], sizeof header->table[t]);
        for (uint32_t i = 0; i < SLOTS; i++) {
            const uint8_t *at = (const uint8_t *)fc_heap_at(h, t, i);
            if (t != FC_QUEUES) {
                hash = mix(hash, at, h->region[t].stride);
                continue;
            }
            const fc_queue *q = (const fc_queue *)at;
            const uint32_t own[] = {q->named.entry.state, q->count, q->process, q->rotor, q->waits, q->members};
            hash = mix(mix(mix(hash, own, sizeof own), q->watchers, sizeof q->watchers), q->named.name, 4);
            for (uint32_t j = own[0] == FC_USED ? q->head : FC_NIL; j != FC_NIL;) {
                const fc_block *b = (const fc_block *)fc_heap_at(h, FC_BLOCKS, j);
                hash = mix(hash, b->first.data, 1);
                j = b->first.after;
            }
        }
    }
    return hash;
}

static uint64_t state_of_all(void) {
    uint64_t hash = 1;
    /* The time that passed belongs to it: a way on which it changes nothing goes on to its judge. */
    const int rest[] = {owner, owner_died, deaths, stopped, ticked, twice, wrong_order, torn};
    if (owner < 0 && !owner_died)
        hash = contents(hash);
    for (int i = 0; i < part_count && (owner >= 0 || owner_died); i++)
        hash = mix(hash, parts[i].at, parts[i].size);
    hash = mix(mix(hash, rest, sizeof rest), arrived, sizeof arrived);
    hash = mix(mix(mix(hash, next_of, sizeof next_of), sent, sizeof sent), held, sizeof held);
    for (int i = 0; i < count; i++) {
        const actor *a = &actors[i];
        const int own[] = {a->is, a->bytes, a->ticks, a->rests};
        hash = mix(hash, own, sizeof own);
        if (a->waiter)
            hash = mix(hash, a->waiter, sizeof *a->waiter);
        if (a->is != DEAD && a->is != ENDED)
            hash = routine_mix(hash, i);
    }
    return hash;
}

/* ------------------------------------------------------------------ the search */

static int can_run(const actor *a) {
    return a->is == READY || (a->is == LOCKING && owner < 0) || (a->is == ASLEEP && (a->bytes || a->ticks));
}

static void reset(void) {
    for (int i = 0; i < part_count; i++)
        memcpy(parts[i].at, parts[i].then, parts[i].size);
    memset(arrived, 0, sizeof arrived);
    memset(next_of, 0, sizeof next_of);
    memset(sent, 0, sizeof sent);
    memset(held, 0, sizeof held);
    owner = -1;
    owner_died = deaths = stopped = ticked = twice = wrong_order = torn = 0;
    for (int i = 0; i < count; i++) {
        actor *a = &actors[i];
        a->is = READY;
        a->bytes = a->ticks = a->rests = 0;
        a->s->heap.damaged = 0;
        if (a->waiter)
            *a->waiter = a->waiter_then;
        routine_start(i, body);
    }
}

static int left(void) {
    int n = 0;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < sent[i]; k++)
            n += !arrived[i][k];
    return n;
}

/* Nobody can go on. */
static const char *judge(void) {
    fc_heap *h = &actors[0].s->heap;
    int lost = 0, living = 0;
    const char *wrong = NULL;
    setting_up = 1;
    for (int i = 0; i < count; i++) {
        living += actors[i].is == ASLEEP;
        lost += actors[i].is == DEAD; /* what it had taken, or was about to send */
    }
    if (twice || torn || wrong_order)
        wrong = twice ? "delivered twice" : torn ? "not delivered whole" : "delivered out of order";
    else if (owner >= 0 || (owner_died && living))
        wrong = "the lock is still held";
    if (owner_died)
        fc_heap_recover(h); /* as the next one to come will */
    if (!wrong)
        wrong = fc_heap_check(h);
    const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, fc_heap_find(h, FC_QUEUES, jobs.at, jobs.length));
    if (!wrong && living && q && q->count)
        wrong = "somebody sleeps while a message waits";
    if (!wrong && left() - (q ? (int)q->count : 0) > lost)
        wrong = "a message is lost";
    for (int i = 0; i < count && !wrong && living; i++)
        if (actors[i].is == DEAD && fc_heap_used(h, FC_PROCS, actors[i].s->slot))
            wrong = "what the dead held is in use";
    setting_up = 0;
    return wrong;
}

/* One way through: what is wrong at its end. NULL: nothing, or it came to a state that was met before. */
static const char *walk(void) {
    reset();
    for (;;) {
        uint8_t options[2 * ACTORS];
        int n = 0;
        for (int i = 0; i < count; i++)
            if (can_run(&actors[i]))
                options[n++] = (uint8_t)i;
        if (!n) {
            if (!(deaths || stopped) || ticked++ == 4)
                return judge();
            /* Who rests is told of a death, and not of one that is stopped. */
            for (int i = 0; i < count; i++)
                actors[i].ticks += actors[i].is == ASLEEP && (deaths || !actors[i].rests);
            continue;
        }
        for (int i = 0; i < count && deaths < most_deaths; i++)
            if (actors[i].is != DEAD && actors[i].is != ENDED)
                options[n++] = (uint8_t)(ACTORS + i);
        if (met(state_of_all()))
            return NULL;
        if (depth == DEEP)
            return "a way without an end";
        uint8_t option = options[choose(n)];
        if (option >= ACTORS) {
            actor *a = &actors[option - ACTORS];
            a->is = DEAD;
            deaths++;
            if (owner == option - ACTORS) {
                owner = -1;
                owner_died = 1;
            }
            continue;
        }
        routine_resume(option);
    }
}

static void explore(const char *name, int deaths_allowed, int n, void (*const runs[])(int), const int sleeps[]) {
    char why[FC_SHM_WHY], id[2] = "a";
    setting_up = 1;
    part_count = 0;
    count = n;
    most_deaths = deaths_allowed;
    deaths = owner_died = 0;
    static fc_shm handles[ACTORS];
    static uint8_t *memory;
    uint64_t size = FC_SHM_MIN_SIZE;
    if (!memory)
        memory = (uint8_t *)aligned_alloc(4096, size);
    memset(memory, 0, size);
    for (int i = 0; i < n; i++) {
        fc_shm *s = &handles[i];
        memset(s, 0, sizeof *s);
        CHECK_EQ(fc_heap_bind(&s->heap, memory, size), FC_OK);
        s->size = size;
        s->file = s->sender = s->place.at = -1;
        if (!i)
            fc_heap_format(&s->heap, size);
        running = i;
        id[0] = (char)('a' + i);
        actors[i] = (actor){.run = runs[i], .s = s};
        CHECK_EQ(fc_shm_enrol(s, (fc_text){id, 1}, why), FC_OK);
    }
    for (int i = 0; i < n; i++) {
        if (!sleeps[i])
            continue;
        fc_heap *h = &handles[i].heap;
        fc_waiter_handle *w = (fc_waiter_handle *)calloc(1, sizeof *w);
        fc_waiter *slot = NULL;
        w->s = &handles[i];
        w->fd = -1;
        w->slot = fc_heap_take(h, FC_WAITS);
        slot = (fc_waiter *)fc_heap_at(h, FC_WAITS, w->slot);
        slot->process = handles[i].slot;
        w->generation = ++slot->generation;
        fc_heap_commit(&slot->entry);
        w->room = 4;
        w->queues = (uint32_t *)calloc(4, sizeof *w->queues);
        actors[i].waiter = w;
        actors[i].waiter_then = *w;
    }
    fc_heap *h = &handles[0].heap;
    h->header->kept = UINT64_C(1000000) * 1000000000;
    add_part(memory, sizeof(fc_header));
    for (int t = 0; t < FC_TABLES; t++) {
        const fc_region *r = &h->region[t];
        if (r->buckets)
            add_part(memory + r->buckets, ((size_t)r->bucket_mask + 1) * sizeof(uint32_t));
        add_part(memory + r->at, (size_t)(r->capacity < SLOTS ? r->capacity : SLOTS) * r->stride);
    }
    for (int i = 0; i < n; i++)
        handles[i].known = h->header->newcomers;
    setting_up = 0;
    const char *wrong = search(walk);
    CHECK(wrong == NULL);
    if (wrong)
        fprintf(stderr, "  %s: %s, after %d steps\n", name, wrong, depth);
    printf("     %s: %llu states, %llu ways\n", name, (unsigned long long)states, (unsigned long long)ways);
    for (int i = 0; i < n; i++)
        if (actors[i].waiter) {
            free(actors[i].waiter->queues);
            free(actors[i].waiter);
        }
    for (int i = 0; i < part_count; i++)
        free(parts[i].then);
}

#define EXPLORE(name, deaths, ...)                                                                                     \
    do {                                                                                                               \
        void (*const runs[])(int) = {__VA_ARGS__};                                                                     \
        int sleeps[ACTORS] = {0};                                                                                      \
        for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++)                                                      \
            sleeps[i] = runs[i] != sender_of_one && runs[i] != sender_of_two;                                          \
        if (!fc_test_failures)                                                                                         \
            explore(name, deaths, sizeof runs / sizeof runs[0], runs, sleeps);                                         \
    } while (0)

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    EXPLORE("a sender, a receiver", 0, sender_of_two, receiver);
    EXPLORE("two senders, a receiver", 0, sender_of_two, sender_of_two, receiver);
    EXPLORE("a sender, two receivers", 0, sender_of_two, receiver, receiver);
    EXPLORE("two senders, two receivers", 0, sender_of_one, sender_of_one, receiver, receiver);
    EXPLORE("a receiver that takes one and stops", 0, sender_of_two, receiver_of_one, receiver);
    EXPLORE("a receiver that gives up", 0, sender_of_two, receiver_that_leaves, receiver);
    EXPLORE("a sender, one that rests", 0, sender_of_two, receiver_that_rests);
    EXPLORE("a sender, two that rest", 0, sender_of_two, receiver_that_rests, receiver_that_rests);
    EXPLORE("one that is stopped, one that rests", 0, sender_of_two, receiver_that_is_stopped, receiver_that_rests);
    EXPLORE("one that gives up, one that rests", 0, sender_of_two, receiver_that_leaves, receiver_that_rests);
    EXPLORE("a sender, a receiver, a death", 1, sender_of_two, receiver);
    EXPLORE("two senders, a receiver, a death", 1, sender_of_one, sender_of_one, receiver);
    EXPLORE("a sender, a receiver, two deaths", 2, sender_of_two, receiver);
    EXPLORE("a sender, one that rests, a death", 1, sender_of_two, receiver_that_rests);
    EXPLORE("a sender, two receivers, a death", 1, sender_of_one, receiver, receiver);
    EXPLORE("a receiver that stops, another one, a death", 1, sender_of_two, receiver_of_one, receiver);
    printf("%s model_fc_shm: %d checks, %d failed\n", fc_test_failures ? "FAIL" : "ok  ", fc_test_checks,
           fc_test_failures);
    free(visited);
    return fc_test_failures != 0;
}
