/*
 * The pages of a Berkeley DB file: see db_pages.h. Runs in the loader. It may read the source; it
 * must never write, and never trust a number that it finds there.
 *
 * A page that libdb takes for an empty one, or does not come to, makes a table shorter without an
 * error, and one that leads back makes it endless. So each page has to be what its place says and
 * to be filled by the items that it counts, and the pages have to form what libdb expects: a tree
 * and its row of leaves, or buckets, and chains of the bytes of each long item.
 */
#include "server/loader/db_pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK     (1u << 20) /* bytes to read at once: a multiple of every page size */
#define PAGE_MOST 65536u
#define HEAD      512u /* bytes of the first page to read before all others */

/* Every page begins with these. */
enum {
    AT_NUMBER = 8,
    AT_NEXT = 16,
    AT_ENTRIES = 20,
    AT_LOWEST = 22, /* offset of the item nearest to the front; items fill the page from its end */
    AT_BYTES = 22,  /* on an overflow page: how many it has of the item */
    AT_LEVEL = 24,
    AT_TYPE = 25,
    AT_ITEMS = 26, /* their offsets, two bytes each, behind the checksum if there is one */
    CHECKSUM = 6
};

/* The first page. */
enum {
    AT_LAST_PAGE = 32,
    AT_LAST_BUCKET = 72,
    AT_FILL = 84,    /* hash: records wanted in a bucket; 0: libdb's own choice */
    AT_RECORDS = 88, /* hash: see check_promise() */
    AT_ROOT = 88,    /* btree */
    AT_SPARES = 96   /* hash: for each power of two of buckets, what leads to their pages */
};

/* What a page may be. The other types do not occur in hash and btree files with one value a key. */
enum {
    PAGE_FREE = 0,
    PAGE_HASH_UNSORTED = 2,
    PAGE_INNER = 3,
    PAGE_LEAF = 5,
    PAGE_OVERFLOW = 7,
    PAGE_HASH_META = 8,
    PAGE_BTREE_META = 9,
    PAGE_HASH = 13
};

/* An item of a leaf: its length, its kind, its bytes; or 12 bytes that say where these are. */
#define ITEM_KIND      2
#define ITEM_HEADER    3
#define ITEM_DELETED   0x80
#define ITEM_BYTES     1
#define ITEM_OVERFLOW  3
#define ITEM_ELSEWHERE 12
#define AT_ITEM_PAGE   4 /* where its bytes are, or which page comes below that item */
#define AT_ITEM_LENGTH 8

/* An item of a hash page: its kind, its bytes; or as above. */
#define HASH_BYTES     1
#define HASH_ELSEWHERE 3

#define LEVEL_LEAF 1

/* What leads to a page, if anything does. */
enum role { NOTHING, BUCKET, CHILD, ITEM, CHAIN };

/* What is kept of each page. */
struct node {
    uint32_t next;  /* of an inner page: its first child */
    uint32_t claim; /* of a child: its level. Of an item's first page: all bytes of the item */
    uint16_t used;  /* entries, or bytes on an overflow page; on a free one: it is not all zeros */
    uint8_t type, level, role;
};

struct file {
    struct source *source;
    const struct db_layout *layout;
    unsigned items; /* where the offsets of items begin */
    bool hash;
    uint32_t npages, root;
    uint32_t last_bucket, fill, promised;
    struct node *nodes;
    uint64_t records;
};

struct page {
    const unsigned char *bytes;
    uint32_t size, number;
    unsigned entries, lowest, items;
    bool swapped;
};

static unsigned get16(const struct page *page, unsigned at)
{
    uint16_t number;

    memcpy(&number, page->bytes + at, sizeof number);
    return page->swapped ? __builtin_bswap16(number) : number;
}

static uint32_t get32(const struct page *page, unsigned at)
{
    uint32_t number;

    memcpy(&number, page->bytes + at, sizeof number);
    return page->swapped ? __builtin_bswap32(number) : number;
}

static const char *type_name(unsigned type)
{
    switch (type) {
    case PAGE_FREE:
        return "an empty page";
    case PAGE_INNER:
        return "an inner page";
    case PAGE_LEAF:
        return "a leaf";
    case PAGE_OVERFLOW:
        return "an overflow page";
    case PAGE_HASH:
        return "a bucket page";
    default:
        return "the first page";
    }
}

