/* Death at every instruction: each operation of the segment runs in a child that is stepped one machine instruction at
 * a time; after each step the segment is copied as it would be left by a death there.
 *
 * With the lock held the copy must recover to a whole segment, without it must be whole as it is; and what a reader
 * would find must be what was there before the operation or what is there after it, nothing in between (for an
 * operation on many queues: each queue by itself). Deaths during the recovery are tried at every STRIDEth instruction.
 */
#include "../../src_c/fc_shm_private.h"
#include "fc_test.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { SIZE = 1 << 20, QUEUES = 4096, STRIDE = 1999 };

static char place[64];
static uint8_t *copy;
static uint64_t space[8192];

static fc_text text(const char *s) {
    fc_text t = {s, strlen(s)};
    return t;
}

/* ------------------------------------------------------------------ what a reader would find */

typedef struct sight {
    uint64_t queue[QUEUES]; /* by hash of the name: what waits in it, in order */
    uint64_t rest;          /* memberships and marks */
} sight;

static uint64_t mix(uint64_t hash, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void look(fc_heap *h, sight *out) {
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < h->header->table[FC_QUEUES].fresh; i++) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, i);
        uint64_t hash = 1;
        for (uint32_t j = q ? q->head : FC_NIL; j != FC_NIL;) {
            const fc_block *b = (const fc_block *)fc_heap_at(h, FC_BLOCKS, j);
            hash = mix(hash, &b->first.kind, 1);
            CHECK_EQ(fc_heap_copy(h, b, (uint8_t *)space), FC_OK);
            hash = mix(hash, space, (size_t)b->first.length + b->first.target_length);
            j = b->first.after;
        }
        if (q && hash != 1)
            out->queue[q->named.entry.hash % QUEUES] += hash;
    }
    for (uint32_t i = 0; i < h->header->table[FC_MEMBERS].fresh; i++) {
        const fc_member *m = (const fc_member *)fc_heap_used(h, FC_MEMBERS, i);
        const fc_group *g = m ? (const fc_group *)fc_heap_used(h, FC_GROUPS, m->group) : NULL;
        if (g)
            out->rest += mix(mix(mix(7, g->named.name, g->named.length), &m->kind, 4), &m->target, 4);
    }
    for (uint32_t i = 0; i < h->header->table[FC_MARKED].fresh; i++) {
        const fc_mark *m = (const fc_mark *)fc_heap_used(h, FC_MARKED, i);
        if (m)
            out->rest += mix(9, &m->entry.hash, 8);
    }
}

static void bind_copy(fc_heap *h) {
    CHECK_EQ(fc_heap_bind(h, copy, SIZE), FC_OK);
}

/* ------------------------------------------------------------------ operations */

static const uint8_t bytes[1000] = "what is sent";
/* ONE: all or nothing. MANY: several queues, each all or nothing. PIECES: whole in between, no more (a flush). */
enum { ONE, MANY, PIECES };

static void op_send(fc_shm *s) {
    (void)fc_shm_send(s, text("jobs"), bytes, sizeof bytes, 100, 60000);
}
static void op_send_new(fc_shm *s) {
    (void)fc_shm_send(s, text("new"), bytes, 10, 100, 60000);
}
static void op_send_local(fc_shm *s) {
    (void)fc_shm_send_local(s, text("a"), text("x.a!1"), bytes, 10, 100, 60000);
}
static void op_take(fc_shm *s) {
    const fc_text name = text("jobs");
    uint64_t used;
    uint32_t count;
    (void)fc_shm_take(s, &name, 1, 0, 1, (uint8_t *)space, sizeof space, &used, &count);
}
static void op_join(fc_shm *s) {
    (void)fc_shm_join(s, text("h"));
}
static void op_leave(fc_shm *s) {
    (void)fc_shm_leave(s, text("g"), UINT64_MAX);
}
static void op_mark(fc_shm *s) {
    (void)fc_shm_mark(s, text("x.b!1"), 1);
}
static void op_add(fc_shm *s) {
    (void)fc_shm_add(s, text("h"), text("a"), text("x.a!1"), 100);
}
static void op_add_channel(fc_shm *s) {
    (void)fc_shm_add_channel(s, text("g"), text("fresh"), 5);
}
static void op_discard_channel(fc_shm *s) {
    (void)fc_shm_discard_channel(s, text("g"), text("jobs"));
}
static void op_publish(fc_shm *s) {
    uint32_t members, full;
    (void)fc_shm_publish(s, (const fc_text[]){text("g")}, 1, NULL, bytes, 300, 100, 60000, UINT64_MAX, &members, &full);
}
static void op_arm(fc_shm *s) {
    fc_waiter_handle *w;
    const fc_text names[] = {text("quiet"), text("still")};
    uint32_t ready;
    if (fc_waiter_open(&w, s) == FC_OK) {
        (void)fc_waiter_arm(w, names, 2, &ready);
        (void)fc_waiter_disarm(w);
        fc_waiter_close(w, 0);
    }
}
static void op_wipe(fc_shm *s) {
    (void)fc_shm_wipe(s);
}
static void op_recover(fc_shm *s) {
    fc_wakes w;
    if (fc_shm_enter(s, &w) == FC_OK) {
        s->heap.damaged = 1; /* what a dead holder of the lock leads to */
        (void)fc_shm_exit(s, &w, FC_OK);
    }
}

