/*
 * Tests of policy/adopt: that a policy which follows another numbers its tables and listeners as
 * that one did, approves nothing by the exchange, and that every change is seen. Part of the unit
 * test program; touches nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/adopt.h"
#include "tests/unit/unit.h"

/*
 * A policy from a short text: listeners, tables, and what uid 5 may use, as letters: "ab|xyz|xz". A
 * capital letter has another option.
 */
static struct policy *policy_of(const char *sections)
{
    char text[4096], why[512];
    FILE *out = fmemopen(text, sizeof text, "w");
    const char *part = sections;
    struct policy *policy;

    fputs("user = \"2:2\"\nruntime-dir = \"/run/x\"\nlibexec-dir = \"/usr/x\"\n", out);
    for (; *part != '|'; part++)
        fprintf(out, "#line 1 1 0 \"f\"\nlisten \"/l/%c\" { mode = %s }\n", *part | 0x20,
                *part & 0x20 ? "0600" : "0666");
    for (part++; *part != '|'; part++)
        fprintf(out, "#line 1 1 0 \"f\"\ntable \"texthash:/t/%c\" { reveal = %s }\n", *part | 0x20,
                *part & 0x20 ? "all" : "existence");
    fputs("#line 1 1 5 \"f\"\nallow \"five\" { tables = {", out);
    for (part++; *part != '\0'; part++)
        fprintf(out, "\"texthash:/t/%c\", ", *part);
    fputs("} }\n", out);
    fclose(out);
    policy = policy_parse(text, strlen(text), why, sizeof why);
    REQUIRE(policy != NULL, "%s", why);
    return policy;
}

/* The names by place, "-" for what has gone: "ab|x-z", and what uid 5 may use: "|xz". */
static const char *places_of(const struct policy *p)
{
    static char text[256];
    size_t len = 0;

    for (size_t i = 0; i < p->nlistens; i++)
        text[len++] = p->listens[i].gone ? '-' : p->listens[i].path[3];
    text[len++] = '|';
    for (size_t i = 0; i < p->ntables; i++)
        text[len++] = p->tables[i].gone ? '-' : p->tables[i].name[12];
    text[len++] = '|';
    for (size_t i = 0; i < p->ntables; i++)
        if (p->allows[0].tables[i])
            text[len++] = p->tables[i].gone ? '!' : p->tables[i].name[12];
    text[len] = '\0';
    return text;
}

/* Each of the policies follows the one before. */
static void follow(const char *const *sections, const char *const *expected, size_t count)
{
    struct policy *old = policy_of(sections[0]);

    for (size_t i = 1; i < count; i++) {
        struct policy *new = policy_of(sections[i]);

        CHECK(policy_adopt(old, new), "no memory");
        CHECK_TEXT(places_of(new), expected[i], sections[i]);
        policy_free(old);
        old = new;
    }
    policy_free(old);
}

static void places_are_kept(void)
{
    static const char *const sections[] = {"ab|xyz|xz",  "ba|zyx|z", "b|y|y",         "cb|wy|wy",
                                           "cba|vwxy|v", "d|u|",     "abcd|uvwxyz|uz"};
    static const char *const expected[] = {
        "", "ab|xyz|z", "-b|-y-|y", "cb|wy-|wy", "cba|wyvx|v", "---d|----u|", "abcd|vwxyuz|uz"};

    follow(sections, expected, COUNT(sections));
}

/* What has gone in this step may still be in use: its place is taken in a later one. */
static void no_place_is_taken_at_once(void)
{
    static const char *const sections[] = {"a|x|x", "b|y|y", "c|z|z"};
    static const char *const expected[] = {"", "-b|-y|y", "c-|z-|z"};

    follow(sections, expected, COUNT(sections));
}

static void nothing_gone_is_approved(void)
{
    struct policy *old = policy_of("a|xyz|xyz"), *new = policy_of("a|y|y");
    const struct policy_peer five = {.uid = 5};
    size_t index;

    CHECK(policy_adopt(old, new), "no memory");
    CHECK(policy_decide(new, &five, text_slice("texthash:/t/x"), &index) == POLICY_DENY,
          "x is approved");
    CHECK(policy_decide(new, &five, text_slice(""), &index) == POLICY_DENY, "no name is approved");
    CHECK(policy_decide(new, &five, text_slice("texthash:/t/y"), &index) == POLICY_APPROVE &&
              index == 1,
          "y is not approved in its place");
    policy_free(old);
    policy_free(new);
}

