/*
 * load: a load generator for any server that speaks the proxymap protocol on a UNIX socket
 * (jailmapd, Postfix proxymap(8), the bench's own floor). An ordinary client program, run by
 * whoever measures: it connects, sends lookups, checks every answer and prints what it saw. It
 * needs no privilege beyond reaching the socket, and never writes a file or changes a table.
 *
 *     load -s SOCKET [options] TYPE:NAME
 *
 *     -s, --socket PATH        the server's socket
 *     -c, --connections N      connections, all open for the whole run (default 1)
 *     -d, --depth N            requests in flight on each connection (default 1: Postfix's way;
 *                              proxymap(8) answers only the first request of a write)
 *     -t, --time SECONDS       length of the measurement (default 2; fractions allowed)
 *     -w, --warm-up SECONDS    load before it that is not measured (default 0.2)
 *     -k, --keys FILE|PATTERN  keys, drawn at random. A text with a % is a pattern with one %d or
 *                              %0Wd for the number of the key, such as user%05d@example.com;
 *                              anything else is a file with one KEY or KEY<tab>VALUE a line
 *     -n, --count N            keys that the pattern stands for: 0 to N-1 (default 1000)
 *     -v, --value PATTERN      the value that key number N must have (patterns only; a key file
 *                              states values itself); without it any value will do
 *     -e, --expect WHAT        what the keys must be: found (default), notfound, or any
 *     -m, --miss RATIO         share of lookups, 0 to 1, asked with the first byte of the key made
 *                              '~' instead; these must not be found
 *     -f, --flags N            flags of each lookup (default 524352, what smtpd(8) sends)
 *     -o, --output FORM        text (default) or json: one object on one line, units in the names
 *     -h, --help
 *
 * It speaks the dialect of Postfix up to 3.10: it reads the greeting, opens the table, and when all
 * connections have done so sends lookups, each connection its next one when an answer arrives.
 *
 * Units. Throughput is lookups answered inside the measurement, a second. A latency is the time
 * from just before the write that carried the request to just after the read that brought the
 * answer, in microseconds; percentiles come from a histogram of fixed size whose buckets are at
 * most 0.8 % wide, and are the upper edge of their bucket; the maximum is exact. CPU is load's own.
 *
 * SIGTERM ends the measurement before its time: the report is that of the time until then.
 *
 * Errors are what is not as --expect has it. Of these the report counts apart: answers "not found"
 * for keys that are there, temporary errors, and connections lost.
 *
 * Exit status: 0, 1 if any answer was wrong, malformed, or missing, 64 usage, 69 if the server
 * cannot be reached or does not open the table, 71 system error.
 *
 * It shares the machine with what it measures, so it is cheap: one thread, one read and one write
 * for an answer and the next request, one clock reading, no allocation, one random number.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define GREETING   "protocol\0proxymap_protocol\0" /* and the NUL that C adds: 28 bytes */
#define NS_PER_SEC 1000000000u
#define MISS_MARK  '~'

enum {
    BATCH = 512,                    /* events taken from the kernel at a time */
    TICK_MS = 100,                  /* longest wait before the clock is looked at again */
    PATIENCE_SECONDS = 10,          /* for the server to accept, to greet, and to answer the last */
    REPLY_BUFFER = 256 * 1024,      /* what one read takes; grows for longer values */
    REPLY_LIMIT = 64 * 1024 * 1024, /* a longer reply is a server gone wrong */
};

/* ---- latency histogram: 128 buckets for each power of two, in nanoseconds ------------------- */

enum { SUB_BITS = 7, SUB = 1 << SUB_BITS, TOP_BITS = 38 };

struct histogram {
    uint64_t count[(TOP_BITS - SUB_BITS + 1) * SUB];
    uint64_t total;
    uint64_t sum;
    uint64_t max;
};

static void histogram_add(struct histogram *histogram, uint64_t ns)
{
    uint64_t value = ns >> TOP_BITS == 0 ? ns : (UINT64_C(1) << TOP_BITS) - 1;
    unsigned shift = 0;

    if (value >= SUB)
        shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
    if (value < SUB)
        histogram->count[value]++;
    else
        histogram->count[((shift + 1) << SUB_BITS) + ((value >> shift) & (SUB - 1))]++;
    histogram->total++;
    histogram->sum += ns;
    if (ns > histogram->max)
        histogram->max = ns;
}

