/* The ceiling of a room: ceiling PORTS, a process for each of the comma-separated ports.
 *
 * Takes every handshake, and writes what one socket says to all of them in a loop of send(), one call each: no layer,
 * no queues, nothing parsed but the header of a short frame. What a server needs beyond this is its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORTS_MAX = 64, EVENTS = 256, SHORT = 126 };

static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static int ports[PORTS_MAX], port_count, pipes[PORTS_MAX][2];
static int *members, member_count;
static bool *open_by_fd;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void deliver(const uint8_t *frame, size_t size) {
    for (int index = 0; index < member_count; index++)
        if (send(members[index], frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
            fail("send");
}

/* What a member said: a masked frame, whole and shorter than 126 bytes. */
static void heard(int number, uint8_t *data, size_t size) {
    uint8_t frame[2 + SHORT];
    size_t length = data[1] & 0x7f;
    if (length >= SHORT || size != length + 6) {
        fprintf(stderr, "ceiling: no short frame\n");
        exit(1);
    }
    frame[0] = data[0];
    frame[1] = (uint8_t)length;
    for (size_t index = 0; index < length; index++)
        frame[2 + index] = data[6 + index] ^ data[2 + index % 4];
    for (int other = 0; other < port_count; other++)
        if (other != number && write(pipes[other][1], frame, length + 2) != (ssize_t)length + 2)
            fail("pipe");
    deliver(frame, length + 2);
}

static void watch(int poll_fd, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static void readable(int number, int poll_fd, int fd) {
    static uint8_t buffer[4096];
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got > 0 && open_by_fd[fd]) {
        heard(number, buffer, (size_t)got);
        return;
    }
    if (got <= 0) {
        epoll_ctl(poll_fd, EPOLL_CTL_DEL, fd, NULL);
        for (int index = 0; index < member_count; index++)
            if (members[index] == fd)
                members[index] = members[--member_count];
        open_by_fd[fd] = false;
        close(fd);
        return;
    }
    /* The client sends its whole handshake in one write. */
    if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0)
        fail("send");
    open_by_fd[fd] = true;
    members[member_count++] = fd;
}

static void serve(int number) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    members = calloc(files.rlim_cur, sizeof *members);
    open_by_fd = calloc(files.rlim_cur, sizeof *open_by_fd);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll_fd = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ports[number])};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (members == NULL || open_by_fd == NULL || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 2048) < 0)
        fail("listen");
    watch(poll_fd, listener);
    watch(poll_fd, pipes[number][0]);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int index = 0; index < ready; index++) {
            int fd = events[index].data.fd;
            if (fd == listener) {
                int member = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (member < 0)
                    fail("accept");
                setsockopt(member, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(poll_fd, member);
            } else if (fd == pipes[number][0]) {
                uint8_t frame[2 + SHORT];
                if (read(fd, frame, 2) != 2 || read(fd, frame + 2, frame[1]) != frame[1])
                    fail("pipe");
                deliver(frame, 2 + (size_t)frame[1]);
            } else {
                readable(number, poll_fd, fd);
            }
        }
    }
}

int main(int count, char **arguments) {
    if (count != 2)
        fail("ceiling PORTS");
    for (char *port = strtok(arguments[1], ","); port != NULL && port_count < PORTS_MAX; port = strtok(NULL, ","))
        ports[port_count++] = atoi(port);
    for (int number = 0; number < port_count; number++)
        if (pipe(pipes[number]) < 0)
            fail("pipe");
    for (int number = 1; number < port_count; number++) {
        pid_t parent = getpid();
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                return 1;
            serve(number);
        }
    }
    serve(0);
}
