/*
 * `jailmap query`: looks keys up in a table through any proxymap-protocol socket, as a mail server
 * would. Runs as whoever calls it. It may connect to the socket it is told and read keys from
 * standard input; it must never open a table itself.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "ctl/jailmap.h"
#include "proto/proxymap.h"

/* As `postmap -u -q` sends: DUP_WARN, LOCK, FOLD_FIX. The server folds the key. */
#define QUERY_FLAGS    16449u
#define ANSWER_SECONDS 100 /* longer than any table of the server may take */
#define TOKENS_MOST    4   /* of a list that a server sends */

struct connection {
    const char *path;
    int fd;
    char *buf; /* unread bytes: [at, len) */
    size_t at, len, cap;
    bool answered; /* so what comes is no greeting */
};

struct query {
    const char *table;
    bool show_key;
    bool found, failed;
};

static int complain(int status, const char *what, const char *why)
{
    fprintf(stderr, "jailmap: %s: %s\n", what, why);
    return status;
}

/* Reads more; false with a message at the end, or when the server takes too long. */
static bool fill(struct connection *c)
{
    ssize_t n;

    if (c->len == c->cap) {
        size_t cap = c->cap == 0 ? 4096 : c->cap * 2;
        char *grown = realloc(c->buf, cap);

        if (grown == NULL)
            return complain(0, c->path, "out of memory");
        c->buf = grown;
        c->cap = cap;
    }
    do
        n = read(c->fd, c->buf + c->len, c->cap - c->len);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return complain(0, c->path, "no answer in time");
    if (n < 0 && errno != ECONNRESET)
        return complain(0, c->path, strerror(errno));
    if (n <= 0)
        return complain(0, c->path, "the server closed the connection");
    c->len += (size_t)n;
    return true;
}

/* The next attribute list, whose tokens borrow from c; or false with a message. */
static bool read_list(struct connection *c, struct slice tokens[TOKENS_MOST], size_t *count)
{
    struct attr_scan scan = {(uint32_t)c->at, (uint32_t)c->at};
    uint32_t starts[TOKENS_MOST];
    size_t n = 0, lens[TOKENS_MOST];
    struct slice token;

    if (c->buf == NULL && !fill(c))
        return false;
    for (;;) {
        if (!attr_next(&scan, c->buf, c->len, &token)) {
            if (!fill(c))
                return false;
            continue;
        }
        if (token.len == 0 && n % 2 == 0) /* a name that is empty ends the list */
            break;
        if (n == TOKENS_MOST)
            return complain(0, c->path, "this is not a proxymap server: unexpected answer");
        starts[n] = (uint32_t)(token.ptr - c->buf);
        lens[n++] = token.len;
    }
    for (size_t i = 0; i < n; i++)
        tokens[i] = (struct slice){c->buf + starts[i], lens[i]};
    c->at = scan.pos;
    *count = n;
    return true;
}

/* The answer to a request. A greeting may come before the first; some servers have none. */
static bool read_answer(struct connection *c, struct slice tokens[TOKENS_MOST])
{
    size_t count;

    if (!read_list(c, tokens, &count))
        return false;
    if (!c->answered && count == 2 && slice_is(tokens[0], "protocol") &&
        slice_is(tokens[1], "proxymap_protocol") && !read_list(c, tokens, &count))
        return false;
    c->answered = true;
    return count == 4 || complain(0, c->path, "this is not a proxymap server: unexpected answer");
}

static bool start_connection(struct connection *c)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};

    if (strlen(c->path) >= sizeof address.sun_path)
        return complain(0, c->path, "longer than a socket's name may be");
    strcpy(address.sun_path, c->path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return complain(0, c->path, strerror(errno));
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return true;
}

