/*
 * An agent, taken over by a key that it is asked for, as by a bug in its library: the real
 * jailmap-agent-*, in which a key that begins with "attack:" is an order, and the answer the
 * report. Runs where the agent runs, behind its filter and in its Landlock domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/agent/agent.h"
#include "tests/sandbox/bridge_attempts.h"

int __real_agent_main(const struct agent_backend *backend);
int __wrap_agent_main(const struct agent_backend *backend);
enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

#define DIALER_MS 5000 /* less than a worker waits for its answer */

static const struct agent_backend *real;
static struct agent_source given = {.file = -1, .database = -1, .dialer = -1};

/* Sees which descriptors it has. */
static bool prepare(const struct agent_source *source, struct agent_report *report)
{
    given = *source;
    return real->prepare(source, report);
}

static void ask(const struct agent_query *query)
{
    static char report[1024];

    loot.role = ROLE_AGENT;
    if (attack(query->key, report, sizeof report) == NULL)
        real->ask(query);
    else
        agent_answer(ANSWER_FOUND, (struct slice){report, strlen(report)}, NULL);
}

int __wrap_agent_main(const struct agent_backend *backend)
{
    static struct agent_backend mine;

    real = backend;
    mine = *backend;
    mine.ask = ask;
    if (real->prepare != NULL)
        mine.prepare = prepare;
    return __real_agent_main(&mine);
}

/* Remembers the link over which it is asked. */
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc == BRIDGE_OK && msg->type == MSG_QUERY)
        loot.client = fd;
    return rc;
}

/* ---- lies ---- */

/* "KIND COUNT": an event, so many times. */
static long event(struct order *o)
{
    static const char text[] = "a line\njailmapd: ready: of its own \033[2J";
    struct msg_event body = {(uint32_t)o->numbers[0], 0};

    for (long i = 0; i < o->numbers[1]; i++)
        while (bridge_send(BRIDGE_FD, MSG_EVENT, &body, text, strlen(text), NULL) != 0)
            if (errno != EAGAIN)
                return -1;
    return o->numbers[1];
}

/* Answers to questions that nobody has asked, of every status. */
static long answer_unasked(struct order *o)
{
    (void)o;
    for (uint32_t i = 0; i < 100; i++) {
        struct msg_answer body = {.id = UINT64_C(0x0123456789ab) * i, .status = i % 8};

        if (bridge_send(loot.client, MSG_ANSWER, &body, "forged", 6, NULL) != 0)
            return -1;
    }
    return 100;
}

/* "NUMBER HOW": a malformed message to the worker. */
static long link_malformed(struct order *o)
{
    return send_malformed(loot.client, o->numbers[0], o->text);
}

/* Answers that nobody has asked for, as large as they can be, without end. */
static long answer_flood(struct order *o)
{
    static char large[BRIDGE_DATA_MAX];
    struct msg_answer body = {.status = ANSWER_FOUND};

    (void)o;
    for (;;) {
        body.id += UINT64_C(0x100000001);
        if (bridge_send(loot.client, MSG_ANSWER, &body, large, sizeof large, NULL) != 0 &&
            errno != EAGAIN && errno != ENOBUFS)
            return -1;
    }
}

/* Answers every query that could be in anybody's hands, of any table: serials and slots. */
static long answer_for_others(struct order *o)
{
    for (uint64_t serial = 0; serial < 512; serial++)
        for (uint64_t slot = 0; slot < 4; slot++) {
            struct msg_answer body = {.id = serial << 32 | slot, .status = ANSWER_FOUND};

            while (bridge_send(loot.client, MSG_ANSWER, &body, "forged", 6, NULL) != 0)
                if (errno != EAGAIN)
                    return -1;
        }
    return o->numbers[0];
}

/* The link of all agents of its crew. */
static long link_shut(struct order *o)
{
    (void)o;
    return syscall(SYS_shutdown, loot.client, SHUT_RDWR);
}

/* Is it taken over already? Asks the kernel for nothing. */
static long hello(struct order *o)
{
    return o->numbers[0];
}

/* ---- its files: the source, and of sqlite the database ---- */

static int file_of(const struct order *o)
{
    return strstr(o->text, "database") != NULL ? given.database : given.file;
}

static long lock_flock(struct order *o)
{
    return syscall(SYS_flock, file_of(o), LOCK_SH | LOCK_NB);
}

static long lock_record(struct order *o)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

    return syscall(SYS_fcntl, file_of(o), F_SETLK, &lock);
}

/* Belongs to the descriptor, which the monitor has, too, and so outlives the agent. */
static long lock_description(struct order *o)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

    return syscall(SYS_fcntl, file_of(o), F_OFD_SETLK, &lock);
}

