/*
 * jailmap-launcher: starts the helpers. The monitor starts two of them, which it alone speaks to:
 * one inside the jail for workers, loaders, the scribe and the census, one outside for agents. Each
 * begins as root and, before it starts anything, has become the unprivileged user, without a
 * capability, in the jail if that is its place, and behind a filter and Landlock; what it starts is
 * born there, as a child of the monitor. It may clone itself and execute the helpers that it has as
 * descriptors; it must never read anything but the monitor's requests, or wait for what it has
 * started.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/hear.h"
#include "privsep/landlock.h"
#include "privsep/launch.h"
#include "privsep/priv_jail.h"
#include "privsep/profile.h"
#include "privsep/sanitized.h"

#define NICE    10
#define TURN_NS 100000 /* the shortest there is */

static pid_t parent; /* of what is started here, as it sees it: 0 from another pid namespace */

/* ---- becoming harmless ---- */

/* The first process of the others' pid namespace: they all end with it, and it with this one. */
static bool start_anchor(void)
{
    int alive[2];
    char byte;
    pid_t pid;

    if (pipe2(alive, O_CLOEXEC) != 0 || (pid = fork()) < 0)
        return false;
    if (pid > 0)
        return close(alive[0]) == 0; /* the other end is open as long as this process lives */
    /* In the place of the bridge, and nothing else is left but /dev/null. */
    if (dup2(alive[0], BRIDGE_FD) < 0 || syscall(SYS_close_range, BRIDGE_FD + 1, ~0U, 0) != 0)
        _exit(EXIT_FAILURE);
    profile_enter(&profile_anchor);
    while (read(BRIDGE_FD, &byte, 1) < 0 && errno == EINTR)
        ;
    _exit(EXIT_SUCCESS);
}

static int enter_landlock(bool jail)
{
    struct landlock_grant grants[HELPERS];
    size_t n = 0;

    if (!jail) /* agents enter their own: before that their linker has libraries to open */
        return 0;
    for (int i = 0; i < HELPER_LAUNCHER; i++)
        if (fcntl(LAUNCH_PROGRAMS + i, F_GETFD) >= 0)
            grants[n++] = (struct landlock_grant){LAUNCH_PROGRAMS + i, LANDLOCK_MAY_EXECUTE};
    if (SANITIZED) /* libraries and /proc, with which that jail is furnished */
        grants[n++] = (struct landlock_grant){open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
                                              LANDLOCK_MAY_EXECUTE};
    return landlock_enter(grants, n, LANDLOCK_NO_TCP | LANDLOCK_NO_SIGNALS | LANDLOCK_NO_ABSTRACT);
}

/* What the launcher itself is held to cannot be raised. */
static bool limit(int which, uint64_t value)
{
    rlim_t v = value == SPAWN_UNLIMITED ? RLIM_INFINITY : (rlim_t)value;
    struct rlimit r;

    /* A sanitizer's shadow of all memory counts as memory, and its report may go to a file. */
    if (SANITIZED && (which == RLIMIT_DATA || (which == RLIMIT_FSIZE && value == 0)))
        return true;
    if (getrlimit(which, &r) != 0)
        return false;
    if (v > r.rlim_max)
        v = r.rlim_max;
    r.rlim_cur = r.rlim_max = v;
    return setrlimit(which, &r) == 0;
}

/* Returns NULL, or what failed, with errno. */
static const char *settle(const struct msg_setup *setup, struct lacking *lacking)
{
    pid_t monitor = getppid();
    bool jail = setup->jail != 0;
    const char *why = NULL;

    /* No signals from the keyboard of a terminal; and no way to push input into one, which who is
     * in a jail does not reach anyway. Those stay in one session, because the kernel (autogroup)
     * shares the CPUs out among sessions first, and a low share counts only within one. */
    if (jail)
        setpgid(0, 0);
    else
        setsid();
    umask(077);
    if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_MEMLOCK, 0) || !limit(RLIMIT_MSGQUEUE, 0))
        return "cannot set its limits";
    if (jail)
        why = priv_enter_jail(LAUNCH_JAIL, lacking);
    else if (chdir("/") != 0) /* the monitor's is where it was started */
        why = "cannot leave its directory";
    else
        priv_enter_processes(lacking);
    if (why == NULL)
        why = priv_become(setup->uid, setup->gid);
    if (why != NULL)
        return why;
    if (jail)
        close(LAUNCH_JAIL);
    /* After the change of user, which would undo it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != monitor)
        return "the monitor has gone";
    if (enter_landlock(jail) != 0) {
        lacking->walls |= WALL_LANDLOCK;
        lacking->error = errno;
    }
    profile_enter(&profile_launcher);
    parent = monitor;
    if ((lacking->walls & WALL_PROCESSES) == 0) {
        parent = 0;
        if (!start_anchor())
            return "cannot start the first process of a namespace";
    }
    return NULL;
}

/* ---- starting a child ---- */

