/*
 * Tests of server/agent/query/plan: queries and results are made as Postfix 3.7.11 makes them, as
 * seen with `postmap -q` and echoing queries. Part of the unit test program; makes anonymous files.
 */
#include "server/agent/query/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static struct agent_report report;

static struct plan *read_plan(const char *text, enum table_type type)
{
    int fd = memfd_create("cf", MFD_CLOEXEC);
    size_t len = strlen(text);
    struct params *params;
    struct plan *plan;

    REQUIRE(fd >= 0 && write(fd, text, len) == (ssize_t)len, "no file: %s", strerror(errno));
    report = (struct agent_report){0};
    params = params_read("/t.cf", fd, &report);
    close(fd);
    REQUIRE(params != NULL, "\"%s\": %s", text, report.text);
    plan = plan_read(params, type);
    if (plan != NULL)
        params_finish(params);
    params_free(params);
    return plan;
}

static struct plan *good_plan(const char *text)
{
    struct plan *plan = read_plan(text, TYPE_SQLITE);

    REQUIRE(plan != NULL, "\"%s\": %s", text, report.text);
    return plan;
}

static void refuse(const char *text, const char *why)
{
    struct plan *plan = read_plan(text, TYPE_SQLITE);

    CHECK(plan == NULL, "\"%s\" is taken", text);
    CHECK_TEXT(report.text, why, text);
    plan_free(plan);
}

/* In place of a back end's: brackets around what it was given. */
static bool brackets(void *arg, struct slice in, struct text *out)
{
    (void)arg;
    return text_append(out, (struct slice){"<", 1}) == 0 && text_append(out, in) == 0 &&
           text_append(out, (struct slice){">", 1}) == 0;
}

static bool refusing(void *arg, struct slice in, struct text *out)
{
    (void)arg, (void)in, (void)out;
    return false;
}

/* sql NULL: nothing is asked. */
static void asks_of(struct plan *plan, const char *key, const char *sql, const char *about)
{
    char *copy = exact_copy(key, strlen(key));
    struct slice got = {NULL, 0};
    enum plan_verdict verdict =
        plan_query(plan, (struct slice){copy, strlen(key)}, brackets, NULL, &got);

    free(copy);
    CHECK(verdict == (sql != NULL ? PLAN_ASK : PLAN_NOT_FOUND), "%s, %s: %d", about, key, verdict);
    if (verdict == PLAN_ASK && sql != NULL) {
        CHECK_TEXT(got.ptr, sql, about);
        CHECK(strlen(got.ptr) == got.len, "%s: length %zu", about, got.len);
    }
}

static void asks(const char *query, const char *key, const char *sql)
{
    char text[256];
    struct plan *plan;

    snprintf(text, sizeof text, "query = %s\n", query);
    plan = good_plan(text);
    asks_of(plan, key, sql, query);
    plan_free(plan);
}

static void expansions_of_a_key(void)
{
    asks("x '%s' y", "a@b.c", "x '<a@b.c>' y");
    asks("%s%%%s", "a", "<a>%<a>");
    asks("%u|%d|%S|%U|%D", "a@b.c", "<a>|<b.c>|<a@b.c>|<a>|<b.c>");
    asks("%u", "a", "<a>");
    asks("%u", "a@", "<a>");
    asks("%u %d", "a@b@c.d", "<a@b> <c.d>");
    asks("%1 %2", "a@b.c", "<c> <b>");
    asks("%9", "a@9.8.7.6.5.4.3.2.1", "<9>");
    asks("%1", "@b.c", "<c>");
    asks("%d", "@b.c", "<b.c>");
    asks("%2", "a@b..c", "<b>");
    asks("%1.%2", "a@.b.c.", "<c>.<b>");
    asks("%s", "%s'\\%u", "<%s'\\%u>");
    asks("x", "@", "x");
    asks("%s", "@", "<@>");
}

static void keys_that_are_not_asked(void)
{
    asks("x", "", NULL);
    asks("%d", "a", NULL);
    asks("%d", "a@", NULL);
    asks("%D", "a", NULL);
    asks("%u", "@b", NULL);
    asks("%U", "@b", NULL);
    asks("%1", "a", NULL);
    asks("%2", "a@b", NULL);
    asks("%3", "a@b..c", NULL);
    asks("%1", "a@...", NULL);
    asks("%9", "a@8.7.6.5.4.3.2.1", NULL);
}

