/*
 * The monitor's side of its launchers. Runs in the monitor: starting them at start-up, with all of
 * root's privilege, and asking them for children afterwards. It must never believe what they say of
 * a process without asking the kernel; and as it cannot start another, it ends when one of them is
 * gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/launch.h"
#include "privsep/launchers.h"
#include "privsep/monitor.h"
#include "privsep/profile.h"
#include "privsep/sanitized.h"

#define READY_MS    10000
#define PATIENCE_MS 60000

enum place { IN_JAIL, OUTSIDE, PLACES };

static struct launcher {
    const char *title;
    const char *children; /* for log lines */
    int fd;
    pid_t pid;
    struct child *child;
} launchers[PLACES] = {
    [IN_JAIL] = {.title = "jailmap-launcher: jail", .children = "helpers in the jail"},
    [OUTSIDE] = {.title = "jailmap-launcher: agents", .children = "helpers outside the jail"}};

static enum place place_of(enum helper helper)
{
    return helper < HELPER_AGENT_NSS ? IN_JAIL : OUTSIDE;
}

/* ---- start ---- */

void walls_lack(struct walls *walls, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (walls->count < sizeof walls->missing / sizeof walls->missing[0])
        vsnprintf(walls->missing[walls->count++], sizeof walls->missing[0], format, ap);
    va_end(ap);
}

/* What is to stand in the place of a launcher's descriptor; -1: nothing. */
static int source_of(int to, enum place place, const int programs[HELPERS], int jail, int bridge)
{
    if (SANITIZED && to == STDERR_FILENO) /* for their reports */
        return STDERR_FILENO;
    if (to <= STDERR_FILENO)
        return MONITOR_NULL;
    switch (to) {
    case BRIDGE_FD:
        return bridge;
    case PROGRAM_FD:
        return programs[HELPER_LAUNCHER];
    case LAUNCH_JAIL:
        return place == IN_JAIL ? jail : -1;
    default:
        to -= LAUNCH_PROGRAMS;
        return place_of((enum helper)to) == place ? programs[to] : -1;
    }
}

/* Everything in its place, and nothing else open. */
static bool place_descriptors(enum place place, const int programs[HELPERS], int jail, int bridge)
{
    enum { END = LAUNCH_PROGRAMS + HELPER_LAUNCHER };
    int from[END];

    /* Out of the way first: the sources may lie where the targets are. */
    for (int to = 0; to < END; to++) {
        int fd = source_of(to, place, programs, jail, bridge);

        from[to] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, END);
        if (fd >= 0 && from[to] < 0)
            return false;
    }
    for (int to = 0; to < END; to++) {
        close(to);
        if (from[to] >= 0 && dup3(from[to], to, to == PROGRAM_FD ? O_CLOEXEC : 0) < 0)
            return false;
    }
    return syscall(SYS_close_range, END, ~0U, 0) == 0;
}

static bool start(struct launcher *l, enum place place, const int programs[HELPERS], int jail)
{
    char *argv[] = {(char *)l->title, NULL};
    char *envp[] = {NULL};
    int ends[2];

    if (bridge_pair(ends) != 0)
        return false;
    bridge_take_descriptors(ends[0], false);
    l->fd = ends[0];
    l->pid = fork();
    if (l->pid == 0) {
        if (place_descriptors(place, programs, jail, ends[1]))
            syscall(SYS_execveat, PROGRAM_FD, "", argv, envp, AT_EMPTY_PATH);
        _exit(SPAWN_EXIT);
    }
    close(ends[1]);
    return l->pid > 0;
}

