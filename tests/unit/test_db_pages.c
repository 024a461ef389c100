/*
 * Tests of server/loader/db_pages: pages of a hash and of a btree laid out by hand, in both byte
 * orders, are checked and their records counted; a page that is not what its place says, that is
 * not filled by what it counts, or that does not lead where it has to is refused. Part of the unit
 * test program; makes anonymous files.
 */
#include "server/loader/db_pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define PAGE  512u
#define PAGES 10u
#define LONG  700u /* bytes of the long items */

/* The hash: three buckets, the second with two pages, and room for a fourth. */
enum { META, BUCKET0, BUCKET1, BUCKET2, ROOM, MORE, LONG_A, LONG_B, HASH_FREE, HASH_ZEROS };
/* The btree, of three levels. */
enum { BTREE_META, ROOT, LEFT, RIGHT, LEAF1, LEAF2, LEAF3, BYTES_A, BYTES_B, BTREE_FREE };

#define HASH_RECORDS  10
#define BTREE_RECORDS 9
#define EXPECTED      4096u /* by postmap(1) */

struct file {
    unsigned char bytes[PAGES * PAGE];
    bool swapped, checksums;
};

static void set16(struct file *f, unsigned page, unsigned at, unsigned number)
{
    uint16_t value = (uint16_t)number;

    value = f->swapped ? __builtin_bswap16(value) : value;
    memcpy(f->bytes + page * PAGE + at, &value, sizeof value);
}

static void set32(struct file *f, unsigned page, unsigned at, uint32_t value)
{
    value = f->swapped ? __builtin_bswap32(value) : value;
    memcpy(f->bytes + page * PAGE + at, &value, sizeof value);
}

static void set_item(struct file *f, unsigned page, unsigned item, unsigned at)
{
    set16(f, page, (f->checksums ? 32 : 26) + item * 2, at);
}

static void set_next(struct file *f, unsigned page, uint32_t next)
{
    set32(f, page, 16, next);
}

static void begin_page(struct file *f, unsigned page, unsigned type, unsigned level)
{
    memset(f->bytes + page * PAGE, 0, PAGE);
    set32(f, page, 8, page);
    f->bytes[page * PAGE + 24] = (unsigned char)level;
    f->bytes[page * PAGE + 25] = (unsigned char)type;
    set16(f, page, 22, PAGE);
}

static void zero(struct file *f, unsigned page)
{
    memset(f->bytes + page * PAGE, 0, PAGE);
}

/* Where the LONG bytes of an item are. */
static void set_elsewhere(struct file *f, unsigned page, unsigned at, unsigned first)
{
    set32(f, page, at + 4, first);
    set32(f, page, at + 8, LONG);
}

static void fill_overflow(struct file *f, unsigned page, unsigned bytes, unsigned next)
{
    begin_page(f, page, 7, 0);
    set16(f, page, 20, 1);
    set16(f, page, 22, bytes);
    set_next(f, page, next);
}

/* Items of these lengths, behind each other from the end of the page. Returns where they begin. */
static unsigned fill_hash(struct file *f, unsigned page, const unsigned *lengths, unsigned n)
{
    unsigned at = PAGE;

    begin_page(f, page, page % 2 ? 13 : 2, 0);
    for (unsigned i = 0; i < n; i++) {
        at -= lengths[i];
        f->bytes[page * PAGE + at] = 1;
        set_item(f, page, i, at);
    }
    set16(f, page, 20, n);
    set16(f, page, 22, at);
    return at;
}

/* Keys of 5 bytes and values of 6; the offsets stand in another order than the items. */
static void fill_leaf(struct file *f, unsigned page, unsigned records, unsigned next)
{
    unsigned at = PAGE;

    begin_page(f, page, 5, 1);
    set_next(f, page, next);
    for (unsigned i = records; i-- > 0;) {
        at -= 8;
        set16(f, page, at, 5);
        f->bytes[page * PAGE + at + 2] = 1;
        set_item(f, page, i * 2, at);
        at -= 12;
        set16(f, page, at, 6);
        f->bytes[page * PAGE + at + 2] = 1;
        set_item(f, page, i * 2 + 1, at);
    }
    set16(f, page, 20, records * 2);
    set16(f, page, 22, at);
}

