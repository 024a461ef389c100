/*
 * Upper and lower case as Unicode has it. Runs in the loader and in the SQL agents, on bytes that
 * nobody vouches for. Touches its arguments only.
 */
#ifndef JAILMAP_SERVER_FOLD_H
#define JAILMAP_SERVER_FOLD_H

#include <stdbool.h>

#include "proto/slice.h"
#include "server/text.h"

bool is_ascii(struct slice s);

/* RFC 3629: nothing overlong, no surrogates, nothing above U+10FFFF. Non-characters are allowed. */
bool is_utf8(struct slice s);

/*
 * What remains of s when case makes no difference takes the place of what was in to. Bytes that
 * are no UTF-8 stay as they are. Returns 0, or -1 with errno.
 */
int fold_unicode(struct text *to, struct slice s);

#endif
