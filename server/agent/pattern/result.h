/*
 * What a rule gives for a key that it matches: text with parts of the key in it, as $1, ${1} and
 * $(1) say. Runs in jailmap-agent-pattern. Pure: bytes in, struct or bytes out. It must never
 * believe a group's offsets, nor grow beyond the limit it is given.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_RESULT_H
#define JAILMAP_SERVER_AGENT_PATTERN_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/slice.h"
#include "server/text.h"

#define RESULT_GROUPS_MAX 65535u /* more than either pattern library has */

struct result_part {
    struct slice text; /* borrowed from the rule */
    unsigned group;    /* 0: the text itself */
};

struct result {
    struct result_part *parts;
    size_t count;
    unsigned highest; /* group that is named; 0: none is */
};

/* Where a group of the pattern was found in the key; start > end: it was not. */
struct span {
    size_t start, end;
};

/* The caller releases *result with result_free(), in both cases. False: why says what is wrong. */
bool result_parse(struct slice text, struct result *result, char *why, size_t len);
void result_free(struct result *result);

/* Writes the result into *value, whose memory is the caller's. groups: result->highest + 1 of them.
 * False: it would be longer than limit, or there is no memory for it. */
bool result_expand(const struct result *result, struct slice key, const struct span *groups,
                   size_t limit, struct text *value);

#endif
