/*
 * Tests of server/image and server/loader/image_write: what a loader writes is what a worker finds,
 * and an image that a hostile loader wrote harms nobody who reads it. Every slice that a reader
 * hands out is checked to lie inside the mapping. Part of the unit test program; makes anonymous
 * files.
 */
#include "server/image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/loader/image_write.h"
#include "tests/unit/unit.h"

#define NUL  IMAGE_FORM_NUL
#define BARE IMAGE_FORM_BARE
#define BOTH (NUL | BARE)

struct entry {
    const char *key;
    unsigned forms;
    const char *value;
};

/* ---- writing and reading ---- */

static int new_file(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC);

    REQUIRE(fd >= 0, "memfd_create: %s", strerror(errno));
    return fd;
}

static struct image_writer *start_writing(int fd)
{
    struct image_writer *w = image_writer_start(fd);

    REQUIRE(w != NULL, "image_writer_start: %s", strerror(errno));
    return w;
}

static void put(struct image_writer *w, struct slice key, unsigned forms, struct slice value)
{
    CHECK(image_writer_add(w, key, forms, value) == 0, "image_writer_add: %s", strerror(errno));
}

static void finish_writing(struct image_writer *w, uint64_t want)
{
    uint64_t entries = 4711;

    CHECK(image_writer_finish(w, &entries) == 0, "image_writer_finish: %s", strerror(errno));
    CHECK(entries == want, "%d entries, not %d", (int)entries, (int)want);
}

/* Else it is the folded copy of another, which does not count and is no part of a walk. */
static bool is_written(const struct entry *entry)
{
    return (entry->forms & IMAGE_FORMS_WRITTEN) != 0;
}

static int write_image(const struct entry *entries, size_t n)
{
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    uint64_t written = 0;

    for (size_t i = 0; i < n; i++) {
        put(w, text_slice(entries[i].key), entries[i].forms, text_slice(entries[i].value));
        written += is_written(&entries[i]);
    }
    finish_writing(w, written);
    return fd;
}

/* Opens the image in fd and closes fd, as a worker may. */
static void open_image(struct image *image, int fd)
{
    const char *why = "";

    REQUIRE(image_open(image, fd, &why) == 0, "image_open: %s", why);
    close(fd);
}

static void check_inside(const struct image *image, struct slice s)
{
    const char *begin = (const char *)image->cdb.cdb_mem, *end = begin + image->cdb.cdb_fsize;

    REQUIRE(s.ptr >= begin && s.len <= image->cdb.cdb_fsize && s.ptr + s.len <= end,
            "a slice of %zu bytes lies outside of the image of %u", s.len, image->cdb.cdb_fsize);
}

/* What a worker does ahead of a search. The slot must be one, wherever the image says it is. */
static void fetch(const struct image *image, struct slice key)
{
    const void *slot = image_fetch_slot(image, key);

    if (slot == NULL)
        return;
    check_inside(image, (struct slice){slot, 8});
    image_fetch_entry(image, slot);
}

static unsigned find(struct image *image, struct slice key, unsigned forms, struct slice *value)
{
    char *exact = exact_copy(key.ptr, key.len);
    unsigned form;

    fetch(image, (struct slice){exact, key.len});
    form = image_find(image, (struct slice){exact, key.len}, forms, value);
    free(exact);
    if (form != 0)
        check_inside(image, *value);
    return form;
}

static void expect(struct image *image, const char *key, unsigned forms, unsigned form,
                   const char *want)
{
    struct slice value;
    unsigned got = find(image, text_slice(key), forms, &value);

    if (CHECK(got == form, "key \"%s\" in forms %u: found in form %u, not %u", key, forms, got,
              form) &&
        form != 0)
        CHECK(slice_same(value, text_slice(want)), "key \"%s\": value \"%.*s\", not \"%s\"", key,
              (int)value.len, value.ptr, want);
}

/* Walks the image, which must hold these entries in this order, and then end for good. */
static void expect_sequence(struct image *image, const struct entry *entries, size_t n)
{
    uint32_t cursor = 0, before;
    struct slice key, value;

    for (size_t i = 0; i < n; i++) {
        if (!is_written(&entries[i]))
            continue;
        REQUIRE(image_next(image, &cursor, &key, &value), "the walk ends before entry %zu", i);
        check_inside(image, key);
        check_inside(image, value);
        CHECK(slice_same(key, text_slice(entries[i].key)) &&
                  slice_same(value, text_slice(entries[i].value)),
              "entry %zu is \"%.*s\", \"%.*s\"", i, (int)key.len, key.ptr, (int)value.len,
              value.ptr);
    }
    for (int again = 0; again < 3; again++) {
        before = cursor;
        CHECK(!image_next(image, &cursor, &key, &value), "the walk goes on after the end");
        CHECK(again == 0 || cursor == before, "the cursor moves on after the end");
    }
}

