/*
 * Listening sockets. Runs in the monitor: binding with privilege at start, accepting afterwards,
 * and binding anew when a reload wants it, in directories that were known at start and with what
 * privilege is left. It may create and remove the sockets that the policy names, but those that it
 * inherited; it must never chown, chmod or unlink a name in a directory that somebody else can
 * write, so a socket gets its owner and mode as it is made, with the file system identity of that
 * directory's owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/clients.h"
#include "privsep/inherit.h"
#include "privsep/listen.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/priv_open.h"

#define ACCEPTS_AT_ONCE 64
#define PAUSE_MS        200 /* when descriptors run out */
#define TEMPORARY       ".jailmap-%zu"

struct listener {
    struct watched io;
    size_t index;
    int dir;
    struct stat dir_st;
    struct sockaddr_un name; /* last component only: used from within dir */
    gid_t gid;
    ino_t ino;
    bool bound;
    bool displaced; /* it could not get its name */
    struct listener *next_dropped;
};
static struct listener **listeners;    /* NULL: that one has gone */
static struct listener **replacements; /* of a reload that is being prepared */
static struct listener *dropped;
static size_t nlisteners;
static struct {
    int fd;
    dev_t dev;
    ino_t ino;
} * places; /* the directories of the start: Landlock lets no socket be made elsewhere */
static size_t nplaces;
static uint64_t resume_at = NEVER;

/* Act on the file system as the owner of the listener's directory, and back. */
static void as_owner(const struct listener *l)
{
    setfsgid(l->gid);
    setfsuid(l->dir_st.st_uid);
}

static void as_root(void)
{
    setfsuid(0);
    setfsgid(0);
}

/* Somebody's live socket is left alone; what a dead process left is removed. */
static bool remove_stale(const struct listener *l)
{
    struct stat st;
    int probe;

    if (fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return false;
    }
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return false;
    if (connect(probe, (struct sockaddr *)&l->name, sizeof l->name) == 0 || errno != ECONNREFUSED) {
        close(probe);
        errno = EADDRINUSE;
        return false;
    }
    close(probe);
    return unlinkat(l->dir, l->name.sun_path, 0) == 0;
}

/* From within the directory. The mode comes from the umask, at the moment of creation. */
static bool bind_here(struct listener *l, const struct policy_listen *conf)
{
    struct stat st;
    mode_t mask;
    bool ok;

    l->io.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->io.fd < 0 || !remove_stale(l))
        return false;
    bridge_take_descriptors(l->io.fd, false); /* nobody needs them from a client */
    mask = umask(0777 & ~conf->mode);
    ok = bind(l->io.fd, (struct sockaddr *)&l->name, sizeof l->name) == 0;
    umask(mask);
    if (!ok || fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    l->ino = st.st_ino;
    l->bound = true;
    return listen(l->io.fd, conf->backlog) == 0;
}

/* A set-group-ID directory, or one with a default ACL, gives what is made in it its own ideas. */
static bool is_as_asked(const struct listener *l, const struct policy_listen *conf, char *why,
                        size_t len)
{
    struct stat st;

    if (fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        snprintf(why, len, "%s", strerror(errno));
    else if (st.st_uid != conf->uid || st.st_gid != conf->gid || (st.st_mode & 0777) != conf->mode)
        snprintf(why, len,
                 "its directory makes it uid %u, gid %u, mode %04o; is the directory set-group-ID?",
                 (unsigned)st.st_uid, (unsigned)st.st_gid, (unsigned)(st.st_mode & 0777));
    else
        return true;
    return false;
}

/* Its owner and mode are of whoever made it, who will also remove it. */
static bool take_inherited(struct listener *l, int fd, char *why, size_t len)
{
    l->dir = -1;
    l->io.fd = fd;
    bridge_take_descriptors(fd, false);
    if (chdir("/") == 0) /* as after bind_one() */
        return true;
    snprintf(why, len, "%s", strerror(errno));
    return false;
}

/* Binds l in its directory, under the name that it has been given. */
static bool bind_in_place(struct listener *l, const struct policy_listen *conf, char *why,
                          size_t len)
{
    bool ok;

    if (l->dir_st.st_uid != 0 && l->dir_st.st_uid != conf->uid) {
        snprintf(why, len, "its directory belongs to uid %u: set owner to that user",
                 (unsigned)l->dir_st.st_uid);
        return false;
    }
    l->name.sun_family = AF_UNIX;
    l->gid = conf->gid;
    as_owner(l);
    ok = fchdir(l->dir) == 0 && bind_here(l, conf);
    if (!ok)
        snprintf(why, len, "%s",
                 errno == EADDRINUSE ? "another program is listening there" : strerror(errno));
    if (chdir("/") != 0)
        ok = false;
    as_root();
    return ok;
}

static const char *last_component(const char *path)
{
    return strrchr(path, '/') + 1;
}

static bool bind_one(struct listener *l, const struct policy_listen *conf, char *why, size_t len)
{
    l->dir = priv_open_dir(conf->path, conf->uid, false, &l->dir_st, why, len);
    if (l->dir < 0)
        return false;
    strcpy(l->name.sun_path, last_component(conf->path)); /* the whole path fits: see config.c */
    if (!bind_in_place(l, conf, why, len))
        return false;
    /* In root's own directory nobody can exchange the name, so its owner can be set by name. */
    if (l->dir_st.st_uid == 0 &&
        fchownat(l->dir, l->name.sun_path, conf->uid, conf->gid, AT_SYMLINK_NOFOLLOW) != 0) {
        snprintf(why, len, "cannot set its owner: %s", strerror(errno));
        return false;
    }
    return is_as_asked(l, conf, why, len);
}

static void rewatch_all(uint32_t events)
{
    for (size_t i = 0; i < nlisteners; i++)
        if (listeners[i] != NULL)
            monitor_rewatch(&listeners[i]->io, events);
}

static void listen_ready(struct watched *self, uint32_t events)
{
    struct listener *l = (struct listener *)self;
    static struct log_limit limit;
    uint64_t now = monitor_now();

    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE && l->io.fd >= 0; i++) {
        int error = client_accept(l->index, l->io.fd, now);

        if (error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS) {
            log_left_out(&limit, now, LOG_WARNING, "lines on clients that could not be accepted");
            if (log_allow(&limit))
                log_line(LOG_WARNING, "cannot accept clients for the moment: %s", strerror(error));
            rewatch_all(0);
            resume_at = now + PAUSE_MS;
            return;
        }
        if (error == EAGAIN)
            return;
    }
}

