/*
 * Descriptors from whoever started jailmapd: listening sockets of a service manager, as
 * sd_listen_fds(3) has it, or of Postfix's master(8), and master's status socket. Runs in the
 * monitor at start. Must never use a socket that the configuration does not name.
 */
#ifndef JAILMAP_PRIVSEP_INHERIT_H
#define JAILMAP_PRIVSEP_INHERIT_H

#include <stdbool.h>
#include <stddef.h>

/* How many sockets LISTEN_FDS of the environment passes to this process; -1: it makes no sense. */
int inherit_announced(void);

/*
 * Closes every descriptor above standard error but `count` from `first` on, of which it returns the
 * new number of the first: above all that have a place of their own. -1 with errno.
 */
int inherit_keep(int first, int count);

/*
 * Finds the listen section of each of `count` listening sockets from `first` on, which their giver
 * (for messages) calls by numbers from `number` on. To be called in the directory in which it was
 * started, which names may be relative to. False with a message in why.
 */
bool inherit_listeners(int first, int count, const char *giver, int number, char *why, size_t len);
/* The listening socket for that section; -1: none, it is to be made. */
int inherit_listener(size_t index);

#endif