/* Each page has one place: two that lead to it are an error, and so there is no way round. */
static int claim(struct file *file, uint32_t from, uint32_t number, enum role role, uint32_t value)
{
    struct node *node;

    if (number == 0 || number >= file->npages)
        return source_fail(file->source,
                           "damaged: page %u leads to page %u, and the last is page %u", from,
                           number, file->npages - 1);
    node = &file->nodes[number];
    if (node->role != NOTHING)
        return source_fail(file->source, "damaged: page %u leads to page %u, as another one does",
                           from, number);
    node->role = (uint8_t)role;
    node->claim = value;
    return 0;
}

static int claim_item(struct file *file, const struct page *page, unsigned at)
{
    uint32_t length = get32(page, at + AT_ITEM_LENGTH);

    return claim(file, page->number, get32(page, at + AT_ITEM_PAGE), ITEM, length);
}

static int not_filled(struct file *file, const struct page *page)
{
    return source_fail(file->source, "damaged: page %u of type %u does not hold what it counts",
                       page->number, page->bytes[AT_TYPE]);
}

/* Where an item of at least len bytes begins; 0 if that is not on the page. */
static unsigned item_at(const struct page *page, unsigned item, unsigned len)
{
    unsigned at = get16(page, page->items + item * 2);

    return at >= page->items + page->entries * 2 && at + len <= page->size ? at : 0;
}

static bool has_pairs(const struct page *page)
{
    return page->entries % 2 == 0 && page->items + page->entries * 2 <= page->size;
}

/* Items of a hash page lie in their order, without a gap. */
static int note_hash(struct file *file, const struct page *page)
{
    unsigned before = page->size, at;

    if (!has_pairs(page))
        return not_filled(file, page);
    for (unsigned i = 0; i < page->entries; i++, before = at) {
        unsigned kind;

        at = item_at(page, i, 1);
        if (at == 0 || at >= before)
            return not_filled(file, page);
        kind = page->bytes[at];
        if (kind == HASH_BYTES)
            continue;
        if (kind != HASH_ELSEWHERE || before - at != ITEM_ELSEWHERE)
            return not_filled(file, page);
        if (claim_item(file, page, at) != 0)
            return -1;
    }
    file->records += page->entries / 2;
    return before == page->lowest ? 0 : not_filled(file, page);
}

/* How much of the page the item of a leaf takes that begins there; 0: there is none. */
static unsigned leaf_item(const struct page *page, unsigned at)
{
    unsigned kind = page->bytes[at + ITEM_KIND] & ~ITEM_DELETED;

    if (kind == ITEM_BYTES)
        return (get16(page, at) + ITEM_HEADER + 3u) & ~3u;
    return kind == ITEM_OVERFLOW && at + ITEM_ELSEWHERE <= page->size ? ITEM_ELSEWHERE : 0;
}

/*
 * Items of a leaf lie in any order, at multiples of four, and fill it without a gap: from the
 * lowest on, each begins where one ends. Two offsets of one item would hide another.
 */
static bool fills_leaf(const struct page *page)
{
    uint64_t begins[PAGE_MOST / 4 / 64];
    unsigned items = 0, len;

    memset(begins, 0, page->size / 4 / 8);
    for (unsigned i = 0; i < page->entries; i++) {
        unsigned at = item_at(page, i, ITEM_HEADER);

        if (at == 0 || at % 4 != 0)
            return false;
        begins[at / 4 / 64] |= UINT64_C(1) << (at / 4 % 64);
    }
    for (unsigned at = page->lowest; at < page->size; at += len, items++) {
        if (at % 4 != 0 || (begins[at / 4 / 64] >> (at / 4 % 64) & 1) == 0)
            return false;
        len = leaf_item(page, at);
        if (len == 0 || len > page->size - at)
            return false;
    }
    return items == page->entries;
}

/* A pair deleted under a cursor stays until that moves on. */
static int note_leaf(struct file *file, const struct page *page)
{
    if (!has_pairs(page) || !fills_leaf(page))
        return not_filled(file, page);
    for (unsigned i = 0; i < page->entries; i += 2) {
        unsigned key = item_at(page, i, ITEM_HEADER), value = item_at(page, i + 1, ITEM_HEADER);

        if ((page->bytes[value + ITEM_KIND] & ITEM_DELETED) != 0)
            continue;
        file->records++;
        if ((page->bytes[key + ITEM_KIND] & ~ITEM_DELETED) == ITEM_OVERFLOW &&
            claim_item(file, page, key) != 0)
            return -1;
        if (page->bytes[value + ITEM_KIND] == ITEM_OVERFLOW && claim_item(file, page, value) != 0)
            return -1;
    }
    return 0;
}

