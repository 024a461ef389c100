/*
 * Tests of privsep/bridge: every message there and back over real socketpairs, and every way in
 * which one may be wrong. What must hold for each message is taken from the table in bridge.h, so a
 * new message is tested as soon as it is declared. Part of the unit test program; opens descriptors
 * of its own and nothing else.
 */
#include "privsep/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static const struct rule {
    const char *name;
    enum bridge_type type;
    unsigned from, to;
    size_t fixed, tail;
    unsigned fds, states;
} rules[] = {
#define X(name, number, from, to, fixed, tail, fds, states)                                        \
    {#name, MSG_##name, from, to, sizeof(struct fixed), tail, fds, states},
    BRIDGE_MESSAGES(X)
#undef X
};

static const enum bridge_role roles[] = {ROLE_MONITOR, ROLE_WORKER,   ROLE_LOADER, ROLE_SCRIBE,
                                         ROLE_AGENT,   ROLE_LAUNCHER, ROLE_CENSUS, ROLE_READER};
static const enum bridge_state states[] = {STATE_BEGIN, STATE_SERVE, STATE_DONE, STATE_DRAIN};

#define HEADER 8u /* type and zero */

static char bytes[BRIDGE_LARGE + 4096], received[BRIDGE_LARGE + 4096];

/* One of the roles or states that a rule allows. */
static unsigned one_of(unsigned set)
{
    return set & -set;
}

/* Lays out a message of that type in bytes, its fixed part and its tail full of marks. */
static size_t lay_out(const struct rule *rule, size_t tail)
{
    uint32_t type = rule->type, zero = 0;

    memcpy(bytes, &type, sizeof type);
    memcpy(bytes + sizeof type, &zero, sizeof zero);
    for (size_t i = 0; i < rule->fixed + tail; i++)
        bytes[HEADER + i] = (char)(i * 7 + 1);
    return HEADER + rule->fixed + tail;
}

static const char *decode(const struct rule *rule, size_t len, unsigned nfds,
                          struct bridge_msg *msg)
{
    char *exact = exact_copy(bytes, len);
    const char *why = bridge_decode(exact, len, nfds, (enum bridge_role)one_of(rule->from),
                                    (enum bridge_role)one_of(rule->to),
                                    (enum bridge_state)one_of(rule->states), msg);

    if (why == NULL) {
        CHECK(msg->tail >= exact && msg->tail + msg->tail_len == exact + len,
              "%s: the tail is not the message's end", rule->name);
        msg->tail = bytes + (msg->tail - exact);
    }
    free(exact);
    return why;
}

static const struct rule *rule_of(enum bridge_type type)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        if (rules[i].type == type)
            return &rules[i];
    REQUIRE(false, "no message %d", type);
    return NULL;
}

/* ---- bridge_decode ---- */

static void decode_accepts(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        const size_t tails[] = {0, rules[i].tail > 0, rules[i].tail};

        for (size_t t = 0; t < COUNT(tails); t++) {
            struct bridge_msg msg;
            const char *why;
            size_t len = lay_out(&rules[i], tails[t]);

            memset(&msg, 0xee, sizeof msg);
            why = decode(&rules[i], len, rules[i].fds, &msg);
            if (!CHECK(why == NULL, "%s with a tail of %zu: %s", rules[i].name, tails[t], why))
                continue;
            CHECK(msg.type == rules[i].type, "%s is of type %d", rules[i].name, msg.type);
            CHECK(memcmp(&msg.body, bytes + HEADER, rules[i].fixed) == 0, "%s: its fixed part",
                  rules[i].name);
            CHECK(msg.tail_len == tails[t] &&
                      memcmp(msg.tail, bytes + HEADER + rules[i].fixed, tails[t]) == 0,
                  "%s: its tail of %zu bytes, here %zu", rules[i].name, tails[t], msg.tail_len);
        }
    }
}

static void decode_from_any_address(void)
{
    char *shifted = need_memory(256);

    for (size_t i = 0; i < COUNT(rules); i++)
        for (size_t at = 0; at < 16; at++) {
            struct bridge_msg msg;
            size_t len = lay_out(&rules[i], rules[i].tail > 20 ? 20 : rules[i].tail);

            memcpy(shifted + at, bytes, len);
            CHECK(bridge_decode(shifted + at, len, rules[i].fds,
                                (enum bridge_role)one_of(rules[i].from),
                                (enum bridge_role)one_of(rules[i].to),
                                (enum bridge_state)one_of(rules[i].states), &msg) == NULL,
                  "%s at offset %zu", rules[i].name, at);
        }
    free(shifted);
}

