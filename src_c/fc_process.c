#include "fc_process.h"

#include <errno.h>

#ifdef __APPLE__

#include <sys/proc.h>
#include <sys/sysctl.h>

uint64_t fc_process_start(int pid) {
    int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, pid};
    struct kinfo_proc info;
    size_t size = sizeof info;
    if (sysctl(name, 4, &info, &size, NULL, 0))
        return 0;
    /* Nothing is written, and nothing fails, when there is no such process. */
    if (size < sizeof info || info.kp_proc.p_stat == SZOMB)
        return errno = ESRCH, 0;
    return (uint64_t)info.kp_proc.p_starttime.tv_sec * 1000000 + (uint64_t)info.kp_proc.p_starttime.tv_usec;
}

/* Not kern.boottime, which moves when somebody sets the clock. */
static size_t boot_text(char *out, size_t size) {
    return sysctlbyname("kern.bootsessionuuid", out, &size, NULL, 0) ? 0 : size;
}

uint64_t fc_pid_space(void) {
    return 0;
}

#else

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t read_small(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    int reason = errno;
    if (fd >= 0)
        close(fd);
    errno = reason;
    out[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

uint64_t fc_process_start(int pid) {
    char path[40], text[1024];
    if (pid <= 0)
        return errno = ESRCH, 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_small(path, text, sizeof text)) {
        /* No file: gone; or there is no /proc here (any more), or it hides the process. The errno of kill() tells. */
        if (errno == ENOENT)
            (void)kill(pid, 0);
        return 0;
    }
    /* proc_pid_stat(5): the command (field 2) may hold anything, so count from its closing bracket. */
    char *at = strrchr(text, ')');
    if (at && at[1] == ' ' && (at[2] == 'Z' || at[2] == 'X'))
        return errno = ESRCH, 0;
    for (int field = 2; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : (errno = EIO, 0);
}

static size_t boot_text(char *out, size_t size) {
    return read_small("/proc/sys/kernel/random/boot_id", out, size);
}

uint64_t fc_pid_space(void) {
    struct stat st;
    return stat("/proc/self/ns/pid", &st) ? 0 : (uint64_t)st.st_ino;
}

#endif

int fc_process_gone(int pid, uint32_t start) {
    uint64_t found = fc_process_start(pid);
    return found ? (uint32_t)found != start : errno == ESRCH;
}

uint64_t fc_boot_number(void) {
    char text[64];
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t n = boot_text(text, sizeof text);
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return n ? hash : 0;
}