static void fill_inner(struct file *f, unsigned page, unsigned level, unsigned one, unsigned two)
{
    const unsigned children[] = {one, two};
    unsigned n = two != 0 ? 2 : 1;

    begin_page(f, page, 3, level);
    for (unsigned i = 0; i < n; i++) {
        unsigned at = PAGE - 12 * (i + 1);

        f->bytes[page * PAGE + at + 2] = 1;
        set32(f, page, at + 4, children[i]);
        set_item(f, page, i, at);
    }
    set16(f, page, 20, n);
    set16(f, page, 22, PAGE - 12 * n);
}

/* Offset of the value of the first record of a leaf of that many. */
static unsigned first_value(unsigned records)
{
    return PAGE - 20 * records;
}

static struct file hash_file(bool swapped)
{
    static const unsigned lengths[] = {6, 10, 1, 2, 30, 4, 5, 12};
    struct file f = {.swapped = swapped};
    unsigned at;

    begin_page(&f, META, 8, 0);
    set32(&f, META, 32, PAGES - 1);
    set32(&f, META, 72, 2); /* the last bucket */
    for (unsigned power = 0; power < 3; power++)
        set32(&f, META, 96 + power * 4, 1);
    set32(&f, META, 88, EXPECTED + HASH_RECORDS);
    at = fill_hash(&f, BUCKET0, lengths, COUNT(lengths));
    f.bytes[BUCKET0 * PAGE + at] = 3;
    set_elsewhere(&f, BUCKET0, at, LONG_A);
    fill_hash(&f, BUCKET1, lengths, 2);
    set_next(&f, BUCKET1, MORE);
    fill_hash(&f, BUCKET2, lengths, 6);
    fill_hash(&f, MORE, lengths, 4);
    fill_overflow(&f, LONG_A, 400, LONG_B);
    fill_overflow(&f, LONG_B, LONG - 400, 0);
    begin_page(&f, HASH_FREE, 0, 0);
    return f; /* ROOM and HASH_ZEROS are zeros, as libdb leaves them */
}

static struct file make_btree(bool swapped, bool checksums)
{
    struct file f = {.swapped = swapped, .checksums = checksums};

    begin_page(&f, BTREE_META, 9, 0);
    set32(&f, BTREE_META, 32, PAGES - 1);
    set32(&f, BTREE_META, 88, ROOT);
    fill_inner(&f, ROOT, 3, LEFT, RIGHT);
    fill_inner(&f, LEFT, 2, LEAF1, LEAF2);
    fill_inner(&f, RIGHT, 2, LEAF3, 0);
    fill_leaf(&f, LEAF1, 4, LEAF2);
    fill_leaf(&f, LEAF2, 4, LEAF3);
    fill_leaf(&f, LEAF3, 2, 0);
    f.bytes[LEAF1 * PAGE + first_value(4) + 2] = 3;
    set_elsewhere(&f, LEAF1, first_value(4), BYTES_A);
    f.bytes[LEAF2 * PAGE + first_value(4) + 2] |= 0x80; /* deleted */
    fill_overflow(&f, BYTES_A, 400, BYTES_B);
    fill_overflow(&f, BYTES_B, LONG - 400, 0);
    begin_page(&f, BTREE_FREE, 0, 0);
    return f;
}

static struct file btree_file(bool swapped)
{
    return make_btree(swapped, false);
}

