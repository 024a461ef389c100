/*
 * The frame of every agent: see agent.h. Runs in jailmap-agent-*, without capabilities and outside
 * the chroot. It may read files where the back end needs them and talk over the links that the
 * monitor sends; it must never write a file, execute a program, or let one worker's link hold up
 * another's: a worker that does not read its answer is simply not asked for its next query.
 */
#include "server/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "privsep/hear.h"
#include "privsep/landlock.h"

#define EVENTS_AT_ONCE 64

struct link {
    int fd;
    bool waiting; /* for the worker to take this answer: */
    struct msg_answer answer;
    char *value;
    size_t value_len;
};

static int loop_fd;
static const struct agent_backend *backend;
static enum bridge_state state = STATE_BEGIN;
static struct msg_source source;
static bool failing;
static _Alignas(8) char link_buf[BRIDGE_LARGE];

static void tell(enum bridge_event event, const char *text)
{
    struct msg_event body = {event, 0};

    bridge_send(BRIDGE_FD, MSG_EVENT, &body, text, text != NULL ? strlen(text) : 0, NULL);
}

/* Tells the monitor when failing begins and when it ends, and not once a lookup. */
static void note_health(enum bridge_answer status, const char *why)
{
    if ((status == ANSWER_RETRY) == failing)
        return;
    failing = !failing;
    tell(failing ? EVENT_FAILING : EVENT_WORKING, failing ? why : NULL);
}

static void watch(struct link *link, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = link};

    if (epoll_ctl(loop_fd, op, link->fd, &ev) != 0)
        exit(EXIT_FAILURE);
}

static void drop(struct link *link)
{
    /* The monitor may not have closed its own copy yet: epoll would go on to report the link. */
    watch(link, EPOLL_CTL_DEL, 0);
    close(link->fd);
    free(link->value);
    free(link);
}

/* False: the worker is gone and so is the link. */
static bool send_answer(struct link *link, struct slice value)
{
    if (bridge_send(link->fd, MSG_ANSWER, &link->answer, value.ptr, value.len, NULL) == 0)
        return true;
    if (errno != EAGAIN || (link->value = malloc(value.len + 1)) == NULL) {
        drop(link);
        return false;
    }
    if (value.len > 0)
        memcpy(link->value, value.ptr, value.len);
    link->value_len = value.len;
    link->waiting = true;
    watch(link, EPOLL_CTL_MOD, EPOLLOUT);
    return true;
}

static void link_writable(struct link *link)
{
    char *value = link->value;

    link->value = NULL;
    link->waiting = false;
    watch(link, EPOLL_CTL_MOD, EPOLLIN);
    send_answer(link, (struct slice){value, link->value_len});
    free(value);
}

/* One query in a turn, so that every worker gets its own. */
static void link_readable(struct link *link)
{
    struct bridge_msg msg;
    struct slice value = {"", 0};
    const char *why = "";
    enum bridge_answer status;

    switch (bridge_receive(link->fd, link_buf, sizeof link_buf, ROLE_WORKER, ROLE_AGENT,
                           STATE_SERVE, &msg, &why)) {
    case BRIDGE_AGAIN:
        return;
    case BRIDGE_CLOSED:
    case BRIDGE_BAD:
        drop(link);
        return;
    case BRIDGE_OK:
        break;
    }
    struct slice key = {msg.tail, msg.tail_len};
    /* Workers ask for no other keys, unless somebody has taken one over. */
    status = key_limit_passes(&source.limit, key) ? backend->answer(&source, key, &value, &why)
                                                  : ANSWER_NOT_FOUND;
    if (status == ANSWER_FOUND && source.reveal == REVEAL_EXISTENCE)
        value = key;
    if (status == ANSWER_FOUND && value.len > BRIDGE_DATA_MAX) {
        status = ANSWER_RETRY;
        why = "an entry is larger than 256 KiB";
    }
    note_health(status, why);
    link->answer = (struct msg_answer){.id = msg.body.QUERY.id, .status = status};
    send_answer(link, status == ANSWER_FOUND ? value : (struct slice){"", 0});
}

static void take_link(int fd)
{
    struct link *link = calloc(1, sizeof *link);

    if (link == NULL) {
        close(fd);
        return;
    }
    link->fd = fd;
    watch(link, EPOLL_CTL_ADD, EPOLLIN);
} /* NOLINT(clang-analyzer-unix.Malloc): epoll keeps the pointer */

static void bridge_readable(void)
{
    struct bridge_msg msg;

    if (!hear(ROLE_AGENT, state, &msg))
        return;
    if (msg.type == MSG_SOURCE) { /* type, reveal, limit of keys; name */
        source = msg.body.SOURCE;
        state = STATE_SERVE;
    } else { /* one end of a link to a worker */
        take_link(msg.fds[0]);
    }
}

/* Reading, and nothing else. NULL, or what is lacking. */
static const char *enter_landlock(void)
{
    struct landlock_grant all = {open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), LANDLOCK_MAY_READ};
    int rc = landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS);

    close(all.fd);
    return rc == 0 ? NULL : "without Landlock its agent is confined by its filter and user alone";
}

int agent_main(const struct agent_backend *b)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    const char *lacking = enter_landlock();

    backend = b;
    profile_enter(b->profile);
    if (lacking != NULL)
        tell(EVENT_WEAKER, lacking);
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop_fd < 0 || epoll_ctl(loop_fd, EPOLL_CTL_ADD, BRIDGE_FD, &ev) != 0)
        return EXIT_FAILURE;
    for (;;) {
        int n = epoll_wait(loop_fd, events, EVENTS_AT_ONCE, -1);

        if (n < 0 && errno != EINTR)
            return EXIT_FAILURE;
        for (int i = 0; i < n; i++) {
            struct link *link = events[i].data.ptr;

            if (link == NULL)
                bridge_readable();
            else if (link->waiting)
                link_writable(link);
            else
                link_readable(link);
        }
    }
}
