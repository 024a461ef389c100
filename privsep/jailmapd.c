/*
 * jailmapd, the monitor: reads the policy, binds the sockets, drops what it does not need, and then
 * passes connections and descriptors between clients, workers, loaders, agents and the rest. Runs
 * as root with a handful of capabilities. It may do what monitor.h says; it must never parse a byte
 * that a client or a table supplied.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/control.h"
#include "privsep/inherit.h"
#include "privsep/landlock.h"
#include "privsep/launch.h"
#include "privsep/launchers.h"
#include "privsep/limits.h"
#include "privsep/listen.h"
#include "privsep/log.h"
#include "privsep/master.h"
#include "privsep/monitor.h"
#include "privsep/notify.h"
#include "privsep/priv_confine.h"
#include "privsep/priv_open.h"
#include "privsep/profile.h"
#include "privsep/reload.h"
#include "privsep/tables.h"

#define EVENTS_AT_ONCE 64
#define PID_FILE       "jailmapd.pid"
#define JAIL_DIR       "empty"
#define SANDBOX_FILE   "sandbox" /* what jailmap(8) cannot see from outside */
#define LOCK_WAIT_MS   15000     /* as master(8) starts the next one while the last one ends */
#define LOCK_LOOK_NS   20000000
#define LISTEN_FDS     3 /* the first descriptor of a service manager, as of sd_listen_fds(3) */

const struct policy *monitor_policy;

const char *monitor_config = JAILMAP_SYSCONFDIR "/jailmap/jailmapd.conf";

static struct {
    bool foreground, check;
    bool by_master;   /* Postfix's master(8) has started this process */
    unsigned max_use; /* clients, and then it ends; 0: not limited */
} options;
static int helpers[HELPERS];
static int jail = -1, exit_status = EX_OK;
static bool locked, stopping;
static struct walls walls;
static uint64_t descriptors; /* that this process may have */
static char last_words[512];

static const char *const helper_names[HELPERS] = {
    [HELPER_WORKER] = "jailmap-worker",
    [HELPER_LOADER] = "jailmap-loader",
    [HELPER_SCRIBE] = "jailmap-scribe",
    [HELPER_CENSUS] = "jailmap-census",
    [HELPER_AGENT_PATTERN] = "jailmap-agent-pattern",
    [HELPER_AGENT_SQLITE] = "jailmap-agent-sqlite",
    [HELPER_AGENT_NET] = "jailmap-agent-net",
    [HELPER_AGENT_NSS] = "jailmap-agent-nss",
    [HELPER_AGENT_MYSQL] = "jailmap-agent-mysql",
    [HELPER_AGENT_PGSQL] = "jailmap-agent-pgsql",
    [HELPER_DIALER] = "jailmap-dialer",
    [HELPER_READER] = "jailmap-reader",
    [HELPER_LAUNCHER] = "jailmap-launcher",
};

bool monitor_watch(struct watched *watched, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watched};

    return epoll_ctl(MONITOR_LOOP, EPOLL_CTL_ADD, watched->fd, &ev) == 0;
}

void monitor_rewatch(struct watched *watched, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watched};

    epoll_ctl(MONITOR_LOOP, EPOLL_CTL_MOD, watched->fd, &ev);
}

void monitor_unwatch(struct watched *watched)
{
    epoll_ctl(MONITOR_LOOP, EPOLL_CTL_DEL, watched->fd, NULL);
}

