/*
 * Tests of server/loader/source_inline and source_static: tables that are all in their name, taken
 * as Postfix 3.7.11 takes them, as seen with `postmap -q`. What Postfix refuses, they refuse. Part
 * of the unit test program; touches memory only.
 */
#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

#include "server/image.h"

#define E_ACUTE "\xc3\xa9"
#define E_UPPER "\xc3\x89"
#define SHARP_S "\xc3\x9f"

static void expect(const char *name, const char *entries)
{
    struct loaded l = {0};

    load_name(&l, &source_inline, text_slice(name));
    expect_loaded(&l, entries, "");
    expect_sane(&l);
    unload(&l);
}

static void refuse(const char *name, const char *why)
{
    struct loaded l = {0};

    load_name(&l, &source_inline, text_slice(name));
    expect_failed(&l, why);
    CHECK(l.count == 0, "\"%s\": %zu entries of a table that is refused", name, l.count);
    unload(&l);
}

static void both_notations(void)
{
    expect("{a=b}", "EUAF a=b\n");
    expect("{ a=b, c=d }", "EUAF a=b\nEUAF c=d\n");
    expect("{ {a = b}, {c = d e} }", "EUAF a=b\nEUAF c=d e\n");
    expect("{a=b,,c=d\n\te=f\r\n{g = h;i} ,}", "EUAF a=b\nEUAF c=d\nEUAF e=f\nEUAF g=h;i\n");
    expect("{a=b\f\vc=d}", "EUAF a=b\f\vc=d\n"); /* white space, but no separator */
    expect("{{\fa=b\v}}", "EUAF a=b\n");
}

static void keys_and_values(void)
{
    expect("{g=h=i}", "EUAF g=h=i\n");
    expect("{{emptyval =} a=}", "EUAF emptyval=\nEUAF a=\n");
    expect("{=b}", "EUAF =b\n");
    expect("{ {\"a b\" = c} {\"x = y\" = z} {q\"=\"q = r} }",
           "EUAF \"a b\"=c\nEUAF \"x = y\"=z\nEUAF q\"=\"q=r\n");
    expect("{ {\\\"a = c} {a\\=b = c} }", "EUAF \\\"a=c\nEUAF a\\=b=c\n");
}

static void braces_inside(void)
{
    expect("{{f = {x}{y} }}", "EUAF f={x}{y}\n");
    expect("{a={x, y} z=1}", "EUAF a={x, y}\nEUAF z=1\n");
    expect("{a={x}b=c z=1}", "EUAF a={x}b=c\nEUAF z=1\n");
    expect("{a{b=c}d z=1}", "EUAF a{b=c}d\nEUAF z=1\n");
    expect("{{{a=b}} z=1}", "EUAF {a=b}\nEUAF z=1\n");
}

static void refused(void)
{
    static const char shape[] = "the table is not one pair of braces";

    refuse("", shape);
    refuse("a=b", shape);
    refuse("{", shape);
    refuse("{a=b", shape);
    refuse(" {a=b}", shape);
    refuse("{a=b} ", shape);
    refuse("{a=b} c=d}", shape);
    refuse("{a=b{ c=d}", shape);
    refuse("{}", "no entries");
    refuse("{ , }", "no entries");
    refuse("{a}", "entry 1, \"a\": no `=` behind the key");
    refuse("{x=y a = b}", "entry 2, \"a\": no `=` behind the key");
    refuse("{{a b = c}}", "entry 1, \"{a b = c}\": no `=` behind the key");
    refuse("{a=b {}}", "entry 2, \"{}\": no `=` behind the key");
    refuse("{{a=b}c=d}", "entry 1, \"{a=b}c=d\": text behind the `}`");
    refuse("{{a=b}{c=d}}", "text behind the `}`");
    refuse("{{\"a = c}}", "a double quote is not closed");
}

/* In each form; where it stands. */
static void last_of_duplicates_wins(void)
{
    expect("{a=1 b=2 a=3}", "EUAF b=2\nEUAF a=3\n");
    expect("{A=1 a=2}", "EU A=1\nEUAF a=2\n");
    expect("{a=1 A=2}", "EU a=1\nEU A=2\nAF a=2\n");
    expect("{ss=1 " SHARP_S "=2}", "EUA ss=1\nEUA " SHARP_S "=2\nF ss=2\n");
    expect("{" E_UPPER "=1 " E_ACUTE "=2}", "EUA " E_UPPER "=1\nEUAF " E_ACUTE "=2\n");
}

