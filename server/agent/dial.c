/*
 * The agent's side of its dialer: see dial.h. Runs in jailmap-agent-mysql, -pgsql and -net. It may
 * touch the link to the dialer and what that passes; it must never name a host but by the number
 * that it told first, and never wait.
 */
#include "server/agent/dial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privsep/bridge.h"

static int dialer = -1;
static uint32_t last; /* number of what was asked for last */

/* The dialer has gone, or does not read its orders any more. */
static _Noreturn void give_up(void)
{
    exit(EXIT_SUCCESS);
}

bool dial_begin(int link, const char *const *hosts, uint32_t count)
{
    static char tail[BRIDGE_NAME_MAX];
    struct msg_hosts body = {count};
    size_t used = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t len = strlen(hosts[i]) + 1;

        if (len > sizeof tail - used)
            return false;
        memcpy(tail + used, hosts[i], len);
        used += len;
    }
    dialer = link;
    if (bridge_send(dialer, MSG_HOSTS, &body, tail, used, NULL) != 0)
        give_up();
    return true;
}

void dial(uint32_t host, unsigned timeout)
{
    struct msg_dial body = {++last, host, timeout};

    if (bridge_send(dialer, MSG_DIAL, &body, NULL, 0, NULL) != 0)
        give_up();
}

enum dial_state dial_take(int *fd, char *why, size_t len)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    struct bridge_msg msg;
    const char *wrong;

    for (;;) {
        switch (bridge_receive(dialer, buf, sizeof buf, ROLE_DIALER, ROLE_AGENT, STATE_SERVE, &msg,
                               &wrong)) {
        case BRIDGE_AGAIN:
            return DIAL_WAITING;
        case BRIDGE_CLOSED:
        case BRIDGE_BAD:
            give_up();
        case BRIDGE_OK:
            break;
        }
        if (msg.type == MSG_DIALED && msg.body.DIALED.id == last) {
            *fd = msg.fds[0];
            return DIAL_DONE;
        }
        if (msg.type == MSG_DIALED) /* nobody waits for it any more */
            close(msg.fds[0]);
        else if (msg.body.NOT_DIALED.id == last)
            break;
    }
    snprintf(why, len, "%.*s", (int)msg.tail_len, msg.tail);
    return DIAL_FAILED;
}

int dial_link(void)
{
    return dialer;
}
