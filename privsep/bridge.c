/*
 * Messages between processes: see bridge.h. Runs in the monitor, with privilege, on what children
 * send, and in the children on what the monitor and their link peers send. It may use the socket it
 * is given; it must never block, allocate, or look into a tail.
 */
#include "privsep/bridge.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct wire_header {
    uint32_t type;
    uint32_t zero;
};

static const struct bridge_rule {
    const char *name;
    unsigned from, to;
    size_t fixed, tail;
    unsigned fds, states;
} rules[] = {
#define X(name, number, from, to, fixed, tail, fds, states)                                        \
    [number] = {#name, from, to, sizeof(struct fixed), tail, fds, states},
    BRIDGE_MESSAGES(X)
#undef X
};

static const struct bridge_rule *rule_of(unsigned type)
{
    if (type >= sizeof rules / sizeof rules[0] || rules[type].name == NULL)
        return NULL;
    return &rules[type];
}

const char *bridge_name(unsigned type)
{
    const struct bridge_rule *rule = rule_of(type);

    return rule != NULL ? rule->name : "unknown";
}

const char *bridge_decode(const void *bytes, size_t len, unsigned nfds, enum bridge_role from,
                          enum bridge_role to, enum bridge_state state, struct bridge_msg *msg)
{
    struct wire_header header;
    const struct bridge_rule *rule;

    if (len < sizeof header)
        return "message shorter than its header";
    memcpy(&header, bytes, sizeof header);
    rule = rule_of(header.type);
    if (rule == NULL || header.zero != 0)
        return "message of unknown type";
    if ((rule->from & from) == 0 || (rule->to & to) == 0)
        return "message that this sender may not send";
    if ((rule->states & state) == 0)
        return "message out of state";
    if (len < sizeof header + rule->fixed)
        return "message too short";
    if (len > sizeof header + rule->fixed + rule->tail)
        return "message too long";
    if (nfds != rule->fds)
        return "wrong number of descriptors";
    msg->type = (enum bridge_type)header.type;
    memset(&msg->body, 0, sizeof msg->body);
    memcpy(&msg->body, (const char *)bytes + sizeof header, rule->fixed);
    msg->tail = (const char *)bytes + sizeof header + rule->fixed;
    msg->tail_len = len - sizeof header - rule->fixed;
    return NULL;
}

/* The most descriptors that one message may carry. */
static unsigned most_fds(enum bridge_role from, enum bridge_role to, enum bridge_state state)
{
    unsigned most = 0;

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if ((rules[i].from & from) && (rules[i].to & to) && (rules[i].states & state) &&
            rules[i].fds > most)
            most = rules[i].fds;
    return most;
}

void bridge_discard(int fd)
{
    int domain = 0;
    socklen_t len = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX)
        close(fd);
}

void bridge_take_descriptors(int fd, int take)
{
    setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &take, sizeof take);
}

/*
 * Collects every descriptor that came; what has no room in fds is discarded. False if a control
 * message is not an SCM_RIGHTS of whole descriptors.
 */
static int collect_fds(struct msghdr *mh, int *fds, unsigned *nfds)
{
    int clean = 1;

    *nfds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c != NULL; c = CMSG_NXTHDR(mh, c)) {
        size_t bytes = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            clean = 0;
            continue;
        }
        if (bytes % sizeof(int) != 0)
            clean = 0;
        for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
            if (*nfds < BRIDGE_FDS_MAX) {
                fds[(*nfds)++] = fd;
            } else {
                bridge_discard(fd);
                clean = 0;
            }
        }
    }
    return clean;
}

/* Between worker and agent only bytes go, and so without the calls that can pass descriptors: those
 * a worker has for its bridge alone. A census has no call that sends one. */
static bool is_link(unsigned from, unsigned to)
{
    return (from | to) == (ROLE_WORKER | ROLE_AGENT);
}

static ssize_t receive_plain(int fd, struct msghdr *mh)
{
    ssize_t len = recv(fd, mh->msg_iov->iov_base, mh->msg_iov->iov_len, MSG_DONTWAIT | MSG_TRUNC);

    mh->msg_controllen = 0;
    mh->msg_flags = len > (ssize_t)mh->msg_iov->iov_len ? MSG_TRUNC : 0;
    return len;
}

static ssize_t send_plain(int fd, const struct msghdr *mh)
{
    static char packet[BRIDGE_LARGE];
    size_t len = 0;

    for (size_t i = 0; i < mh->msg_iovlen; i++) {
        memcpy(packet + len, mh->msg_iov[i].iov_base, mh->msg_iov[i].iov_len);
        len += mh->msg_iov[i].iov_len;
    }
    return send(fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

enum bridge_result bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                  enum bridge_role to, enum bridge_state state,
                                  struct bridge_msg *msg, const char **why)
{
    union {
        char space[CMSG_SPACE(BRIDGE_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {buf, cap};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    unsigned most = most_fds(from, to, state);
    ssize_t len;

    /* What there is no room for never becomes a descriptor here, so it need not be closed. */
    if (most > 0) {
        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_LEN(most * sizeof(int));
    }
    len = is_link(from, to) ? receive_plain(fd, &mh)
                            : recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (len < 0)
        return errno == EAGAIN || errno == EINTR ? BRIDGE_AGAIN : BRIDGE_CLOSED;
    *why = NULL;
    if (!collect_fds(&mh, msg->fds, &msg->nfds))
        *why = "unexpected control message";
    else if (mh.msg_flags & MSG_CTRUNC)
        *why = "descriptors or control messages that it may not send";
    else if (mh.msg_flags & MSG_TRUNC)
        *why = "message over every limit";
    else if (len == 0 && msg->nfds == 0)
        return BRIDGE_CLOSED; /* no message is empty, so this is the end */
    else
        *why = bridge_decode(buf, (size_t)len, msg->nfds, from, to, state, msg);
    if (*why == NULL)
        return BRIDGE_OK;
    while (msg->nfds > 0)
        bridge_discard(msg->fds[--msg->nfds]);
    return BRIDGE_BAD;
}

int bridge_send(int fd, enum bridge_type type, const void *body, const void *tail, size_t tail_len,
                const int *fds)
{
    const struct bridge_rule *rule = rule_of(type);
    struct wire_header header = {type, 0};
    union {
        char space[CMSG_SPACE(BRIDGE_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov[3] = {{&header, sizeof header}};
    struct msghdr mh = {0};

    if (rule == NULL || tail_len > rule->tail) {
        errno = EMSGSIZE;
        return -1;
    }
    iov[1] = (struct iovec){(void *)body, rule->fixed};
    iov[2] = (struct iovec){(void *)tail, tail_len};
    mh.msg_iov = iov;
    mh.msg_iovlen = tail_len > 0 ? 3 : 2;
    if (rule->fds > 0) {
        struct cmsghdr *c = &control.align;

        memset(&control, 0, sizeof control);
        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_SPACE(rule->fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(rule->fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, rule->fds * sizeof(int));
    }
    return (is_link(rule->from, rule->to) || rule->from == ROLE_CENSUS
                ? send_plain(fd, &mh)
                : sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0
               ? -1
               : 0;
}

int bridge_pair(int fds[2])
{
    int room = 4 * (int)BRIDGE_LARGE; /* the kernel cuts this to net.core.wmem_max */

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return -1;
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return 0;
}
