/*
 * One server: see server.h. Runs in jailmap-agent-net, in the jail. It may send to and receive from
 * the connection that its dialer has made; it must never wait, and never answer "not found" unless
 * the server has said so.
 *
 * A server that cannot be connected to is left alone, and so is one that fails two queries in a row
 * in another way; a single one may be the fault of its key. Meanwhile queries are answered at once,
 * with RETRY, and a connection is tried without anybody waiting for it: after 1 s, 2 s, and so on
 * up to a minute. Once there is one, queries go on, and the first good reply ends it all.
 */
#include "server/agent/net/server.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/agent/dial.h"

/* As in Postfix, a connection is closed when nothing was asked for this time, or when it is so old:
 * servers are replaced, and addresses change. */
#define IDLE_MS       10000
#define LIFETIME_MS   100000
#define PAUSE_MS      1000
#define PAUSE_MAX_MS  60000
#define STRIKES_MAX   10 /* of failures in a row */
#define STRIKES_QUICK 1
#define STRIKES_SLOW  5   /* it has taken all the time there is */
#define TRIES         2   /* connections for one query */
#define SAID_MAX      200 /* bytes of the server's words in a message */

enum phase {
    IDLE,    /* no query; perhaps a connection */
    DIALING, /* a query waits for a connection */
    ASKING,  /* a query waits for its reply */
    DOWN,    /* queries are not asked */
    PROBING  /* nor here, and a connection is expected */
};

static const struct net_protocol *protocol;
static const char *endpoint;
static unsigned timeout;
static enum phase phase;

static int fd = -1;
static uint64_t made, used; /* when */
static uint64_t deadline;   /* of the query, or the probe */
static unsigned tries, strikes;
static uint64_t probe_at;
static unsigned pause_ms = PAUSE_MS;
static char why[512]; /* of what has failed last */

static char request[NET_REQUEST_MAX], reply[NET_REPLY_MAX];
static size_t request_len, sent, have;

static void try_again(void);

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list ap;
    int n = snprintf(why, sizeof why, "%s server %.200s: ", protocol->type, endpoint);

    va_start(ap, format);
    vsnprintf(why + n, sizeof why - (size_t)n, format, ap);
    va_end(ap);
}

static void hang_up(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
}

static bool is_old(uint64_t now)
{
    return now >= used + IDLE_MS || now >= made + LIFETIME_MS;
}

/* Has anything come that nobody asked for, or the end? It must not be taken for a reply. */
static bool is_spoiled(void)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

/* ---- failures ---- */

/* Leaves the server alone for a while. why says what it did. */
static void go_down(void)
{
    bool query = phase == DIALING || phase == ASKING;

    hang_up();
    phase = DOWN;
    probe_at = agent_now() + pause_ms;
    pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    if (query)
        agent_answer(ANSWER_RETRY, (struct slice){"", 0}, why);
}

/* The server has taken a query, and there is no answer. */
static void strike(unsigned weight)
{
    hang_up();
    strikes += weight;
    if (strikes >= STRIKES_MAX) {
        go_down();
        return;
    }
    phase = IDLE;
    agent_cannot(why);
}

/* The connection ended before the reply did: it may have been closed while nobody used it. */
static void lost(const char *how)
{
    hang_up();
    if (tries < TRIES) {
        try_again();
        return;
    }
    say("%s before its reply was whole, twice", how);
    strike(STRIKES_QUICK);
}

/* ---- a query ---- */

/* The server's own words in visible ASCII. */
static const char *words(struct slice said)
{
    static char text[SAID_MAX + 1];
    size_t len = 0;

    for (; len < said.len && len < SAID_MAX; len++)
        text[len] = (char)(said.ptr[len] >= ' ' && said.ptr[len] <= '~' ? said.ptr[len] : '?');
    text[len] = '\0';
    return text;
}

/* What is left over belongs to no request: who sends that cannot be trusted to keep in step. */
static void take_reply(const struct net_reply *r)
{
    strikes = 0;
    pause_ms = PAUSE_MS;
    phase = IDLE;
    used = agent_now();
    if (r->last || r->used < have || sent < request_len)
        hang_up();
    if (r->status != ANSWER_RETRY) {
        agent_answer(r->status, r->value, NULL);
        return;
    }
    say("it says \"%s\"", words(r->said));
    agent_cannot(why);
}