/* ------------------------------------------------------------------ stepping */

static fc_shm *open_as(const char *id) {
    char why[FC_SHM_WHY];
    fc_shm *s = NULL;
    if (fc_shm_open(&s, place, SIZE, text(id), why) != FC_OK) {
        fprintf(stderr, "fc_shm_open: %s\n", why);
        _exit(2);
    }
    return s;
}

static uint64_t total_steps, total_deaths;

/* The copy was taken at a death. */
static void judge(const char *name, int held, int extent, const sight *before, const sight *after) {
    static sight found;
    fc_heap h;
    bind_copy(&h);
    if (held)
        fc_heap_recover(&h);
    const char *wrong = fc_heap_check(&h);
    CHECK(wrong == NULL);
    if (wrong) {
        fprintf(stderr, "  %s, step %llu: %s\n", name, (unsigned long long)total_steps, wrong);
        return;
    }
    look(&h, &found);
    int old = 1, new = 1, strange = 0;
    for (int i = 0; i < QUEUES; i++) {
        old &= found.queue[i] == before->queue[i];
        new &= found.queue[i] == after->queue[i];
        strange |= found.queue[i] != before->queue[i] && found.queue[i] != after->queue[i];
    }
    CHECK(!strange || extent == PIECES);
    if (extent == ONE) {
        CHECK(old | new);
        CHECK(found.rest == before->rest || found.rest == after->rest);
    }
}

static void run(const char *name, void (*op)(fc_shm *), int extent, unsigned stride) {
    static sight before, after;
    uint64_t used;
    uint32_t count;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", place);
    fc_shm *a = open_as("a"), *b = open_as("b");
    for (int i = 0; i < 5; i++)
        CHECK_EQ(fc_shm_send(a, text("jobs"), bytes + i, 20 + 150 * (uint64_t)i, 100, 60000), FC_OK);
    CHECK_EQ(fc_shm_join(a, text("g")), FC_OK);
    CHECK_EQ(fc_shm_join(b, text("g")), FC_OK);
    CHECK_EQ(fc_shm_add_channel(a, text("g"), text("jobs"), 100), FC_OK);
    const fc_text jobs = text("jobs");
    CHECK_EQ(fc_shm_take(a, &jobs, 1, 0, 1, (uint8_t *)space, sizeof space, &used, &count), FC_OK);
    look(&a->heap, &before);
    /* The child's marks, joins and waiters are those of `b`: it goes on with the handle it inherits. */
    pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        op(b);
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    /* First to the end, in a copy of the whole: what it comes to. */
    static uint8_t *start;
    if (!start)
        start = (uint8_t *)malloc(SIZE);
    memcpy(start, a->heap.base, SIZE);
    op(b);
    look(&a->heap, &after);
    memcpy(a->heap.base, start, SIZE);
    uint64_t steps = 0, deaths = 0;
    memset(copy, 0, SIZE);
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, child, 0, 0) || waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
            WSTOPSIG(status) == SIGSTOP)
            break;
        steps++;
        total_steps++;
        if (steps % stride)
            continue;
        deaths++;
        memcpy(copy, a->heap.base, SIZE);
        judge(name, a->heap.header->lock.holder != 0, extent, &before, &after);
        if (fc_test_failures)
            break;
    }
    CHECK(steps > 100);
    total_deaths += deaths;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fc_shm_abandon(a);
    fc_shm_abandon(b);
    CHECK_EQ(system(command), 0);
}

int main(void) {
    copy = (uint8_t *)aligned_alloc(4096, SIZE);
    snprintf(place, sizeof place, "%s/fc_shm_step.%d", access("/dev/shm", W_OK) ? P_tmpdir : "/dev/shm", (int)getpid());
    const struct {
        const char *name;
        void (*op)(fc_shm *);
        int extent;
        unsigned stride;
    } ops[] = {{"send", op_send, ONE, 1},
               {"send to a new channel", op_send_new, ONE, 1},
               {"send to an inbox", op_send_local, ONE, 1},
               {"take", op_take, ONE, 1},
               {"join", op_join, ONE, 1},
               {"leave", op_leave, ONE, 1},
               {"mark", op_mark, ONE, 1},
               {"add", op_add, MANY, 1},
               {"add a channel", op_add_channel, ONE, 1},
               {"discard a channel", op_discard_channel, ONE, 1},
               {"publish", op_publish, MANY, 1},
               {"sleep", op_arm, ONE, 1},
               {"wipe", op_wipe, PIECES, 1},
               {"recover", op_recover, ONE, STRIDE}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0] && !fc_test_failures; i++)
        run(ops[i].name, ops[i].op, ops[i].extent, ops[i].stride);
    printf("%s step_fc_shm: %llu instructions of %zu operations, a death at %llu of them, %d checks, %d failed\n",
           fc_test_failures ? "FAIL" : "ok  ", (unsigned long long)total_steps, sizeof ops / sizeof ops[0],
           (unsigned long long)total_deaths, fc_test_checks, fc_test_failures);
    free(copy);
    return fc_test_failures != 0;
}
