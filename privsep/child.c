/*
 * Children of the monitor: starting, hearing, ending. Runs in the monitor, with privilege. Every
 * message from a child passes through hear(), which checks it against the bridge's table and the
 * child's allowance before any handler sees it; a child that breaks a rule is ended and costs
 * the others nothing. It must never wait for a child, except when the monitor itself ends.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/launch.h"
#include "privsep/launchers.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/profile.h"

#define CREDIT_BURST  4096 /* messages at once */
#define CREDIT_PER_MS 1    /* and 1000 a second */
#define CREDIT_MOST   (16 * CREDIT_BURST)
#define TURN          64 /* messages handled before the others get their turn */
#define PATIENCE_MS   1000
#define AGAIN_MS      50
#define BIRTH_MS      60000 /* a launcher that takes longer is broken */

static struct child *children, *finished;
static _Alignas(8) char receive_buf[BRIDGE_SMALL];

static void child_ready(struct watched *self, uint32_t events);

static struct child *new_child(const struct child_ops *ops, void *owner, int fd)
{
    struct child *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->ops = ops;
    c->owner = owner;
    c->io = (struct watched){fd, child_ready};
    c->state = STATE_BEGIN;
    c->events = EPOLLIN;
    c->credit = CREDIT_BURST;
    c->started = c->credit_at = monitor_now();
    c->kill_at = c->stuck_at = c->again_at = NEVER;
    c->next = children;
    children = c;
    if (!monitor_watch(&c->io, c->events))
        child_end(c, "it cannot be watched");
    return c;
}

struct child *child_adopt(const struct child_ops *ops, void *owner, int fd, pid_t pid)
{
    struct child *c = new_child(ops, owner, fd);

    if (c != NULL)
        c->pid = pid;
    return c;
}

struct child *child_start(const struct child_ops *ops, void *owner, enum helper helper,
                          const struct spawn *limits, const char *title)
{
    static uint64_t births;
    struct child *c = NULL;
    int ends[2];

    if (bridge_pair(ends) == 0) {
        bridge_take_descriptors(ends[0], false);
        if (launch(helper, ++births, limits, title, ends[1]))
            c = new_child(ops, owner, ends[0]);
        close(ends[1]);
        if (c == NULL)
            close(ends[0]);
    }
    if (c == NULL)
        log_line(LOG_ERR, "cannot start a %s: %s", ops->what, strerror(errno));
    else
        c->birth = births;
    return c;
}

static void want(struct child *c, uint32_t events)
{
    if (c->io.fd >= 0 && c->events != events)
        monitor_rewatch(&c->io, events);
    c->events = events;
}