static void changes_of(const char *a, const char *b, const char *expected)
{
    struct policy *old = policy_of(a), *new = policy_of(b);
    struct policy_changes c;
    char text[128];

    CHECK(policy_adopt(old, new), "no memory");
    c = policy_compare(old, new);
    snprintf(text, sizeof text, "+%u -%u ~%u, +%u -%u ~%u, +%u -%u", c.listens_added,
             c.listens_removed, c.listens_changed, c.tables_added, c.tables_removed,
             c.tables_changed, c.approvals_added, c.approvals_removed);
    CHECK_TEXT(text, expected, b);
    CHECK(policy_is_changed(&c) == (strpbrk(expected, "123456789") != NULL), "%s after %s", b, a);
    policy_free(old);
    policy_free(new);
}

static void changes_are_counted(void)
{
    changes_of("ab|xy|x", "ba|yx|x", "+0 -0 ~0, +0 -0 ~0, +0 -0");
    changes_of("ab|xy|x", "aBc|xy|x", "+1 -0 ~1, +0 -0 ~0, +0 -0");
    changes_of("ab|xy|x", "b|zX|xz", "+0 -1 ~0, +1 -1 ~1, +1 -0");
    changes_of("a|xyz|xyz", "a|xyz|", "+0 -0 ~0, +0 -0 ~0, +0 -3");
    changes_of("a|x|", "a|xyz|yz", "+0 -0 ~0, +2 -0 ~0, +2 -0");
}

/* Listeners /l/a, /l/b, ... as the letters are; tables x and y; and allow sections as written. */
static struct policy *policy_with(const char *listens, const char *allows)
{
    char text[4096], why[1024];
    FILE *out = fmemopen(text, sizeof text, "w");
    struct policy *policy;

    fputs("user = \"2:2\"\nruntime-dir = \"/run/x\"\nlibexec-dir = \"/usr/x\"\n", out);
    for (; *listens != '\0'; listens++)
        fprintf(out, "#line 1 1 0 \"f\"\nlisten \"/l/%c\" { mode = 0600 }\n", *listens);
    fputs("#line 1 1 0 \"f\"\ntable \"static:x\" { }\n", out);
    fputs("#line 1 1 0 \"f\"\ntable \"static:y\" { }\n", out);
    fputs(allows, out);
    fclose(out);
    policy = policy_parse(text, strlen(text), why, sizeof why);
    REQUIRE(policy != NULL, "%s", why);
    return policy;
}

#define USER   "#line 1 1 5 \"f\"\nallow \"five\" "
#define GROUP  "#line 1 1 5 \"f\"\nallow \"@five\" "
#define OTHER  "#line 1 1 6 \"f\"\nallow \"@six\" "
#define ANYONE "#line 1 1 0 \"f\"\nallow \"*\" "
#define ON_A   "listen = {\"/l/a\"} "
#define ON_B   "listen = {\"/l/b\"} "
#define X      "tables = {\"static:x\"}"
#define XY     "tables = {\"static:x\", \"static:y\"}"

static void approvals_are(const char *a, const char *b, unsigned added, unsigned removed)
{
    struct policy *old = policy_with("ab", a), *new = policy_with("ba", b);
    struct policy_changes c;

    CHECK(policy_adopt(old, new), "no memory");
    c = policy_compare(old, new);
    CHECK(c.approvals_added == added && c.approvals_removed == removed, "+%u -%u: %s to %s",
          c.approvals_added, c.approvals_removed, a, b);
    CHECK(policy_is_changed(&c) == (strcmp(a, b) != 0), "%s to %s", a, b);
    policy_free(old);
    policy_free(new);
}

/* An approval is of one table, on one listener, for the same user, or group, or anyone. */
static void approvals_have_a_key(void)
{
    approvals_are(USER "{ " ON_A X " }\n", USER "{ " ON_A X " }\n", 0, 0);
    approvals_are(USER "{ " ON_A X " }\n", USER "{ " ON_B X " }\n", 1, 1);
    approvals_are(USER "{ " X " }\n", USER "{ " ON_B X " }\n", 0, 1);
    approvals_are(USER "{ " X " }\n", GROUP "{ " X " }\n", 2, 2);
    approvals_are(GROUP "{ " X " }\n", OTHER "{ " X " }\n", 2, 2);
    approvals_are(GROUP "{ " X " }\n", GROUP "{ " XY " }\n", 2, 0);
    approvals_are(ANYONE "{ " XY " }\n", ANYONE "{ " X " }\n", 0, 2);
    approvals_are(ANYONE "{ " XY " }\n", USER "{ " XY " }\n", 4, 4);
}

static void listeners_of_sections_are_kept(void)
{
    struct policy *old = policy_with("ab", USER "{ " ON_B X " }\n");
    struct policy *new = policy_with("cb", USER "{ " ON_B X " }\n");
    size_t index;

    CHECK(policy_adopt(old, new), "no memory");
    for (size_t i = 0; i < new->nlistens; i++) {
        const struct policy_peer five = {.listener = i, .uid = 5};
        bool approved = policy_decide(new, &five, text_slice("static:x"), &index) == POLICY_APPROVE;

        CHECK(approved == (i == 1), "listener %zu", i);
    }
    CHECK(new->nlistens == 3 && policy_listeners(new) == 2, "%zu", policy_listeners(new));
    CHECK(new->ntables == 2 && policy_tables(new) == 2, "%zu", policy_tables(new));
    policy_free(old);
    policy_free(new);
}