static void decode_short_header(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        lay_out(&rules[i], 0);
        for (size_t len = 0; len < HEADER; len++) {
            struct bridge_msg msg;

            CHECK(decode(&rules[i], len, rules[i].fds, &msg) != NULL, "%s cut to %zu bytes",
                  rules[i].name, len);
        }
    }
}

static bool is_declared(uint32_t type)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        if ((uint32_t)rules[i].type == type)
            return true;
    return false;
}

static void decode_unknown_type(void)
{
    static const uint32_t odd[] = {0x7fffffff, 0x80000000, 0xffffffff, 0x00000100,
                                   0x01000000, 0x0000ffff, 0x10000001};

    for (uint32_t i = 0; i < 1000 + COUNT(odd); i++) {
        uint32_t type = i < 1000 ? i : odd[i - 1000];

        if (is_declared(type))
            continue;
        memset(bytes, 0, 64);
        memcpy(bytes, &type, sizeof type);
        for (size_t len = HEADER; len < 64; len++)
            for (size_t s = 0; s < COUNT(states); s++) {
                struct bridge_msg msg;

                CHECK(bridge_decode(bytes, len, 0, ROLE_WORKER, ROLE_MONITOR, states[s], &msg) !=
                          NULL,
                      "type %u of %zu bytes", type, len);
            }
    }
}

static void decode_header_not_zero(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        for (unsigned bit = 0; bit < 32; bit++) {
            struct bridge_msg msg;
            size_t len = lay_out(&rules[i], 0);

            bytes[4 + bit / 8] = (char)(1u << bit % 8);
            CHECK(decode(&rules[i], len, rules[i].fds, &msg) != NULL, "%s with bit %u set",
                  rules[i].name, bit);
        }
}

static void decode_directions(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        for (size_t f = 0; f < COUNT(roles); f++)
            for (size_t t = 0; t < COUNT(roles); t++) {
                bool legal = (rules[i].from & roles[f]) && (rules[i].to & roles[t]);
                struct bridge_msg msg;
                size_t len = lay_out(&rules[i], 0);
                const char *why = bridge_decode(bytes, len, rules[i].fds, roles[f], roles[t],
                                                (enum bridge_state)one_of(rules[i].states), &msg);

                CHECK((why == NULL) == legal, "%s from role %d to role %d is %s", rules[i].name,
                      roles[f], roles[t], legal ? "refused" : "taken");
            }
}

static void decode_states(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        for (size_t s = 0; s < COUNT(states); s++) {
            bool legal = (rules[i].states & states[s]) != 0;
            struct bridge_msg msg;
            size_t len = lay_out(&rules[i], 0);
            const char *why =
                bridge_decode(bytes, len, rules[i].fds, (enum bridge_role)one_of(rules[i].from),
                              (enum bridge_role)one_of(rules[i].to), states[s], &msg);

            CHECK((why == NULL) == legal, "%s in state %d is %s", rules[i].name, states[s],
                  legal ? "refused" : "taken");
        }
}

static void decode_lengths(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        size_t longest = lay_out(&rules[i], rules[i].tail);
        struct bridge_msg msg;

        for (size_t len = 0; len < HEADER + rules[i].fixed; len++)
            CHECK(decode(&rules[i], len, rules[i].fds, &msg) != NULL, "%s of %zu bytes",
                  rules[i].name, len);
        for (size_t more = 1; more < 4096; more = more * 2 + 1)
            CHECK(decode(&rules[i], longest + more, rules[i].fds, &msg) != NULL,
                  "%s with a tail %zu bytes over its limit", rules[i].name, more);
    }
}

static void decode_descriptor_counts(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        size_t len = lay_out(&rules[i], 0);

        for (unsigned nfds = 0; nfds < 10; nfds++) {
            struct bridge_msg msg;

            CHECK((decode(&rules[i], len, nfds, &msg) == NULL) == (nfds == rules[i].fds),
                  "%s with %u descriptors", rules[i].name, nfds);
        }
    }
}