bool monitor_say(int fd, const void *data, size_t len)
{
    struct iovec iov = {(void *)data, len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    return sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

uint64_t monitor_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Before the scribe runs: one line, also in the log if master(8) keeps none, and the end. */
__attribute__((format(printf, 2, 3))) static _Noreturn void die(int status, const char *format, ...)
{
    static char text[3072];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    fprintf(stderr, "%s%s\n", status != EX_CONFIG ? "jailmapd: " : "", text);
    if (options.by_master)
        log_directly(text);
    if (locked) {
        listen_stop();
        control_stop();
        unlinkat(MONITOR_RUNTIME, SANDBOX_FILE, 0);
        unlinkat(MONITOR_RUNTIME, PID_FILE, 0);
    }
    exit(status);
}

/* "FILE:LINE:COLUMN" or, for what the file does not say, "FILE". */
static const char *place(struct policy_place at)
{
    static char text[600];

    if (at.line > 0)
        snprintf(text, sizeof text, "%s:%d:%d", at.file, at.line, at.column);
    else
        snprintf(text, sizeof text, "%s", at.file);
    return text;
}

/* ---- start ---- */

int monitor_open_config(const char *name, struct stat *st, char *why, size_t len)
{
    const char *main_file = monitor_config;
    char path[4096];
    int dir, fd;

    if (name[0] == '\0')
        return priv_open_file(main_file, POLICY_NO_OWNER, 0, st, why, len);
    if (snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(main_file, '/') - main_file),
                 main_file, name) >= (int)sizeof path) {
        snprintf(why, len, "its path is too long");
        return -1;
    }
    if (strchr(name, '/') != NULL)
        return priv_open_file(path, POLICY_NO_OWNER, 0, st, why, len);
    dir = priv_open_dir(path, POLICY_NO_OWNER, true, st, why, len);
    if (dir < 0)
        return -1;
    fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        snprintf(why, len, "%s", strerror(errno));
    close(dir);
    return fd;
}

/* For policy_read(): the file itself, a directory beside it, or a file in that. */
static int open_config(void *context, const char *name, char *why, size_t len)
{
    struct stat st;

    (void)context;
    return monitor_open_config(name, &st, why, len);
}

static void read_config(void)
{
    const struct policy_files files = {open_config, NULL};
    static char why[2048];

    monitor_policy = policy_read(&files, monitor_config, why, sizeof why);
    if (monitor_policy == NULL)
        die(EX_CONFIG, "%s", why);
}

static void open_helpers(void)
{
    for (int i = 0; i < HELPERS; i++) {
        char path[4096], why[512];
        struct stat st;

        snprintf(path, sizeof path, "%s/%s", monitor_policy->libexec_dir, helper_names[i]);
        helpers[i] = priv_open_file(path, POLICY_NO_OWNER, PRIV_EXECUTE, &st, why, sizeof why);
        if (helpers[i] >= 0 && (st.st_mode & S_IXOTH) == 0)
            die(EX_CONFIG, "%s: libexec-dir: %s is not executable for everybody",
                place(monitor_policy->libexec_place), path);
        if (helpers[i] < 0)
            die(EX_CONFIG, "%s: libexec-dir: %s", place(monitor_policy->libexec_place), why);
    }
}

/* What cannot be loaded is a failing table, not a bad configuration; -n tells all the same. */
static int check_sources(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        const struct policy_table *t = &monitor_policy->tables[i];
        char why[512];
        struct stat st;
        int fd;

        if (t->path == NULL)
            continue;
        fd = priv_open_file(t->path, t->owner, t->symlinks ? PRIV_FOLLOW : 0, &st, why, sizeof why);
        if (fd < 0)
            fprintf(stderr, "%s: warning: table \"%s\" would fail: %s\n", place(t->place), t->name,
                    why);
        else
            close(fd);
    }
    printf("%s: good: listeners %zu, tables %zu, allow sections %zu\n", monitor_config,
           monitor_policy->nlistens, monitor_policy->ntables, monitor_policy->nallows);
    policy_show_words(monitor_policy, stdout);
    return EX_OK;
}

