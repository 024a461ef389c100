/*
 * Tests of server/loader/source_cdb and record: what an administrator's constant database holds is
 * what the sink gets, and a damaged one is refused as a whole. Part of the unit test program; makes
 * anonymous files.
 *
 * What can be promised of a file with one wrong byte: the load fails, or every key is there with
 * its form, in its place, and at most one value differs. A constant database has no checksum.
 */
#include <cdb.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/image.h"
#include "server/loader/record.h"
#include "server/loader/source.h"
#include "tests/unit/unit.h"

#define NUL     IMAGE_FORM_NUL
#define BARE    IMAGE_FORM_BARE
#define ENTRIES 64

/* ---- a sink that records ---- */

struct entry {
    char key[40], value[40];
    size_t key_len, value_len;
    unsigned form;
};

struct recording {
    struct sink sink;
    unsigned limit; /* refuses one more than this */
    unsigned n;
    struct entry entries[ENTRIES];
};

static int record(struct sink *sink, struct slice key, unsigned form, struct slice value)
{
    struct recording *r = (struct recording *)sink;
    struct entry *e = &r->entries[r->n < ENTRIES ? r->n : 0];

    if (r->n == r->limit) {
        sink->failed = true;
        return -1;
    }
    r->n++;
    memset(e, 0, sizeof *e);
    e->form = form;
    e->key_len = key.len;
    e->value_len = value.len;
    if (key.len > 0)
        memcpy(e->key, key.ptr, key.len < sizeof e->key ? key.len : sizeof e->key);
    if (value.len > 0)
        memcpy(e->value, value.ptr, value.len < sizeof e->value ? value.len : sizeof e->value);
    return 0;
}

static int no_default(struct sink *sink, struct slice value)
{
    (void)sink;
    (void)value;
    CHECK(false, "a stored database has no default");
    return -1;
}

static int load_into(struct recording *r, struct source *source, int fd)
{
    *r = (struct recording){.sink = {.add = record, .add_default = no_default}, .limit = 1u << 30};
    *source = (struct source){.sink = &r->sink, .fd = fd, .nsswitch = -1};
    return source_cdb.load(source);
}

/* Must be loaded. */
static void load(struct recording *r, int fd)
{
    struct source source;

    REQUIRE(load_into(r, &source, fd) == 0, "refused: %s", source.why);
    CHECK(source.error == 0 && source.ignored == 0, "error %d, %u ignored", source.error,
          source.ignored);
}

/* Must be refused, for a reason with those words. */
static void refused(int fd, const char *words, const char *about)
{
    unsigned before = open_descriptors();
    struct recording r;
    struct source source;
    int rc = load_into(&r, &source, fd);

    if (CHECK(rc == -1, "%s: loaded, %u entries", about, r.n)) {
        CHECK(strstr(source.why, words) != NULL, "%s: \"%s\" does not say \"%s\"", about,
              source.why, words);
        CHECK(!r.sink.failed, "%s: the sink is blamed", about);
    }
    CHECK(open_descriptors() == before, "%s: descriptors were opened or closed", about);
}

/* ---- files ---- */

static int new_file(const void *bytes, size_t len)
{
    int fd = memfd_create("source.cdb", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len, "cannot write a file: %s",
            strerror(errno));
    return fd;
}

struct pair {
    struct slice key, value;
};
#define PAIR(k, v)                                                                                 \
    {                                                                                              \
        {k, sizeof(k) - 1},                                                                        \
        {                                                                                          \
            v, sizeof(v) - 1                                                                       \
        }                                                                                          \
    }

static int make_cdb(const struct pair *pairs, size_t n, enum cdb_put_mode mode)
{
    int fd = new_file("", 0);
    struct cdb_make make;

    REQUIRE(cdb_make_start(&make, fd) == 0, "cdb_make_start: %s", strerror(errno));
    for (size_t i = 0; i < n; i++)
        CHECK(cdb_make_put(&make, pairs[i].key.ptr, (unsigned)pairs[i].key.len, pairs[i].value.ptr,
                           (unsigned)pairs[i].value.len, mode) >= 0,
              "cdb_make_put: %s", strerror(errno));
    REQUIRE(cdb_make_finish(&make) == 0, "cdb_make_finish: %s", strerror(errno));
    return fd;
}

