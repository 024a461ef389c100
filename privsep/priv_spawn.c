/*
 * Starting a child inside its jail: see priv_spawn.h. Runs in the monitor, and as root in the child
 * between fork and exec. Everything that a child loses, it loses here, before its program begins.
 */
#include "privsep/priv_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privsep/bridge.h"

#define NICE    10
#define TURN_NS 100000 /* the shortest there is */

int priv_socketpair(int fds[2])
{
    int room = 4 * (int)BRIDGE_LARGE; /* the kernel cuts this to net.core.wmem_max */

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return -1;
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return 0;
}

int priv_confine(void)
{
    /* SYS_CHROOT, SETUID, SETGID: the jail of a child. DAC_READ_SEARCH: sources that root's plain
     * permissions do not reach. KILL: children have another uid. */
    static const cap_value_t kept[] = {CAP_SYS_CHROOT, CAP_SETUID, CAP_SETGID, CAP_DAC_READ_SEARCH,
                                       CAP_KILL};
    cap_t caps = cap_init();
    int rc = -1;

    if (caps == NULL)
        return -1;
    /* With an empty bounding set no exec gives a capability, and children are born with it. */
    for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
        if (cap_get_bound(cap) != 0 && cap_drop_bound(cap) != 0)
            goto out;
    if (cap_set_flag(caps, CAP_PERMITTED, (int)(sizeof kept / sizeof kept[0]), kept, CAP_SET) ==
            0 &&
        cap_set_flag(caps, CAP_EFFECTIVE, (int)(sizeof kept / sizeof kept[0]), kept, CAP_SET) ==
            0 &&
        cap_set_proc(caps) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        rc = 0;
out:
    cap_free(caps);
    return rc;
}

/* What the monitor itself is held to cannot be raised, and holds for its children too. */
static bool limit(int which, uint64_t value)
{
    rlim_t v = value == SPAWN_UNLIMITED ? RLIM_INFINITY : (rlim_t)value;
    struct rlimit r;

    if (getrlimit(which, &r) != 0)
        return false;
    if (v > r.rlim_max)
        v = r.rlim_max;
    r.rlim_cur = r.rlim_max = v;
    return setrlimit(which, &r) == 0;
}

/* Low descriptors in their places, everything else closed. */
static bool set_descriptors(int null, int bridge, int program)
{
    /* Out of the way first: the sources may lie where the targets are. */
    null = fcntl(null, F_DUPFD_CLOEXEC, 16);
    bridge = fcntl(bridge, F_DUPFD_CLOEXEC, 16);
    program = fcntl(program, F_DUPFD_CLOEXEC, 16);
    if (bridge < 0 || program < 0 || null < 0)
        return false;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            return false;
    return dup3(bridge, BRIDGE_FD, 0) >= 0 && dup3(program, PROGRAM_FD, O_CLOEXEC) >= 0 &&
           syscall(SYS_close_range, PROGRAM_FD + 1, ~0U, 0) == 0;
}

static bool set_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, sig == SIGPIPE || sig == SIGXFSZ ? SIG_IGN : SIG_DFL); /* errors instead */
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool set_limits(const struct spawn *s)
{
    return limit(RLIMIT_NOFILE, s->descriptors) && limit(RLIMIT_FSIZE, s->file_size) &&
           limit(RLIMIT_DATA, s->memory) && limit(RLIMIT_CPU, s->cpu_seconds) &&
           limit(RLIMIT_CORE, 0) && limit(RLIMIT_MEMLOCK, 0) && limit(RLIMIT_MSGQUEUE, 0);
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

static bool set_identity(const struct spawn *s)
{
    return setgroups(0, NULL) == 0 && setresgid(s->gid, s->gid, s->gid) == 0 &&
           setresuid(s->uid, s->uid, s->uid) == 0;
}

/* Nothing left, looked at rather than believed. The uid change has emptied the other sets. */
static bool no_capabilities(void)
{
    cap_t now, none = cap_init();
    bool empty = none != NULL && cap_set_proc(none) == 0 && (now = cap_get_proc()) != NULL &&
                 cap_compare(now, none) == 0;

    for (cap_value_t cap = 0; empty && cap_get_bound(cap) >= 0; cap++)
        empty = cap_get_bound(cap) == 0 && cap_get_ambient(cap) == 0;
    return empty;
}

/* The way into the jail. Ends in exec, or in an exit status that names the step that failed. */
static _Noreturn void enter_jail(const struct spawn *s, int bridge, pid_t monitor)
{
    char *argv[] = {(char *)s->name, NULL};
    char *envp[] = {NULL};
    int step = SPAWN_EXIT, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    /* No signals from the keyboard of a terminal; and no way to push input into one, which who is
     * in a jail does not reach anyway. Those stay in one session, because the kernel (autogroup)
     * shares the CPUs out among sessions first, and a low share counts only within one. */
    if (s->jail < 0)
        setsid();
    else
        setpgid(0, 0);
    if (step++, s->jail >= 0 && (fchdir(s->jail) != 0 || chroot(".") != 0))
        _exit(step);
    if (step++, chdir("/") != 0)
        _exit(step);
    if (step++, !set_descriptors(null, bridge, s->program) || !set_signals())
        _exit(step);
    if (step++, !set_limits(s))
        _exit(step);
    if (s->background)
        set_schedule();
    if (step++, !set_identity(s))
        _exit(step);
    if (step++, !no_capabilities())
        _exit(step);
    /* After the identity: the limit is of processes of that uid, and a change of uid checks it. */
    if (step++, !limit(RLIMIT_NPROC, 0))
        _exit(step);
    if (step++, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                    prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != monitor)
        _exit(step);
    umask(077);
    syscall(SYS_execveat, PROGRAM_FD, "", argv, envp, AT_EMPTY_PATH);
    step++;
    _exit(step);
}

pid_t priv_spawn(const struct spawn *s, int *bridge)
{
    pid_t monitor = getpid(), pid;
    int ends[2];

    if (priv_socketpair(ends) != 0)
        return -1;
    pid = fork();
    if (pid == 0)
        enter_jail(s, ends[1], monitor);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    *bridge = ends[0];
    return pid;
}
