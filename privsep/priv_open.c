/*
 * Opening approved files: see priv_open.h. Runs in the monitor, with privilege. It may open what
 * the policy names; it must never read the content, follow a link, or trust a name that it has not
 * opened and looked at.
 */
#include "privsep/priv_open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Is what fd refers to safe in anyone's hands but root's and owner's? len bytes of path name it. */
static bool is_safe(int fd, const char *path, int path_len, uid_t owner, struct stat *st, char *why,
                    size_t len)
{
    if (path_len == 0) { /* the root directory */
        path = "/";
        path_len = 1;
    }
    if (fstat(fd, st) != 0)
        snprintf(why, len, "%.*s: %s", path_len, path, strerror(errno));
    else if (S_ISLNK(st->st_mode))
        snprintf(why, len, "%.*s is a symbolic link; the real path is expected", path_len, path);
    else if (st->st_uid != 0 && st->st_uid != owner)
        snprintf(why, len, "%.*s belongs to uid %u, not to root", path_len, path,
                 (unsigned)st->st_uid);
    else if (st->st_mode & (S_IWGRP | S_IWOTH))
        snprintf(why, len, "%.*s can be written by others (mode %04o)", path_len, path,
                 (unsigned)(st->st_mode & 07777));
    else
        return true;
    return false;
}

/* Opens the directory made of the first path_len bytes of path. */
static int walk(const char *path, size_t path_len, uid_t owner, struct stat *st, char *why,
                size_t len)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t at = 0;

    if (fd < 0 || path[0] != '/') {
        snprintf(why, len, "%s: %s", path, fd < 0 ? strerror(errno) : "not an absolute path");
        goto failed;
    }
    for (;;) {
        char name[NAME_MAX + 1];
        size_t begin, name_len;
        int next;

        if (!is_safe(fd, path, (int)at, owner, st, why, len))
            goto failed;
        if (!S_ISDIR(st->st_mode)) {
            snprintf(why, len, "%.*s is not a directory", (int)at, path);
            goto failed;
        }
        begin = at + strspn(path + at, "/");
        if (begin >= path_len)
            return fd;
        name_len = strcspn(path + begin, "/");
        at = begin + name_len;
        if (name_len >= sizeof name) {
            snprintf(why, len, "%s: %s", path, strerror(ENAMETOOLONG));
            goto failed;
        }
        memcpy(name, path + begin, name_len);
        name[name_len] = '\0';
        next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) {
            snprintf(why, len, "%.*s: %s", (int)at, path, strerror(errno));
            goto failed;
        }
        close(fd);
        fd = next;
    }
failed:
    if (fd >= 0)
        close(fd);
    return -1;
}

int priv_open_dir(const char *path, uid_t owner, bool whole, struct stat *st, char *why, size_t len)
{
    const char *slash = strrchr(path, '/');

    return walk(path, whole || slash == NULL ? strlen(path) : (size_t)(slash - path) + 1, owner, st,
                why, len);
}

int priv_open_file(const char *path, uid_t owner, bool execute, struct stat *st, char *why,
                   size_t len)
{
    const char *slash = strrchr(path, '/');
    int dir = priv_open_dir(path, owner, false, st, why, len), fd;

    if (dir < 0)
        return -1;
    /* Opening a device can do things. That what was opened is regular is looked at again below. */
    if (fstatat(dir, slash + 1, st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st->st_mode) &&
        !S_ISLNK(st->st_mode)) {
        snprintf(why, len, "%s is not a regular file", path);
        close(dir);
        return -1;
    }
    fd = openat(dir, slash + 1,
                (execute ? O_PATH : O_RDONLY | O_NONBLOCK | O_NOCTTY) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        snprintf(why, len, "%s is a symbolic link; the real path is expected", path);
    else if (fd < 0)
        snprintf(why, len, "%s: %s", path, strerror(errno));
    close(dir);
    if (fd < 0)
        return -1;
    if (!is_safe(fd, path, (int)strlen(path), owner, st, why, len)) {
        close(fd);
        return -1;
    }
    if (!S_ISREG(st->st_mode)) {
        snprintf(why, len, "%s is not a regular file", path);
        close(fd);
        return -1;
    }
    return fd;
}