static void keys_that_the_result_needs(void)
{
    static const struct {
        const char *format;
        bool asks[4]; /* of a, a@, @b.c, a@b */
    } cases[] = {{"%s", {true, true, true, true}},   {"%u%d", {true, true, true, true}},
                 {"%S", {true, true, true, true}},   {"%U", {true, true, false, true}},
                 {"%D", {false, false, true, true}}, {"%1", {false, false, true, true}},
                 {"%2", {false, false, true, false}}};
    static const char *const keys[] = {"a", "a@", "@b.c", "a@b"};

    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[64];
        struct plan *plan;

        snprintf(text, sizeof text, "query=x\nresult_format=%s\n", cases[i].format);
        plan = good_plan(text);
        for (size_t k = 0; k < COUNT(keys); k++)
            asks_of(plan, keys[k], cases[i].asks[k] ? "x" : NULL, text);
        plan_free(plan);
    }
}

static void keys_with_nul(void)
{
    struct plan *plan = good_plan("query = %s\n");
    struct slice sql;

    CHECK(plan_query(plan, (struct slice){"a\0b", 3}, brackets, NULL, &sql) == PLAN_NOT_FOUND,
          "a NUL in a key");
    CHECK(plan_query(plan, text_slice("a"), refusing, NULL, &sql) == PLAN_CANNOT, "no quoting");
    plan_free(plan);
}

static void wants(const char *domains, const char *key, bool wanted)
{
    char text[128];
    struct plan *plan;

    snprintf(text, sizeof text, "query=x\ndomain=%s\n", domains);
    plan = good_plan(text);
    asks_of(plan, key, wanted ? "x" : NULL, domains);
    plan_free(plan);
}

static void domain_lists(void)
{
    wants("", "a", true);
    wants("b.c", "a@b.c", true);
    wants("b.c", "a@B.C", true);
    wants("x, B.c\ty", "a@b.c", true);
    wants("x y", "a@b.c", false);
    wants("b.c", "a@x.b.c", false);
    wants(".b.c c", "a@b.c", false);
    wants("!b.c, b.c", "a@b.c", false);
    wants("b.c !b.c", "a@b.c", true);
    wants("!!b.c", "a@b.c", true);
    wants("b.c", "a", false);
    wants("b.c", "a@", false);
    wants("b.c", "@b.c", false);
    wants(",", "a@b.c", false);
    wants("[a:1]", "a@[a:1]", true);
    refuse("query=x\ndomain=b, /etc/list\n",
           "/t.cf:2: domain = b, /etc/list: /etc/list is a file or a table, which the agent may "
           "not open; domain names are expected: write them out here");
    refuse("query=x\ndomain=!hash:/x\n",
           "/t.cf:2: domain = !hash:/x: hash:/x is a file or a table, which the agent may not "
           "open; domain names are expected: write them out here");
}

static void domains_beyond_ascii(void)
{
    wants("\303\234.de", "a@\303\274.de", true);
    wants("\303\274.de", "a@\303\234.DE", true);
    wants("a.b, !STRA\303\237E.de, strasse.de", "a@strasse.DE", false);
    wants("\342\204\252.de", "a@k.de", true); /* the sign of Kelvin */
    wants("u\314\210.de", "a@\303\274.de", false);
    wants("\374.de", "a@\334.de", false);
    wants("\374A.de", "a@\374a.de", true);
    CHECK(report.ignored == 0, "a warning: %s", report.text);
}

/* values: up to a NULL; "-" is an SQL NULL. */
static enum plan_verdict result(struct plan *plan, const char *key, const char *const *values,
                                struct slice *answer)
{
    struct slice sql;

    REQUIRE(plan_query(plan, text_slice(key), brackets, NULL, &sql) == PLAN_ASK, "%s", key);
    for (; *values != NULL; values++)
        if (!plan_value(plan,
                        strcmp(*values, "-") == 0 ? (struct slice){NULL, 0} : text_slice(*values)))
            break;
    return plan_finish(plan, answer);
}

