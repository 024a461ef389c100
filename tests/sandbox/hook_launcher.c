/*
 * The launcher, taken over: the real jailmap-launcher, which looks into its mailbox whenever it is
 * to start something. Runs where the launcher runs, with the walls that it has put up around
 * itself; the mailbox is mapped before.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/sandbox/bridge_attempts.h"
#include "tests/sandbox/mailbox.h"

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

static const char *name; /* "jail" or "agents" */
static uint64_t last_id; /* of what it is to start */

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc != BRIDGE_OK)
        return rc;
    if (msg->type == MSG_SETUP) {
        mailbox_open();
        loot.role = ROLE_LAUNCHER;
        name = msg->body.SETUP.jail ? "jail" : "agents";
    }
    if (msg->type == MSG_START) {
        last_id = msg->body.START.id;
        mailbox_serve(name);
    }
    return rc;
}

/* ---- lies ---- */

static long say(uint64_t id, uint32_t pid, uint32_t error)
{
    struct msg_started body = {.id = id, .pid = pid, .error = error};

    return bridge_send(BRIDGE_FD, MSG_STARTED, &body, NULL, 0, NULL);
}

/* "PID": what it has been asked for is that process. And nothing more: the truth would betray it.
 */
static long started_as(struct order *o)
{
    say(last_id, (uint32_t)o->numbers[0], 0);
    while (pause() != 0)
        continue;
    return 0;
}

/* Something that nobody has asked for. */
static long started_unasked(struct order *o)
{
    return say(last_id + 1000, (uint32_t)o->numbers[0], 0);
}

static long ready_again(struct order *o)
{
    struct msg_ready body = {0};

    (void)o;
    return bridge_send(BRIDGE_FD, MSG_READY, &body, NULL, 0, NULL);
}

const struct attempt own_attempts[] = {
    {"started_as", started_as},
    {"started_unasked", started_unasked},
    {"ready_again", ready_again},
    {NULL, NULL},
};
