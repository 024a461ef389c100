/*
 * The socketmap protocol, as Postfix speaks it (socketmap_table(5)): a netstring each way. Runs in
 * jailmap-agent-net, on what a server sends. It may touch only its arguments.
 */
#include "server/agent/net/netstring.h"
#include "server/agent/net/protocol.h"
#include "server/host_name.h"

#define REPLY_MAX 100000 /* bytes of a payload */

/* The map is what stands behind the last colon, whatever there is in front. */
static bool split_name(struct slice name, struct slice *endpoint, struct slice *map,
                       const char **why)
{
    const char *colon = name.len > 0 ? memrchr(name.ptr, ':', name.len) : NULL;
    struct host_name host;

    if (colon == NULL) {
        *why = "it begins with neither unix: nor inet:";
        return false;
    }
    *endpoint = (struct slice){name.ptr, (size_t)(colon - name.ptr)};
    *map = (struct slice){colon + 1, name.len - endpoint->len - 1};
    if (!host_name_parse(*endpoint, &host, why))
        return false;
    *why = "there is no name of a map";
    return map->len > 0;
}

/* LENGTH ":" MAP " " KEY "," */
static size_t put_request(char *out, struct slice map, struct slice key)
{
    char *at = out + netstring_header(out, map.len + 1 + key.len);

    memcpy(at, map.ptr, map.len);
    at += map.len;
    *at++ = ' ';
    if (key.len > 0)
        memcpy(at, key.ptr, key.len);
    at += key.len;
    *at++ = ',';
    return (size_t)(at - out);
}

/*
 * STATUS [" " text], up to the first NUL: that is where Postfix's strings end. "OK" alone is an
 * empty value, as in the releases of 2026, and older ones take it for NOTFOUND.
 */
static void understand(struct slice payload, struct net_reply *reply)
{
    static const struct {
        const char *word;
        enum bridge_answer status;
    } words[] = {{"OK", ANSWER_FOUND},
                 {"NOTFOUND", ANSWER_NOT_FOUND},
                 {"TEMP", ANSWER_RETRY},
                 {"TIMEOUT", ANSWER_RETRY},
                 {"PERM", ANSWER_CONFIG}};
    struct slice text = {payload.ptr, strnlen(payload.ptr, payload.len)}, word = text;
    const char *space = memchr(text.ptr, ' ', text.len);

    if (space != NULL)
        word.len = (size_t)(space - text.ptr);
    reply->status = ANSWER_RETRY;
    reply->said = text;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (slice_is(word, words[i].word))
            reply->status = words[i].status;
    if (reply->status == ANSWER_FOUND)
        reply->value = space != NULL ? (struct slice){space + 1, text.len - word.len - 1}
                                     : (struct slice)SLICE("");
}

static enum net_result take_reply(char *bytes, size_t len, struct net_reply *reply)
{
    struct slice payload;

    *reply = (struct net_reply){.status = ANSWER_RETRY};
    switch (netstring_decode((struct slice){bytes, len}, REPLY_MAX, &payload, &reply->used,
                             &reply->why)) {
    case NETSTRING_WHOLE:
        understand(payload, reply);
        return NET_WHOLE;
    case NETSTRING_MORE:
        return NET_MORE;
    case NETSTRING_BAD:
        break;
    }
    return NET_BAD;
}

const struct net_protocol net_socketmap = {.type = "socketmap",
                                           .expected = "inet:HOST:PORT:MAP or unix:/PATH:MAP",
                                           .scheme = "",
                                           .name = split_name,
                                           .request = put_request,
                                           .reply = take_reply};
