/* Threads of one process on one handle, for ThreadSanitizer: thread_fc_shm [MESSAGES [FOLDER]].
 *
 * A thread per role sends, takes, sleeps, joins, publishes and keeps house through one handle, which any thread may use
 * at once. Every message arrives once, whole, and in the order of its sender.
 */
#include "fc_shm.h"
#include "fc_test.h"
#include "fc_wake.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SENDERS = 2, TAKERS = 2, LENGTH = 500 };

static char place[64];
static fc_shm *s;
static unsigned messages;
static _Atomic unsigned taken, failures, finished;
static _Atomic uint8_t *seen;

static fc_text text(const char *t) {
    fc_text r = {t, strlen(t)};
    return r;
}

static void *send_all(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint8_t bytes[LENGTH];
    for (uint32_t n = 0; n < messages;) {
        const uint32_t head[2] = {me, n};
        memset(bytes, (int)(n + me), sizeof bytes);
        memcpy(bytes, head, sizeof head);
        fc_status status = fc_shm_send(s, text("jobs"), bytes, sizeof bytes, 200, 60000);
        failures += status != FC_OK && status != FC_ERR_FULL;
        n += status == FC_OK;
    }
    return NULL;
}

static void *take_all(void *arg) {
    const fc_text jobs = text("jobs");
    uint64_t space[1024], used;
    uint32_t count, ready, next[SENDERS] = {0};
    fc_waiter_handle *w;
    (void)arg;
    if (fc_waiter_open(&w, s) != FC_OK) {
        failures++;
        return NULL;
    }
    while (taken < SENDERS * messages) {
        fc_status status = fc_shm_take(s, &jobs, 1, 0, 4, (uint8_t *)space, sizeof space, &used, &count);
        if (status == FC_NEED_DATA) {
            if (fc_waiter_arm(w, &jobs, 1, &ready) == FC_NEED_DATA)
                (void)fc_wake_wait(fc_waiter_fd(w), -1, 100);
            continue;
        }
        uint64_t at = 0;
        for (uint32_t i = 0; i < count; i++) {
            const fc_taken *head = (const fc_taken *)((const uint8_t *)space + at);
            const uint8_t *bytes = (const uint8_t *)(head + 1);
            uint32_t who[2];
            memcpy(who, bytes, sizeof who);
            if (head->length != LENGTH || who[0] >= SENDERS || who[1] >= messages) {
                failures++;
            } else {
                for (int k = sizeof who; k < LENGTH; k++)
                    failures += bytes[k] != (uint8_t)(who[0] + who[1]);
                failures += who[1] < next[who[0]] || atomic_exchange(&seen[who[0] * messages + who[1]], 1);
                next[who[0]] = who[1] + 1;
            }
            at += (sizeof *head + head->length + 7) & ~UINT64_C(7);
            taken++;
        }
    }
    (void)fc_waiter_disarm(w);
    fc_waiter_close(w, 0);
    return NULL;
}

static void *keep_house(void *arg) {
    const fc_text inbox = text("!a");
    uint64_t space[1024], used;
    uint32_t count, members, full;
    fc_shm_counts counts;
    (void)arg;
    while (!finished) {
        failures += fc_shm_keep(s) != FC_OK || fc_shm_count(s, &counts) != FC_OK;
        failures += fc_shm_join(s, text("g")) != FC_OK || fc_shm_mark(s, text("x.a!1"), 1) != FC_OK;
        failures += fc_shm_publish(s, (const fc_text[]){text("g")}, 1, NULL, (const uint8_t *)"hi", 2, 50, 60000,
                                   UINT64_MAX, &members, &full) != FC_OK;
        (void)fc_shm_take(s, &inbox, 1, 0, 64, (uint8_t *)space, sizeof space, &used, &count);
        failures += fc_shm_leave(s, text("g"), UINT64_MAX) != FC_OK || fc_shm_mark(s, text("x.a!1"), 0) != FC_OK;
    }
    return NULL;
}

int main(int argc, char **argv) {
    char why[FC_SHM_WHY], command[128];
    pthread_t threads[SENDERS + TAKERS], keeper;
    messages = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5000;
    seen = (_Atomic uint8_t *)calloc(SENDERS, messages);
    const char *folder = argc > 2 ? argv[2] : access("/dev/shm", W_OK) ? P_tmpdir : "/dev/shm";
    snprintf(place, sizeof place, "%s/fc_shm_thread.%d", folder, (int)getpid());
    snprintf(command, sizeof command, "rm -rf %s", place);
    if (!seen || fc_shm_open(&s, place, 1 << 20, text("a"), why) != FC_OK)
        return 2;
    CHECK_EQ(pthread_create(&keeper, NULL, keep_house, NULL), 0);
    for (uintptr_t i = 0; i < SENDERS + TAKERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, i < SENDERS ? send_all : take_all, (void *)i), 0);
    for (int i = 0; i < SENDERS + TAKERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    finished = 1;
    CHECK_EQ(pthread_join(keeper, NULL), 0);
    CHECK_EQ(failures, 0);
    CHECK_EQ(taken, SENDERS * messages);
    CHECK(fc_shm_check(s) == NULL);
    fc_shm_close(s);
    CHECK_EQ(system(command), 0);
    free((void *)seen);
    printf("%s thread_fc_shm: %u messages between %d threads\n", fc_test_failures ? "FAIL" : "ok  ", SENDERS * messages,
           SENDERS + TAKERS + 1);
    return fc_test_failures != 0;
}
