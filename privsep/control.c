/*
 * Control sockets: one for each command, in runtime-dir. Runs in the monitor: binding before it
 * gives up privilege, accepting afterwards. To connect is to command, so no byte is read from
 * anybody: who it is, the kernel says, and who may, the table below. It must never wait for a
 * connection: each gets at most one message from here, which it has room for or loses.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/census.h"
#include "privsep/control.h"
#include "privsep/log.h"
#include "privsep/memfd.h"
#include "privsep/monitor.h"
#include "privsep/profile.h"
#include "privsep/reload.h"

#define WAITING         16 /* connections that the kernel keeps for each */
#define ACCEPTS_AT_ONCE 16
#define GROUPS_MOST     1024
#define PAUSE_MS        200 /* when descriptors run out */
#define ASKERS          16  /* that wait for a reload */
#define RESULT_MAX      4096
#define LEFT_OUT        "refusals on control sockets"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* Takes the command; a connection that it keeps it takes out of *fd. NULL, or why it cannot. */
typedef const char *command(int *fd, const struct ucred *peer);

/* Somebody who waits for a reload. */
static struct asker {
    struct watched io; /* fd -1: nobody */
    struct reload_waiter waiter;
    bool spent; /* an event in hand may still point at it */
} askers[ASKERS];

/* ---- commands ---- */

static const char *show_status(int *fd, const struct ucred *peer)
{
    return census_asked(*fd, peer->uid) ? NULL : "the census is not ready; try again";
}

static int shown = -1; /* one for all who ask for the same policy */

/* The policy in force as a text that nobody can change. -1: it cannot be made. */
static int policy_memory(void)
{
    const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    char *text = NULL;
    const char *why;
    size_t size = 0, at = 0;
    FILE *out = open_memstream(&text, &size);
    bool good = out != NULL && policy_print(monitor_policy, out);
    int writer = -1, reader = -1;
    ssize_t n = 0;

    if (out != NULL)
        good = fclose(out) == 0 && good;
    if (good)
        writer = memfd_make("jailmap-policy");
    while (writer >= 0 && at < size && (n = write(writer, text + at, size - at)) > 0)
        at += (size_t)n;
    if (writer >= 0 && at == size)
        reader = memfd_seal(writer, seals, &why);
    if (writer >= 0)
        close(writer);
    free(text);
    return reader;
}

static const char *show_policy(int *fd, const struct ucred *peer)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov = {(char *)"\n", 1};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&mh);

    (void)peer;
    if (shown < 0)
        shown = policy_memory();
    if (shown < 0)
        return "there is no memory for it; try again";
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof shown);
    memcpy(CMSG_DATA(cmsg), &shown, sizeof shown);
    sendmsg(*fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
    return NULL;
}

void control_policy_changed(void)
{
    if (shown >= 0)
        close(shown);
    shown = -1;
}

static void end_asker(struct asker *a)
{
    monitor_unwatch(&a->io);
    close(a->io.fd);
    a->io.fd = -1;
    a->spent = true;
}

/* It has left: there is nothing else that it could have to say. */
static void asker_ready(struct watched *self, uint32_t events)
{
    struct asker *a = (struct asker *)self;

    (void)events;
    if (a->io.fd < 0)
        return;
    reload_forget(&a->waiter);
    end_asker(a);
}

static void asker_done(struct reload_waiter *waiter, bool reloaded, const char *result)
{
    struct asker *a = (struct asker *)((char *)waiter - offsetof(struct asker, waiter));
    char text[RESULT_MAX];

    (void)reloaded; /* the result says so */
    snprintf(text, sizeof text, "%s\n", result);
    monitor_say(a->io.fd, text, strlen(text));
    end_asker(a);
}

static const char *reload(int *fd, const struct ucred *peer)
{
    struct asker *a = askers;
    char who[64];

    while (a < askers + ASKERS && (a->io.fd >= 0 || a->spent))
        a++;
    if (a == askers + ASKERS)
        return "16 others wait for a reload; try again";
    a->io = (struct watched){*fd, asker_ready};
    a->waiter.done = asker_done;
    if (!monitor_watch(&a->io, 0)) { /* its end is told in any case */
        a->io.fd = -1;
        return "it cannot be watched";
    }
    *fd = -1;
    snprintf(who, sizeof who, "control.reload from pid %d", (int)peer->pid);
    reload_ask(who, &a->waiter);
    return NULL;
}

/* The connection is left open: it ends when this process has ended. */
static const char *stop(int *fd, const struct ucred *peer)
{
    monitor_say(*fd, "stopping\n", strlen("stopping\n"));
    *fd = -1;
    monitor_stop(EX_OK, "control.stop from pid %d", (int)peer->pid);
    return NULL;
}

