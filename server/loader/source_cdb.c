/*
 * Source type cdb: a constant database as postmap(1) writes it. Runs in the loader, on the mapped
 * file: a file that is cut short meanwhile ends the process, and so the load. A constant database
 * has no checksum, but two ways to each record, from its front and through its hash tables: a file
 * in which they do not agree is damaged. It must never yield a part of such a file: what is missing
 * would be "not found", and mail bounces.
 */
#include "server/loader/record.h"
#include "server/loader/source.h"

#include <cdb.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TABLES   256
#define POINTERS (TABLES * 8u) /* position and number of slots, for each table */
#define SLOT     8u            /* hash and position of a record */

struct hash_table {
    const unsigned char *slots;
    unsigned count;
};

struct cdb_file {
    struct cdb cdb;
    struct hash_table tables[TABLES];
    unsigned records_end;
    unsigned indexed; /* records that the hash tables know */
};

/* libcdb speaks of a size that it cannot read as of a protocol error. */
static int map_file(struct cdb_file *file, struct source *source)
{
    struct stat st;

    if (fstat(source->fd, &st) != 0)
        return source_fail(source, "cannot tell the size of the file: %s", strerror(errno));
    if (st.st_size == 0)
        return source_fail(source, "the file is empty");
    if (st.st_size < POINTERS)
        return source_fail(source, "not a cdb file: %lld bytes; a cdb file has %u or more",
                           (long long)st.st_size, POINTERS);
    if (st.st_size > UINT32_MAX)
        return source_fail(source,
                           "not a cdb file: %lld bytes; 4 GB is the most that its format can say",
                           (long long)st.st_size);
    if (cdb_init(&file->cdb, source->fd) != 0) {
        source->error = errno == ENOMEM ? ENOMEM : 0;
        return source_fail(source, "cannot map the file: %s", strerror(errno));
    }
    return 0;
}

/* Whoever writes such files writes their tables one behind the other, up to the end of the file. */
static int read_pointers(struct cdb_file *file, struct source *source)
{
    const unsigned char *pointers = cdb_get(&file->cdb, POINTERS, 0);
    uint64_t at = 0;

    for (unsigned i = 0; pointers != NULL && i < TABLES; i++, pointers += 8) {
        struct hash_table *table = &file->tables[i];
        unsigned begin = cdb_unpack(pointers);

        table->count = cdb_unpack(pointers + 4);
        if (i == 0)
            at = file->records_end = begin;
        if (begin < POINTERS || begin != at)
            return source_fail(
                source,
                "damaged, or not a cdb file: hash table %u begins at byte %u; %llu is "
                "expected",
                i, begin, (unsigned long long)(at < POINTERS ? POINTERS : at));
        at += (uint64_t)table->count * SLOT;
        if (at > file->cdb.cdb_fsize)
            break;
        table->slots = cdb_get(&file->cdb, table->count * SLOT, begin);
    }
    if (at != file->cdb.cdb_fsize)
        return source_fail(
            source, "damaged, or not a cdb file: %u bytes, and its hash tables end at byte %llu",
            file->cdb.cdb_fsize, (unsigned long long)at);
    return 0;
}

static void count_indexed(struct cdb_file *file)
{
    for (unsigned i = 0; i < TABLES; i++)
        for (unsigned s = 0; s < file->tables[i].count; s++)
            file->indexed += cdb_unpack(file->tables[i].slots + s * SLOT + 4) != 0;
}

/* Does a search for the record's key come to this record? */
static bool is_indexed(const struct cdb_file *file, unsigned record, struct slice key)
{
    unsigned hash = cdb_hash(key.ptr, (unsigned)key.len), at;
    const struct hash_table *table = &file->tables[hash % TABLES];

    if (table->count == 0)
        return false;
    at = (hash / TABLES) % table->count;
    for (unsigned tried = 0; tried < table->count; tried++) {
        const unsigned char *slot = table->slots + at * SLOT;
        unsigned position = cdb_unpack(slot + 4);

        if (position == record)
            return cdb_unpack(slot) == hash;
        if (position == 0)
            break;
        at = at + 1 < table->count ? at + 1 : 0;
    }
    return false;
}

/* A writer may blank a record that it has replaced, and leave it where it is. */
static bool is_blank(struct slice key, struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != '\0')
            return false;
    return key.len == 0;
}

/* The record at that byte. */
static int take_record(struct cdb_file *file, struct source *source, unsigned record,
                       unsigned *seen)
{
    struct slice key = {cdb_getkey(&file->cdb), cdb_keylen(&file->cdb)},
                 value = {cdb_getdata(&file->cdb), cdb_datalen(&file->cdb)};

    if (key.ptr == NULL || value.ptr == NULL)
        return source_fail(source, "damaged: the record at byte %u goes beyond the file", record);
    if (is_indexed(file, record, key))
        (*seen)++;
    else if (is_blank(key, value))
        return 0;
    else
        return source_fail(source, "damaged: the record at byte %u is in no hash table", record);
    return record_add(source, key, value);
}

static int walk(struct cdb_file *file, struct source *source)
{
    unsigned at, record, seen = 0;
    int rc;

    cdb_seqinit(&at, &file->cdb);
    for (record = at; (rc = cdb_seqnext(&at, &file->cdb)) > 0; record = at)
        if (take_record(file, source, record, &seen) != 0)
            return -1;
    if (rc < 0 || record != file->records_end)
        return source_fail(
            source, "damaged: the records end at byte %u, and the hash tables begin at byte %u",
            record, file->records_end);
    if (seen != file->indexed)
        return source_fail(source, "damaged: %u records, and the hash tables know %u", seen,
                           file->indexed);
    return 0;
}

static int load(struct source *source)
{
    struct cdb_file file = {0};
    int rc;

    if (map_file(&file, source) != 0)
        return -1;
    rc = read_pointers(&file, source);
    if (rc == 0) {
        count_indexed(&file);
        rc = walk(&file, source);
    }
    cdb_free(&file.cdb);
    return rc;
}

const struct source_ops source_cdb = {.type = TYPE_CDB, .load = load};
