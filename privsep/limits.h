/*
 * Limits on lookups. Runs in jailmapd only, with privilege. Nobody is ever denied by one: what is
 * beyond a limit is slow, or gets a temporary error.
 */
#ifndef JAILMAP_PRIVSEP_LIMITS_H
#define JAILMAP_PRIVSEP_LIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "privsep/bridge.h"

/* What the census says of one. False: that is nothing that it can say. */
bool limits_heard(const struct msg_limit *msg);
/* How workers of that uid, of which there are so many, may answer. */
struct msg_pace limits_pace(uid_t uid, unsigned workers);
/* What the policy says of each limit, for the census. */
void limits_told(uid_t uid, uint32_t limits[LIMIT_KINDS]);
/* The policy may be another. */
void limits_changed(void);
/* There is no census: nobody is held to a limit until the next one has seen for itself. */
void limits_unwatched(void);
uint64_t limits_tick(uint64_t now);

#endif