static int check(const struct file *f, size_t size, struct source *source, uint64_t *records)
{
    const struct db_layout layout = {(off_t)size, PAGE, f->swapped, f->checksums};
    int fd = memfd_create("source.db", MFD_CLOEXEC), rc;

    REQUIRE(fd >= 0 && write(fd, f->bytes, sizeof f->bytes) == sizeof f->bytes, "no file: %s",
            strerror(errno));
    *source = (struct source){.fd = fd};
    rc = db_pages_check(source, &layout, records);
    close(fd);
    CHECK(rc == 0 || source->why[0] != '\0', "no reason given");
    return rc;
}

static void refused(const struct file *f, const char *words)
{
    struct source source;
    uint64_t records;

    if (CHECK(check(f, sizeof f->bytes, &source, &records) == -1, "%s: accepted", words))
        CHECK(strstr(source.why, words) != NULL, "\"%s\" does not say \"%s\"", source.why, words);
}

static void accepted(const struct file *f, unsigned want)
{
    struct source source;
    uint64_t records;

    if (CHECK(check(f, sizeof f->bytes, &source, &records) == 0, "refused: %s", source.why))
        CHECK(records == want, "%d records, not %u", (int)records, want);
}

static void counts(void)
{
    for (int swapped = 0; swapped < 2; swapped++) {
        struct file hash = hash_file(swapped), btree = btree_file(swapped);

        accepted(&hash, HASH_RECORDS);
        accepted(&btree, BTREE_RECORDS);
        btree = make_btree(swapped, true);
        accepted(&btree, BTREE_RECORDS);
    }
}

static void empty_pages(void)
{
    struct file f = hash_file(false);

    fill_hash(&f, BUCKET2, NULL, 0);
    set32(&f, META, 88, HASH_RECORDS - 3);
    accepted(&f, HASH_RECORDS - 3);
    f = btree_file(false);
    fill_leaf(&f, LEAF3, 0, 0);
    accepted(&f, BTREE_RECORDS - 2);
    fill_leaf(&f, ROOT, 0, 0);
    for (unsigned page = LEFT; page <= BTREE_FREE; page++)
        begin_page(&f, page, 0, 0);
    accepted(&f, 0);
}

/* Of pages that are in use none may be zeros; of the others all may. */
static void zeros(void)
{
    for (unsigned page = META; page < PAGES; page++) {
        struct file hash = hash_file(page % 2), btree = btree_file(page % 2);

        zero(&hash, page);
        zero(&btree, page);
        if (page == ROOM || page >= HASH_FREE)
            accepted(&hash, HASH_RECORDS);
        else
            refused(&hash, "damaged: ");
        if (page == BTREE_FREE)
            accepted(&btree, BTREE_RECORDS);
        else
            refused(&btree, "damaged: ");
    }
}

/* As postmap(1) leaves the first of two buckets if all keys belong into the second. */
static struct file one_bucket_used(void)
{
    static const unsigned lengths[] = {6, 10};
    struct file f = {.swapped = false};

    begin_page(&f, META, 8, 0);
    set32(&f, META, 32, 2);
    set32(&f, META, 72, 1);
    set32(&f, META, 96, 1);
    set32(&f, META, 100, 1);
    fill_hash(&f, 2, lengths, 2);
    return f;
}

static void bucket_never_used(void)
{
    struct file f = one_bucket_used();

    for (uint32_t promised = 0; promised < 4; promised++) {
        set32(&f, META, 88, promised);
        if (promised == 1)
            accepted(&f, 1);
        else
            refused(&f, "page 1 is zeros, and the pages hold 1 records");
        set32(&f, META, 88, EXPECTED + promised);
        if (promised == 1)
            accepted(&f, 1);
        else
            refused(&f, "page 1 is zeros");
    }
    set32(&f, META, 88, EXPECTED + 1);
    begin_page(&f, 1, 0, 0);
    refused(&f, "page 1 should be a bucket page, and is an empty page");
    zero(&f, 1);
    zero(&f, 2);
    set32(&f, META, 88, EXPECTED);
    refused(&f, "page 2 is zeros, and should be bucket 1 of 2");
    set32(&f, META, 84, 40); /* its maker's choice of how full a bucket is: any may be unused */
    accepted(&f, 0);
}

