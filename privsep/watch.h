/*
 * Changes of sources, as inotify tells of them. Runs in jailmapd only, with privilege.
 */
#ifndef JAILMAP_PRIVSEP_WATCH_H
#define JAILMAP_PRIVSEP_WATCH_H

#include <stdbool.h>
#include <stddef.h>

void watch_start(void);
bool watch_prepare(size_t ntables);
/* Between the two, watch_step() is called for every name on the way to the table's sources; what
 * was watched for it before and is not named again is forgotten. Changes call table_touched(). */
void watch_begin(size_t index);
void watch_step(void *index, int dir, const char *name);
void watch_end(size_t index);

#endif
