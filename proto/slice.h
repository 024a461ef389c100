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

/* A string literal as a slice, its length known when it is compiled. */
#define SLICE(literal)                                                                             \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static inline bool slice_same(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_is(struct slice s, const char *text)
{
    return slice_same(s, (struct slice){text, strlen(text)});
}

#endif
