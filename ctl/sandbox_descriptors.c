/*
 * The open descriptors of a process, for the page of `jailmap sandbox`. Runs in the tool, as root.
 * It looks at sockets through a copy of the descriptor (pidfd_getfd), asks who made them and closes
 * the copy; it must never read from one.
 */
#include "ctl/sandbox.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "privsep/bridge.h"

#define SEALS    (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define NO_OWNER (-1L)

struct descriptor {
    int fd, flags;
    enum kind kind;
    long client; /* uid of a client; NO_OWNER: it is none */
    char text[256];
};

struct view { /* what is being looked at */
    pid_t pid;
    int pidfd;
    const struct daemon *daemon;
    const struct design *design;
};

/* ---- sockets ---- */

static void name_of(const struct sockaddr_un *address, socklen_t len, char *name, size_t name_len)
{
    char raw[sizeof address->sun_path + 1] = "";
    size_t n = len > offsetof(struct sockaddr_un, sun_path)
                   ? len - offsetof(struct sockaddr_un, sun_path)
                   : 0;

    memcpy(raw, address->sun_path, n < sizeof raw ? n : sizeof raw - 1);
    if (n > 0 && raw[0] == '\0')
        raw[0] = '@'; /* an abstract name */
    page_escape(name, name_len, raw);
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

/* SEQPACKET: made by the monitor, or foreign. The bridge has its place, but in the monitor. */
static void classify_pair(const struct view *v, struct descriptor *d, pid_t maker)
{
    bool bridge = v->pid == v->daemon->monitor || d->fd == BRIDGE_FD;

    if (maker != v->daemon->monitor) {
        snprintf(d->text, sizeof d->text, "socket pair made by process %d", (int)maker);
        return;
    }
    d->kind = bridge ? KIND_BRIDGE : KIND_LINKED;
    snprintf(d->text, sizeof d->text, "%s, made by the monitor",
             !bridge                        ? "link to another child"
             : v->pid == v->daemon->monitor ? "bridge to a child"
                                            : "bridge to the monitor");
}

static void classify_unix(const struct view *v, struct descriptor *d, int fd)
{
    struct sockaddr_un address;
    socklen_t len = sizeof address;
    struct ucred peer = {.pid = 0};
    socklen_t peer_len = sizeof peer;
    char own[160] = "", other[160] = "";

    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        name_of(&address, len, own, sizeof own);
    len = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &len) == 0)
        name_of(&address, len, other, sizeof other);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len);
    if (option(fd, SO_ACCEPTCONN) == 1) {
        d->kind = KIND_LISTENER;
        snprintf(d->text, sizeof d->text, "listening on %s", own);
    } else if (option(fd, SO_TYPE) == SOCK_SEQPACKET && own[0] != '\0') {
        d->kind = KIND_ASKER;
        snprintf(d->text, sizeof d->text, "uid %u on %s", (unsigned)peer.uid, own);
    } else if (option(fd, SO_TYPE) == SOCK_SEQPACKET) {
        classify_pair(v, d, peer.pid);
    } else if (option(fd, SO_TYPE) == SOCK_STREAM && own[0] != '\0') {
        d->kind = KIND_CLIENT;
        d->client = (long)peer.uid;
        snprintf(d->text, sizeof d->text, "client of uid %u on %s", (unsigned)peer.uid, own);
    } else if (other[0] != '\0' && v->design->descriptors[KIND_SERVER] > 0) {
        d->kind = KIND_SERVER;
        snprintf(d->text, sizeof d->text, "server %s", other);
    } else if (other[0] != '\0') {
        d->kind = KIND_LOG;
        snprintf(d->text, sizeof d->text, "socket %s, of the log or of a service manager", other);
    } else if (option(fd, SO_TYPE) == SOCK_STREAM && v->pid == v->daemon->monitor) {
        d->kind = KIND_STARTER;
        snprintf(d->text, sizeof d->text, "socket of process %d, as master(8) gives",
                 (int)peer.pid);
    } else {
        snprintf(d->text, sizeof d->text, "UNIX socket of type %d", option(fd, SO_TYPE));
    }
}

/* "server 127.0.0.1 port 3306"; nothing but a connection is one. */
static void classify_inet(struct descriptor *d, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer = {.v6 = {0}};
    socklen_t len = sizeof peer;
    char host[INET6_ADDRSTRLEN] = "";

    if (option(fd, SO_TYPE) != SOCK_STREAM || getpeername(fd, &peer.any, &len) != 0) {
        snprintf(d->text, sizeof d->text, "internet socket without a peer");
        return;
    }
    d->kind = KIND_SERVER;
    if (peer.any.sa_family == AF_INET)
        inet_ntop(AF_INET, &peer.v4.sin_addr, host, sizeof host);
    else
        inet_ntop(AF_INET6, &peer.v6.sin6_addr, host, sizeof host);
    /* The port stands at the same place in both. */
    snprintf(d->text, sizeof d->text, "server %s port %u", host, ntohs(peer.v4.sin_port));
}

