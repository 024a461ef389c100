/*
 * Listening sockets. Runs in the monitor: binding with privilege at start, accepting afterwards. It
 * may create and remove the sockets that the policy names, but those that it inherited; it must
 * never chown, chmod or unlink a name in a directory that somebody else can write, so a socket gets
 * its owner and mode as it is made, with the file system identity of that directory's owner.
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
#include <unistd.h>

#include "privsep/inherit.h"
#include "privsep/monitor.h"
#include "privsep/priv_open.h"

#define ACCEPTS_AT_ONCE 64
#define PAUSE_MS        200 /* when descriptors run out */

static struct listener {
    struct watched io;
    int dir;
    struct stat dir_st;
    struct sockaddr_un name; /* last component only: used from within dir */
    ino_t ino;
    bool bound;
} * listeners;
static uint64_t resume_at = NEVER;

/* Act on the file system as the owner of the listener's directory, and back. */
static void as_owner(const struct listener *l, const struct policy_listen *conf)
{
    if (l->dir_st.st_uid != 0) {
        setfsgid(conf->gid);
        setfsuid(l->dir_st.st_uid);
    }
}

static void as_root(void)
{
    setfsuid(0);
    setfsgid(0);
}

/* Somebody's live socket is left alone; what a dead process left is removed. */
static bool remove_stale(struct listener *l)
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

static bool bind_one(struct listener *l, const struct policy_listen *conf, char *why, size_t len)
{
    bool ok;

    l->dir = priv_open_dir(conf->path, conf->uid, false, &l->dir_st, why, len);
    if (l->dir < 0)
        return false;
    if (l->dir_st.st_uid != 0 && l->dir_st.st_uid != conf->uid) {
        snprintf(why, len, "its directory belongs to uid %u: set owner to that user",
                 (unsigned)l->dir_st.st_uid);
        return false;
    }
    l->name.sun_family = AF_UNIX;
    strcpy(l->name.sun_path, strrchr(conf->path, '/') + 1); /* the whole path fits: see config.c */
    as_owner(l, conf);
    ok = fchdir(l->dir) == 0 && bind_here(l, conf);
    if (!ok)
        snprintf(why, len, "%s",
                 errno == EADDRINUSE ? "another program is listening there" : strerror(errno));
    if (chdir("/") != 0)
        ok = false;
    as_root();
    /* In root's own directory nobody can exchange the name, so its owner can be set by name. */
    if (ok && l->dir_st.st_uid == 0 &&
        fchownat(l->dir, l->name.sun_path, conf->uid, conf->gid, AT_SYMLINK_NOFOLLOW) != 0) {
        snprintf(why, len, "cannot set its owner: %s", strerror(errno));
        ok = false;
    }
    return ok && is_as_asked(l, conf, why, len);
}

static void listen_ready(struct watched *self, uint32_t events)
{
    struct listener *l = (struct listener *)self;
    static struct log_limit limit;
    uint64_t now = monitor_now();

    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int error = client_accept((size_t)(l - listeners), l->io.fd, now);

        if (error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS) {
            log_held(&limit, now);
            if (log_allow(&limit))
                log_line(LOG_WARNING, "cannot accept clients for the moment: %s", strerror(error));
            for (size_t j = 0; j < monitor_policy->nlistens; j++)
                monitor_rewatch(&listeners[j].io, 0);
            resume_at = now + PAUSE_MS;
            return;
        }
        if (error == EAGAIN)
            return;
    }
}

bool listen_bind(char *why, size_t len)
{
    listeners = calloc(monitor_policy->nlistens, sizeof *listeners);
    for (size_t i = 0; listeners != NULL && i < monitor_policy->nlistens; i++) {
        const struct policy_listen *conf = &monitor_policy->listens[i];
        int inherited = inherit_listener(i);
        char reason[512];

        listeners[i].io = (struct watched){-1, listen_ready};
        if (inherited >= 0 ? !take_inherited(&listeners[i], inherited, reason, sizeof reason)
                           : !bind_one(&listeners[i], conf, reason, sizeof reason)) {
            snprintf(why, len, "%s:%d:%d: listen \"%s\": %s", conf->place.file, conf->place.line,
                     conf->place.column, conf->path, reason);
            listen_stop();
            return false;
        }
    }
    return listeners != NULL;
}

int listen_dir(size_t listener)
{
    return listeners[listener].dir;
}

bool listen_start(void)
{
    for (size_t i = 0; i < monitor_policy->nlistens; i++)
        if (!monitor_watch(&listeners[i].io, EPOLLIN))
            return false;
    return true;
}

uint64_t listen_tick(uint64_t now)
{
    if (resume_at <= now) {
        for (size_t i = 0; i < monitor_policy->nlistens; i++)
            monitor_rewatch(&listeners[i].io, EPOLLIN);
        resume_at = NEVER;
    }
    return resume_at;
}

/* Removes what was bound, unless another program's socket stands there by now. */
void listen_stop(void)
{
    for (size_t i = 0; listeners != NULL && i < monitor_policy->nlistens; i++) {
        struct listener *l = &listeners[i];
        struct stat st;

        if (!l->bound)
            continue;
        as_owner(l, &monitor_policy->listens[i]);
        if (fstatat(l->dir, l->name.sun_path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == l->ino)
            unlinkat(l->dir, l->name.sun_path, 0);
        as_root();
        close(l->io.fd);
        l->bound = false;
    }
}
