/* The sockets of a room, in several processes: members PORTS MEMBERS PROCESSES SECONDS PAYLOAD
 *
 * Opens MEMBERS WebSockets, spread over the comma-separated PORTS, the share of each process from a loopback address of
 * its own. Prints {"members"} when all of them have heard a message, waits for a line on standard input, and then says
 * PAYLOAD bytes again and again from one socket, each time when all have the last, for SECONDS and at least three
 * times. Prints {"count", "rounds", "seconds", "client_cpu", "lost", "p50", "p99"}: deliveries, and milliseconds from a
 * send to the last receipt. Every byte is counted. A message that some did not get within five quiet seconds ends the
 * run: those are "lost".
 *
 * About fifty handshakes are under way at once, for an ordinary channel holds a hundred messages. A process takes about
 * a microsecond a delivery, nearly all of it the kernel's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { PROCESSES_MAX = 64, PORTS_MAX = 64, ROUNDS_MAX = 1 << 20, OPENING = 48, EVENTS = 1024, PAYLOAD_MAX = 65536 };

static const double QUIET = 5.0, SETTLED = 0.2, JOIN = 120.0;
static const char handshake[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/* What the processes share. */
struct room {
    _Atomic int entered;    /* members that are in */
    _Atomic int heard;      /* members that have heard anything */
    _Atomic bool running;   /* from here on every byte is counted towards a round */
    _Atomic int pending;    /* processes whose members lack some of the message that was said last */
    _Atomic uint64_t ended; /* when the last of them had it all, ns */
    struct {
        _Alignas(64) _Atomic uint64_t bytes;
    } processes[PROCESSES_MAX]; /* what their members received */
    uint64_t rounds, lost;
    double seconds;
    float took[ROUNDS_MAX];
};

struct member {
    int8_t matched; /* of the four bytes that end the answer to the handshake; 4: in */
    bool heard;
};

static struct room *room;
static int ports[PORTS_MAX], port_count, members, processes, wake_fd, poll_fd;
static size_t payload_size, frame_size;
static char said[PAYLOAD_MAX + 14];
static size_t said_size;

static void fail(const char *what) {
    fprintf(stderr, "members: %s (%s)\n", what, errno ? strerror(errno) : "no system error");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static double now(void) {
    return (double)now_ns() / 1e9;
}

/* A masked text frame of x; the mask is zero, which the RFC leaves to the client. */
static void make_frame(void) {
    unsigned char *head = (unsigned char *)said;
    head[0] = 0x81;
    if (payload_size < 126) {
        head[1] = (unsigned char)(0x80 | payload_size);
        said_size = 2;
    } else {
        head[1] = 0xFE;
        head[2] = (unsigned char)(payload_size >> 8);
        head[3] = (unsigned char)payload_size;
        said_size = 4;
    }
    frame_size = said_size + payload_size;
    memset(said + said_size, 0, 4);
    memset(said + said_size + 4, 'x', payload_size);
    said_size += 4 + payload_size;
}

static int enter(int port, uint32_t source) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    if (fd < 0)
        fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* The port is chosen by connect, so that it need be free towards this server only. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
    return fd;
}

/* Whether the whole answer has been read; it is followed by nothing, for nobody speaks yet. */
static bool read_answer(struct member *member, const char *data, size_t size) {
    if (!member->matched && memcmp(data, "HTTP/1.1 101", size < 12 ? size : 12)) {
        fprintf(stderr, "members: refused: %.*s\n", (int)size, data);
        exit(1);
    }
    for (size_t index = 0; index < size && member->matched < 4; index++)
        member->matched =
            data[index] == "\r\n\r\n"[member->matched] ? (int8_t)(member->matched + 1) : data[index] == '\r';
    return member->matched == 4;
}

static struct member *all; /* by descriptor */
static int count, capacity, opening, speaker;
static uint64_t received, wanted; /* bytes, of this process: so far, and when the round is over */
static int number;
static bool running;

static uint64_t received_by_all(void) {
    uint64_t total = 0;
    for (int index = 0; index < processes; index++)
        total += atomic_load(&room->processes[index].bytes);
    return total;
}

