/*
 * Tests of server/loader/source_environ: the entries of `set` are the table, and the environment
 * of the process is not. Part of the unit test program; touches memory and its own environment.
 */
#include <stdlib.h>

#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

static void expect(const char *set, const char *entries)
{
    struct wire w = wire(set);
    struct loaded l = {0};

    load_name(&l, &source_environ, (struct slice){w.bytes, w.len});
    expect_loaded(&l, entries, "");
    expect_sane(&l);
    CHECK(!l.has_default, "a value for every key");
    unload(&l);
}

static void entries_are_the_table(void)
{
    expect("", "");
    expect("A=b|", "EUAF A=b\n");
    expect("A=b|c=|D=e=f|", "EUAF A=b\nEUAF c=\nEUAF D=e=f\n");
    expect("A b=\xff\xfe \t|", "EUAF A b=\xff\xfe \t\n");
}

/* A monitor refuses two of one name; whoever gets them finds the first. */
static void the_first_of_two_is_found(void)
{
    struct wire w = wire("A=1|A=2|");
    struct loaded l = {0};
    struct slice value = {NULL, 0};

    load_name(&l, &source_environ, (struct slice){w.bytes, w.len});
    CHECK(loaded_find(&l, text_slice("A"), 15, &value) && slice_is(value, "1"), "another value");
    unload(&l);
}

static void broken_entries(void)
{
    static const struct {
        const char *set, *why;
    } rows[] = {
        {"A=b", "does not end"},  {"A=b|c", "does not end"}, {"|", "has no name"},
        {"A=b||", "has no name"}, {"=b|", "has no name"},    {"A|", "has no name"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire w = wire(rows[i].set);
        struct loaded l = {0};

        load_name(&l, &source_environ, (struct slice){w.bytes, w.len});
        expect_failed(&l, rows[i].why);
        unload(&l);
    }
}

static void nothing_leaks(void)
{
    struct loaded l = {0};

    setenv("SECRET_OF_THE_TEST", "x", 1);
    load_name(&l, &source_environ, (struct slice){"", 0});
    CHECK(l.rc == 0 && l.count == 0 && !l.has_default, "%zu entries of nothing", l.count);
    unload(&l);
    unsetenv("SECRET_OF_THE_TEST");
}

static void a_full_image_ends_it(void)
{
    struct wire w = wire("A=b|c=d|e=f|");
    struct loaded l = {.refuse_at = 1};

    load_name(&l, &source_environ, (struct slice){w.bytes, w.len});
    CHECK(l.rc == -1 && l.count == 1 && l.sink.failed, "%zu entries", l.count);
    unload(&l);
}

static const struct unit_test tests[] = {
    {"the entries of set are the table", entries_are_the_table},
    {"of two entries of a name the first is found", the_first_of_two_is_found},
    {"what is no entry is refused", broken_entries},
    {"nothing of the environment is in it", nothing_leaks},
    {"an image that takes no more ends the load", a_full_image_ends_it},
};

const struct unit_suite environ_suite = {.name = "environ", .tests = tests, .ntests = COUNT(tests)};
