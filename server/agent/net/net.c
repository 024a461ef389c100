/*
 * jailmap-agent-net: answers socketmap: and tcp: tables from a server that speaks those protocols.
 * Started by the monitor, several for each table, as an unprivileged user, in the jail; its filter
 * lets it make and connect no socket, so it can speak to the one server that its dialer connects,
 * which was named before it read anything, and to no other. It must never report a failure as "not
 * found": that would make a mail server refuse valid recipients for good.
 */
#include <stdio.h>

#include "server/agent/agent.h"
#include "server/agent/dial.h"
#include "server/agent/net/protocol.h"
#include "server/agent/net/server.h"

static const struct net_protocol *protocol;
static struct slice map;
static char host[BRIDGE_NAME_MAX];

static bool prepare(const struct agent_source *source, struct agent_report *report)
{
    const char *const hosts[] = {host}, *why;
    struct slice name = {source->name, strlen(source->name)}, endpoint;

    protocol = source->type == TYPE_SOCKETMAP ? &net_socketmap : &net_tcp;
    if (!protocol->name(name, &endpoint, &map, &why)) {
        snprintf(report->text, sizeof report->text, "%s:%.200s: %s; expected is %s:%s",
                 protocol->type, source->name, why, protocol->type, protocol->expected);
        return false;
    }
    if (source->dialer != NET_DIALER) {
        snprintf(report->text, sizeof report->text, "its dialer has not come where it must");
        return false;
    }
    snprintf(host, sizeof host, "%s%.*s", protocol->scheme, (int)endpoint.len, endpoint.ptr);
    server_begin(protocol, host, source->timeout);
    return dial_begin(source->dialer, hosts, 1);
}

static void ask(const struct agent_query *query)
{
    server_ask(map, query->key);
}

int main(void)
{
    static const struct agent_backend net = {.profile = &profile_agent_net,
                                             .prepare = prepare,
                                             .ask = ask,
                                             .wait = server_wait,
                                             .recheck = server_recheck,
                                             .ready = server_ready};

    return agent_main(&net);
}
