/*
 * The name service agent, taken over by a name that it is asked for, as by a bug in a module: the
 * real jailmap-agent-nss, in which a key that begins with "attack:" is an order, and the answer the
 * report. Runs where the agent runs, behind its filter and in its Landlock domain.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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

static const struct agent_backend *real;

static enum bridge_answer answer(const struct msg_source *source, struct slice key,
                                 struct slice *value, const char **why)
{
    static char report[1024];

    loot.role = ROLE_AGENT;
    if (attack(key, report, sizeof report) == NULL)
        return real->answer(source, key, value, why);
    *value = (struct slice){report, strlen(report)};
    return ANSWER_FOUND;
}

int __wrap_agent_main(const struct agent_backend *backend)
{
    static struct agent_backend mine;

    real = backend;
    mine = *backend;
    mine.answer = answer;
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

const struct attempt own_attempts[] = {
    {"event", event},
    {"answer_unasked", answer_unasked},
    {"link_malformed", link_malformed},
    {NULL, NULL},
};
