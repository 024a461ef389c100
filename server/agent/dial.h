/*
 * The agent's side of its dialer: the process that makes its connections, since an agent can make
 * none. Runs in jailmap-agent-mysql, -pgsql and -net. The hosts are told once, before anything is
 * read from a worker or a server; whoever takes the agent over later can reach these and no others.
 */
#ifndef JAILMAP_SERVER_AGENT_DIAL_H
#define JAILMAP_SERVER_AGENT_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begins, on the link that the agent was given. hosts: "unix:PATH" or "inet:HOST:PORT" (HOST may be
 * a name, an address, or an IPv6 address in brackets; PORT a number or the name of a service).
 * Called once. False: they do not fit into a message of BRIDGE_NAME_MAX bytes. */
bool dial_begin(int link, const char *const *hosts, uint32_t count);

/* Asks for a connection to that host, within timeout ms. The one asked for before, if it has not
 * come, is forgotten. */
void dial(uint32_t host, unsigned timeout);

enum dial_state { DIAL_WAITING, DIAL_DONE, DIAL_FAILED };

/* What the link, when it can be read, has to say of the connection asked for last. DIAL_DONE: *fd
 * is connected, not blocking, close-on-exec, and the caller's. DIAL_FAILED: why. Ends the process
 * if the dialer has gone: the monitor starts both anew. */
enum dial_state dial_take(int *fd, char *why, size_t len);

/* The link, to be waited for while a connection is expected. */
int dial_link(void);

#endif
