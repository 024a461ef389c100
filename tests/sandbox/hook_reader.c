/*
 * The reader of the configuration, taken over as by a module of the name service: the real
 * jailmap-reader, in which a first line of the configuration that holds "attack:" is an order, and
 * the report what is wrong with it. Runs where the reader runs, behind its filter and in its
 * Landlock domain.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sandbox/bridge_attempts.h"

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

/* Says what came of it, if it is still heard. */
static void carry_out(int config)
{
    static const struct msg_config body;
    static char line[512], report[1024], text[1100];
    ssize_t len = pread(config, line, sizeof line, 0);
    int n;

    loot.role = ROLE_READER;
    if (len <= 0 || attack((struct slice){line, (size_t)len}, report, sizeof report) == NULL)
        return;
    n = snprintf(text, sizeof text, "reader reports: %s", report);
    if (bridge_send(BRIDGE_FD, MSG_BAD, &body, text, (size_t)n, NULL) != 0 && errno != EBADF)
        pause(); /* until it is ended */
    exit(EXIT_SUCCESS);
}

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc == BRIDGE_OK && msg->type == MSG_CONFIG)
        carry_out(msg->fds[0]);
    return rc;
}

const struct attempt own_attempts[] = {{NULL, NULL}};
