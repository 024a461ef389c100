/*
 * Tests of server/agent/pattern: rules of cidr, regexp and pcre tables, taken as Postfix 3.7.11
 * takes them, as seen with `postmap -q`; and what a hostile table or key meets. Part of the unit
 * test program; touches memory only.
 */
#include <stdio.h>
#include <stdlib.h>

#include "privsep/messages.h"
#include "server/agent/pattern/cidr.h"
#include "server/agent/pattern/expr.h"
#include "tests/unit/unit.h"

#define NO_RULE   "(none)"
#define FAILS     "(fails)"
#define INNER_MAX 3000u

struct table {
    struct agent_report report;
    struct rules rules;
    struct cidr_table networks;
    struct expr_table *expressions;
    const struct engine *engine; /* NULL: networks */
    bool read;
};

static void parse(struct table *t, const struct engine *engine)
{
    t->engine = engine;
    if (!t->read)
        return;
    if (engine != NULL)
        t->expressions = expr_parse(engine, &t->rules);
    REQUIRE(engine != NULL ? t->expressions != NULL : cidr_parse(&t->networks, &t->rules),
            "out of memory");
}

static void read_bytes(struct table *t, const struct engine *engine, const char *bytes, size_t len)
{
    struct text text = {exact_copy(bytes, len), len, len};

    *t = (struct table){.read = true};
    rules_of_text(&t->rules, text, "/t", &t->report);
    parse(t, engine);
}

static void read_file(struct table *t, const struct engine *engine, const char *text)
{
    read_bytes(t, engine, text, strlen(text));
}

static void read_name(struct table *t, const struct engine *engine, const char *name)
{
    *t = (struct table){0};
    t->read = rules_of_name(&t->rules, text_slice(name), &t->report);
    parse(t, engine);
}

static void end(struct table *t)
{
    expr_free(t->expressions);
    cidr_free(&t->networks);
    rules_free(&t->rules);
}

/* The result, in memory of the next call; NO_RULE or FAILS. */
static const char *look_up(struct table *t, struct slice key, bool regsub)
{
    static char result[INNER_MAX];
    struct slice value = {"", 0}, in_turn = {"", 0};
    char *exact = exact_copy(key.ptr, key.len);
    enum expr_found found;

    key.ptr = exact;
    if (t->engine == NULL) {
        found = cidr_find(&t->networks, key, &value) ? EXPR_FOUND : EXPR_NOT_FOUND;
        CHECK(cidr_find_in_turn(&t->networks, key, &in_turn) == (found == EXPR_FOUND) &&
                  value.ptr == in_turn.ptr,
              "\"%.*s\": the index and the rules in turn differ", (int)key.len, key.ptr);
    } else {
        found = expr_find(t->expressions, key, regsub, BRIDGE_DATA_MAX, &value);
    }
    snprintf(result, sizeof result, "%.*s", (int)value.len, value.ptr);
    free(exact);
    return found == EXPR_FOUND ? result : found == EXPR_FAILS ? FAILS : NO_RULE;
}

/* wanted: pairs of key and result, up to a NULL. */
static void check_all(struct table *t, const char *about, const char *const *wanted)
{
    REQUIRE(t->read, "%s: %s", about, t->report.text);
    for (; *wanted != NULL; wanted += 2) {
        char what[256];

        snprintf(what, sizeof what, "%.180s, key \"%.60s\"", about, wanted[0]);
        CHECK_TEXT(look_up(t, text_slice(wanted[0]), true), wanted[1], what);
    }
}

#define WANT(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect(const struct engine *engine, const char *text, unsigned ignored,
                   const char *const *wanted)
{
    struct table t;

    if (text[0] == '{')
        read_name(&t, engine, text);
    else
        read_file(&t, engine, text);
    check_all(&t, text, wanted);
    CHECK(t.report.ignored == ignored, "%s: %u lines ignored, expected %u: %s", text,
          t.report.ignored, ignored, t.report.text);
    end(&t);
}

/* Both engines. */
static void both(const char *text, unsigned ignored, const char *const *wanted)
{
    expect(&engine_regexp, text, ignored, wanted);
    expect(&engine_pcre, text, ignored, wanted);
}

/* The one rule is left out, and the report has this text. */
static void skipped(const struct engine *engine, const char *rule, const char *report)
{
    struct table t;

    read_file(&t, engine, rule);
    CHECK(t.report.ignored == 1, "%s: %u ignored", rule, t.report.ignored);
    CHECK(strstr(t.report.text, report) != NULL, "%s: \"%s\", expected \"%s\" in it", rule,
          t.report.text, report);
    end(&t);
}

