/* Wake-ups through sockets, in a directory whose name fits a socket's address and in one whose name does not. */
#include "../../src_c/fc_wake.h"
#include "fc_test.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char root[64], names[2][256];

static fc_wake_place place_at(int is_long) {
    snprintf(root, sizeof root, P_tmpdir "/fc_wake_test.%d", (int)getpid());
    snprintf(names[0], sizeof names[0], "%s", root);
    snprintf(names[1], sizeof names[1], "%s/%0160d", root, 7);
    CHECK_EQ(mkdir(root, 0700), 0);
    CHECK_EQ(mkdir(names[1], 0700), 0);
    fc_wake_place place = {.path = names[is_long], .at = open(names[is_long], O_RDONLY | O_DIRECTORY)};
    CHECK(place.at >= 0);
    return place;
}

static void remove_place(const fc_wake_place *place) {
    close(place->at);
    CHECK_EQ(rmdir(names[1]), 0); /* no socket is left in it */
    CHECK_EQ(rmdir(root), 0);
}

static void each(int is_long) {
    char before[PATH_MAX], after[PATH_MAX];
    fc_wake_place place = place_at(is_long);
    int sender = fc_wake_sender();
    CHECK(sender >= 0);
    CHECK(getcwd(before, sizeof before) != NULL);

    CHECK_EQ(fc_wake_send(&place, sender, 3, 1), FC_ERR_CLOSED);
    int waiter = fc_wake_bind(&place, 3, 1), other = fc_wake_bind(&place, 4, 1);
    CHECK(waiter >= 0 && other >= 0);
    CHECK_EQ(faccessat(place.at, "w3.1", F_OK, 0), 0);
    CHECK(fcntl(waiter, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(sender, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fc_wake_wait(waiter, -1, 0), FC_NEED_DATA);
    fc_wake_drain(waiter); /* does not block */
    CHECK_EQ(fc_wake_send(&place, sender, 3, 1), FC_OK);
    CHECK_EQ(fc_wake_wait(other, -1, 0), FC_NEED_DATA);
    CHECK_EQ(fc_wake_wait(waiter, -1, 10000), FC_OK);
    CHECK_EQ(fc_wake_wait(waiter, -1, 0), FC_NEED_DATA);

    /* Whoever has a socket there is woken; a descriptor beside it is told apart, and not read. */
    fc_wake_everybody(&place, sender);
    CHECK_EQ(fc_wake_wait(waiter, other, 10000), FC_OK);
    CHECK_EQ(fc_wake_wait(waiter, other, 10000), FC_ERR_CLOSED);
    CHECK_EQ(fc_wake_wait(waiter, other, 10000), FC_ERR_CLOSED);
    CHECK_EQ(fc_wake_wait(other, -1, 0), FC_OK);
    CHECK_EQ(fc_wake_wait(waiter, other, 0), FC_NEED_DATA);

    /* Nobody reads: the sender does not wait, and does not take the waiter for dead. */
    fc_status status = FC_OK;
    for (int i = 0; i < 100000 && status == FC_OK; i++)
        status = fc_wake_send(&place, sender, 3, 1);
    CHECK_EQ(status, FC_ERR_FULL);

    /* A dead waiter leaves its file; another one of that name takes its place. */
    close(waiter);
    CHECK_EQ(fc_wake_send(&place, sender, 3, 1), FC_ERR_CLOSED);
    waiter = fc_wake_bind(&place, 3, 1);
    CHECK(waiter >= 0);
    CHECK_EQ(fc_wake_send(&place, sender, 3, 1), FC_OK);
    CHECK_EQ(fc_wake_wait(waiter, -1, 10000), FC_OK);
    fc_wake_unlink(&place, 3, 1);
    CHECK_EQ(fc_wake_send(&place, sender, 3, 1), FC_ERR_CLOSED);
    CHECK_EQ(fc_wake_send(&place, sender, 4, 1), FC_OK);
    CHECK_EQ(fc_wake_send(&place, sender, 4, 2), FC_ERR_CLOSED);

    CHECK(getcwd(after, sizeof after) != NULL);
    CHECK(strcmp(before, after) == 0);
    fc_wake_unlink(&place, 4, 1);
    close(waiter);
    close(other);
    close(sender);
    remove_place(&place);
}

static void a_short_name(void) {
    each(0);
}

static void a_long_name(void) {
    each(1);
#ifdef FC_WAKE_VISITS
    CHECK(visits > 0);
#endif
}

static void what_the_system_refuses_is_told(void) {
    fc_wake_place place = place_at(1);
    int sender = fc_wake_sender();
    CHECK_EQ(rmdir(names[1]), 0);
    CHECK_EQ(fc_wake_bind(&place, 1, 1), -1);
    CHECK(fc_wake_send(&place, sender, 1, 1) != FC_OK);
    CHECK_EQ(fc_wake_wait(-1, -1, 0), FC_NEED_DATA); /* poll(2) leaves a negative descriptor out */
    CHECK_EQ(mkdir(names[1], 0700), 0);
    close(sender);
    remove_place(&place);
}

FC_TEST_MAIN(TEST(a_short_name), TEST(a_long_name), TEST(what_the_system_refuses_is_told))