#define VALUES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void yields(const char *format, const char *const *values, const char *want)
{
    char text[128], got[128] = "(not found)";
    struct slice answer = {"", 0};
    struct plan *plan;

    snprintf(text, sizeof text, "query=x\nresult_format=%s\n", format);
    plan = good_plan(text);
    if (result(plan, "k@l.m", values, &answer) == PLAN_FOUND)
        snprintf(got, sizeof got, "%.*s", (int)answer.len, answer.ptr);
    CHECK_TEXT(got, want, format);
    plan_free(plan);
}

static void results(void)
{
    yields("%s", VALUES("a"), "a");
    yields("%s", VALUES("a", "b", "c,d"), "a,b,c,d");
    yields("%s", VALUES("-", "", "a", "-", "b", ""), "a,b");
    yields("%s", VALUES("-"), "(not found)");
    yields("%s", VALUES(""), "(not found)");
    yields("x", VALUES("-", ""), "(not found)");
    yields("[%s]%%", VALUES("a", "%s"), "[a]%,[%s]%");
    yields("%u at %d", VALUES("a@b", "c", "@d", "e@", "f@g@h"), "a at b,f@g at h");
    yields("%u", VALUES("a@b", "c", "@d", "e@"), "a,c,e");
    yields("%d", VALUES("a@b", "c", "@d", "e@"), "b,d");
    yields("%S %U %D %1 %2", VALUES("v"), "k@l.m k l.m m l");
}

static void values_end_at_nul(void)
{
    struct plan *plan = good_plan("query=x\n");
    struct slice answer = {"", 0}, sql;

    CHECK(plan_query(plan, text_slice("k"), brackets, NULL, &sql) == PLAN_ASK, "not asked");
    plan_value(plan, (struct slice){"a\0b", 3});
    plan_value(plan, (struct slice){"\0b", 2});
    CHECK(plan_finish(plan, &answer) == PLAN_FOUND && slice_is(answer, "a"), "\"%.*s\"",
          (int)answer.len, answer.ptr);
    plan_free(plan);
}

static void limits(void)
{
    struct plan *plan = good_plan("query=x\nexpansion_limit = 2\n");
    char *large = need_memory(BRIDGE_DATA_MAX + 1);
    struct slice answer;

    CHECK(result(plan, "k", VALUES("a", "-", "", "b"), &answer) == PLAN_FOUND, "at the limit");
    CHECK(result(plan, "k", VALUES("a", "b", "c"), &answer) == PLAN_CANNOT, "over the limit");
    CHECK_TEXT(plan_why(plan),
               "/t.cf:2: expansion_limit = 2: there are more values than that for one key", "why");
    plan_begin(plan);
    CHECK(plan_finish(plan, &answer) == PLAN_NOT_FOUND, "begun anew");
    CHECK(result(plan, "k", VALUES("a"), &answer) == PLAN_FOUND, "the next key");
    memset(large, 'x', BRIDGE_DATA_MAX);
    large[BRIDGE_DATA_MAX] = '\0';
    CHECK(result(plan, "k", VALUES(large), &answer) == PLAN_FOUND, "256 KiB");
    CHECK(result(plan, "k", VALUES(large, "y"), &answer) == PLAN_CANNOT, "more");
    CHECK_TEXT(plan_why(plan),
               "its answer would be larger than 256 KiB, or there is no memory for it", "why");
    free(large);
    plan_free(plan);
}

static void long_queries(void)
{
    struct plan *plan = good_plan("query=%s%s%s%s%s\n");
    char *key = need_memory(BRIDGE_DATA_MAX);
    struct slice sql;

    memset(key, 'x', BRIDGE_DATA_MAX);
    CHECK(plan_query(plan, (struct slice){key, BRIDGE_DATA_MAX}, brackets, NULL, &sql) ==
              PLAN_CANNOT,
          "5 * 256 KiB");
    CHECK(plan_query(plan, (struct slice){key, BRIDGE_DATA_MAX / 2}, brackets, NULL, &sql) ==
              PLAN_ASK,
          "5 * 128 KiB");
    free(key);
    plan_free(plan);
}

static void older(const char *text, enum table_type type, const char *sql)
{
    struct plan *plan = read_plan(text, type);

    REQUIRE(plan != NULL, "\"%s\": %s", text, report.text);
    CHECK(report.ignored == 0, "%s: %s", text, report.text);
    asks_of(plan, "k", sql, text);
    plan_free(plan);
}