/* ---- what is written is what is found ---- */

static void empty_image(void)
{
    struct image image;

    open_image(&image, write_image(NULL, 0));
    expect(&image, "anything", BOTH, 0, NULL);
    expect(&image, "", BOTH, 0, NULL);
    expect(&image, IMAGE_HEADER_KEY, BOTH, 0, NULL); /* the header is no entry */
    expect_sequence(&image, NULL, 0);
    image_close(&image);
}

static void one_entry(void)
{
    static const struct entry entries[] = {{"alice", NUL, "alice@example.org"}};
    struct image image;

    open_image(&image, write_image(entries, 1));
    expect(&image, "alice", BOTH, IMAGE_FORM_NUL, "alice@example.org");
    expect(&image, "alic", BOTH, 0, NULL);
    expect(&image, "alicee", BOTH, 0, NULL);
    expect(&image, "Alice", BOTH, 0, NULL);
    expect(&image, "", BOTH, 0, NULL);
    expect_sequence(&image, entries, 1);
    image_close(&image);
}

static void forms_are_a_mask(void)
{
    static const struct entry entries[] = {
        {"nul", NUL, "with"}, {"bare", BARE, "without"}, {"", NUL, "empty with"}};
    struct image image;

    open_image(&image, write_image(entries, COUNT(entries)));
    expect(&image, "nul", IMAGE_FORM_NUL, IMAGE_FORM_NUL, "with");
    expect(&image, "nul", BOTH, IMAGE_FORM_NUL, "with");
    expect(&image, "nul", IMAGE_FORM_BARE, 0, NULL);
    expect(&image, "nul", 0, 0, NULL);
    expect(&image, "bare", IMAGE_FORM_BARE, IMAGE_FORM_BARE, "without");
    expect(&image, "bare", BOTH, IMAGE_FORM_BARE, "without");
    expect(&image, "bare", IMAGE_FORM_NUL, 0, NULL);
    expect(&image, "bare", 0, 0, NULL);
    expect(&image, "", IMAGE_FORM_NUL, IMAGE_FORM_NUL, "empty with");
    expect(&image, "", IMAGE_FORM_BARE, 0, NULL);
    expect_sequence(&image, entries, COUNT(entries));
    image_close(&image);
}

/* In whatever order the source has them. */
static void form_with_nul_wins(void)
{
    static const struct entry entries[2][2] = {
        {{"k", NUL, "with"}, {"k", BARE, "without"}},
        {{"k", BARE, "without"}, {"k", NUL, "with"}},
    };

    for (size_t i = 0; i < 2; i++) {
        struct image image;

        open_image(&image, write_image(entries[i], 2));
        expect(&image, "k", BOTH, IMAGE_FORM_NUL, "with");
        expect(&image, "k", IMAGE_FORM_NUL, IMAGE_FORM_NUL, "with");
        expect(&image, "k", IMAGE_FORM_BARE, IMAGE_FORM_BARE, "without");
        expect_sequence(&image, entries[i], 2);
        image_close(&image);
    }
}

/* A Berkeley DB may hold a key twice; the first is what Postfix finds. */
static void first_of_equal_keys(void)
{
    static const struct entry entries[] = {
        {"k", BARE, "bare 1"}, {"x", NUL, "x"},     {"k", BARE, "bare 2"},
        {"k", NUL, "nul 1"},   {"k", NUL, "nul 2"}, {"k", BARE, "bare 3"},
    };
    struct image image;

    open_image(&image, write_image(entries, COUNT(entries)));
    expect(&image, "k", BOTH, IMAGE_FORM_NUL, "nul 1");
    expect(&image, "k", IMAGE_FORM_NUL, IMAGE_FORM_NUL, "nul 1");
    expect(&image, "k", IMAGE_FORM_BARE, IMAGE_FORM_BARE, "bare 1");
    expect_sequence(&image, entries, COUNT(entries));
    image_close(&image);
}

