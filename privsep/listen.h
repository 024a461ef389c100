/*
 * Listening sockets. Runs in jailmapd only, with privilege. Sockets are bound in directories that
 * were there at the start, as the user who owns each.
 */
#ifndef JAILMAP_PRIVSEP_LISTEN_H
#define JAILMAP_PRIVSEP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

/* Takes what was inherited and binds every other socket of the policy; before priv_confine(). False
 * with a message in why. */
bool listen_bind(char *why, size_t len);
/* The directory of that listener's socket; -1: whoever made it removes it. */
int listen_dir(size_t listener);
bool listen_start(void);
void listen_stop(void);
uint64_t listen_tick(uint64_t now);
/*
 * Binds what next has and monitor_policy has not, and what is to be bound anew, but accepts nobody
 * there. False with a complete message in why; nothing is left of it then. Afterwards either
 * listen_abandon(), or listen_reload() once next is monitor_policy; clients_reload() before that.
 */
bool listen_prepare(const struct policy *next, char *why, size_t len);
void listen_abandon(void);
void listen_reload(const struct policy *old);

#endif
