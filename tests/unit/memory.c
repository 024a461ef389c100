/*
 * Memory and numbers for tests. Runs in the unit tests and in the fuzzing targets; touches nothing
 * else.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

void *need_memory(size_t len)
{
    void *memory = malloc(len > 0 ? len : 1);

    REQUIRE(memory != NULL, "out of memory");
    return memory;
}

char *exact_copy(const void *bytes, size_t len)
{
    char *copy = need_memory(len);

    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