/* A text has one entry in several indexes, and in each of them the first counts. */
static void entries_in_several_forms(void)
{
    static const struct entry entries[] = {
        {"Key", IMAGE_FORM_EXACT | IMAGE_FORM_UTF8, "as written"},
        {"key", IMAGE_FORM_ASCII | IMAGE_FORM_UNICODE, "folded"},
        {"key", IMAGE_FORM_EXACT | IMAGE_FORM_UTF8, "second line"},
        {"key", IMAGE_FORM_ANY, "third line"},
        {"any", IMAGE_FORM_ANY, "any"},
    };
    static const struct {
        const char *key;
        unsigned forms, found;
        const char *value;
    } rows[] = {
        {"Key", IMAGE_FORM_EXACT, IMAGE_FORM_EXACT, "as written"},
        {"Key", IMAGE_FORM_UTF8, IMAGE_FORM_UTF8, "as written"},
        {"Key", IMAGE_FORM_UTF8 | IMAGE_FORM_UNICODE, IMAGE_FORM_UTF8, "as written"},
        {"Key", IMAGE_FORM_ASCII, 0, NULL},
        {"Key", IMAGE_FORM_ASCII | IMAGE_FORM_UNICODE, 0, NULL},
        {"key", IMAGE_FORM_EXACT, IMAGE_FORM_EXACT, "second line"},
        {"key", IMAGE_FORM_ASCII, IMAGE_FORM_ASCII, "folded"},
        {"key", IMAGE_FORM_UNICODE, IMAGE_FORM_UNICODE, "folded"},
        /* the highest form that has it, wherever it stands */
        {"key", IMAGE_FORM_UTF8 | IMAGE_FORM_UNICODE, IMAGE_FORM_UNICODE, "folded"},
        {"key", IMAGE_FORM_EXACT | IMAGE_FORM_UTF8, IMAGE_FORM_UTF8, "second line"},
        {"key", IMAGE_FORM_ANY, IMAGE_FORM_UNICODE, "folded"},
        {"any", IMAGE_FORM_ANY, IMAGE_FORM_UNICODE, "any"},
        {"any", IMAGE_FORM_EXACT | IMAGE_FORM_ASCII, IMAGE_FORM_ASCII, "any"},
        {"any", 0, 0, NULL},
    };
    struct image image;

    open_image(&image, write_image(entries, COUNT(entries)));
    for (size_t i = 0; i < COUNT(rows); i++)
        expect(&image, rows[i].key, rows[i].forms, rows[i].found, rows[i].value);
    expect_sequence(&image, entries, COUNT(entries));
    image_close(&image);
}

/* Each form alone, and every set of forms that an entry may have. */
static void every_set_of_forms(void)
{
    for (unsigned stored = 1; stored <= IMAGE_FORM_ANY; stored++) {
        const struct entry entry = {"key", stored, "value"};
        struct image image;

        open_image(&image, write_image(&entry, 1));
        for (unsigned wanted = 0; wanted <= IMAGE_FORM_ANY; wanted++) {
            unsigned both = stored & wanted;

            expect(&image, "key", wanted, both != 0 ? 1u << (31 - __builtin_clz(both)) : 0,
                   "value");
        }
        image_close(&image);
    }
}

static void default_value(void)
{
    const struct slice values[] = {{"for all", 7}, {"", 0}, {NULL, 0}, {"a\0b", 3}};

    for (size_t i = 0; i < COUNT(values); i++) {
        int fd = new_file();
        struct image_writer *w = start_writing(fd);
        struct image image;
        struct slice value;

        if (i % 2 == 0)
            put(w, text_slice("key"), NUL, text_slice("its own"));
        CHECK(image_writer_default(w, values[i]) == 0, "default %zu: %s", i, strerror(errno));
        finish_writing(w, i % 2 == 0); /* it is no entry */
        open_image(&image, fd);
        CHECK(image.has_default, "default %zu is not there", i);
        CHECK(find(&image, text_slice("other"), BOTH, &value) == IMAGE_FORM_ANY &&
                  slice_same(value, values[i]),
              "default %zu is not found", i);
        CHECK(find(&image, text_slice(""), 0, &value) == IMAGE_FORM_ANY,
              "default %zu is not found with the empty key, in no form", i);
        CHECK(find(&image, text_slice(IMAGE_DEFAULT_KEY), BARE, &value) == IMAGE_FORM_ANY,
              "the key of the default");
        if (i % 2 == 0) {
            expect(&image, "key", BOTH, NUL, "its own");
            CHECK(find(&image, text_slice("key"), BARE, &value) == IMAGE_FORM_ANY,
                  "a key that is there in another form only");
            expect_sequence(&image, &(struct entry){"key", NUL, "its own"}, 1);
        } else {
            expect_sequence(&image, NULL, 0);
        }
        image_close(&image);
    }
}

/* Whoever names an entry like a record of the image's own finds the entry. */
static void entries_with_names_of_the_image(void)
{
    static const struct entry entries[] = {{IMAGE_DEFAULT_KEY, BARE, "an entry"},
                                           {IMAGE_HEADER_KEY, BARE, "another"}};
    struct image image;

    open_image(&image, write_image(entries, COUNT(entries)));
    CHECK(!image.has_default, "an entry became the default");
    expect(&image, IMAGE_DEFAULT_KEY, BOTH, BARE, "an entry");
    expect(&image, "other", BOTH, 0, NULL);
    expect_sequence(&image, entries, COUNT(entries));
    image_close(&image);
}

