/*
 * Messages between processes: see bridge.h. Runs in the monitor, with privilege, on what children
 * send, and in the children on what the monitor and their link peers send. It may use the socket it
 * is given; it must never block, allocate, or look into a tail.
 */
#include "privsep/bridge.h"

#include <errno.h>
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

/*
 * Collects every descriptor that came; what has no room in fds is closed. False if a control
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
                close(fd);
                clean = 0;
            }
        }
    }
    return clean;
}

enum bridge_result bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                  enum bridge_role to, enum bridge_state state,
                                  struct bridge_msg *msg, const char **why)
{
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {buf, cap};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};
    ssize_t len = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (len < 0)
        return errno == EAGAIN || errno == EINTR ? BRIDGE_AGAIN : BRIDGE_CLOSED;
    *why = NULL;
    if (!collect_fds(&mh, msg->fds, &msg->nfds))
        *why = "unexpected control message";
    else if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        *why = "message over every limit";
    else if (len == 0 && msg->nfds == 0)
        return BRIDGE_CLOSED; /* no message is empty, so this is the end */
    else
        *why = bridge_decode(buf, (size_t)len, msg->nfds, from, to, state, msg);
    if (*why == NULL)
        return BRIDGE_OK;
    while (msg->nfds > 0)
        close(msg->fds[--msg->nfds]);
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
    return sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}
