/*
 * What an agent has said of keys, kept for a while: exact, bounded in bytes, the least recently
 * used goes first. Runs in the worker. Pure: it touches its own memory and makes no system call but
 * those of malloc; it must never yield an entry for another key, or one that has expired.
 */
#ifndef JAILMAP_SERVER_WORKER_CACHE_H
#define JAILMAP_SERVER_WORKER_CACHE_H

#include <sodium/crypto_shorthash.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

struct cache;

/* Users choose the keys: without the seed nobody can tell which of them collide. */
#define CACHE_SEED_LEN crypto_shorthash_KEYBYTES

/* An empty cache that will hold at most so many bytes of memory, what it needs for itself included.
 * NULL: out of memory. To be released with cache_free(). */
struct cache *cache_new(size_t most, const uint8_t seed[CACHE_SEED_LEN]);
void cache_free(struct cache *cache);

/* The same little by little: each call lets go of a part, and the last, when nothing is left,
 * returns true. Nothing but this may be called in between. */
bool cache_shed(struct cache *cache);

enum cache_result { CACHE_UNKNOWN, CACHE_FOUND, CACHE_NOT_FOUND };

/* What is kept of key in that variant; now in ms. The value is good until the cache is next
 * changed. */
enum cache_result cache_find(struct cache *cache, struct slice key, uint32_t variant, uint64_t now,
                             struct slice *value);

/* Keeps it until `expires`, in place of what there was of that key. What cannot be kept is not.
 * found: value is copied; else there is none. Key and value have less than 2^31 bytes. */
void cache_store(struct cache *cache, struct slice key, uint32_t variant, uint64_t expires,
                 bool found, struct slice value);

/* Bytes that it holds. */
size_t cache_bytes(const struct cache *cache);

#endif
