/* A load generator that costs little beside a server: epoll, one thread, messages made beforehand.
 *
 *   load PORT KIND CONNECTIONS IN_FLIGHT SECONDS < messages
 *
 * Standard input holds blobs, each behind its length (32 bits, host order): first what opens a connection (a WebSocket
 * handshake, or nothing), then the messages, which each connection sends in turn, IN_FLIGHT of them unanswered at any
 * time.
 *
 *   http    answers are HTTP responses with Content-Length or chunks; where the server closes, the next one connects
 *   ws      answers are WebSocket messages: frames with FIN that are no control frames
 *   raw     answers are as long as the message was
 *   accept  no messages: connect, open, wait for the 101, reset, again
 *   idle    one message each, then hold all connections open until a signal ends the process
 *
 * Prints {"started": true} when all run warm (idle: when all are answered), then {"count", "seconds", "client_cpu"},
 * and with one message in flight {"p50", "p99"}, in milliseconds from the write of a message to the end of its answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 4096, MESSAGES_MAX = 4096, VECTORS = 32, WAITS = 1000000, WAITS_A_MS = 100 };
enum kind { HTTP, WS, RAW, ACCEPT, IDLE };

struct blob {
    char *data;
    size_t size;
};

struct connection {
    int fd;
    bool open;     /* the opening was answered */
    bool blocked;  /* waits until it may write */
    bool chunked;  /* the response being read is */
    bool final;    /* the frame being read ends a message */
    bool closes;   /* the response being read is the last */
    double asked;  /* when the last message, or this connection, was begun */
    int to_send;   /* messages that may still leave */
    size_t next;   /* the message that leaves next */
    size_t offset; /* bytes of it that have left; of the opening, while that leaves */
    uint64_t skip; /* bytes of the answer's payload still to come */
    size_t held;   /* bytes in head */
    uint64_t answered;
    char head[HEAD_MAX]; /* what was read of a head, and no more */
};

static enum kind kind;
static int port, in_flight, poll_fd;
static struct blob opening, messages[MESSAGES_MAX];
static size_t message_count;
static uint64_t answered, opened;
static uint64_t waits[WAITS]; /* answers by the time they took */

static void fail(const char *what) {
    fprintf(stderr, "load: %s (%s)\n", what, errno ? strerror(errno) : "no system error");
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool read_blob(struct blob *blob) {
    uint32_t size;
    if (fread(&size, sizeof size, 1, stdin) != 1)
        return false;
    blob->size = size;
    blob->data = malloc(size + 1);
    if (blob->data == NULL || fread(blob->data, 1, size, stdin) != size)
        fail("a message that is cut off");
    return true;
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poll_fd, operation, c->fd, &event) < 0)
        fail("epoll_ctl");
}

static void start(struct connection *c) {
    int one = 1;
    memset(c, 0, offsetof(struct connection, head));
    c->asked = now(CLOCK_MONOTONIC);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
    c->open = opening.size == 0;
    c->to_send = c->open ? in_flight : 0;
    c->blocked = true;
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void reset(struct connection *c) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(c->fd);
}

