/*
 * What a child hears of the monitor. Runs in every child but jailmapd itself. The end of the
 * monitor is the end of a child, and so is a message that the monitor cannot have sent.
 */
#ifndef JAILMAP_PRIVSEP_HEAR_H
#define JAILMAP_PRIVSEP_HEAR_H

#include <stdbool.h>

#include "privsep/bridge.h"

/* The next message, if there is one now; msg's tail is good until the next call, and descriptors in
 * it are the caller's. False: not now. Does not return once the monitor has gone. */
bool hear(enum bridge_role role, enum bridge_state state, struct bridge_msg *msg);

/* The next message, however long it takes. */
struct bridge_msg hear_next(enum bridge_role role, enum bridge_state state);

#endif
