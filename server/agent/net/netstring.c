/*
 * Netstrings: see netstring.h. Runs in jailmap-agent-net, on what a server sends. It may touch only
 * its arguments.
 */
#include "server/agent/net/netstring.h"

#include <stdio.h>

enum netstring_result netstring_decode(struct slice bytes, size_t most, struct slice *payload,
                                       size_t *used, const char **why)
{
    size_t at = 0, len = 0;

    for (; at < bytes.len && bytes.ptr[at] != ':'; at++) {
        if (bytes.ptr[at] < '0' || bytes.ptr[at] > '9' || at + 1 == NETSTRING_HEADER_MAX) {
            *why = "a reply that is no netstring";
            return NETSTRING_BAD;
        }
        len = len * 10 + (size_t)(bytes.ptr[at] - '0');
        if (len > most) {
            *why = "a reply that is too long";
            return NETSTRING_BAD;
        }
    }
    if (at == bytes.len)
        return NETSTRING_MORE;
    if (at == 0) {
        *why = "a netstring without a length";
        return NETSTRING_BAD;
    }
    at++;
    if (bytes.len - at <= len)
        return NETSTRING_MORE;
    if (bytes.ptr[at + len] != ',') {
        *why = "a netstring that does not end in a comma";
        return NETSTRING_BAD;
    }
    *payload = (struct slice){bytes.ptr + at, len};
    *used = at + len + 1;
    return NETSTRING_WHOLE;
}

size_t netstring_header(char *out, size_t len)
{
    char text[NETSTRING_HEADER_MAX + 1];
    int n = snprintf(text, sizeof text, "%zu:", len);

    memcpy(out, text, (size_t)n);
    return (size_t)n;
}