static void decode_random_bytes(void)
{
    uint64_t state = 77;

    for (int round = 0; round < 20000; round++) {
        size_t len = random_next(&state) % 80;
        struct bridge_msg msg;
        const char *why;

        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)random_next(&state);
        if (round % 2 && len >= HEADER) { /* of a known type */
            memset(bytes, 0, HEADER);
            bytes[0] = (char)(random_next(&state) % 20);
        }
        why = bridge_decode(bytes, len, (unsigned)(random_next(&state) % 3),
                            roles[random_next(&state) % COUNT(roles)],
                            roles[random_next(&state) % COUNT(roles)],
                            states[random_next(&state) % COUNT(states)], &msg);
        if (why == NULL)
            CHECK(msg.tail >= bytes && msg.tail + msg.tail_len == bytes + len, "a tail outside");
    }
}

static void table_is_sound(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        size_t longest = HEADER + rules[i].fixed + rules[i].tail;
        bool of_monitor = (rules[i].from | rules[i].to) & ROLE_MONITOR;

        CHECK(longest <= (of_monitor ? BRIDGE_SMALL : BRIDGE_LARGE), "%s has up to %zu bytes",
              rules[i].name, longest);
        CHECK(rules[i].fds <= BRIDGE_FDS_MAX, "%s has %u descriptors", rules[i].name, rules[i].fds);
        CHECK((rules[i].from & rules[i].to) == 0, "%s goes to its own role", rules[i].name);
        CHECK(rules[i].states != 0 && (rules[i].states & STATE_DONE) == 0, "%s after the end",
              rules[i].name);
        /* No child hands a descriptor to the monitor, but for a worker that was asked to. */
        CHECK((rules[i].to & ROLE_MONITOR) == 0 || rules[i].fds == 0 ||
                  (rules[i].type == MSG_HANDBACK && rules[i].from == ROLE_WORKER &&
                   rules[i].states == STATE_DRAIN),
              "%s brings a descriptor", rules[i].name);
        for (size_t j = 0; j < i; j++)
            CHECK(rules[i].type != rules[j].type, "%s has the number of %s", rules[i].name,
                  rules[j].name);
    }
}

/* The order in which a loader gets its work, and what it may say of it. */
static void load_of_a_table(void)
{
    static const struct {
        enum bridge_type type;
        enum bridge_role from, to;
        enum bridge_state state;
        unsigned fds;
        size_t tail;
    } rows[] = {
        {MSG_INPUT, ROLE_MONITOR, ROLE_LOADER, STATE_BEGIN, 1, 0},
        {MSG_LOAD, ROLE_MONITOR, ROLE_LOADER, STATE_BEGIN, 1, BRIDGE_NAME_MAX},
        {MSG_LOADED, ROLE_LOADER, ROLE_MONITOR, STATE_SERVE, 0, BRIDGE_TEXT_MAX},
        {MSG_FAILED, ROLE_LOADER, ROLE_MONITOR, STATE_SERVE, 0, BRIDGE_TEXT_MAX},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t more = 0; more < 2; more++) {
            const struct rule *rule = rule_of(rows[i].type);
            struct bridge_msg msg;
            const char *why = bridge_decode(bytes, lay_out(rule, rows[i].tail) + more, rows[i].fds,
                                            rows[i].from, rows[i].to, rows[i].state, &msg);

            CHECK((why == NULL) == (more == 0), "%s with a tail of %zu bytes: %s", rule->name,
                  rows[i].tail + more, why != NULL ? why : "taken");
        }
    CHECK(KIND_BOTH == (KIND_IMAGE | KIND_LINK), "what answers a table is a set of bits");
}

