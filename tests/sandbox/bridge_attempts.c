/*
 * Attempts against whoever is at the other end of a bridge, by messages that break the rules of
 * privsep/bridge.h, and by silence. Run in attacker programs: see attack.h. What to break is made
 * from the same table that the rules are made from, so a new message is attacked as soon as it is
 * there.
 */
#include "tests/sandbox/attack.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/sandbox/bridge_attempts.h"

#define FDS_MOST   253 /* what the kernel takes at once: SCM_MAX_FD */
#define CROWDED_MS 20000

static const struct shape {
    size_t fixed, tail;
    unsigned fds;
} shapes[] = {
#define X(name, number, from, to, fixed, tail, fds, states)                                        \
    [number] = {sizeof(struct fixed), tail, fds},
    BRIDGE_MESSAGES(X)
#undef X
};

static struct shape shape_of(long type)
{
    static const struct shape none = {0};

    return type >= 0 && (size_t)type < sizeof shapes / sizeof shapes[0] ? shapes[type] : none;
}

uint64_t milliseconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

long send_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned nfds)
{
    static union {
        char space[CMSG_SPACE(FDS_MOST * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {(void *)bytes, len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds > 0) {
        struct cmsghdr *c = &control.align;

        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    for (uint64_t until = milliseconds() + CROWDED_MS;;) {
        long rc = sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);

        /* Descriptors on their way are counted for all processes of the user. */
        if (rc >= 0 || errno != ETOOMANYREFS || milliseconds() > until)
            return rc;
    }
}

/* How a message is changed from what is right, by the words that the test gives. */
long send_malformed(int fd, long type, const char *how)
{
    static _Alignas(8) char bytes[BRIDGE_LARGE + 64];
    static int fds[FDS_MOST];
    struct shape shape = shape_of(type);
    uint32_t header[2] = {(uint32_t)type, strstr(how, "nonzero") != NULL};
    size_t len = sizeof header + shape.fixed;
    unsigned nfds = shape.fds;

    for (unsigned i = 0; i < FDS_MOST; i++)
        fds[i] = BRIDGE_FD;
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, header, sizeof header);
    if (strstr(how, "empty") != NULL)
        len = 0;
    else if (strstr(how, "cut") != NULL)
        len = sizeof header - 1;
    else if (strstr(how, "headless") != NULL)
        len = sizeof header;
    else if (strstr(how, "short") != NULL)
        len--;
    else if (strstr(how, "long") != NULL)
        len += shape.tail + 1;
    else if (strstr(how, "huge") != NULL)
        len = sizeof bytes;
    if (strstr(how, "without") != NULL)
        nfds = 0;
    else if (strstr(how, "another") != NULL)
        nfds++;
    else if (strstr(how, "nine") != NULL)
        nfds = 9;
    else if (strstr(how, "hundreds") != NULL)
        nfds = FDS_MOST;
    return send_raw(fd, bytes, len, fds, nfds);
}

/* "NUMBER HOW": a message of that number, changed so. */
static long malformed(struct order *o)
{
    long rc = send_malformed(BRIDGE_FD, o->numbers[0], o->text);

    if (rc < 0)
        return rc;
    if (strstr(o->text, "stay") != NULL)
        idle();
    return rc;
}

/* The sender's identity as it would like it to be. */
static long credentials(struct order *o)
{
    struct ucred root = {1, 0, 0};
    union {
        char space[CMSG_SPACE(sizeof root)];
        struct cmsghdr align;
    } control;
    char bytes[64] = {0};
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};

    (void)o;
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_CREDENTIALS;
    control.align.cmsg_len = CMSG_LEN(sizeof root);
    memcpy(CMSG_DATA(&control.align), &root, sizeof root);
    return sendmsg(BRIDGE_FD, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Hears nothing and does nothing, for ever, with what its filter leaves it. */
_Noreturn void idle(void)
{
    struct epoll_event none;

    if (loot.role != ROLE_WORKER)
        for (;;)
            poll(NULL, 0, -1);
    for (int loop = BRIDGE_FD + 1; loop < 64; loop++) {
        for (int fd = BRIDGE_FD; fd < 1024; fd++)
            epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
        while (epoll_wait(loop, &none, 1, -1) >= 0 || errno == EINTR)
            ;
    }
    for (;;)
        ;
}

static long stall(struct order *o)
{
    (void)o;
    idle();
}

static long spin(struct order *o)
{
    for (volatile bool busy = true; busy;)
        ;
    return o->numbers[0];
}

/* Ends the conversation, and stays. */
static long hang_up(struct order *o)
{
    (void)o;
    close(BRIDGE_FD);
    idle();
}

/* The same message for ever: number, and the two words of its fixed part. */
static long flood(struct order *o)
{
    struct {
        uint32_t header[2], body[2];
        char tail[64];
    } m = {{(uint32_t)o->numbers[0], 0},
           {(uint32_t)o->numbers[1], (uint32_t)o->numbers[2]},
           "hash:/nowhere/flood"};

    for (uint64_t sent = 0;;) {
        if (send_raw(BRIDGE_FD, &m, sizeof m.header + sizeof m.body + strlen(m.tail), NULL, 0) >=
            0) {
            sent++;
        } else if (errno != EAGAIN && errno != ENOBUFS) {
            snprintf(o->detail, sizeof o->detail, "after %llu", (unsigned long long)sent);
            return -1;
        }
    }
}

const struct attempt bridge_attempts[] = {
    {"malformed", malformed},
    {"credentials", credentials},
    {"stall", stall},
    {"spin", spin},
    {"hang_up", hang_up},
    {"flood", flood},
    {NULL, NULL},
};
