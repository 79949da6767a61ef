#include "fc_wake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#ifdef __APPLE__
/* The working directory of this thread alone; -1: that of the process again. Not in the headers of every SDK. */
int pthread_fchdir_np(int fd);
#define FC_WAKE_VISITS
#endif

enum { NAME_SIZE = 24 };

static void name_of(char name[NAME_SIZE], uint32_t slot, uint32_t generation) {
    snprintf(name, NAME_SIZE, "w%x.%x", (unsigned)slot, (unsigned)generation);
}

/* sun_path is short: 108 bytes on Linux, 104 on macOS. In a directory with a longer name a socket is reached through
 * the directory's descriptor where a path leads through it (Linux), else by its bare name, by a thread that visits that
 * directory for the time of one call. Returns the directory to visit; -1: none. */
static int address_of(struct sockaddr_un *address, const fc_wake_place *place, uint32_t slot, uint32_t generation) {
    char name[NAME_SIZE];
    name_of(name, slot, generation);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", place->path, name);
    if (n >= 0 && (size_t)n < sizeof address->sun_path)
        return -1;
#ifdef FC_WAKE_VISITS
    memcpy(address->sun_path, name, sizeof name);
    return place->at;
#else
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", place->at, name);
    return -1;
#endif
}

static int visit(int directory) {
#ifdef FC_WAKE_VISITS
    if (directory >= 0)
        return pthread_fchdir_np(directory);
#endif
    return (void)directory, 0;
}

static void leave(int directory) {
#ifdef FC_WAKE_VISITS
    if (directory >= 0)
        (void)pthread_fchdir_np(-1);
#endif
    (void)directory;
}

static int datagram_socket(void) {
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0)
        return -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, O_NONBLOCK)) {
        close(fd);
        return -1;
    }
    return fd;
}

int fc_wake_sender(void) {
    return datagram_socket();
}

int fc_wake_bind(const fc_wake_place *place, uint32_t slot, uint32_t generation) {
    struct sockaddr_un address;
    int directory = address_of(&address, place, slot, generation);
    int fd = datagram_socket();
    if (fd < 0)
        return -1;
    fc_wake_unlink(place, slot, generation);
    int failed = visit(directory) || bind(fd, (struct sockaddr *)&address, sizeof address);
    int reason = errno;
    leave(directory);
    if (!failed)
        return fd;
    close(fd);
    errno = reason;
    return -1;
}

void fc_wake_unlink(const fc_wake_place *place, uint32_t slot, uint32_t generation) {
    char name[NAME_SIZE];
    name_of(name, slot, generation);
    (void)unlinkat(place->at, name, 0);
}

fc_status fc_wake_send(const fc_wake_place *place, int sender, uint32_t slot, uint32_t generation) {
    struct sockaddr_un address;
    int directory = address_of(&address, place, slot, generation);
    if (FC_UNLIKELY(visit(directory)))
        return FC_ERR_FULL;
    ssize_t n;
    do
        n = sendto(sender, "", 1, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
    while (n < 0 && errno == EINTR);
    int reason = errno;
    leave(directory);
    /* Anything else (no memory, a full queue of bytes nobody read yet) says nothing about whether it lives. */
    return n >= 0 ? FC_OK : reason == ECONNREFUSED || reason == ENOENT ? FC_ERR_CLOSED : FC_ERR_FULL;
}

void fc_wake_drain(int fd) {
    char bytes[8];
    while (recv(fd, bytes, sizeof bytes, 0) < 0 && errno == EINTR)
        ;
}

void fc_wake_everybody(const fc_wake_place *place, int sender) {
    int fd = openat(place->at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    unsigned slot, generation;
    for (const struct dirent *entry; directory && (entry = readdir(directory));)
        if (sscanf(entry->d_name, "w%x.%x", &slot, &generation) == 2)
            (void)fc_wake_send(place, sender, slot, generation);
    if (directory)
        closedir(directory);
    else if (fd >= 0)
        close(fd);
}

fc_status fc_wake_wait(int fd, int also, int timeout_ms) {
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = also, .events = POLLIN}};
    int n = poll(p, 2, timeout_ms);
    if (n > 0 && !p[0].revents)
        return FC_ERR_CLOSED;
    if (n > 0)
        fc_wake_drain(fd);
    return n > 0 ? FC_OK : n == 0 ? FC_NEED_DATA : FC_ERR_OS;
}