/* A worker that was asked for its clients goes on to say what it did before. */
static void drain_of_a_worker(void)
{
    static const enum bridge_type types[] = {MSG_OPEN, MSG_CLOSED, MSG_EVENT};
    struct bridge_msg msg;

    for (size_t i = 0; i < COUNT(types); i++) {
        const struct rule *rule = rule_of(types[i]);

        CHECK(bridge_decode(bytes, lay_out(rule, 0), 0, ROLE_WORKER, ROLE_MONITOR, STATE_DRAIN,
                            &msg) == NULL,
              "%s of a worker that drains", rule->name);
    }
    CHECK(bridge_decode(bytes, lay_out(rule_of(MSG_HANDBACK), 0), 1, ROLE_WORKER, ROLE_MONITOR,
                        STATE_SERVE, &msg) != NULL,
          "HANDBACK that nobody asked for");
    CHECK(bridge_decode(bytes, lay_out(rule_of(MSG_DRAIN), 0), 0, ROLE_MONITOR, ROLE_WORKER,
                        STATE_SERVE, &msg) == NULL,
          "DRAIN of a worker that serves");
}

static void names(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        CHECK_TEXT(bridge_name(rules[i].type), rules[i].name, "the name of a message");
    for (unsigned type = 0; type < 1000; type++)
        if (!is_declared(type))
            CHECK_TEXT(bridge_name(type), "unknown", "the name of no message");
    CHECK_TEXT(bridge_name(UINT32_MAX), "unknown", "the name of no message");
}

/* ---- over a socketpair ---- */

/* As the monitor makes them. */
static void make_pair(int ends[2])
{
    REQUIRE(bridge_pair(ends) == 0, "bridge_pair: %s", strerror(errno));
}

