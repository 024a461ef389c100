/*
 * The cache of a table: see cache.h. Runs in the worker, on keys that clients choose and values
 * that an agent gave. It may touch its own memory only. Buckets grow one at a time, so that no
 * lookup waits for all the others to be sorted anew.
 */
#include "server/worker/cache.h"

#include <stdlib.h>

#define BUCKETS_FIRST 64
#define MALLOC_COST   16  /* bytes that malloc keeps for each entry */
#define SHED_AT_ONCE  256 /* entries: some tens of microseconds */

struct entry {
    struct entry *next;          /* in its bucket */
    struct entry *newer, *older; /* by the time of the latest use */
    uint64_t hash, expires;
    uint32_t variant, key_len, value_len;
    bool found;
    char bytes[]; /* the key, and the value */
};

struct cache {
    size_t most, bytes;
    struct entry **buckets;
    size_t nbuckets, cap, entries;
    struct entry *newest, *oldest;
    uint8_t seed[CACHE_SEED_LEN];
};

struct cache *cache_new(size_t most, const uint8_t seed[CACHE_SEED_LEN])
{
    struct cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL)
        return NULL;
    cache->buckets = calloc(BUCKETS_FIRST, sizeof *cache->buckets);
    if (cache->buckets == NULL) {
        free(cache);
        return NULL;
    }
    cache->nbuckets = cache->cap = BUCKETS_FIRST;
    cache->most = most;
    cache->bytes = sizeof *cache + BUCKETS_FIRST * sizeof *cache->buckets;
    memcpy(cache->seed, seed, CACHE_SEED_LEN);
    return cache;
}

static uint64_t hash_of(const struct cache *cache, struct slice key)
{
    uint64_t hash;

    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)key.ptr, key.len, cache->seed);
    return hash;
}

/* There are nbuckets, which need not be a power of two: those above the last power have taken over
 * what hashes to them from the bucket that is that power below. */
static struct entry **bucket_of(const struct cache *cache, uint64_t hash)
{
    size_t power = (size_t)1 << (63 - __builtin_clzll(cache->nbuckets));
    size_t index = (size_t)(hash & (2 * power - 1));

    return &cache->buckets[index < cache->nbuckets ? index : index - power];
}

static size_t cost(size_t key_len, size_t value_len)
{
    return sizeof(struct entry) + MALLOC_COST + key_len + value_len;
}

static void unlink_use(struct cache *cache, struct entry *entry)
{
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        cache->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        cache->oldest = entry->newer;
}

static void link_use_newest(struct cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    if (cache->newest != NULL)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
}

static void drop(struct cache *cache, struct entry *entry)
{
    struct entry **at = bucket_of(cache, entry->hash);

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    unlink_use(cache, entry);
    cache->bytes -= cost(entry->key_len, entry->value_len);
    cache->entries--;
    free(entry);
}

static struct entry *find(const struct cache *cache, struct slice key, uint32_t variant,
                          uint64_t hash)
{
    struct entry *entry = *bucket_of(cache, hash);

    while (entry != NULL && (entry->hash != hash || entry->variant != variant ||
                             !slice_same((struct slice){entry->bytes, entry->key_len}, key)))
        entry = entry->next;
    return entry;
}

enum cache_result cache_find(struct cache *cache, struct slice key, uint32_t variant, uint64_t now,
                             struct slice *value)
{
    struct entry *entry = find(cache, key, variant, hash_of(cache, key));

    if (entry == NULL)
        return CACHE_UNKNOWN;
    if (entry->expires <= now) {
        drop(cache, entry);
        return CACHE_UNKNOWN;
    }
    if (cache->newest != entry) {
        unlink_use(cache, entry);
        link_use_newest(cache, entry);
    }
    *value = (struct slice){entry->bytes + entry->key_len, entry->value_len};
    return entry->found ? CACHE_FOUND : CACHE_NOT_FOUND;
}

/* One bucket more, which takes over its part of another. Without it searches take longer, and
 * nothing else. */
static void add_bucket(struct cache *cache)
{
    size_t power = (size_t)1 << (63 - __builtin_clzll(cache->nbuckets));
    struct entry **from = &cache->buckets[cache->nbuckets - power], **to;

    if (cache->nbuckets == cache->cap) {
        size_t more = cache->cap * sizeof *cache->buckets;
        struct entry **grown;

        if (more > cache->most - cache->bytes ||
            (grown = realloc(cache->buckets, 2 * more)) == NULL)
            return;
        cache->buckets = grown;
        cache->cap *= 2;
        cache->bytes += more;
        from = &cache->buckets[cache->nbuckets - power];
    }
    to = &cache->buckets[cache->nbuckets++];
    *to = NULL;
    while (*from != NULL) {
        struct entry *entry = *from;

        if (bucket_of(cache, entry->hash) != to) {
            from = &entry->next;
            continue;
        }
        *from = entry->next;
        entry->next = *to;
        *to = entry;
    }
}

void cache_store(struct cache *cache, struct slice key, uint32_t variant, uint64_t expires,
                 bool found, struct slice value)
{
    uint64_t hash = hash_of(cache, key);
    struct entry *entry = find(cache, key, variant, hash), **bucket;
    size_t size = cost(key.len, found ? value.len : 0);

    if (entry != NULL)
        drop(cache, entry);
    while (cache->oldest != NULL && cache->bytes + size > cache->most)
        drop(cache, cache->oldest); /* NOLINT(clang-analyzer-unix.Malloc): another one each time */
    if (cache->bytes + size > cache->most || (entry = malloc(size - MALLOC_COST)) == NULL)
        return;
    *entry = (struct entry){.hash = hash,
                            .expires = expires,
                            .variant = variant,
                            .key_len = (uint32_t)key.len,
                            .value_len = found ? (uint32_t)value.len : 0,
                            .found = found};
    if (key.len > 0)
        memcpy(entry->bytes, key.ptr, key.len);
    if (entry->value_len > 0)
        memcpy(entry->bytes + key.len, value.ptr, value.len);
    bucket = bucket_of(cache, hash);
    entry->next = *bucket;
    *bucket = entry;
    link_use_newest(cache, entry);
    cache->bytes += size;
    if (++cache->entries > cache->nbuckets)
        add_bucket(cache);
} /* NOLINT(clang-analyzer-unix.Malloc): its bucket keeps it */

bool cache_shed(struct cache *cache)
{
    for (unsigned i = 0; i < SHED_AT_ONCE && cache->oldest != NULL; i++) {
        struct entry *entry = cache->oldest;

        cache->oldest = entry->newer;
        free(entry);
    }
    if (cache->oldest != NULL)
        return false;
    free(cache->buckets);
    free(cache);
    return true;
}

void cache_free(struct cache *cache)
{
    while (cache != NULL && !cache_shed(cache))
        ;
}

size_t cache_bytes(const struct cache *cache)
{
    return cache->bytes;
}
