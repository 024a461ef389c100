/*
 * The monitor, taken over: the real jailmapd, which looks into its mailbox on SIGHUP. Runs where
 * the monitor runs, with the walls that it has put up around itself; the mailbox is mapped before
 * main.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/un.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/profile.h"
#include "tests/sandbox/attack.h"
#include "tests/sandbox/mailbox.h"

void __real_tables_check_all(void);
void __wrap_tables_check_all(void);

int __real_inotify_add_watch(int fd, const char *path, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask);

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);

static __attribute__((constructor)) void begin(void)
{
    mailbox_open();
}

void __wrap_tables_check_all(void)
{
    loot.role = ROLE_MONITOR;
    if (mailbox_serve("monitor") == NULL)
        __real_tables_check_all();
}

/* No attempt: a kernel that has no more watches to give, as when others have taken them all. */
int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    if (!mailbox_says("no watches"))
        return __real_inotify_add_watch(fd, path, mask);
    errno = ENOSPC;
    return -1;
}

/* Nor here: a directory whose owner has put something else there in the last moment. */
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
    if (!mailbox_says("no renaming"))
        return __real_renameat(from, old, to, new);
    errno = EISDIR;
    return -1;
}

/* ---- what only the monitor could do ---- */

/* As it opens a source: that is allowed. What follows must not be. */
static long source(const struct order *o)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static long read_at(struct order *o)
{
    return syscall(SYS_pread64, source(o), o->detail, 40, 0);
}

static long read_vector(struct order *o)
{
    struct iovec iov = {o->detail, 40};

    return syscall(SYS_preadv, source(o), &iov, 1, 0, 0);
}

static long read_mapped(struct order *o)
{
    return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, (int)source(o), 0) == MAP_FAILED ? -1 : 0;
}

static long read_by_sendfile(struct order *o)
{
    int ends[2];

    return syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends) != 0
               ? -1
               : syscall(SYS_sendfile, ends[0], source(o), NULL, 40);
}

static long read_by_copy(struct order *o)
{
    long to = syscall(SYS_memfd_create, "x", 0);

    return syscall(SYS_copy_file_range, source(o), NULL, to, NULL, 40, 0);
}

/* In the place of what it may read. */
static long read_in_place(struct order *o)
{
    if (syscall(SYS_dup2, source(o), MONITOR_SIGNALS) < 0)
        return -1;
    return syscall(SYS_read, MONITOR_SIGNALS, o->detail, 40);
}

static long close_and_reopen(struct order *o)
{
    if (syscall(SYS_close, MONITOR_SIGNALS) != 0)
        return -1;
    return syscall(SYS_read, source(o), o->detail, 40);
}

/* With a bit that a filter sees and the kernel does not. */
static long close_hidden(struct order *o)
{
    if (syscall(SYS_close, (1L << 32) + MONITOR_SIGNALS) != 0)
        return -1;
    return syscall(SYS_read, source(o), o->detail, 40);
}

/* "FD": as a client is read. */
static long receive_from(struct order *o)
{
    return syscall(SYS_recvfrom, o->numbers[0], o->detail, 40, MSG_DONTWAIT, NULL, NULL);
}

static long read_from(struct order *o)
{
    return syscall(SYS_read, o->numbers[0], o->detail, 40);
}

/* As it makes its own files when it starts, but elsewhere. */
static long replace(struct order *o)
{
    return syscall(SYS_openat, MONITOR_RUNTIME, o->text,
                   O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static long move(struct order *o)
{
    return syscall(SYS_renameat, MONITOR_RUNTIME, o->text, MONITOR_RUNTIME, "/etc/jailmap-attack");
}

/* As it binds what a reload adds, but elsewhere. */
static long make_socket(struct order *o)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    strncpy(to.sun_path, o->text, sizeof to.sun_path - 1);
    return syscall(SYS_bind, syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0), &to, sizeof to);
}

static long link_file(struct order *o)
{
    return syscall(SYS_linkat, AT_FDCWD, o->text, MONITOR_RUNTIME, "link", 0);
}

/* "PATH": as to a socket that it is not connected to. */
static long send_to(struct order *o)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    strncpy(address.sun_path, o->text, sizeof address.sun_path - 1);
    return syscall(SYS_sendto, fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &address, sizeof address);
}

const struct attempt own_attempts[] = {
    {"read_at", read_at},
    {"read_vector", read_vector},
    {"read_mapped", read_mapped},
    {"read_by_sendfile", read_by_sendfile},
    {"read_by_copy", read_by_copy},
    {"read_in_place", read_in_place},
    {"close_and_reopen", close_and_reopen},
    {"close_hidden", close_hidden},
    {"receive_from", receive_from},
    {"read_from", read_from},
    {"replace", replace},
    {"move", move},
    {"make_socket", make_socket},
    {"link_file", link_file},
    {"send_to", send_to},
    {NULL, NULL},
};