static void lines(void)
{
    both("/a/ one\n  two\n# c\n\n\tthree\n/b/ r\r\n", 0, WANT("a", "one  two\tthree", "b", "r"));
    both(" /a/ lead\n/b/ r", 1, WANT("a", NO_RULE, "b", "r"));
    skipped(&engine_pcre, " /a/ lead", "/t:1: a line that begins with white space");
    both("/a/ r\n/a/ s\n", 0, WANT("a", "r"));
    both("# nothing\n", 0, WANT("a", NO_RULE));
    expect(NULL, "1.2.3.4\n  r  x \n", 0, WANT("1.2.3.4", "r  x"));
}

static void nul_bytes(void)
{
    static const char text[] = "/a/ r\0x\n/b\0/ s\n/c/ t\n";
    struct table t;

    read_bytes(&t, &engine_pcre, text, sizeof text - 1);
    check_all(&t, "NULs", WANT("a", "r", "b", NO_RULE, "c", "t"));
    CHECK(t.report.ignored == 1, "%u ignored", t.report.ignored);
    CHECK_TEXT(look_up(&t, (struct slice){"x\0a", 3}, true), "r", "a key with a NUL");
    end(&t);
    read_file(&t, &engine_regexp, "/a$/ r\n");
    CHECK_TEXT(look_up(&t, (struct slice){"x\0a", 3}, true), "r", "a key with a NUL, regexp");
    end(&t);
    read_file(&t, NULL, "1.2.3.4 r\n");
    CHECK_TEXT(look_up(&t, (struct slice){"1.2.3.4\0", 8}, true), NO_RULE, "an address and a NUL");
    end(&t);
}

static void names(void)
{
    both("{{/a/ r1}, {/b/ r2}}", 0, WANT("a", "r1", "b", "r2"));
    both("{ {  /a{1}/   r1  }\t{/b/ {r}},, }", 0, WANT("a", "r1", "b", "{r}"));
    both("{{#x},{/a/ r1}}", 0, WANT("a", "r1"));
    both("{}", 0, WANT("a", NO_RULE));
    expect(NULL, "{{1.2.3.4 r1}, {!1.0.0.0/8 r2}}", 0, WANT("1.2.3.4", "r1", "2.2.2.2", "r2"));
    for (const char *const *bad = WANT("{/a/ r1}", "{{/a/ r1}x}", "{{/a/ r1}", "{{/a/ r1} } ",
                                       "{{/a/ r1}{/b/ s}}", "{{/a/ r}, b}", "{{/a}/ r}}");
         *bad != NULL; bad++) {
        struct table t;

        read_name(&t, &engine_pcre, *bad);
        CHECK(!t.read && strstr(t.report.text, "expected") != NULL, "%s: \"%s\"", *bad,
              t.report.text);
        end(&t);
    }
}

static void places_of_rules(void)
{
    char path[600];
    struct table t;

    read_name(&t, &engine_pcre, "{{/b/ r1},{/(/ x},{/a/ x}}");
    CHECK(strncmp(t.report.text, "rule 2: missing closing parenthesis", 35) == 0, "%s",
          t.report.text);
    check_all(&t, "name", WANT("a", "x", "b", "r1"));
    end(&t);
    skipped(&engine_pcre, "# c\n/(/ x\n", "/t:2: missing closing parenthesis at character 2");
    skipped(&engine_regexp, "/a/ r\n  more\n/(/ x\n", "/t:3: Unmatched (");
    memset(path, 'p', sizeof path - 1);
    memcpy(path + sizeof path - 5, "/end", 5);
    CHECK(strstr(rules_place(&(struct rule_place){""}, path, 7), "/end:7") != NULL,
          "a long path hides its end");
}

