/*
 * Agents, which answer for tables that no image can answer for alone. Runs in jailmapd only, with
 * privilege. Indices are those of monitor_policy->tables.
 */
#ifndef JAILMAP_PRIVSEP_AGENTS_H
#define JAILMAP_PRIVSEP_AGENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool agents_start(void);
/* The table needs its agent, or does not any more. */
void agent_need(size_t index, bool needed);
/* Changes with each agent that starts; 0: there is none now. */
uint64_t agent_version(size_t index);
/* Makes a link to the agent. Returns the worker's end, which is the caller's; -1: not now. */
int agent_link(size_t index);
/* As tables_tell(). */
bool agents_tell(void);
uint64_t agents_tick(uint64_t now);
/* As tables_prepare() and tables_reload(), and to be called before that. */
bool agents_prepare(size_t ntables);
void agents_reload(void);
/* Ends those whose tables the reload has let go of. After clients_reload(): else workers, who see
 * the end of their links, would take it for a failure. */
void agents_let_go(void);

#endif