static void close_pair(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static enum bridge_result receive_as(int fd, const struct rule *rule, struct bridge_msg *msg,
                                     const char **why)
{
    memset(msg, 0xee, sizeof *msg);
    *why = NULL;
    return bridge_receive(fd, received, sizeof received, (enum bridge_role)one_of(rule->from),
                          (enum bridge_role)one_of(rule->to),
                          (enum bridge_state)one_of(rule->states), msg, why);
}

/* Bytes and descriptors as they are, past bridge_send(). */
static void send_raw(int fd, size_t len, const int *fds, unsigned nfds)
{
    union {
        char space[CMSG_SPACE(32 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {bytes, len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof control);
        mh.msg_control = control.space;
        mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    REQUIRE(sendmsg(fd, &mh, MSG_NOSIGNAL) == (ssize_t)len, "sendmsg: %s", strerror(errno));
}

static bool same_file(int a, int b)
{
    struct stat sa, sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static void there_and_back(const struct rule *rule, size_t tail)
{
    int ends[2], fds[] = {open("/dev/null", O_RDONLY)};
    unsigned before = open_descriptors();
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    lay_out(rule, tail);
    CHECK(bridge_send(ends[0], rule->type, bytes + HEADER, bytes + HEADER + rule->fixed, tail,
                      fds) == 0,
          "%s with a tail of %zu is not sent: %s", rule->name, tail, strerror(errno));
    if (CHECK(receive_as(ends[1], rule, &msg, &why) == BRIDGE_OK, "%s is not received: %s",
              rule->name, why)) {
        CHECK(msg.type == rule->type && msg.nfds == rule->fds && msg.tail_len == tail,
              "%s: type %d, %u descriptors, tail of %zu", rule->name, msg.type, msg.nfds,
              msg.tail_len);
        CHECK(memcmp(&msg.body, bytes + HEADER, rule->fixed) == 0, "%s: fixed part", rule->name);
        CHECK(memcmp(msg.tail, bytes + HEADER + rule->fixed, tail) == 0, "%s: tail", rule->name);
        for (unsigned i = 0; i < msg.nfds; i++) {
            CHECK(same_file(msg.fds[i], fds[i]), "%s: descriptor %u is another", rule->name, i);
            CHECK(is_cloexec(msg.fds[i]), "%s: descriptor %u survives exec", rule->name, i);
            close(msg.fds[i]);
        }
    }
    CHECK(receive_as(ends[1], rule, &msg, &why) == BRIDGE_AGAIN, "%s came twice", rule->name);
    close_pair(ends);
    CHECK(open_descriptors() == before, "%s leaves a descriptor open", rule->name);
    CHECK(fcntl(fds[0], F_GETFD) >= 0, "%s: the sender's descriptor was closed", rule->name);
    close(fds[0]);
}

static void every_message(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        there_and_back(&rules[i], 0);
        if (rules[i].tail > 0) {
            there_and_back(&rules[i], 1);
            there_and_back(&rules[i], rules[i].tail);
        }
    }
}

static void pairs_of_the_monitor(void)
{
    int ends[2], type = 0;
    socklen_t len = sizeof type;

    make_pair(ends);
    for (int i = 0; i < 2; i++) {
        CHECK(is_cloexec(ends[i]) && (fcntl(ends[i], F_GETFL) & O_NONBLOCK),
              "end %d is not close-on-exec and non-blocking", i);
        CHECK(getsockopt(ends[i], SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET,
              "end %d is a socket of type %d", i, type);
    }
    close_pair(ends);
}

/* net.core.wmem_max is 212,992 on a machine that nobody has tuned. */
static void largest_message_with_default_limits(void)
{
    const struct rule *answer = rule_of(MSG_ANSWER);
    int ends[2], room = 212992;
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0, "SO_SNDBUF");
    lay_out(answer, BRIDGE_DATA_MAX);
    CHECK(bridge_send(ends[0], MSG_ANSWER, bytes + HEADER, bytes + HEADER + answer->fixed,
                      BRIDGE_DATA_MAX, NULL) == 0,
          "not sent: %s", strerror(errno));
    CHECK(receive_as(ends[1], answer, &msg, &why) == BRIDGE_OK && msg.tail_len == BRIDGE_DATA_MAX,
          "not received");
    close_pair(ends);
}

static void several_in_order(void)
{
    const struct rule *query = rule_of(MSG_QUERY);
    int ends[2];

    make_pair(ends);
    for (uint64_t id = 1; id <= 20; id++)
        CHECK(bridge_send(ends[0], MSG_QUERY, &(struct msg_query){.id = id}, "key", id % 4, NULL) ==
                  0,
              "message %d", (int)id);
    for (uint64_t id = 1; id <= 20; id++) {
        struct bridge_msg msg;
        const char *why;

        CHECK(receive_as(ends[1], query, &msg, &why) == BRIDGE_OK && msg.body.QUERY.id == id &&
                  msg.tail_len == id % 4,
              "message %d", (int)id);
    }
    close_pair(ends);
}

static void tail_over_limit_is_not_sent(void)
{
    int ends[2], fds[BRIDGE_FDS_MAX] = {0};

    make_pair(ends);
    for (size_t i = 0; i < COUNT(rules); i++) {
        struct bridge_msg msg;
        const char *why;

        errno = 0;
        CHECK(bridge_send(ends[0], rules[i].type, bytes, bytes, rules[i].tail + 1, fds) == -1 &&
                  errno == EMSGSIZE,
              "%s with a tail of %zu: %s", rules[i].name, rules[i].tail + 1, strerror(errno));
        CHECK(receive_as(ends[1], &rules[i], &msg, &why) == BRIDGE_AGAIN, "%s came nevertheless",
              rules[i].name);
    }
    close_pair(ends);
}

static void full_queue_says_again(void)
{
    const struct rule *query = rule_of(MSG_QUERY);
    int ends[2], rc = 0;
    uint64_t sent = 0, got = 0;

    make_pair(ends);
    while (rc == 0 && sent < 100000)
        if ((rc = bridge_send(ends[0], MSG_QUERY, &(struct msg_query){.id = sent}, bytes, 500,
                              NULL)) == 0)
            sent++;
    CHECK(rc == -1 && errno == EAGAIN, "after %d messages: %s", (int)sent, strerror(errno));
    for (;;) {
        struct bridge_msg msg;
        const char *why;

        if (receive_as(ends[1], query, &msg, &why) != BRIDGE_OK)
            break;
        CHECK(msg.body.QUERY.id == got && msg.tail_len == 500, "message %d", (int)got);
        got++;
    }
    CHECK(got == sent, "%d sent, %d received", (int)sent, (int)got);
    CHECK(bridge_send(ends[0], MSG_QUERY, &(struct msg_query){.id = 1}, NULL, 0, NULL) == 0,
          "the queue has room again");
    close_pair(ends);
}

static void blocking_socket_does_not_block(void)
{
    const struct rule *query = rule_of(MSG_QUERY);
    int ends[2], rc = 0;
    struct bridge_msg msg;
    const char *why;

    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    CHECK(receive_as(ends[1], query, &msg, &why) == BRIDGE_AGAIN, "an empty queue");
    for (int i = 0; rc == 0 && i < 100000; i++)
        rc = bridge_send(ends[0], MSG_QUERY, &(struct msg_query){0}, bytes, 500, NULL);
    CHECK(rc == -1 && errno == EAGAIN, "a full queue: %s", strerror(errno));
    close_pair(ends);
}

static void closed_peer(void)
{
    const struct rule *closed = rule_of(MSG_CLOSED);
    int ends[2];
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    CHECK(bridge_send(ends[0], MSG_CLOSED, &(struct msg_closed){7}, NULL, 0, NULL) == 0, "sent");
    close(ends[0]);
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_OK && msg.body.CLOSED.client == 7,
          "what was sent before the end is lost");
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_CLOSED, "the end is not seen");
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_CLOSED, "the end does not last");
    CHECK(bridge_send(ends[1], MSG_CLOSED, &(struct msg_closed){7}, NULL, 0, NULL) == -1 &&
              errno == EPIPE,
          "sending to nobody: %s", strerror(errno)); /* and no SIGPIPE */
    close(ends[1]);
}

static void peer_that_read_nothing(void)
{
    const struct rule *closed = rule_of(MSG_CLOSED);
    int ends[2];
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    CHECK(bridge_send(ends[1], MSG_CLOSED, &(struct msg_closed){7}, NULL, 0, NULL) == 0, "sent");
    close(ends[0]); /* with a message in its queue: the kernel says ECONNRESET */
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_CLOSED, "the end is not seen");
    close(ends[1]);
}