static void networks(void)
{
    expect(NULL, "1.2.3.4 a\n[1.2.3.5] b\n[10.0.0.0/8] c\n[11.0.0.0]/8 d\n0.0.0.0/0 e\n", 0,
           WANT("1.2.3.4", "a", "1.2.3.5", "b", "10.255.255.255", "c", "11.0.0.0", "d", "9.9.9.9",
                "e", "::1", NO_RULE));
    expect(NULL, "1.2.3.4/032 r\n2.0.0.0/8\x0bs", 0, WANT("1.2.3.4", "r", "2.1.1.1", "s"));
    expect(NULL, "[::1] a\n[FE80::]/10 b\n2001:DB8::/32 c\n::ffff:0:0/96 d\n0.0.0.0/0 e", 0,
           WANT("::1", "a", "0:0:0:0:0:0:0:1", "a", "fe80::1", "b", "2001:db8::1", "c",
                "::ffff:1.2.3.4", "d", "1.2.3.4", "e"));
    expect(NULL, "0.0.0.0/0 e\n::/0 f\n", 0,
           WANT("192.168.001.1", NO_RULE, "1.2.3.4 ", NO_RULE, "[::1]", NO_RULE, "x", NO_RULE, "",
                NO_RULE, "1.2.3", NO_RULE, "fe80::1%lo", NO_RULE, "::1", "f", "255.255.255.255",
                "e", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "f"));
    expect(NULL, "!10.0.0.0/8 r\n", 0,
           WANT("10.1.1.1", NO_RULE, "9.255.255.255", "r", "11.0.0.0", "r", "::1", NO_RULE));
    expect(NULL, "! ! 1.2.3.4 a\n!!!::1 b", 0, WANT("1.2.3.4", "a", "::1", NO_RULE, "::2", "b"));
}

static void networks_with_if(void)
{
    expect(NULL, "if 10.0.0.0/8\n10.1.0.0/16 a\nIF !10.2.0.0/16\n0.0.0.0/0 b\nENDIF\nendif\n::/0 c",
           0,
           WANT("10.1.1.1", "a", "10.3.0.1", "b", "10.2.1.1", NO_RULE, "1.1.1.1", NO_RULE, "::1",
                "c"));
    expect(NULL, "if !::/0\n1.2.3.4 a\n::1 b\nendif\n1.2.3.4 c\n", 0,
           WANT("1.2.3.4", "c", "::1", NO_RULE));
    expect(NULL, "if 9.9.9.9\n1.2.3.4 a\n", 0, WANT("1.2.3.4", NO_RULE, "9.9.9.9", NO_RULE));
    expect(NULL, "if[1.2.3.4]\n1.2.3.4 a\nendif", 0, WANT("1.2.3.4", "a"));
    expect(NULL, "endif\n1.2.3.4 a\n", 1, WANT("1.2.3.4", "a"));
    expect(NULL, "if 9.9.9.9\nendif x\n1.2.3.4 a\nendif\n1.2.3.4 b\n", 1, WANT("1.2.3.4", "b"));
    expect(NULL, "if 9.9.9.9/8\n1.2.3.4 a\nendif\n", 2, WANT("1.2.3.4", "a"));
}

static void bad_networks(void)
{
    for (const char *const *bad =
             WANT("1.2.3.4", "1.2.3.4/0 r", "[1.2.3.0/24]/24 r", "1.2.3.4/ r", "/24 r",
                  "1.2.3.0/+24 r", "1.2.3.0/24x r", "1.2.3.4/33 r", "::/129 r", "1.2.3 r",
                  "1.2.3.04 r", "[1.2.3.4 r", "1.2.3.4] r", "[1.2.3.4]x r", "[ 1.2.3.4] r",
                  "if 1.2.3.4 x", "if", "!", "foo bar", "1.2.3.4/4294967328 r", "[] r", "[/ r");
         *bad != NULL; bad++)
        skipped(NULL, *bad, "expected");
}

static void grammar(void)
{
    both("!/a/ r", 0, WANT("a", NO_RULE, "b", "r"));
    both("! ! /a/ r", 0, WANT("a", "r", "b", NO_RULE));
    both("#\n{a{ r\n.b. s", 0, WANT("a", "r", "xb", "s"));
    both("/a\\/b/ r", 0, WANT("a/b", "r", "ab", NO_RULE));
    both("/a/\n// s", 0, WANT("a", "", "b", "s"));
    both("/a/   r  x \t\n", 0, WANT("a", "r  x"));
    both("/A/ r\n/B/i s\n", 0, WANT("a", "r", "b", NO_RULE, "B", "s"));
    both("/a/ii r", 0, WANT("A", "r"));
    both("\xe9"
         "a\xe9 r",
         0, WANT("a", "r"));
    for (const char *const *bad =
             WANT("/a r", "\\a\\ r", "a b", "1a1 b", "/a/b r", "/", "!", "!!/a", "/a/\\ r", "/(/ r",
                  "if", "iffoo /a/", "endif", "/a/i/b/ r", "/a/1 r");
         *bad != NULL; bad++) {
        skipped(&engine_regexp, *bad, "expected");
        skipped(&engine_pcre, *bad, "expected");
    }
    skipped(&engine_regexp, "/^A1$/b r", "\"b\" behind the pattern is no flag; expected i, m or x");
}