/* A reply can come, and count, before the request has gone, or when the rest of it cannot go. */
static void send_request(void)
{
    while (sent < request_len) {
        ssize_t n = send(fd, request + sent, request_len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n <= 0)
            return;
        sent += (size_t)n;
    }
}

static void exchange(void)
{
    struct net_reply r;

    send_request();
    for (;;) {
        ssize_t n = recv(fd, reply + have, sizeof reply - have, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            lost(n == 0 ? "it closed the connection" : "the connection broke");
            return;
        }
        have += (size_t)n;
        switch (protocol->reply(reply, have, &r)) {
        case NET_MORE:
            continue;
        case NET_WHOLE:
            take_reply(&r);
            return;
        case NET_BAD:
            say("it sent %s", r.why);
            strike(STRIKES_QUICK);
            return;
        }
    }
}

static void begin_exchange(void)
{
    phase = ASKING;
    sent = have = 0;
    exchange();
}

static void try_again(void)
{
    uint64_t now = agent_now();

    if (fd >= 0) {
        begin_exchange();
        return;
    }
    tries++;
    phase = DIALING;
    dial(0, now < deadline ? (unsigned)(deadline - now) : 0);
}

void server_ask(struct slice map, struct slice key)
{
    uint64_t now = agent_now();

    if (phase == DOWN || phase == PROBING) {
        agent_answer(ANSWER_RETRY, (struct slice){"", 0}, why);
        return;
    }
    if (fd >= 0 && (is_old(now) || is_spoiled()))
        hang_up();
    request_len = protocol->request(request, map, key);
    deadline = now + timeout * UINT64_C(1000);
    tries = fd >= 0 ? 1 : 0;
    try_again();
}

/* ---- connections ---- */

static void connected(int connection)
{
    fd = connection;
    made = used = agent_now();
    if (phase == DIALING) {
        begin_exchange();
        return;
    }
    phase = IDLE;
    if (strikes >= STRIKES_MAX) /* it was there all the time, and has yet to show that it works */
        return;
    pause_ms = PAUSE_MS;
    agent_health(NULL);
}

static void take_connection(void)
{
    char text[sizeof why];
    int connection;

    switch (dial_take(&connection, text, sizeof text)) {
    case DIAL_WAITING:
        return;
    case DIAL_DONE:
        connected(connection);
        return;
    case DIAL_FAILED:
        break;
    }
    snprintf(why, sizeof why, "%s", text);
    go_down();
}

static void probe(void)
{
    phase = PROBING;
    deadline = agent_now() + timeout * UINT64_C(1000);
    dial(0, timeout * 1000);
}

static void too_late(void)
{
    if (phase == ASKING) {
        say("no reply within %u s", timeout);
        strike(STRIKES_SLOW);
        return;
    }
    say("no connection within %u s", timeout);
    go_down();
}

/* ---- turns ---- */

void server_begin(const struct net_protocol *p, const char *where, unsigned seconds)
{
    protocol = p;
    endpoint = where;
    timeout = seconds;
}

void server_wait(struct agent_wait *wait)
{
    switch (phase) {
    case IDLE: /* what it says meanwhile, or that it ends, is seen when it is used again */
        if (fd >= 0)
            wait->until = used + IDLE_MS < made + LIFETIME_MS ? used + IDLE_MS : made + LIFETIME_MS;
        break;
    case DIALING:
    case PROBING:
        *wait = (struct agent_wait){dial_link(), POLLIN, deadline};
        break;
    case ASKING:
        *wait =
            (struct agent_wait){fd, (short)(POLLIN | (sent < request_len ? POLLOUT : 0)), deadline};
        break;
    case DOWN:
        wait->until = probe_at;
        break;
    }
}

void server_recheck(void)
{
    if (phase == DOWN)
        probe();
}

void server_ready(short revents)
{
    if (phase == DOWN) {
        probe();
        return;
    }
    if (phase == IDLE) { /* it is old */
        hang_up();
        return;
    }
    if (revents != 0 && phase == ASKING)
        exchange();
    else if (revents != 0)
        take_connection();
    /* Also if something came, as from a server that sends a byte now and then. */
    if ((phase == DIALING || phase == PROBING || phase == ASKING) && agent_now() >= deadline)
        too_late();
}
