/*
 * The form of inputs that the targets cidr, regexp and pcre share: keys, one a line, up to an empty
 * line, then a table; which is a name if it begins with a brace. And what holds for expressions of
 * either kind. Touches memory only.
 */
#ifndef JAILMAP_TESTS_FUZZ_PATTERN_INPUT_H
#define JAILMAP_TESTS_FUZZ_PATTERN_INPUT_H

#include <stdlib.h>

#include "server/agent/pattern/expr.h"
#include "server/agent/pattern/rules.h"
#include "tests/fuzz/common.h"

struct pattern_input {
    struct slice keys;
    struct rules rules; /* and in them the report */
};

static inline struct pattern_input pattern_input(const uint8_t *data, size_t size)
{
    static struct agent_report report;
    struct pattern_input in = {.keys = {(const char *)data, 0}};
    struct slice table = {(const char *)data, size};

    report = (struct agent_report){0};
    for (size_t i = 0; i + 1 < size; i++)
        if (data[i] == '\n' && data[i + 1] == '\n') {
            in.keys.len = i + 1;
            table = (struct slice){(const char *)data + i + 2, size - i - 2};
            break;
        }
    if (table.len == 0 || table.ptr[0] != '{') {
        struct text text = {exact_copy(table.ptr, table.len), table.len, table.len};

        rules_of_text(&in.rules, text, "/table", &report);
    } else if (!rules_of_name(&in.rules, table, &report)) {
        CHECK(report.text[0] != '\0', "a table is refused without a word");
        report.text[0] = '\0';
        report.ignored = 0;
    }
    return in;
}

static inline bool pattern_key(struct pattern_input *in, struct slice *key)
{
    const char *newline = in->keys.len > 0 ? memchr(in->keys.ptr, '\n', in->keys.len) : NULL;

    if (newline == NULL)
        return false;
    *key = (struct slice){in->keys.ptr, (size_t)(newline - in->keys.ptr)};
    in->keys = (struct slice){newline + 1, in->keys.len - key->len - 1};
    return true;
}

static inline void pattern_input_free(struct pattern_input *in)
{
    rules_free(&in->rules);
}

#define PATTERN_LIMIT 4096 /* bytes of a result */

/* Whatever is found is what is found again. */
static inline void pattern_check_key(struct expr_table *t, struct slice key)
{
    struct slice first = {"", 0}, again = {"", 0};
    enum expr_found found = expr_find(t, key, true, PATTERN_LIMIT, &first);
    char *copy = exact_copy(first.ptr, first.len);
    struct slice kept = {copy, first.len};

    CHECK(found != EXPR_FOUND || first.len <= PATTERN_LIMIT, "a result over the limit");
    CHECK(found != EXPR_FAILS || first.len > 0, "it fails without a reason");
    expr_find(t, key, false, PATTERN_LIMIT, &again);
    CHECK(expr_find(t, key, true, PATTERN_LIMIT, &again) == found && slice_same(kept, again),
          "another answer to the same key");
    free(copy);
}

static inline void pattern_check(const struct engine *engine, const uint8_t *data, size_t size)
{
    struct pattern_input in = pattern_input(data, size);
    struct expr_table *t = expr_parse(engine, &in.rules);
    struct slice key;

    REQUIRE(t != NULL, "out of memory");
    while (pattern_key(&in, &key))
        pattern_check_key(t, key);
    CHECK((in.rules.report->ignored == 0) == (in.rules.report->text[0] == '\0'),
          "what is ignored is not named");
    expr_free(t);
    pattern_input_free(&in);
}

#endif
