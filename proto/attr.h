/*
 * Attribute lists, the unit of exchange of the proxymap protocol: zero or more name NUL value NUL
 * pairs and one more NUL. Runs in the worker and in the jailmap tool. Pure: reads the bytes it is
 * given and writes the buffer it is given; must never do I/O, allocate, or keep state of its own.
 */
#ifndef JAILMAP_PROTO_ATTR_H
#define JAILMAP_PROTO_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

/*
 * Position in a list that arrives piecemeal. pos: where the next token begins; seen: how far the
 * search for its end has come, so that a list of n bytes costs O(n) however it is cut. Offsets are
 * from the start of the list, which may move in memory between calls.
 */
struct attr_scan {
    uint32_t pos;
    uint32_t seen;
};

/*
 * Takes the next NUL-terminated token. True: *token borrows it, without its NUL, and the scan has
 * moved past it. False: it is not complete in buf[0..len); call again with more.
 */
bool attr_next(struct attr_scan *scan, const char *buf, size_t len, struct slice *token);

/*
 * Passes over the rest of a list. *in_value says whether a value comes next (else a name). Returns
 * how many of the len bytes belong to the list; *ended tells whether its terminator was among them.
 */
size_t attr_skip(const char *buf, size_t len, bool *in_value, bool *in_token, bool *ended);

/*
 * Plain decimal, 0 to 4294967295, at least one digit, nothing else. Stricter than Postfix, which
 * also takes signs, leading blanks and overflow modulo 2^32; no client sends those.
 */
bool attr_number(struct slice text, uint32_t *number);

/* Append one attribute; return the new end. The caller has made room: name + value + 2 bytes. */
char *attr_put(char *end, const char *name, struct slice value);
/* The same for a number: name + 12 bytes. */
char *attr_put_number(char *end, const char *name, uint32_t number);

#endif