static void odd_keys_and_values(void)
{
    static const struct entry entries[] = {
        {"", BARE, "of the empty key"},
        {"empty value", NUL, ""},
        {"jailmap", NUL, "an entry with the header's key"},
        {"12345678", BARE, "a key as long as a hash"},
        {" ", BARE, " "},
        {"\xff\xfe\x80\x01", BARE, "\x80\x81"},
        {"two\nlines\t", NUL, "and\nmore"},
        {"@", BARE, "@"},
    };
    struct image image;

    open_image(&image, write_image(entries, COUNT(entries)));
    for (size_t i = 0; i < COUNT(entries); i++)
        expect(&image, entries[i].key, BOTH, entries[i].forms, entries[i].value);
    expect_sequence(&image, entries, COUNT(entries));
    image_close(&image);
}

static void keys_and_values_with_nul(void)
{
    const struct slice keys[] = {{"a\0b", 3}, {"a", 1}, {"a\0", 2}, {"\0", 1}, {"a\0b\0", 4}};
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    struct image image;

    for (size_t i = 0; i < COUNT(keys); i++)
        put(w, keys[i], i % 2 ? NUL : BARE, keys[COUNT(keys) - 1 - i]);
    finish_writing(w, COUNT(keys));
    open_image(&image, fd);
    for (size_t i = 0; i < COUNT(keys); i++) {
        struct slice value;

        CHECK(find(&image, keys[i], BOTH, &value) == (i % 2 ? IMAGE_FORM_NUL : IMAGE_FORM_BARE),
              "key %zu", i);
        CHECK(slice_same(value, keys[COUNT(keys) - 1 - i]), "value %zu", i);
    }
    image_close(&image);
}

/* As everywhere, an empty slice need not point anywhere. */
static void slices_without_address(void)
{
    const struct slice none = {NULL, 0};
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    struct image image;
    struct slice value = {"x", 1};

    put(w, none, BARE, none);
    finish_writing(w, 1);
    open_image(&image, fd);
    CHECK(image_find(&image, none, BOTH, &value) == IMAGE_FORM_BARE, "the empty key");
    CHECK(value.len == 0, "its value has %zu bytes", value.len);
    image_close(&image);
}

static void large_keys_and_values(void)
{
    static const size_t sizes[][2] = {
        {128 << 10, 100}, {10, 3000000}, {128 << 10, 3000000}, {3 << 20, 0}, {255, 256}};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct slice key = {need_memory(sizes[i][0]), sizes[i][0]}, value, small = {"small", 5};
        struct slice want = {need_memory(sizes[i][1]), sizes[i][1]};
        int fd = new_file();
        struct image_writer *w = start_writing(fd);
        struct image image;

        memset((char *)key.ptr, 'k', key.len);
        memset((char *)want.ptr, 'v', want.len);
        put(w, small, NUL, small);
        put(w, key, NUL, want);
        put(w, small, BARE, want);
        finish_writing(w, 3);
        open_image(&image, fd);
        CHECK(find(&image, key, BOTH, &value) == IMAGE_FORM_NUL && slice_same(value, want),
              "a key of %zu bytes and a value of %zu", key.len, want.len);
        key.len--;
        CHECK(find(&image, key, BOTH, &value) == 0, "a key that lacks its last byte");
        CHECK(find(&image, small, IMAGE_FORM_NUL, &value) == IMAGE_FORM_NUL &&
                  slice_same(value, small),
              "what stands before it");
        CHECK(find(&image, small, IMAGE_FORM_BARE, &value) == IMAGE_FORM_BARE &&
                  slice_same(value, want),
              "what stands behind it");
        image_close(&image);
        free((char *)key.ptr);
        free((char *)want.ptr);
    }
}

static void hundred_thousand_entries(void)
{
    const unsigned n = 100000;
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    struct image image;
    struct slice key, value;
    uint32_t cursor = 0;
    char text[32], want[32];

    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "user%u@example.com", i);
        snprintf(want, sizeof want, "mbox%u", i * 7);
        put(w, text_slice(text), i % 2 ? NUL : BARE, text_slice(want));
    }
    finish_writing(w, n);
    open_image(&image, fd);
    CHECK(le64toh(image.header.entries) == n, "the header counts %d", (int)image.header.entries);
    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "user%u@example.com", i);
        snprintf(want, sizeof want, "mbox%u", i * 7);
        if (image_find(&image, text_slice(text), BOTH, &value) !=
                (i % 2 ? IMAGE_FORM_NUL : IMAGE_FORM_BARE) ||
            !slice_same(value, text_slice(want)))
            CHECK(false, "%s is not found as it was written", text);
        if (!image_next(&image, &cursor, &key, &value) || !slice_same(key, text_slice(text)) ||
            !slice_same(value, text_slice(want)))
            CHECK(false, "entry %u of the walk is not %s", i, text);
    }
    CHECK(!image_next(&image, &cursor, &key, &value), "the walk does not end");
    for (unsigned i = n; i < n + 1000; i++) {
        snprintf(text, sizeof text, "user%u@example.com", i);
        expect(&image, text, BOTH, 0, NULL);
    }
    image_close(&image);
}

