/* Processes that use one segment together are killed at random points: crash_fc_shm KILLS [SEED].
 *
 * After each death every invariant of the segment must hold at once, which takes its lock from the dead. Over the run:
 * no message is delivered twice, in another order than it was sent to one taker, or with a byte that was not sent; what
 * is missing at the end was in the hands of a dead taker; and nothing the dead held is still in use.
 */
#include "../../src_c/fc_shm_private.h"
#include "fc_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { WORKERS = 6, SIZE = 4 << 20, NUMBERS = 8192, LONGEST = 3000, MOST_KILLS = 20000 };

/* One life of a worker, in memory that survives it. */
typedef struct life {
    _Atomic uint32_t sent;             /* sends that returned; one more may have happened */
    _Atomic uint8_t seen[NUMBERS / 8]; /* which of its messages were taken */
} life;

typedef struct ledger {
    _Atomic uint32_t torn, twice, disordered;
    life lives[MOST_KILLS + WORKERS + 1];
} ledger;

static ledger *book;
static char place[64];
static uint64_t space[65536];

static fc_text text(const char *s) {
    fc_text t = {s, strlen(s)};
    return t;
}

static fc_shm *open_as(const char *id) {
    char why[FC_SHM_WHY];
    fc_shm *s = NULL;
    if (fc_shm_open(&s, place, SIZE, text(id), why) != FC_OK) {
        fprintf(stderr, "fc_shm_open: %s\n", why);
        _exit(2);
    }
    return s;
}

static void fill(uint8_t *bytes, uint32_t sender, uint32_t number, uint32_t length) {
    const uint32_t head[3] = {sender, number, length};
    memcpy(bytes, head, sizeof head);
    for (uint32_t i = sizeof head; i < length; i++)
        bytes[i] = (uint8_t)(sender * 7 + number * 13 + i);
}

/* Notes what was taken; `last` is the newest number that this taker has seen of each sender. */
static void note(const uint8_t *bytes, uint32_t length, uint32_t *last) {
    static uint8_t wanted[LONGEST];
    uint32_t head[3] = {0};
    if (length >= sizeof head)
        memcpy(head, bytes, sizeof head);
    if (head[2] != length || length > LONGEST || head[0] > MOST_KILLS + WORKERS || head[1] >= NUMBERS) {
        book->torn++;
        return;
    }
    fill(wanted, head[0], head[1], length);
    book->torn += memcmp(wanted, bytes, length) != 0;
    uint8_t bit = (uint8_t)(1 << head[1] % 8);
    book->twice += (atomic_fetch_or(&book->lives[head[0]].seen[head[1] / 8], bit) & bit) != 0;
    book->disordered += last[head[0]] > head[1];
    last[head[0]] = head[1] + 1;
}

static int take(fc_shm *s, uint32_t most, uint32_t *last) {
    const fc_text name = text("jobs");
    uint64_t used, at = 0;
    uint32_t count;
    fc_status status = fc_shm_take(s, &name, 1, 0, most, (uint8_t *)space, sizeof space, &used, &count);
    if (status != FC_OK)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const fc_taken *head = (const fc_taken *)((const uint8_t *)space + at);
        note((const uint8_t *)(head + 1) + head->target_length, head->length, last);
        at += (sizeof *head + head->length + head->target_length + 7) & ~UINT64_C(7);
    }
    return (int)count;
}

static void drop(fc_shm *s, const char *queue) {
    const fc_text name = text(queue);
    uint64_t used;
    uint32_t count;
    (void)fc_shm_take(s, &name, 1, 0, 64, (uint8_t *)space, sizeof space, &used, &count);
}