/* The jail is empty and root's, or nobody goes in. */
static void open_jail(void)
{
    const char *where = place(monitor_policy->runtime_place);
    struct stat st;
    struct dirent *entry;
    int fd;
    DIR *dir;

    if (mkdirat(MONITOR_RUNTIME, JAIL_DIR, 0555) != 0 && errno != EEXIST)
        die(EX_OSERR, "%s: cannot make " JAIL_DIR " in runtime-dir: %s", where, strerror(errno));
    jail = openat(MONITOR_RUNTIME, JAIL_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (jail < 0 || fstat(jail, &st) != 0)
        die(EX_CONFIG, "%s: %s/" JAIL_DIR ": %s", where, monitor_policy->runtime_dir,
            strerror(errno));
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        die(EX_CONFIG, "%s: %s/" JAIL_DIR " must belong to root and be writable by nobody else",
            where, monitor_policy->runtime_dir);
    fd = openat(jail, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            die(EX_CONFIG, "%s: %s/" JAIL_DIR " must be empty, and holds %s", where,
                monitor_policy->runtime_dir, entry->d_name);
    if (dir == NULL)
        die(EX_OSERR, "%s: %s", monitor_policy->runtime_dir, strerror(errno));
    closedir(dir);
}

/* One of the descriptors that stay. */
static void pin(int fd, enum monitor_fd number)
{
    if (fd < 0 || dup3(fd, (int)number, O_CLOEXEC) < 0)
        die(EX_OSERR, "cannot start: %s", strerror(errno));
    close(fd);
}

static void open_runtime_dir(void)
{
    const char *path = monitor_policy->runtime_dir;
    const char *where = place(monitor_policy->runtime_place);
    char why[512];
    struct stat st;
    int parent = priv_open_dir(path, POLICY_NO_OWNER, false, &st, why, sizeof why), fd;

    if (parent < 0)
        die(EX_CONFIG, "%s: runtime-dir: %s", where, why);
    if (mkdirat(parent, strrchr(path, '/') + 1, 0755) != 0 && errno != EEXIST)
        die(EX_OSERR, "%s: runtime-dir: cannot make %s: %s", where, path, strerror(errno));
    close(parent);
    fd = priv_open_dir(path, POLICY_NO_OWNER, true, &st, why, sizeof why);
    if (fd < 0)
        die(EX_CONFIG, "%s: runtime-dir: %s", where, why);
    pin(fd, MONITOR_RUNTIME);
}

static bool lock_now_or_soon(int fd)
{
    const struct timespec pause = {0, LOCK_LOOK_NS};
    uint64_t until = monitor_now() + (options.by_master ? LOCK_WAIT_MS : 0);

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (monitor_now() >= until)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* One monitor for each runtime-dir; the lock goes with the process. */
static void take_lock(void)
{
    struct stat held, named;
    int fd = -1;

    do {
        if (fd >= 0)
            close(fd);
        fd = openat(MONITOR_RUNTIME, PID_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0 || fstat(fd, &held) != 0)
            die(EX_OSERR, "%s/" PID_FILE ": %s", monitor_policy->runtime_dir, strerror(errno));
        if (!lock_now_or_soon(fd))
            die(EX_TEMPFAIL, "already running: %s/" PID_FILE " is locked",
                monitor_policy->runtime_dir);
        /* The one before may have removed the file between the two: then it is not this one. */
    } while (fstatat(MONITOR_RUNTIME, PID_FILE, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
             named.st_ino != held.st_ino);
    locked = true;
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        die(EX_OSERR, "%s/" PID_FILE ": %s", monitor_policy->runtime_dir, strerror(errno));
}

/* What a careless parent left open is closed but for `count` from `first` on, what it closed is
 * filled, and the descriptors that have their place keep it free. Returns what `first` became. */
static int order_descriptors(int first, int count)
{
    int kept = inherit_keep(first, count), fd;

    if (kept < 0)
        die(EX_OSERR, "cannot take the descriptors of whoever started it: %s", strerror(errno));
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < MONITOR_LOOP);
    return kept;
}

/* In the monitor and in any child. */
uint64_t monitor_descriptors_needed(const struct policy *policy)
{
    uint64_t need = 0;

    for (size_t i = 0; i < policy->nlistens; i++)
        if (policy->listens[i].clients_per_worker > need)
            need = policy->listens[i].clients_per_worker;
    /* Image, the one before, an input; a socket, its directory, and the one that replaces it. */
    return need + clients_workers_most(policy) + agents_descriptors(policy) + 3 * policy->ntables +
           3 * policy->nlistens + 256;
}

uint64_t monitor_descriptors(void)
{
    return descriptors;
}

static void raise_descriptors(void)
{
    uint64_t need = monitor_descriptors_needed(monitor_policy);
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_max < need)
        die(EX_OSERR, "the limit of open files is %llu, and this configuration needs %llu",
            (unsigned long long)files.rlim_max, (unsigned long long)need);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    descriptors = files.rlim_max;
}

/* Returns in the child. The parent waits for its word that it is ready, and exits. */
static int daemonise(void)
{
    int ready[2];
    char byte;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) != 0 || (pid = fork()) < 0)
        die(EX_OSERR, "cannot start in the background: %s", strerror(errno));
    if (pid > 0) {
        int status;

        close(ready[1]);
        if (read(ready[0], &byte, 1) == 1)
            _exit(EX_OK);
        waitpid(pid, &status, 0); /* it has said why */
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE);
    }
    close(ready[0]);
    setsid();
    return ready[1];
}

