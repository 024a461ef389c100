/*
 * A worker that has been taken over, for tests/system/test_compartments.py. Runs in the place of
 * jailmap-worker, in its jail and without its filter, and does to the monitor what the last word of
 * its title says, as soon as it is asked for its clients. It may use only what a worker is given.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "proto/proxymap.h"

static int connections[64];
static uint32_t count;

static void hand_back(uint32_t client, int fd)
{
    struct msg_handback body = {client};
    const uint32_t bare[] = {MSG_HANDBACK, 0, client};

    /* Where the kernel does not let the descriptor through, the message comes without. */
    if (bridge_send(BRIDGE_FD, MSG_HANDBACK, &body, NULL, 0, &fd) != 0)
        send(BRIDGE_FD, bare, sizeof bare, MSG_NOSIGNAL);
}

static void attack(const char *how)
{
    int pair[2];

    if (strcmp(how, "other") == 0) {
        hand_back(0, connections[1]);
    } else if (strcmp(how, "pair") == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        hand_back(0, pair[0]);
    } else if (strcmp(how, "bridge") == 0) {
        hand_back(0, BRIDGE_FD);
    } else if (strcmp(how, "file") == 0) {
        hand_back(0, epoll_create1(0));
    } else if (strcmp(how, "number") == 0) {
        hand_back(UINT32_MAX, connections[0]);
    } else if (strcmp(how, "free") == 0) {
        hand_back(count, connections[0]);
    } else if (strcmp(how, "twice") == 0) {
        hand_back(0, connections[0]);
        hand_back(0, connections[0]);
    }
}

int main(int argc, char **argv)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    const char *how = strrchr(argv[argc - 1], '-');
    enum bridge_state state = STATE_BEGIN;

    for (;;) {
        struct pollfd ready = {BRIDGE_FD, POLLIN, 0};
        struct bridge_msg msg;
        const char *why;

        poll(&ready, 1, -1);
        switch (bridge_receive(BRIDGE_FD, buf, sizeof buf, ROLE_MONITOR, ROLE_WORKER, state, &msg,
                               &why)) {
        case BRIDGE_AGAIN:
            continue;
        case BRIDGE_CLOSED:
        case BRIDGE_BAD:
            return 1;
        case BRIDGE_OK:
            break;
        }
        state = STATE_SERVE;
        if (msg.type == MSG_CLIENT && count < sizeof connections / sizeof connections[0]) {
            connections[count++] = msg.fds[0];
            if (!msg.body.CLIENT.greeted)
                send(msg.fds[0], PM_GREETING, PM_GREETING_LEN, MSG_NOSIGNAL);
            if (how != NULL && strcmp(how + 1, "unasked") == 0)
                hand_back(msg.body.CLIENT.client, msg.fds[0]);
        } else if (msg.type == MSG_DRAIN && how != NULL) {
            attack(how + 1);
        }
    }
}
