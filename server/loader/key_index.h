/*
 * Which keys a table has so far: "is this key already in this form?", in constant time for each.
 * Runs in the loader. Whoever writes the table may choose its keys: they are hashed with SipHash
 * under a random seed of this index, and compared in full. It touches memory only.
 */
#ifndef JAILMAP_SERVER_LOADER_KEY_INDEX_H
#define JAILMAP_SERVER_LOADER_KEY_INDEX_H

#include <stdbool.h>

#include "proto/slice.h"

struct key_index;

/* NULL with errno. key_index_free(NULL) does nothing. */
struct key_index *key_index_new(void);
void key_index_free(struct key_index *index);

/*
 * Notes that the key is in these forms (IMAGE_FORM_*, not none). *fresh: those in which it was not
 * before. lasting: the bytes stay where they are for as long as the index; otherwise it keeps a
 * copy. Returns 0, or -1 with errno: ENOMEM, or EFBIG for more than IMAGE_KEY_MAX bytes.
 */
int key_index_claim(struct key_index *index, struct slice key, unsigned forms, bool lasting,
                    unsigned *fresh);

#endif