/* Write what may leave; ask for EPOLLOUT when the socket is full. */
static void flush(struct connection *c) {
    bool full = false;
    if (!c->open && c->offset < opening.size) {
        ssize_t sent = send(c->fd, opening.data + c->offset, opening.size - c->offset, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            fail("send");
        if (sent > 0)
            c->offset += (size_t)sent;
        full = c->offset < opening.size;
    }
    while (c->open && c->to_send > 0 && !full) {
        struct iovec vectors[VECTORS];
        int count = 0;
        size_t total = 0;
        for (size_t index = c->next; count < VECTORS && count < c->to_send; count++) {
            size_t gone = count ? 0 : c->offset;
            vectors[count].iov_base = messages[index].data + gone;
            vectors[count].iov_len = messages[index].size - gone;
            total += vectors[count].iov_len;
            index = (index + 1) % message_count;
        }
        ssize_t sent = writev(c->fd, vectors, count);
        if (sent < 0 && errno != EAGAIN)
            fail("writev");
        full = sent < (ssize_t)total;
        while (sent > 0) {
            size_t left = messages[c->next].size - c->offset;
            if ((size_t)sent < left) {
                c->offset += (size_t)sent;
                break;
            }
            sent -= (ssize_t)left;
            c->offset = 0;
            c->next = (c->next + 1) % message_count;
            c->to_send--;
        }
    }
    if (full != c->blocked) {
        watch(c, EPOLL_CTL_MOD, full ? EPOLLIN | EPOLLOUT : EPOLLIN);
        c->blocked = full;
    }
}

static void answer(struct connection *c) {
    answered++;
    c->answered++;
    if (in_flight == 1) {
        double time = now(CLOCK_MONOTONIC), bucket = (time - c->asked) * 1e3 * WAITS_A_MS;
        waits[bucket < WAITS - 1 ? (size_t)bucket : WAITS - 1]++;
        c->asked = time; /* the next leaves at once */
    }
    if (kind != IDLE)
        c->to_send++;
}

/* Take bytes into the head until END is in it; return those taken, and whether the head is whole in *whole. */
static size_t take_head(struct connection *c, const char *data, size_t size, const char *end, bool *whole) {
    size_t before = c->held, length = strlen(end);
    size_t taken = size < HEAD_MAX - 1 - before ? size : HEAD_MAX - 1 - before;
    memcpy(c->head + before, data, taken);
    size_t from = before > length ? before - length : 0;
    char *found = memmem(c->head + from, before + taken - from, end, length);
    *whole = found != NULL;
    if (found == NULL) {
        c->held += taken;
        if (c->held == HEAD_MAX - 1)
            fail("an answer with too large a head");
        return taken;
    }
    c->held = 0;
    size_t used = (size_t)(found - c->head) + length;
    c->head[used] = 0;
    return used - before;
}

static size_t read_http(struct connection *c, const char *data, size_t size) {
    bool whole;
    if (c->skip) {
        size_t part = c->skip < size ? (size_t)c->skip : size;
        c->skip -= part;
        if (!c->skip && !c->chunked)
            answer(c);
        return part;
    }
    if (c->chunked) {
        size_t used = take_head(c, data, size, "\r\n", &whole);
        if (whole) {
            uint64_t length = strtoull(c->head, NULL, 16);
            c->skip = length + 2;
            if (!length)
                c->chunked = false;
        }
        return used;
    }
    size_t used = take_head(c, data, size, "\r\n\r\n", &whole);
    if (whole) {
        if (memcmp(c->head, "HTTP/1.1 200", 12))
            fail(c->head);
        c->closes = strcasestr(c->head, "connection: close") != NULL;
        char *length = strcasestr(c->head, "content-length:");
        c->chunked = length == NULL;
        if (length != NULL) {
            c->skip = strtoull(length + 15, NULL, 10);
            if (!c->skip)
                answer(c);
        }
    }
    return used;
}

static size_t read_ws(struct connection *c, const char *data, size_t size) {
    if (c->skip) {
        size_t part = c->skip < size ? (size_t)c->skip : size;
        c->skip -= part;
        if (!c->skip && c->final)
            answer(c);
        return part;
    }
    size_t used = 0;
    while (used < size) {
        c->head[c->held++] = data[used++];
        const unsigned char *head = (const unsigned char *)c->head;
        size_t need = c->held < 2 || head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
        if (c->held < need)
            continue;
        if ((head[0] & 15) == 8)
            fail("the server closed a socket");
        c->final = (head[0] & 0x88) == 0x80;
        c->skip = head[1] & 0x7f;
        if (need > 2) {
            c->skip = 0;
            for (size_t index = 2; index < need; index++)
                c->skip = c->skip << 8 | head[index];
        }
        c->held = 0;
        if (!c->skip && c->final)
            answer(c);
        break;
    }
    return used;
}

static size_t read_raw(struct connection *c, const char *data, size_t size) {
    (void)data;
    c->skip += size;
    for (; c->skip >= messages[0].size; c->skip -= messages[0].size)
        answer(c);
    return size;
}

static void readable(struct connection *c) {
    static char buffer[1 << 18];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("the server closed a connection");
    size_t size = (size_t)got, used = 0;
    while (used < size) {
        if (!c->open) {
            bool whole;
            used += take_head(c, buffer + used, size - used, "\r\n\r\n", &whole);
            if (!whole)
                continue;
            if (memcmp(c->head, "HTTP/1.1 101", 12))
                fail(c->head);
            if (memmem(opening.data, opening.size, "deflate", 7) && !strstr(c->head, "deflate"))
                fail("no deflate");
            opened++;
            if (kind == ACCEPT) {
                answered++;
                reset(c);
                start(c);
                return;
            }
            c->open = true;
            c->offset = 0;
            c->to_send = in_flight;
        } else if (kind == HTTP) {
            uint64_t before = c->answered;
            used += read_http(c, buffer + used, size - used);
            if (c->closes && c->answered > before) {
                reset(c);
                start(c);
                return;
            }
        } else if (kind == RAW) {
            used += read_raw(c, buffer + used, size - used);
        } else {
            used += read_ws(c, buffer + used, size - used);
        }
    }
    flush(c);
}

static void run_until(double end, uint64_t count) {
    struct epoll_event events[256];
    while (now(CLOCK_MONOTONIC) < end && answered < count) {
        int ready = epoll_wait(poll_fd, events, 256, 50);
        for (int index = 0; index < ready; index++) {
            struct connection *c = events[index].data.ptr;
            if (events[index].events & EPOLLOUT)
                flush(c);
            if (events[index].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                readable(c);
        }
    }
}

/* The milliseconds within which a part of the answers came. */
static double within(double part) {
    uint64_t total = 0, passed = 0;
    for (size_t index = 0; index < WAITS; index++)
        total += waits[index];
    for (size_t index = 0; index < WAITS; index++)
        if ((double)(passed += waits[index]) >= part * (double)total)
            return (double)(index + 1) / WAITS_A_MS;
    return 0;
}

int main(int count, char **arguments) {
    static const char *const kinds[] = {"http", "ws", "raw", "accept", "idle"};
    if (count != 6)
        fail("load PORT KIND CONNECTIONS IN_FLIGHT SECONDS < messages");
    port = atoi(arguments[1]);
    kind = HTTP;
    while (strcmp(kinds[kind], arguments[2]))
        if (++kind > IDLE)
            fail("no such kind of load");
    int connections = atoi(arguments[3]);
    in_flight = atoi(arguments[4]);
    double seconds = atof(arguments[5]);
    if (!read_blob(&opening))
        fail("no messages");
    while (message_count < MESSAGES_MAX && read_blob(&messages[message_count]))
        message_count++;
    poll_fd = epoll_create1(0);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (poll_fd < 0 || all == NULL)
        fail("set-up");
    double begin = now(CLOCK_MONOTONIC);
    for (int index = 0; index < connections; index++) {
        all[index].next = 0;
        start(&all[index]);
        /* A backlog is finite: let the server take some before the next. */
        if (index % 100 == 99)
            run_until(now(CLOCK_MONOTONIC) + (kind == IDLE ? 0.02 : 0.0), UINT64_MAX);
    }
    if (kind == IDLE) {
        run_until(begin + 60, (uint64_t)connections);
        if (answered < (uint64_t)connections)
            fail("not all were answered in 60 s");
        printf("{\"started\": true}\n");
        fflush(stdout);
        pause();
        return 0;
    }
    run_until(now(CLOCK_MONOTONIC) + 0.3, UINT64_MAX);
    if (!answered)
        run_until(now(CLOCK_MONOTONIC) + 5, 1);
    if (!answered)
        fail("no answer in 5 s");
    printf("{\"started\": true}\n");
    fflush(stdout);
    uint64_t before = answered;
    memset(waits, 0, sizeof waits);
    double start_time = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    run_until(start_time + seconds, UINT64_MAX);
    double elapsed = now(CLOCK_MONOTONIC) - start_time;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    uint64_t done = answered - before;
    printf("{\"count\": %llu, \"seconds\": %.6f, \"client_cpu\": %.6f", (unsigned long long)done, elapsed, cpu);
    if (in_flight == 1 && done)
        printf(", \"p50\": %.3f, \"p99\": %.3f", within(0.5), within(0.99));
    printf("}\n");
    fflush(stdout);
    return 0;
}