/* Its long keys are not looked at: to walk the tree libdb compares none. */
static int note_inner(struct file *file, const struct page *page)
{
    unsigned level = page->bytes[AT_LEVEL];

    if (page->entries == 0 || level <= LEVEL_LEAF || page->items + page->entries * 2 > page->size)
        return not_filled(file, page);
    for (unsigned i = 0; i < page->entries; i++) {
        unsigned at = item_at(page, i, ITEM_ELSEWHERE);
        uint32_t child;

        if (at == 0)
            return not_filled(file, page);
        child = get32(page, at + AT_ITEM_PAGE);
        if (claim(file, page->number, child, CHILD, level - 1) != 0)
            return -1;
        if (i == 0)
            file->nodes[page->number].next = child;
    }
    return 0;
}

static bool all_zeros(const struct page *page)
{
    return page->bytes[0] == 0 && memcmp(page->bytes, page->bytes + 1, page->size - 1) == 0;
}

static int note_kind(struct file *file, const struct page *page, struct node *node)
{
    switch (node->type) {
    case PAGE_FREE:
        node->used = !all_zeros(page);
        return page->entries == 0 ? 0 : not_filled(file, page);
    case PAGE_OVERFLOW:
        node->used = (uint16_t)get16(page, AT_BYTES);
        return node->used <= page->size - page->items ? 0 : not_filled(file, page);
    case PAGE_HASH:
        return file->hash ? note_hash(file, page) : not_filled(file, page);
    case PAGE_LEAF:
        if (file->hash || node->level != LEVEL_LEAF)
            return not_filled(file, page);
        return note_leaf(file, page);
    case PAGE_INNER:
        return file->hash ? not_filled(file, page) : note_inner(file, page);
    default:
        return not_filled(file, page);
    }
}

static int note_page(struct file *file, const struct page *page)
{
    struct node *node = &file->nodes[page->number];

    node->type = page->bytes[AT_TYPE];
    if (node->type != PAGE_FREE && get32(page, AT_NUMBER) != page->number)
        return source_fail(file->source, "damaged: page %u says that it is page %u", page->number,
                           get32(page, AT_NUMBER));
    if (page->number == 0) /* read before */
        return 0;
    if (node->type == PAGE_HASH_UNSORTED)
        node->type = PAGE_HASH;
    node->next = get32(page, AT_NEXT);
    node->level = page->bytes[AT_LEVEL];
    node->used = (uint16_t)page->entries;
    return note_kind(file, page, node);
}

/* The pages of one chunk, which begins with page number. */
static int note_chunk(struct file *file, const unsigned char *bytes, size_t len, uint32_t number)
{
    for (size_t at = 0; at < len; at += file->layout->page_size, number++) {
        struct page page = {.bytes = bytes + at,
                            .size = file->layout->page_size,
                            .number = number,
                            .items = file->items,
                            .swapped = file->layout->swapped};

        page.entries = get16(&page, AT_ENTRIES);
        page.lowest = get16(&page, AT_LOWEST);
        if (page.lowest == 0) /* 65536 does not fit */
            page.lowest = page.size;
        if (note_page(file, &page) != 0)
            return -1;
    }
    return 0;
}

static int read_at(struct file *file, unsigned char *bytes, size_t len, off_t at)
{
    ssize_t n = pread(file->source->fd, bytes, len, at);

    if (n == (ssize_t)len)
        return 0;
    return source_fail(file->source, "cannot read %zu bytes at byte %lld: %s", len, (long long)at,
                       n < 0 ? strerror(errno) : "the file has shrunk");
}

static int note_pages(struct file *file, unsigned char *chunk)
{
    off_t size = (off_t)file->npages * file->layout->page_size, at = 0;

    for (size_t len; at < size; at += (off_t)len) {
        len = size - at < (off_t)CHUNK ? (size_t)(size - at) : CHUNK;
        if (read_at(file, chunk, len, at) != 0 ||
            note_chunk(file, chunk, len, (uint32_t)(at / file->layout->page_size)) != 0)
            return -1;
    }
    return 0;
}

