/*
 * jailmap-dialer: makes the connections of one agent, which can make none. Started by the monitor,
 * one for each agent that needs servers, as an unprivileged user, outside the chroot because names
 * of hosts are looked up by the name service. The agent tells the hosts once, before it has read
 * anything from a worker or a server; what is asked for later is one of these, by number. It reads
 * nothing from what it has connected, and so nothing that a client or a server has written; it must
 * never connect to what was not told at first.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privsep/hear.h"
#include "privsep/landlock.h"
#include "privsep/profile.h"
#include "server/dialer/attempt.h"
#include "server/dialer/hosts.h"
#include "server/dialer/resolve.h"

#define TIMEOUT_MAX 3600000 /* ms: the longest `timeout` there is */
#define NAME_SERVER 53      /* which is asked by TCP if its answer is too long for UDP */

static int agent = -1;
static enum bridge_state state = STATE_BEGIN;
static struct told_hosts hosts;
static struct msg_dial order; /* the one in hand, if `busy` */
static bool busy;
static char late_text[BRIDGE_TEXT_MAX];

static void not_dialed(const char *why)
{
    struct msg_not_dialed body = {order.id};
    size_t len = strlen(why);

    busy = false;
    if (bridge_send(agent, MSG_NOT_DIALED, &body, why,
                    len < BRIDGE_TEXT_MAX ? len : BRIDGE_TEXT_MAX, NULL) != 0)
        _exit(EXIT_FAILURE); /* an agent that orders and does not read */
}

static void settle(enum attempt_state now)
{
    struct msg_dialed body = {order.id};
    char why[BRIDGE_TEXT_MAX];
    int fd;

    if (now == ATTEMPT_WAITING)
        return;
    if (now == ATTEMPT_FAILED) {
        attempt_end();
        snprintf(why, sizeof why, "connect to %s: %s", hosts.host[order.host].text,
                 strerror(attempt_error()));
        not_dialed(why);
        return;
    }
    busy = false;
    fd = attempt_take();
    if (bridge_send(agent, MSG_DIALED, &body, NULL, 0, &fd) != 0)
        exit(EXIT_FAILURE);
    close(fd);
}

/* In a signal handler. */
static void late(void)
{
    not_dialed(late_text);
}

/* DIAL: number, host, time. One that was not answered yet is forgotten, by the agent, too. */
static void take_dial(const struct msg_dial *dial)
{
    const struct host *host;
    uint64_t until = dialer_now() + dial->timeout;
    struct addrinfo *list = NULL;
    char why[BRIDGE_TEXT_MAX];

    if (dial->host >= hosts.count || dial->timeout > TIMEOUT_MAX)
        exit(EXIT_FAILURE);
    attempt_end();
    host = &hosts.host[dial->host];
    order = *dial;
    busy = true;
    if (!host->name.local) {
        snprintf(late_text, sizeof late_text, "look up %s: the name service takes longer than %u s",
                 host->text, dial->timeout / 1000);
        switch (resolve(host, dial->timeout, late, &list, why, sizeof why)) {
        case RESOLVE_FAILED:
            not_dialed(why);
            return;
        case RESOLVE_LATE:
            return;
        case RESOLVE_DONE:
            break;
        }
    }
    settle(attempt_begin(host, list, until));
}

/* HOSTS: how many; their names. From here on nothing else can be reached by TCP, where the kernel
 * knows how, but for a name server. */
static void take_hosts(const struct bridge_msg *msg)
{
    static char names[BRIDGE_NAME_MAX];
    static uint16_t ports[HOSTS_MAX + 1];
    size_t n = 0;

    memcpy(names, msg->tail, msg->tail_len);
    if (!told_hosts_parse(&hosts, names, msg->tail_len, msg->body.HOSTS.count))
        exit(EXIT_FAILURE);
    for (uint32_t i = 0; i < hosts.count; i++)
        if (!hosts.host[i].name.local && (ports[n] = resolve_port(&hosts.host[i])) != 0)
            n++;
    if (hosts_need_names(&hosts))
        ports[n++] = NAME_SERVER;
    if (landlock_ports(ports, n) != 0)
        exit(EXIT_FAILURE);
    state = STATE_SERVE;
}

static void agent_readable(void)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    struct bridge_msg msg;
    const char *why;

    switch (bridge_receive(agent, buf, sizeof buf, ROLE_AGENT, ROLE_DIALER, state, &msg, &why)) {
    case BRIDGE_AGAIN:
        return;
    case BRIDGE_CLOSED:
        exit(EXIT_SUCCESS);
    case BRIDGE_BAD:
        exit(EXIT_FAILURE);
    case BRIDGE_OK:
        break;
    }
    if (msg.type == MSG_HOSTS)
        take_hosts(&msg);
    else
        take_dial(&msg.body.DIAL);
}

static void wait_and_go_on(void)
{
    struct pollfd fds[] = {{.fd = BRIDGE_FD, .events = POLLIN},
                           {.fd = agent, .events = POLLIN},
                           {.fd = busy ? attempt_fd() : -1, .events = POLLOUT}};
    uint64_t now = dialer_now(), turn = attempt_turn();
    struct bridge_msg msg;

    if (poll(fds, 3, !busy ? -1 : turn > now ? (int)(turn - now) : 0) < 0 && errno != EINTR)
        exit(EXIT_FAILURE);
    if (fds[0].revents != 0) /* only its end can come */
        hear(ROLE_DIALER, STATE_DONE, &msg);
    if (busy)
        settle(attempt_go_on(fds[2].revents != 0));
    if (fds[1].revents != 0)
        agent_readable();
}

/* Reading, and nothing else. Where there is no Landlock, the launcher has said so. */
static void enter_landlock(void)
{
    struct landlock_grant all = {open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), LANDLOCK_MAY_READ};

    landlock_enter(&all, 1, LANDLOCK_NO_SIGNALS);
    close(all.fd);
}

int main(void)
{
    enter_landlock();
    profile_enter(&profile_dialer);
    agent = hear_next(ROLE_DIALER, STATE_SERVE).fds[0]; /* LINK */
    for (;;)
        wait_and_go_on();
}
