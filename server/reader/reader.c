/*
 * jailmap-reader: reads the configuration for a reload. Started by the monitor outside the jail, as
 * the unprivileged user, for one reading. It may read the files that the monitor opens for it and
 * ask the name service who users and groups are; it must never open a file of the configuration
 * itself, and what it reports, a policy without names, is believed by nobody before it is checked.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/hear.h"
#include "privsep/landlock.h"
#include "privsep/profile.h"

static const struct msg_config body;

static void tell(enum bridge_type type, const char *text, size_t len)
{
    struct pollfd bridge = {.fd = BRIDGE_FD, .events = POLLOUT};

    while (bridge_send(BRIDGE_FD, type, &body, text, len, NULL) != 0) {
        if (errno != EAGAIN && errno != EINTR)
            exit(EXIT_FAILURE);
        poll(&bridge, 1, -1);
    }
}

/* For policy_read(): context is the descriptor of the main file, which it takes. */
static int open_file(void *context, const char *name, char *why, size_t len)
{
    int fd = *(int *)context;
    struct bridge_msg msg;

    if (name[0] == '\0') {
        *(int *)context = -1;
        return fd;
    }
    if (strlen(name) > BRIDGE_TEXT_MAX) {
        snprintf(why, len, "its name is too long");
        return -1;
    }
    tell(MSG_WANT, name, strlen(name));
    msg = hear_next(ROLE_READER, STATE_SERVE);
    if (msg.type == MSG_GIVEN)
        return msg.fds[0];
    snprintf(why, len, "%.*s", (int)msg.tail_len, msg.tail);
    return -1;
}

static void tell_bad(const char *why)
{
    size_t len = strlen(why);

    tell(MSG_BAD, why, len < BRIDGE_NAME_MAX ? len : BRIDGE_NAME_MAX);
}

static void tell_policy(const struct policy *policy, const char *path)
{
    char *text = NULL, why[BRIDGE_NAME_MAX + 128];
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool good = out != NULL && policy_print(policy, out);

    if (out == NULL || fclose(out) != 0 || !good) {
        snprintf(why, sizeof why, "%s: %s", path, strerror(ENOMEM));
        tell_bad(why);
        return;
    }
    if (len > CONFIG_TEXT_MAX) {
        snprintf(why, sizeof why, "%s: the policy, written out, has %zu bytes; at most %u can be",
                 path, len, CONFIG_TEXT_MAX);
        tell_bad(why);
        return;
    }
    for (size_t at = 0; at < len; at += BRIDGE_NAME_MAX)
        tell(MSG_TEXT, text + at, len - at < BRIDGE_NAME_MAX ? len - at : BRIDGE_NAME_MAX);
    tell(MSG_DONE, NULL, 0);
    free(text);
}

/* Reading, and nothing else, where the kernel knows how. */
static void enter_landlock(void)
{
    struct landlock_grant all = {open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), LANDLOCK_MAY_READ};

    landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS);
    close(all.fd);
}

int main(void)
{
    static char path[BRIDGE_NAME_MAX + 1], why[2048];
    struct policy_files files = {.open = open_file};
    struct bridge_msg msg;
    struct policy *policy;
    int fd;

    enter_landlock();
    profile_enter(&profile_reader);
    msg = hear_next(ROLE_READER, STATE_BEGIN); /* CONFIG: its path; the file */
    memcpy(path, msg.tail, msg.tail_len);
    fd = msg.fds[0];
    files.context = &fd;
    policy = policy_read(&files, path, why, sizeof why);
    if (policy == NULL)
        tell_bad(why);
    else
        tell_policy(policy, path);
    policy_free(policy);
    return EXIT_SUCCESS;
}
