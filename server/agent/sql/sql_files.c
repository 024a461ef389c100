/*
 * What a database library may read: see sql_files.h. Runs in jailmap-agent-mysql and -pgsql. It may
 * open by path what an administrator has named; it must never read it, nor add a file later.
 */
#include "server/agent/sql/sql_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "privsep/landlock.h"

static struct granted {
    char *path;
    int fd;
    bool directory;
    dev_t device;
    ino_t inode;
} granted[SQL_FILES_MAX];
static unsigned count;

bool sql_files_grant(struct params *params, const char *parameter, const char *path)
{
    struct granted *g = &granted[count];
    struct stat st;

    if (*path == '\0')
        return true;
    if (count == SQL_FILES_MAX)
        return params_fail(params, parameter, "more than %d files are named; fewer are expected",
                           SQL_FILES_MAX);
    if (*path != '/')
        return params_fail(params, parameter, "an absolute path is expected");
    g->fd = open(path, O_PATH | O_CLOEXEC);
    if (g->fd < 0 || fstat(g->fd, &st) != 0)
        return params_fail(params, parameter,
                           "%s; a file that the agent's user can read is "
                           "expected",
                           strerror(errno));
    g->path = strdup(path);
    if (g->path == NULL)
        return params_fail(params, parameter, "out of memory");
    g->directory = S_ISDIR(st.st_mode);
    g->device = st.st_dev;
    g->inode = st.st_ino;
    count++;
    return true;
}

bool sql_files_enter(void)
{
    struct landlock_grant grants[SQL_FILES_MAX];
    bool good;

    for (unsigned i = 0; i < count; i++)
        grants[i] = (struct landlock_grant){
            granted[i].fd, granted[i].directory ? LANDLOCK_MAY_READ : LANDLOCK_MAY_READ_IT};
    good = landlock_enter(grants, count,
                          LANDLOCK_NO_TCP | LANDLOCK_NO_SIGNALS | LANDLOCK_NO_ABSTRACT) == 0 ||
           errno == ENOSYS || errno == EOPNOTSUPP;
    for (unsigned i = 0; i < count; i++)
        close(granted[i].fd);
    return good;
}

bool sql_files_replaced(void)
{
    struct stat st;

    for (unsigned i = 0; i < count; i++)
        if (stat(granted[i].path, &st) == 0 &&
            (st.st_dev != granted[i].device || st.st_ino != granted[i].inode))
            return true;
    return false;
}
