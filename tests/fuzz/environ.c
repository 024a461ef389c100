/*
 * Fuzz target environ: the loader's source type environ, on the entries that the monitor passes.
 * Run by tests/fuzz/run; touches memory only. Input: the entries, each with a NUL behind it. What
 * is served, written in the same way, must be the input, also where two have one name.
 */
#include <stdlib.h>

#include "tests/fuzz/common.h"

static void check_again(const struct loaded *l, struct slice set)
{
    size_t at = 0;

    for (size_t i = 0; i < l->count; i++) {
        const struct record *r = &l->records[i];

        REQUIRE(set.len - at >= r->key.len + r->value.len + 2, "more than there was");
        CHECK(r->key.len > 0 && memcmp(set.ptr + at, r->key.ptr, r->key.len) == 0, "a name");
        at += r->key.len;
        CHECK(set.ptr[at++] == '=', "no sign behind a name");
        CHECK(r->value.len == 0 || memcmp(set.ptr + at, r->value.ptr, r->value.len) == 0,
              "a value");
        at += r->value.len;
        CHECK(set.ptr[at++] == '\0', "no end behind a value");
    }
    CHECK(at == set.len, "%zu bytes are not served", set.len - at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice set = {(const char *)data, size};
    struct loaded l = {0};

    load_name(&l, &source_environ, set);
    CHECK((l.rc == 0) == (l.source.why[0] == '\0'), "no reason, or one too many");
    CHECK(!l.has_default && l.source.ignored == 0, "a default, or something ignored");
    if (l.rc == 0)
        check_again(&l, set);
    expect_refusal(&source_environ, (struct slice){NULL, 0}, set, l.count);
    unload(&l);
    return 0;
}