static void say_ready(bool to_standard_error, int parent)
{
    size_t t = monitor_policy->ntables, l = monitor_policy->nlistens;

    for (unsigned i = 0; i < walls.count; i++)
        log_line(LOG_WARNING, "sandbox: %s; going on without, as sandbox = available says",
                 walls.missing[i]);
    log_line(LOG_INFO, "ready: %zu table%s, %zu listener%s, pid %d", t, t == 1 ? "" : "s", l,
             l == 1 ? "" : "s", (int)getpid());
    notify_ready();
    for (int fd = 0; fd <= (to_standard_error ? 0 : 2); fd++)
        dup2(MONITOR_NULL, fd);
    if (parent >= 0) {
        if (write(parent, "", 1) != 1)
            log_line(LOG_WARNING, "cannot tell the starting process: %s", strerror(errno));
        close(parent);
    }
}

/* ---- signals and loop ---- */

static void signals_ready(struct watched *self, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    while (read(self->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            children_reap();
        } else if (info.ssi_signo == SIGHUP) {
            reload_ask("SIGHUP", NULL);
        } else {
            monitor_stop(EX_OK, "%s", strsignal((int)info.ssi_signo));
        }
    }
}

static void start_loop(void)
{
    static struct watched signals = {-1, signals_ready};
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN); /* whoever opens what tables.c has leased for a moment */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pin(epoll_create1(EPOLL_CLOEXEC), MONITOR_LOOP);
    pin(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), MONITOR_SIGNALS);
    pin(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), MONITOR_INOTIFY);
    signals.fd = MONITOR_SIGNALS;
    if (!monitor_watch(&signals, EPOLLIN))
        die(EX_OSERR, "cannot start: %s", strerror(errno));
}

