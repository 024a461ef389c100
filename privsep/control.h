/*
 * Control sockets: connecting to one is the request. Runs in jailmapd only, with privilege. Nothing
 * is ever read from who connects.
 */
#ifndef JAILMAP_PRIVSEP_CONTROL_H
#define JAILMAP_PRIVSEP_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before priv_confine(). False with a message in why. */
bool control_bind(char *why, size_t len);
bool control_start(void);
/* Another is in force. */
void control_policy_changed(void);
uint64_t control_tick(uint64_t now);
void control_stop(void);

#endif