/* The latency, in microseconds, that `share` (0 to 1) of the lookups did not exceed. */
static double histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->total + 0.5);
    uint64_t seen = 0;
    uint64_t edge = 0;

    for (unsigned i = 0; i < sizeof(histogram->count) / sizeof(histogram->count[0]); i++) {
        unsigned shift = i < SUB ? 0 : (i >> SUB_BITS) - 1;
        uint64_t low = i < SUB ? i : (uint64_t)(SUB + (i & (SUB - 1))) << shift;

        seen += histogram->count[i];
        edge = low + (UINT64_C(1) << shift) - 1;
        if (seen >= wanted && seen > 0)
            break;
    }
    return (double)(edge < histogram->max ? edge : histogram->max) / 1000;
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* A text with the number of the key in it: BEFORE, the number in WIDTH digits or more, AFTER. */
struct pattern {
    const char *before;
    size_t before_len;
    unsigned width;
    const char *after;
    size_t after_len;
};

struct listed {
    char *key;
    size_t key_len;
    char *value; /* NULL: any */
    size_t value_len;
};

struct keys {
    uint32_t count;
    struct listed *listed; /* NULL: the pattern says what they are */
    struct pattern key;
    struct pattern value;
    bool value_known;
    size_t longest;
};

static bool pattern_parse(struct pattern *pattern, const char *text)
{
    const char *at = strchr(text, '%');
    char *end;
    unsigned long width;

    if (at == NULL || strchr(at + 1, '%') != NULL)
        return false;
    width = strtoul(at + 1, &end, 10);
    if (*end != 'd' || width > 20 || (end > at + 1 && at[1] != '0'))
        return false;
    pattern->before = text;
    pattern->before_len = (size_t)(at - text);
    pattern->width = (unsigned)width;
    pattern->after = end + 1;
    pattern->after_len = strlen(end + 1);
    return true;
}

/* Writes the text for `number` to `out`, which has room for it, and returns its length. */
static size_t pattern_put(const struct pattern *pattern, uint32_t number, char *out)
{
    char digits[20];
    unsigned used = 0;
    char *at = out + pattern->before_len;

    do {
        digits[sizeof(digits) - ++used] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (used < pattern->width)
        digits[sizeof(digits) - ++used] = '0';
    memcpy(out, pattern->before, pattern->before_len);
    memcpy(at, digits + sizeof(digits) - used, used);
    memcpy(at + used, pattern->after, pattern->after_len);
    return pattern->before_len + used + pattern->after_len;
}

static size_t pattern_room(const struct pattern *pattern)
{
    return pattern->before_len + 20 + pattern->after_len;
}

static size_t key_put(const struct keys *keys, uint32_t number, char *out)
{
    if (keys->listed == NULL)
        return pattern_put(&keys->key, number, out);
    memcpy(out, keys->listed[number].key, keys->listed[number].key_len);
    return keys->listed[number].key_len;
}

static bool value_is_right(const struct keys *keys, uint32_t number, const char *value, size_t len)
{
    char expected[1024];

    if (keys->listed != NULL) {
        const struct listed *entry = &keys->listed[number];

        return entry->value == NULL ||
               (entry->value_len == len && memcmp(entry->value, value, len) == 0);
    }
    if (!keys->value_known)
        return true;
    return pattern_put(&keys->value, number, expected) == len && memcmp(expected, value, len) == 0;
}

/* ---- the run -------------------------------------------------------------------------------- */

enum state { GREETED, OPENED, READY }; /* what a connection waits for; READY: answers to lookups */
enum phase { SETTING_UP, WARMING_UP, MEASURING, DRAINING };
enum expectation { EXPECT_FOUND, EXPECT_NOT_FOUND, EXPECT_ANY };

/* A lookup on its way. The answers of one connection come in the order of its requests. */
struct pending {
    uint64_t sent;
    uint32_t key;
    bool miss;
};

struct connection {
    int fd;
    enum state state;
    unsigned oldest; /* index into pending */
    unsigned in_flight;
    struct pending *pending; /* `depth` of them, a ring */
    char *partial;           /* the beginning of a reply */
    size_t partial_len;
    char *unsent; /* the rest of a write that the socket did not take whole */
    size_t unsent_len;
    uint64_t answered;
};

struct reply {
    char status;
    const char *value; /* NULL: the reply has none */
    size_t value_len;
};

struct run {
    /* what was asked for */
    const char *socket_path;
    const char *table;
    unsigned connections;
    unsigned depth;
    double seconds;
    double warm_up;
    enum expectation expect;
    double miss_ratio;
    uint32_t flags;
    bool json;
    struct keys keys;

    /* what is being done */
    enum phase phase;
    int epoll;
    struct connection *connection;
    char *prefix; /* of each request, up to the key */
    size_t prefix_len;
    char *request; /* room for `depth` requests */
    char *input;
    size_t input_size;
    uint64_t random;
    uint32_t miss_below; /* a lookup is a miss when its 32 random bits are below this */
    unsigned alive;      /* connections that are open, and of these */
    unsigned ready;      /* those with the table open */
    uint64_t in_flight;
    uint64_t now;

    /* what was seen */
    uint64_t began, ended; /* of the measurement */
    struct rusage usage_began, usage_ended;
    struct histogram latency;
    uint64_t found;
    uint64_t answered; /* in the whole run, warm-up and all */
    uint64_t errors;
    uint64_t not_found_wrongly, temporary, lost; /* which kinds of them */
    char first_error[512];
};

static volatile sig_atomic_t stop; /* SIGTERM has come */

static void on_stop(int number)
{
    (void)number;
    stop = 1;
}

static _Noreturn void die(int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

static void *must_allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL)
        die(EX_OSERR, "out of memory");
    return memory;
}

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

