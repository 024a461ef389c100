/*
 * One server, asked one thing at a time over one connection: when to connect, how long to wait, and
 * when to leave a server alone that does not work. Runs in jailmap-agent-net. It may touch the
 * connection that its dialer makes, and that link; it must never wait.
 */
#ifndef JAILMAP_SERVER_AGENT_NET_SERVER_H
#define JAILMAP_SERVER_AGENT_NET_SERVER_H

#include "server/agent/agent.h"
#include "server/agent/net/protocol.h"

/* Begins, with a dialer whose host 0 is that endpoint, by which it is called in messages. Both stay
 * the caller's. timeout: seconds that an answer may take. */
void server_begin(const struct net_protocol *protocol, const char *endpoint, unsigned timeout);

/* Leads to one agent_answer() or agent_cannot(), at once or later. Map and key need not last. */
void server_ask(struct slice map, struct slice key);

/* As in struct agent_backend. */
void server_wait(struct agent_wait *wait);
void server_recheck(void);
void server_ready(short revents);

#endif
