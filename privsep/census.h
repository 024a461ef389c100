/*
 * The census, which sums up counters and answers for the status. Runs in jailmapd only, with
 * privilege. What it is told is no secret from those who may ask; what it says is never believed,
 * but for limits.
 */
#ifndef JAILMAP_PRIVSEP_CENSUS_H
#define JAILMAP_PRIVSEP_CENSUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "privsep/bridge.h"

void census_start(void);
/* Changes with each census that starts, and is never 0 then. Whoever tells it something notes the
 * edition that was told, and forgets it (0) when there is news: so each census hears everything. */
uint32_t census_edition(void);
/* There is news: tables_tell() and the like are called soon. */
void census_changed(void);
/* tail: NULL: none; fd: NULL: none. False: it does not take more now, and comes back. */
bool census_tell(enum bridge_type type, const void *body, const char *tail, const int *fd);
/* The configuration was read, or, with why not, was not. */
void census_policy(const char *failure);
/* A page of counters: a descriptor for the worker, and one for the census that can only be read.
 * Both are the caller's. False: there is none now. */
bool census_page(uint32_t slots, int *writer, int *reader);
/* Somebody who may asks for the status. The connection stays the caller's. False: not now. */
bool census_asked(int fd, uid_t uid);
uint64_t census_tick(uint64_t now);

#endif
