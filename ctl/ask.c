/*
 * Commands to a daemon, through a control socket. Runs in the tool, as whoever calls it, whom the
 * daemon answers or not. It may connect, which is the command, and read the answer; it must never
 * send anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "ctl/jailmap.h"

#define REFUSED    "refused: "
#define AGAIN      "try again\n"
#define TRIES      30
#define PAUSE_NS   (100L * 1000 * 1000)
#define ANSWER_MAX ((size_t)1 << 28)

static int complain(int status, const struct ctl_socket *to, const char *why)
{
    fprintf(stderr, "jailmap: %s/%s: %s\n", to->dir, to->name, why);
    return status;
}

/* Through the directory's descriptor: a path may be longer than the name of a socket. */
static int connect_to(const struct ctl_socket *to)
{
    struct timeval patience = {.tv_sec = to->patience};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int place = open(to->dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, error;

    if (place < 0)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", place, to->name);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
                    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
                    connect(fd, (struct sockaddr *)&address, sizeof address) != 0)) {
        error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    error = errno;
    close(place);
    errno = error;
    return fd;
}

/* What a memory that came holds: the answer, where it may be too long for a message. */
static bool take_memory(int fd, FILE *whole)
{
    static char piece[64 * 1024];
    struct stat st;
    ssize_t n = 0;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)ANSWER_MAX) {
        errno = EPROTO;
        return false;
    }
    for (off_t at = 0; (n = pread(fd, piece, sizeof piece, at)) > 0; at += n)
        if (fwrite(piece, 1, (size_t)n, whole) == 0)
            return false;
    return n == 0;
}

/* One message, or the memory that came with it. As recv(2). */
static ssize_t take_message(int fd, FILE *whole)
{
    static char piece[64 * 1024];
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {piece, sizeof piece};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};
    ssize_t n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
    struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
    int memory;
    bool good;

    if (cmsg == NULL || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS ||
        cmsg->cmsg_len != CMSG_LEN(sizeof memory))
        return n > 0 && fwrite(piece, 1, (size_t)n, whole) == 0 ? -1 : n;
    memcpy(&memory, CMSG_DATA(cmsg), sizeof memory);
    good = take_memory(memory, whole);
    close(memory);
    return good ? n : -1;
}

/* All that comes, until its end. -1 with errno. */
static int receive(int fd, char **text, size_t *len)
{
    FILE *whole = open_memstream(text, len);
    ssize_t n;
    int error;

    if (whole == NULL)
        return -1;
    while ((n = take_message(fd, whole)) > 0 || (n < 0 && errno == EINTR))
        if (ftell(whole) > (long)ANSWER_MAX) {
            n = -1;
            errno = EMSGSIZE;
            break;
        }
    error = errno;
    if (fclose(whole) != 0) {
        error = errno;
        n = -1;
    }
    errno = error;
    return n == 0 ? 0 : -1;
}

static int ask_once(const struct ctl_socket *to, char **text, size_t *len)
{
    int fd = connect_to(to), status = EX_OK;

    *text = NULL;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return complain(
            EX_UNAVAILABLE, to,
            "not there; jailmapd is not running, or has another runtime-dir (option -d)");
    if (fd < 0 && errno == ECONNREFUSED)
        return complain(EX_UNAVAILABLE, to, "nobody listens; jailmapd ended without a word");
    if (fd < 0)
        return complain(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE, to, strerror(errno));
    if (receive(fd, text, len) != 0)
        status = complain(errno == EAGAIN ? EX_TEMPFAIL : EX_UNAVAILABLE, to,
                          errno == EAGAIN ? "no answer" : strerror(errno));
    close(fd);
    return status;
}

static bool ends_with(const char *text, size_t len, const char *end)
{
    return len >= strlen(end) && memcmp(text + len - strlen(end), end, strlen(end)) == 0;
}

/* What the daemon says instead of an answer; it is cut and made printable. */
static int refused(const struct ctl_socket *to, char *text, size_t len)
{
    size_t at = strlen(REFUSED);
    bool again = ends_with(text, len, AGAIN);

    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            text[i] = i + 1 == len ? '\0' : '?';
    text[len - 1] = '\0';
    complain(0, to, text + at);
    free(text);
    return again ? EX_TEMPFAIL : EX_NOPERM;
}

int ctl_ask(const struct ctl_socket *to, char **text, size_t *len)
{
    const struct timespec pause = {0, PAUSE_NS};

    for (int tries = 1;; tries++) {
        int status = ask_once(to, text, len);

        if (status == EX_OK && *len > strlen(REFUSED) &&
            memcmp(*text, REFUSED, strlen(REFUSED)) == 0) {
            if (tries == TRIES || !ends_with(*text, *len, AGAIN))
                return refused(to, *text, *len);
            free(*text);
            nanosleep(&pause, NULL);
            continue;
        }
        if (status != EX_OK)
            free(*text);
        return status;
    }
}
