/*
 * What the fuzz targets passwd and group share.
 */
#ifndef JAILMAP_TESTS_FUZZ_UNIX_FILE_H
#define JAILMAP_TESTS_FUZZ_UNIX_FILE_H

#include <stdio.h>

#include "tests/fuzz/common.h"

/* Entries as the C library reads them, each a value as Postfix would give it. */
struct entries {
    struct record *list; /* key and value are the list's own */
    size_t count;
};

/* Takes one more, and frees value; leaves it out if no lookup would find it. */
void entries_add(struct entries *entries, const char *name, char *value);

/*
 * Loads the file into the source and checks that what comes out is what read_all, which reads the
 * same bytes with the C library, makes of them.
 */
void check_unix_file(const struct source_ops *ops, const uint8_t *data, size_t size,
                     void (*read_all)(FILE *in, struct entries *entries));

#endif