/* A hint that points elsewhere would go unseen. Where two keys want one slot, only one gets it. */
static void hints_point_to_the_entry(void)
{
    const unsigned n = 1000;
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    struct image image;
    unsigned hits = 0;
    char key[32];

    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%u", i);
        put(w, text_slice(key), NUL, text_slice("value"));
    }
    finish_writing(w, n);
    open_image(&image, fd);
    for (unsigned i = 0; i < n; i++) {
        const char *slot, *record;
        uint32_t at;

        snprintf(key, sizeof key, "key%u", i);
        slot = image_fetch_slot(&image, text_slice(key));
        if (!CHECK(slot != NULL, "no slot for %s", key))
            continue;
        memcpy(&at, slot + 4, sizeof at);
        record = (const char *)image.cdb.cdb_mem + le32toh(at) + 8 + IMAGE_HASH_LEN + 4;
        check_inside(&image, (struct slice){record, strlen(key)});
        hits += memcmp(record, key, strlen(key)) == 0;
    }
    CHECK(hits > n / 2, "%u of %u hints point to the entry", hits, n);
    image_close(&image);
    open_image(&image, write_image(NULL, 0));
    fetch(&image, text_slice("key"));
    image_close(&image);
}

static void two_walks_at_once(void)
{
    static const struct entry entries[] = {{"a", NUL, "1"}, {"b", NUL, "2"}, {"c", NUL, "3"}};
    struct image image;
    struct slice key, value;
    uint32_t one = 0, other = 0;

    open_image(&image, write_image(entries, 3));
    CHECK(image_next(&image, &one, &key, &value) && slice_is(key, "a"), "one: a");
    CHECK(image_next(&image, &one, &key, &value) && slice_is(key, "b"), "one: b");
    CHECK(image_next(&image, &other, &key, &value) && slice_is(key, "a"), "other: a");
    expect(&image, "c", BOTH, IMAGE_FORM_NUL, "3"); /* a lookup does not move them either */
    CHECK(image_next(&image, &one, &key, &value) && slice_is(key, "c"), "one: c");
    CHECK(image_next(&image, &other, &key, &value) && slice_is(key, "b"), "other: b");
    one = 0;
    CHECK(image_next(&image, &one, &key, &value) && slice_is(key, "a"), "one: a again");
    image_close(&image);
}

static void seeds_differ(void)
{
    static const struct entry entries[] = {{"a", NUL, "1"}};
    struct image one, other;
    static const uint8_t zero[sizeof one.header.seed];

    open_image(&one, write_image(entries, 1));
    open_image(&other, write_image(entries, 1));
    CHECK(memcmp(one.header.seed, other.header.seed, sizeof one.header.seed) != 0,
          "two images of the same entries have the same seed");
    CHECK(memcmp(one.header.seed, zero, sizeof zero) != 0, "the seed is zero");
    image_close(&one);
    image_close(&other);
}

static void sealed_read_only_image(void)
{
    static const struct entry entries[] = {{"a", NUL, "1"}};
    int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING), reader;
    struct image_writer *w = start_writing(fd);
    char path[64];
    struct image image;

    put(w, text_slice("a"), NUL, text_slice("1"));
    finish_writing(w, 1);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0,
          "sealing: %s", strerror(errno)); /* no writable mapping is left */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    reader = open(path, O_RDONLY | O_CLOEXEC);
    close(fd);
    REQUIRE(reader >= 0, "%s: %s", path, strerror(errno));
    open_image(&image, reader);
    expect(&image, "a", BOTH, IMAGE_FORM_NUL, "1");
    expect_sequence(&image, entries, 1);
    image_close(&image);
}

/* ---- what is not an image ---- */

static void not_an_image(int fd, const char *about)
{
    unsigned before = open_descriptors();
    const char *why = NULL;
    struct image image;

    if (CHECK(image_open(&image, fd, &why) == -1, "%s is opened", about))
        CHECK(why != NULL && why[0] != '\0', "%s: no reason given", about);
    else
        image_close(&image);
    CHECK(open_descriptors() == before, "%s: descriptors were opened or closed", about);
}

static void no_database_at_all(void)
{
    static const char *const paths[] = {"/dev/null", "/dev/zero", "/", "/proc/self/stat"};
    int ends[2], fd = new_file();

    not_an_image(fd, "an empty file");
    CHECK(ftruncate(fd, 2047) == 0, "ftruncate");
    not_an_image(fd, "a file of 2,047 zeros");
    CHECK(ftruncate(fd, 4096) == 0, "ftruncate");
    not_an_image(fd, "a file of 4,096 zeros");
    close(fd);
    not_an_image(fd, "no descriptor");
    not_an_image(-1, "descriptor -1");
    for (size_t i = 0; i < COUNT(paths); i++) {
        fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            not_an_image(fd, paths[i]);
            close(fd);
        }
    }
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0, "pipe2: %s", strerror(errno));
    not_an_image(ends[0], "a pipe");
    close(ends[0]);
    close(ends[1]);
}