/* Waits, as nothing is served yet. */
static bool is_ready(struct launcher *l, struct msg_ready *ready, char *why, size_t len)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    struct pollfd bridge = {.fd = l->fd, .events = POLLIN};
    struct bridge_msg msg;
    const char *bad = "it does not answer";

    if (poll(&bridge, 1, READY_MS) == 1) {
        bad = "it ended";
        if (bridge_receive(l->fd, buf, sizeof buf, ROLE_LAUNCHER, ROLE_MONITOR, STATE_BEGIN, &msg,
                           &bad) == BRIDGE_OK) {
            *ready = msg.body.READY;
            if (msg.tail_len == 0)
                return true;
            snprintf(why, len, "%s: %.*s", l->title, (int)msg.tail_len, msg.tail);
            return false;
        }
    }
    snprintf(why, len, "%s: %s", l->title, bad);
    return false;
}

static void note_lacking(const struct launcher *l, const struct msg_ready *ready,
                         struct walls *walls)
{
    static const struct {
        unsigned wall;
        const char *name;
    } names[] = {{WALL_NETWORK, "a network namespace"},
                 {WALL_IPC, "an IPC namespace"},
                 {WALL_HOST_NAME, "a UTS namespace"},
                 {WALL_MOUNTS, "a mount namespace"},
                 {WALL_PROCESSES, "a process id namespace"},
                 {WALL_ROOT, "the jail as the only mount"},
                 {WALL_LANDLOCK, "Landlock"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (ready->missing & names[i].wall)
            walls_lack(walls, "%s lack %s: %s", l->children, names[i].name,
                       strerror((int)ready->error));
}

bool launchers_start(const int programs[HELPERS], int jail, struct walls *walls, char *why,
                     size_t len)
{
    for (enum place place = IN_JAIL; place < PLACES; place++) {
        struct launcher *l = &launchers[place];
        struct msg_setup setup = {monitor_policy->uid, monitor_policy->gid, place == IN_JAIL, 0};
        struct msg_ready ready;

        if (!start(l, place, programs, jail) ||
            bridge_send(l->fd, MSG_SETUP, &setup, NULL, 0, NULL) != 0) {
            snprintf(why, len, "%s: %s", l->title, strerror(errno));
            return false;
        }
        if (!is_ready(l, &ready, why, len))
            return false;
        note_lacking(l, &ready, walls);
    }
    return true;
}

/* ---- afterwards ---- */

/* STARTED: id, pid, error. */
static void launcher_message(struct child *c, const struct bridge_msg *msg)
{
    const struct msg_started *started = &msg->body.STARTED;

    if (!child_born(started->id, (pid_t)started->pid, (int)started->error))
        child_end(c, "it speaks of a process that is not what was asked for");
}

static void launcher_gone(struct child *c, const char *how)
{
    struct launcher *l = c->owner;

    l->child = NULL;
    monitor_stop(EX_SOFTWARE, "%s pid %d died: %s; without it no helper can be started", l->title,
                 (int)c->pid, how != NULL ? how : "it ended by itself");
}

bool launchers_watch(void)
{
    static const struct child_ops ops = {.role = ROLE_LAUNCHER,
                                         .what = "launcher",
                                         .patience = PATIENCE_MS,
                                         .message = launcher_message,
                                         .gone = launcher_gone};

    for (enum place place = IN_JAIL; place < PLACES; place++) {
        struct launcher *l = &launchers[place];

        l->child = child_adopt(&ops, l, l->fd, l->pid);
        if (l->child == NULL)
            return false;
        l->child->state = STATE_SERVE;
    }
    return true;
}

bool launch(enum helper helper, uint64_t birth, const struct spawn *limits, const char *title,
            int fd)
{
    struct launcher *l = &launchers[place_of(helper)];
    struct msg_start order = {.id = birth,
                              .file_size = limits->file_size,
                              .memory = limits->memory,
                              .cpu_seconds = limits->cpu_seconds,
                              .helper = helper,
                              .descriptors = limits->descriptors,
                              .background = limits->background};
    size_t len = strlen(title);

    errno = ESRCH;
    if (len > BRIDGE_TEXT_MAX)
        len = BRIDGE_TEXT_MAX;
    if (l->child == NULL || l->child->io.fd < 0)
        return false;
    errno = EAGAIN;
    return child_send(l->child, MSG_START, &order, title, len, &fd) && l->child->io.fd >= 0;
}
