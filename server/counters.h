/*
 * The counters of a worker: one page of shared memory, which the worker alone writes and the census
 * alone reads. Runs in both, and in the tool. Nothing here makes a system call. Whoever reads a
 * page must take its numbers for numbers only: a worker that was taken over writes what it likes.
 */
#ifndef JAILMAP_SERVER_COUNTERS_H
#define JAILMAP_SERVER_COUNTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTERS_MAGIC   0x336e636au /* version 3 */
#define COUNTERS_SLOTS   65536u      /* more tables than these share the last slot */
#define COUNTERS_BUCKETS 114

/*
 * Times of lookups, in nanoseconds from the complete request to the reply: the first bucket is for
 * all below 256, the last for all from 2^36 (69 seconds) on, and each power of two between them has
 * four buckets of the same width.
 */
typedef _Atomic uint64_t counter;

struct counters_slot {
    counter hits, misses, errors; /* a lookup is one of these */
    counter cached;               /* of hits and misses: the worker had kept an agent's answer */
    counter refused;              /* of errors: too many waited for the table's agents */
    counter nanoseconds;          /* all of them together */
    counter buckets[COUNTERS_BUCKETS];
};

struct counters {
    counter magic;    /* 0: not written yet */
    counter requests; /* of any kind, well-formed or not */
    counter denied;   /* and those that the policy denies */
    counter lookups;  /* in any table, and steps of a walk over one */
    counter misses;   /* of these: the key is not there */
    counter limited;  /* of these: were made to wait, or refused, by a limit */
    counter zero[2];
    struct counters_slot slots[]; /* by the monitor's index of a table; then one for all others */
};

/* Bytes of a page with so many slots, besides the one for all others. */
size_t counters_size(uint32_t slots);

unsigned counters_bucket(uint64_t nanoseconds);
/* The first nanosecond that is beyond a bucket; UINT64_MAX for the last. */
uint64_t counters_beyond(unsigned bucket);

/* The writer's, of whom there is one: no other processor needs to be asked. */
static inline void counter_add(counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- for readers ---- */

/* What was seen of a slot, or a sum of such. */
struct counters_sum {
    uint64_t hits, misses, errors, cached, refused, nanoseconds;
    uint64_t buckets[COUNTERS_BUCKETS];
};

struct counters_seen {
    uint64_t requests, denied, lookups, misses, limited;
    struct counters_sum slots[];
};
size_t counters_seen_size(uint32_t slots);

/*
 * Takes over what a page of so many slots shows now. A number that is lower than it was seen before
 * is ignored, and so is a page that is not one.
 */
void counters_look(struct counters_seen *seen, const struct counters *page, uint32_t slots);

/* The same of what stands before the slots. False: it is not a page, or not yet. */
bool counters_glance(struct counters_seen *seen, const struct counters *page);

/* Sums end at UINT64_MAX. */
void counters_add(struct counters_sum *sum, const struct counters_sum *more);
uint64_t counters_plus(uint64_t a, uint64_t b);
uint64_t counters_lookups(const struct counters_sum *sum);

/* The time within which that part (of 1000) of the lookups was answered, as the end of a bucket, in
 * nanoseconds; UINT64_MAX: beyond all; 0: there was none. */
uint64_t counters_quantile(const struct counters_sum *sum, unsigned permille);

#endif
