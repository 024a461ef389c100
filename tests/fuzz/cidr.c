/*
 * Fuzz target cidr: a table of networks and keys for it, as jailmap-agent-pattern takes them. Run
 * by tests/fuzz/run; touches memory only. Input: keys, one a line, up to an empty line, then the
 * table. The index must give what the rules give in turn, at the bounds of every rule and for every
 * key.
 */
#include <arpa/inet.h>
#include <stdlib.h>

#include "server/agent/pattern/cidr.h"
#include "tests/fuzz/common.h"
#include "tests/fuzz/pattern_input.h"

static void check_key(const struct cidr_table *t, struct slice key)
{
    struct slice a = {"", 0}, b = {"", 0};
    bool found = cidr_find(t, key, &a);

    CHECK(found == cidr_find_in_turn(t, key, &b) && a.ptr == b.ptr && a.len == b.len,
          "\"%.*s\": the index gives another rule", (int)key.len, key.ptr);
    CHECK(!found || a.len > 0, "a rule without a result");
}

static void check_address(const struct cidr_table *t, enum cidr_family family, cidr_number address)
{
    unsigned char bytes[16];
    size_t len = family == CIDR_IPV4 ? 4 : 16;
    char text[INET6_ADDRSTRLEN];

    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(address >> 8 * (len - 1 - i));
    REQUIRE(inet_ntop(family == CIDR_IPV4 ? AF_INET : AF_INET6, bytes, text, sizeof text) != NULL,
            "no address");
    check_key(t, text_slice(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pattern_input in = pattern_input(data, size);
    struct cidr_table t;
    struct slice key;

    REQUIRE(cidr_parse(&t, &in.rules), "out of memory");
    for (size_t i = 0; i < t.count; i++) {
        const struct cidr_rule *r = &t.rules[i];

        if (r->kind == CIDR_ENDIF)
            continue;
        check_address(&t, r->family, r->low);
        check_address(&t, r->family, r->high);
        check_address(&t, r->family, (r->low - 1) & cidr_highest(r->family));
        check_address(&t, r->family, (r->high + 1) & cidr_highest(r->family));
    }
    while (pattern_key(&in, &key))
        check_key(&t, key);
    CHECK((in.rules.report->ignored == 0) == (in.rules.report->text[0] == '\0'),
          "what is ignored is not named");
    cidr_free(&t);
    pattern_input_free(&in);
    return 0;
}
