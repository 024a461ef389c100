/*
 * The system call filters of a process, compared with the profiles of this build. Runs in the tool,
 * as root. The kernel shows a filter only of a process that is stopped, so a child of the tool
 * stops it (ptrace), copies, and lets go at once. That child's death lets go as well, whatever
 * kills it: the process looked at must never be left stopped, and never be changed.
 */
#include "ctl/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 2000 /* steps of a millisecond for a process that does not stop */

struct loaded {
    int error;    /* errno of what could not be read */
    size_t all;   /* how many there are */
    size_t count; /* of those that were read, the latest first */
    struct {
        int len;
        struct sock_filter code[BPF_MAXINSNS];
    } filters[MOST_FILTERS];
};

/* ---- in the child ---- */

/* Waits until it has stopped. Returns the signal that it was about to get, 0 for none, or -1. */
static int wait_stopped(pid_t pid)
{
    const struct timespec step = {0, 1000 * 1000};

    for (int i = 0; i < PATIENCE; i++) {
        int status;
        pid_t found = waitpid(pid, &status, __WALL | WNOHANG);

        if (found == pid && WIFSTOPPED(status))
            return status >> 16 == 0 ? WSTOPSIG(status) : 0;
        if (found != 0) {
            errno = ESRCH;
            return -1;
        }
        nanosleep(&step, NULL);
    }
    errno = ETIMEDOUT;
    return -1;
}

/* As ptrace(2), which takes numbers as pointers. */
static long trace(long request, pid_t pid, unsigned long number, void *data)
{
    return syscall(SYS_ptrace, request, pid, number, data);
}

static void copy_filters(pid_t pid, size_t want, struct loaded *l)
{
    int sig;

    if (trace(PTRACE_SEIZE, pid, 0, NULL) != 0 || trace(PTRACE_INTERRUPT, pid, 0, NULL) != 0 ||
        (sig = wait_stopped(pid)) < 0) {
        l->error = errno;
        return;
    }
    /* The kernel counts from the oldest on; those before ours are whoever's started jailmapd. */
    while (trace(PTRACE_SECCOMP_GET_FILTER, pid, l->all, NULL) >= 0)
        l->all++;
    l->error = errno == ENOENT ? 0 : errno;
    for (; l->error == 0 && l->count < want && l->count < l->all; l->count++) {
        long len =
            trace(PTRACE_SECCOMP_GET_FILTER, pid, l->all - 1 - l->count, l->filters[l->count].code);

        if (len < 0)
            l->error = errno;
        l->filters[l->count].len = (int)len;
    }
    syscall(SYS_ptrace, PTRACE_DETACH, pid, 0L, (long)sig);
}

static bool write_all(int fd, const void *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0)
            return false;
        data = (const char *)data + n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, void *data, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, data, len);

        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        if (n > 0) {
            data = (char *)data + n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* ---- in the tool ---- */

static bool read_loaded(pid_t pid, size_t want, struct loaded *l)
{
    int ends[2];
    pid_t child;
    bool good;

    if (pipe(ends) != 0)
        return false;
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        copy_filters(pid, want, l);
        _exit(write_all(ends[1], l, sizeof *l) ? 0 : 1);
    }
    close(ends[1]);
    good = child > 0 && read_all(ends[0], l, sizeof *l);
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return good;
}

/* What profile_enter() gives to the kernel. -1 if that cannot be told. */
static ssize_t generate(const struct profile *profile, struct sock_filter *code)
{
    scmp_filter_ctx filter = profile_build(profile);
    int fd = memfd_create("filter", MFD_CLOEXEC);
    ssize_t len = -1;

    if (filter != NULL && fd >= 0 && seccomp_export_bpf(filter, fd) == 0)
        len = pread(fd, code, BPF_MAXINSNS * sizeof *code, 0);
    if (fd >= 0)
        close(fd);
    if (filter != NULL)
        seccomp_release(filter);
    return len < 0 ? -1 : len / (ssize_t)sizeof *code;
}

static void compare(struct page *page, const struct profile *profile, const struct loaded *l,
                    size_t i)
{
    static struct sock_filter code[BPF_MAXINSNS];
    ssize_t len = generate(profile, code);
    const char *which = i == 0 ? "latest" : "before it", *name = design_name(profile);

    if (len < 0) {
        page_fact(page, "", "%s: not compared: the profile of %s cannot be generated", which, name);
    } else if (len == l->filters[i].len &&
               memcmp(code, l->filters[i].code, (size_t)len * sizeof *code) == 0) {
        page_fact(page, "", "%s: the profile of %s, byte for byte", which, name);
    } else {
        page_fact(page, "", "%s: %d instructions, not the %zd of the profile of %s", which,
                  l->filters[i].len, len, name);
        page_weaker(page, "its filter is not the profile of %s", name);
    }
}

/* What the system does not allow is no fault of the process; anything else may be. */
static void explain(struct page *page, int error)
{
    if (error == EIO)
        page_fact(page, "",
                  "not compared: this kernel does not show filters (CONFIG_CHECKPOINT_RESTORE)");
    else if (error == EACCES || error == EPERM)
        page_fact(page, "",
                  "not compared: this system does not let the tool trace a process, or it runs "
                  "behind a filter");
    else
        page_weaker(page, "its filters cannot be compared: %s",
                    error == ETIMEDOUT ? "it does not stop" : strerror(error));
}

bool report_filters(struct page *page, const struct design *design, int mode, int filters)
{
    const struct profile *profiles[MOST_FILTERS];
    size_t want = design_filters(design, page->process, profiles), there;
    struct loaded *l = calloc(1, sizeof *l);
    bool good = l != NULL;

    if (good && mode == 2 && !read_loaded(page->process->pid, want, l))
        l->error = EAGAIN;
    if (good)
        good = l->error != ESRCH;
    if (!good) {
        free(l);
        return false;
    }
    /* /proc counts them since Linux 5.9. */
    there = mode != 2 ? 0 : filters >= 0 ? (size_t)filters : l->error == 0 ? l->all : want;
    if (mode == 2)
        page_fact(page, "seccomp", "filter mode; filters: %zu%s", there,
                  there > want ? ", with those of whoever started jailmapd" : "");
    else
        page_fact(page, "seccomp", mode == 0 ? "off" : "strict mode");
    if (there < want)
        page_weaker(page, "of the %zu filters of the design it has %zu", want, there);
    for (size_t i = 0; l->error == 0 && i < l->count; i++)
        compare(page, profiles[there < want ? want - there + i : i], l, i);
    if (l->error != 0)
        explain(page, l->error);
    free(l);
    return true;
}
