/*
 * Reload: from the files to the policy in force. Runs in jailmapd only, with privilege.
 */
#ifndef JAILMAP_PRIVSEP_RELOAD_H
#define JAILMAP_PRIVSEP_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

/* Somebody who wants to know what became of a reload. The struct is the caller's until done() is
 * called, once, or reload_forget(). */
struct reload_waiter {
    void (*done)(struct reload_waiter *self, bool reloaded, const char *result);
    struct reload_waiter *next;
};
/* Reads the configuration as it is from now on, at once or after a reload that runs; looks at every
 * table, and opens the log anew. who: asks, for the log. waiter may be NULL. */
void reload_ask(const char *who, struct reload_waiter *waiter);
void reload_forget(struct reload_waiter *waiter);
uint64_t reload_tick(uint64_t now);

#endif