static char *contents(int fd, size_t *size)
{
    struct stat st;
    char *bytes;

    REQUIRE(fstat(fd, &st) == 0, "fstat: %s", strerror(errno));
    *size = (size_t)st.st_size;
    bytes = need_memory(*size);
    REQUIRE(pread(fd, bytes, *size, 0) == st.st_size, "pread: %s", strerror(errno));
    return bytes;
}

static void expect(const struct recording *r, unsigned i, const char *key, unsigned form,
                   const char *value)
{
    const struct entry *e = &r->entries[i];

    REQUIRE(i < r->n, "entry %u is missing", i);
    CHECK(slice_is((struct slice){e->key, e->key_len}, key) && e->form == form &&
              slice_is((struct slice){e->value, e->value_len}, value),
          "entry %u is \"%.*s\" in form %u, \"%.*s\"; expected \"%s\", %u, \"%s\"", i,
          (int)e->key_len, e->key, e->form, (int)e->value_len, e->value, key, form, value);
}

/* ---- good files ---- */

static void no_entries(void)
{
    int fd = make_cdb(NULL, 0, CDB_PUT_ADD);
    struct recording r;

    load(&r, fd);
    CHECK(r.n == 0, "%u entries in a database of none", r.n);
    close(fd);
}

static void forms_and_nuls(void)
{
    static const struct pair pairs[] = {
        PAIR("bare", "value"),    PAIR("nul\0", "value\0"),     PAIR("mixed\0", "value"),
        PAIR("cut", "val\0ue\0"), PAIR("in\0side", "value"),    PAIR("in\0side\0", "value"),
        PAIR("two\0\0", "value"), PAIR("", "of the empty key"), PAIR("\0", "of a NUL"),
        PAIR("empty", ""),        PAIR("only nul", "\0"),       PAIR("\xff\x01 \n", "\x80\t"),
    };
    int fd = make_cdb(pairs, COUNT(pairs), CDB_PUT_ADD);
    struct recording r;

    load(&r, fd);
    CHECK(r.n == COUNT(pairs) - 3, "%u entries: no request can carry a NUL in a key", r.n);
    expect(&r, 0, "bare", BARE, "value");
    expect(&r, 1, "nul", NUL, "value");
    expect(&r, 2, "mixed", NUL, "value");
    expect(&r, 3, "cut", BARE, "val");
    expect(&r, 4, "", BARE, "of the empty key");
    expect(&r, 5, "", NUL, "of a NUL");
    expect(&r, 6, "empty", BARE, "");
    expect(&r, 7, "only nul", BARE, "");
    expect(&r, 8, "\xff\x01 \n", BARE, "\x80\t");
    close(fd);
}

/* postmap -w keeps both, postmap -r the last; a file keeps its order, in which the first counts. */
static void duplicates(void)
{
    static const struct pair pairs[] = {PAIR("k", "1"), PAIR("x", "2"), PAIR("k", "3"),
                                        PAIR("k\0", "4"), PAIR("k", "5")};
    struct recording r;
    int fd = make_cdb(pairs, COUNT(pairs), CDB_PUT_ADD);

    load(&r, fd);
    CHECK(r.n == 5, "%u entries", r.n);
    expect(&r, 0, "k", BARE, "1");
    expect(&r, 2, "k", BARE, "3");
    expect(&r, 3, "k", NUL, "4");
    expect(&r, 4, "k", BARE, "5");
    close(fd);
    fd = make_cdb(pairs, COUNT(pairs), CDB_PUT_REPLACE);
    load(&r, fd);
    CHECK(r.n == 3, "%u entries", r.n);
    expect(&r, 0, "x", BARE, "2");
    expect(&r, 1, "k", NUL, "4");
    expect(&r, 2, "k", BARE, "5");
    close(fd);
}

/* Some writers blank what they have replaced, and leave it where it is. */
static void blanked_records(void)
{
    static const struct pair pairs[] = {PAIR("k", "1"), PAIR("x", "2"), PAIR("k", "3"),
                                        PAIR("y", "4")};
    int fd = make_cdb(pairs, COUNT(pairs), CDB_PUT_REPLACE0);
    struct recording r;

    load(&r, fd);
    CHECK(r.n == 3, "%u entries", r.n);
    expect(&r, 0, "x", BARE, "2");
    expect(&r, 1, "k", BARE, "3");
    expect(&r, 2, "y", BARE, "4");
    close(fd);
}

