/*
 * Chance: see chance.h. Runs in the worker, which may not ask the kernel for more of it. It may
 * read the auxiliary vector, and must never hand out what stands there.
 */
#include "server/worker/chance.h"

#include <sodium/crypto_shorthash.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

_Static_assert(crypto_shorthash_KEYBYTES == CHANCE_SEED_LEN, "the kernel gives 16");
_Static_assert(crypto_shorthash_BYTES == sizeof(uint64_t), "half a seed");

/* What a number is for stands above the number, so that no two uses share one. */
enum use { FOR_SEED = 1, FOR_DRAW };

static uint64_t draw(enum use use, uint64_t number)
{
    uint64_t bytes[] = {use, number}, out;
    const unsigned char *given = (const unsigned char *)getauxval(AT_RANDOM); /* NOLINT */

    if (given == NULL) /* no kernel that this runs on leaves it out */
        exit(EXIT_FAILURE);
    crypto_shorthash((unsigned char *)&out, (const unsigned char *)bytes, sizeof bytes, given);
    return out;
}

void chance_seed(uint8_t seed[CHANCE_SEED_LEN])
{
    uint64_t halves[] = {draw(FOR_SEED, 0), draw(FOR_SEED, 1)};

    memcpy(seed, halves, CHANCE_SEED_LEN);
}

uint32_t chance_below(uint32_t n)
{
    static uint64_t drawn;

    return (uint32_t)((draw(FOR_DRAW, drawn++) >> 32) * n >> 32);
}
