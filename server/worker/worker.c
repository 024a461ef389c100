/*
 * jailmap-worker: speaks the client protocol to the clients of one uid on one listener. Started by
 * the monitor inside an empty chroot, without capabilities, with its bridge as descriptor 3. It may
 * touch the connections, images and links that the monitor sends, and nothing else: it can make no
 * descriptor, open, connect to, signal or execute nothing. When the monitor goes, it goes.
 */
#include "server/worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "privsep/hear.h"
#include "privsep/profile.h"

#define EVENTS_AT_ONCE 256
#define TICK_MS        250

static int loop_fd;
static bool tick_soon;
static uint64_t tick_at;
static struct watched bridge = {WATCH_BRIDGE, BRIDGE_FD};
static enum bridge_state bridge_state = STATE_BEGIN;
static bool bridge_blocked;

/* Clients whose end the monitor has not been told, because its queue was full. */
static uint32_t *untold;
static size_t untold_len, untold_cap;
static bool untold_settled;
static uint32_t settled;

struct msg_serve session_limits;

bool loop_add(struct watched *watched, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watched};

    return epoll_ctl(loop_fd, EPOLL_CTL_ADD, watched->fd, &ev) == 0;
}

void loop_change(struct watched *watched, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watched};

    epoll_ctl(loop_fd, EPOLL_CTL_MOD, watched->fd, &ev);
}

void loop_close(struct watched *watched)
{
    epoll_ctl(loop_fd, EPOLL_CTL_DEL, watched->fd, NULL);
    close(watched->fd);
}

void loop_tick_soon(void)
{
    tick_soon = true;
}

uint64_t loop_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void tell_when_writable(void)
{
    if (!bridge_blocked)
        loop_change(&bridge, EPOLLIN | EPOLLOUT);
    bridge_blocked = true;
}

void tell_event(enum bridge_event event, uint32_t subject, const char *tail, size_t len)
{
    struct msg_event body = {event, subject};

    if (len > BRIDGE_NAME_MAX)
        len = BRIDGE_NAME_MAX;
    bridge_send(BRIDGE_FD, MSG_EVENT, &body, tail, len, NULL);
}

void tell_closed(uint32_t client)
{
    struct msg_closed body = {client};

    if (untold_len == 0 && bridge_send(BRIDGE_FD, MSG_CLOSED, &body, NULL, 0, NULL) == 0)
        return;
    if (untold_len == untold_cap) {
        size_t cap = untold_cap == 0 ? 64 : untold_cap * 2;
        uint32_t *grown = realloc(untold, cap * sizeof *grown);

        if (grown == NULL)
            _exit(EXIT_FAILURE); /* the monitor counts this worker's clients as gone with it */
        untold = grown;
        untold_cap = cap;
    }
    untold[untold_len++] = client;
    tell_when_writable();
}

void tell_settled(uint32_t serial)
{
    struct msg_settle body = {serial};

    settled = serial;
    untold_settled = bridge_send(BRIDGE_FD, MSG_SETTLED, &body, NULL, 0, NULL) != 0;
    if (untold_settled)
        tell_when_writable();
}

int tell_handback(uint32_t client, int fd)
{
    struct msg_handback body = {client};

    return bridge_send(BRIDGE_FD, MSG_HANDBACK, &body, NULL, 0, &fd);
}

int tell_open(uint32_t ref, uint32_t client, struct slice name)
{
    struct msg_open body = {ref, client};

    return bridge_send(BRIDGE_FD, MSG_OPEN, &body, name.ptr, name.len, NULL);
}

static void bridge_writable(void)
{
    bridge_blocked = false;
    loop_change(&bridge, EPOLLIN);
    while (untold_len > 0) {
        struct msg_closed body = {untold[untold_len - 1]};

        if (bridge_send(BRIDGE_FD, MSG_CLOSED, &body, NULL, 0, NULL) != 0) {
            tell_when_writable();
            return;
        }
        untold_len--;
    }
    if (untold_settled)
        tell_settled(settled);
    tables_flush();
    sessions_hand_back();
}