/* Follows the pages of a bucket or an item from its first one, and adds up what they use. */
static int follow(struct file *file, uint32_t first, unsigned type, uint64_t *used)
{
    *used = 0;
    for (uint32_t at = first, next;; at = next) {
        const struct node *node = &file->nodes[at];

        if (node->type != type)
            return source_fail(file->source, "damaged: page %u should be %s, and is %s", at,
                               type_name(type), type_name(node->type));
        *used += node->used;
        next = node->next;
        if (next == 0)
            return 0;
        if (claim(file, at, next, CHAIN, 0) != 0)
            return -1;
    }
}

static int check_item(struct file *file, uint32_t first)
{
    uint64_t bytes;

    if (follow(file, first, PAGE_OVERFLOW, &bytes) != 0)
        return -1;
    if (bytes != file->nodes[first].claim)
        return source_fail(
            file->source,
            "damaged: the item on page %u and those behind it has %llu bytes, and should "
            "have %u",
            first, (unsigned long long)bytes, file->nodes[first].claim);
    return 0;
}

static int check_child(struct file *file, uint32_t number)
{
    const struct node *node = &file->nodes[number];
    unsigned type = node->claim == LEVEL_LEAF ? PAGE_LEAF : PAGE_INNER;

    if (node->type == type && node->level == node->claim)
        return 0;
    return source_fail(file->source,
                       "damaged: page %u should be %s of level %u, and is %s of level %u", number,
                       type_name(type), node->claim, type_name(node->type), node->level);
}

/*
 * A bucket that was never used is a page of zeros: libdb writes none but the last of those that it
 * begins with, and every one that it adds later. Seen with 5.3.28. Where the fill is its own choice
 * it begins with two, so that only the first of two may be missing: all files of postmap(1).
 */
static int check_bucket(struct file *file, uint32_t number, uint32_t *blank)
{
    const struct node *node = &file->nodes[number];
    uint64_t entries;

    if (node->type != PAGE_FREE || node->used)
        return follow(file, number, PAGE_HASH, &entries);
    if (file->fill == 0 && (file->last_bucket != 1 || node->claim != 0))
        return source_fail(file->source, "damaged: page %u is zeros, and should be bucket %u of %u",
                           number, node->claim, file->last_bucket + 1);
    *blank = number;
    return 0;
}

/* Whatever something leads to. Only then it is known what nothing leads to. */
static int check_claims(struct file *file, uint32_t *blank)
{
    int rc = 0;

    for (uint32_t i = 1; rc == 0 && i < file->npages; i++)
        switch (file->nodes[i].role) {
        case BUCKET:
            rc = check_bucket(file, i, blank);
            break;
        case CHILD:
            rc = check_child(file, i);
            break;
        case ITEM:
            rc = check_item(file, i);
            break;
        default:
            break;
        }
    return rc;
}

/* Records that nothing leads to. Long items without an owner are what libdb leaves after errors. */
static int check_lost(struct file *file)
{
    for (uint32_t i = 1; i < file->npages; i++) {
        const struct node *node = &file->nodes[i];

        if (node->role != NOTHING || i == file->root || node->used == 0 ||
            node->type == PAGE_FREE || node->type == PAGE_OVERFLOW)
            continue;
        return source_fail(file->source, "damaged: page %u is %s, and nothing leads to it", i,
                           type_name(node->type));
    }
    return 0;
}

/*
 * The first page of a hash counts the records, beginning with the number that its maker expected:
 * postmap(1) and makemap(8) say 4096, others nothing. Seen with 5.3.28: each put of a new key adds
 * one and each delete takes one off, also with postmap -i and -d; a replacement, a long item and a
 * new bucket change nothing. An environment with locks never counts, and then there may be more
 * records, which nothing is lost of.
 */
static int check_promise(struct file *file, uint32_t blank)
{
    const uint64_t expected = 4096;

    if (file->records == file->promised || file->records + expected == file->promised ||
        (file->records > file->promised && blank == 0))
        return 0;
    if (blank != 0)
        return source_fail(
            file->source,
            "damaged: page %u is zeros, and the pages hold %llu records, not %u or %u "
            "less as the first page says",
            blank, (unsigned long long)file->records, file->promised, (unsigned)expected);
    return source_fail(
        file->source,
        "damaged: the pages hold %llu records, not %u or %u less as the first page says",
        (unsigned long long)file->records, file->promised, (unsigned)expected);
}