static long lock_lease(struct order *o)
{
    return syscall(SYS_fcntl, file_of(o), F_SETLEASE, F_RDLCK);
}

static long file_write(struct order *o)
{
    return syscall(SYS_pwrite64, file_of(o), "x", 1, 0);
}

static long file_read(struct order *o)
{
    return syscall(SYS_pread64, file_of(o), o->detail, 40, 0);
}

/* ---- its dialer ---- */

/* What comes back: a connection, and with what words its other end begins; or why not. */
static long dialer_answers(struct order *o)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    struct pollfd wait = {.fd = given.dialer, .events = POLLIN};
    struct bridge_msg msg;
    const char *why;
    ssize_t n = 0;

    for (;;) {
        if (poll(&wait, 1, DIALER_MS) == 0) {
            snprintf(o->detail, sizeof o->detail, "the dialer is silent");
            return -1;
        }
        switch (__real_bridge_receive(given.dialer, buf, sizeof buf, ROLE_DIALER, ROLE_AGENT,
                                      STATE_SERVE, &msg, &why)) {
        case BRIDGE_AGAIN:
            continue;
        case BRIDGE_CLOSED:
        case BRIDGE_BAD:
            snprintf(o->detail, sizeof o->detail, "the dialer has gone");
            errno = EPIPE;
            return -1;
        case BRIDGE_OK:
            break;
        }
        if (msg.type == MSG_DIALED && msg.body.DIALED.id != 0xffffffff)
            close(msg.fds[0]); /* of an order of the agent's own */
        else
            break;
    }
    if (msg.type == MSG_NOT_DIALED) {
        snprintf(o->detail, sizeof o->detail, "%.*s", (int)msg.tail_len, msg.tail);
        return 0;
    }
    wait = (struct pollfd){.fd = msg.fds[0], .events = POLLIN};
    poll(&wait, 1, DIALER_MS);
    while (n >= 0 && (n = recv(msg.fds[0], o->detail, sizeof o->detail - 1, MSG_DONTWAIT)) < 0 &&
           errno == EAGAIN)
        n = 0;
    return close(msg.fds[0]);
}

/* "HOST TIMEOUT": by its number. */
static long dial_host(struct order *o)
{
    struct msg_dial body = {0xffffffff, (uint32_t)o->numbers[0], (uint32_t)o->numbers[1]};

    if (bridge_send(given.dialer, MSG_DIAL, &body, NULL, 0, NULL) != 0)
        return -1;
    return dialer_answers(o);
}

/* "HOST": tells a host, now. */
static long dial_new_host(struct order *o)
{
    struct msg_hosts body = {1};

    if (bridge_send(given.dialer, MSG_HOSTS, &body, o->text, strlen(o->text) + 1, NULL) != 0)
        return -1;
    return dialer_answers(o);
}

/* "NUMBER HOW": a malformed message to the dialer. */
static long dial_malformed(struct order *o)
{
    if (send_malformed(given.dialer, o->numbers[0], o->text) < 0)
        return -1;
    return dialer_answers(o);
}

/* Orders without end, and none of the answers taken. */
static long dial_flood(struct order *o)
{
    struct msg_dial body = {1, 0, 1000};
    struct pollfd wait = {.fd = given.dialer, .events = POLLOUT};

    (void)o;
    while (bridge_send(given.dialer, MSG_DIAL, &body, NULL, 0, NULL) == 0 ||
           (errno == EAGAIN && poll(&wait, 1, DIALER_MS) > 0))
        body.id++;
    return -1;
}

/* "attack:ORDER", for a dialer that is an attacker, too: hook_dialer.c. */
static long tell_dialer(struct order *o)
{
    char order[512];
    int len = snprintf(order, sizeof order, "attack:%s", o->text);

    if (send_raw(given.dialer, order, (size_t)len, NULL, 0) < 0)
        return -1;
    return dialer_answers(o);
}

const struct attempt own_attempts[] = {
    {"event", event},
    {"answer_unasked", answer_unasked},
    {"link_malformed", link_malformed},
    {"answer_flood", answer_flood},
    {"answer_for_others", answer_for_others},
    {"link_shut", link_shut},
    {"hello", hello},
    {"lock_flock", lock_flock},
    {"lock_record", lock_record},
    {"lock_description", lock_description},
    {"lock_lease", lock_lease},
    {"file_write", file_write},
    {"file_read", file_read},
    {"dial_host", dial_host},
    {"dial_new_host", dial_new_host},
    {"dial_malformed", dial_malformed},
    {"dial_flood", dial_flood},
    {"tell_dialer", tell_dialer},
    {NULL, NULL},
};
