/* What fc_wake.c does on macOS with sockets in directories of long names, run on Linux by the tests of test_fc_wake.c.
 *
 * In the place of macOS's call, which moves one thread, stands one that moves the process: it has no other thread. */
#include <fcntl.h>
#include <unistd.h>

static int visits;

static int visit_directory(int fd) {
    static int home = -1;
    if (home < 0 && (home = open(".", O_RDONLY | O_DIRECTORY)) < 0)
        return -1;
    visits += fd >= 0;
    return fchdir(fd >= 0 ? fd : home);
}

#define FC_WAKE_VISITS
#define pthread_fchdir_np visit_directory
#include "../../src_c/fc_wake.c"

#include "test_fc_wake.c"