void monitor_stop(int status, const char *format, ...)
{
    va_list ap;
    int used;

    if (stopping)
        return;
    used = snprintf(last_words, sizeof last_words, status == EX_OK ? "stopping: " : "stopped: ");
    va_start(ap, format);
    vsnprintf(last_words + used, sizeof last_words - (size_t)used, format, ap);
    va_end(ap);
    stopping = true;
    exit_status = status;
    if (status == EX_OK)
        log_line(LOG_INFO, "%s", last_words);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int time_to_wait(void)
{
    uint64_t now = monitor_now(), next = NEVER;

    log_tick(now, &next);
    next = earlier(next, children_tick(now));
    next = earlier(next, tables_tick(now));
    next = earlier(next, agents_tick(now));
    next = earlier(next, clients_tick(now));
    next = earlier(next, limits_tick(now));
    next = earlier(next, listen_tick(now));
    next = earlier(next, reload_tick(now));
    next = earlier(next, notify_tick(now));
    next = earlier(next, control_tick(now));
    next = earlier(next, census_tick(now)); /* last: what the others have to tell is told */
    if (next == NEVER)
        return -1;
    return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

static void look_at_use(void)
{
    uint64_t served = clients_served();

    if (served > 0)
        master_served();
    if (options.max_use > 0 && served >= options.max_use && clients_connected() == 0)
        monitor_stop(EX_OK, "all of %llu clients have left, and -m is %u",
                     (unsigned long long)served, options.max_use);
}

static void run(void)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!stopping) {
        int n = epoll_wait(MONITOR_LOOP, events, EVENTS_AT_ONCE, time_to_wait());

        for (int i = 0; i < n; i++) {
            struct watched *watched = events[i].data.ptr;

            watched->ready(watched, events[i].events);
        }
        look_at_use();
        children_free();
    }
}

/* The working directory will be left, and every component is checked from the root on. */
static const char *absolute(const char *path)
{
    char *cwd, *whole;

    if (path[0] == '/')
        return path;
    cwd = getcwd(NULL, 0);
    if (cwd == NULL || asprintf(&whole, "%s/%s", cwd, path) < 0)
        die(EX_OSERR, "%s: %s", path, strerror(errno));
    free(cwd);
    return whole;
}

static _Noreturn void usage(void)
{
    fputs("usage: jailmapd [-fnV] [-c FILE] [-m NUMBER]\n", stderr);
    exit(EX_USAGE);
}

static void read_options(int argc, char **argv)
{
    int opt;

    while ((opt = getopt(argc, argv, "c:fm:nV")) != -1) {
        if (opt == 'c')
            monitor_config = absolute(optarg);
        else if (opt == 'f')
            options.foreground = true;
        else if (opt == 'm' && (options.max_use = master_max_use(optarg)) > 0)
            continue;
        else if (opt == 'n')
            options.check = true;
        else if (opt == 'V')
            exit(puts("jailmapd " JAILMAP_VERSION) == EOF ? EX_OSERR : EX_OK);
        else
            usage();
    }
    if (optind < argc)
        usage();
}

/* The same by the rules of master(8). Returns how many sockets listen. */
static int read_master_options(int argc, char **argv)
{
    struct master_options asked;
    static char why[1024];

    if (!master_read_options(argc, argv, &asked, why, sizeof why))
        die(EX_USAGE, "not started: %s", why);
    if (asked.config != NULL)
        monitor_config = asked.config;
    options.max_use = asked.max_use;
    options.foreground = true;
    return asked.sockets;
}

/* ---- what whoever started it has opened ---- */

static struct {
    int status;        /* of master(8); -1: none */
    int sockets;       /* the first that listens */
    int count;         /* of those */
    int number;        /* that the first had */
    const char *giver; /* of them, for messages */
} given = {-1, -1, 0, LISTEN_FDS, "the service manager"};

static void take_descriptors(int master_sockets)
{
    if (options.by_master) {
        given.status = order_descriptors(MASTER_STATUS, 1 + master_sockets);
        given.sockets = given.status + 1;
        given.count = master_sockets;
        given.number = MASTER_STATUS + 1;
        given.giver = "master(8)";
        return;
    }
    given.count = inherit_announced();
    if (given.count < 0)
        die(EX_USAGE, "LISTEN_FDS is \"%s\"; expected a number of at most 256",
            getenv("LISTEN_FDS"));
    given.sockets = order_descriptors(LISTEN_FDS, given.count);
}

static void match_descriptors(void)
{
    static char why[1024];

    if (!inherit_listeners(given.sockets, given.count, given.giver, given.number, why, sizeof why))
        die(EX_CONFIG, "%s: %s", monitor_config, why);
}

/* ---- the walls ---- */