/* What it was sent and has not taken yet, in bytes as the kernel counts them. */
static int queued(const struct child *c)
{
    int bytes = 0;

    return c->io.fd >= 0 && ioctl(c->io.fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

bool child_backlog(const struct child *c)
{
    return queued(c) > 0;
}

/*
 * One that does not take what it was sent holds up its clients, and what it was sent is memory. Its
 * patience starts again with whatever it takes, and that is seen by the queue being shorter than
 * the last message left it. Returns false when it is over.
 */
static bool is_reading(struct child *c, uint64_t now)
{
    int bytes = queued(c);

    if (bytes == 0 || c->ops->patience == 0)
        c->stuck_at = NEVER;
    else if (bytes < c->queued || c->stuck_at == NEVER)
        c->stuck_at = now + c->ops->patience;
    c->queued = bytes;
    return c->stuck_at > now;
}

bool child_send(struct child *c, enum bridge_type type, const void *body, const void *tail,
                size_t tail_len, const int *fds)
{
    if (c->io.fd < 0)
        return true;
    is_reading(c, monitor_now());
    if (bridge_send(c->io.fd, type, body, tail, tail_len, fds) == 0) {
        is_reading(c, monitor_now());
        return true;
    }
    if (errno == ETOOMANYREFS) { /* so many descriptors are under way, to this one or to others */
        c->again_at = monitor_now() + AGAIN_MS;
        return false;
    }
    if (errno != EAGAIN) {
        if (errno != EPIPE && errno != ECONNRESET) /* those end by themselves */
            child_end(c, "it cannot be sent a message");
        return true;
    }
    want(c, EPOLLIN | EPOLLOUT);
    return false;
}

static void hang_up(struct child *c)
{
    if (c->io.fd < 0)
        return;
    /* close(2) alone would not do: a child that is between fork and exec shares the socket for a
     * moment, and epoll would go on to report it, with a pointer to what is freed by then. */
    monitor_unwatch(&c->io);
    close(c->io.fd);
    c->io.fd = -1;
}

void child_end(struct child *c, const char *verdict)
{
    if (c->verdict == NULL)
        c->verdict = verdict;
    hang_up(c);
    if (c->pid > 0 && !c->reaped) /* its number may be somebody else's by then */
        kill(c->pid, SIGKILL);
}

static void released_gone(struct child *c, const char *how)
{
    (void)c;
    (void)how;
}

void child_release(struct child *c)
{
    static const struct child_ops released = {
        .role = ROLE_WORKER, .what = "released child", .gone = released_gone};

    c->ops = &released;
    c->owner = NULL;
    hang_up(c);
    c->kill_at = monitor_now() + PATIENCE_MS;
}

void child_credit(struct child *c, unsigned messages)
{
    c->credit += messages;
    if (c->credit > CREDIT_MOST)
        c->credit = CREDIT_MOST;
}

static bool take_credit(struct child *c)
{
    uint64_t now = monitor_now();

    if (c->credit < CREDIT_BURST) {
        c->credit += (int64_t)(now - c->credit_at) * CREDIT_PER_MS;
        if (c->credit > CREDIT_BURST)
            c->credit = CREDIT_BURST;
    }
    c->credit_at = now;
    return c->credit-- > 0;
}

/* Handles one message. False when there is none, or the child is not to be heard any more. */
static bool hear(struct child *c)
{
    struct bridge_msg msg;
    const char *why = NULL;

    if (c->io.fd < 0)
        return false;
    switch (bridge_receive(c->io.fd, receive_buf, sizeof receive_buf, c->ops->role, ROLE_MONITOR,
                           c->state, &msg, &why)) {
    case BRIDGE_AGAIN:
        return false;
    case BRIDGE_CLOSED:
        hang_up(c);
        c->kill_at = monitor_now() + PATIENCE_MS;
        c->late = NULL;
        return false;
    case BRIDGE_BAD:
        child_end(c, why);
        return false;
    case BRIDGE_OK:
        break;
    }
    if (!take_credit(c)) {
        while (msg.nfds > 0)
            bridge_discard(msg.fds[--msg.nfds]);
        child_end(c, "it floods the monitor with messages");
        return false;
    }
    c->ops->message(c, &msg);
    return true;
}

static void child_ready(struct watched *self, uint32_t events)
{
    struct child *c = (struct child *)self;

    if ((events & EPOLLOUT) && c->io.fd >= 0) {
        want(c, EPOLLIN);
        if (c->ops->writable != NULL)
            c->ops->writable(c);
    }
    if (events & ~(uint32_t)EPOLLOUT)
        for (int i = 0; i < TURN && hear(c); i++)
            ;
}

/* How it ended, in words; NULL for exit status 0. */
static const char *describe(const struct child *c, int status)
{
    static char text[256];

    if (c->verdict != NULL)
        return c->verdict;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return "killed by its sandbox: forbidden system call";
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) == PROFILE_EXIT)
        return "its system call filter could not be loaded";
    else if (WEXITSTATUS(status) >= SPAWN_EXIT)
        snprintf(text, sizeof text, "it could not enter its jail: step %d",
                 WEXITSTATUS(status) - SPAWN_EXIT);
    else if (WEXITSTATUS(status) != 0)
        snprintf(text, sizeof text, "exit status %d", WEXITSTATUS(status));
    else
        return NULL;
    return text;
}

