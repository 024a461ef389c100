/*
 * One side of a bridge under test: see bridge_side.h. Run by tests/fuzz/run; makes socketpairs and
 * descriptors of /dev/null. What may be accepted is written down a second time here, from the table
 * of messages, and the bridge must agree with it in both directions: no message too many, and none
 * too few. Whatever comes, no descriptor may be left open that is not handed out.
 *
 * Input: a byte for sender and state, one for the descriptors that come along, one for the type
 * (0: as the bytes say, else an entry of the table), one for the length of the tail, and the bytes
 * of the message, header included.
 */
#include "tests/fuzz/bridge_side.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct rule {
    uint32_t type;
    unsigned from, to;
    size_t fixed, tail;
    unsigned fds, states;
} rules[] = {
#define X(name, number, from, to, fixed, tail, fds, states)                                        \
    {MSG_##name, from, to, sizeof(struct fixed), tail, fds, states},
    BRIDGE_MESSAGES(X)
#undef X
};

static const enum bridge_state states[] = {STATE_BEGIN, STATE_SERVE, STATE_DONE, STATE_DRAIN};

#define HEADER 8u /* type and zero */

/* What comes with a message. */
enum baggage { NOTHING, ONE, TWO, NINE, CREDENTIALS, CREDENTIALS_AND_ONE, HUNG_UP, CUT, BAGGAGES };
enum { MOST_FDS = 9 };

struct attempt {
    enum bridge_role from, to;
    enum bridge_state state;
    enum baggage baggage;
    char *bytes; /* of exactly this length */
    size_t len, cap;
};

static const struct rule *rule_of(uint32_t type)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        if (rules[i].type == type)
            return &rules[i];
    return NULL;
}

static unsigned fds_of(enum baggage baggage)
{
    switch (baggage) {
    case ONE:
    case CREDENTIALS_AND_ONE:
        return 1;
    case TWO:
        return 2;
    case NINE:
        return MOST_FDS;
    default:
        return 0;
    }
}

/* ---- what the table says ---- */

static bool is_acceptable(const struct attempt *a, unsigned nfds)
{
    const struct rule *rule;
    uint32_t header[2];

    if (a->len < HEADER)
        return false;
    memcpy(header, a->bytes, HEADER);
    rule = rule_of(header[0]);
    return rule != NULL && header[1] == 0 && (rule->from & a->from) && (rule->to & a->to) &&
           (rule->states & a->state) && a->len - HEADER >= rule->fixed &&
           a->len - HEADER - rule->fixed <= rule->tail && nfds == rule->fds;
}

/* Does the message say what the bytes say? */
static void check_content(const struct bridge_msg *msg, const char *bytes, size_t len)
{
    const struct rule *rule = rule_of(msg->type);
    union bridge_body body;

    REQUIRE(rule != NULL && memcmp(bytes, &rule->type, sizeof rule->type) == 0, "type %d",
            msg->type);
    CHECK(msg->tail == bytes + HEADER + rule->fixed && msg->tail + msg->tail_len == bytes + len,
          "the tail is not the rest of the message");
    memset(&body, 0, sizeof body);
    memcpy(&body, bytes + HEADER, rule->fixed);
    CHECK(memcmp((const char *)&body, (const char *)&msg->body, sizeof body) == 0,
          "the fixed part is another");
    CHECK(strcmp(bridge_name(msg->type), "unknown") != 0, "a message without a name");
}

static void check_decode(const struct attempt *a)
{
    for (unsigned nfds = 0; nfds <= BRIDGE_FDS_MAX + 1; nfds++) {
        struct bridge_msg msg;
        const char *why = bridge_decode(a->bytes, a->len, nfds, a->from, a->to, a->state, &msg);

        CHECK((why == NULL) == is_acceptable(a, nfds), "%zu bytes and %u descriptors: %s", a->len,
              nfds, why != NULL ? why : "accepted");
        if (why == NULL)
            check_content(&msg, a->bytes, a->len);
    }
}

/* ---- over a socket ---- */

