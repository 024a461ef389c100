/*
 * Being a child of Postfix's master(8): the options that it gives, and its status socket. Runs in
 * the monitor. Must never read from the socket: that it became readable, or ended, says it all.
 */
#ifndef JAILMAP_PRIVSEP_MASTER_H
#define JAILMAP_PRIVSEP_MASTER_H

#include <stdbool.h>
#include <stddef.h>

#define MASTER_STATUS 5 /* the descriptors that it gives: status, and from here on what listens */

struct master_options {
    const char *service; /* its name in master.cf */
    const char *config;  /* -o jailmap_config; NULL: not given */
    unsigned max_use;    /* clients; 0: not limited */
    int sockets;
};

/* The number of -m; 0: it is none. */
unsigned master_max_use(const char *text);
/* Did master start this process? Asks the environment, and what descriptor 5 is. */
bool master_is_parent(void);
/* Reads the options that follow a command in master.cf, and those that master puts in front. False
 * with a message in why. */
bool master_read_options(int argc, char **argv, struct master_options *options, char *why,
                         size_t len);
/* Watches its status socket, which is fd now. When master closes it, the daemon stops. */
bool master_watch(int fd);
/* Clients are served: tells master once, as it would take a later crash for a failed start. */
void master_served(void);

#endif