/* ---- what a hostile child may send ---- */

/* Of a link between worker and agent, only the bytes are taken: what comes along is never seen. */
static enum bridge_result with_baggage(const struct rule *rule)
{
    return (rule->from | rule->to) == (ROLE_WORKER | ROLE_AGENT) ? BRIDGE_OK : BRIDGE_BAD;
}

/* Sends a message with more than belongs to it; that must be refused, or on a link not be seen, and
 * leave nothing behind. */
static void check_result(const struct rule *rule, size_t len, unsigned nfds, size_t cap,
                         enum bridge_result result, const char *about)
{
    int ends[2], fds[32];
    struct bridge_msg msg;
    const char *why;
    unsigned before;

    make_pair(ends);
    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    for (unsigned i = 1; i < nfds; i++)
        fds[i] = fds[0];
    send_raw(ends[0], len, fds, nfds);
    before = open_descriptors();
    why = NULL;
    memset(&msg, 0xee, sizeof msg);
    CHECK(bridge_receive(ends[1], received, cap, (enum bridge_role)one_of(rule->from),
                         (enum bridge_role)one_of(rule->to),
                         (enum bridge_state)one_of(rule->states), &msg, &why) == result,
          "%s: %s of %zu bytes with %u descriptors is not refused", about, rule->name, len, nfds);
    CHECK((why != NULL && why[0] != '\0') == (result == BRIDGE_BAD), "%s: no reason given", about);
    CHECK(result == BRIDGE_BAD || msg.nfds == 0, "%s: a descriptor came over a link", about);
    CHECK(open_descriptors() == before, "%s: %u descriptors were open, now %u", about, before,
          open_descriptors());
    close(fds[0]);
    close_pair(ends);
}

static void check_refused(const struct rule *rule, size_t len, unsigned nfds, size_t cap,
                          const char *about)
{
    check_result(rule, len, nfds, cap, BRIDGE_BAD, about);
}

static void surplus_descriptors_are_closed(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        for (unsigned nfds = rules[i].fds + 1; nfds <= 32; nfds++)
            check_result(&rules[i], lay_out(&rules[i], 0), nfds, sizeof received,
                         with_baggage(&rules[i]), "surplus");
}

static void too_few_descriptors(void)
{
    for (size_t i = 0; i < COUNT(rules); i++)
        for (unsigned nfds = 0; nfds < rules[i].fds; nfds++)
            check_refused(&rules[i], lay_out(&rules[i], 0), nfds, sizeof received, "too few");
}

static void bad_message_keeps_no_descriptor(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        size_t len = lay_out(&rules[i], rules[i].tail);

        if (rules[i].fds == 0)
            continue;
        check_refused(&rules[i], HEADER + rules[i].fixed - 1, rules[i].fds, sizeof received,
                      "short");
        check_refused(&rules[i], len + 1, rules[i].fds, sizeof received, "long");
        check_refused(&rules[i], 0, rules[i].fds, sizeof received, "no bytes");
        bytes[0] = 99;
        check_refused(&rules[i], len, rules[i].fds, sizeof received, "unknown type");
    }
}