static void blocks(void)
{
    both("if /x/\n/a/ in\nendif\n/a/ out\n", 0, WANT("ax", "in", "a", "out"));
    both("IF!/x/\n/a/ in\nEndIf\n", 0, WANT("ax", NO_RULE, "a", "in"));
    both("if /x/ extra\n/a/ in\nendif foo\n/b/ r", 0, WANT("ax", "in", "a", NO_RULE, "b", "r"));
    both("if /x/\nif /y/\n/a/ in\nendif\n/a/ mid\nendif\n/a/ out\n", 0,
         WANT("axy", "in", "ax", "mid", "ay", "out"));
    both("if /x/\n/a/ in\n", 0, WANT("ax", "in", "a", NO_RULE));
    both("if /(/\n/a/ in\nendif\n/b/ r\n", 2, WANT("a", "in", "b", "r"));
}

static void regexp_only(void)
{
    expect(&engine_regexp, "/a/!/b/ r", 0, WANT("a", "r", "ab", NO_RULE, "b", NO_RULE));
    expect(&engine_regexp, "/a/i! #b#i r", 0,
           WANT("a", "r", "A", NO_RULE, "aB", "r", "ab", NO_RULE));
    expect(&engine_regexp, "/a/!!/b/ r", 0, WANT("a", NO_RULE, "ab", "r"));
    expect(&engine_regexp, "!/a/!/b/ r", 0, WANT("a", NO_RULE, "b", NO_RULE, "c", "r"));
    expect(&engine_regexp, "/a/ !/b/ r", 0, WANT("ab", "!/b/ r"));
    expect(&engine_regexp, "if /a/!/b/\n/c/ r\nendif", 0, WANT("abc", "r", "c", NO_RULE));
    expect(&engine_regexp, "/a\\{2\\}/x r\n/b{2}/ s", 0, WANT("aa", "r", "a", NO_RULE, "bb", "s"));
    expect(&engine_regexp, "/^a$/ r\n/^b$/m s", 0, WANT("x\na", NO_RULE, "x\nb", "s"));
    expect(&engine_regexp, "/(a)\\1/ r", 0, WANT("aa", "r", "a", NO_RULE));
    skipped(&engine_regexp, "/a/!/b r", "no closing");
    skipped(&engine_regexp, "/a/!/(/ r", "Unmatched");
    skipped(&engine_pcre, "/a/!/b/ r", "\"!\" behind the pattern is no flag");
}

static void pcre_only(void)
{
    expect(&engine_pcre, "/a b/x r", 0, WANT("ab", "r", "a b", NO_RULE));
    expect(&engine_pcre, "/^a.b$/ r\n/^c.d$/s q", 0, WANT("a\nb", "r", "c\nd", NO_RULE));
    expect(&engine_pcre, "/^a$/m r\n/^b$/ s", 0, WANT("x\na", "r", "x\nb", NO_RULE));
    expect(&engine_pcre, "/a/A r", 0, WANT("ab", "r", "ba", NO_RULE));
    expect(&engine_pcre, "/a$/E r\n/b$/ s", 0, WANT("a\n", NO_RULE, "b\n", "s"));
    expect(&engine_pcre, "/(a+)/U $1", 0, WANT("aaa", "a"));
    expect(&engine_pcre, "/a/X r", 0, WANT("a", "r"));
    expect(&engine_pcre, "/(?<n>a)/ $1", 0, WANT("xa", "a"));
    skipped(&engine_pcre, "/(?<n>a)/ $n", "names no group");
    expect(&engine_pcre, "/\xc3\x89/ r", 0, WANT("\xc3\x89", "r", "\xc3\xa9", NO_RULE));
    expect(&engine_pcre, "/(*UTF)^.$/ r", 0, WANT("\xc3\x89", "r", "\xff", NO_RULE));
}

