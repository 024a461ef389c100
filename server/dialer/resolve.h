/*
 * Asking the name service where a host is. Runs in jailmap-dialer. NSS modules do as they like, and
 * can take any time: see resolve().
 */
#ifndef JAILMAP_SERVER_DIALER_RESOLVE_H
#define JAILMAP_SERVER_DIALER_RESOLVE_H

#include <netdb.h>
#include <stddef.h>
#include <stdint.h>

#include "server/dialer/hosts.h"

enum resolve_state { RESOLVE_DONE, RESOLVE_FAILED, RESOLVE_LATE };

/*
 * The addresses of a host that is no UNIX socket. A call of the name service cannot be broken off.
 * When ms have passed, late() is called, in a signal handler, and what comes after that is
 * RESOLVE_LATE; after another minute, the process ends, since modules that take that long do not
 * come back. DONE: *list is the caller's. FAILED: why, in at most len bytes.
 */
enum resolve_state resolve(const struct host *host, unsigned ms, void (*late)(void),
                           struct addrinfo **list, char *why, size_t len);

/* The number of its port, or 0: there is no such service. It, too, has a minute. */
uint16_t resolve_port(const struct host *host);

#endif
