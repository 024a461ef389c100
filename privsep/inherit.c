/*
 * Descriptors from whoever started jailmapd: see inherit.h. Runs in the monitor, with privilege, at
 * start only. It may ask the kernel what each descriptor is; it must never accept from, read or
 * unlink one.
 */
#include "privsep/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "privsep/monitor.h"
#include "privsep/profile.h"

#define MOST 256

static int *sockets; /* by index of the listen section; -1: none */

int inherit_announced(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char *end;
    long n;

    /* Another's: its parent was started so, and handed the environment on. */
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    n = strtol(count, &end, 10);
    return *count == '\0' || *end != '\0' || n < 0 || n > MOST ? -1 : (int)n;
}

int inherit_keep(int first, int count)
{
    int base = first + count > MONITOR_LOOP ? first + count : MONITOR_LOOP + 1;

    if (count == 0)
        return syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) == 0 ? base : -1;
    if (first > STDERR_FILENO + 1)
        syscall(SYS_close_range, STDERR_FILENO + 1, first - 1, 0);
    syscall(SYS_close_range, first + count, ~0U, 0);
    for (int i = 0; i < count; i++)
        if (fcntl(first + i, F_DUPFD_CLOEXEC, base) != base + i)
            return -1;
    return syscall(SYS_close_range, first, first + count - 1, 0) == 0 ? base : -1;
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

/* What makes it useless; NULL: nothing, and it listens on address. */
static const char *fault_of(int fd, struct sockaddr_un *address)
{
    socklen_t len = sizeof *address - 1;

    if (option(fd, SO_DOMAIN) < 0)
        return "no socket";
    if (option(fd, SO_DOMAIN) != AF_UNIX)
        return "no socket of the UNIX domain";
    if (option(fd, SO_TYPE) != SOCK_STREAM)
        return "no stream socket";
    if (option(fd, SO_ACCEPTCONN) != 1)
        return "a socket that does not listen";
    memset(address, 0, sizeof *address);
    if (getsockname(fd, (struct sockaddr *)address, &len) != 0 || address->sun_path[0] == '\0')
        return "a socket without a path";
    return NULL;
}

/* The absolute path of what may be relative to the directory in which it was started. */
static const char *whole(const char *name)
{
    static char path[4096];
    size_t len = 0;

    if (name[0] != '/' && getcwd(path, sizeof path - 1) != NULL) {
        len = strlen(path);
        path[len++] = '/';
    }
    snprintf(path + len, sizeof path - len, "%s", name);
    return path;
}

/* Gives it to its listen section. False with a message, without its subject, in why. */
static bool give(int fd, char *why, size_t len)
{
    struct sockaddr_un address;
    const char *fault = fault_of(fd, &address), *path;
    size_t i = 0;

    if (fault != NULL) {
        snprintf(why, len,
                 "is %s; expected a listening stream socket on the path of a listen "
                 "section",
                 fault);
        return false;
    }
    path = whole(address.sun_path);
    while (i < monitor_policy->nlistens && strcmp(monitor_policy->listens[i].path, path) != 0)
        i++;
    if (i == monitor_policy->nlistens)
        snprintf(why, len,
                 "listens on \"%.200s\", which no listen section names; add listen "
                 "\"%.200s\" { }, "
                 "or do not pass it",
                 path, path);
    else if (sockets[i] >= 0)
        snprintf(why, len, "listens on \"%.200s\", as one before it does; pass one only", path);
    else if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        snprintf(why, len, "does not become non-blocking: %s", strerror(errno));
    else {
        sockets[i] = fd;
        return true;
    }
    return false;
}

bool inherit_listeners(int first, int count, const char *giver, int number, char *why, size_t len)
{
    sockets = malloc((monitor_policy->nlistens + 1) * sizeof *sockets);
    if (sockets == NULL) {
        snprintf(why, len, "%s", strerror(errno));
        return false;
    }
    for (size_t i = 0; i <= monitor_policy->nlistens; i++)
        sockets[i] = -1;
    for (int i = 0; i < count; i++) {
        char reason[512];

        if (!give(first + i, reason, sizeof reason)) {
            snprintf(why, len, "descriptor %d from %s %s", number + i, giver, reason);
            return false;
        }
    }
    return true;
}

int inherit_listener(size_t index)
{
    return sockets[index];
}
