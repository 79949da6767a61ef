#include "fc_wake.h"

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

enum { NAME_SIZE = 24 };

static void name_of(char name[NAME_SIZE], uint32_t slot, uint32_t generation) {
    snprintf(name, NAME_SIZE, "w%x.%x", (unsigned)slot, (unsigned)generation);
}

/* sun_path is short (108 bytes on Linux): a longer directory is reached through its descriptor. */
static socklen_t address_of(struct sockaddr_un *address, const fc_wake_place *place, uint32_t slot,
                            uint32_t generation) {
    char name[NAME_SIZE];
    name_of(name, slot, generation);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", place->path, name);
    if (n < 0 || (size_t)n >= sizeof address->sun_path)
        snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", place->at, name);
    return (socklen_t)sizeof *address;
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
    socklen_t length = address_of(&address, place, slot, generation);
    int fd = datagram_socket();
    if (fd < 0)
        return -1;
    fc_wake_unlink(place, slot, generation);
    if (bind(fd, (struct sockaddr *)&address, length)) {
        int reason = errno;
        close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

void fc_wake_unlink(const fc_wake_place *place, uint32_t slot, uint32_t generation) {
    char name[NAME_SIZE];
    name_of(name, slot, generation);
    (void)unlinkat(place->at, name, 0);
}

fc_status fc_wake_send(const fc_wake_place *place, int sender, uint32_t slot, uint32_t generation) {
    struct sockaddr_un address;
    socklen_t length = address_of(&address, place, slot, generation);
    for (;;) {
        if (sendto(sender, "", 1, MSG_NOSIGNAL, (struct sockaddr *)&address, length) >= 0)
            return FC_OK;
        if (errno == EINTR)
            continue;
        /* Anything else (no memory, a full queue of bytes nobody read yet) says nothing about whether it lives. */
        return errno == ECONNREFUSED || errno == ENOENT ? FC_ERR_CLOSED : FC_ERR_FULL;
    }
}

void fc_wake_drain(int fd) {
    char bytes[8];
    while (recv(fd, bytes, sizeof bytes, 0) < 0 && errno == EINTR)
        ;
}

fc_status fc_wake_wait(int fd, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, timeout_ms);
    if (n > 0)
        fc_wake_drain(fd);
    return n > 0 ? FC_OK : n == 0 ? FC_NEED_DATA : FC_ERR_OS;
}
