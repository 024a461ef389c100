/*
 * Reading the configuration while the monitor runs. Runs in jailmapd only, with privilege. The
 * monitor opens the files, and a jailed reader reads them.
 */
#ifndef JAILMAP_PRIVSEP_READING_H
#define JAILMAP_PRIVSEP_READING_H

#include <stdbool.h>

#include "policy/policy.h"

/*
 * Has a reader started, whose result done() gets, once: a policy, which is done()'s, or NULL and a
 * complete message. torn: a file changed meanwhile, and there is no policy.
 */
void reading_start(void (*done)(struct policy *policy, const char *why, bool torn));

#endif