static bool set_limits(const struct msg_start *s)
{
    return limit(RLIMIT_NOFILE, s->descriptors) && limit(RLIMIT_FSIZE, s->file_size) &&
           limit(RLIMIT_DATA, s->memory) && limit(RLIMIT_CPU, s->cpu_seconds) &&
           limit(RLIMIT_NPROC, 0);
}

/*
 * A child that only works in the background steps aside for the others: a low share of a CPU that
 * is fought over, and, on kernels that know it (6.12), short turns, because whoever wakes up
 * meanwhile waits for the end of one.
 */
static void set_schedule(void)
{
    struct sched_attr attr = {.size = sizeof attr,
                              .sched_policy = SCHED_BATCH,
                              .sched_nice = NICE,
                              .sched_runtime = TURN_NS};

    syscall(SYS_sched_setattr, 0, &attr, 0); /* and if not, it is no less safe */
}

/* Its bridge and its program in their places, everything else closed but /dev/null as 0 to 2. */
static bool set_descriptors(int bridge, int program)
{
    /* Out of the way first: the sources may lie where the targets are. */
    bridge = fcntl(bridge, F_DUPFD_CLOEXEC, 16);
    program = fcntl(program, F_DUPFD_CLOEXEC, 16);
    return bridge >= 0 && program >= 0 && dup3(bridge, BRIDGE_FD, 0) >= 0 &&
           dup3(program, PROGRAM_FD, O_CLOEXEC) >= 0 &&
           syscall(SYS_close_range, PROGRAM_FD + 1, ~0U, 0) == 0;
}

static void set_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++) /* errors instead of these two */
        signal(sig, sig == SIGPIPE || sig == SIGXFSZ ? SIG_IGN : SIG_DFL);
}

/* The child's part. Ends in exec, or in an exit status that names the step that failed. */
static _Noreturn void become(const struct msg_start *s, char *title, int bridge)
{
    char *argv[] = {title, NULL};
    char *envp[] = {NULL};
    int step = SPAWN_EXIT;

    if (s->helper < HELPER_AGENT_NSS)
        setpgid(0, 0);
    else
        setsid();
    if (step++, prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(step);
    if (step++, !set_descriptors(bridge, LAUNCH_PROGRAMS + (int)s->helper))
        _exit(step);
    set_signals();
    if (step++, landlock_keep_signals() != 0) /* not even to its siblings, who are the same user */
        _exit(step);
    if (step++, !set_limits(s))
        _exit(step);
    if (s->background)
        set_schedule();
    syscall(SYS_execveat, PROGRAM_FD, "", argv, envp, AT_EMPTY_PATH);
    step++;
    _exit(step);
}

/* As fork(2), but a child of the monitor. (All those NULLs: their order differs by machine.
 * clone3(2) has flags that a filter cannot see.) */
static void start(const struct bridge_msg *msg)
{
    struct msg_started started = {.id = msg->body.START.id};
    char title[BRIDGE_TEXT_MAX + 1];
    long pid = -1;

    memcpy(title, msg->tail, msg->tail_len);
    title[msg->tail_len] = '\0';
    errno = EINVAL;
    if (msg->body.START.helper < HELPER_LAUNCHER)
        pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        become(&msg->body.START, title, msg->fds[0]);
    if (pid < 0 && errno == ENOMEM && parent == 0)
        exit(EXIT_FAILURE); /* the first process of the namespace has gone, and no other can come */
    if (pid < 0)
        started.error = (uint32_t)errno;
    else
        started.pid = (uint32_t)pid;
    close(msg->fds[0]);
    while (bridge_send(BRIDGE_FD, MSG_STARTED, &started, NULL, 0, NULL) != 0) {
        struct pollfd bridge = {.fd = BRIDGE_FD, .events = POLLOUT};

        if (errno != EAGAIN && errno != EINTR)
            exit(EXIT_FAILURE);
        poll(&bridge, 1, -1);
    }
}

int main(void)
{
    struct bridge_msg msg = hear_next(ROLE_LAUNCHER, STATE_BEGIN);
    struct lacking lacking = {0};
    const char *why = settle(&msg.body.SETUP, &lacking);
    struct msg_ready ready = {lacking.walls, (uint32_t)lacking.error, (uint32_t)landlock_version(),
                              0};
    char text[BRIDGE_TEXT_MAX];
    int len = 0;

    if (why != NULL)
        len = snprintf(text, sizeof text, "%s: %s", why, strerror(errno));
    if (bridge_send(BRIDGE_FD, MSG_READY, &ready, text, (size_t)len, NULL) != 0 || why != NULL)
        return EXIT_FAILURE;
    for (;;) {
        msg = hear_next(ROLE_LAUNCHER, STATE_SERVE);
        start(&msg);
    }
}
