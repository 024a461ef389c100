/*
 * Which keys a table has at all: `max-key` and `keys` of jailmapd.conf(5). Read by the monitor,
 * that passes it on, and by those that keep to it: the loader, which leaves other entries out, the
 * worker and the agents, which look for no other key. Pure: touches its arguments only.
 */
#ifndef JAILMAP_POLICY_KEY_LIMIT_H
#define JAILMAP_POLICY_KEY_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

/* Travels in messages. All zero, it lets nothing pass but the empty key. */
struct key_limit {
    uint32_t max;        /* bytes of a key; 0: any number */
    uint8_t allowed[32]; /* a bit for each byte that may be in it, the lowest first */
};

/* Lets every key pass. */
extern const struct key_limit key_limit_none;

/*
 * Reads a character class as `keys` has it: characters, ranges such as a-z, and the escapes \xHH,
 * \\ and \-; a `-` in the first or last place is itself. ASCII letters stand for both cases,
 * because clients fold keys. False with the reason, and what is expected, in why.
 */
bool key_limit_parse(const char *class, uint8_t allowed[32], char *why, size_t len);

/* May a table with that limit have that key? */
bool key_limit_passes(const struct key_limit *limit, struct slice key);

#endif
