/*
 * Which keys a table has so far: see key_index.h. Runs in the loader. Open addressing, linear
 * probing, at most three quarters full; one slot for each different key, with a bit for each form.
 */
#include "server/loader/key_index.h"

#include <errno.h>
#include <sodium/crypto_shorthash.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

#include "server/image.h"

#define FIRST_SLOTS 1024
#define CHUNK       (64u * 1024)

/* word: length of the key, forms in the upper four bits; 0 forms: the slot is free. */
struct slot {
    const char *key;
    uint32_t hash;
    uint32_t word;
};

/* Copies of keys, many to one allocation. */
struct chunk {
    struct chunk *next;
    size_t used, cap;
    char bytes[];
};

struct key_index {
    struct slot *slots;
    size_t nslots; /* a power of two */
    size_t used;
    struct chunk *chunks;
    unsigned char seed[crypto_shorthash_KEYBYTES];
};

struct key_index *key_index_new(void)
{
    struct key_index *index = calloc(1, sizeof *index);

    if (index == NULL)
        return NULL;
    index->nslots = FIRST_SLOTS;
    index->slots = calloc(index->nslots, sizeof *index->slots);
    if (index->slots == NULL ||
        getrandom(index->seed, sizeof index->seed, 0) != (ssize_t)sizeof index->seed) {
        key_index_free(index);
        return NULL;
    }
    return index;
}

void key_index_free(struct key_index *index)
{
    if (index == NULL)
        return;
    while (index->chunks != NULL) {
        struct chunk *next = index->chunks->next;

        free(index->chunks);
        index->chunks = next;
    }
    free(index->slots);
    free(index);
}

static unsigned forms_of(const struct slot *slot)
{
    return slot->word >> 28;
}

static uint32_t hash_of(const struct key_index *index, struct slice key)
{
    unsigned char bytes[crypto_shorthash_BYTES];
    uint32_t hash;

    crypto_shorthash(bytes, (const unsigned char *)key.ptr, key.len, index->seed);
    memcpy(&hash, bytes, sizeof hash);
    return hash;
}

/* The slot of the key, or the free one where it would go. There always is one. */
static struct slot *find(const struct key_index *index, struct slice key, uint32_t hash)
{
    size_t mask = index->nslots - 1;

    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct slot *slot = &index->slots[i];

        if (forms_of(slot) == 0)
            return slot;
        if (slot->hash == hash &&
            slice_same((struct slice){slot->key, slot->word & IMAGE_KEY_MAX}, key))
            return slot;
    }
}

static int grow(struct key_index *index)
{
    struct slot *old = index->slots, *wider;
    size_t count = index->nslots, mask = count * 2 - 1;

    wider = calloc(count, 2 * sizeof *wider);
    if (wider == NULL)
        return -1;
    for (size_t i = 0; i < count; i++) {
        size_t to = old[i].hash & mask;

        if (forms_of(&old[i]) == 0)
            continue;
        while (forms_of(&wider[to]) != 0)
            to = (to + 1) & mask;
        wider[to] = old[i];
    }
    free(old);
    index->slots = wider;
    index->nslots = count * 2;
    return 0;
}

static const char *copy(struct key_index *index, struct slice key)
{
    struct chunk *chunk = index->chunks;
    char *to;

    if (chunk == NULL || key.len > chunk->cap - chunk->used) {
        size_t cap = key.len > CHUNK ? key.len : CHUNK;

        chunk = malloc(sizeof *chunk + cap);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct chunk){.next = index->chunks, .cap = cap};
        index->chunks = chunk;
    }
    to = chunk->bytes + chunk->used;
    if (key.len > 0)
        memcpy(to, key.ptr, key.len);
    chunk->used += key.len;
    return to;
}

int key_index_claim(struct key_index *index, struct slice key, unsigned forms, bool lasting,
                    unsigned *fresh)
{
    struct slot *slot;
    uint32_t hash;

    if (key.len > IMAGE_KEY_MAX) {
        errno = EFBIG;
        return -1;
    }
    if (index->used >= index->nslots / 4 * 3 && grow(index) != 0)
        return -1;
    hash = hash_of(index, key);
    slot = find(index, key, hash);
    if (forms_of(slot) == 0) {
        const char *kept = lasting ? key.ptr : copy(index, key);

        if (kept == NULL && key.len > 0)
            return -1;
        *slot = (struct slot){kept, hash, (uint32_t)key.len};
        index->used++;
    }
    *fresh = forms & ~forms_of(slot);
    slot->word |= forms << 28;
    return 0;
}