static void classify_socket(const struct view *v, struct descriptor *d)
{
    int fd = (int)syscall(SYS_pidfd_getfd, v->pidfd, d->fd, 0);

    if (fd < 0)
        snprintf(d->text, sizeof d->text, "socket (not looked into: %s)", strerror(errno));
    else if (option(fd, SO_DOMAIN) == AF_UNIX)
        classify_unix(v, d, fd);
    else if (option(fd, SO_DOMAIN) == AF_INET || option(fd, SO_DOMAIN) == AF_INET6)
        classify_inet(d, fd);
    else
        snprintf(d->text, sizeof d->text, "socket of address family %d", option(fd, SO_DOMAIN));
    if (fd >= 0)
        close(fd);
}

/* ---- files ---- */

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static const char *rights(int flags)
{
    return flags & O_PATH                    ? "as a name only"
           : (flags & O_ACCMODE) == O_RDONLY ? "read-only"
           : flags & O_APPEND                ? "append-only"
           : (flags & O_ACCMODE) == O_WRONLY ? "write-only"
                                             : "read and write";
}

static void classify_memfd(struct descriptor *d, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : -1;

    if (fd >= 0)
        close(fd);
    d->kind = seals >= 0 && (seals & SEALS) == SEALS ? KIND_SEALED : KIND_UNSEALED;
    snprintf(d->text, sizeof d->text, "%s",
             d->kind == KIND_SEALED ? "image, sealed read-only" : "image that is being made");
}

static void classify_regular(const struct view *v, struct descriptor *d, const struct stat *st,
                             const char *name)
{
    char shown[180];

    page_escape(shown, sizeof shown, name);
    if (same(st, &v->daemon->pid_file))
        d->kind = KIND_PID_FILE;
    else if ((d->flags & O_ACCMODE) == O_RDONLY)
        d->kind = strncmp(strrchr(name, '/') + 1, "jailmap-", 8) == 0 && (st->st_mode & S_IXUSR)
                      ? KIND_PROGRAM
                      : KIND_SOURCE;
    else if ((d->flags & O_ACCMODE) == O_WRONLY)
        d->kind = KIND_LOG;
    snprintf(d->text, sizeof d->text, "%s%s, %s", d->kind == KIND_LOG ? "log " : "", shown,
             rights(d->flags));
}

static void classify_directory(const struct view *v, struct descriptor *d, const struct stat *st,
                               const char *name)
{
    char shown[180];

    page_escape(shown, sizeof shown, name);
    if (same(st, &v->daemon->runtime) || same(st, &v->daemon->jail))
        d->kind = KIND_DIRECTORY;
    else if (d->flags & O_PATH)
        d->kind = KIND_PLACE;
    snprintf(d->text, sizeof d->text, "directory %s, %s", shown, rights(d->flags));
}

static void classify_file(const struct view *v, struct descriptor *d, const struct stat *st,
                          const char *path, const char *name)
{
    if (strncmp(name, "/memfd:", 7) == 0) {
        classify_memfd(d, path);
    } else if (S_ISREG(st->st_mode) && name[0] == '/') {
        classify_regular(v, d, st, name);
    } else if (S_ISDIR(st->st_mode)) {
        classify_directory(v, d, st, name);
    } else if (S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3)) {
        d->kind = KIND_NULL;
        strcpy(d->text, "/dev/null");
    } else {
        if (S_ISFIFO(st->st_mode))
            d->kind = KIND_PIPE;
        else if (S_ISCHR(st->st_mode)) /* a terminal */
            d->kind = KIND_LOG;
        page_escape(d->text, 180, strncmp(name, "pipe:", 5) == 0 ? "pipe" : name);
        snprintf(d->text + strlen(d->text), sizeof d->text - strlen(d->text), ", %s",
                 rights(d->flags));
    }
}

/* What has no inode of its own: the name is the kernel's. */
static bool classify_anonymous(struct descriptor *d, const char *name)
{
    static const struct {
        const char *name;
        enum kind kind;
        const char *text;
    } known[] = {{"anon_inode:[eventpoll]", KIND_EPOLL, "epoll"},
                 {"anon_inode:[signalfd]", KIND_SIGNALS, "signals (signalfd)"},
                 {"anon_inode:inotify", KIND_INOTIFY, "changes of files (inotify)"}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0) {
            d->kind = known[i].kind;
            strcpy(d->text, known[i].text);
            return true;
        }
    return false;
}

/* ---- one ---- */

static bool read_flags(const struct view *v, struct descriptor *d)
{
    char path[64], line[256];
    bool found = false;
    FILE *fp;

    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)v->pid, d->fd);
    fp = fopen(path, "re");
    while (fp != NULL && !found && fgets(line, sizeof line, fp) != NULL)
        if (strncmp(line, "flags:", 6) == 0) {
            d->flags = (int)strtoul(line + 6, NULL, 8);
            found = true;
        }
    if (fp != NULL)
        fclose(fp);
    return found;
}

