/*
 * Counters: see counters.h. Runs in the worker, which adds, and in the census and the tool, which
 * read. Touches the memory that it is given and nothing else; it must never use a number of a page
 * as anything but a number.
 */
#include "server/counters.h"

#define LOWEST  8  /* powers of two: the first bucket ends there, */
#define HIGHEST 36 /* and the last begins here */

_Static_assert(COUNTERS_BUCKETS == 2 + 4 * (HIGHEST - LOWEST), "four for each power of two");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "two processes share them");

size_t counters_size(uint32_t slots)
{
    return sizeof(struct counters) + ((size_t)slots + 1) * sizeof(struct counters_slot);
}

size_t counters_seen_size(uint32_t slots)
{
    return sizeof(struct counters_seen) + ((size_t)slots + 1) * sizeof(struct counters_sum);
}

unsigned counters_bucket(uint64_t nanoseconds)
{
    unsigned power;

    if (nanoseconds < UINT64_C(1) << LOWEST)
        return 0;
    power = 63 - (unsigned)__builtin_clzll(nanoseconds);
    if (power >= HIGHEST)
        return COUNTERS_BUCKETS - 1;
    return 1 + (power - LOWEST) * 4 + (unsigned)(nanoseconds >> (power - 2) & 3);
}

uint64_t counters_beyond(unsigned bucket)
{
    if (bucket == 0)
        return UINT64_C(1) << LOWEST;
    if (bucket >= COUNTERS_BUCKETS - 1)
        return UINT64_MAX;
    return (UINT64_C(4) + (bucket - 1) % 4 + 1) << (LOWEST - 2 + (bucket - 1) / 4);
}

uint64_t counters_plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void look(uint64_t *seen, const counter *c)
{
    uint64_t now = atomic_load_explicit(c, memory_order_relaxed);

    if (now > *seen)
        *seen = now;
}

bool counters_glance(struct counters_seen *seen, const struct counters *page)
{
    if (atomic_load_explicit(&page->magic, memory_order_acquire) != COUNTERS_MAGIC)
        return false;
    look(&seen->requests, &page->requests);
    look(&seen->denied, &page->denied);
    look(&seen->lookups, &page->lookups);
    look(&seen->misses, &page->misses);
    look(&seen->limited, &page->limited);
    return true;
}

void counters_look(struct counters_seen *seen, const struct counters *page, uint32_t slots)
{
    if (!counters_glance(seen, page))
        return;
    for (size_t i = 0; i <= slots; i++) {
        look(&seen->slots[i].hits, &page->slots[i].hits);
        look(&seen->slots[i].misses, &page->slots[i].misses);
        look(&seen->slots[i].errors, &page->slots[i].errors);
        look(&seen->slots[i].cached, &page->slots[i].cached);
        look(&seen->slots[i].refused, &page->slots[i].refused);
        look(&seen->slots[i].nanoseconds, &page->slots[i].nanoseconds);
        for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
            look(&seen->slots[i].buckets[b], &page->slots[i].buckets[b]);
    }
}

void counters_add(struct counters_sum *sum, const struct counters_sum *more)
{
    sum->hits = counters_plus(sum->hits, more->hits);
    sum->misses = counters_plus(sum->misses, more->misses);
    sum->errors = counters_plus(sum->errors, more->errors);
    sum->cached = counters_plus(sum->cached, more->cached);
    sum->refused = counters_plus(sum->refused, more->refused);
    sum->nanoseconds = counters_plus(sum->nanoseconds, more->nanoseconds);
    for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
        sum->buckets[b] = counters_plus(sum->buckets[b], more->buckets[b]);
}

uint64_t counters_lookups(const struct counters_sum *sum)
{
    return counters_plus(counters_plus(sum->hits, sum->misses), sum->errors);
}

uint64_t counters_quantile(const struct counters_sum *sum, unsigned permille)
{
    uint64_t all = 0, below = 0, rank;

    for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
        all = counters_plus(all, sum->buckets[b]);
    /* So many are to be answered within it; rounded up, without an overflow on the way. */
    rank = all / 1000 * permille + (all % 1000 * permille + 999) / 1000;
    for (unsigned b = 0; b < COUNTERS_BUCKETS && all > 0; b++) {
        below = counters_plus(below, sum->buckets[b]);
        if (below >= rank && below > 0)
            return counters_beyond(b);
    }
    return 0;
}
