/*
 * proxy.c - a small TCP proxy that loses and delays single messages of Kafka and of Postgres.
 *
 *   fault-proxy kafka|postgres LISTEN UPSTREAM     loopback ports; LISTEN 0: any free one
 *
 * It prints "port N" on stdout, then one line for each fault that has struck. Commands come on
 * stdin, one a line; when stdin ends, so does the proxy:
 *   drop-reply commit    the next COMMIT reaches Postgres, its reply does not come back
 *   drop-reply endtxn    the same for Kafka's EndTxn; both sides are cut instead of the reply
 *   delay endtxn MS      the client is cut at once, its EndTxn reaches the broker MS later
 *   hold endtxn MS       the same, but the client stays connected and waits
 *   half-open MS         nothing moves in any direction for MS; then all connections are cut
 *   cut                  all connections are cut
 *   forget               what was ordered and has not struck yet is called off
 *
 * One process, one thread, one poll loop. Owns its sockets. It knows just enough of the two
 * protocols to find the edges of messages, and no TLS. It has no tests of
 * its own; tests/fault/run counts drops and delays by what it says has struck.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LINKS_MAX = 512,
    READ_BYTES = 65536,
    QUEUE_MAX = 1 << 20, /* what waits to be written before no more is read */
    SMALL = 512,         /* a message that we act on is never longer */
    REPLY_MS = 5000,     /* how long the reply of a delayed request is waited for */
    KAFKA_END_TXN = 26
};

enum side { CLIENT, SERVER, SIDES };

struct bytes {
    uint8_t *ptr;
    size_t len, cap;
};

/* What comes from one side and goes to the other. */
struct flow {
    struct bytes in, out; /* not yet understood; not yet written */
    uint64_t skip;        /* of a message that does not matter: passed on as it comes */
    bool started;         /* Postgres, from the client: past the packet without a type */
};

struct link {
    int fd[SIDES]; /* -1: closed */
    struct flow from[SIDES];
    bool lose_commit; /* the reply of COMMIT is not to come back */
    bool lose_reply;  /* nor the one of this correlation id */
    uint32_t correlation;
    int64_t held_until; /* the message at the head of from[CLIENT].in waits; 0: no */
    size_t held;        /* its length */
    int64_t close_at;   /* the client is gone: 0, or when the server's side is closed as well */
};

static struct link *links[LINKS_MAX];
static bool is_kafka;
static uint16_t upstream;
static int64_t frozen_until;

static struct {
    int drop_commit, drop_end_txn, delay_ms, hold_ms;
} orders;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static void append(struct bytes *to, const void *ptr, size_t len)
{
    if (to->len + len > to->cap) {
        to->cap = (to->len + len) * 2;
        to->ptr = realloc(to->ptr, to->cap);
        if (!to->ptr)
            abort();
    }
    if (len)
        memcpy(to->ptr + to->len, ptr, len);
    to->len += len;
}

static void drop_front(struct bytes *from, size_t len)
{
    from->len -= len;
    if (from->len)
        memmove(from->ptr, from->ptr + len, from->len);
}

static void close_side(struct link *link, enum side side)
{
    if (link->fd[side] >= 0)
        close(link->fd[side]);
    link->fd[side] = -1;
}

static void cut(struct link *link)
{
    close_side(link, CLIENT);
    close_side(link, SERVER);
}

static int cut_all(void)
{
    int n = 0;
    for (int i = 0; i < LINKS_MAX; i++)
        if (links[i]) {
            cut(links[i]);
            n++;
        }
    return n;
}

static uint32_t be32(const uint8_t *ptr)
{
    return (uint32_t)ptr[0] << 24 | (uint32_t)ptr[1] << 16 | (uint32_t)ptr[2] << 8 | ptr[3];
}

/* --- what a message is --- */

/* Length of the message at the head of `flow`, and how many bytes must be there to judge it; 0: not
 * enough to tell yet. */
static uint64_t measure(const struct link *link, enum side from, size_t *to_judge)
{
    const struct flow *flow = &link->from[from];
    bool typed = !is_kafka && (from == SERVER || flow->started);
    size_t head = typed ? 5 : 4;
    if (flow->in.len < head)
        return 0;
    uint64_t len = (uint64_t)be32(flow->in.ptr + head - 4) + (is_kafka ? 4 : typed ? 1 : 0);
    if (is_kafka)
        *to_judge = from == CLIENT ? 12 : 8;
    else
        *to_judge = typed && strchr("QPC", flow->in.ptr[0]) && len <= SMALL ? (size_t)len : head;
    if (*to_judge > len)
        *to_judge = (size_t)len;
    return flow->in.len < *to_judge ? 0 : len;
}

/* A query that is COMMIT and nothing else, simple or parsed. */
static bool is_commit(const uint8_t *ptr, size_t len)
{
    const char *text = (const char *)ptr + 5, *end = (const char *)ptr + len;
    if (len > SMALL || len < 6 || (ptr[0] != 'Q' && ptr[0] != 'P'))
        return false;
    if (ptr[0] == 'P') /* the statement's name comes first */
        text += strnlen(text, (size_t)(end - text)) + 1;
    return text < end && strncmp(text, "COMMIT", (size_t)(end - text)) == 0;
}

