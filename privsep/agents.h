/*
 * Agents, which answer for tables that no image can answer for alone: for each table a crew of so
 * many as `processes` says. Runs in jailmapd only, with privilege. Indices are those of
 * monitor_policy->tables.
 */
#ifndef JAILMAP_PRIVSEP_AGENTS_H
#define JAILMAP_PRIVSEP_AGENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "privsep/bridge.h"

bool agents_start(void);
/* The table needs a crew that has no source, or does not any more. */
void agent_need(size_t index, bool needed);

/*
 * Starts a crew on a source: files are its inputs, or -1 each, and stay the caller's. Once all of
 * them have read it, table_offered() is called. A crew that was offered before, and has not been
 * taken, ends. False: none can be started.
 */
bool agents_offer(size_t index, const int files[INPUTS]);
/* Puts the crew that was offered into service, in the place of the one before. keep: it takes the
 * files, for those that have to be started again later; else all is offered anew then. */
void agents_take(size_t index, int files[INPUTS], bool keep);
/* Ends the crew that was offered. */
void agents_drop(size_t index);

/* Changes when links are to be made anew; 0: there is nobody to make them to now. */
uint64_t agent_version(size_t index);
/* Gives a crew an end of a link; false: nobody took it. It stays the caller's, and is given to
 * those that start later by grants_link(). */
bool agents_link(size_t index, int end);
/* As tables_tell(). */
bool agents_tell(void);
uint64_t agents_tick(uint64_t now);
/* The most descriptors that the agents of a policy can cost the monitor. */
struct policy;
uint64_t agents_descriptors(const struct policy *policy);
/* As tables_prepare() and tables_reload(), and to be called before that. */
bool agents_prepare(size_t ntables);
void agents_reload(void);
/* What is asked of them, or how many there are, has changed: a crew that has no source is replaced.
 */
void agents_renew(size_t index);
/* Ends those whose tables the reload has let go of. After clients_reload(): else workers, who see
 * the end of their links, would take it for a failure. */
void agents_let_go(void);

#endif