/* xorshift64*: the same seed for every run, so that every server gets the same keys. */
static uint64_t random_next(struct run *run)
{
    run->random ^= run->random >> 12;
    run->random ^= run->random << 25;
    run->random ^= run->random >> 27;
    return run->random * UINT64_C(2685821657736338717);
}

/* Counts an answer that is wrong, and keeps the description of the first. */
static void note_error(struct run *run, const char *format, ...)
{
    va_list args;

    if (run->errors++ > 0)
        return;
    va_start(args, format);
    vsnprintf(run->first_error, sizeof(run->first_error), format, args);
    va_end(args);
}

/* ---- sending -------------------------------------------------------------------------------- */

static void watch(struct run *run, struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};

    if (epoll_ctl(run->epoll, operation, connection->fd, &event) != 0)
        die(EX_OSERR, "epoll_ctl: %s", strerror(errno));
}

/* Sends, and keeps what the socket does not take for flush(). */
static void transmit(struct run *run, struct connection *connection, const char *data, size_t len)
{
    ssize_t sent = 0;

    if (connection->unsent_len == 0) {
        sent = send(connection->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent == (ssize_t)len)
            return;
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return; /* the next read tells that the connection is gone */
        if (sent < 0)
            sent = 0;
        watch(run, connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    len -= (size_t)sent;
    connection->unsent = realloc(connection->unsent, connection->unsent_len + len);
    if (connection->unsent == NULL)
        die(EX_OSERR, "out of memory");
    memcpy(connection->unsent + connection->unsent_len, data + sent, len);
    connection->unsent_len += len;
}

static void flush(struct run *run, struct connection *connection)
{
    ssize_t sent;

    if (connection->unsent_len == 0)
        return;
    sent = send(connection->fd, connection->unsent, connection->unsent_len,
                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0)
        return;
    connection->unsent_len -= (size_t)sent;
    memmove(connection->unsent, connection->unsent + sent, connection->unsent_len);
    if (connection->unsent_len == 0)
        watch(run, connection, EPOLL_CTL_MOD, EPOLLIN);
}

/* Copies a text with its NUL, and returns where the next one goes. */
static char *put_text(char *at, const char *text)
{
    return stpcpy(at, text) + 1;
}

static void send_open(struct run *run, struct connection *connection)
{
    char *at = run->request;

    at = put_text(at, "request");
    at = put_text(at, "open");
    at = put_text(at, "table");
    at = put_text(at, run->table);
    at = put_text(at, "flags");
    at = put_text(at, "0"); /* what Postfix clients open with */
    *at++ = '\0';
    transmit(run, connection, run->request, (size_t)(at - run->request));
}

/* Prepares the part that all lookups have in common, and room for the longest write. */
static void make_prefix(struct run *run)
{
    static const char fixed[] = "request\0lookup\0table\0flags\0key";
    char flags[16];
    char *at;

    snprintf(flags, sizeof(flags), "%" PRIu32, run->flags);
    run->prefix = must_allocate(1, sizeof(fixed) + strlen(run->table) + 1 + sizeof(flags));
    at = put_text(run->prefix, "request");
    at = put_text(at, "lookup");
    at = put_text(at, "table");
    at = put_text(at, run->table);
    at = put_text(at, "flags");
    at = put_text(at, flags);
    at = put_text(at, "key");
    run->prefix_len = (size_t)(at - run->prefix);
    run->request = must_allocate(run->depth, run->prefix_len + run->keys.longest + 2);
}

/* Fills the connection up to its depth with new lookups, in one write. */
static void send_lookups(struct run *run, struct connection *connection)
{
    char *at = run->request;

    while (connection->in_flight < run->depth) {
        unsigned slot = connection->oldest + connection->in_flight;
        struct pending *pending =
            &connection->pending[slot < run->depth ? slot : slot - run->depth];
        uint64_t random = random_next(run);
        size_t len;

        pending->sent = run->now;
        pending->key = (uint32_t)((random >> 32) * run->keys.count >> 32);
        pending->miss = (uint32_t)random < run->miss_below;
        memcpy(at, run->prefix, run->prefix_len);
        at += run->prefix_len;
        len = key_put(&run->keys, pending->key, at);
        if (pending->miss)
            at[0] = MISS_MARK;
        memcpy(at + len, "\0", 2); /* ends the value and the list */
        at += len + 2;
        connection->in_flight++;
        run->in_flight++;
    }
    if (at != run->request)
        transmit(run, connection, run->request, (size_t)(at - run->request));
}

/* ---- receiving ------------------------------------------------------------------------------ */

static bool begins(const char *data, size_t len, const char *text, size_t text_len)
{
    return memcmp(data, text, len < text_len ? len : text_len) == 0;
}

/*
 * One reply: status, N, NUL, and then either the end of the list or `name` (five letters: flags or
 * value), its value, and the end. Returns its length, 0 if more must be read, -1 if it is
 * malformed.
 */
static ssize_t reply_parse(const char *data, size_t len, const char *name, struct reply *reply)
{
    const char *end;

    if (!begins(data, len, "status", 7))
        return -1;
    if (len < 10)
        return 0;
    reply->status = data[7];
    reply->value = NULL;
    reply->value_len = 0;
    if (data[8] != '\0')
        return -1;
    if (data[9] == '\0')
        return 10;
    if (!begins(data + 9, len - 9, name, 6))
        return -1;
    if (len < 17)
        return 0;
    end = memchr(data + 15, '\0', len - 15);
    if (end == NULL || end + 1 == data + len)
        return 0;
    reply->value = data + 15;
    reply->value_len = (size_t)(end - reply->value);
    return end[1] == '\0' ? end + 2 - data : -1;
}

static void check_answer(struct run *run, const struct pending *pending, const struct reply *reply)
{
    bool found = reply->status == '0';
    char key[200] = "";
    size_t len;

    if (reply->value != NULL && (found || (reply->status == '1' && reply->value_len == 0))) {
        run->found += found && run->phase == MEASURING;
        if (pending->miss ? !found : run->expect == EXPECT_ANY)
            return;
        if (!pending->miss && found == (run->expect == EXPECT_FOUND) &&
            (!found || value_is_right(&run->keys, pending->key, reply->value, reply->value_len)))
            return;
    }
    if (run->keys.longest < sizeof(key)) {
        len = key_put(&run->keys, pending->key, key);
        key[len] = '\0';
        if (pending->miss)
            key[0] = MISS_MARK;
    }
    run->not_found_wrongly += reply->status == '1' && !pending->miss;
    run->temporary += reply->status == '2';
    note_error(run, "wrong answer for key \"%s\": status %c, value \"%.*s\"", key, reply->status,
               (int)(reply->value_len < 100 ? reply->value_len : 100),
               reply->value == NULL ? "" : reply->value);
}

static ssize_t take_answer(struct run *run, struct connection *connection, const char *data,
                           size_t len)
{
    struct pending *pending = &connection->pending[connection->oldest];
    struct reply reply;
    ssize_t used = reply_parse(data, len, "value", &reply);

    if (used <= 0)
        return used;
    if (connection->in_flight == 0)
        return -1;
    check_answer(run, pending, &reply);
    run->answered++;
    if (run->phase == MEASURING) {
        histogram_add(&run->latency, run->now - pending->sent);
        connection->answered++;
    }
    connection->oldest = connection->oldest + 1 < run->depth ? connection->oldest + 1 : 0;
    connection->in_flight--;
    run->in_flight--;
    return used;
}

/* Takes one message from the front of `data`, as the connection's state expects it. Returns its
 * length, 0 if more must be read, -1 if it is malformed. */
static ssize_t take_message(struct run *run, struct connection *connection, const char *data,
                            size_t len)
{
    struct reply reply;
    ssize_t used;

    switch (connection->state) {
    case GREETED:
        if (!begins(data, len, GREETING, sizeof(GREETING)))
            return -1;
        if (len < sizeof(GREETING))
            return 0;
        connection->state = OPENED;
        send_open(run, connection);
        return sizeof(GREETING);
    case OPENED:
        used = reply_parse(data, len, "flags", &reply);
        if (used > 0 && reply.status != '0')
            die(EX_UNAVAILABLE, "%s: open of \"%s\" refused with status %c", run->socket_path,
                run->table, reply.status);
        if (used > 0) {
            connection->state = READY;
            run->ready++;
        }
        return used;
    case READY:
        break;
    }
    return take_answer(run, connection, data, len);
}

static void lose(struct run *run, struct connection *connection, const char *reason)
{
    if (run->phase == SETTING_UP)
        die(EX_UNAVAILABLE, "%s: %s", run->socket_path, reason);
    note_error(run, "%s, %u lookups unanswered", reason, connection->in_flight);
    run->lost++;
    run->in_flight -= connection->in_flight;
    connection->in_flight = 0;
    close(connection->fd);
    connection->fd = -1;
    run->alive--;
}

/* Keeps the beginning of a reply until the rest is there. */
static void keep_partial(struct connection *connection, const char *data, size_t len)
{
    connection->partial_len = len;
    if (len == 0)
        return;
    connection->partial = realloc(connection->partial, len);
    if (connection->partial == NULL)
        die(EX_OSERR, "out of memory");
    memcpy(connection->partial, data, len);
}

/* Makes room for one more read behind the partial reply, and puts that at the front. */
static void restore_partial(struct run *run, struct connection *connection)
{
    if (connection->partial_len == 0)
        return;
    if (connection->partial_len > run->input_size / 2) {
        run->input_size *= 2;
        run->input = realloc(run->input, run->input_size);
        if (run->input == NULL)
            die(EX_OSERR, "out of memory");
    }
    memcpy(run->input, connection->partial, connection->partial_len);
}

static void on_readable(struct run *run, struct connection *connection)
{
    size_t len = connection->partial_len;
    size_t at = 0;
    ssize_t got;

    restore_partial(run, connection);
    got = recv(connection->fd, run->input + len, run->input_size - len,
               run->connections == 1 ? 0 : MSG_DONTWAIT);
    run->now = clock_now();
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose(run, connection, got == 0 ? "connection closed by the server" : strerror(errno));
        return;
    }
    len += (size_t)got;
    while (at < len) {
        ssize_t used = take_message(run, connection, run->input + at, len - at);

        if (used < 0 || (used == 0 && len - at > REPLY_LIMIT)) {
            lose(run, connection, "malformed reply");
            return;
        }
        if (used == 0)
            break;
        at += (size_t)used;
    }
    keep_partial(connection, run->input + at, len - at);
    if (connection->state == READY && (run->phase == WARMING_UP || run->phase == MEASURING))
        send_lookups(run, connection);
}

/*
 * One round of waiting and serving. A single connection is read without asking epoll first: its
 * read blocks for a tick at most, and the measurement has one system call less in it.
 */
static void serve_once(struct run *run)
{
    struct epoll_event event[BATCH];
    int count;

    if (run->connections == 1) {
        flush(run, run->connection);
        on_readable(run, run->connection);
        return;
    }
    count = epoll_wait(run->epoll, event, BATCH, TICK_MS);
    if (count < 0 && errno != EINTR)
        die(EX_OSERR, "epoll_wait: %s", strerror(errno));
    if (count <= 0)
        run->now = clock_now();
    for (int i = 0; i < count; i++) {
        if (event[i].events & EPOLLOUT)
            flush(run, event[i].data.ptr);
        if (event[i].events & ~(uint32_t)EPOLLOUT)
            on_readable(run, event[i].data.ptr);
    }
}

/* ---- phases --------------------------------------------------------------------------------- */

static void connect_one(struct run *run, struct connection *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    struct timeval tick = {.tv_usec = TICK_MS * 1000};

    if (strlen(run->socket_path) >= sizeof(address.sun_path))
        die(EX_USAGE, "%s: socket path too long", run->socket_path);
    strcpy(address.sun_path, run->socket_path);
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die(EX_OSERR, "socket: %s", strerror(errno));
    /* The descriptor stays a blocking one, since connect() to a full backlog has to wait. */
    setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick));
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        die(EX_UNAVAILABLE, "%s: connect: %s", run->socket_path,
            errno == EAGAIN ? "not accepted in time" : strerror(errno));
    connection->pending = must_allocate(run->depth, sizeof(*connection->pending));
    watch(run, connection, EPOLL_CTL_ADD, EPOLLIN);
    run->alive++;
}

