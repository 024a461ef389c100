/*
 * Where a server is, as a table names it: pure. Used by the agents that have a dialer, to refuse
 * what nobody could connect to, and by the dialer. It may touch only its arguments; it must never
 * look anything up.
 */
#ifndef JAILMAP_SERVER_HOST_NAME_H
#define JAILMAP_SERVER_HOST_NAME_H

#include <stdbool.h>

#include "proto/slice.h"

#define HOST_NAME_EXPECTED "unix:/PATH or inet:HOST:PORT"

/* Parts of a text, borrowed from it: path; or host, without the brackets of an IPv6 address, and
 * port. */
struct host_name {
    bool local; /* a UNIX socket */
    struct slice path;
    struct slice host, port;
    bool numeric; /* nobody need be asked where the host is */
};

/* "unix:/PATH" or "inet:HOST:PORT". HOST is a name, an address, or an IPv6 address in brackets;
 * PORT a number from 1 to 65535 or the name of a service. On false *why is a constant text that
 * says what was found. */
bool host_name_parse(struct slice text, struct host_name *name, const char **why);

/* HOST:PORT alone. */
bool host_name_parse_inet(struct slice text, struct host_name *name, const char **why);

/* The number, or 0: it is the name of a service, or no port. */
unsigned host_name_port(struct slice port);

#endif
