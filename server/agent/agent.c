/*
 * The frame of every agent: see agent.h. Runs in jailmap-agent-*, without capabilities. It may read
 * what the monitor gave it and talk over the links that the monitor sends; it must never write a
 * file, execute a program, or let one worker's link hold up another's: a worker that does not read
 * its answer is simply not asked for its next query.
 */
#include "server/agent/agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "privsep/hear.h"

#define EVENTS_AT_ONCE 64
#define CANNOT_MS      10000 /* one line about keys without an answer in this time */

struct link {
    int fd;
    bool gone;
    bool waiting; /* for the worker to take this answer: */
    struct msg_answer answer;
    char *value;
    size_t value_len;
    struct link *next_gone;
};

static int loop_fd;
static struct epoll_event reported[EVENTS_AT_ONCE]; /* from next_event on, not looked at yet */
static int nevents, next_event;
static struct agent_wait followed = {.fd = -1}; /* watched for the back end */
static const struct agent_backend *backend;
static enum bridge_state state = STATE_BEGIN;
static struct agent_source source = {
    .file = -1, .database = -1, .journal = -1, .wal = -1, .dialer = -1};
static char name[BRIDGE_NAME_MAX + 2]; /* a NUL ends it, and what may stand behind one in it */
static enum { NOT_KNOWN, WORKS, FAILS } health = NOT_KNOWN;
static bool recheck; /* that it works is to be told, also if it is no news */
static uint64_t cannot_at;
static enum bridge_event alarm_event;
static const char *alarm_why;
static struct link *gone;
static _Alignas(8) char link_buf[BRIDGE_LARGE]; /* the query in hand */
static struct link *in_hand;                    /* whose it is; NULL: there is none */
static struct msg_query query;
static struct slice query_key;

uint64_t agent_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void tell(enum bridge_event event, const char *text)
{
    struct msg_event body = {event, 0};
    size_t len = text != NULL ? strlen(text) : 0;

    /* give_up() may do this. NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
    bridge_send(BRIDGE_FD, MSG_EVENT, &body, text, len < BRIDGE_NAME_MAX ? len : BRIDGE_NAME_MAX,
                NULL);
}

/* Tells the monitor when failing begins and when it ends, and not once a lookup. */
void agent_health(const char *why)
{
    bool first = health == NOT_KNOWN && why == NULL; /* that is what is expected of it */
    bool asked = recheck && why == NULL;

    if (why == NULL)
        recheck = false;
    if (health == (why != NULL ? FAILS : WORKS) && !asked)
        return;
    health = why != NULL ? FAILS : WORKS;
    if (!first || asked)
        tell(why != NULL ? EVENT_FAILING : EVENT_WORKING, why);
}

/* ---- links ---- */

/* Of all agents that share a link, one is to wake up for each query. Such a watch cannot be
 * changed, only made anew. */
static void watch(struct link *link, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = link};

    if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, link->fd, &ev) != 0)
        exit(EXIT_FAILURE);
}

static void unwatch(const struct link *link)
{
    epoll_ctl(loop_fd, EPOLL_CTL_DEL, link->fd, NULL);
}

static void drop(struct link *link)
{
    /* Others have it open, too: epoll would go on to report it. */
    unwatch(link);
    close(link->fd);
    free(link->value);
    link->value = NULL;
    for (int i = next_event; i < nevents; i++)
        if (reported[i].data.ptr == link)
            reported[i] = reported[--nevents];
    link->gone = true;
    link->next_gone = gone;
    gone = link;
}

static void free_gone(void)
{
    struct link **at = &gone;

    while (*at != NULL) {
        struct link *link = *at;

        if (link == in_hand) { /* its answer is still to come, and goes nowhere */
            at = &link->next_gone;
            continue;
        }
        *at = link->next_gone;
        free(link);
    }
}

static void send_answer(struct link *link, struct slice value)
{
    if (bridge_send(link->fd, MSG_ANSWER, &link->answer, value.ptr, value.len, NULL) == 0)
        return;
    if (errno != EAGAIN || (link->value = malloc(value.len + 1)) == NULL) {
        drop(link);
        return;
    }
    if (value.len > 0)
        memcpy(link->value, value.ptr, value.len);
    link->value_len = value.len;
    link->waiting = true;
    unwatch(link);
    watch(link, EPOLLOUT);
}

static void link_writable(struct link *link)
{
    char *value = link->value;

    link->value = NULL;
    link->waiting = false;
    unwatch(link);
    watch(link, EPOLLIN | EPOLLEXCLUSIVE);
    send_answer(link, (struct slice){value, link->value_len});
    free(value);
}