/* Brings every connection to where the next thing it sends is a lookup. */
static void set_up(struct run *run)
{
    uint64_t deadline;

    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->epoll < 0)
        die(EX_OSERR, "epoll_create1: %s", strerror(errno));
    run->input_size = REPLY_BUFFER;
    run->input = must_allocate(1, run->input_size);
    run->connection = must_allocate(run->connections, sizeof(*run->connection));
    run->random = UINT64_C(0x9e3779b97f4a7c15);
    run->miss_below = (uint32_t)(run->miss_ratio * UINT32_MAX);
    make_prefix(run);
    for (unsigned i = 0; i < run->connections; i++)
        connect_one(run, &run->connection[i]);
    run->now = clock_now();
    deadline = run->now + (uint64_t)PATIENCE_SECONDS * NS_PER_SEC;
    while (run->ready < run->connections) {
        serve_once(run);
        if (run->now > deadline)
            die(EX_UNAVAILABLE, "%s: %u of %u connections got no greeting or no answer to open",
                run->socket_path, run->connections - run->ready, run->connections);
    }
}

/* Serves until `deadline`, or SIGTERM, or until no connection is left. */
static void serve_until(struct run *run, uint64_t deadline)
{
    while (run->now < deadline && run->alive > 0 && !stop)
        serve_once(run);
}