static void many_entries(void)
{
    const unsigned n = 50000;
    int fd = new_file("", 0);
    struct cdb_make make;
    struct recording r;
    char text[32];

    REQUIRE(cdb_make_start(&make, fd) == 0, "cdb_make_start");
    for (unsigned i = 0; i < n; i++) {
        int len = snprintf(text, sizeof text, "user%u@example.com", i);

        cdb_make_add(&make, text, (unsigned)len, text, (unsigned)len);
    }
    REQUIRE(cdb_make_finish(&make) == 0, "cdb_make_finish");
    load(&r, fd);
    CHECK(r.n == n, "%u of %u entries", r.n, n);
    close(fd);
}

static void a_sink_that_is_full(void)
{
    static const struct pair pairs[] = {PAIR("a", "1"), PAIR("b", "2"), PAIR("c", "3")};
    struct recording r = {.sink = {.add = record, .add_default = no_default}, .limit = 2};
    struct source source = {.sink = &r.sink, .fd = make_cdb(pairs, COUNT(pairs), CDB_PUT_ADD)};

    CHECK(source_cdb.load(&source) == -1 && r.sink.failed && r.n == 2,
          "%u entries went into a sink for two", r.n);
    close(source.fd);
}

/* ---- bad files ---- */

static int small_file(void)
{
    static const struct pair pairs[] = {PAIR("alice", "alice@example.org"),
                                        PAIR("bob\0", "bob@example.org\0"),
                                        PAIR("carol", ""),
                                        PAIR("dave@example.com", "x, y"),
                                        PAIR("alice", "again"),
                                        PAIR("", "empty")};

    return make_cdb(pairs, COUNT(pairs), CDB_PUT_ADD);
}

static void no_database_at_all(void)
{
    char bytes[4096];
    int fd = new_file("", 0);

    refused(fd, "the file is empty", "an empty file");
    close(fd);
    memset(bytes, 0, sizeof bytes);
    fd = new_file(bytes, 2047);
    refused(fd, "not a cdb file", "2,047 zeros");
    close(fd);
    fd = new_file(bytes, sizeof bytes);
    refused(fd, "not a cdb file", "4,096 zeros");
    close(fd);
    memset(bytes, 'a', sizeof bytes);
    fd = new_file(bytes, sizeof bytes);
    refused(fd, "not a cdb file", "a text");
    close(fd);
    refused(-1, "size", "no descriptor");
}

/* Its size is beyond what the format can say: a sparse file, which needs no room. */
static void too_large_a_file(void)
{
    int fd = small_file();

    if (ftruncate(fd, (off_t)UINT32_MAX + 1) == 0)
        refused(fd, "4 GB", "4 GB");
    close(fd);
}

static void truncations(void)
{
    int fd = small_file();
    size_t size;

    free(contents(fd, &size));
    while (size > 1) {
        REQUIRE(ftruncate(fd, (off_t)--size) == 0, "ftruncate: %s", strerror(errno));
        refused(fd, size >= 2048 ? "damaged" : "not a cdb file", "cut short");
    }
    close(fd);
}

static void bytes_behind_the_end(void)
{
    int fd = small_file();
    size_t size;

    free(contents(fd, &size));
    for (unsigned more = 1; more < 40; more++) {
        REQUIRE(ftruncate(fd, (off_t)size + more) == 0, "ftruncate: %s", strerror(errno));
        refused(fd, "damaged", "longer than its tables");
    }
    close(fd);
}

static bool same_but_a_value(const struct recording *a, const struct recording *b)
{
    unsigned differ = 0;

    for (unsigned i = 0; i < a->n && a->n == b->n; i++) {
        const struct entry *x = &a->entries[i], *y = &b->entries[i];

        if (x->form != y->form || x->key_len != y->key_len ||
            memcmp(x->key, y->key, sizeof x->key) != 0)
            return false;
        differ += x->value_len != y->value_len || memcmp(x->value, y->value, sizeof x->value) != 0;
    }
    return a->n == b->n && differ <= 1;
}