/* Its end; error: it never began. Handlers may start others, but free none. */
static void finish(struct child *c, int status, int error)
{
    struct child **at = &children;

    c->reaped = true;
    while (hear(c)) /* its last words, as many as its allowance has: they may earn it a verdict */
        ;
    hang_up(c);
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->ops->gone(c, error != 0 ? strerror(error) : describe(c, status));
    c->next = finished;
    finished = c;
}

static bool reap_one(void)
{
    int status;

    for (struct child *c = children; c != NULL; c = c->next)
        if (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid) {
            finish(c, status, 0);
            return true;
        }
    return false;
}

void children_reap(void)
{
    while (reap_one())
        ;
}

static struct child *find(uint64_t birth, pid_t pid)
{
    for (struct child *c = children; c != NULL; c = c->next)
        if (pid > 0 ? c->pid == pid : c->pid == 0 && c->birth == birth)
            return c;
    return NULL;
}

/*
 * What a launcher says is checked: a number that is not of a child would be somebody else's, whom
 * the monitor would end one day.
 */
bool child_born(uint64_t birth, pid_t pid, int error)
{
    struct child *c = find(birth, 0);
    siginfo_t info;

    if (c == NULL)
        return false;
    if (error != 0) {
        finish(c, 0, error);
        return true;
    }
    if (pid <= 0 || find(0, pid) != NULL ||
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return false;
    c->pid = pid;
    if (c->verdict != NULL)
        kill(pid, SIGKILL); /* it came too late */
    children_reap();
    return true;
}

void children_free(void)
{
    while (finished != NULL) {
        struct child *c = finished;

        finished = c->next;
        free(c);
    }
}

uint64_t children_tick(uint64_t now)
{
    uint64_t next = NEVER;

    for (struct child *c = children; c != NULL; c = c->next) {
        if (c->pid == 0 && c->started + BIRTH_MS <= now) {
            monitor_stop(EX_SOFTWARE, "a launcher does not start what it is asked for");
            return now;
        }
        if (c->pid == 0 && c->started + BIRTH_MS < next)
            next = c->started + BIRTH_MS;
        if (c->kill_at <= now) {
            child_end(c, c->late != NULL ? c->late : "it did not end in time");
            c->kill_at = NEVER;
        }
        if (c->again_at <= now) {
            c->again_at = NEVER;
            if (c->ops->writable != NULL)
                c->ops->writable(c);
        }
        if (c->stuck_at <= now && !is_reading(c, now))
            child_end(c, "it does not read its messages");
        if (c->kill_at < next)
            next = c->kill_at;
        if (c->stuck_at < next)
            next = c->stuck_at;
        if (c->again_at < next)
            next = c->again_at;
    }
    return next;
}

/* Waits a moment for those with these roles to go by themselves, then ends them. */
static void stop_roles(unsigned roles)
{
    const struct timespec pause = {0, 2 * 1000 * 1000};
    uint64_t until = monitor_now() + PATIENCE_MS;

    for (struct child *c = children; c != NULL; c = c->next)
        if (c->ops->role & roles)
            hang_up(c);
    for (;;) {
        bool late = monitor_now() >= until, left = false;

        for (struct child **at = &children; *at != NULL;) {
            struct child *c = *at;

            if ((c->ops->role & roles) == 0) {
                at = &c->next;
                continue;
            }
            if (late && c->pid > 0)
                kill(c->pid, SIGKILL);
            /* One that is not born yet ends with its launcher, or finds its bridge closed. */
            if (c->pid > 0 && waitpid(c->pid, NULL, late ? 0 : WNOHANG) == 0) {
                left = true;
                at = &c->next;
                continue;
            }
            *at = c->next;
            free(c);
        }
        if (!left)
            return;
        nanosleep(&pause, NULL);
    }
}

void children_stop(void)
{
    stop_roles(~(unsigned)(ROLE_SCRIBE | ROLE_LAUNCHER));
    stop_roles(ROLE_SCRIBE);
    stop_roles(ROLE_LAUNCHER);
}