static void substitution(void)
{
    both("/(a)(z)?/ $1", 0, WANT("xa", "a"));
    both("/(A)(z)?/ <$(1)|${2}|${1}b>", 0, WANT("A", "<A||Ab>"));
    both("/(a)(z)?/ $2", 0, WANT("a", ""));
    both("/(a)(b)/ $2$1 $01", 0, WANT("ab", "ba a"));
    both("/a/ a$$b$$1", 0, WANT("a", "a$b$1"));
    both("/(a)/ $$$1-$1}", 0, WANT("a", "$a-a}"));
    both("/(a)/ $1\xe9", 0, WANT("a", "a\xe9"));
    both("!/(a)/ $$1", 0, WANT("b", "$1"));
    both("!!/(a)/ $1", 0, WANT("a", "a"));
    for (const char *const *bad =
             WANT("/(a)/ $1a", "/(a)/ ${1a}", "/(a)/ $0", "/(a)/ $", "/(a)/ $ x", "/(a)/ x$",
                  "/(a)/ $-", "/(a)/ ${1", "/(a)/ $(1}", "/(a)/ ${ 1}", "/(a)/ $1_", "/(a)/ ${}",
                  "/(a)/ $$$", "/(a)/ $2", "/(a)/ $99999999999999999999", "/(a)/ $4294967297",
                  "!/(a)/ $1", "/(a)/ $65536");
         *bad != NULL; bad++) {
        skipped(&engine_regexp, *bad, "expected");
        skipped(&engine_pcre, *bad, "expected");
    }
}

static void without_substitution(void)
{
    struct table t;

    read_file(&t, &engine_pcre, "/(a)/ got $1\n/a/ plain $$1\n");
    CHECK_TEXT(look_up(&t, text_slice("a"), true), "got a", "regsub");
    CHECK_TEXT(look_up(&t, text_slice("a"), false), "plain $1", "no regsub");
    CHECK_TEXT(look_up(&t, text_slice("a"), true), "got a", "regsub again");
    end(&t);
}

/* A rule that ran out of its steps is no rule that does not match, even if another one does. */
static void catastrophe(void)
{
    struct table t;
    struct slice value;
    char key[200];

    memset(key, 'a', sizeof key);
    key[sizeof key - 1] = '!';
    read_file(&t, &engine_pcre, "/^x/ x\n/^(a+)+$/ y\n/./ z\n");
    REQUIRE(expr_find(t.expressions, (struct slice){key, sizeof key}, true, 10, &value) ==
                EXPR_FAILS,
            "a catastrophic pattern does not fail");
    CHECK(strncmp(value.ptr, "/t:2: ", 6) == 0 && strstr(value.ptr, "steps") != NULL, "%s",
          value.ptr);
    check_all(&t, "after that", WANT("xx", "x", "aa", "y", "b", "z"));
    end(&t);
    read_file(&t, &engine_pcre, "/(*LIMIT_HEAP=0)(a|b)*c/ r\n");
    CHECK(t.report.ignored == 0, "%s", t.report.text);
    end(&t);
}

static void large_keys(void)
{
    size_t len = 200000;
    char *key = need_memory(len);
    struct table t;
    struct slice value;

    memset(key, 'a', len);
    read_file(&t, &engine_pcre, "/^(.*)$/ $1$1\n");
    CHECK(expr_find(t.expressions, (struct slice){key, len}, true, BRIDGE_DATA_MAX, &value) ==
                  EXPR_FAILS &&
              strstr(value.ptr, "256 KiB") != NULL,
          "a result of 400 KB");
    end(&t);
    for (int i = 0; i < 2; i++) {
        read_file(&t, i == 0 ? &engine_pcre : &engine_regexp, "/^(a*)$/ <$1>\n");
        CHECK(expr_find(t.expressions, (struct slice){key, len}, true, BRIDGE_DATA_MAX, &value) ==
                      EXPR_FOUND &&
                  value.len == len + 2,
              "a result of 200 KB");
        end(&t);
    }
    read_file(&t, NULL, "::/0 r\n0.0.0.0/0 r\n");
    CHECK_TEXT(look_up(&t, (struct slice){key, len}, true), NO_RULE, "no address");
    end(&t);
    free(key);
}

static void nested_patterns(void)
{
    size_t deep = 30000, len = 2 * deep + 5;
    char *text = need_memory(len + 1);

    memset(text, '(', len);
    memset(text + 1 + deep, ')', deep);
    memcpy(text + 1 + 2 * deep, "/ r", 4);
    text[0] = '/';
    skipped(&engine_regexp, text, "groups stand in groups");
    skipped(&engine_pcre, text, "nested");
    free(text);
}

