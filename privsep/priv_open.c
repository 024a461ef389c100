/*
 * Opening approved files: see priv_open.h. Runs in the monitor, with privilege. It may open what
 * the policy names; it must never read the content, or trust a name that it has not opened and
 * looked at.
 */
#include "privsep/priv_open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MOST 40  /* as the kernel has it */
#define STEPS_MOST 256 /* with links, a path can be as long as its maker likes */

struct walk {
    uid_t owner;
    unsigned flags;
    priv_step *step;
    void *arg;
    struct stat *st;
    char *why;
    size_t len;
    int dir;             /* where it has come to, as an O_PATH descriptor */
    char at[PATH_MAX];   /* the name of that, without links; "" is the root directory */
    char rest[PATH_MAX]; /* of the path */
    int links, steps;
    int error;         /* ENOENT, if that is why it cannot be opened */
    bool foreign;      /* one of the directories so far belongs to owner, not to root */
    bool foreign_link; /* and a link in one of them was followed */
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct walk *w, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(w->why, w->len, format, ap);
    va_end(ap);
    w->error = EPERM;
    return false;
}

/* Opening has failed, as errno says. */
static bool not_opened(struct walk *w)
{
    int error = errno;

    refuse(w, "%s: %s", w->at, strerror(error));
    w->error = error;
    return false;
}

static const char *here(const struct walk *w)
{
    return w->at[0] == '\0' ? "/" : w->at;
}

/* Is what fd refers to safe in anyone's hands but root's and owner's? Its name is w->at. */
static bool is_safe(struct walk *w, int fd)
{
    if (fstat(fd, w->st) != 0)
        return refuse(w, "%s: %s", here(w), strerror(errno));
    if (w->st->st_uid != 0 && w->st->st_uid != w->owner)
        return refuse(w, "%s belongs to uid %u, not to root", here(w), (unsigned)w->st->st_uid);
    if (!S_ISLNK(w->st->st_mode) && (w->st->st_mode & (S_IWGRP | S_IWOTH)))
        return refuse(w, "%s can be written by others (mode %04o)", here(w),
                      (unsigned)(w->st->st_mode & 07777));
    return true;
}

/* Makes fd, which it takes, the directory where the walk has come to. */
static bool enter(struct walk *w, int fd)
{
    if (w->dir >= 0)
        close(w->dir);
    w->dir = fd;
    if (!is_safe(w, fd))
        return false;
    if (!S_ISDIR(w->st->st_mode))
        return refuse(w, "%s is not a directory", here(w));
    w->foreign |= w->st->st_uid != 0;
    return true;
}

static bool enter_root(struct walk *w)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    w->at[0] = '\0';
    return fd >= 0 ? enter(w, fd) : refuse(w, "/: %s", strerror(errno));
}

/* Takes the next component of the rest. False at the end, or if it is too long. */
static bool next_name(struct walk *w, char *name)
{
    size_t begin = strspn(w->rest, "/");
    size_t len = strcspn(w->rest + begin, "/");

    if (len > NAME_MAX)
        return refuse(w, "%s/%.32s...: %s", w->at, w->rest + begin, strerror(ENAMETOOLONG));
    memcpy(name, w->rest + begin, len);
    name[len] = '\0';
    memmove(w->rest, w->rest + begin + len, strlen(w->rest + begin + len) + 1);
    return len > 0;
}

static bool append(struct walk *w, const char *name)
{
    size_t len = strlen(w->at);

    if (strcmp(name, "..") == 0) {
        char *slash = strrchr(w->at, '/');

        if (slash != NULL)
            *slash = '\0';
        return true;
    }
    if (len + strlen(name) + 2 > sizeof w->at)
        return refuse(w, "%s/%s: %s", w->at, name, strerror(ENAMETOOLONG));
    w->at[len] = '/';
    strcpy(w->at + len + 1, name);
    return true;
}

/* Puts what the link says, which is at w->at, in front of the rest. */
static bool follow(struct walk *w, int link)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target - 1);
    char *slash = strrchr(w->at, '/');

    if (!(w->flags & PRIV_FOLLOW) || ((w->flags & PRIV_REAL_NAME) && w->rest[0] == '\0'))
        return refuse(w, "%s is a symbolic link; the real path is expected", here(w));
    if (n <= 0)
        return refuse(w, "%s: %s", here(w), strerror(n < 0 ? errno : ENOENT));
    target[n] = '\0';
    if (++w->links > LINKS_MOST)
        return refuse(w, "%s: %s", here(w), strerror(ELOOP));
    if ((size_t)n + 1 + strlen(w->rest) >= sizeof w->rest)
        return refuse(w, "%s: %s", here(w), strerror(ENAMETOOLONG));
    if (w->rest[0] != '\0') /* begins with a slash then */
        memmove(w->rest + n, w->rest, strlen(w->rest) + 1);
    else
        w->rest[n] = '\0';
    memcpy(w->rest, target, (size_t)n);
    w->foreign_link |= w->foreign;
    if (target[0] == '/')
        return enter_root(w);
    if (slash != NULL)
        *slash = '\0';
    return true;
}