/* Sends the bytes as they are, which bridge_send() would not. */
static void send_raw(int fd, const struct attempt *a)
{
    unsigned nfds = fds_of(a->baggage);
    union {
        char space[CMSG_SPACE(MOST_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {a->bytes, a->len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[MOST_FDS];

    for (unsigned i = 0; i < nfds; i++)
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* see bridge_discard() */
    if (nfds > 0) {
        memset(&control, 0, sizeof control);
        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
    }
    REQUIRE(sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)a->len, "sendmsg: %s",
            strerror(errno));
    for (unsigned i = 0; i < nfds; i++)
        close(fds[i]);
}

/* The most descriptors that this sender may send now. */
static unsigned most_fds(const struct attempt *a)
{
    unsigned most = 0;

    for (size_t i = 0; i < COUNT(rules); i++)
        if ((rules[i].from & a->from) && (rules[i].to & a->to) && (rules[i].states & a->state) &&
            rules[i].fds > most)
            most = rules[i].fds;
    return most;
}

/* Between worker and agent only bytes are taken; what comes with them is not. */
static bool is_link(const struct attempt *a)
{
    return (a->from | a->to) == (ROLE_WORKER | ROLE_AGENT);
}

static unsigned taken(const struct attempt *a)
{
    return is_link(a) ? 0 : fds_of(a->baggage);
}

static enum bridge_result expected(const struct attempt *a)
{
    bool credentials = a->baggage == CREDENTIALS || a->baggage == CREDENTIALS_AND_ONE;

    if (a->baggage == HUNG_UP)
        return BRIDGE_CLOSED;
    if (a->len > a->cap || (!is_link(a) && (credentials || fds_of(a->baggage) > most_fds(a))))
        return BRIDGE_BAD;
    if (a->len == 0 && (is_link(a) || fds_of(a->baggage) == 0))
        return BRIDGE_CLOSED;
    return is_acceptable(a, taken(a)) ? BRIDGE_OK : BRIDGE_BAD;
}

/* What was accepted, sent on as the daemon's programs send it, is the same message. */
static void check_sent_on(int from, int to, const struct attempt *a, const struct bridge_msg *msg)
{
    char *again = need_memory(a->cap);
    struct bridge_msg got;
    const char *why = NULL;

    REQUIRE(bridge_send(from, msg->type, &msg->body, msg->tail, msg->tail_len, msg->fds) == 0,
            "a message that was received cannot be sent: %s", strerror(errno));
    REQUIRE(bridge_receive(to, again, a->cap, a->from, a->to, a->state, &got, &why) == BRIDGE_OK,
            "nor received again: %s", why);
    CHECK(memcmp(again, a->bytes, a->len) == 0, "it is another one then");
    check_content(&got, again, a->len);
    CHECK(got.nfds == msg->nfds, "%u descriptors, not %u", got.nfds, msg->nfds);
    while (got.nfds > 0)
        close(got.fds[--got.nfds]);
    errno = 0;
    CHECK(bridge_send(from, msg->type, &msg->body, a->bytes, BRIDGE_LARGE, msg->fds) == -1 &&
              errno == EMSGSIZE,
          "a tail over every limit is sent");
    free(again);
}

static void check_received(int from, int to, const struct attempt *a, struct bridge_msg *msg,
                           const char *buf)
{
    check_content(msg, buf, a->len);
    CHECK(msg->nfds == taken(a), "%u descriptors", msg->nfds);
    for (unsigned i = 0; i < msg->nfds; i++)
        CHECK(fcntl(msg->fds[i], F_GETFD) == FD_CLOEXEC, "not closed on exec");
    check_sent_on(from, to, a, msg);
    while (msg->nfds > 0)
        close(msg->fds[--msg->nfds]);
}

static void check_receive(const struct attempt *a)
{
    const int on = a->baggage == CREDENTIALS || a->baggage == CREDENTIALS_AND_ONE;
    uint64_t before = descriptors();
    char *buf = need_memory(a->cap);
    enum bridge_result result;
    struct bridge_msg msg;
    const char *why = NULL;
    int pair[2];

    REQUIRE(bridge_pair(pair) == 0, "bridge_pair: %s", strerror(errno));
    bridge_take_descriptors(pair[1], true);
    result = bridge_receive(pair[1], buf, a->cap, a->from, a->to, a->state, &msg, &why);
    CHECK(result == BRIDGE_AGAIN, "%d from an empty socket", result);
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    if (a->baggage == HUNG_UP)
        shutdown(pair[0], SHUT_WR);
    else
        send_raw(pair[0], a);
    result = bridge_receive(pair[1], buf, a->cap, a->from, a->to, a->state, &msg, &why);
    CHECK(result == expected(a), "%d, not %d: %s", result, expected(a), why != NULL ? why : "");
    CHECK((result == BRIDGE_BAD) == (why != NULL), "a reason that does not fit");
    if (result == BRIDGE_OK)
        check_received(pair[0], pair[1], a, &msg, buf);
    close(pair[0]);
    close(pair[1]);
    CHECK(descriptors() == before, "descriptors are left open, or too many closed");
    free(buf);
}

/* ---- inputs ---- */

/* One of the roles that the table names. */
static enum bridge_role role_of(unsigned choice)
{
    unsigned roles = 0;

    for (size_t i = 0; i < COUNT(rules); i++)
        roles |= rules[i].from | rules[i].to;
    for (choice %= (unsigned)__builtin_popcount(roles); choice > 0; choice--)
        roles &= roles - 1;
    return (enum bridge_role)(roles & -roles);
}

/* The bytes of the message; the tail is made as long as it may be, or one longer, if that is asked
 * for, so that such messages need no such inputs. */
static void lay_out(struct attempt *a, struct input *input)
{
    unsigned type = take_byte(input), length = take_byte(input) % 3;
    const struct rule *rule = type > 0 ? &rules[(type - 1) % COUNT(rules)] : NULL;
    uint32_t header[2] = {rule != NULL ? rule->type : 0, 0};

    if (input->left >= HEADER && rule == NULL)
        memcpy(header, input->at, HEADER);
    rule = rule_of(header[0]);
    a->len = input->left;
    if (rule != NULL && length > 0)
        a->len = HEADER + rule->fixed + rule->tail + length - 1;
    a->bytes = need_memory(a->len);
    memset(a->bytes, 'x', a->len);
    memcpy(a->bytes, input->at, input->left < a->len ? input->left : a->len);
    if (type > 0 && a->len >= HEADER)
        memcpy(a->bytes, header, HEADER);
}

void bridge_side(enum bridge_role to, size_t cap, const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct attempt a = {.to = to, .cap = cap};
    unsigned choice = take_byte(&input);

    a.from = role_of(choice % 16);
    a.state = states[choice / 16 % COUNT(states)];
    a.baggage = (enum baggage)(take_byte(&input) % BAGGAGES);
    lay_out(&a, &input);
    if (a.baggage == CUT && a.len > HEADER)
        a.cap = a.len - 1;
    check_decode(&a);
    check_receive(&a);
    CHECK(strcmp(bridge_name(UINT32_MAX), "unknown") == 0, "a name of nothing");
    free(a.bytes);
}