/* The row of leaves, by which libdb walks them. Who comes to 0 has come to no leaf twice. */
static int check_row(struct file *file)
{
    uint32_t leaves = 0, seen = 0, at = file->root;

    for (uint32_t i = 1; i < file->npages; i++)
        leaves += file->nodes[i].type == PAGE_LEAF && (i == file->root || file->nodes[i].role);
    while (file->nodes[at].type == PAGE_INNER)
        at = file->nodes[at].next;
    for (; at != 0 && seen <= leaves; at = file->nodes[at].next, seen++)
        if (at >= file->npages || file->nodes[at].type != PAGE_LEAF)
            return source_fail(file->source,
                               "damaged: page %u should be a leaf, the next of its row", at);
    if (seen == leaves)
        return 0;
    return source_fail(file->source, "damaged: of %u leaves %s are in their row", leaves,
                       seen > leaves ? "some, over and over," : "not all");
}

static int check_tree(struct file *file)
{
    const struct node *root = &file->nodes[file->root];

    if (root->type != PAGE_LEAF && root->type != PAGE_INNER)
        return source_fail(file->source, "damaged: page %u should be the root, and is %s",
                           file->root, type_name(root->type));
    if (root->role != NOTHING)
        return source_fail(
            file->source, "damaged: page %u should be the root, and others lead to it", file->root);
    return check_row(file);
}

static int check(struct file *file)
{
    uint32_t blank = 0;

    if (check_claims(file, &blank) != 0 || check_lost(file) != 0)
        return -1;
    return file->hash ? check_promise(file, blank) : check_tree(file);
}

/* The page of each bucket, as libdb reckons it: numbers that are too large wrap around. */
static int claim_buckets(struct file *file, const struct page *meta)
{
    unsigned power = 0;

    for (uint32_t i = 0; i <= file->last_bucket; i++) {
        if (i >= UINT32_C(1) << power)
            power++;
        if (claim(file, 0, i + get32(meta, AT_SPARES + power * 4), BUCKET, i) != 0)
            return -1;
    }
    return 0;
}

static int read_first(struct file *file, const struct page *meta)
{
    unsigned type = meta->bytes[AT_TYPE];
    uint32_t last = get32(meta, AT_LAST_PAGE);

    if (type != PAGE_HASH_META && type != PAGE_BTREE_META)
        return not_filled(file, meta);
    if (last > INT32_MAX ||
        ((uint64_t)last + 1) * file->layout->page_size > (uint64_t)file->layout->size)
        return source_fail(file->source,
                           "damaged: %lld bytes, and its last page should be page %u of %u bytes",
                           (long long)file->layout->size, last, file->layout->page_size);
    file->hash = type == PAGE_HASH_META;
    file->npages = last + 1;
    file->nodes = calloc(file->npages, sizeof file->nodes[0]);
    if (file->nodes == NULL) {
        file->source->error = ENOMEM;
        return source_fail(file->source, "out of memory");
    }
    if (file->hash) {
        file->last_bucket = get32(meta, AT_LAST_BUCKET);
        file->fill = get32(meta, AT_FILL);
        file->promised = get32(meta, AT_RECORDS);
        if (file->last_bucket < file->npages)
            return claim_buckets(file, meta);
        return source_fail(file->source, "damaged: bucket %u should be the last, of %u pages",
                           file->last_bucket, file->npages);
    }
    file->root = get32(meta, AT_ROOT);
    if (file->root == 0 || file->root >= file->npages)
        return source_fail(file->source,
                           "damaged: page %u should be the root, and the last is page %u",
                           file->root, last);
    return 0;
}

int db_pages_check(struct source *source, const struct db_layout *layout, uint64_t *records)
{
    struct file file = {.source = source, .layout = layout};
    struct page meta = {.size = layout->page_size, .swapped = layout->swapped};
    unsigned char *chunk = malloc(CHUNK);
    int rc = -1;

    file.items = AT_ITEMS + (layout->checksums ? CHECKSUM : 0);
    meta.bytes = chunk;
    if (chunk == NULL) {
        source->error = ENOMEM;
        return source_fail(source, "out of memory");
    }
    if (read_at(&file, chunk, HEAD, 0) == 0 && read_first(&file, &meta) == 0 &&
        file.nodes != NULL && note_pages(&file, chunk) == 0)
        rc = check(&file);
    *records = file.records;
    free(file.nodes);
    free(chunk);
    return rc;
}