static void groups_are(const char *a, const char *b, bool on_a, bool on_b)
{
    struct policy *old = policy_with("ab", a), *new = policy_with("ba", b);

    CHECK(policy_adopt(old, new), "no memory");
    CHECK(policy_asks_more_groups(old, new, 0) == on_a, "a: %s to %s", a, b);
    CHECK(policy_asks_more_groups(old, new, 1) == on_b, "b: %s to %s", a, b);
    policy_free(old);
    policy_free(new);
}

static void more_groups_are_noticed(void)
{
    groups_are(USER "{ }\n", GROUP "{ }\n", true, true);
    groups_are(USER "{ }\n", GROUP "{ " ON_A " }\n", true, false);
    groups_are(GROUP "{ }\n", GROUP "{ " ON_A X " }\n", false, false);
    groups_are(GROUP "{ " ON_A " }\n", GROUP "{ }\n", false, true);
    groups_are(GROUP "{ }\n", OTHER "{ }\n", true, true);
    groups_are(GROUP "{ }\n", ANYONE "{ }\n", false, false);
}

/* Every option of a table or listener that a process that runs can change, one at a time. */
static void every_option_counts(void)
{
#define TRY(array, member, value, kind, expected)                                                  \
    do {                                                                                           \
        struct policy *old = policy_of("a|x|x"), *new = policy_of("a|x|x");                        \
        new->array[0].member = (value);                                                            \
        CHECK(policy_##kind##_change(old, new, 0) == (expected), #member);                         \
        policy_free(old);                                                                          \
        policy_free(new);                                                                          \
    } while (0)
    TRY(tables, reveal, 1, table, POLICY_ANEW);
    TRY(tables, limit.max, 7, table, POLICY_ANEW);
    TRY(tables, limit.allowed[31], 7, table, POLICY_ANEW);
    TRY(tables, symlinks, true, table, POLICY_ANEW);
    TRY(tables, owner, 7, table, POLICY_ANEW);
    TRY(tables, load_time, 7, table, POLICY_TUNED);
    TRY(tables, load_memory, 7, table, POLICY_TUNED);
    TRY(tables, image_size, 7, table, POLICY_TUNED);
    TRY(tables, processes, 7, table, POLICY_TUNED);
    TRY(tables, timeout, 7, table, POLICY_TUNED);
    TRY(tables, queue, 7, table, POLICY_TUNED);
    TRY(tables, cache_ttl, 7, table, POLICY_TUNED);
    TRY(tables, negative_cache_ttl, 7, table, POLICY_TUNED);
    TRY(tables, cache_size, 7, table, POLICY_TUNED);
    TRY(tables, database, strdup("/d"), table, POLICY_ANEW);
    TRY(tables, place.line, 7, table, POLICY_SAME);
    TRY(listens, uid, 7, listen, POLICY_ANEW);
    TRY(listens, gid, 7, listen, POLICY_ANEW);
    TRY(listens, mode, 0640, listen, POLICY_ANEW);
    TRY(listens, backlog, 7, listen, POLICY_TUNED);
    TRY(listens, max_request, 7, listen, POLICY_TUNED);
    TRY(listens, max_pending, 7, listen, POLICY_TUNED);
    TRY(listens, request_timeout, 7, listen, POLICY_TUNED);
    TRY(listens, answer_timeout, 7, listen, POLICY_TUNED);
    TRY(listens, workers, 7, listen, POLICY_TUNED);
    TRY(listens, clients_per_worker, 7, listen, POLICY_TUNED);
    TRY(listens, max_use, 7, listen, POLICY_TUNED);
    TRY(listens, greeting, !new->listens[0].greeting, listen, POLICY_TUNED);
#undef TRY
}

static struct policy *parse(const char *tables)
{
    char text[2048], why[512];
    struct policy *policy;

    snprintf(text, sizeof text,
             "user = \"2:2\"\n#line 1 1 0 \"f\"\nlisten \"/l\" { }\n%s"
             "#line 1 1 5 \"f\"\nallow \"five\" { tables = {\"*\"} }\n",
             tables);
    policy = policy_parse(text, strlen(text), why, sizeof why);
    REQUIRE(policy != NULL, "%s", why);
    return policy;
}

/* What `set` and `database` say is what the table holds. */
static void contents_count(void)
{
    static const struct {
        const char *a, *b;
        enum policy_change change;
    } rows[] = {
        {"table \"environ:e\" { set = {\"A=b\", \"C=d\"} }\n",
         "table \"environ:e\" { set = {\"A=b\", \"C=d\"} }\n", POLICY_SAME},
        {"table \"environ:e\" { set = {\"A=b\", \"C=d\"} }\n",
         "table \"environ:e\" { set = {\"A=b\", \"C=e\"} }\n", POLICY_ANEW},
        {"table \"environ:e\" { set = {\"A=b\", \"C=d\"} }\n",
         "table \"environ:e\" { set = {\"A=b\"} }\n", POLICY_ANEW},
        {"table \"environ:e\" { }\n", "table \"environ:e\" { set = {\"A=b\"} }\n", POLICY_ANEW},
        {"table \"sqlite:/l\" { database = \"/a\" }\n",
         "table \"sqlite:/l\" { database = \"/a\" }\n", POLICY_SAME},
        {"table \"sqlite:/l\" { database = \"/a\" }\n",
         "table \"sqlite:/l\" { database = \"/b\" }\n", POLICY_ANEW},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy *old = parse(rows[i].a), *new = parse(rows[i].b);

        CHECK(policy_table_change(old, new, 0) == rows[i].change, "%s and %s", rows[i].a,
              rows[i].b);
        policy_free(old);
        policy_free(new);
    }
}

/* The members of a composite are numbers of tables, which have other places then. */
static void members_are_kept(void)
{
    struct policy *old = parse("table \"hash:/x\" { }\ntable \"hash:/b\" { }\n"
                               "table \"unionmap:{hash:/a, hash:/b}\" { }\n"
                               "table \"hash:/a\" { }\n");
    struct policy *new = parse("table \"unionmap:{hash:/a, hash:/b}\" { }\n"
                               "table \"pipemap:{hash:/b, unionmap:{hash:/a, hash:/b}}\" { }\n"
                               "table \"hash:/a\" { }\ntable \"hash:/b\" { }\n");

    REQUIRE(policy_adopt(old, new), "no memory");
    REQUIRE(new->ntables == 5 && new->tables[0].gone, "%zu tables", new->ntables);
    REQUIRE(new->tables[2].nmembers == 2 && new->tables[4].nmembers == 2, "members");
    CHECK(new->tables[2].members[0] == 3 && new->tables[2].members[1] == 1, "of unionmap");
    CHECK(new->tables[4].members[0] == 1 && new->tables[4].members[1] == 2, "of pipemap");
    CHECK(policy_table_flags(new, 4) == 16 && policy_table_flags(new, 0) == 28, "flags");
    policy_free(old);
    policy_free(new);
    old = parse("table \"hash:/a\" { }\ntable \"unionmap:{hash:/a}\" { }\n");
    new = parse("table \"hash:/a\" { }\n");
    REQUIRE(policy_adopt(old, new) && new->ntables == 2, "no memory");
    CHECK(new->tables[1].gone &&policy_table_flags(new, 1) == 0, "flags of what has gone");
    policy_free(old);
    policy_free(new);
}

static void needs_a_restart(void)
{
    struct policy *old = policy_of("a|x|x"), *new = policy_of("b|y|y");

    CHECK(policy_needs_restart(old, new) == NULL, "without a change of such an option");
    new->uid = 3;
    CHECK_TEXT(policy_needs_restart(old, new), "user", "uid");
    new->uid = old->uid;
    new->gid = 3;
    CHECK_TEXT(policy_needs_restart(old, new), "user", "gid");
    new->gid = old->gid;
    new->strict = !old->strict;
    CHECK_TEXT(policy_needs_restart(old, new), "sandbox", "sandbox");
    new->strict = old->strict;
    new->runtime_dir[1]++;
    CHECK_TEXT(policy_needs_restart(old, new), "runtime-dir", "runtime-dir");
    new->runtime_dir[1]--;
    new->libexec_dir[1]++;
    CHECK_TEXT(policy_needs_restart(old, new), "libexec-dir", "libexec-dir");
    policy_free(old);
    policy_free(new);
}

static const struct unit_test tests[] = {
    {"tables and listeners keep their places, and free ones are used again", places_are_kept},
    {"a place is not used again in the step that frees it", no_place_is_taken_at_once},
    {"what has gone is approved to nobody", nothing_gone_is_approved},
    {"changes are counted, and an order of sections is none", changes_are_counted},
    {"an approval is of a section, a listener and a table", approvals_have_a_key},
    {"sections keep their listeners", listeners_of_sections_are_kept},
    {"groups that are asked for in addition are noticed", more_groups_are_noticed},
    {"every option counts as the change that it is", every_option_counts},
    {"set and database are what a table holds", contents_count},
    {"composites keep their members", members_are_kept},
    {"what needs a restart is named", needs_a_restart},
};

const struct unit_suite adopt_suite = {"adopt", tests, COUNT(tests), false, NULL, NULL};