static void work(uint32_t me) {
    static uint8_t bytes[LONGEST];
    static uint32_t last[MOST_KILLS + WORKERS + 1];
    const fc_text jobs = text("jobs");
    char id[32], name[64];
    uint32_t number = 0, ready, members, full;
    fc_waiter_handle *waiter = NULL;
    fc_test_state ^= (uint64_t)me * 0x9E3779B97F4A7C15u;
    snprintf(id, sizeof id, "w%u", me);
    fc_shm *s = open_as(id);
    for (;;) {
        switch (test_below(12)) {
        case 0:
        case 1:
        case 2:
        case 3: {
            uint32_t length = (uint32_t)(12 + test_below(test_below(8) ? 400 : LONGEST - 12));
            fill(bytes, me, number, length);
            if (number < NUMBERS && fc_shm_send(s, jobs, bytes, length, 300, 60000) == FC_OK)
                book->lives[me].sent = ++number;
            break;
        }
        case 4:
        case 5:
        case 6:
            (void)take(s, 1, last); /* so that one death loses one message at most */
            break;
        case 7:
            snprintf(name, sizeof name, "g%zu", test_below(20));
            (void)(test_below(3) ? fc_shm_join(s, text(name)) : fc_shm_leave(s, text(name), UINT64_MAX));
            break;
        case 8:
            snprintf(name, sizeof name, "g%zu", test_below(20));
            (void)fc_shm_publish(s, (const fc_text[]){text(name)}, 1, NULL, bytes, test_below(900), 20, 1000,
                                 UINT64_MAX, &members, &full);
            break;
        case 9:
            snprintf(name, sizeof name, "x.%s!%zu", id, test_below(9));
            (void)fc_shm_mark(s, text(name), (int)test_below(2));
            (void)fc_shm_add_channel(s, text("g0"), text("other"), 5);
            break;
        case 10: { /* sleep a little, as a loop does */
            if (!waiter && fc_waiter_open(&waiter, s) != FC_OK)
                waiter = NULL;
            if (waiter && fc_waiter_arm(waiter, &jobs, 1, &ready) == FC_NEED_DATA)
                (void)fc_wake_wait(fc_waiter_fd(waiter), -1, 2);
            if (waiter)
                (void)fc_waiter_disarm(waiter);
            break;
        }
        default:
            snprintf(name, sizeof name, "!%s", id);
            drop(s, name);
            (void)fc_shm_keep(s);
        }
    }
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static pid_t start(fc_shm *s, uint32_t me) {
    pid_t child = fork();
    if (!child) {
        fc_shm_abandon(s);
        work(me);
    }
    return child;
}

int main(int argc, char **argv) {
    static uint32_t last[MOST_KILLS + WORKERS + 1];
    unsigned kills = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 300;
    fc_test_state ^= argc > 2 ? strtoull(argv[2], NULL, 10) << 32 : 0;
    if (kills > MOST_KILLS)
        kills = MOST_KILLS;
    book = (ledger *)mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (book == MAP_FAILED)
        return 2;
    char command[128];
    snprintf(place, sizeof place, "%s/fc_shm_crash.%d", access("/dev/shm", W_OK) ? P_tmpdir : "/dev/shm",
             (int)getpid());
    snprintf(command, sizeof command, "rm -rf %s", place);
    fc_shm *s = open_as("parent");
    fc_shm_counts counts;
    pid_t workers[WORKERS];
    uint32_t next = 1;
    uint64_t slowest = 0;
    for (int i = 0; i < WORKERS; i++)
        workers[i] = start(s, next++);
    unsigned killed = 0;
    for (; killed < kills && !fc_test_failures; killed++) {
        struct timespec pause_for = {0, (long)(200000 + test_below(3000000))};
        nanosleep(&pause_for, NULL);
        size_t victim = test_below(WORKERS);
        kill(workers[victim], SIGKILL);
        CHECK_EQ(waitpid(workers[victim], NULL, 0), workers[victim]);
        uint64_t began = now_ns();
        const char *wrong = fc_shm_check(s);
        uint64_t took = now_ns() - began;
        slowest = took > slowest ? took : slowest;
        CHECK(wrong == NULL);
        if (wrong)
            fprintf(stderr, "  after %u deaths: %s\n", killed + 1, wrong);
        CHECK_EQ(book->torn + book->twice + book->disordered, 0);
        workers[victim] = start(s, next++);
    }
    for (int i = 0; i < WORKERS; i++) {
        kill(workers[i], SIGKILL);
        waitpid(workers[i], NULL, 0);
    }
    uint64_t died = now_ns();
    do { /* as every process does, far more often than it acts */
        struct timespec pause_for = {0, 20000000};
        nanosleep(&pause_for, NULL);
        CHECK_EQ(fc_shm_keep(s), FC_OK);
        CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
    } while ((counts.processes > 1 || counts.members > 1) && now_ns() - died < UINT64_C(5000000000));
    double gone = (double)(now_ns() - died) / 1e9;
    CHECK(gone < 1.0);
    uint64_t sent = 0, taken = 0;
    while (take(s, 64, last))
        ;
    CHECK_EQ(fc_shm_discard_channel(s, text("g0"), text("other")), FC_OK);
    while (fc_shm_count(s, &counts) == FC_OK && counts.messages) /* of groups, in "other" */
        drop(s, "other");
    CHECK_EQ(fc_shm_count(s, &counts), FC_OK);
    for (uint32_t i = 1; i < next; i++) {
        sent += book->lives[i].sent;
        for (uint32_t n = 0; n < book->lives[i].sent; n++)
            taken += book->lives[i].seen[n / 8] >> n % 8 & 1;
    }
    CHECK_EQ(book->torn + book->twice + book->disordered, 0);
    CHECK(sent >= taken && sent - taken <= killed + WORKERS);
    CHECK_EQ(counts.messages + counts.room_used + counts.waiters + counts.marks + counts.members, 0);
    CHECK_EQ(counts.processes, 1);
    CHECK(fc_shm_check(s) == NULL);
    CHECK(kills < 100 || counts.recovered > 0); /* else nobody died with the lock held */
    fc_shm_close(s);
    CHECK_EQ(system(command), 0);
    printf("%s crash_fc_shm: %u killed, %llu of them holding the lock; %llu messages sent, %llu lost with their taker; "
           "slowest check %.1f ms; the last dead were gone after %.2f s\n",
           fc_test_failures ? "FAIL" : "ok  ", killed + WORKERS, (unsigned long long)counts.recovered,
           (unsigned long long)sent, (unsigned long long)(sent - taken), (double)slowest / 1e6, gone);
    return fc_test_failures != 0;
}