static void answer(enum bridge_answer status, struct slice value)
{
    struct link *link = in_hand;

    in_hand = NULL;
    if (link->gone)
        return;
    link->answer = (struct msg_answer){.id = query.id, .status = status};
    send_answer(link, status == ANSWER_FOUND ? value : (struct slice){"", 0});
}

void agent_cannot(const char *why)
{
    uint64_t now = agent_now();

    if (now >= cannot_at)
        tell(EVENT_CANNOT, why);
    if (now >= cannot_at)
        cannot_at = now + CANNOT_MS;
    answer(ANSWER_RETRY, (struct slice){"", 0});
}

void agent_nothing(void)
{
    answer(ANSWER_NOT_FOUND, (struct slice){"", 0});
}

void agent_answer(enum bridge_answer status, struct slice value, const char *why)
{
    if (status == ANSWER_FOUND && source.reveal == REVEAL_EXISTENCE)
        value = query_key;
    agent_health(status == ANSWER_RETRY ? why : NULL);
    if (status == ANSWER_FOUND && value.len > BRIDGE_DATA_MAX)
        agent_cannot("an entry is larger than 256 KiB");
    else
        answer(status, value);
}

/* What it interrupts never goes on, so that it may use what that was about to change; and
 * bridge_send() is one system call, with memory of its own. */