static void cut_message_is_refused(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        size_t len = lay_out(&rules[i], 0);

        check_refused(&rules[i], len, rules[i].fds, len - 1, "longer than the buffer");
        /* The part that fits would be a whole message. */
        len = lay_out(&rules[i], rules[i].tail);
        check_refused(&rules[i], len + 1, rules[i].fds, len, "one byte more than the buffer");
    }
}

static void descriptors_that_do_not_fit(void)
{
    /* More than the receiver has room for: the kernel drops the rest and says MSG_CTRUNC. */
    const struct rule *load = rule_of(MSG_LOAD);

    check_refused(load, lay_out(load, 0), 9, sizeof received, "MSG_CTRUNC");
    check_refused(load, lay_out(load, 0), 32, sizeof received, "MSG_CTRUNC");
}

/* Closing what is not a socket could mean to wait for whoever made it. */
static void only_sockets_are_closed(void)
{
    const struct rule *handback = rule_of(MSG_HANDBACK), *closed = rule_of(MSG_CLOSED);
    int ends[2], fds[] = {open("/dev/null", O_RDONLY)};
    struct bridge_msg msg;
    const char *why;
    unsigned before;

    make_pair(ends);
    before = open_descriptors();
    send_raw(ends[0], lay_out(closed, 0), fds, 1);
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_BAD, "CLOSED with a descriptor");
    CHECK(open_descriptors() == before, "a file came where no descriptor may come");
    send_raw(ends[0], lay_out(handback, 0) - 1, fds, 1);
    CHECK(receive_as(ends[1], handback, &msg, &why) == BRIDGE_BAD, "a short HANDBACK");
    CHECK(msg.fds[0] > 0 && open_descriptors() == before + 1, "a file of a peer's was closed");
    close(msg.fds[0]);
    close(fds[0]);
    close_pair(ends);
}

/* Where the kernel knows how to refuse them, they do not even come into the queue. */
static void descriptors_are_not_taken(void)
{
    const struct rule *handback = rule_of(MSG_HANDBACK);
    int ends[2], on = 1, fds[] = {open("/dev/null", O_RDONLY)};
    socklen_t len = sizeof on;
    bool known;

    make_pair(ends);
    bridge_take_descriptors(ends[1], false);
    known = getsockopt(ends[1], SOL_SOCKET, SO_PASSRIGHTS, &on, &len) == 0 && on == 0;
    CHECK((bridge_send(ends[0], MSG_HANDBACK, bytes, NULL, 0, fds) == 0) == !known,
          "a descriptor is sent where none is taken");
    bridge_take_descriptors(ends[1], true);
    CHECK(bridge_send(ends[0], MSG_HANDBACK, bytes, NULL, 0, fds) == 0, "%s is not sent: %s",
          handback->name, strerror(errno));
    close(fds[0]);
    close_pair(ends);
}

static void empty_message(void)
{
    const struct rule *closed = rule_of(MSG_CLOSED);
    int ends[2];
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_AGAIN, "an empty queue");
    send_raw(ends[0], 0, NULL, 0);
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_CLOSED,
          "no message is empty, so this is the end");
    close_pair(ends);
}

/* With SO_PASSCRED every message comes with a control message that is not SCM_RIGHTS. */
static void other_control_messages_are_refused(void)
{
    for (size_t i = 0; i < COUNT(rules); i++) {
        int other = socket(AF_UNIX, SOCK_STREAM, 0), ends[2], on = 1, fds[] = {other};
        struct bridge_msg msg;
        const char *why;
        unsigned before;

        make_pair(ends);
        REQUIRE(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0, "SO_PASSCRED");
        send_raw(ends[0], lay_out(&rules[i], 0), fds, rules[i].fds);
        before = open_descriptors();
        CHECK(receive_as(ends[1], &rules[i], &msg, &why) == with_baggage(&rules[i]),
              "%s with credentials is taken", rules[i].name);
        CHECK((why != NULL) == (with_baggage(&rules[i]) == BRIDGE_BAD),
              "%s with credentials: no reason given", rules[i].name);
        CHECK(open_descriptors() == before, "%s with credentials leaves a descriptor open",
              rules[i].name);
        close(other);
        close_pair(ends);
    }
}