static void measure(struct run *run)
{
    run->phase = WARMING_UP;
    for (unsigned i = 0; i < run->connections; i++) {
        run->now = clock_now();
        send_lookups(run, &run->connection[i]);
    }
    serve_until(run, run->now + (uint64_t)(run->warm_up * NS_PER_SEC));
    run->phase = MEASURING;
    getrusage(RUSAGE_SELF, &run->usage_began);
    run->began = run->now;
    serve_until(run, run->now + (uint64_t)(run->seconds * NS_PER_SEC));
    run->ended = run->now;
    getrusage(RUSAGE_SELF, &run->usage_ended);
}

/* Waits for the answers that are on their way, so that a lost one cannot go unnoticed. */
static void drain(struct run *run)
{
    uint64_t deadline = run->now + (uint64_t)PATIENCE_SECONDS * NS_PER_SEC;

    run->phase = DRAINING;
    while (run->in_flight > 0 && run->alive > 0 && run->now < deadline)
        serve_once(run);
    for (; run->in_flight > 0; run->in_flight--)
        note_error(run, "no answer within %d s", PATIENCE_SECONDS);
}

/* ---- the report ----------------------------------------------------------------------------- */

static double cpu_us(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e6 +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

static void json_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else if (byte < 0x20 || byte >= 0x7f)
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static const struct {
    const char *name;
    double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

/* What the report says of the measurement as a whole. */
struct summary {
    double seconds;
    double lookups_per_s;
    double mean_us;
    double cpu_us;        /* a lookup */
    uint64_t least, most; /* lookups answered on one connection */
};

static struct summary summarise(const struct run *run)
{
    double seconds = (double)(run->ended - run->began) / NS_PER_SEC;
    double lookups = (double)run->latency.total;
    double each = lookups > 0 ? lookups : 1;
    struct summary summary = {
        .seconds = seconds,
        .lookups_per_s = seconds > 0 ? lookups / seconds : 0,
        .mean_us = (double)run->latency.sum / each / 1000,
        .cpu_us = (cpu_us(&run->usage_ended) - cpu_us(&run->usage_began)) / each,
        .least = UINT64_MAX,
    };

    for (unsigned i = 0; i < run->connections; i++) {
        uint64_t answered = run->connection[i].answered;

        summary.least = answered < summary.least ? answered : summary.least;
        summary.most = answered > summary.most ? answered : summary.most;
    }
    return summary;
}

static void report_text(const struct run *run, const struct summary *summary)
{
    uint64_t lookups = run->latency.total;

    printf("%s on %s: %u connections, depth %u, %.2f s after %.2f s of warm-up\n", run->table,
           run->socket_path, run->connections, run->depth, summary->seconds, run->warm_up);
    printf("throughput  %.0f lookups/s; %.1f %% found; %" PRIu64 " to %" PRIu64
           " on each connection\n",
           summary->lookups_per_s, lookups > 0 ? 100 * (double)run->found / (double)lookups : 0,
           summary->least, summary->most);
    printf("latency    ");
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        printf(" %s %.1f", quantiles[i].name,
               histogram_quantile(&run->latency, quantiles[i].share));
    printf(" max %.1f mean %.1f microseconds\n", (double)run->latency.max / 1000, summary->mean_us);
    printf("own CPU     %.2f microseconds a lookup, %.0f %% of one CPU\n", summary->cpu_us,
           summary->cpu_us * summary->lookups_per_s / 1e4);
    printf("errors      %" PRIu64 "%s%s\n", run->errors, run->errors > 0 ? ": " : "",
           run->first_error);
    if (run->errors > 0)
        printf("of these    %" PRIu64 " not found wrongly, %" PRIu64 " temporary, %" PRIu64
               " connections lost\n",
               run->not_found_wrongly, run->temporary, run->lost);
}

static void report_json(const struct run *run, const struct summary *summary)
{
    printf("{\"table\":");
    json_string(run->table);
    printf(",\"connections\":%u,\"depth\":%u,\"seconds\":%.6f", run->connections, run->depth,
           summary->seconds);
    printf(",\"lookups\":%" PRIu64 ",\"found\":%" PRIu64 ",\"lookups_per_s\":%.1f",
           run->latency.total, run->found, summary->lookups_per_s);
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        printf(",\"%s_us\":%.3f", quantiles[i].name,
               histogram_quantile(&run->latency, quantiles[i].share));
    printf(",\"max_us\":%.3f,\"mean_us\":%.3f", (double)run->latency.max / 1000, summary->mean_us);
    printf(",\"least_on_a_connection\":%" PRIu64 ",\"most_on_a_connection\":%" PRIu64,
           summary->least, summary->most);
    printf(",\"load_cpu_us_per_lookup\":%.4f,\"lookups_in_whole_run\":%" PRIu64, summary->cpu_us,
           run->answered);
    printf(",\"not_found_wrongly\":%" PRIu64 ",\"temporary\":%" PRIu64 ",\"lost\":%" PRIu64,
           run->not_found_wrongly, run->temporary, run->lost);
    printf(",\"errors\":%" PRIu64 ",\"first_error\":", run->errors);
    json_string(run->first_error);
    printf("}\n");
}

static void report(const struct run *run)
{
    struct summary summary = summarise(run);

    if (run->json)
        report_json(run, &summary);
    else
        report_text(run, &summary);
}

/* ---- options -------------------------------------------------------------------------------- */

static double parse_number(const char *option, const char *text, double least, double most)
{
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || !(number >= least && number <= most))
        die(EX_USAGE, "%s: \"%s\" is not a number from %.15g to %.15g", option, text, least, most);
    return number;
}

static enum expectation parse_expectation(const char *text)
{
    if (strcmp(text, "found") == 0)
        return EXPECT_FOUND;
    if (strcmp(text, "notfound") == 0)
        return EXPECT_NOT_FOUND;
    if (strcmp(text, "any") == 0)
        return EXPECT_ANY;
    die(EX_USAGE, "--expect: \"%s\" is none of found, notfound, any", text);
}

/* Reads a key file: KEY or KEY<tab>VALUE a line; empty lines are skipped. */
static void keys_read(struct keys *keys, const char *path)
{
    FILE *stream = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    size_t slots = 0;
    ssize_t len;

    if (stream == NULL)
        die(EX_NOINPUT, "%s: %s", path, strerror(errno));
    keys->count = 0;
    while ((len = getline(&line, &room, stream)) >= 0) {
        struct listed entry = {0};
        char *tab;

        if (len > 0 && line[len - 1] == '\n')
            line[--len] = '\0';
        if (len == 0)
            continue;
        if (keys->count == slots) {
            slots = slots == 0 ? 1024 : slots * 2;
            keys->listed = realloc(keys->listed, slots * sizeof(entry));
        }
        entry.key = strdup(line);
        if (keys->listed == NULL || entry.key == NULL)
            die(EX_OSERR, "out of memory");
        tab = strchr(entry.key, '\t');
        if (tab != NULL) {
            *tab = '\0';
            entry.value = tab + 1;
            entry.value_len = strlen(entry.value);
        }
        entry.key_len = strlen(entry.key);
        if (entry.key_len == 0)
            die(EX_DATAERR, "%s: a line has no key", path);
        if (entry.key_len > keys->longest)
            keys->longest = entry.key_len;
        keys->listed[keys->count++] = entry;
    }
    free(line);
    fclose(stream);
    if (keys->count == 0)
        die(EX_DATAERR, "%s: no keys", path);
}

static void keys_prepare(struct keys *keys, const char *source, const char *value)
{
    if (strchr(source, '%') == NULL) {
        if (value != NULL)
            die(EX_USAGE, "--value goes with a pattern; a key file states the values itself");
        keys_read(keys, source);
        return;
    }
    if (!pattern_parse(&keys->key, source))
        die(EX_USAGE, "--keys: a pattern has one %%d or %%0Wd");
    keys->longest = pattern_room(&keys->key);
    keys->value_known = value != NULL;
    if (value != NULL && (!pattern_parse(&keys->value, value) || pattern_room(&keys->value) > 1024))
        die(EX_USAGE, "--value: a pattern has one %%d or %%0Wd, and at most 1000 bytes");
}

static void usage(FILE *stream)
{
    fputs("usage: load -s SOCKET [-c CONNECTIONS] [-d DEPTH] [-t SECONDS] [-w SECONDS]\n"
          "            [-k FILE|PATTERN] [-n COUNT] [-v PATTERN] [-e found|notfound|any]\n"
          "            [-m MISS-RATIO] [-f FLAGS] [-o text|json] TYPE:NAME\n"
          "PATTERN is a text with one %d or %0Wd, such as user%05d@example.com.\n"
          "Each option is explained at the beginning of tests/bench/load.c.\n",
          stream);
}

static bool parse_form(const char *text)
{
    if (strcmp(text, "json") == 0)
        return true;
    if (strcmp(text, "text") == 0)
        return false;
    die(EX_USAGE, "--output: \"%s\" is neither text nor json", text);
}

/* What the options say of the keys; the two patterns and the count belong together. */
struct key_options {
    const char *source;
    const char *value;
};

static void set_option(struct run *run, struct key_options *keys, int option, const char *text)
{
    switch (option) {
    case 's':
        run->socket_path = text;
        break;
    case 'c':
        run->connections = (unsigned)parse_number("--connections", text, 1, 1000000);
        break;
    case 'd':
        run->depth = (unsigned)parse_number("--depth", text, 1, 65536);
        break;
    case 't':
        run->seconds = parse_number("--time", text, 0.001, 1e6);
        break;
    case 'w':
        run->warm_up = parse_number("--warm-up", text, 0, 1e6);
        break;
    case 'k':
        keys->source = text;
        break;
    case 'n':
        run->keys.count = (uint32_t)parse_number("--count", text, 1, UINT32_MAX);
        break;
    case 'v':
        keys->value = text;
        break;
    case 'e':
        run->expect = parse_expectation(text);
        break;
    case 'm':
        run->miss_ratio = parse_number("--miss", text, 0, 1);
        break;
    case 'f':
        run->flags = (uint32_t)parse_number("--flags", text, 0, UINT32_MAX);
        break;
    case 'o':
        run->json = parse_form(text);
        break;
    default:
        usage(option == 'h' ? stdout : stderr);
        exit(option == 'h' ? 0 : EX_USAGE);
    }
}

static void parse_options(struct run *run, int argc, char **argv)
{
    static const struct option names[] = {
        {"socket", required_argument, NULL, 's'},  {"connections", required_argument, NULL, 'c'},
        {"depth", required_argument, NULL, 'd'},   {"time", required_argument, NULL, 't'},
        {"warm-up", required_argument, NULL, 'w'}, {"keys", required_argument, NULL, 'k'},
        {"count", required_argument, NULL, 'n'},   {"value", required_argument, NULL, 'v'},
        {"expect", required_argument, NULL, 'e'},  {"miss", required_argument, NULL, 'm'},
        {"flags", required_argument, NULL, 'f'},   {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    struct key_options keys = {.source = "user%d@example.com"};
    int option;

    while ((option = getopt_long(argc, argv, "s:c:d:t:w:k:n:v:e:m:f:o:h", names, NULL)) != -1)
        set_option(run, &keys, option, optarg);
    if (run->socket_path == NULL || optind + 1 != argc) {
        usage(stderr);
        exit(EX_USAGE);
    }
    run->table = argv[optind];
    keys_prepare(&run->keys, keys.source, keys.value);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct run run = {
        .connections = 1,
        .depth = 1,
        .seconds = 2,
        .warm_up = 0.2,
        .flags = 524352,
        .keys = {.count = 1000},
    };

    parse_options(&run, argc, argv);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop}, NULL);
    raise_descriptor_limit();
    set_up(&run);
    measure(&run);
    drain(&run);
    report(&run);
    return run.errors > 0 ? 1 : 0;
}