/* Each byte of a file, in turn, becomes each of a few others. */
static void every_byte_mutated(void)
{
    static const unsigned char flips[] = {0x01, 0x02, 0x08, 0x80, 0xff};
    int good = small_file();
    size_t size;
    char *bytes = contents(good, &size);
    unsigned loaded = 0, failed = 0;
    struct recording want, got;
    struct source source;

    load(&want, good);
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i <= COUNT(flips); i++) {
            char old = bytes[at], bad = i < COUNT(flips) ? (char)(old ^ flips[i]) : '\0';
            int rc;

            REQUIRE(pwrite(good, &bad, 1, (off_t)at) == 1, "pwrite: %s", strerror(errno));
            rc = load_into(&got, &source, good);
            if (rc == 0)
                CHECK(same_but_a_value(&want, &got), "byte %zu, %02x for %02x: %u entries, not %u",
                      at, (unsigned char)bad, (unsigned char)old, got.n, want.n);
            else
                CHECK(source.why[0] != '\0', "byte %zu: no reason given", at);
            CHECK(rc == 0 || bad != old, "byte %zu: refused as it was", at);
            loaded += rc == 0;
            failed += rc != 0;
            REQUIRE(pwrite(good, &old, 1, (off_t)at) == 1, "pwrite: %s", strerror(errno));
        }
    /* All of the 2,048 bytes in front of the records count. */
    CHECK(failed > 2048 * COUNT(flips), "%u mutations were refused, %u not", failed, loaded);
    free(bytes);
    close(good);
}

/* Several wrong bytes may agree with each other; they must do no harm. */
static void several_bytes_mutated(void)
{
    int fd = small_file();
    size_t size;
    char *original = contents(fd, &size), *bytes = need_memory(size);
    uint64_t state = 20260911;

    for (int round = 0; round < 5000; round++) {
        struct recording r;
        struct source source;

        memcpy(bytes, original, size);
        for (unsigned n = 1 + (unsigned)(random_next(&state) % 6); n > 0; n--) {
            size_t from = random_next(&state) % 3 == 0 ? 0 : 2048;

            bytes[from + random_next(&state) % (size - from)] = (char)random_next(&state);
        }
        REQUIRE(pwrite(fd, bytes, size, 0) == (ssize_t)size, "pwrite: %s", strerror(errno));
        if (load_into(&r, &source, fd) != 0)
            CHECK(source.why[0] != '\0', "round %d: no reason given", round);
    }
    free(bytes);
    free(original);
    close(fd);
}

/* A record that no search finds would be "not found". */
static void tables_and_records_that_disagree(void)
{
    int fd = small_file();
    size_t size;
    char *bytes = contents(fd, &size);
    unsigned char number[4];

    for (size_t at = cdb_unpack((unsigned char *)bytes); at < size; at += 8) {
        if (cdb_unpack((unsigned char *)bytes + at + 4) == 0)
            continue;
        memset(number, 0, sizeof number);
        REQUIRE(pwrite(fd, number, 4, (off_t)at + 4) == 4, "pwrite");
        refused(fd, "is in no hash table", "a slot that is gone");
        REQUIRE(pwrite(fd, bytes, size, 0) == (ssize_t)size, "pwrite");
        cdb_pack(cdb_unpack((unsigned char *)bytes + at) ^ 0x100, number);
        REQUIRE(pwrite(fd, number, 4, (off_t)at) == 4, "pwrite");
        refused(fd, "is in no hash table", "a slot with another hash");
        REQUIRE(pwrite(fd, bytes, size, 0) == (ssize_t)size, "pwrite");
    }
    cdb_pack(0x7fffffff, number);
    REQUIRE(pwrite(fd, number, 4, 2048 + 4) == 4, "pwrite"); /* length of the first value */
    refused(fd, "damaged", "a value that is longer than the file");
    free(bytes);
    close(fd);
}

static const struct unit_test tests[] = {
    {"a database without an entry is a table without one", no_entries},
    {"keys and values end where Postfix ends them", forms_and_nuls},
    {"equal keys come in the order of the file", duplicates},
    {"records that were replaced and blanked are left out", blanked_records},
    {"50,000 entries are read", many_entries},
    {"a sink that is full ends the load", a_sink_that_is_full},
    {"what is no database is refused", no_database_at_all},
    {"a file of more than 4 GB is refused", too_large_a_file},
    {"a file that is cut short anywhere is refused", truncations},
    {"bytes behind the end are refused", bytes_behind_the_end},
    {"with any byte changed: refused, or but one value differs", every_byte_mutated},
    {"5,000 files with several changed bytes do no harm", several_bytes_mutated},
    {"hash tables and records have to agree", tables_and_records_that_disagree},
};

const struct unit_suite cdb_source_suite = {
    .name = "cdb_source", .tests = tests, .ntests = COUNT(tests)};
