/*
 * One record of a stored database (hash, btree, cdb, lmdb), as Postfix reads it. Runs in the
 * loader, on bytes that nobody vouches for. Must never read outside of the two slices.
 */
#ifndef JAILMAP_SERVER_LOADER_RECORD_H
#define JAILMAP_SERVER_LOADER_RECORD_H

#include "proto/slice.h"
#include "server/loader/source.h"

/*
 * Hands the record to the source's sink. A NUL that ends the key is no part of it and makes the
 * form; a key with another one is left out, as no request can carry it; the value ends at its first
 * NUL. Returns 0, or -1 when the sink does not take it.
 */
int record_add(struct source *source, struct slice key, struct slice value);

#endif
