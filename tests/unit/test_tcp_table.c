/*
 * Tests of the tcp_table protocol: names, quoted requests, every reply, however it is cut. Part of
 * the unit test program; touches nothing else.
 */
#include <stdlib.h>

#include "server/agent/net/protocol.h"
#include "tests/unit/unit.h"

/* As seen with Postfix 3.7's postmap -q; | is a NUL. */
static void replies(void)
{
    static const struct {
        const char *line;
        enum bridge_answer status; /* 0: none */
        const char *value;
    } rows[] = {
        {"200 v\n", ANSWER_FOUND, "v"},
        {"200\tv\n", ANSWER_FOUND, "v"},
        {"200\vv\n", ANSWER_FOUND, "v"},
        {"200 \n", ANSWER_FOUND, ""},
        {"200\r\n", ANSWER_FOUND, ""}, /* the carriage return is the separator */
        {"200  v w \n", ANSWER_FOUND, " v w "},
        {"299 v\n", ANSWER_FOUND, "v"},
        {"200 a\r\n", ANSWER_FOUND, "a\r"},
        {"200 %41%4a%4A\n", ANSWER_FOUND, "AJJ"},
        {"200 %25%20%0A\n", ANSWER_FOUND, "% \n"},
        {"200 \xc3\xa9\n", ANSWER_FOUND, "\xc3\xa9"},
        {"200 a%00b\n", ANSWER_FOUND, "a"},
        {"200 a|b%zz\n", ANSWER_FOUND, "a"},
        {"200 v\n300 x\n", ANSWER_FOUND, "v"},
        {"500 no\n", ANSWER_NOT_FOUND, ""},
        {"500 \n", ANSWER_NOT_FOUND, ""},
        {"500\r\n", ANSWER_NOT_FOUND, ""},
        {"599 %41\n", ANSWER_NOT_FOUND, ""},
        {"400 later\n", ANSWER_RETRY, ""},
        {"500 %zz\n", 0, ""},
        {"200 %4\n", 0, ""},
        {"200 %\n", 0, ""},
        {"200 %g0\n", 0, ""},
        {"200\n", 0, ""},
        {"500\n", 0, ""},
        {"50\n", 0, ""},
        {"\n", 0, ""},
        {"2000 v\n", 0, ""},
        {"200-v\n", 0, ""},
        {"200|v\n", 0, ""},
        {" 200 v\n", 0, ""},
        {"300 v\n", 0, ""},
        {"100 v\n", 0, ""},
        {"2x0 v\n", 0, ""},
        {"ok\n", 0, ""},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire line = wire(rows[i].line);
        size_t whole = strcspn(rows[i].line, "\n") + 1;
        struct net_reply reply;
        char *exact;

        for (size_t cut = 0; cut < whole; cut++) {
            exact = exact_copy(line.bytes, cut);
            CHECK(net_tcp.reply(exact, cut, &reply) == NET_MORE, "row %zu, %zu bytes", i, cut);
            free(exact);
        }
        exact = exact_copy(line.bytes, line.len);
        CHECK(net_tcp.reply(exact, line.len, &reply) == (rows[i].status != 0 ? NET_WHOLE : NET_BAD),
              "row %zu: %s", i, rows[i].line);
        if (rows[i].status != 0)
            CHECK(reply.status == rows[i].status && slice_is(reply.value, rows[i].value) &&
                      reply.used == whole && reply.last == (reply.status == ANSWER_RETRY),
                  "row %zu: status %d, value \"%.*s\"", i, reply.status, (int)reply.value.len,
                  reply.value.ptr);
        else
            CHECK(reply.why != NULL, "row %zu without a reason", i);
        free(exact);
    }
}

static void longest(void)
{
    char line[4097];
    struct net_reply reply;

    memset(line, 'x', sizeof line);
    memcpy(line, "200 ", 4);
    CHECK(net_tcp.reply(line, 4095, &reply) == NET_MORE, "4095 bytes, and no end");
    CHECK(net_tcp.reply(line, 4096, &reply) == NET_BAD, "4096 bytes, and no end");
    line[4095] = '\n';
    CHECK(net_tcp.reply(line, 4096, &reply) == NET_WHOLE && reply.value.len == 4091,
          "4096 bytes with their end");
    line[4095] = 'x';
    line[4096] = '\n';
    CHECK(net_tcp.reply(line, 4097, &reply) == NET_BAD, "4097 bytes with their end");
}

static void requests(void)
{
    static const struct {
        const char *key;
        size_t len;
        const char *request;
    } rows[] = {
        {"key", 3, "get key\n"},
        {"", 0, "get \n"},
        {"a b%\tc\xc3\xa9~\x7f", 10, "get a%20b%25%09c%C3%A9~%7F\n"},
        {"A+/@!", 5, "get A+/@!\n"},
        {"\0\n\xff", 3, "get %00%0A%FF\n"},
    };
    char *out = need_memory(NET_REQUEST_MAX), *key = need_memory(BRIDGE_DATA_MAX);

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t len = net_tcp.request(out, text_slice(""), (struct slice){rows[i].key, rows[i].len});

        CHECK(slice_is((struct slice){out, len}, rows[i].request), "row %zu: %.*s", i, (int)len,
              out);
    }
    memset(key, '%', BRIDGE_DATA_MAX);
    CHECK(net_tcp.request(out, text_slice(""), (struct slice){key, BRIDGE_DATA_MAX}) ==
              5 + 3 * BRIDGE_DATA_MAX,
          "the longest key");
    free(key);
    free(out);
}

static void names(void)
{
    struct slice endpoint, map;
    const char *why = NULL;

    CHECK(net_tcp.name(text_slice("host:25"), &endpoint, &map, &why) &&
              slice_is(endpoint, "host:25") && map.len == 0,
          "host:25");
    CHECK(!net_tcp.name(text_slice("host"), &endpoint, &map, &why), "host");
    CHECK_TEXT(why, "there is no port", "host");
    CHECK(!net_tcp.name(text_slice("unix:/run/map"), &endpoint, &map, &why) && why != NULL,
          "unix:/run/map");
}

static const struct unit_test tests[] = {
    {"each reply and what it means", replies},
    {"the longest line", longest},
    {"keys are quoted, up to the longest", requests},
    {"names", names},
};

const struct unit_suite tcp_table_suite = {
    .name = "tcp_table", .tests = tests, .ntests = COUNT(tests)};
