/* Who lives. That a number comes back with another start cannot be arranged here: the system chooses the numbers. */
#include "../../src_c/fc_process.h"
#include "fc_test.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

/* A child that sleeps until it is killed; named, on Linux, as what its line of /proc must not be taken apart by. */
static pid_t sleeper(void) {
    int told[2];
    char byte;
    CHECK_EQ(pipe(told), 0);
    pid_t child = fork();
    if (!child) {
        alarm(60);
#ifdef __linux__
        prctl(PR_SET_NAME, "a) Z 1 (b");
#endif
        _exit(write(told[1], "", 1) == 1 && pause());
    }
    CHECK(child > 0);
    CHECK_EQ(read(told[0], &byte, 1), 1);
    close(told[0]);
    close(told[1]);
    return child;
}

/* Waits until it has ended, or stopped, and leaves it as it is. */
static void await(pid_t child, int what) {
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, what | WNOWAIT), 0);
}

static void a_process_has_one_start(void) {
    uint64_t mine = fc_process_start(getpid());
    pid_t child = sleeper();
    uint64_t its = fc_process_start(child);
    CHECK(mine > 0);
    CHECK_EQ(fc_process_start(getpid()), mine);
    CHECK(its >= mine);
    CHECK_EQ(fc_process_start(child), its);
    kill(child, SIGSTOP);
    await(child, WSTOPPED);
    CHECK_EQ(fc_process_start(child), its);
    kill(child, SIGKILL);
    await(child, WEXITED);
    CHECK_EQ(fc_process_start(child), 0); /* a zombie */
    CHECK_EQ(errno, ESRCH);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(fc_process_start(child), 0); /* gone */
    CHECK_EQ(errno, ESRCH);
}

static void gone_is_who_certainly_is(void) {
    int status = -1;
    pid_t child = sleeper();
    uint32_t start = (uint32_t)fc_process_start(child);
    CHECK_EQ(fc_process_gone(child, start), 0);
    CHECK_EQ(fc_process_gone(child, start + 1), 1); /* another one had the number before */
    /* A process that has no descriptor to look with takes nobody for dead. */
    pid_t blind = fork();
    if (!blind) {
        const struct rlimit none = {0, 0};
        _exit(setrlimit(RLIMIT_NOFILE, &none) || fc_process_gone(child, start));
    }
    CHECK_EQ(waitpid(blind, &status, 0), blind);
    CHECK_EQ(status, 0);
    kill(child, SIGKILL);
    await(child, WEXITED);
    CHECK_EQ(fc_process_gone(child, start), 1);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(fc_process_gone(child, start), 1);
}

static void a_number_that_no_process_has(void) {
    CHECK_EQ(fc_process_start(-1), 0);
    CHECK_EQ(fc_process_start(INT32_MAX), 0);
    CHECK_EQ(fc_process_gone(0, 0) + fc_process_gone(-1, 0) + fc_process_gone(INT32_MAX, 0), 3);
}

static void the_machine_is_the_same_for_a_child(void) {
    uint64_t boot = fc_boot_number(), space = fc_pid_space();
    int status = -1;
    CHECK(boot != 0);
#ifdef __linux__
    CHECK(space != 0);
#endif
    pid_t child = fork();
    if (!child)
        _exit(fc_boot_number() != boot || fc_pid_space() != space);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

FC_TEST_MAIN(TEST(a_process_has_one_start), TEST(gone_is_who_certainly_is), TEST(a_number_that_no_process_has),
             TEST(the_machine_is_the_same_for_a_child))
