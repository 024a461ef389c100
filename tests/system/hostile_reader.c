/*
 * A reader that has been taken over, for tests/system/test_reload_policy.py. Runs in the place of
 * jailmap-reader, without its filter, and does to the monitor what the first line of the file that
 * it is given says. It may use only what a reader is given.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "privsep/bridge.h"

static const struct msg_config body;

/* Waits for room: what it does is to be seen by the monitor. */
static void tell(enum bridge_type type, const char *text, size_t len)
{
    struct pollfd ready = {BRIDGE_FD, POLLOUT, 0};

    while (bridge_send(BRIDGE_FD, type, &body, text, len, NULL) != 0)
        if (poll(&ready, 1, -1) < 0 || (ready.revents & (POLLHUP | POLLERR)))
            exit(EXIT_FAILURE);
}

static void tell_text(enum bridge_type type, const char *text)
{
    tell(type, text, strlen(text));
}

/* A policy that is well formed, and of another user's making. */
static void tell_policy(const char *more)
{
    tell_text(MSG_TEXT, more);
    tell(MSG_DONE, NULL, 0);
}

static void attack(const char *how)
{
    static char page[BRIDGE_NAME_MAX];
    static const struct msg_settle settled = {1};

    memset(page, '\n', sizeof page);
    if (how[0] == '/' || how[0] == '.' || how[0] == '=') { /* = stands for no name at all */
        tell_text(MSG_WANT, how + (how[0] == '='));
        pause();
    } else if (strcmp(how, "nul") == 0) {
        tell(MSG_WANT, "a\0b", 3);
        pause();
    } else if (strcmp(how, "worker") == 0) {
        bridge_send(BRIDGE_FD, MSG_SETTLED, &settled, NULL, 0, NULL);
        pause();
    } else if (strcmp(how, "late") == 0) {
        tell(MSG_DONE, NULL, 0);
        tell_text(MSG_WANT, "conf.d");
        pause();
    } else if (strcmp(how, "text") == 0) {
        for (;;)
            tell(MSG_TEXT, page, sizeof page);
    } else if (strcmp(how, "wants") == 0) {
        for (;;)
            tell_text(MSG_WANT, "no-such-file");
    } else if (strcmp(how, "garbage") == 0) {
        tell_policy("\001\002 { = table \"");
    } else if (strcmp(how, "empty") == 0) {
        tell(MSG_DONE, NULL, 0);
    } else if (strcmp(how, "control") == 0) {
        tell_text(MSG_BAD, "two\nlines \033[31m");
    } else if (strcmp(how, "root") == 0) {
        tell_policy("user = \"0:0\"\nruntime-dir = \"/run/x\"\nlibexec-dir = \"/usr/x\"\n"
                    "#line 1 1 0 \"x\"\nlisten \"/etc/x\" { }\n");
    }
}

int main(void)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    static char how[4096];
    struct pollfd ready = {BRIDGE_FD, POLLIN, 0};
    struct bridge_msg msg;
    const char *why;

    poll(&ready, 1, -1);
    if (bridge_receive(BRIDGE_FD, buf, sizeof buf, ROLE_MONITOR, ROLE_READER, STATE_BEGIN, &msg,
                       &why) != BRIDGE_OK ||
        read(msg.fds[0], how, sizeof how - 1) <= 2)
        return EXIT_FAILURE;
    how[strcspn(how, "\n")] = '\0';
    attack(how + 2); /* behind "# " */
    return EXIT_SUCCESS;
}