/* Postfix with UTF-8 refuses the table, and without takes it. Here nobody finds such a key with
 * UTF-8, and a value is for the client to judge. */
static void not_utf8(void)
{
    expect("{\xff=1 a=\xff}", "EA \xff=1\nEUAF a=\xff\n");
}

static void sink_that_refuses(void)
{
    struct loaded l = {.refuse_at = 1};

    load_name(&l, &source_inline, text_slice("{a=1 b=2 c=3}"));
    CHECK(l.rc == -1 && l.count == 1, "rc %d after %zu entries", l.rc, l.count);
    unload(&l);
}

static void expect_static(const char *name, const char *value)
{
    struct loaded l = {0};

    load_name(&l, &source_static, text_slice(name));
    CHECK(l.rc == 0, "\"%s\": %s", name, l.source.why);
    CHECK(l.has_default && l.count == 0, "no default, or more than that");
    CHECK(slice_is(l.default_value, value), "\"%s\" gives \"%.*s\"", name, (int)l.default_value.len,
          l.default_value.ptr);
    unload(&l);
}

static void static_values(void)
{
    expect_static("x", "x");
    expect_static(" a b ", " a b ");
    expect_static("{ a, b }", "a, b");
    expect_static("{\f a \v}", "a");
    expect_static("{}", "");
    expect_static("{ }", "");
    expect_static("{{a}}", "{a}");
    expect_static("a}", "a}");
    expect_static(" {a}", " {a}");
    expect_static("<x", "<x");
}

static void static_refused(void)
{
    static const char *const names[] = {"{a", "{a}b", "{a}{b}", "{a} ", "{a}}", "{"};
    struct loaded l = {0};

    for (size_t i = 0; i < COUNT(names); i++) {
        load_name(&l, &source_static, text_slice(names[i]));
        expect_failed(&l, "must end with the `}`");
        CHECK(!l.has_default, "\"%s\" has a value", names[i]);
        unload(&l);
    }
    load_name(&l, &source_static, text_slice(""));
    expect_failed(&l, "no value");
    unload(&l);
}

static void mutations(void)
{
    static const char alphabet[] = "{{{}}}==, \t\n\f\"\\aAbB\0\xc3\x89\xa9\x9f\xff";
    static const char seed[] = "{ {a = b}, c=d {\"q q\" = {x}{y}} A=1, " E_UPPER "=2 a=3}";
    uint64_t random = 4712;
    unsigned good = 0;
    char bytes[256];

    for (int round = 0; round < 20000; round++) {
        const struct source_ops *ops = round % 4 ? &source_inline : &source_static;
        struct loaded l = {0};
        size_t len = sizeof seed - 1;

        memcpy(bytes, seed, len);
        len = mutate(bytes, len, sizeof bytes, alphabet, sizeof alphabet - 1, &random);
        load_name(&l, ops, (struct slice){bytes, len});
        expect_sane(&l);
        CHECK(l.rc == 0 || (l.count == 0 && !l.has_default), "round %d: half a table", round);
        good += l.rc == 0;
        unload(&l);
    }
    CHECK(good > 1000, "only %u tables were good: the test looks at nothing", good);
}

static const struct unit_test tests[] = {
    {"both notations, and what separates entries", both_notations},
    {"quotes, backslashes, empty keys and values", keys_and_values},
    {"braces in keys and values", braces_inside},
    {"what Postfix refuses is refused, with the entry named", refused},
    {"in each form the last of duplicates wins", last_of_duplicates_wins},
    {"a key that is not UTF-8 is in the forms without it", not_utf8},
    {"a sink that refuses ends the load", sink_that_refuses},
    {"static: the value is the name, without its braces", static_values},
    {"static: braces that do not pair are refused", static_refused},
    {"20,000 mutated names harm nobody", mutations},
};

const struct unit_suite inline_suite = {.name = "inline", .tests = tests, .ntests = COUNT(tests)};