/* False if it has been closed meanwhile. */
static bool look_at(const struct view *v, struct descriptor *d)
{
    char path[64], name[1024];
    struct stat st;
    ssize_t len;

    d->kind = KIND_OTHER;
    d->client = NO_OWNER;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)v->pid, d->fd);
    len = readlink(path, name, sizeof name - 1);
    if (len < 0 || !read_flags(v, d))
        return false;
    name[len] = '\0';
    if (strncmp(name, "socket:", 7) == 0)
        classify_socket(v, d);
    else if (!classify_anonymous(d, name) && stat(path, &st) == 0)
        classify_file(v, d, &st, path, name);
    else if (d->kind == KIND_OTHER)
        page_escape(d->text, sizeof d->text, name);
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct descriptor *x = a, *y = b;

    return (x->fd > y->fd) - (x->fd < y->fd);
}

static struct descriptor *look_at_all(const struct view *v, size_t *count)
{
    struct descriptor *all = calloc(1, sizeof *all), *grown;
    const struct dirent *entry;
    char path[64];
    DIR *dir;

    *count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)v->pid);
    dir = all != NULL ? opendir(path) : NULL;
    if (dir == NULL) {
        free(all);
        return NULL;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        all[*count].fd = (int)strtol(entry->d_name, NULL, 10);
        if (!look_at(v, &all[*count]))
            continue;
        grown = realloc(all, (++*count + 1) * sizeof *all);
        if (grown == NULL)
            abort(); /* rather no page than one that leaves something out */
        all = grown;
    }
    closedir(dir);
    qsort(all, *count, sizeof *all, by_number);
    return all;
}

/* ---- the lines ---- */

/* "0-2 7: /dev/null": those that are the same share a line. Marks them by fd -1 - fd. */
static void print_group(struct page *page, struct descriptor *all, size_t count, size_t first)
{
    char numbers[2048] = "", text[sizeof all->text];
    size_t used = 0, many = 0;

    memcpy(text, all[first].text, sizeof text);
    for (size_t i = first; i < count; i++) {
        size_t last = i;

        if (all[i].fd < 0 || strcmp(all[i].text, text) != 0)
            continue;
        while (last + 1 < count && all[last + 1].fd == all[last].fd + 1 &&
               strcmp(all[last + 1].text, text) == 0)
            last++;
        if (used + 32 < sizeof numbers)
            used += (size_t)snprintf(numbers + used, sizeof numbers - used,
                                     last == i ? "%s%d" : "%s%d-%d", used > 0 ? " " : "", all[i].fd,
                                     all[last].fd);
        many += last - i + 1;
        for (size_t j = i; j <= last; j++)
            all[j].fd = -1 - all[j].fd;
        i = last;
    }
    if (many > 1)
        page_fact(page, first == 0 ? "descriptors" : "", "%s: %s (%zu)", numbers, text, many);
    else
        page_fact(page, first == 0 ? "descriptors" : "", "%s: %s", numbers, text);
}

static void check_kinds(struct page *page, const struct design *design,
                        const struct descriptor *all, size_t count)
{
    int have[KINDS] = {0};

    for (size_t i = 0; i < count; i++)
        if (have[all[i].kind]++ == design->descriptors[all[i].kind])
            page_weaker(page, "descriptor %d, %s: the design gives it %s", all[i].fd, all[i].text,
                        design->descriptors[all[i].kind] == 0 ? "none of that kind"
                                                              : "fewer of that kind");
}

/* One compartment is one uid on one socket. */
static void check_compartment(struct page *page, const struct descriptor *all, size_t count)
{
    const struct descriptor *first = NULL;

    for (size_t i = 0; i < count; i++) {
        if (all[i].client == NO_OWNER)
            continue;
        if (first == NULL)
            first = &all[i];
        if (strcmp(first->text, all[i].text) != 0) {
            page_weaker(page, "it serves two compartments: %s, and %s", first->text, all[i].text);
            return;
        }
    }
}

static void check_rights(struct page *page, const struct design *design,
                         const struct descriptor *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (design->keeps && all[i].fd > 2 && (all[i].flags & O_CLOEXEC) == 0)
            page_weaker(page, "descriptor %d, %s, would stay open in a program that it executes",
                        all[i].fd, all[i].text);
}

bool report_descriptors(struct page *page, const struct daemon *daemon, const struct design *design)
{
    struct view v = {.pid = page->process->pid, .daemon = daemon, .design = design};
    struct descriptor *all;
    size_t count;

    v.pidfd = (int)syscall(SYS_pidfd_open, v.pid, 0);
    if (v.pidfd < 0)
        return false;
    all = look_at_all(&v, &count);
    close(v.pidfd);
    if (all == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        if (all[i].fd >= 0)
            print_group(page, all, count, i);
    if (count == 0)
        page_fact(page, "descriptors", "none");
    for (size_t i = 0; i < count; i++)
        all[i].fd = -1 - all[i].fd;
    check_kinds(page, design, all, count);
    check_compartment(page, all, count);
    check_rights(page, design, all, count);
    free(all);
    return true;
}