static void write_sandbox(void)
{
    int fd = openat(MONITOR_RUNTIME, SANDBOX_FILE,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good =
        fd >= 0 &&
        dprintf(fd, "jailmap-sandbox 1\npolicy\t%s\nuser\t%u\t%u\nlandlock\t%d\n",
                monitor_policy->strict ? "strict" : "available", (unsigned)monitor_policy->uid,
                (unsigned)monitor_policy->gid, landlock_version()) > 0;

    for (unsigned i = 0; good && i < walls.count; i++)
        good = dprintf(fd, "missing\t%s\n", walls.missing[i]) > 0;
    if (!good || dprintf(fd, "end\n") < 0)
        die(EX_OSERR, "%s/" SANDBOX_FILE ": %s", monitor_policy->runtime_dir, strerror(errno));
    close(fd);
}

static void refuse_if_strict(void)
{
    static char all[sizeof walls.missing];
    size_t used = 0;

    if (!monitor_policy->strict || walls.count == 0)
        return;
    for (unsigned i = 0; i < walls.count; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? "; " : "",
                                 walls.missing[i]);
    die(EX_UNAVAILABLE, "not started, as sandbox = strict says: %s", all);
}

/*
 * The launchers first, as they and what they start must not have the monitor's filter; then what
 * still needs privilege; and then there is none.
 */
static void start_confined(void)
{
    static char why[2048];

    if (priv_confine_all() != 0)
        die(EX_OSERR, "cannot give up privileges: %s", strerror(errno));
    if (!launchers_start(helpers, jail, &walls, why, sizeof why))
        die(EX_OSERR, "%s", why);
    for (int i = 0; i < HELPERS; i++)
        close(helpers[i]); /* they are the launchers' now, and so is the jail */
    close(jail);
    if (!listen_bind(why, sizeof why))
        die(EX_CONFIG, "%s", why);
    notify_open();
    if (!control_bind(why, sizeof why))
        die(EX_OSERR, "%s", why);
    start_loop();
    if (priv_confine(&walls) != 0)
        die(EX_OSERR, "cannot give up privileges: %s", strerror(errno));
    refuse_if_strict();
    write_sandbox();
    profile_enter(&profile_monitor);
    if (!launchers_watch())
        die(EX_OSERR, "cannot start: %s", strerror(errno));
}

static int stop(void)
{
    notify_stopping();
    listen_stop();
    control_stop();
    clients_stop();
    children_stop();
    unlinkat(MONITOR_RUNTIME, SANDBOX_FILE, 0);
    unlinkat(MONITOR_RUNTIME, PID_FILE, 0);
    if (exit_status != EX_OK) {
        fprintf(stderr, "jailmapd: error: %s\n", last_words);
        log_directly(last_words);
    }
    return exit_status;
}

int main(int argc, char **argv)
{
    int parent = -1, sockets = 0;
    bool to_standard_error;

    signal(SIGCHLD, SIG_DFL); /* whoever started us may ignore it: no death would be seen */
    options.by_master = master_is_parent();
    if (options.by_master)
        sockets = read_master_options(argc, argv);
    else
        read_options(argc, argv);
    take_descriptors(sockets);
    notify_environment();
    clearenv(); /* no child is to inherit it */
    read_config();
    open_helpers();
    if (options.check)
        return check_sources();
    if (geteuid() != 0)
        die(EX_NOPERM, "must be started as root: it opens tables and enters jails for others");
    match_descriptors();
    raise_descriptors();
    umask(022);
    open_runtime_dir();
    if (!options.foreground)
        parent = daemonise();
    take_lock();
    open_jail();
    start_confined();
    to_standard_error = options.foreground && !options.by_master;
    log_start(to_standard_error);
    census_start();
    census_policy("");
    if (!agents_start() || !tables_start() || !listen_start() || !control_start() ||
        (given.status >= 0 && !master_watch(given.status)))
        die(EX_OSERR, "cannot start: %s", strerror(errno));
    say_ready(to_standard_error, parent);
    run();
    return stop();
}