static void records_promised(void)
{
    struct file f = hash_file(false);

    set32(&f, META, 88, HASH_RECORDS);
    accepted(&f, HASH_RECORDS);
    set32(&f, META, 88, 0); /* never counted */
    accepted(&f, HASH_RECORDS);
    set32(&f, META, 88, HASH_RECORDS + 1);
    refused(&f, "the pages hold 10 records, not 11 or 4096 less");
    set32(&f, META, 88, EXPECTED + HASH_RECORDS + 1);
    refused(&f, "the pages hold 10 records, not 4107 or 4096 less");
}

static void buckets_elsewhere(void)
{
    struct file f = hash_file(true);

    set32(&f, META, 72, PAGES);
    refused(&f, "bucket 10 should be the last, of 10 pages");
    f = hash_file(true);
    set32(&f, META, 96, 0);
    refused(&f, "page 0 leads to page 0");
    f = hash_file(true);
    set32(&f, META, 96 + 8, PAGES);
    refused(&f, "page 0 leads to page 12, and the last is page 9");
    f = hash_file(true);
    set32(&f, META, 96 + 4, 0);
    refused(&f, "page 0 leads to page 1, as another one does");
    f = hash_file(true);
    set32(&f, META, 72, 1);
    refused(&f, "page 3 is a bucket page, and nothing leads to it");
}

static void chains(void)
{
    struct file f = hash_file(false);

    set_next(&f, BUCKET1, 0);
    refused(&f, "page 5 is a bucket page, and nothing leads to it");
    set_next(&f, BUCKET1, LONG_A);
    refused(&f, "page 2 leads to page 6, as another one does");
    set_next(&f, BUCKET1, HASH_FREE);
    refused(&f, "page 8 should be a bucket page, and is an empty page");
    f = hash_file(false);
    set_next(&f, MORE, MORE);
    refused(&f, "page 5 leads to page 5, as another one does");
    set_next(&f, MORE, PAGES);
    refused(&f, "page 5 leads to page 10, and the last is page 9");
}

/* The same chain of a hash and of a btree, which begins on page first. */
static void cut_chain(const struct file *good, unsigned first)
{
    struct file f = *good;

    set_next(&f, first, 0);
    refused(&f, "behind it has 400 bytes, and should have 700");
    set_next(&f, first, first);
    refused(&f, "as another one does");
    set_next(&f, first, UINT32_MAX);
    refused(&f, "and the last is page 9");
    f = *good;
    set16(&f, first + 1, 22, 299);
    refused(&f, "behind it has 699 bytes, and should have 700");
    set16(&f, first + 1, 22, PAGE - 26 + 1);
    refused(&f, "does not hold what it counts");
    f = *good;
    zero(&f, first + 1);
    refused(&f, "should be an overflow page, and is an empty page");
}

static void long_items(void)
{
    struct file f = hash_file(true);

    cut_chain(&f, LONG_A);
    f = btree_file(true);
    cut_chain(&f, BYTES_A);
    set32(&f, LEAF1, first_value(4) + 4, LEAF2);
    refused(&f, "leads to page 5, as another one does");
    set32(&f, LEAF1, first_value(4) + 4, 0);
    refused(&f, "page 4 leads to page 0");
}