static void readable(int fd) {
    static char buffer[1 << 17];
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("the server closed a socket");
    struct member *member = &all[fd];
    if (member->matched < 4) {
        if (read_answer(member, buffer, (size_t)got)) {
            opening--;
            atomic_fetch_add(&room->entered, 1);
        }
        return;
    }
    if (got >= 4 && (unsigned char)buffer[0] == 0x88) {
        fprintf(stderr, "members: closed with %d: %.*s\n", (unsigned char)buffer[2] << 8 | (unsigned char)buffer[3],
                (int)got - 4, buffer + 4);
        exit(1);
    }
    if (!member->heard) {
        member->heard = true;
        atomic_fetch_add(&room->heard, 1);
    }
    uint64_t round = (uint64_t)count * frame_size;
    if (!running && atomic_load(&room->running)) {
        running = true;
        wanted = received + round;
    }
    received += (uint64_t)got;
    atomic_store_explicit(&room->processes[number].bytes, received, memory_order_relaxed);
    if (running && received >= wanted) {
        wanted += round;
        if (atomic_fetch_sub(&room->pending, 1) == 1) {
            uint64_t one = 1;
            atomic_store(&room->ended, now_ns());
            if (write(wake_fd, &one, sizeof one) < 0)
                fail("eventfd");
        }
    }
}

/* Handle what happens within `timeout` milliseconds; true when the last process has all of the message. */
static bool turn(int timeout) {
    struct epoll_event events[EVENTS];
    bool woken = false;
    int ready = epoll_wait(poll_fd, events, EVENTS, timeout);
    for (int index = 0; index < ready; index++) {
        int fd = events[index].data.fd;
        if (fd == wake_fd) {
            uint64_t value;
            woken = read(wake_fd, &value, sizeof value) > 0;
        } else if (events[index].events & EPOLLOUT) {
            if (send(fd, handshake, sizeof handshake - 1, MSG_NOSIGNAL) != (ssize_t)sizeof handshake - 1)
                fail("no connection");
            struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
        } else {
            readable(fd);
        }
    }
    return woken;
}

static void say(void) {
    if (send(speaker, said, said_size, MSG_NOSIGNAL) != (ssize_t)said_size)
        fail("send");
}

/* Say it until everybody has heard something, and then wait until it is quiet. */
static void warm_up(void) {
    double end = now() + JOIN;
    while (atomic_load(&room->heard) < members) {
        if (now() > end)
            fail("not all members hear");
        say();
        uint64_t before = UINT64_MAX;
        while (atomic_load(&room->heard) < members && before != received_by_all()) {
            before = received_by_all();
            for (double until = now() + 2 * SETTLED; now() < until && atomic_load(&room->heard) < members;)
                turn(20);
        }
    }
    uint64_t before;
    do {
        before = received_by_all();
        for (double until = now() + SETTLED; now() < until;)
            turn(20);
    } while (before != received_by_all());
}

/* One message to all; false when some did not get it. */
static bool round_trip(void) {
    double last = now();
    uint64_t before = received_by_all(), wanted_by_all = before + (uint64_t)members * frame_size;
    atomic_store(&room->pending, processes);
    uint64_t begun = now_ns();
    say();
    while (!turn(100)) {
        if (before != received_by_all()) {
            before = received_by_all();
            last = now();
        } else if (now() > last + QUIET) {
            room->lost = (wanted_by_all - before + frame_size - 1) / frame_size;
            return false;
        }
    }
    room->took[room->rounds++] = (float)((double)(atomic_load(&room->ended) - begun) / 1e6);
    return true;
}

static void measure(double seconds) {
    double begun = now();
    while ((now() < begun + seconds || room->rounds < 3) && room->rounds < ROUNDS_MAX)
        if (!round_trip())
            break;
    room->seconds = now() - begun;
}

