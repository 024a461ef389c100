/*
 * Tests of netstrings and of the socketmap protocol on them: names, requests, every reply, however
 * it is cut. Part of the unit test program; touches nothing else.
 */
#include "server/agent/net/netstring.h"

#include <stdlib.h>

#include "server/agent/net/protocol.h"
#include "tests/unit/unit.h"

#define MOST 100000

static void whole(void)
{
    static const struct {
        const char *bytes, *payload;
        size_t used;
    } rows[] = {
        {"0:,", "", 3},
        {"4:OK v,", "OK v", 7},
        {"4:OK v,more", "OK v", 7},
        {"3::,,,", ":,,", 6},
        {"0004:OK v,", "OK v", 10}, /* Postfix lets a length begin with zeros */
        {"00000000000000000000000:,", "", 25},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t len = strlen(rows[i].bytes), used = 0;
        char *exact = exact_copy(rows[i].bytes, len);
        struct slice payload = {NULL, 0};
        const char *why = NULL;

        CHECK(netstring_decode((struct slice){exact, len}, MOST, &payload, &used, &why) ==
                      NETSTRING_WHOLE &&
                  slice_is(payload, rows[i].payload) && used == rows[i].used,
              "row %zu: %zu bytes used", i, used);
        free(exact);
        for (size_t cut = 0; cut < rows[i].used; cut++) {
            exact = exact_copy(rows[i].bytes, cut);
            CHECK(netstring_decode((struct slice){exact, cut}, MOST, &payload, &used, &why) ==
                      NETSTRING_MORE,
                  "row %zu, %zu bytes", i, cut);
            free(exact);
        }
    }
}