/* A constant database with one record under the given key. */
static int foreign_database(const char *key, const void *value, unsigned len)
{
    struct cdb_make make;
    int fd = new_file();

    REQUIRE(cdb_make_start(&make, fd) == 0 &&
                cdb_make_add(&make, key, (unsigned)strlen(key), value, len) >= 0 &&
                cdb_make_finish(&make) == 0,
            "cannot write a database");
    return fd;
}

static void database_without_header(void)
{
    struct image_header header = {.magic = htole32(IMAGE_MAGIC)};
    const struct {
        const char *about, *key;
        uint32_t magic;
        unsigned len;
    } rows[] = {
        {"no header", "something", IMAGE_MAGIC, sizeof header},
        {"a longer key", "jailmapd", IMAGE_MAGIC, sizeof header},
        {"no magic", IMAGE_HEADER_KEY, 0, sizeof header},
        {"the next version", IMAGE_HEADER_KEY, IMAGE_MAGIC + (1u << 24), sizeof header},
        {"an empty header", IMAGE_HEADER_KEY, IMAGE_MAGIC, 0},
        {"a short header", IMAGE_HEADER_KEY, IMAGE_MAGIC, sizeof header - 1},
        {"a magic and no more", IMAGE_HEADER_KEY, IMAGE_MAGIC, 4},
    };
    char longer[sizeof header + 1] = {0};
    int fd;

    for (size_t i = 0; i < COUNT(rows); i++) {
        header.magic = htole32(rows[i].magic);
        fd = foreign_database(rows[i].key, &header, rows[i].len);
        not_an_image(fd, rows[i].about);
        close(fd);
    }
    header.magic = htole32(IMAGE_MAGIC);
    memcpy(longer, &header, sizeof header);
    fd = foreign_database(IMAGE_HEADER_KEY, longer, sizeof longer);
    not_an_image(fd, "a long header");
    close(fd);
}

/* ---- hostile images ---- */

/* Entries that are small and many enough for hash chains, and one that spans pages. */
static int image_to_spoil(void)
{
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    char key[16], big[3000];

    memset(big, 'b', sizeof big);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key%u", i);
        put(w, text_slice(key), i % 2 ? NUL : BARE, text_slice(key));
    }
    put(w, text_slice("big"), NUL, (struct slice){big, sizeof big});
    put(w, text_slice(""), BARE, text_slice(""));
    CHECK(image_writer_default(w, text_slice("the default")) == 0, "image_writer_default");
    finish_writing(w, 42);
    return fd;
}