static struct listener *new_listener(size_t index)
{
    struct listener *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->io = (struct watched){-1, listen_ready};
    l->index = index;
    l->dir = -1;
    return l;
}

/* Removes what was bound, unless another program's socket stands there by now. */
static void unlink_socket(const struct listener *l)
{
    struct stat st;

    as_owner(l);
    if (fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == l->ino)
        unlinkat(l->dir, l->name.sun_path, 0);
    as_root();
}

static bool grow(size_t count)
{
    struct listener **one = reallocarray(listeners, count + 1, sizeof(struct listener *));
    struct listener **two;

    if (one == NULL)
        return false;
    listeners = one;
    two = reallocarray(replacements, count + 1, sizeof(struct listener *));
    if (two == NULL)
        return false;
    replacements = two;
    for (; nlisteners < count; nlisteners++)
        listeners[nlisteners] = replacements[nlisteners] = NULL;
    return true;
}

bool listen_bind(char *why, size_t len)
{
    places = calloc(monitor_policy->nlistens + 1, sizeof *places);
    if (places == NULL || !grow(monitor_policy->nlistens))
        return false;
    for (size_t i = 0; i < monitor_policy->nlistens; i++) {
        const struct policy_listen *conf = &monitor_policy->listens[i];
        int inherited = inherit_listener(i);
        char reason[512];

        listeners[i] = new_listener(i);
        if (listeners[i] == NULL)
            return false;
        if (inherited >= 0 ? !take_inherited(listeners[i], inherited, reason, sizeof reason)
                           : !bind_one(listeners[i], conf, reason, sizeof reason)) {
            snprintf(why, len, "%s:%d:%d: listen \"%s\": %s", conf->place.file, conf->place.line,
                     conf->place.column, conf->path, reason);
            listen_stop();
            return false;
        }
        if (listeners[i]->dir < 0)
            continue;
        places[nplaces].fd = listeners[i]->dir;
        places[nplaces].dev = listeners[i]->dir_st.st_dev;
        places[nplaces++].ino = listeners[i]->dir_st.st_ino;
    }
    return true;
}

int listen_dir(size_t listener)
{
    return listeners[listener]->dir;
}

bool listen_start(void)
{
    for (size_t i = 0; i < nlisteners; i++)
        if (!monitor_watch(&listeners[i]->io, EPOLLIN))
            return false;
    return true;
}

uint64_t listen_tick(uint64_t now)
{
    while (dropped != NULL) {
        struct listener *l = dropped;

        dropped = l->next_dropped;
        free(l);
    }
    if (resume_at <= now) {
        rewatch_all(EPOLLIN);
        resume_at = NEVER;
    }
    return resume_at;
}

void listen_stop(void)
{
    for (size_t i = 0; i < nlisteners; i++) {
        struct listener *l = listeners[i];

        if (l == NULL || !l->bound)
            continue;
        unlink_socket(l);
        close(l->io.fd);
        l->bound = false;
    }
}

/* ---- reload ---- */

/* Closes it, and frees it once no event in hand can point at it. */
static void drop(struct listener *l, bool unlink_too)
{
    if (l->bound && unlink_too)
        unlink_socket(l);
    if (l->io.fd >= 0) {
        monitor_unwatch(&l->io);
        close(l->io.fd);
    }
    l->io.fd = -1;
    l->next_dropped = dropped;
    dropped = l;
}

void listen_abandon(void)
{
    for (size_t i = 0; i < nlisteners; i++) {
        if (replacements[i] != NULL)
            drop(replacements[i], true);
        replacements[i] = NULL;
    }
}

