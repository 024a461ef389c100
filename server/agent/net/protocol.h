/*
 * What socketmap and tcp tables have in common: a name that says where their server is, one request
 * and one reply at a time. Pure. Used by jailmap-agent-net. It may touch only its arguments.
 */
#ifndef JAILMAP_SERVER_AGENT_NET_PROTOCOL_H
#define JAILMAP_SERVER_AGENT_NET_PROTOCOL_H

#include <stdbool.h>

#include "privsep/messages.h"
#include "proto/slice.h"

struct net_reply {
    enum bridge_answer status;
    struct slice value; /* borrowed, and for ANSWER_FOUND only */
    struct slice said;  /* borrowed: the server's own words, for others */
    size_t used;        /* bytes of the reply */
    bool last;          /* the connection is not to be used again */
    const char *why;    /* of NET_BAD: a constant text that says what came */
};

enum net_result { NET_WHOLE, NET_MORE, NET_BAD };

struct net_protocol {
    const char *type;     /* of the table */
    const char *expected; /* what the name must be, for a message */
    const char *scheme;   /* what stands before an endpoint, if the name does not say it */
    /* Splits the name. Both are borrowed from it. On false *why is a constant text. */
    bool (*name)(struct slice name, struct slice *endpoint, struct slice *map, const char **why);
    /* Puts the request, at most NET_REQUEST_MAX bytes. Returns how many. */
    size_t (*request)(char *out, struct slice map, struct slice key);
    /* The reply with which the bytes begin, which may be changed in place. Never NET_MORE on
     * NET_REPLY_MAX bytes. */
    enum net_result (*reply)(char *bytes, size_t len, struct net_reply *reply);
};

#define NET_REQUEST_MAX (3 * BRIDGE_DATA_MAX + BRIDGE_NAME_MAX + 64)
#define NET_REPLY_MAX   (100000 + 64)

extern const struct net_protocol net_socketmap;
extern const struct net_protocol net_tcp;

#endif
