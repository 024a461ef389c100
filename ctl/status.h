/*
 * What the parts of `jailmap status` share: what the census said (status_read.c), and the ways to
 * show it. Runs as whoever calls it. The text comes from a process that may have been taken over:
 * nothing of it may reach a terminal but printable ASCII, and no number may be an index unchecked.
 */
#ifndef JAILMAP_CTL_STATUS_H
#define JAILMAP_CTL_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "server/counters.h"

struct status_listener {
    const char *path;
    uint64_t workers_most, clients_most, max_use; /* for one uid; in one worker; of one worker */
    uint64_t workers, clients;                    /* now, of all */
};

struct status_compartment {
    uint64_t uid, listener;
    uint64_t requests, denied, hits, misses, errors;
    uint64_t limited;          /* lookups that were delayed or refused */
    uint64_t limited_since;    /* a limit is reached, or was just now; 0: none is */
    uint64_t workers, clients; /* now */
};

struct status_worker {
    uint64_t pid, uid, listener, clients, served;
};

struct status_table {
    const char *name, *state, *answered_by, *why;
    uint64_t since, loaded, generation, entries, bytes;
    struct counters_sum sum;
};

struct status_agent {
    uint64_t table, pid; /* of one of its agents; 0: none runs */
    uint64_t running, started, since;
    const char *why;
};

struct status {
    const char *version, *policy_failure;
    uint64_t pid, since, now, policy_since;
    struct status_listener *listeners;
    struct status_compartment *compartments;
    struct status_worker *workers;
    struct status_table *tables;
    struct status_agent *agents;
    size_t nlisteners, ncompartments, nworkers, ntables, nagents;
    uint64_t other_hits, other_misses, other_errors;
};

/*
 * Takes an answer of the census apart: see server/census/report.c. Strings borrow from text, which
 * is changed. False, with nothing held, if it is not an answer of this version, whole.
 */
bool status_parse(char *text, size_t len, struct status *status);
void status_free(struct status *status);

/* Name of a user of this machine by /etc/passwd; its number, if that has none. Good until the next
 * call. */
const char *status_user(uint64_t uid);

void status_show(FILE *out, const struct status *status, bool colour);
/* False: out of memory. */
bool status_json(FILE *out, const struct status *status);
void status_prometheus(FILE *out, const struct status *status);

#endif
