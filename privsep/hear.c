/*
 * What a child hears of the monitor. Runs in every child, inside its sandbox. It may receive on the
 * bridge and wait for it; it must never touch another descriptor.
 */
#include "privsep/hear.h"

#include <poll.h>
#include <stdlib.h>

static _Alignas(8) char buf[BRIDGE_SMALL];

bool hear(enum bridge_role role, enum bridge_state state, struct bridge_msg *msg)
{
    const char *why;

    switch (bridge_receive(BRIDGE_FD, buf, sizeof buf, ROLE_MONITOR, role, state, msg, &why)) {
    case BRIDGE_OK:
        return true;
    case BRIDGE_AGAIN:
        return false;
    case BRIDGE_CLOSED:
        exit(EXIT_SUCCESS);
    case BRIDGE_BAD:
        break;
    }
    exit(EXIT_FAILURE);
}

struct bridge_msg hear_next(enum bridge_role role, enum bridge_state state)
{
    struct pollfd bridge = {.fd = BRIDGE_FD, .events = POLLIN};
    struct bridge_msg msg;

    while (!hear(role, state, &msg))
        poll(&bridge, 1, -1);
    return msg;
}
