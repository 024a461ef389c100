/*
 * What the unit tests share: suites, checks that say what they looked at, and small tools. Included
 * by the test program alone; it must never be linked into anything that is installed.
 */
#ifndef JAILMAP_TESTS_UNIT_H
#define JAILMAP_TESTS_UNIT_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

struct unit_test {
    const char *name; /* what the test proves */
    void (*run)(void);
};

struct unit_suite {
    const char *name;
    const struct unit_test *tests;
    size_t ntests;
    bool needs_root;
    int (*start)(void), (*stop)(void); /* 0 is good; NULL: nothing to do */
};

extern const struct unit_suite attr_suite, proxymap_suite, bridge_suite, config_suite, decide_suite,
    adopt_suite, open_suite, image_suite, cdb_source_suite, db_pages_suite, texthash_suite,
    inline_suite, unix_suite, import_suite, key_limit_suite, approvals_suite, census_suite,
    limits_suite, members_suite, environ_suite, cache_suite, lookup_suite, netstring_suite,
    tcp_table_suite, host_name_suite, hosts_suite, pattern_suite, params_suite, plan_suite,
    wal_suite;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Notes a failure with its own words, and returns ok. REQUIRE ends the test at once. */
bool unit_check(bool ok, bool fatal, const char *file, unsigned line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#define CHECK(ok, ...)   unit_check(ok, false, __FILE__, __LINE__, __VA_ARGS__)
#define REQUIRE(ok, ...) unit_check(ok, true, __FILE__, __LINE__, __VA_ARGS__)

/* CHECK that two texts are the same, and show both. */
#define CHECK_TEXT(got, want, about)                                                               \
    CHECK(strcmp(got, want) == 0, "%s: got \"%s\", expected \"%s\"", about, got, want)

/* Bytes that hold NULs, written with `|` for each: wire("status|3||"). */
struct wire {
    char bytes[2048];
    size_t len;
};
struct wire wire(const char *text);

static inline struct slice text_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* A copy in memory of exactly that length, so that a sanitizer sees the first byte read behind it.
 */
char *exact_copy(const void *bytes, size_t len) __attribute__((returns_nonnull));
/* Memory that must be had; the test ends if there is none. */
void *need_memory(size_t len) __attribute__((returns_nonnull));

/* The same numbers in every run. The state must not be 0. */
uint64_t random_next(uint64_t *state);

/* Open descriptors of this process, and whether one of them is open and close-on-exec. */
unsigned open_descriptors(void);
bool is_cloexec(int fd);

#endif
