/*
 * Netstrings, LENGTH ":" BYTES ",": pure. Used by jailmap-agent-net for socketmap tables. It may
 * touch only its arguments.
 */
#ifndef JAILMAP_SERVER_AGENT_NET_NETSTRING_H
#define JAILMAP_SERVER_AGENT_NET_NETSTRING_H

#include "proto/slice.h"

#define NETSTRING_HEADER_MAX 24 /* bytes of a length and its colon */

enum netstring_result { NETSTRING_WHOLE, NETSTRING_MORE, NETSTRING_BAD };

/*
 * The netstring with which bytes begin. WHOLE: *payload is borrowed from bytes, and *used of them
 * were it all. MORE: it is right as far as it goes. BAD: it is none, or its payload is longer than
 * most; *why is a constant text. No more than NETSTRING_HEADER_MAX + most + 1 bytes are ever MORE.
 * A length may begin with zeros, as Postfix lets it.
 */
enum netstring_result netstring_decode(struct slice bytes, size_t most, struct slice *payload,
                                       size_t *used, const char **why);

/* Puts length and colon of a payload of that size, at most NETSTRING_HEADER_MAX bytes. Returns how
 * many. */
size_t netstring_header(char *out, size_t len);

#endif
