/*
 * A borrowed run of bytes. Used by every program; touches nothing; must never own or free what it
 * points to. The bytes need not end in NUL and, unless stated, hold none.
 */
#ifndef JAILMAP_PROTO_SLICE_H
#define JAILMAP_PROTO_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

static inline bool slice_is(struct slice s, const char *text)
{
    size_t len = strlen(text);

    return s.len == len && (len == 0 || memcmp(s.ptr, text, len) == 0);
}

#endif