static void trees(void)
{
    struct file f = btree_file(false);

    set32(&f, BTREE_META, 88, PAGES);
    refused(&f, "page 10 should be the root");
    set32(&f, BTREE_META, 88, LEFT);
    refused(&f, "page 1 is an inner page, and nothing leads to it");
    set32(&f, BTREE_META, 88, BYTES_A);
    refused(&f, "damaged: ");
    f = btree_file(false);
    fill_inner(&f, RIGHT, 2, LEAF2, 0);
    refused(&f, "page 3 leads to page 5, as another one does");
    fill_inner(&f, RIGHT, 2, BTREE_FREE, 0);
    refused(&f, "page 9 should be a leaf of level 1, and is an empty page");
    f = btree_file(false);
    fill_inner(&f, LEFT, 2, LEAF1, 0);
    refused(&f, "page 5 is a leaf, and nothing leads to it");
    f = btree_file(false);
    fill_inner(&f, RIGHT, 3, LEAF3, 0);
    refused(&f, "page 3 should be an inner page of level 2, and is an inner page of level 3");
    fill_inner(&f, RIGHT, 1, LEAF3, 0);
    refused(&f, "page 3 of type 3 does not hold");
    fill_inner(&f, RIGHT, 2, ROOT, 0);
    refused(&f, "page 1 should be a leaf");
}

static void rows_of_leaves(void)
{
    struct file f = btree_file(false);

    set_next(&f, LEAF2, 0);
    refused(&f, "of 3 leaves not all are in their row");
    set_next(&f, LEAF2, LEAF1);
    refused(&f, "over and over");
    set_next(&f, LEAF2, BYTES_A);
    refused(&f, "page 7 should be a leaf");
    set_next(&f, LEAF2, PAGES);
    refused(&f, "page 10 should be a leaf");
    f = btree_file(false);
    set_next(&f, LEAF3, LEAF3);
    refused(&f, "over and over");
    f = btree_file(false); /* libdb begins with the first child */
    fill_inner(&f, LEFT, 2, LEAF2, LEAF1);
    refused(&f, "of 3 leaves not all");
}

static void page_in_the_wrong_place(void)
{
    for (unsigned page = META; page < PAGES; page++) {
        struct file hash = hash_file(page % 2), btree = btree_file(page % 2);

        set32(&hash, page, 8, page + 1);
        if (page != ROOM && page < HASH_FREE)
            refused(&hash, "says that it is page");
        set32(&btree, page, 8, page + 1);
        if (page != BTREE_FREE)
            refused(&btree, "says that it is page");
    }
}

/* Fewer entries than the page holds would be a shorter table. */
static void entries_that_do_not_fill_the_page(void)
{
    for (unsigned n = 0; n < 300; n++) {
        struct file hash = hash_file(n % 2), btree = btree_file(n % 2);

        if (n == 8)
            continue;
        set16(&hash, BUCKET0, 20, n);
        refused(&hash, "does not hold what it counts");
        set16(&btree, LEAF1, 20, n);
        refused(&btree, "does not hold what it counts");
    }
}

static void items_outside(void)
{
    static const unsigned places[] = {0, 1, 25, 26, 41, PAGE - 1, PAGE, PAGE + 100, 0xffff};

    for (unsigned item = 0; item < 8; item++)
        for (size_t i = 0; i < COUNT(places); i++) {
            struct file hash = hash_file(i % 2), btree = btree_file(i % 2);

            set_item(&hash, BUCKET0, item, places[i]);
            refused(&hash, "does not hold what it counts");
            set_item(&btree, LEAF1, item, places[i]);
            refused(&btree, "does not hold what it counts");
            if (item >= 2)
                continue;
            btree = btree_file(i % 2);
            set_item(&btree, LEFT, item, places[i]);
            refused(&btree, "damaged: ");
        }
}

/* Keys, or values, are of one length: only that one of them is gone tells. */
static void item_twice(void)
{
    for (unsigned one = 0; one < 8; one++)
        for (unsigned two = one % 2; two < 8; two += 2) {
            struct file f = btree_file(one % 4 < 2);
            unsigned first = PAGE - 20 * (4 - two / 2);

            if (one == two)
                continue;
            set_item(&f, LEAF2, one, two % 2 ? first : first + 12);
            refused(&f, "does not hold what it counts");
        }
}

