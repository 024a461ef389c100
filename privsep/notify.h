/*
 * Messages to a service manager. Runs in jailmapd only, with privilege. Nothing is read from it.
 */
#ifndef JAILMAP_PRIVSEP_NOTIFY_H
#define JAILMAP_PRIVSEP_NOTIFY_H

#include <stdint.h>

/* Takes what it needs from the environment. */
void notify_environment(void);
/* Connects to the service manager, if there is one; before priv_confine(). */
void notify_open(void);
/* Lookups are answered, and by the configuration as it is now. */
void notify_ready(void);
/* Between this and notify_ready(), that is being changed. */
void notify_reloading(void);
void notify_stopping(void);
/* Says that the main loop goes round. */
uint64_t notify_tick(uint64_t now);

#endif
