/*
 * What the attacker programs share. They are the real programs' objects with one hook each
 * (hook_*.c) that the linker puts in front of a function, and these attempts. They run where the
 * real programs run, started by the real monitor, and play a process that somebody has taken over.
 * Used by tests/sandbox/run alone, never installed. An attempt must never do harm beyond the daemon
 * under test, whether it is stopped or not.
 */
#ifndef JAILMAP_TESTS_SANDBOX_ATTACK_H
#define JAILMAP_TESTS_SANDBOX_ATTACK_H

#include <stddef.h>
#include <stdint.h>

#include "privsep/bridge.h"
#include "proto/slice.h"

/* What a hook has found in the process that it took over; -1 where there is nothing. */
struct loot {
    enum bridge_role role;
    int client; /* the latest connection of a client, and the monitor's number for it */
    uint32_t client_number;
    int image;  /* descriptor of an image, */
    void *map;  /* and where it is mapped */
    int source; /* what a loader reads */
    int report; /* where a report may be written, if nobody waits for it */
};
extern struct loot loot;

/* An order is `NAME ARGUMENT`; arguments are text, or numbers with spaces between them. */
struct order {
    const char *text; /* the argument, "" if there is none */
    long numbers[4];
    char detail[256]; /* what there is to tell besides the result */
};

/* Returns less than 0 with errno if it was stopped; else it was not, or there was nothing to stop
 * and detail tells what it has come to. */
struct attempt {
    const char *name;
    long (*run)(struct order *order);
};
/* Those of all programs, and those of the one whose hook it is; each ends with name NULL. */
extern const struct attempt system_attempts[], bridge_attempts[], own_attempts[];

#define ATTACK_PREFIX "attack:"

/*
 * Carries out the order behind ATTACK_PREFIX in text, which may go on with other bytes behind a
 * newline, a quote or a semicolon. Writes what came of it, as `EPERM` or `done: 7 detail`, into
 * report. Returns report, or NULL if text holds no order. Makes no system call of its own.
 */
const char *attack(struct slice text, char *report, size_t size);

#endif