#define OLDER "table=t\nselect_field=f\nwhere_field=w\n"

static void older_ways_to_say_a_query(void)
{
    older(OLDER, TYPE_MYSQL, "SELECT f FROM t WHERE w='<k>' ");
    older(OLDER "additional_conditions = and x like 'y%%'\n", TYPE_SQLITE,
          "SELECT f FROM t WHERE w='<k>' and x like 'y%'");
    older(OLDER "query = '%s'\n", TYPE_MYSQL, "'<k>'");
    older(OLDER "query =\n", TYPE_MYSQL, "SELECT f FROM t WHERE w='<k>' ");
    older("select_function = f\n" OLDER, TYPE_PGSQL, "SELECT f('<k>')");
    older("select_function = f\nquery = '%s'\n", TYPE_PGSQL, "'<k>'");
    refuse("select_function = f\n",
           "/t.cf: query is not given; an SQL query with '%s' for the key is expected");
    refuse("table = t\n", "/t.cf: select_field is not given; it, or query, is expected");
    refuse("table =\nselect_field = f\nwhere_field = w\n",
           "/t.cf:1: table is empty; it, or query, is expected");
}

#define EXPECTED                                                                                   \
    ": there is a % that begins no expansion; %s, %u, %d, %S, %U, %D, %1 to %9, or %% for a % "    \
    "are expected"

static void templates_that_are_wrong(void)
{
    refuse("query = a %x\n", "/t.cf:1: query = a %x" EXPECTED);
    refuse("query = %0\n", "/t.cf:1: query = %0" EXPECTED);
    refuse("query = %s%%%\n", "/t.cf:1: query = %s%%%" EXPECTED);
    refuse("query=x\nresult_format = %\n", "/t.cf:2: result_format = %" EXPECTED);
    refuse("query=x\nresult_format =\n",
           "/t.cf:2: result_format is empty; a template such as %s is expected");
    refuse(OLDER "additional_conditions = like 'y%'\n",
           "/t.cf:4: additional_conditions = like 'y%'" EXPECTED);
    refuse("query=x\nexpansion_limit = -1\n",
           "/t.cf:2: expansion_limit = -1: a number from 0 to 2147483647 is expected");
}

static void quoted(const char *query, bool is)
{
    char text[128];
    struct plan *plan;

    snprintf(text, sizeof text, "query = %s\n", query);
    plan = good_plan(text);
    CHECK(plan_is_quoted(plan) == is, "%s", query);
    CHECK(report.ignored == !is, "%s: %s", query, report.text);
    plan_free(plan);
}

static void quotes(void)
{
    struct plan *plan = good_plan("query = x '%s' %% '%u@%d' %%\ndomain=b.c\n");
    struct slice sql;

    CHECK(plan_probe(plan, &sql) == PLAN_ASK, "no probe");
    CHECK_TEXT(sql.ptr, "x '1' % '1@1' %", "probe");
    CHECK_TEXT(plan_query_name(plan), "query", "parameter");
    plan_free(plan);
    quoted("'%s'", true);
    quoted("x", true);
    quoted("'a''%s'", true);
    quoted("\"'\" '%s'", true);
    quoted("'\"' '%s'", true);
    quoted("%s", false);
    quoted("'x' %s", false);
    quoted("\"%s\"", false);
    quoted("\"'%s'\"", false);
    quoted("'x''' %s", false);
}

static const struct unit_test tests[] = {
    {"a query has the parts of the key, quoted", expansions_of_a_key},
    {"a key without the parts that a query needs is not asked for", keys_that_are_not_asked},
    {"nor one without those that the result needs", keys_that_the_result_needs},
    {"nor one with a NUL, and quoting can fail", keys_with_nul},
    {"lists of domains", domain_lists},
    {"domains beyond ASCII", domains_beyond_ascii},
    {"results are formatted and joined", results},
    {"values end at a NUL", values_end_at_nul},
    {"answers have their limits", limits},
    {"queries have their limit", long_queries},
    {"older ways to say a query", older_ways_to_say_a_query},
    {"templates that are wrong are named", templates_that_are_wrong},
    {"expansions outside of quotes are told", quotes},
};

const struct unit_suite plan_suite = {"plan", tests, COUNT(tests), false, NULL, NULL};