static bool send_all(struct connection *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE)
            return complain(0, c->path, "the server closed the connection");
        if (n < 0)
            return complain(0, c->path, strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* One exchange. Returns the protocol's status, or -1 with a message; *value borrows from c. */
static int exchange(struct connection *c, const char *request, const char *table,
                    const struct slice *key, struct slice *value)
{
    size_t room = 128 + strlen(table) + (key != NULL ? key->len : 0);
    char *bytes = malloc(room), *end = bytes;
    struct slice tokens[TOKENS_MOST];
    uint32_t status;
    bool sent;

    if (bytes == NULL)
        return complain(-1, c->path, "out of memory");
    end = attr_put(end, "request", (struct slice){request, strlen(request)});
    end = attr_put(end, "table", (struct slice){table, strlen(table)});
    end = attr_put_number(end, "flags", key != NULL ? QUERY_FLAGS : 0);
    if (key != NULL)
        end = attr_put(end, "key", *key);
    *end++ = '\0';
    c->at = c->len = 0;
    sent = send_all(c, bytes, (size_t)(end - bytes));
    free(bytes);
    if (!sent)
        return -1;
    if (!read_answer(c, tokens))
        return -1;
    if (!slice_is(tokens[0], "status") || !attr_number(tokens[1], &status) ||
        !slice_is(tokens[2], key != NULL ? "value" : "flags"))
        return complain(-1, c->path, "this is not a proxymap server: unexpected answer");
    *value = tokens[3];
    return (int)status;
}

/* What a status other than found and not found means, and the exit status for it. */
static int explain(const char *table, int status)
{
    switch (status) {
    case PM_RETRY:
        return complain(
            EX_TEMPFAIL, table,
            "temporary failure: the table cannot be used now; the server's log says why");
    case PM_DENY:
        return complain(
            EX_NOPERM, table,
            "not approved for this user; the server's log says why, and what would approve it");
    case PM_CONFIG:
        return complain(EX_TEMPFAIL, table, "the server reports a configuration error");
    case PM_BAD:
        return complain(EX_USAGE, table, "the server rejects the request as malformed");
    default:
        return complain(EX_PROTOCOL, table, "the server's answer has an unknown status");
    }
}

/* Looks one key up. 0 to go on, or the exit status. */
static int look_up(struct connection *c, struct query *q, struct slice key)
{
    struct slice value;
    int status = exchange(c, "lookup", q->table, &key, &value);

    if (status < 0)
        return EX_TEMPFAIL;
    if (status == PM_NOKEY) {
        if (!q->show_key) /* keys of a list are many, and postmap(1) is silent on them */
            fprintf(stderr, "jailmap: %.*s: not found in %s\n", (int)key.len, key.ptr, q->table);
        return 0;
    }
    if (status == PM_RETRY) {
        if (!q->failed)
            explain(q->table, status);
        q->failed = true;
        return 0;
    }
    if (status != PM_OK)
        return explain(q->table, status);
    q->found = true;
    if (q->show_key)
        printf("%.*s\t", (int)key.len, key.ptr);
    fwrite(value.ptr, 1, value.len, stdout);
    putchar('\n');
    return 0;
}

static int look_up_stdin(struct connection *c, struct query *q)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int rc = 0;

    q->show_key = true;
    while (rc == 0 && (len = getline(&line, &cap, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            len--;
        if (memchr(line, 0, (size_t)len) != NULL)
            rc = complain(EX_DATAERR, "standard input", "a key cannot hold a NUL byte");
        else
            rc = look_up(c, q, (struct slice){line, (size_t)len});
        fflush(stdout);
    }
    if (rc == 0 && ferror(stdin))
        rc = complain(EX_IOERR, "standard input", strerror(errno));
    free(line);
    return rc;
}

static int usage(void)
{
    fputs("usage: jailmap query [-s SOCKET] TYPE:NAME KEY...\n"
          "       KEY - reads keys from standard input, one a line\n",
          stderr);
    return EX_USAGE;
}

static int query(struct connection *c, struct query *q, int nkeys, char **keys)
{
    struct slice flags;
    int rc = 0, status;

    if (!start_connection(c))
        return EX_TEMPFAIL;
    status = exchange(c, "open", q->table, NULL, &flags);
    if (status != PM_OK)
        return status < 0 ? EX_TEMPFAIL : explain(q->table, status);
    for (int i = 0; rc == 0 && i < nkeys; i++) {
        if (strcmp(keys[i], "-") == 0)
            rc = look_up_stdin(c, q);
        else
            rc = look_up(c, q, (struct slice){keys[i], strlen(keys[i])});
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain(EX_IOERR, "standard output", strerror(errno));
    if (rc != 0)
        return rc;
    if (q->failed)
        return EX_TEMPFAIL;
    return q->found ? EX_OK : CTL_NOT_FOUND;
}

int ctl_query(int argc, char **argv)
{
    struct connection c = {.path = CTL_SOCKET, .fd = -1};
    struct query q = {0};
    int opt, rc;

    signal(SIGPIPE, SIG_IGN);
    while ((opt = getopt(argc, argv, "+s:")) != -1) {
        if (opt != 's')
            return usage();
        c.path = optarg;
    }
    if (argc - optind < 2)
        return usage();
    q.table = argv[optind];
    if (strchr(q.table, ':') == NULL)
        return complain(EX_USAGE, q.table, "a table is named TYPE:NAME");
    rc = query(&c, &q, argc - optind - 1, argv + optind + 1);
    if (c.fd >= 0)
        close(c.fd);
    free(c.buf);
    return rc;
}
