/*
 * What a database library gets instead of the network: the one connected socket that the dialer
 * made. Linked into jailmap-agent-mysql and -pgsql, whose definitions of socket(2), connect(2),
 * getaddrinfo(3) and what asks for the name of the user take the place of libc's for all libraries
 * of the process, since the filter ends whoever calls the real ones.
 */
#ifndef JAILMAP_SERVER_AGENT_STAND_IN_H
#define JAILMAP_SERVER_AGENT_STAND_IN_H

#include <stdbool.h>

/* The socket that the next socket() returns; it becomes the library's. */
void stand_in_offer(int fd);

/* After the library has begun: closes what it did not take. */
void stand_in_withdraw(void);

/* Whether it asked for a socket when there was none, since the last offer. */
bool stand_in_wanted(void);

#endif
