/*
 * What the parts of jailmap-census share: what the monitor has told of the daemon (state.c), the
 * answer that is made of it (report.c), and the limits on what users look up (watch.c). Runs in the
 * census only, in an empty chroot. Must never write a page of counters, nor wait for whoever asked.
 */
#ifndef JAILMAP_SERVER_CENSUS_CENSUS_H
#define JAILMAP_SERVER_CENSUS_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "privsep/bridge.h"
#include "server/census/limits.h"
#include "server/counters.h"

struct listener {
    struct msg_listener limits;
    char *path; /* escaped; NULL: not told yet; empty: it has gone */
};

struct table {
    char *name; /* escaped; NULL: not told yet; empty: it has gone */
    struct msg_table_state state;
    struct msg_agent_state agent;
    uint32_t since;            /* which name it is: see struct census */
    char *failure, *trouble;   /* escaped; NULL: none */
    struct counters_sum ended; /* of workers that are no more */
};

/* One uid on one listener. */
struct compartment {
    uint32_t uid, listener;
    uint64_t requests, denied, limited;
    struct counters_sum lookups; /* of all tables; of workers that are no more */
};

struct worker {
    bool used;
    struct msg_page is;
    struct msg_worker_state state;
    uint32_t since; /* the names that there were when it began */
    const struct counters *page;
    struct counters_seen *seen;
    size_t watch; /* of its uid */
    /* What watch.c has taken of its page, once there was something. */
    bool marked;
    struct lookups mark;
    uint64_t limited;
};

/* One uid, with all its workers; stays a while without any. */
struct watch {
    bool used, told; /* its limits */
    uint32_t uid;
    unsigned workers;
    uint32_t limits[LIMIT_KINDS];
    struct lookups more; /* not in the windows yet */
    uint64_t limited;
    struct window windows[LIMIT_KINDS];
    struct episode episodes[LIMIT_KINDS];
    bool anew[LIMIT_KINDS]; /* it is to be said again: a worker has come that may not know of it */
};

struct census {
    struct msg_daemon daemon;
    struct msg_policy policy;
    char *version, *policy_failure;
    struct listener *listeners;
    size_t nlisteners;
    struct table *tables;
    size_t ntables;
    uint32_t names;         /* counts how often a table of another name has taken a place */
    struct worker *workers; /* by place */
    size_t nworkers;
    struct compartment *compartments;
    size_t ncompartments;
    struct watch *watches;
    size_t nwatches;
    uint64_t look_at;
    struct counters_sum
        others; /* lookups in tables that had no slot; of workers that are no more */
};

#define COMPARTMENTS_MOST 512 /* those without a worker make room */

/* Takes in a message; its descriptor, if it has one, is consumed. False: out of memory, or beyond
 * any bound. */
bool census_hear(struct census *census, const struct bridge_msg *msg);

/* Looks at every page, so that `seen` of every worker is up to date. */
void census_look(struct census *census);

/* Does what a worker counts in that slot belong to the table that has the place now? Else it is of
 * no table that is known. */
bool census_counts_for(const struct census *census, const struct worker *w, size_t slot);

/* The compartment of a worker. NULL: out of memory. */
struct compartment *census_compartment(struct census *census, uint32_t uid, uint32_t listener);

/* A worker has its page, or leaves it; and what its uid's limits are. False: out of memory. */
bool watch_worker(struct census *census, struct worker *worker, uint64_t now);
void watch_ended(struct census *census, struct worker *worker);
void watch_limits(struct census *census, const struct worker *worker, uint64_t now);
/* Looks at every page and tells the monitor, if it is time for that. Returns when it will be, in
 * monotonic milliseconds; UINT64_MAX: there is no limit. */
uint64_t watch_look(struct census *census, uint64_t now);
/* Since when that uid has reached a limit, in seconds since the epoch; 0: it keeps them all. */
uint64_t watch_since(const struct census *census, uint32_t uid);

/* Monotonic milliseconds. */
uint64_t census_now(void);
/* Tells the monitor. False: it does not take more now. */
bool census_say(const struct msg_limit *limit);

/* All that is known, as the text that server/census/report.c describes. The caller frees it; NULL:
 * out of memory. */
char *census_report(struct census *census, size_t *len);

#endif