static void bad(void)
{
    static const struct {
        const char *bytes, *why;
    } rows[] = {
        {":OK v,", "a netstring without a length"},
        {"4:OK vX", "a netstring that does not end in a comma"},
        {"100001:", "a reply that is too long"},
        {"100001", "a reply that is too long"},
        {"99999999999999999999999999", "a reply that is too long"},
        {"18446744073709551617:x,", "a reply that is too long"},
        {" 4:OK v,", "a reply that is no netstring"},
        {"+4:OK v,", "a reply that is no netstring"},
        {"-4:OK v,", "a reply that is no netstring"},
        {"4 :OK v,", "a reply that is no netstring"},
        {"4,OK v,", "a reply that is no netstring"},
        {"0x4:OK v,", "a reply that is no netstring"},
        {"x", "a reply that is no netstring"},
        {"000000000000000000000000:,", "a reply that is no netstring"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t len = strlen(rows[i].bytes), used;
        char *exact = exact_copy(rows[i].bytes, len);
        struct slice payload;
        const char *why = "nothing";

        CHECK(netstring_decode((struct slice){exact, len}, MOST, &payload, &used, &why) ==
                  NETSTRING_BAD,
              "row %zu", i);
        CHECK_TEXT(why, rows[i].why, rows[i].bytes);
        free(exact);
    }
}

static void longest(void)
{
    size_t len = MOST + 8, used;
    char *bytes = need_memory(len);
    struct slice payload;
    const char *why;

    memcpy(bytes, "100000:", 7);
    memset(bytes + 7, 'x', MOST);
    bytes[len - 1] = ',';
    CHECK(netstring_decode((struct slice){bytes, len}, MOST, &payload, &used, &why) ==
                  NETSTRING_WHOLE &&
              payload.len == MOST && used == len,
          "a payload of 100000 bytes");
    CHECK(netstring_decode((struct slice){bytes, len - 1}, MOST, &payload, &used, &why) ==
              NETSTRING_MORE,
          "without its comma");
    CHECK(netstring_decode((struct slice){bytes, len}, MOST - 1, &payload, &used, &why) ==
              NETSTRING_BAD,
          "where less is the most");
    free(bytes);
}

static void headers(void)
{
    char out[NETSTRING_HEADER_MAX];

    CHECK(netstring_header(out, 0) == 2 && memcmp(out, "0:", 2) == 0, "0");
    CHECK(netstring_header(out, 270000) == 7 && memcmp(out, "270000:", 7) == 0, "270000");
    CHECK(netstring_header(out, SIZE_MAX) == 21, "the largest number");
}

/* What Postfix 3.7 makes of each was seen with postmap -q, but for "OK" alone, which newer releases
 * take for an empty value. */
static void replies(void)
{
    static const struct {
        const char *payload; /* | is a NUL */
        enum bridge_answer status;
        const char *value, *said;
    } rows[] = {
        {"OK v", ANSWER_FOUND, "v", ""},
        {"OK  v ", ANSWER_FOUND, " v ", ""},
        {"OK ", ANSWER_FOUND, "", ""},
        {"OK", ANSWER_FOUND, "", ""},
        {"OK a|b", ANSWER_FOUND, "a", ""},
        {"OK|x v", ANSWER_FOUND, "", ""},
        {"NOTFOUND", ANSWER_NOT_FOUND, "", "NOTFOUND"},
        {"NOTFOUND x y", ANSWER_NOT_FOUND, "", "NOTFOUND x y"},
        {"TEMP", ANSWER_RETRY, "", "TEMP"},
        {"TEMP x", ANSWER_RETRY, "", "TEMP x"},
        {"TIMEOUT x", ANSWER_RETRY, "", "TIMEOUT x"},
        {"PERM", ANSWER_CONFIG, "", "PERM"},
        {"PERM x", ANSWER_CONFIG, "", "PERM x"},
        {"ok v", ANSWER_RETRY, "", "ok v"},
        {"OK\tv", ANSWER_RETRY, "", "OK\tv"},
        {" OK v", ANSWER_RETRY, "", " OK v"},
        {"NOTFOUND\tx", ANSWER_RETRY, "", "NOTFOUND\tx"},
        {"NOTFOUNDS", ANSWER_RETRY, "", "NOTFOUNDS"},
        {"", ANSWER_RETRY, "", ""},
        {"|", ANSWER_RETRY, "", ""},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire payload = wire(rows[i].payload);
        char frame[256], *exact;
        size_t len = netstring_header(frame, payload.len);
        struct net_reply reply;

        memcpy(frame + len, payload.bytes, payload.len);
        len += payload.len;
        frame[len++] = ',';
        exact = exact_copy(frame, len);
        CHECK(net_socketmap.reply(exact, len, &reply) == NET_WHOLE && reply.used == len &&
                  !reply.last && reply.status == rows[i].status &&
                  slice_is(reply.value, rows[i].value),
              "\"%s\": status %d", rows[i].payload, reply.status);
        CHECK(rows[i].status == ANSWER_FOUND || slice_is(reply.said, rows[i].said), "\"%s\": said",
              rows[i].payload);
        CHECK(net_socketmap.reply(exact, len - 1, &reply) == NET_MORE, "row %zu, cut", i);
        free(exact);
    }
}

static void socketmap_requests(void)
{
    char *out = need_memory(NET_REQUEST_MAX), *key = need_memory(BRIDGE_DATA_MAX);
    char name[BRIDGE_NAME_MAX];
    size_t len = net_socketmap.request(out, text_slice("mymap"), text_slice("ok"));

    CHECK(len == 11 && memcmp(out, "8:mymap ok,", 11) == 0, "%.*s", (int)len, out);
    len = net_socketmap.request(out, text_slice("m"), (struct slice){NULL, 0});
    CHECK(len == 5 && memcmp(out, "2:m ,", 5) == 0, "%.*s", (int)len, out);
    memset(key, 'k', BRIDGE_DATA_MAX);
    memset(name, 'm', sizeof name);
    len = net_socketmap.request(out, (struct slice){name, sizeof name},
                                (struct slice){key, BRIDGE_DATA_MAX});
    CHECK(len == 7 + sizeof name + 1 + BRIDGE_DATA_MAX + 1 && out[len - 1] == ',', "%zu", len);
    free(key);
    free(out);
}

static void names(void)
{
    static const struct {
        const char *name, *endpoint, *map, *why;
    } rows[] = {
        {"inet:host:25:map", "inet:host:25", "map", NULL},
        {"inet:[::1]:smtp:a b", "inet:[::1]:smtp", "a b", NULL},
        {"unix:/run/map:map", "unix:/run/map", "map", NULL},
        {"unix:/run/a:b:map", "unix:/run/a:b", "map", NULL},
        {"inet:host:25:", NULL, NULL, "there is no name of a map"},
        {"inet:host:25", NULL, NULL, "there is no port"},
        {"unix:/run/map", NULL, NULL, "it begins with neither unix: nor inet:"},
        {"unix:run/map:map", NULL, NULL, "the path does not begin with /"},
        {"map", NULL, NULL, "it begins with neither unix: nor inet:"},
        {"", NULL, NULL, "it begins with neither unix: nor inet:"},
        {":", NULL, NULL, "it begins with neither unix: nor inet:"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = exact_copy(rows[i].name, strlen(rows[i].name));
        struct slice name = {exact, strlen(rows[i].name)}, endpoint, map;
        const char *why = NULL;
        bool good = net_socketmap.name(name, &endpoint, &map, &why);

        CHECK(good == (rows[i].why == NULL), "%s", rows[i].name);
        if (good)
            CHECK(slice_is(endpoint, rows[i].endpoint) && slice_is(map, rows[i].map), "%s",
                  rows[i].name);
        else
            CHECK_TEXT(why, rows[i].why, rows[i].name);
        free(exact);
    }
}

static const struct unit_test tests[] = {
    {"a netstring is whole only when its last byte is there", whole},
    {"what is no netstring is refused, and as soon as that is clear", bad},
    {"the longest payload, and one byte more than what is the most", longest},
    {"headers", headers},
    {"socketmap: each reply and what it means", replies},
    {"socketmap: requests, up to the longest", socketmap_requests},
    {"socketmap: names", names},
};

const struct unit_suite netstring_suite = {
    .name = "netstring", .tests = tests, .ntests = COUNT(tests)};
