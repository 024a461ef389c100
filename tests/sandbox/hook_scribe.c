/*
 * The scribe, taken over by what it writes: the real jailmap-scribe, in which a record that holds
 * "attack:" is an order, and the report a line on the log that it was given. Runs where the scribe
 * runs, behind its filter.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/sandbox/bridge_attempts.h"

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

static void carry_out(struct slice record)
{
    static char report[1024], line[1100];
    int n;

    loot.role = ROLE_SCRIBE;
    if (strncmp(record.ptr, "denied table", 12) != 0 ||
        attack(record, report, sizeof report) == NULL)
        return;
    n = snprintf(line, sizeof line, "scribe reports: %s\n", report);
    if (write(loot.report, line, (size_t)n) < 0)
        return;
}

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc == BRIDGE_OK && msg->type == MSG_LOGFILE && msg->body.LOGFILE.log == LOG_TO_STDERR)
        loot.report = msg->fds[0];
    if (rc == BRIDGE_OK && msg->type == MSG_RECORD && msg->tail_len > 12)
        carry_out((struct slice){msg->tail, msg->tail_len});
    return rc;
}

const struct attempt own_attempts[] = {{NULL, NULL}};