static void child(int to_parent, int from_parent, double seconds) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    poll_fd = epoll_create1(0);
    count = members / processes + (number < members % processes);
    capacity = count + 256;
    all = calloc((size_t)capacity, sizeof *all);
    if (poll_fd < 0 || all == NULL)
        fail("set-up");
    uint32_t source = INADDR_LOOPBACK + 1 + (uint32_t)number;
    for (int index = 0; index < count; index++) {
        while (opening >= OPENING / processes + 1)
            turn(1000);
        speaker = enter(ports[(number + index) % port_count], source);
        if (speaker >= capacity)
            fail("too large a descriptor");
        opening++;
    }
    while (opening)
        turn(1000);
    if (number) {
        for (;;)
            turn(-1);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = wake_fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, wake_fd, &event);
    for (double end = now() + JOIN; atomic_load(&room->entered) < members;) {
        if (now() > end)
            fail("not all members are in");
        turn(20);
    }
    warm_up();
    atomic_store(&room->running, true);
    if (!round_trip())
        fail("a message did not reach all");
    room->rounds = 0;
    char byte = 'r';
    if (write(to_parent, &byte, 1) != 1 || read(from_parent, &byte, 1) != 1)
        fail("pipe");
    measure(seconds);
    if (write(to_parent, &byte, 1) != 1)
        fail("pipe");
    pause();
}

static pid_t children[PROCESSES_MAX];

/* Wait for the word of the first process; end when one of them has ended. */
static void hear(int fd) {
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    char byte;
    while (poll(&waiting, 1, 100) <= 0)
        for (int index = 0; index < processes; index++)
            if (waitpid(children[index], NULL, WNOHANG) > 0)
                exit(1); /* it has said why; the others end with this one */
    if (read(fd, &byte, 1) != 1)
        exit(1);
}

static double cpu_of_all(void) {
    double total = 0;
    for (int index = 0; index < processes; index++) {
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(children[index], &clock) || clock_gettime(clock, &time))
            fail("the CPU of a process");
        total += (double)time.tv_sec + (double)time.tv_nsec / 1e9;
    }
    return total;
}

static int by_size(const void *a, const void *b) {
    float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

int main(int argument_count, char **arguments) {
    int to_parent[2], to_child[2];
    if (argument_count != 6)
        fail("members PORTS MEMBERS PROCESSES SECONDS PAYLOAD");
    for (char *port = strtok(arguments[1], ","); port != NULL && port_count < PORTS_MAX; port = strtok(NULL, ","))
        ports[port_count++] = atoi(port);
    members = atoi(arguments[2]);
    processes = atoi(arguments[3]);
    double seconds = atof(arguments[4]);
    payload_size = (size_t)atol(arguments[5]);
    if (!port_count || processes < 1 || processes > PROCESSES_MAX || members < processes || payload_size >= PAYLOAD_MAX)
        fail("numbers");
    make_frame();
    room = mmap(NULL, sizeof *room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    if (room == MAP_FAILED || wake_fd < 0 || pipe(to_parent) || pipe(to_child))
        fail("set-up");
    for (number = 0; number < processes; number++) {
        children[number] = fork();
        if (children[number] < 0)
            fail("fork");
        if (!children[number])
            child(to_parent[1], to_child[0], seconds);
    }
    hear(to_parent[0]);
    printf("{\"members\": %d}\n", members);
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    double cpu = cpu_of_all();
    if (write(to_child[1], "g", 1) != 1)
        fail("pipe");
    hear(to_parent[0]);
    cpu = cpu_of_all() - cpu;
    qsort(room->took, room->rounds, sizeof *room->took, by_size);
    printf("{\"count\": %llu, \"rounds\": %llu, \"seconds\": %.6f, \"client_cpu\": %.6f, \"lost\": %llu",
           (unsigned long long)(room->rounds * (uint64_t)members), (unsigned long long)room->rounds, room->seconds, cpu,
           (unsigned long long)room->lost);
    if (room->rounds)
        printf(", \"p50\": %.4f, \"p99\": %.4f", (double)room->took[room->rounds / 2],
               (double)room->took[room->rounds * 99 / 100]);
    printf("}\n");
    fflush(stdout);
    for (int index = 0; index < processes; index++)
        kill(children[index], SIGKILL);
    return 0;
}