enum verdict { PASS, HOLD, CUT };

static enum verdict judge_kafka(struct link *link, enum side from, size_t len)
{
    const uint8_t *ptr = link->from[from].in.ptr;
    if (from == SERVER) {
        if (len < 8 || !link->lose_reply || be32(ptr + 4) != link->correlation)
            return PASS;
        say("struck drop-reply endtxn");
        return CUT;
    }
    if (len < 12 || (ptr[4] << 8 | ptr[5]) != KAFKA_END_TXN || len > SMALL)
        return PASS;
    if (orders.drop_end_txn) {
        orders.drop_end_txn--;
        link->lose_reply = true;
        link->correlation = be32(ptr + 8);
        return PASS;
    }
    if (!orders.delay_ms && !orders.hold_ms)
        return PASS;
    int ms = orders.delay_ms ? orders.delay_ms : orders.hold_ms;
    link->held_until = now_ms() + ms;
    link->held = len;
    say("struck %s endtxn %d", orders.delay_ms ? "delay" : "hold", ms);
    if (orders.delay_ms)
        close_side(link, CLIENT);
    orders.delay_ms = orders.hold_ms = 0;
    return HOLD;
}

static enum verdict judge_postgres(struct link *link, enum side from, size_t len)
{
    const uint8_t *ptr = link->from[from].in.ptr;
    if (from == SERVER) {
        if (!link->lose_commit || len > SMALL || len < 11 || memcmp(ptr + 5, "COMMIT", 6) != 0 ||
            ptr[0] != 'C')
            return PASS;
        say("struck drop-reply commit");
        return CUT;
    }
    if (link->from[CLIENT].started && orders.drop_commit && is_commit(ptr, len)) {
        orders.drop_commit--;
        link->lose_commit = true;
    }
    link->from[CLIENT].started = true;
    return PASS;
}

/* Takes whole messages from what has come, and puts what is to be passed on into `out`. */
static void digest(struct link *link, enum side from)
{
    struct flow *flow = &link->from[from];
    while (flow->in.len && !(from == CLIENT && link->held_until)) {
        if (!flow->skip) {
            size_t to_judge = 0;
            uint64_t len = measure(link, from, &to_judge);
            if (!len)
                return;
            /* Small ones are taken whole, since they may be held back. */
            if (is_kafka && from == CLIENT && len <= SMALL && flow->in.len < len)
                return;
            enum verdict verdict = is_kafka ? judge_kafka(link, from, (size_t)len)
                                            : judge_postgres(link, from, (size_t)len);
            if (verdict == CUT)
                cut(link);
            if (verdict != PASS)
                return;
            flow->skip = len;
        }
        size_t n = flow->skip < flow->in.len ? (size_t)flow->skip : flow->in.len;
        append(&flow->out, flow->in.ptr, n);
        drop_front(&flow->in, n);
        flow->skip -= n;
    }
}

/* --- sockets --- */

static enum side other(enum side side)
{
    return side == CLIENT ? SERVER : CLIENT;
}