static void many_rules(void)
{
    char *text = NULL;
    size_t len = 0, count = 100000;
    FILE *out = open_memstream(&text, &len);
    struct table t;

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < count; i++)
        fprintf(out, "10.%zu.%zu.%zu r%zu\n", i >> 16 & 255, i >> 8 & 255, i & 255, i);
    fclose(out);
    read_file(&t, NULL, text);
    CHECK(t.networks.indexed && t.networks.count == count, "no index");
    check_all(&t, "many",
              WANT("10.0.0.0", "r0", "10.0.1.0", "r256", "10.1.134.159", "r99999", "10.1.134.160",
                   NO_RULE));
    end(&t);
    free(text);
}

/* Each `if !` cuts the addresses into one more range: the table works without an index. */
static void ifs_in_ifs(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct table t;

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < 5000; i++)
        fprintf(out, "if !10.0.%zu.%zu\n11.0.%zu.%zu r%zu\n", i / 100, i % 100 * 2, i / 100,
                i % 100, i);
    fclose(out);
    read_file(&t, NULL, text);
    CHECK(!t.networks.indexed, "an index of millions of ranges");
    check_all(&t, "nested", WANT("11.0.0.0", "r0", "11.0.49.99", "r4999", "10.0.0.0", NO_RULE));
    end(&t);
    free(text);
}

/* The index gives what the rules give in turn, at each bound of each rule: look_up() compares. */
static void index_is_exact(void)
{
    uint64_t random = 42;

    for (int round = 0; round < 300; round++) {
        char text[4000] = "";
        size_t used = 0;
        struct table t;

        for (int i = 0; i < 40; i++) {
            uint64_t r = random_next(&random);
            unsigned bits = (unsigned)(r >> 8 & 7), shift = 8 - bits;
            unsigned last = (unsigned)(r >> 16 & 255) >> shift << shift;

            used += (size_t)snprintf(text + used, sizeof text - used,
                                     r % 7 == 0   ? "if %s%s%u/%u\n"
                                     : r % 7 == 1 ? "endif\n"
                                                  : "%s%s%u/%u r%d\n",
                                     r >> 32 & 1 ? "!" : "", r >> 33 & 3 ? "0.0.0." : "::", last,
                                     r >> 33 & 3 ? 24 + bits : 128, i);
        }
        read_file(&t, NULL, text);
        CHECK(t.networks.indexed, "no index");
        for (unsigned a = 0; a < 256; a++) {
            char key[32];

            snprintf(key, sizeof key, a % 8 == 7 ? "::%x" : "0.0.0.%u", a);
            look_up(&t, text_slice(key), true);
        }
        look_up(&t, text_slice("255.255.255.255"), true);
        end(&t);
    }
}

/* What PCRE2 says that a pattern needs spares calls: it must not spare one that would match. */
static void needs_are_exact(void)
{
    both("/abc/ r\n/X.*Y/ s\n/^(d|E)$/ t\n", 0,
         WANT("xABCx", "r", "x--y", "s", "D", "t", "e", "t", "de", NO_RULE));
    expect(&engine_pcre, "/^(?:d|E)$/i t\n/Q/i u\n/(?i)k(?-i)L/i v\n", 0,
           WANT("D", NO_RULE, "E", "t", "q", NO_RULE, "Q", "u", "KL", "v", "kl", NO_RULE));
    expect(&engine_pcre, "/(?<=a)b/ r\n/(*ACCEPT)zz/ s\n", 0, WANT("ab", "r", "", "s"));
    expect(&engine_pcre, "/(*NO_START_OPT)q/ r\n/\\Kx?$/ s\n", 0, WANT("Q", "r", "", "s"));
}

static const struct unit_test tests[] = {
    {"logical lines", lines},
    {"lines and keys with NULs", nul_bytes},
    {"rules in a name", names},
    {"the first bad rule is named", places_of_rules},
    {"networks", networks},
    {"networks in if and endif", networks_with_if},
    {"networks that are none", bad_networks},
    {"the form of expressions", grammar},
    {"expressions in if and endif", blocks},
    {"flags and second expressions of regexp", regexp_only},
    {"flags of pcre", pcre_only},
    {"parts of the key in a result", substitution},
    {"NO_REGSUB leaves such rules out, for one request", without_substitution},
    {"a catastrophic pattern fails the key", catastrophe},
    {"keys of 200 KB", large_keys},
    {"groups in groups", nested_patterns},
    {"100,000 networks", many_rules},
    {"too many ifs for an index", ifs_in_ifs},
    {"the index of networks is exact", index_is_exact},
    {"patterns are spared exactly", needs_are_exact},
};

const struct unit_suite pattern_suite = {.name = "pattern", .tests = tests, .ntests = COUNT(tests)};