/* Reads all that can be read. Nothing may crash, hang, or lie outside of the mapping. */
static void read_all(int fd)
{
    struct image image;
    const char *why = NULL;
    struct slice key, value;
    uint32_t cursor = 0;
    unsigned steps = 0;

    if (image_open(&image, fd, &why) != 0) {
        CHECK(why != NULL, "no reason given");
        return;
    }
    for (unsigned i = 0; i < 42; i++) {
        char text[16];

        snprintf(text, sizeof text, "key%u", i);
        find(&image, text_slice(i == 40 ? "big" : i == 41 ? "" : text), 1 + i % 3, &value);
    }
    while (image_next(&image, &cursor, &key, &value)) {
        check_inside(&image, key);
        check_inside(&image, value);
        REQUIRE(steps++ < image.cdb.cdb_fsize, "the walk does not end");
    }
    for (unsigned i = 0; i < 20; i++) { /* any cursor that a client could have kept */
        cursor = i < 10 ? i * 1000 : 0xffffffffu - i * i;
        if (image_next(&image, &cursor, &key, &value)) {
            check_inside(&image, key);
            check_inside(&image, value);
        }
    }
    image_close(&image);
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

/* A 32-bit number that hurts where it is a length or a position. */
static uint32_t odd_number(uint64_t *state, size_t size)
{
    static const uint32_t odd[] = {0,          1,          7,          8,          2047,
                                   2048,       2049,       0x7fffffff, 0x80000000, 0xffffffff,
                                   0xfffffff8, 0xfffff7ff, 0x80000001, 0xfffffffe};

    switch (random_next(state) % 3) {
    case 0:
        return odd[random_next(state) % COUNT(odd)];
    case 1:
        return (uint32_t)size - (uint32_t)(random_next(state) % 32);
    default:
        return (uint32_t)random_next(state);
    }
}

/* Mostly where lengths and positions are: every aligned word is one in some record. */
static void spoil(char *bytes, size_t size, uint64_t *state)
{
    for (unsigned n = 1 + (unsigned)(random_next(state) % 4); n > 0; n--) {
        uint32_t number = htole32(odd_number(state, size));

        switch (random_next(state) % 4) {
        case 0: /* any byte */
            bytes[random_next(state) % size] = (char)random_next(state);
            break;
        case 1: /* the directory */
            memcpy(bytes + random_next(state) % 512 * 4, &number, 4);
            break;
        case 2: /* anywhere */
            memcpy(bytes + random_next(state) % (size - 4), &number, 4);
            break;
        default: /* the first records */
            memcpy(bytes + 2048 + random_next(state) % 400, &number, 4);
        }
    }
}

static void mutations(void)
{
    int good = image_to_spoil(), fd = new_file();
    uint64_t state = 31337;
    size_t size;
    char *original = contents(good, &size), *bytes = need_memory(size);

    for (int round = 0; round < 6000; round++) {
        memcpy(bytes, original, size);
        spoil(bytes, size, &state);
        REQUIRE(pwrite(fd, bytes, size, 0) == (ssize_t)size, "pwrite: %s", strerror(errno));
        read_all(fd);
    }
    free(bytes);
    free(original);
    close(fd);
    close(good);
}

static void truncations(void)
{
    int fd = image_to_spoil();
    size_t size;

    free(contents(fd, &size));
    while (size > 0) {
        size -= size > 2100 ? 7 : 1;
        if (size < 2000)
            size = size > 200 ? size - 200 : 0;
        REQUIRE(ftruncate(fd, (off_t)size) == 0, "ftruncate: %s", strerror(errno));
        read_all(fd);
    }
    close(fd);
}

static void garbage_behind_the_end(void)
{
    int fd = image_to_spoil();
    size_t size;
    struct image image;
    char garbage[5000];

    free(contents(fd, &size));
    memset(garbage, 0xff, sizeof garbage);
    REQUIRE(pwrite(fd, garbage, sizeof garbage, (off_t)size) == sizeof garbage, "pwrite");
    read_all(fd);
    open_image(&image, fd);
    expect(&image, "key7", BOTH, IMAGE_FORM_NUL, "key7");
    image_close(&image);
}

static void random_databases(void)
{
    int fd = new_file();
    uint64_t state = 271828;
    char bytes[3000];

    for (int round = 0; round < 1000; round++) {
        for (size_t i = 0; i < sizeof bytes; i += 4) {
            uint32_t number =
                htole32(i < 2048 && i % 8 == 0 ? 2048 + (uint32_t)(random_next(&state) % 960)
                                               : (uint32_t)(random_next(&state) % 64));

            memcpy(bytes + i, &number, 4);
        }
        REQUIRE(pwrite(fd, bytes, sizeof bytes, 0) == sizeof bytes, "pwrite");
        read_all(fd);
    }
    close(fd);
}

/* Entries whose inner length says more than the record holds: they are not there. */
static void entries_that_lie(void)
{
    static const uint32_t words[] = {0x20000002, 0x30000003, 0xf0000064,
                                     0x2fffffff, 0x10000002, 0xffffffff};

    for (size_t i = 0; i < COUNT(words); i++) {
        struct image_header header = {.magic = htole32(IMAGE_MAGIC)};
        unsigned char hash[IMAGE_HASH_LEN];
        uint32_t word = htole32(words[i]), cursor = 0;
        char record[5];
        struct cdb_make make;
        struct image image;
        struct slice key, value;
        int fd = new_file();

        memcpy(record, &word, 4);
        record[4] = 'k';
        crypto_shorthash(hash, (const unsigned char *)"k", 1, header.seed);
        REQUIRE(cdb_make_start(&make, fd) == 0, "cdb_make_start");
        cdb_make_add(&make, hash, sizeof hash, record, sizeof record);
        cdb_make_add(&make, hash, sizeof hash, record, 3); /* no room for the word itself */
        cdb_make_add(&make, hash, sizeof hash, record, 0);
        word = htole32(1 | BARE << 28);
        memcpy(record, &word, 4);
        cdb_make_add(&make, hash, sizeof hash, record, sizeof record); /* this one is true */
        cdb_make_add(&make, IMAGE_HEADER_KEY, 7, &header, sizeof header);
        REQUIRE(cdb_make_finish(&make) == 0, "cdb_make_finish");
        open_image(&image, fd);
        expect(&image, "k", BOTH, IMAGE_FORM_BARE, "");
        CHECK(image_next(&image, &cursor, &key, &value) && slice_is(key, "k") && value.len == 0,
              "the true entry");
        CHECK(!image_next(&image, &cursor, &key, &value), "an entry that lies");
        image_close(&image);
    }
}

/* Found by fuzzing: libcdb adds lengths up in 32 bits, and the sum may lead back. Without an end
 * there, the worker would walk for ever, or the client from entry to entry. */
static void records_that_lead_back(void)
{
    static const struct entry entries[] = {{"a", BARE, "1"}, {"b", BARE, "2"}};
    const uint32_t record = 8 + IMAGE_HASH_LEN + 4 + 2, first = 2048;

    alarm(60); /* a walk that never ends ends the run */
    for (uint32_t good = 0; good < COUNT(entries); good++) {
        uint32_t at = first + good * record, back[] = {htole32(first - at - 8), 0}, cursor = 0;
        int fd = write_image(entries, COUNT(entries));
        struct slice key, value;
        struct image image;

        REQUIRE(pwrite(fd, back, sizeof back, at) == sizeof back, "pwrite: %s", strerror(errno));
        open_image(&image, fd);
        for (uint32_t i = 0; i < good; i++)
            CHECK(image_next(&image, &cursor, &key, &value), "an entry before it is not there");
        CHECK(!image_next(&image, &cursor, &key, &value), "the walk goes back");
        CHECK(!image_next(&image, &cursor, &key, &value), "and so it does when asked again");
        image_close(&image);
    }
    alarm(0);
}

/* ---- a writer that cannot write ---- */

static void writer_without_room(void)
{
    static const char *const paths[] = {"/dev/full", "/dev/null"};
    char big[100000];

    memset(big, 'b', sizeof big);
    for (size_t i = 0; i < COUNT(paths); i++) {
        int fd = open(paths[i], (i == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC), rc = 0;
        struct image_writer *w = fd >= 0 ? image_writer_start(fd) : NULL;
        uint64_t entries;

        if (w != NULL) {
            for (int n = 0; n < 3; n++)
                rc |= image_writer_add(w, text_slice("key"), BARE, (struct slice){big, sizeof big});
            rc |= image_writer_finish(w, &entries);
            CHECK(rc == -1, "%s takes an image", paths[i]);
        }
        if (fd >= 0)
            close(fd);
    }
}

static void writer_without_descriptor(void)
{
    struct image_writer *w = image_writer_start(-1);
    uint64_t entries;

    if (w != NULL) {
        image_writer_add(w, text_slice("key"), BARE, text_slice("value"));
        CHECK(image_writer_finish(w, &entries) == -1, "an image in no file");
    }
}

/* The length of a key shares its word with its forms. The bytes are not looked at before that. */
static void key_too_long_for_its_word(void)
{
    int fd = new_file();
    struct image_writer *w = start_writing(fd);
    struct slice small = {"k", 1}, huge = {"k", (size_t)IMAGE_KEY_MAX + 1};
    struct image image;

    errno = 0;
    CHECK(image_writer_add(w, huge, BARE, small) == -1 && errno == EFBIG, "256 MB of key: %s",
          strerror(errno));
    errno = 0;
    huge.len = (size_t)UINT32_MAX + 1;
    CHECK(image_writer_add(w, small, BARE, huge) == -1 && errno == EFBIG, "4 GiB of value: %s",
          strerror(errno));
    put(w, small, BARE, text_slice("value"));
    finish_writing(w, 1);
    open_image(&image, fd);
    expect(&image, "k", BOTH, IMAGE_FORM_BARE, "value");
    image_close(&image);
}

static const struct unit_test tests[] = {
    {"an image of nothing", empty_image},
    {"an image of one entry", one_entry},
    {"each stored form is found if it is asked for", forms_are_a_mask},
    {"where both forms are stored the one with NUL wins", form_with_nul_wins},
    {"of equal keys the first is found", first_of_equal_keys},
    {"in each form the first entry is found, and the highest form wins", entries_in_several_forms},
    {"every set of forms is found in each of them", every_set_of_forms},
    {"a default answers for every key that has no entry", default_value},
    {"an entry may have the name of one of the image's own records",
     entries_with_names_of_the_image},
    {"empty, binary and odd keys and values", odd_keys_and_values},
    {"keys and values with NULs inside", keys_and_values_with_nul},
    {"empty slices need no address", slices_without_address},
    {"keys of 128 KiB and values of 3 MB", large_keys_and_values},
    {"100,000 entries are found and walked in their order", hundred_thousand_entries},
    {"hints point to the entry that will be read", hints_point_to_the_entry},
    {"walks and lookups do not disturb each other", two_walks_at_once},
    {"two images of the same entries have different seeds", seeds_differ},
    {"an image is sealed and read through a read-only descriptor", sealed_read_only_image},
    {"what is no database is refused", no_database_at_all},
    {"a database with no header of this version is refused", database_without_header},
    {"entries that claim more than they hold are not there", entries_that_lie},
    {"a record that leads back ends a walk", records_that_lead_back},
    {"6,000 mutated images harm nobody", mutations},
    {"truncated images harm nobody", truncations},
    {"bytes behind the end of an image harm nobody", garbage_behind_the_end},
    {"1,000 random databases harm nobody", random_databases},
    {"a writer without room says so", writer_without_room},
    {"a writer without a file says so", writer_without_descriptor},
    {"keys and values beyond the format are refused and leave the image good",
     key_too_long_for_its_word},
};

const struct unit_suite image_suite = {.name = "image", .tests = tests, .ntests = COUNT(tests)};
