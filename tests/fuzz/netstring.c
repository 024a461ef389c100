/*
 * Fuzz target netstring: netstrings, and the socketmap protocol on them, on any bytes, in any
 * pieces; and the names of such tables. Run by tests/fuzz/run; touches memory only. Input: one byte
 * for the longest payload, then what the server sends.
 */
#include "server/agent/net/netstring.h"

#include <stdlib.h>

#include "server/agent/net/protocol.h"
#include "server/host_name.h"
#include "tests/fuzz/common.h"

/* However much has come: more is wanted up to the last byte, and what is behind it is left. */
static void check_pieces(struct slice bytes, size_t most)
{
    enum netstring_result before = NETSTRING_MORE;
    size_t end = 0;

    for (size_t have = 0; have <= bytes.len; have++) {
        char *exact = exact_copy(bytes.ptr, have);
        struct slice payload;
        const char *why = NULL;
        size_t used = 0;
        enum netstring_result now =
            netstring_decode((struct slice){exact, have}, most, &payload, &used, &why);

        CHECK(before == NETSTRING_MORE || now == before, "%zu bytes change it", have);
        CHECK((now == NETSTRING_BAD) == (why != NULL), "the reason, at %zu bytes", have);
        CHECK(now != NETSTRING_MORE || have < NETSTRING_HEADER_MAX + most + 1,
              "more is wanted than %zu bytes", have);
        if (now == NETSTRING_WHOLE) {
            end = end == 0 ? have : end;
            CHECK(used == end && payload.len <= most && payload.ptr > exact &&
                      payload.ptr + payload.len + 1 == exact + used,
                  "a payload of %zu bytes in %zu", payload.len, used);
        }
        before = now;
        free(exact);
    }
}

/* What is put comes back. */
static void check_put(struct slice text)
{
    char *request = need_memory(text.len + NETSTRING_HEADER_MAX + 4);
    size_t len = net_socketmap.request(request, (struct slice)SLICE("m"), text), used;
    struct slice payload;
    const char *why;

    CHECK(netstring_decode((struct slice){request, len}, text.len + 2, &payload, &used, &why) ==
                  NETSTRING_WHOLE &&
              used == len && payload.len == text.len + 2 && memcmp(payload.ptr, "m ", 2) == 0 &&
              slice_same((struct slice){payload.ptr + 2, text.len}, text),
          "a request of %zu bytes", len);
    free(request);
}

static void check_reply(struct slice bytes)
{
    char *exact = exact_copy(bytes.ptr, bytes.len);
    struct net_reply reply;
    enum net_result result = net_socketmap.reply(exact, bytes.len, &reply);

    CHECK(result != NET_BAD || reply.why != NULL, "no reason");
    CHECK(result == NET_WHOLE || reply.status == ANSWER_RETRY, "an answer of no reply");
    if (result == NET_WHOLE) {
        CHECK(reply.used <= bytes.len && reply.status >= ANSWER_FOUND &&
                  reply.status <= ANSWER_CONFIG,
              "status %d", reply.status);
        CHECK(reply.status == ANSWER_FOUND || reply.value.len == 0, "a value of what is not found");
        CHECK(memchr(reply.value.len > 0 ? reply.value.ptr : "x", 0, reply.value.len) == NULL,
              "a value with a NUL");
        CHECK(reply.status != ANSWER_NOT_FOUND || reply.said.len >= 8, "not found, by what?");
    }
    free(exact);
}

static void check_name(struct slice bytes)
{
    char *exact = exact_copy(bytes.ptr, bytes.len);
    struct slice endpoint, map;
    struct host_name host;
    const char *why = NULL;

    if (net_socketmap.name((struct slice){exact, bytes.len}, &endpoint, &map, &why))
        CHECK(map.len > 0 && endpoint.len + 1 + map.len == bytes.len &&
                  host_name_parse(endpoint, &host, &why) &&
                  (host.local ? host.path.len > 0 && host.path.len < 108
                              : host.host.len > 0 && host.port.len > 0),
              "%.*s is a name", (int)bytes.len, bytes.ptr);
    else
        CHECK(why != NULL, "no reason");
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    size_t most = take_byte(&input);
    struct slice bytes = {(const char *)input.at, input.left};

    check_pieces(bytes, most);
    check_put(bytes);
    check_reply(bytes);
    check_name(bytes);
    return 0;
}