static void control_ready(struct watched *self, uint32_t events);

static struct control {
    struct watched io;
    const char *name;
    command *run;
    bool group; /* members of control-group may, too; else root alone */
    bool bound;
} controls[] = {{{-1, control_ready}, "control.status", show_status, true, false},
                {{-1, control_ready}, "control.policy", show_policy, true, false},
                {{-1, control_ready}, "control.reload", reload, false, false},
                {{-1, control_ready}, "control.stop", stop, false, false}};

#define CONTROLS (sizeof controls / sizeof controls[0])

static struct log_limit limit;
static uint64_t resume_at = NEVER;

/* ---- who may ---- */

static bool is_member(int fd, const struct ucred *peer)
{
    static gid_t groups[GROUPS_MOST];
    socklen_t len = sizeof groups;
    gid_t wanted = monitor_policy->control_gid;

    if (wanted == POLICY_NO_GROUP)
        return false;
    if (peer->gid == wanted)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
        return false; /* or in more groups than these */
    for (size_t i = 0; i < len / sizeof groups[0]; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

/* NULL, or why not. */
static const char *refusal(const struct control *c, int fd, struct ucred *peer)
{
    socklen_t len = sizeof *peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) != 0)
        return "nobody knows who asks";
    if (peer->uid == 0 || (c->group && is_member(fd, peer)))
        return NULL;
    return c->group ? "root may, and members of control-group" : "root alone may";
}

/* ---- connections ---- */

static void refuse(const struct control *c, int fd, const struct ucred *peer, const char *why)
{
    char text[256];

    snprintf(text, sizeof text, "refused: %s\n", why);
    monitor_say(fd, text, strlen(text));
    log_left_out(&limit, monitor_now(), LOG_WARNING, LEFT_OUT);
    if (log_allow(&limit))
        log_line(LOG_WARNING, "refused %s to uid %u pid %d: %s", c->name, (unsigned)peer->uid,
                 (int)peer->pid, why);
}

/* 0, or the errno of accept(2). */
static int take_one(const struct control *c)
{
    int fd = accept4(c->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct ucred peer = {.pid = 0, .uid = POLICY_NO_OWNER};
    const char *why;

    if (fd < 0)
        return errno;
    why = refusal(c, fd, &peer);
    if (why == NULL)
        why = c->run(&fd, &peer);
    if (why != NULL)
        refuse(c, fd, &peer, why);
    if (fd >= 0)
        close(fd);
    return 0;
}

static void control_ready(struct watched *self, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int error = take_one((struct control *)self);

        if (error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS) {
            monitor_rewatch(self, 0);
            resume_at = monitor_now() + PAUSE_MS;
        }
        if (error != 0)
            return;
    }
}

uint64_t control_tick(uint64_t now)
{
    uint64_t next = log_left_out(&limit, now, LOG_WARNING, LEFT_OUT);

    for (size_t i = 0; i < ASKERS; i++)
        askers[i].spent = false;
    if (resume_at <= now) {
        for (size_t i = 0; i < CONTROLS; i++)
            monitor_rewatch(&controls[i].io, EPOLLIN);
        resume_at = NEVER;
    }
    return next < resume_at ? next : resume_at;
}

/* ---- start and end ---- */

/* From within runtime-dir, whose lock is this process's: what lies there by that name is stale. */
static bool bind_here(struct control *c)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;

    strcpy(address.sun_path, c->name);
    c->io.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->io.fd < 0 || (unlink(c->name) != 0 && errno != ENOENT))
        return false;
    bridge_take_descriptors(c->io.fd, false);
    mask = umask(0111); /* everybody may knock */
    c->bound = bind(c->io.fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(mask);
    return c->bound && listen(c->io.fd, WAITING) == 0;
}

bool control_bind(char *why, size_t len)
{
    bool good = fchdir(MONITOR_RUNTIME) == 0;

    for (size_t i = 0; i < ASKERS; i++)
        askers[i].io.fd = -1;
    snprintf(why, len, "%s: %s", monitor_policy->runtime_dir, strerror(errno));
    for (size_t i = 0; good && i < CONTROLS; i++)
        if (!(good = bind_here(&controls[i])))
            snprintf(why, len, "%s/%s: %s", monitor_policy->runtime_dir, controls[i].name,
                     strerror(errno));
    return chdir("/") == 0 && good;
}

bool control_start(void)
{
    for (size_t i = 0; i < CONTROLS; i++)
        if (!monitor_watch(&controls[i].io, EPOLLIN))
            return false;
    return true;
}

void control_stop(void)
{
    for (size_t i = 0; i < CONTROLS; i++)
        if (controls[i].bound)
            unlinkat(MONITOR_RUNTIME, controls[i].name, 0);
}
