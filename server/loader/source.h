/*
 * Source types of the loader: one file for each, behind one struct. Runs in the loader, on bytes
 * that nobody vouches for, in an empty chroot with nothing but the source and the image open. A
 * source must never be trusted to end, to be sane, or to agree with its own lengths.
 */
#ifndef JAILMAP_SERVER_LOADER_SOURCE_H
#define JAILMAP_SERVER_LOADER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/table_type.h"
#include "proto/slice.h"

/*
 * Takes the entries that a source yields. stored_nul: the source keeps the key with a trailing
 * NUL. Returns 0, or -1 when the image cannot take it; the source then returns -1 at once.
 */
struct sink {
    int (*add)(struct sink *sink, struct slice key, bool stored_nul, struct slice value);
    bool failed; /* set by add: the error is the image's, not the source's */
};

struct source_ops {
    enum table_type type;
    /*
     * Reads the whole source behind fd, which stays the caller's, into the sink. Returns 0, or -1
     * with a reason for the administrator in why[0..len), naming what was found and expected.
     */
    int (*load)(int fd, struct sink *sink, char *why, size_t len);
    /* Writers rewrite the file in place under an exclusive flock(2): read it under a shared one. */
    bool flock;
};

extern const struct source_ops source_hash;
extern const struct source_ops source_btree;

#endif