static void give_up(int sig)
{
    struct msg_answer body = {.id = query.id, .status = ANSWER_RETRY};

    (void)sig;
    if (alarm_event != EVENT_FAILING || health != FAILS)
        tell(alarm_event, alarm_why);
    if (in_hand != NULL && !in_hand->gone)
        /* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
        bridge_send(in_hand->fd, MSG_ANSWER, &body, NULL, 0, NULL);
    _exit(EXIT_SUCCESS);
}

bool agent_end_at_alarm(enum bridge_event event, const char *why)
{
    alarm_event = event;
    alarm_why = why;
    return signal(SIGALRM, give_up) != SIG_ERR;
}

/* One query in a turn, so that every worker gets its own. */
static void link_readable(struct link *link)
{
    struct bridge_msg msg;
    const char *why = "";

    switch (bridge_receive(link->fd, link_buf, sizeof link_buf, ROLE_WORKER, ROLE_AGENT,
                           STATE_SERVE, &msg, &why)) {
    case BRIDGE_AGAIN: /* another agent was faster */
        return;
    case BRIDGE_CLOSED:
    case BRIDGE_BAD:
        drop(link);
        return;
    case BRIDGE_OK:
        break;
    }
    query = msg.body.QUERY;
    query_key = (struct slice){msg.tail, msg.tail_len};
    in_hand = link;
    /* Workers ask for no other keys, unless somebody has taken one over. */
    if (key_limit_passes(&source.limit, query_key))
        backend->ask(&(struct agent_query){query_key, query.flags});
    else
        answer(ANSWER_NOT_FOUND, (struct slice){"", 0});
}

static void take_link(int fd)
{
    struct link *link = calloc(1, sizeof *link);

    if (link == NULL) {
        close(fd);
        return;
    }
    link->fd = fd;
    watch(link, EPOLLIN | EPOLLEXCLUSIVE);
} /* NOLINT(clang-analyzer-unix.Malloc): epoll keeps the pointer */

/* ---- the monitor ---- */

static void take_input(enum bridge_input input, int fd)
{
    int *const places[] = {[INPUT_SOURCE] = &source.file,
                           [INPUT_DATABASE] = &source.database,
                           [INPUT_JOURNAL] = &source.journal,
                           [INPUT_WAL] = &source.wal,
                           [INPUT_DIALER] = &source.dialer};

    if (input > INPUT_DIALER || places[input] == NULL || *places[input] >= 0)
        exit(EXIT_FAILURE);
    *places[input] = fd;
}

/* SOURCE: type, reveal, limit of keys, time for an answer; name. */
static void take_source(const struct bridge_msg *msg)
{
    static struct agent_report report;
    struct msg_loaded loaded = {0};

    memcpy(name, msg->tail, msg->tail_len);
    source.type = (enum table_type)msg->body.SOURCE.type;
    source.reveal = msg->body.SOURCE.reveal;
    source.limit = msg->body.SOURCE.limit;
    source.timeout = msg->body.SOURCE.timeout;
    source.name = name;
    state = STATE_SERVE;
    if (backend->prepare != NULL && !backend->prepare(&source, &report)) {
        bridge_send(BRIDGE_FD, MSG_FAILED, &(struct msg_failed){0}, report.text,
                    strlen(report.text), NULL);
        exit(EXIT_SUCCESS);
    }
    loaded.entries = report.entries;
    loaded.ignored = report.ignored;
    bridge_send(BRIDGE_FD, MSG_LOADED, &loaded, report.text, strlen(report.text), NULL);
}

static void bridge_readable(void)
{
    struct bridge_msg msg;

    if (!hear(ROLE_AGENT, state, &msg))
        return;
    switch (msg.type) {
    case MSG_INPUT: /* which; a file, or the link to the dialer */
        take_input((enum bridge_input)msg.body.INPUT.input, msg.fds[0]);
        break;
    case MSG_SOURCE:
        take_source(&msg);
        break;
    case MSG_LINK: /* one end of a link to a worker */
        take_link(msg.fds[0]);
        break;
    case MSG_RECHECK:
        recheck = msg.body.RECHECK.fails;
        if (backend->recheck != NULL)
            backend->recheck();
        break;
    default:
        exit(EXIT_FAILURE);
    }
}

/* ---- loop ---- */

static int time_left(uint64_t until)
{
    uint64_t now = agent_now();

    return until == AGENT_NEVER  ? -1
           : until <= now        ? 0
           : until - now > 60000 ? 60000
                                 : (int)(until - now);
}

/* What the back end waits for while no query is in hand is watched with the links: poll(2) of both
 * would wake every agent of the pool for each query. It stays watched while a query is in hand,
 * since most back ends wait for the same again. A descriptor that has been closed is not watched
 * any more by itself, and its number is nobody else's yet: there is one event in a turn. */
static void follow(const struct agent_wait *wait)
{
    struct epoll_event ev = {.events = (uint32_t)wait->events, .data.ptr = &followed};

    if (followed.fd >= 0 && followed.fd != wait->fd) {
        epoll_ctl(loop_fd, EPOLL_CTL_DEL, followed.fd, NULL);
        followed.fd = -1;
    }
    if (in_hand != NULL || wait->fd < 0 ||
        (followed.fd == wait->fd && followed.events == wait->events))
        return;
    if (epoll_ctl(loop_fd, followed.fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, wait->fd, &ev) != 0)
        exit(EXIT_FAILURE);
    followed = *wait;
}

/* It may be history: a query has come before it, or who made the connection had it open, too. */
static void followed_ready(const struct agent_wait *wait)
{
    struct pollfd fd = {.fd = wait->fd, .events = wait->events};

    if (poll(&fd, 1, 0) > 0)
        backend->ready(fd.revents);
}

/* While no query is in hand. What was reported and not looked at is looked at in the next turn,
 * before it is asked for again: else the first link would always be first. */
static void serve(const struct agent_wait *wait)
{
    struct link *link;

    if (next_event == nevents) {
        int n = epoll_wait(loop_fd, reported, EVENTS_AT_ONCE, time_left(wait->until));

        if (n < 0 && errno != EINTR)
            exit(EXIT_FAILURE);
        nevents = n > 0 ? n : 0;
        next_event = 0;
    }
    if (next_event == nevents) {
        if (wait->until <= agent_now())
            backend->ready(0);
        return;
    }
    link = reported[next_event++].data.ptr;
    if (link == NULL)
        bridge_readable();
    else if ((void *)link == &followed)
        followed_ready(wait);
    else if (link->waiting)
        link_writable(link);
    else
        link_readable(link);
}

/* While one is: for the back end, and the monitor. */
static void work(const struct agent_wait *wait)
{
    struct pollfd fds[] = {{.fd = BRIDGE_FD, .events = POLLIN},
                           {.fd = wait->fd, .events = wait->events}};

    if (poll(fds, 2, time_left(wait->until)) < 0 && errno != EINTR)
        exit(EXIT_FAILURE);
    if (fds[0].revents != 0)
        bridge_readable();
    else if (fds[1].revents != 0 || wait->until <= agent_now())
        backend->ready(fds[1].revents);
}

int agent_main(const struct agent_backend *b)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    const char *lacking = b->enter != NULL ? b->enter() : NULL;

    backend = b;
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    profile_enter(b->profile);
    if (lacking != NULL)
        tell(EVENT_WEAKER, lacking);
    if (loop_fd < 0 || epoll_ctl(loop_fd, EPOLL_CTL_ADD, BRIDGE_FD, &ev) != 0)
        return EXIT_FAILURE;
    for (;;) {
        struct agent_wait wait = {-1, 0, AGENT_NEVER};

        if (state == STATE_SERVE && backend->wait != NULL)
            backend->wait(&wait);
        follow(&wait);
        if (in_hand != NULL)
            work(&wait);
        else
            serve(&wait);
        free_gone();
    }
}
