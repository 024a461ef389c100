/*
 * A dialer, taken over by what its agent tells it, or by the name service: the real jailmap-dialer,
 * in which a packet of the agent that begins with "attack:" is an order, and what comes back as why
 * there is no connection is the report. Runs where the dialer runs, behind its filter and in its
 * Landlock domain.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/sandbox/bridge_attempts.h"

#define NUMBER 0xffffffff /* as hook_agent.c expects it */

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

static void carry_out(int agent)
{
    static char order[512], report[BRIDGE_TEXT_MAX];
    struct msg_not_dialed body = {NUMBER};
    ssize_t len = recv(agent, order, sizeof order, MSG_PEEK | MSG_DONTWAIT);

    loot.role = ROLE_DIALER;
    loot.client = agent;
    if (len < (ssize_t)strlen(ATTACK_PREFIX) ||
        memcmp(order, ATTACK_PREFIX, strlen(ATTACK_PREFIX)) != 0)
        return;
    len = recv(agent, order, sizeof order, MSG_DONTWAIT);
    if (len > 0 && attack((struct slice){order, (size_t)len}, report, sizeof report) != NULL)
        bridge_send(agent, MSG_NOT_DIALED, &body, report, strlen(report), NULL);
}

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    if (from == ROLE_AGENT)
        carry_out(fd);
    return __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);
}

/* ---- ways to a port that Landlock may not see: number 0 is the port ---- */

static long fast_open(int number, struct order *o)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)o->numbers[0]),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    struct mmsghdr m = {
        .msg_hdr = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1}};
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        return fd;
    if (number == SYS_sendto)
        return syscall(number, fd, "x", 1, MSG_FASTOPEN, &to, sizeof to);
    if (number == SYS_sendmsg)
        return syscall(number, fd, &m.msg_hdr, MSG_FASTOPEN);
    return syscall(number, fd, &m, 1, MSG_FASTOPEN);
}

static long fast_open_sendto(struct order *o)
{
    return fast_open(SYS_sendto, o);
}

static long fast_open_sendmsg(struct order *o)
{
    return fast_open(SYS_sendmsg, o);
}

static long fast_open_sendmmsg(struct order *o)
{
    return fast_open(SYS_sendmmsg, o);
}

/* "PORT FAMILY PROTOCOL": a connection by another protocol that can carry one. */
static long connect_by(struct order *o)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)o->numbers[0]),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    long fd = syscall(SYS_socket, o->numbers[1], SOCK_STREAM, o->numbers[2]);

    return fd < 0 ? fd : syscall(SYS_connect, fd, &to, sizeof to);
}

/* Has a socket of TCP become one of another protocol. */
static long other_protocol(struct order *o)
{
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    (void)o;
    return fd < 0 ? fd : syscall(SYS_setsockopt, fd, IPPROTO_TCP, TCP_ULP, "smc", 4);
}

/* A port of its own, for others to connect to. */
static long bind_port(struct order *o)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->numbers[0])};
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    return fd < 0 ? fd : syscall(SYS_bind, fd, &at, sizeof at);
}

static long listen_anywhere(struct order *o)
{
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

    (void)o;
    return fd < 0 ? fd : syscall(SYS_listen, fd, 1);
}

/* ---- lies to the agent ---- */

static long hello(struct order *o)
{
    return o->numbers[0];
}

/* Connections that nobody asked for. */
static long dialed_unasked(struct order *o)
{
    struct msg_dialed body = {(uint32_t)o->numbers[0]};
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);

    for (int i = 0; i < 100; i++, body.id++)
        if (bridge_send(loot.client, MSG_DIALED, &body, NULL, 0, &fd) != 0)
            return -1;
    return close(fd);
}

/* "NUMBER HOW": a malformed message to the agent. */
static long agent_malformed(struct order *o)
{
    return send_malformed(loot.client, o->numbers[0], o->text);
}

const struct attempt own_attempts[] = {
    {"fast_open_sendto", fast_open_sendto},
    {"fast_open_sendmsg", fast_open_sendmsg},
    {"fast_open_sendmmsg", fast_open_sendmmsg},
    {"connect_by", connect_by},
    {"other_protocol", other_protocol},
    {"bind_port", bind_port},
    {"listen_anywhere", listen_anywhere},
    {"hello", hello},
    {"dialed_unasked", dialed_unasked},
    {"agent_malformed", agent_malformed},
    {NULL, NULL},
};
