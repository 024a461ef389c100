/*
 * The monitor's own confinement. Runs in jailmapd, with all of root's privilege, before the first
 * client. Must never let it keep what it does not need any more.
 */
#ifndef JAILMAP_PRIVSEP_PRIV_CONFINE_H
#define JAILMAP_PRIVSEP_PRIV_CONFINE_H

#include "privsep/launchers.h"

/*
 * What holds for the monitor and all that it starts, so before it starts anything: no_new_privs,
 * and signals to them only. Returns 0, or -1 with errno.
 */
int priv_confine_all(void);

/*
 * What holds for the monitor alone, once the launchers run and the sockets are bound: an empty
 * bounding set, the few capabilities that it needs later on, and Landlock, which may be lacking.
 * Returns 0, or -1 with errno. What is left is profile_enter().
 */
int priv_confine(struct walls *walls);

#endif