/* Items of several values a key among them, which cannot be here. */
static void kinds_of_items(void)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        struct file hash = hash_file(false), btree = btree_file(false);

        if (kind != 1 && kind != 3) {
            hash.bytes[BUCKET0 * PAGE + PAGE - 6] = (unsigned char)kind;
            refused(&hash, "does not hold what it counts");
        }
        if ((kind & 0x7f) != 1 && (kind & 0x7f) != 3) {
            btree.bytes[LEAF3 * PAGE + first_value(2) + 2] = (unsigned char)kind;
            refused(&btree, "does not hold what it counts");
        }
    }
}

/* A page that libdb would take for an empty one, or not come to. */
static void types_that_are_not_there(void)
{
    static const unsigned types[] = {0, 1, 4, 6, 8, 9, 10, 11, 12, 14, 15, 255};

    for (size_t i = 0; i < COUNT(types); i++) {
        struct file hash = hash_file(i % 2), btree = btree_file(i % 2);

        hash.bytes[BUCKET0 * PAGE + 25] = (unsigned char)types[i];
        refused(&hash, "does not hold what it counts");
        btree.bytes[LEAF1 * PAGE + 25] = (unsigned char)types[i];
        refused(&btree, "does not hold what it counts");
        btree = btree_file(i % 2);
        btree.bytes[LEFT * PAGE + 25] = (unsigned char)types[i];
        refused(&btree, "does not hold what it counts");
    }
}

static void missing_pages(void)
{
    struct file f = hash_file(false);
    struct source source;
    uint64_t records;

    CHECK(check(&f, (PAGES - 1) * PAGE, &source, &records) == -1 &&
              strstr(source.why, "last page") != NULL,
          "a file without its last page: %s", source.why);
    set32(&f, META, 32, PAGES);
    CHECK(check(&f, (PAGES + 1) * PAGE, &source, &records) == -1 &&
              strstr(source.why, "shrunk") != NULL,
          "a file that has shrunk: %s", source.why);
    set32(&f, META, 32, UINT32_MAX);
    refused(&f, "last page");
}

static void random_bytes(void)
{
    uint64_t state = 2718;

    for (int round = 0; round < 6000; round++) {
        struct file f = round % 2 ? hash_file(round % 4 == 1) : btree_file(round % 4 == 2);
        struct source source;
        uint64_t records;

        for (unsigned n = 1 + (unsigned)(random_next(&state) % 8); n > 0; n--)
            f.bytes[random_next(&state) % sizeof f.bytes] = (unsigned char)random_next(&state);
        if (check(&f, sizeof f.bytes, &source, &records) == 0)
            CHECK(records <= 10 + 1, "round %d: %d records", round, (int)records);
    }
}

static const struct unit_test tests[] = {
    {"records are counted, in both byte orders, without deleted ones", counts},
    {"pages may be empty", empty_pages},
    {"a page of zeros is refused if anything leads to it", zeros},
    {"only a bucket that was never used may be zeros", bucket_never_used},
    {"a hash has the records that its first page says", records_promised},
    {"each bucket has its page", buckets_elsewhere},
    {"the pages of a bucket are complete", chains},
    {"the pages of a long item are complete", long_items},
    {"a tree has its root, its levels, and each page once", trees},
    {"the row of leaves has all of them, and an end", rows_of_leaves},
    {"a page in the wrong place is refused", page_in_the_wrong_place},
    {"entries have to fill their page", entries_that_do_not_fill_the_page},
    {"items outside of their page are refused", items_outside},
    {"two offsets of one item are refused", item_twice},
    {"items of a kind that cannot be there are refused", kinds_of_items},
    {"pages of a type that cannot be there are refused", types_that_are_not_there},
    {"missing pages are noticed", missing_pages},
    {"6,000 files with random bytes do no harm", random_bytes},
};

const struct unit_suite db_pages_suite = {
    .name = "db_pages", .tests = tests, .ntests = COUNT(tests)};