/* A child cannot hide credentials in a message: the kernel shows them only to who asks. */
static void credentials_nobody_asked_for(void)
{
    const struct rule *closed = rule_of(MSG_CLOSED);
    union {
        char space[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct ucred me = {getpid(), getuid(), getgid()};
    struct iovec iov = {bytes, lay_out(closed, 0)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.space,
                        .msg_controllen = sizeof control.space};
    struct cmsghdr *c;
    int ends[2];
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    memset(&control, 0, sizeof control);
    c = CMSG_FIRSTHDR(&mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof me);
    memcpy(CMSG_DATA(c), &me, sizeof me);
    REQUIRE(sendmsg(ends[0], &mh, MSG_NOSIGNAL) > 0, "sendmsg: %s", strerror(errno));
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_OK, "the message: %s", why);
    close_pair(ends);
}

/* A bad message is taken from the queue: the one behind it is received as it is. */
static void message_after_a_bad_one(void)
{
    const struct rule *closed = rule_of(MSG_CLOSED);
    int ends[2];
    struct bridge_msg msg;
    const char *why;

    make_pair(ends);
    send_raw(ends[0], lay_out(closed, 0) + 5, NULL, 0);
    CHECK(bridge_send(ends[0], MSG_CLOSED, &(struct msg_closed){5}, NULL, 0, NULL) == 0, "sent");
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_BAD, "the bad one");
    CHECK(receive_as(ends[1], closed, &msg, &why) == BRIDGE_OK && msg.body.CLOSED.client == 5,
          "the one behind it");
    close_pair(ends);
}

static const struct unit_test tests[] = {
    {"the table of messages is sound", table_is_sound},
    {"what a loader gets and says", load_of_a_table},
    {"what a worker says while it drains", drain_of_a_worker},
    {"every message has its name", names},
    {"decode takes every message with no, short and longest tail", decode_accepts},
    {"decode reads from any address", decode_from_any_address},
    {"decode refuses less than a header", decode_short_header},
    {"decode refuses unknown types", decode_unknown_type},
    {"decode refuses a header whose reserved word is not zero", decode_header_not_zero},
    {"decode knows every pair of roles", decode_directions},
    {"decode knows every state", decode_states},
    {"decode refuses short fixed parts and long tails", decode_lengths},
    {"decode refuses too few and too many descriptors", decode_descriptor_counts},
    {"decode of 20,000 random messages stays inside them", decode_random_bytes},
    {"every message there and back, with close-on-exec descriptors", every_message},
    {"pairs are SEQPACKET, close-on-exec and non-blocking", pairs_of_the_monitor},
    {"the largest message passes with the kernel's default limits",
     largest_message_with_default_limits},
    {"messages keep their order and their ends", several_in_order},
    {"a tail over its limit is not sent", tail_over_limit_is_not_sent},
    {"a full queue is EAGAIN and loses nothing", full_queue_says_again},
    {"nothing blocks on a blocking socket", blocking_socket_does_not_block},
    {"a closed peer is the end, after its last message", closed_peer},
    {"a peer that closed with unread messages is the end", peer_that_read_nothing},
    {"surplus descriptors are refused and closed", surplus_descriptors_are_closed},
    {"too few descriptors are refused and closed", too_few_descriptors},
    {"a bad message's descriptors are closed", bad_message_keeps_no_descriptor},
    {"a message that does not fit the buffer is refused", cut_message_is_refused},
    {"more descriptors than fit are refused and closed", descriptors_that_do_not_fit},
    {"of what came with a bad message, only sockets are closed", only_sockets_are_closed},
    {"descriptors that nobody takes are not sent", descriptors_are_not_taken},
    {"an empty message is the end, an empty queue is not", empty_message},
    {"control messages other than descriptors are refused", other_control_messages_are_refused},
    {"credentials that nobody asked for do no harm", credentials_nobody_asked_for},
    {"a bad message does not spoil the next", message_after_a_bad_one},
};

const struct unit_suite bridge_suite = {.name = "bridge", .tests = tests, .ntests = COUNT(tests)};
