/*
 * The hosts that an agent tells its dialer: pure. Used by jailmap-dialer. It may touch only its
 * arguments.
 */
#ifndef JAILMAP_SERVER_DIALER_HOSTS_H
#define JAILMAP_SERVER_DIALER_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/host_name.h"

#define HOSTS_MAX 512

struct host {
    const char *text; /* as the agent has it: NUL at its end */
    struct host_name name;
};

struct told_hosts {
    uint32_t count;
    struct host host[HOSTS_MAX];
};

/* The tail of a HOSTS message, which must stay as it is: exactly count names, each with a NUL
 * behind it. False: it is something else, or one of them is no host. */
bool told_hosts_parse(struct told_hosts *hosts, const char *tail, size_t len, uint32_t count);

/* Is there one of which a name server may have to be asked? */
bool hosts_need_names(const struct told_hosts *hosts);

#endif
