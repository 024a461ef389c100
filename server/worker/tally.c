/*
 * What a worker counts: see server/counters.h. Runs in the worker. It may write the page of memory
 * that the monitor has made for it, and until that has come a private one; it must never wait for
 * anybody who reads it, nor write there what a client has said.
 */
#include "server/worker/worker.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "server/counters.h"

static struct counters *page;
static bool shared;
static uint32_t slots;

void tally_start(uint32_t count)
{
    slots = count < COUNTERS_SLOTS ? count : COUNTERS_SLOTS;
    page = calloc(1, counters_size(slots));
    if (page == NULL)
        exit(EXIT_FAILURE);
}

static void carry(counter *to, const counter *from)
{
    atomic_store_explicit(to, atomic_load_explicit(from, memory_order_relaxed),
                          memory_order_relaxed);
}

static void carry_over(struct counters *to, const struct counters *from)
{
    carry(&to->requests, &from->requests);
    carry(&to->denied, &from->denied);
    carry(&to->lookups, &from->lookups);
    carry(&to->misses, &from->misses);
    carry(&to->limited, &from->limited);
    for (size_t i = 0; i <= slots; i++) {
        struct counters_slot *slot = &to->slots[i];

        carry(&slot->hits, &from->slots[i].hits);
        carry(&slot->misses, &from->slots[i].misses);
        carry(&slot->errors, &from->slots[i].errors);
        carry(&slot->cached, &from->slots[i].cached);
        carry(&slot->refused, &from->slots[i].refused);
        carry(&slot->nanoseconds, &from->slots[i].nanoseconds);
        for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
            carry(&slot->buckets[b], &from->slots[i].buckets[b]);
    }
    /* Last, so that no reader takes the page for complete before it is. */
    atomic_store_explicit(&to->magic, COUNTERS_MAGIC, memory_order_release);
}

void tally_share(int fd, uint32_t count)
{
    size_t size = counters_size(slots);
    void *map = MAP_FAILED;

    if (count == slots)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) /* it goes on where it is: nobody is served worse for it */
        return;
    carry_over(map, page);
    if (shared)
        munmap(page, size);
    else
        free(page);
    page = map;
    shared = true;
}

uint64_t tally_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void tally_reply(enum pm_status status)
{
    counter_add(&page->requests, 1);
    if (status == PM_DENY)
        counter_add(&page->denied, 1);
}

static struct counters_slot *slot_of(uint32_t table)
{
    return &page->slots[table < slots ? table : slots];
}

void tally_lookup(uint32_t table, enum pm_status status, uint64_t since)
{
    struct counters_slot *slot = slot_of(table);
    uint64_t now = tally_clock(), took = now > since ? now - since : 0;

    counter_add(status == PM_OK      ? &slot->hits
                : status == PM_NOKEY ? &slot->misses
                                     : &slot->errors,
                1);
    counter_add(&page->lookups, 1);
    if (status == PM_NOKEY)
        counter_add(&page->misses, 1);
    counter_add(&slot->nanoseconds, took);
    counter_add(&slot->buckets[counters_bucket(took)], 1);
}

void tally_cached(uint32_t table)
{
    counter_add(&slot_of(table)->cached, 1);
}

void tally_refused(uint32_t table)
{
    counter_add(&slot_of(table)->refused, 1);
}

void tally_step(void)
{
    counter_add(&page->lookups, 1);
}

void tally_limited(void)
{
    counter_add(&page->limited, 1);
}
