/*
 * Sums over a time that slides along, and when a limit on one is reached and kept again. Pure: time
 * is an argument, in monotonic milliseconds. Runs in the census.
 */
#ifndef JAILMAP_SERVER_CENSUS_LIMITS_H
#define JAILMAP_SERVER_CENSUS_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "privsep/messages.h"

#define WINDOW_SLICES_MOST 60

struct lookups {
    uint64_t lookups, misses;
};

/* The last `slices` times `width` ms, the slice that is not over included. */
struct window {
    unsigned slices, width;
    uint64_t latest; /* number of that slice, since the time 0 */
    struct lookups parts[WINDOW_SLICES_MOST];
};
void window_begin(struct window *window, enum bridge_limit limit, uint64_t now);
/* So many since the call before, which are taken to have come evenly: who looks late sees no
 * crowd. Sums end at UINT64_MAX. */
void window_add(struct window *window, struct lookups more, uint64_t now);
struct lookups window_sum(const struct window *window);

/* From when a limit is reached until it has not been for a while. */
struct episode {
    bool open, on; /* it is enforced now */
    uint64_t begun, rested;
    uint64_t since; /* the same as begun, in seconds since the epoch */
    struct lookups counts;
    uint64_t limited;
};
/*
 * What a sum means: enforcement begins at the limit (0: there is none) and ends at half of it; the
 * episode ends when there was none for some time. Returns enum bridge_limit_news, or 0: nothing
 * new.
 */
unsigned episode_judge(struct episode *episode, enum bridge_limit limit, uint32_t most,
                       uint64_t sum, uint64_t now);

#endif