/*
 * Walks on until the rest is one component that is no link, whose name is left in name and whose
 * directory is w->dir; with name NULL, to the end, which is a directory.
 */
static bool walk(struct walk *w, char *last)
{
    char name[NAME_MAX + 1];

    w->why[0] = '\0';
    if (!enter_root(w))
        return false;
    while (next_name(w, name)) {
        bool ends = last != NULL && w->rest[0] == '\0', good; /* `name/` is a directory */
        int fd;

        if (strcmp(name, ".") == 0)
            continue;
        if (++w->steps > STEPS_MOST)
            return refuse(w, "%s: more than %d components on the way", here(w), STEPS_MOST);
        if (w->step != NULL)
            w->step(w->arg, w->dir, name);
        if (!append(w, name))
            return false;
        fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return not_opened(w);
        good = is_safe(w, fd);
        if (good && S_ISLNK(w->st->st_mode)) {
            good = follow(w, fd);
        } else if (good && !ends) {
            good = enter(w, fd);
            fd = -1;
        } else if (good) {
            strcpy(last, name);
            close(fd);
            return true;
        }
        if (fd >= 0)
            close(fd);
        if (!good)
            return false;
    }
    if (w->why[0] == '\0' && last != NULL)
        refuse(w, "%s is not a regular file", here(w));
    return w->why[0] == '\0';
}

/* Is it a file that only root, or only owner, can have meant? */
static bool is_meant(struct walk *w)
{
    if (!S_ISREG(w->st->st_mode))
        return refuse(w, "%s is not a regular file", here(w));
    if (w->st->st_uid == w->owner)
        return true;
    if (w->foreign_link)
        return refuse(w, "%s is reached by a symbolic link of uid %u, and is not its own", here(w),
                      (unsigned)w->owner);
    if (w->foreign && w->st->st_nlink > 1)
        return refuse(w, "%s has another name, and a directory on the way belongs to uid %u",
                      here(w), (unsigned)w->owner);
    return true;
}

/* Opens what walk() has found. */
static int open_last(struct walk *w, const char *name)
{
    int flags = w->flags & PRIV_EXECUTE ? O_PATH : O_RDONLY | O_NONBLOCK | O_NOCTTY, fd;

    /* Opening a device can do things. That what was opened is regular is looked at again below. */
    if (!S_ISREG(w->st->st_mode)) {
        refuse(w, "%s is not a regular file", here(w));
        return -1;
    }
    fd = openat(w->dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        not_opened(w);
        return -1;
    }
    if (is_safe(w, fd) && is_meant(w))
        return fd;
    close(fd);
    return -1;
}

static bool set_out(struct walk *w, const char *path, size_t path_len)
{
    w->dir = -1;
    if (path[0] != '/')
        return refuse(w, "%s: not an absolute path", path);
    if (path_len >= sizeof w->rest)
        return refuse(w, "%.64s...: %s", path, strerror(ENAMETOOLONG));
    memcpy(w->rest, path, path_len);
    w->rest[path_len] = '\0';
    return true;
}

int priv_open_dir(const char *path, uid_t owner, bool whole, struct stat *st, char *why, size_t len)
{
    const char *slash = strrchr(path, '/');
    struct walk w = {.owner = owner, .st = st, .why = why, .len = len};

    if (!set_out(&w, path, whole || slash == NULL ? strlen(path) : (size_t)(slash - path) + 1))
        return -1;
    if (walk(&w, NULL))
        return w.dir;
    if (w.dir >= 0)
        close(w.dir);
    return -1;
}

int priv_open_source(const char *path, uid_t owner, unsigned flags, priv_step *step, void *arg,
                     struct stat *st, char *why, size_t len)
{
    struct walk w = {
        .owner = owner, .flags = flags, .step = step, .arg = arg, .st = st, .why = why, .len = len};
    char name[NAME_MAX + 1];
    int fd = -1;

    if (!set_out(&w, path, strlen(path)))
        return -1;
    if (walk(&w, name))
        fd = open_last(&w, name);
    if (w.dir >= 0)
        close(w.dir);
    errno = w.error;
    return fd;
}

int priv_open_file(const char *path, uid_t owner, unsigned flags, struct stat *st, char *why,
                   size_t len)
{
    return priv_open_source(path, owner, flags, NULL, NULL, st, why, len);
}