static void flush_out(struct link *link, enum side from)
{
    struct flow *flow = &link->from[from];
    int fd = link->fd[other(from)];
    if (fd < 0) {
        flow->out.len = 0;
        return;
    }
    if (!flow->out.len)
        return;
    ssize_t n = send(fd, flow->out.ptr, flow->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        drop_front(&flow->out, (size_t)n);
    else if (errno != EAGAIN && errno != EINTR)
        cut(link);
}

static void take_in(struct link *link, enum side from)
{
    static uint8_t chunk[READ_BYTES];
    ssize_t n = recv(link->fd[from], chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        append(&link->from[from].in, chunk, (size_t)n);
        digest(link, from);
        flush_out(link, from);
    } else if (from == CLIENT && link->held_until) {
        close_side(link, CLIENT); /* its request is still under way */
    } else {
        flush_out(link, from);
        cut(link);
    }
}

/* A request that was held back goes out, whether or not somebody still waits for the answer. */
static void release_held(struct link *link, int64_t now)
{
    if (!link->held_until || now < link->held_until)
        return;
    struct flow *flow = &link->from[CLIENT];
    link->held_until = 0;
    append(&flow->out, flow->in.ptr, link->held);
    drop_front(&flow->in, link->held);
    say("sent the held endtxn%s", link->fd[CLIENT] < 0 ? " of a client that is gone" : "");
    if (link->fd[CLIENT] < 0)
        link->close_at = now + REPLY_MS;
    else
        digest(link, CLIENT);
    flush_out(link, CLIENT);
}

static void nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void take_client(int listener)
{
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), slot = 0;
    struct sockaddr_in to = loopback(upstream);
    while (slot < LINKS_MAX && links[slot])
        slot++;
    /* Loopback: connected or refused at once. */
    if (slot == LINKS_MAX || server < 0 || connect(server, (struct sockaddr *)&to, sizeof to) < 0) {
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    nodelay(client);
    nodelay(server);
    links[slot] = calloc(1, sizeof **links);
    if (!links[slot])
        abort();
    links[slot]->fd[CLIENT] = client;
    links[slot]->fd[SERVER] = server;
}

static void sweep(int64_t now)
{
    for (int i = 0; i < LINKS_MAX; i++) {
        struct link *link = links[i];
        if (!link)
            continue;
        if (link->close_at && now >= link->close_at)
            cut(link);
        if (link->fd[SERVER] >= 0 && (link->fd[CLIENT] >= 0 || link->held_until || link->close_at))
            continue;
        cut(link);
        for (int side = 0; side < SIDES; side++) {
            free(link->from[side].in.ptr);
            free(link->from[side].out.ptr);
        }
        free(link);
        links[i] = NULL;
    }
}

/* --- orders --- */

static void obey(const char *line)
{
    char verb[16] = "", what[16] = "";
    int ms = 0;
    sscanf(line, "%15s %15s %d", verb, what, &ms);
    if (!strcmp(verb, "drop-reply") && !strcmp(what, "commit")) {
        orders.drop_commit++;
    } else if (!strcmp(verb, "drop-reply") && !strcmp(what, "endtxn")) {
        orders.drop_end_txn++;
    } else if (!strcmp(verb, "delay") && !strcmp(what, "endtxn")) {
        orders.delay_ms = ms;
    } else if (!strcmp(verb, "hold") && !strcmp(what, "endtxn")) {
        orders.hold_ms = ms;
    } else if (!strcmp(verb, "half-open")) {
        frozen_until = now_ms() + atoi(what);
        say("struck half-open %s", what);
    } else if (!strcmp(verb, "cut")) {
        say("struck cut of %d", cut_all());
    } else if (!strcmp(verb, "forget")) {
        memset(&orders, 0, sizeof orders);
    } else {
        say("not understood: %s", line);
    }
}

/* False: stdin has ended. */
static bool read_orders(void)
{
    static char text[1024];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof text - 1 - len);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    len += (size_t)n;
    text[len] = '\0';
    char *line = text;
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        obey(line);
    }
    len = strlen(line);
    memmove(text, line, len + 1);
    if (len == sizeof text - 1)
        len = 0;
    return true;
}

static int open_listener(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = loopback(port);
    socklen_t len = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
        fprintf(stderr, "fault-proxy: port %u: %s\n", port, strerror(errno));
        exit(69);
    }
    say("port %u", ntohs(at.sin_port));
    return fd;
}

static short wanted(const struct link *link, enum side side)
{
    short events = 0;
    if (link->from[side].out.len + link->from[side].in.len < QUEUE_MAX)
        events |= POLLIN;
    if (link->from[other(side)].out.len)
        events |= POLLOUT;
    return events;
}

/* Waits for something to happen and moves what can be moved. */
static bool turn(int listener)
{
    static struct pollfd fds[2 + LINKS_MAX * SIDES];
    static int owner[2 + LINKS_MAX * SIDES];
    nfds_t n = 0;
    bool frozen = frozen_until != 0;
    fds[n++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = frozen ? -1 : listener, .events = POLLIN};
    for (int i = 0; i < LINKS_MAX && !frozen; i++)
        for (int side = 0; links[i] && side < SIDES; side++)
            if (links[i]->fd[side] >= 0) {
                owner[n] = i * SIDES + side;
                fds[n++] = (struct pollfd){.fd = links[i]->fd[side],
                                           .events = wanted(links[i], (enum side)side)};
            }
    poll(fds, n, 20);
    if (fds[0].revents && !read_orders())
        return false;
    for (nfds_t i = 2; i < n; i++) {
        struct link *link = links[owner[i] / SIDES];
        enum side side = (enum side)(owner[i] % SIDES);
        if (link->fd[side] == fds[i].fd && (fds[i].revents & POLLOUT))
            flush_out(link, other(side));
        if (link->fd[side] == fds[i].fd && (fds[i].revents & (POLLIN | POLLERR | POLLHUP)))
            take_in(link, side);
    }
    if (fds[1].revents)
        take_client(listener);
    int64_t now = now_ms();
    if (frozen && now >= frozen_until) {
        frozen_until = 0;
        cut_all();
    }
    for (int i = 0; i < LINKS_MAX && !frozen_until; i++)
        if (links[i])
            release_held(links[i], now);
    sweep(now);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[1], "kafka") != 0 && strcmp(argv[1], "postgres") != 0)) {
        fprintf(stderr, "usage: fault-proxy kafka|postgres LISTEN UPSTREAM\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    is_kafka = strcmp(argv[1], "kafka") == 0;
    upstream = (uint16_t)atoi(argv[3]);
    int listener = open_listener((uint16_t)atoi(argv[2]));
    while (turn(listener))
        ;
    return 0;
}