static void bridge_readable(void)
{
    struct bridge_msg msg;

    while (hear(ROLE_WORKER, bridge_state, &msg)) {
        switch (msg.type) {
        case MSG_SERVE: /* the limits */
            session_limits = msg.body.SERVE;
            if (bridge_state == STATE_BEGIN) /* later ones are other limits */
                tally_start(session_limits.slots);
            bridge_state = STATE_SERVE;
            break;
        case MSG_CLIENT: /* client, greeted; the connection */
            session_start(msg.fds[0], msg.body.CLIENT.client, msg.body.CLIENT.greeted);
            break;
        case MSG_RECALL: /* ref */
            table_recalled(msg.body.RECALL.ref);
            break;
        case MSG_SETTLE: /* serial */
            tables_renew();
            tell_settled(msg.body.SETTLE.serial);
            break;
        case MSG_DRAIN: /* clients */
            sessions_drain(msg.body.DRAIN.clients);
            break;
        case MSG_COUNTERS: /* slots; the page */
            tally_share(msg.fds[0], msg.body.COUNTERS.slots);
            break;
        case MSG_PACE: /* how lookups are answered, how many in a minute */
            sessions_pace(&msg.body.PACE);
            break;
        case MSG_TABLE: /* ref, kind, flags, features, what answers, limit, index; image or link */
            table_granted(&msg.body.TABLE, msg.fds[0]);
            break;
        case MSG_TABLE_KIND: /* ref, flags, features, what answers, limit, index */
            table_changed(&msg.body.TABLE_KIND);
            break;
        case MSG_TABLE_ERROR: /* ref, status, flags, index */
            table_refused(&msg.body.TABLE_ERROR);
            break;
        default:
            exit(EXIT_FAILURE);
        }
    }
}

/* Sessions are gathered, so that their lookups can overlap; the rest is handled as it comes. */
static struct session *readable[SESSIONS_AT_ONCE];
static unsigned nreadable;

static void flush_readable(void)
{
    sessions_readable(readable, nreadable);
    nreadable = 0;
}

static void dispatch(struct watched *watched, uint32_t events)
{
    switch (watched->watch) {
    case WATCH_BRIDGE:
        if (events & EPOLLOUT)
            bridge_writable();
        if (events & ~(uint32_t)EPOLLOUT)
            bridge_readable();
        break;
    case WATCH_SESSION:
        if (events == EPOLLIN) {
            readable[nreadable++] = (struct session *)watched;
            if (nreadable == SESSIONS_AT_ONCE)
                flush_readable();
        } else {
            session_ready((struct session *)watched, events);
        }
        break;
    case WATCH_LINK:
        table_link_ready((struct table *)watched, events);
        break;
    }
}

int main(void)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    loop_fd = epoll_create1(EPOLL_CLOEXEC); /* the last descriptor that it ever makes */
    profile_enter(&profile_worker);
    if (loop_fd != WORKER_LOOP || !loop_add(&bridge, EPOLLIN))
        return EXIT_FAILURE;
    for (;;) {
        bool timed = tick_soon || sessions_timed() > 0, more = tables_shed();
        int wait = sessions_go_on(), n;

        timed |= sessions_timed() > 0 || tables_timed();
        if (more || (timed && (wait < 0 || wait > TICK_MS)))
            wait = more ? 0 : TICK_MS;
        n = epoll_wait(loop_fd, events, EVENTS_AT_ONCE, wait);

        if (n < 0 && errno != EINTR)
            return EXIT_FAILURE;
        for (int i = 0; i < n; i++)
            dispatch(events[i].data.ptr, events[i].events);
        flush_readable();
        if (timed && loop_now() >= tick_at) {
            tick_at = loop_now() + TICK_MS;
            tick_soon = false;
            tables_flush();
            tables_tick();
            sessions_tick();
            sessions_hand_back();
        }
        sessions_reap();
        tables_reap();
    }
}
