/*
 * floor: the least that a proxymap server can do, to measure others against. A bench program only,
 * run in the foreground by whoever runs the bench; it needs no privilege, reads no table, and must
 * never stand in for a real server: it makes its answers up.
 *
 *     floor -s SOCKET [-v LENGTH]
 *
 *     -s PATH      the socket to make; removed on SIGTERM and SIGINT
 *     -v LENGTH    bytes in the value of a found answer (default 24)
 *
 * It is kept honest: it gets the same requests as the servers next to it, finds the end of each
 * attribute list name by name and value by value, copes with partial and with pipelined requests,
 * and sends replies of the same form and size: to open OK, to a lookup whose key begins with '~'
 * (what load --miss sends) not found, to any other lookup a constant value. It does nothing else:
 * no table, no policy, no checks, no jail. For each wake-up it takes a batch of events with one
 * epoll_wait(2), and for each ready connection makes one read and one write.
 *
 * It closes a client that sends an incomplete request of 64 KiB, or that does not drain its
 * replies.
 */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define GREETING "protocol\0proxymap_protocol\0"
#define OPEN_REPLY                                                                                 \
    "status\0"                                                                                     \
    "0\0"                                                                                          \
    "flags\0"                                                                                      \
    "28\0"
#define MISS_REPLY                                                                                 \
    "status\0"                                                                                     \
    "1\0"                                                                                          \
    "value\0"                                                                                      \
    "\0"
#define HIT_HEAD                                                                                   \
    "status\0"                                                                                     \
    "0\0"                                                                                          \
    "value"
#define MISS_MARK '~'

enum {
    BATCH = 512,             /* events taken from the kernel at a time */
    INPUT_SIZE = 64 * 1024,  /* one read, and the longest request */
    OUTPUT_SIZE = 64 * 1024, /* written at once; more than a socket takes is a slow client's loss */
    LONGEST_VALUE = 16 * 1024,
};

struct client {
    int fd;
    char *partial; /* the beginning of a request */
    size_t partial_len;
};

/* What floor needs to know of a request. */
struct request {
    const char *verb; /* the first value */
    const char *key;  /* the last value */
};

struct reply {
    const char *data;
    size_t len;
};

static const char *socket_path;
static struct reply hit_reply;

static _Noreturn void die(int status, const char *message)
{
    fprintf(stderr, "floor: %s: %s\n", message, strerror(errno));
    exit(status);
}

/* Finds the end of the attribute list at `data`. Returns its length, or 0 if it is incomplete. */
static size_t delimit(const char *data, size_t len, struct request *request)
{
    const char *at = data;
    const char *end = data + len;

    request->verb = NULL;
    request->key = "";
    while (at < end) {
        const char *value;

        if (*at == '\0')
            return (size_t)(at + 1 - data);
        value = memchr(at, '\0', (size_t)(end - at));
        if (value == NULL)
            return 0;
        value++;
        at = memchr(value, '\0', (size_t)(end - value));
        if (at == NULL)
            return 0;
        at++;
        request->key = value;
        if (request->verb == NULL)
            request->verb = value;
    }
    return 0;
}

static struct reply answer(const struct request *request)
{
    if (request->verb != NULL && request->verb[0] == 'o')
        return (struct reply){OPEN_REPLY, sizeof(OPEN_REPLY)};
    if (request->key[0] == MISS_MARK)
        return (struct reply){MISS_REPLY, sizeof(MISS_REPLY)};
    return hit_reply;
}

static bool send_all(struct client *client, const char *data, size_t len)
{
    return send(client->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* Answers every complete request in `data`. Returns the bytes used, or -1 to close the client. */
static ssize_t answer_all(struct client *client, const char *data, size_t len)
{
    static char output[OUTPUT_SIZE];
    size_t output_len = 0;
    size_t used = 0;
    struct request request;
    size_t request_len;

    while ((request_len = delimit(data + used, len - used, &request)) > 0) {
        struct reply reply = answer(&request);

        if (output_len + reply.len > sizeof(output)) {
            if (!send_all(client, output, output_len))
                return -1;
            output_len = 0;
        }
        memcpy(output + output_len, reply.data, reply.len);
        output_len += reply.len;
        used += request_len;
    }
    if (output_len > 0 && !send_all(client, output, output_len))
        return -1;
    return (ssize_t)used;
}

static bool keep_partial(struct client *client, const char *data, size_t len)
{
    client->partial_len = len;
    if (len == 0)
        return true;
    client->partial = realloc(client->partial, len);
    if (client->partial == NULL)
        return false;
    memcpy(client->partial, data, len);
    return true;
}

static bool serve(struct client *client)
{
    static char input[INPUT_SIZE];
    size_t len = client->partial_len;
    ssize_t got;
    ssize_t used;

    if (len == sizeof(input))
        return false;
    if (len > 0)
        memcpy(input, client->partial, len);
    got = recv(client->fd, input + len, sizeof(input) - len, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    len += (size_t)got;
    used = answer_all(client, input, len);
    return used >= 0 && keep_partial(client, input + used, len - (size_t)used);
}

static void watch(int epoll, int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die(EX_OSERR, "epoll_ctl");
}

static void drop(struct client *client)
{
    close(client->fd);
    free(client->partial);
    free(client);
}

static void take_clients(int epoll, int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof(*client));

        if (client == NULL)
            die(EX_OSERR, "calloc");
        client->fd = fd;
        watch(epoll, fd, client);
        if (!send_all(client, GREETING, sizeof(GREETING)))
            drop(client);
    }
}

static void on_signal(int number)
{
    (void)number;
    unlink(socket_path);
    _exit(0);
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        die(EX_OSERR, "socket");
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        die(EX_USAGE, path);
    }
    strcpy(address.sun_path, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1024) != 0)
        die(EX_OSERR, path);
    if (chmod(path, 0666) != 0)
        die(EX_OSERR, path);
    return fd;
}

static void make_hit_reply(size_t value_len)
{
    size_t len = sizeof(HIT_HEAD) + value_len + 2;
    char *data = calloc(1, len);

    if (data == NULL)
        die(EX_OSERR, "calloc");
    memcpy(data, HIT_HEAD, sizeof(HIT_HEAD));
    memset(data + sizeof(HIT_HEAD), 'v', value_len);
    hit_reply = (struct reply){data, len};
}

static void parse_options(int argc, char **argv)
{
    size_t value_len = 24;
    int option;

    while ((option = getopt(argc, argv, "s:v:")) != -1) {
        if (option == 's')
            socket_path = optarg;
        else if (option == 'v')
            value_len = strtoul(optarg, NULL, 10);
        else
            exit(EX_USAGE);
    }
    if (socket_path == NULL || optind != argc || value_len > LONGEST_VALUE) {
        fputs("usage: floor -s SOCKET [-v LENGTH]   (LENGTH at most 16384)\n", stderr);
        exit(EX_USAGE);
    }
    make_hit_reply(value_len);
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
    struct epoll_event event[BATCH];
    int epoll;
    int listener;
    int count;

    parse_options(argc, argv);
    raise_descriptor_limit();
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    listener = listen_on(socket_path);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die(EX_OSERR, "epoll_create1");
    watch(epoll, listener, NULL);
    for (;;) {
        count = epoll_wait(epoll, event, BATCH, -1);
        if (count < 0 && errno != EINTR)
            die(EX_OSERR, "epoll_wait");
        for (int i = 0; i < count; i++) {
            struct client *client = event[i].data.ptr;

            if (client == NULL)
                take_clients(epoll, listener);
            else if (!serve(client))
                drop(client);
        }
    }
}