/* Finds the directory among those of the start. What that cannot do any more needs a restart. */
static bool find_place(struct listener *l, const struct policy_listen *conf, char *why, size_t len)
{
    int fd = priv_open_dir(conf->path, conf->uid, false, &l->dir_st, why, len);

    if (fd < 0)
        return false;
    close(fd);
    for (size_t i = 0; i < nplaces; i++)
        if (places[i].dev == l->dir_st.st_dev && places[i].ino == l->dir_st.st_ino)
            l->dir = places[i].fd;
    if (l->dir < 0)
        snprintf(why, len,
                 "no listener was in its directory when jailmapd started: that needs a restart");
    else if (l->dir_st.st_uid == 0 && conf->uid != 0)
        snprintf(why, len,
                 "a new socket in a directory of root that is to belong to uid %u needs a restart",
                 (unsigned)conf->uid);
    else
        return true;
    return false;
}

/* Whoever made it says whose it is, and how long its queue is. */
static bool is_inherited(size_t index)
{
    return listeners[index]->dir < 0;
}

/* Does the socket of l still stand under its name? */
static bool is_ours(const struct listener *l, char *why, size_t len)
{
    struct stat st;

    snprintf(why, len, "its socket was removed or replaced by another program");
    return fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == l->ino;
}

/* One that takes the place of another gets a name of its own until then. */
static bool prepare_one(size_t index, const struct policy_listen *conf, bool replaces, char *why,
                        size_t len)
{
    struct listener *l = new_listener(index);

    snprintf(why, len, "%s", strerror(ENOMEM));
    if (l == NULL)
        return false;
    replacements[index] = l;
    if (!find_place(l, conf, why, len))
        return false;
    replaces = replaces && !listeners[index]->displaced;
    if (replaces && !is_ours(listeners[index], why, len))
        return false;
    if (replaces)
        snprintf(l->name.sun_path, sizeof l->name.sun_path, TEMPORARY, index);
    else
        strcpy(l->name.sun_path, last_component(conf->path));
    if (!bind_in_place(l, conf, why, len) || !is_as_asked(l, conf, why, len))
        return false;
    snprintf(why, len, "it cannot be watched");
    return monitor_watch(&l->io, 0);
}

bool listen_prepare(const struct policy *next, char *why, size_t len)
{
    if (!grow(next->nlistens)) {
        snprintf(why, len, "%s", strerror(ENOMEM));
        return false;
    }
    for (size_t i = 0; i < next->nlistens; i++) {
        const struct policy_listen *conf = &next->listens[i];
        enum policy_change change = policy_listen_change(monitor_policy, next, i);
        char reason[512];

        if ((change != POLICY_ADDED && change != POLICY_ANEW) ||
            (change == POLICY_ANEW && is_inherited(i)) ||
            prepare_one(i, conf, change == POLICY_ANEW, reason, sizeof reason))
            continue;
        snprintf(why, len, "%s:%d:%d: listen \"%s\": %s", conf->place.file, conf->place.line,
                 conf->place.column, conf->path, reason);
        listen_abandon();
        return false;
    }
    return true;
}

/*
 * The new socket under the old name; and who was waiting at the old one is let in: as many as its
 * queue held, since whoever owns the directory may have given it another name. Where its own name
 * cannot be had the old one closes all the same: it may let in whom the policy does not any more.
 */
static void exchange(size_t index, unsigned waiting)
{
    struct listener *l = replacements[index], *old = listeners[index];
    uint64_t now = monitor_now();

    if (!old->displaced) {
        as_owner(l);
        l->displaced = renameat(l->dir, l->name.sun_path, l->dir, old->name.sun_path) != 0;
        as_root();
        if (l->displaced)
            log_line(LOG_ERR,
                     "listen \"%s\": its socket cannot be replaced (%s); the old one is closed, "
                     "and nobody can connect until a reload that changes it, or a restart",
                     monitor_policy->listens[index].path, strerror(errno));
        else
            l->name = old->name;
    }
    while (waiting-- > 0 && client_accept(index, old->io.fd, now) == 0)
        ;
    drop(old, old->displaced || l->displaced);
    listeners[index] = l;
}

static void reload_one(size_t index, enum policy_change change, const struct policy *old)
{
    if (change == POLICY_REMOVED) {
        drop(listeners[index], true);
        listeners[index] = NULL;
    } else if (change == POLICY_ADDED) {
        listeners[index] = replacements[index];
    } else if (change == POLICY_ANEW && !is_inherited(index)) {
        exchange(index, old->listens[index].backlog + 1);
    } else if (change == POLICY_TUNED && !is_inherited(index)) {
        listen(listeners[index]->io.fd, monitor_policy->listens[index].backlog);
    }
    replacements[index] = NULL;
}

void listen_reload(const struct policy *old)
{
    for (size_t i = 0; i < monitor_policy->nlistens; i++)
        reload_one(i, policy_listen_change(old, monitor_policy, i), old);
    if (resume_at == NEVER)
        rewatch_all(EPOLLIN);
}
