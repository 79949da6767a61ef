/* The shared segment alone, without Python: bench_shm SECONDS; prints one JSON record.
 *
 * "alone": one thread sends 256-byte messages and takes them in batches of 64. "apart": one process sends, another
 * takes in batches. In messages a second.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src_c/fc_shm.h"

enum { LENGTH = 256, BATCH = 64 };

static uint64_t space[16384];
static const fc_text jobs = {"jobs", 4};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t take(fc_shm *s) {
    uint64_t used;
    uint32_t count;
    (void)fc_shm_take(s, &jobs, 1, 0, BATCH, (uint8_t *)space, sizeof space, &used, &count);
    return count;
}

static fc_shm *open_as(const char *place, const char *id) {
    char why[FC_SHM_WHY];
    const fc_text name = {id, strlen(id)};
    fc_shm *s;
    if (fc_shm_open(&s, place, 64 << 20, name, why) != FC_OK) {
        fprintf(stderr, "%s\n", why);
        exit(2);
    }
    return s;
}

int main(int argc, char **argv) {
    static const uint8_t bytes[LENGTH] = "message";
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    char place[64], command[128];
    snprintf(place, sizeof place, "%s/fc_shm_bench.%d", access("/dev/shm", W_OK) ? P_tmpdir : "/dev/shm",
             (int)getpid());
    snprintf(command, sizeof command, "rm -rf %s", place);
    fc_shm *s = open_as(place, "a");
    uint64_t done = 0;
    double began = now();
    while (now() - began < seconds) {
        for (int i = 0; i < BATCH; i++)
            (void)fc_shm_send(s, jobs, bytes, LENGTH, 100000, 60000);
        done += take(s);
    }
    double alone = (double)done / (now() - began);

    pid_t child = fork();
    if (!child) {
        fc_shm_abandon(s);
        s = open_as(place, "b");
        for (;;)
            (void)fc_shm_send(s, jobs, bytes, LENGTH, 10000, 60000);
    }
    while (!take(s))
        ;
    done = 0;
    began = now();
    while (now() - began < seconds)
        done += take(s);
    double apart = (double)done / (now() - began);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fc_shm_close(s);
    printf("{\"alone\": %.0f, \"apart\": %.0f}\n", alone, apart);
    return system(command);
}
