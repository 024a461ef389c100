/*
 * Fuzz target tcp_reply: the tcp_table protocol on any bytes, in any pieces; and the names of such
 * tables. Run by tests/fuzz/run; touches memory only. Input: what the server sends, or a key, or a
 * name. What a request quotes must be what comes back of it.
 */
#include <stdlib.h>

#include "server/agent/net/protocol.h"
#include "tests/fuzz/common.h"

static void check_whole(const struct net_reply *reply, const char *bytes, size_t end)
{
    const char *status = bytes;

    CHECK(reply->used == end + 1, "%zu bytes used, not %zu", reply->used, end + 1);
    CHECK(reply->status == (status[0] == '2'   ? ANSWER_FOUND
                            : status[0] == '5' ? ANSWER_NOT_FOUND
                                               : ANSWER_RETRY),
          "\"%.3s\" is status %d", status, reply->status);
    CHECK(reply->last == (status[0] == '4'), "whether it is the last");
    CHECK(reply->value.len <= end - 4 && memchr(reply->value.ptr, 0, reply->value.len) == NULL &&
              (reply->value.len == 0 || reply->status == ANSWER_FOUND),
          "a value of %zu bytes", reply->value.len);
}

static void check_pieces(struct slice bytes)
{
    const char *newline = memchr(bytes.ptr, '\n', bytes.len);
    size_t end = newline != NULL ? (size_t)(newline - bytes.ptr) : bytes.len;
    enum net_result whole = NET_MORE;

    for (size_t have = 0; have <= bytes.len; have++) {
        char *exact = exact_copy(bytes.ptr, have);
        struct net_reply reply;
        enum net_result now = net_tcp.reply(exact, have, &reply);

        CHECK((now == NET_MORE) == (have <= end), "%d at %zu bytes", now, have);
        CHECK(now == NET_MORE || whole == NET_MORE || now == whole, "%zu bytes change it", have);
        CHECK(now != NET_BAD || reply.why != NULL, "no reason");
        if (now == NET_WHOLE)
            check_whole(&reply, bytes.ptr, end);
        whole = now;
        free(exact);
    }
}

/* The quoted key, as the text of a reply, is the key up to its first NUL. */
static void check_quoting(struct slice key)
{
    char *request = need_memory(3 * key.len + 8);
    size_t len = net_tcp.request(request, (struct slice){NULL, 0}, key);
    struct net_reply reply;

    for (size_t i = 4; i < len - 1; i++)
        CHECK(request[i] > ' ' && request[i] <= '~', "byte %#x in a request", (unsigned)request[i]);
    CHECK(memcmp(request, "get ", 4) == 0 && request[len - 1] == '\n', "its frame");
    memcpy(request, "200 ", 4);
    if (len <= 4096) {
        CHECK(net_tcp.reply(request, len, &reply) == NET_WHOLE &&
                  slice_same(reply.value, (struct slice){key.ptr, strnlen(key.ptr, key.len)}),
              "a key of %zu bytes comes back with %zu", key.len, reply.value.len);
    }
    free(request);
}

static void check_name(struct slice bytes)
{
    char *exact = exact_copy(bytes.ptr, bytes.len);
    struct slice endpoint, map;
    const char *why = NULL;

    CHECK(net_tcp.name((struct slice){exact, bytes.len}, &endpoint, &map, &why)
              ? endpoint.ptr == exact && endpoint.len == bytes.len && map.len == 0
              : why != NULL,
          "a name of %zu bytes", bytes.len);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = {size > 0 ? (const char *)data : "", size};

    check_pieces(bytes);
    check_quoting(bytes);
    check_name(bytes);
    return 0;
}
