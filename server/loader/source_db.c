/*
 * Source types hash and btree: Berkeley DB files as postmap(1) and postalias(1) write them. Runs in
 * the loader. libdb opens files by name and is known to crash or loop on damaged ones, so it runs
 * here and nowhere else, in a process that lives for one load, and its way to files is replaced: it
 * gets the one descriptor for the one name, read-only, and an error for all else.
 */
#include "server/loader/db_pages.h"
#include "server/loader/record.h"
#include "server/loader/source.h"

#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_LEAST 512
#define BULK       (1u << 20) /* bytes of records to ask libdb for at once */

static const char only_name[] = "source";
static int only_fd = -1;
static off_t only_pos;
static char first_error[200];

static int hook_open(const char *name, int flags, ...)
{
    size_t len = strlen(name), own = sizeof only_name - 1;

    /* libdb may put a directory in front of the name. */
    if (len >= own && strcmp(name + len - own, only_name) == 0 && (flags & O_ACCMODE) == O_RDONLY) {
        only_pos = 0;
        return only_fd;
    }
    errno = EACCES;
    return -1;
}

static int hook_close(int fd)
{
    (void)fd;
    return 0;
}

static int hook_exists(const char *name, int *is_dir)
{
    size_t len = strlen(name), own = sizeof only_name - 1;

    if (is_dir != NULL)
        *is_dir = 0;
    return len >= own && strcmp(name + len - own, only_name) == 0 ? 0 : ENOENT;
}

static int hook_ioinfo(const char *name, int fd, u_int32_t *mbytes, u_int32_t *bytes,
                       u_int32_t *io_size)
{
    struct stat st;

    (void)name;
    (void)fd;
    if (fstat(only_fd, &st) != 0)
        return errno;
    if (mbytes != NULL)
        *mbytes = (u_int32_t)(st.st_size >> 20);
    if (bytes != NULL)
        *bytes = (u_int32_t)(st.st_size & ((1 << 20) - 1));
    if (io_size != NULL)
        *io_size = 4096;
    return 0;
}

static ssize_t hook_pread(int fd, void *buf, size_t len, off_t at)
{
    (void)fd;
    return pread(only_fd, buf, len, at);
}

static ssize_t hook_read(int fd, void *buf, size_t len)
{
    ssize_t n = hook_pread(fd, buf, len, only_pos);

    if (n > 0)
        only_pos += n;
    return n;
}

static int hook_seek(int fd, off_t at, int whence)
{
    (void)fd;
    if (whence != SEEK_SET)
        return EINVAL;
    only_pos = at;
    return 0;
}

static int hook_map(DB_ENV *env, char *name, size_t len, int readonly, void **addr)
{
    (void)env;
    (void)name;
    (void)len;
    (void)readonly;
    (void)addr;
    return EINVAL;
}

static int hook_unmap(DB_ENV *env, void *addr)
{
    (void)env;
    (void)addr;
    return 0;
}

static ssize_t hook_write(int fd, const void *buf, size_t len)
{
    (void)fd;
    (void)buf;
    (void)len;
    errno = EROFS;
    return -1;
}

static ssize_t hook_pwrite(int fd, const void *buf, size_t len, off_t at)
{
    (void)at;
    return hook_write(fd, buf, len);
}

static int hook_unlink(const char *name)
{
    (void)name;
    return EROFS;
}

static int hook_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    return EROFS;
}

static int hook_ftruncate(int fd, off_t len)
{
    (void)fd;
    (void)len;
    return EROFS;
}

static int hook_fsync(int fd)
{
    (void)fd;
    return 0;
}

static int hook_yield(u_long sec, u_long usec)
{
    (void)sec;
    (void)usec;
    return 0;
}

/* libdb's own words, the first of them: a damaged file can make it say thousands. */
static void keep_first_error(const DB_ENV *env, const char *prefix, const char *text)
{
    (void)env;
    (void)prefix;
    if (first_error[0] == '\0' && strstr(text, "0x") == NULL) /* addresses are news each time */
        snprintf(first_error, sizeof first_error, "%s", text);
}

static void set_hooks(void)
{
    db_env_set_func_open(hook_open);
    db_env_set_func_close(hook_close);
    db_env_set_func_exists(hook_exists);
    db_env_set_func_ioinfo(hook_ioinfo);
    db_env_set_func_pread(hook_pread);
    db_env_set_func_read(hook_read);
    db_env_set_func_seek(hook_seek);
    db_env_set_func_file_map(hook_map, hook_unmap);
    db_env_set_func_write(hook_write);
    db_env_set_func_pwrite(hook_pwrite);
    db_env_set_func_unlink(hook_unlink);
    db_env_set_func_rename(hook_rename);
    db_env_set_func_ftruncate(hook_ftruncate);
    db_env_set_func_fsync(hook_fsync);
    db_env_set_func_yield(hook_yield);
}

static int explain(int rc, const char *doing, struct source *source)
{
    source->error = rc == ENOMEM ? ENOMEM : 0;
    snprintf(source->why, sizeof source->why, "%s: %s%s%s", doing, db_strerror(rc),
             first_error[0] != '\0' ? ": " : "", first_error);
    return -1;
}

/*
 * How many records there should be. Where a key has several values it is not counted: postmap(1)
 * makes no such file.
 */
static int count(DB *db, off_t size, struct source *source, bool *counted, uint64_t *records)
{
    struct db_layout layout = {.size = size};
    u_int32_t flags;
    int rc, swapped;

    if ((rc = db->get_flags(db, &flags)) != 0 ||
        (rc = db->get_pagesize(db, &layout.page_size)) != 0 ||
        (rc = db->get_byteswapped(db, &swapped)) != 0)
        return explain(rc, "not a Berkeley DB file", source);
    layout.swapped = swapped != 0;
    layout.checksums = (flags & DB_CHKSUM) != 0;
    *counted = (flags & (DB_DUP | DB_DUPSORT)) == 0;
    return *counted ? db_pages_check(source, &layout, records) : 0;
}

static bool is_inside(struct slice slice, const char *begin, size_t len)
{
    return slice.ptr >= begin && slice.ptr <= begin + len &&
           slice.len <= (size_t)(begin + len - slice.ptr);
}

/* The records of one bulk of libdb's, which are offsets and lengths behind each other. */
static int add_bulk(struct source *source, DBT *bulk, uint64_t *seen)
{
    const char *begin = bulk->data;
    void *next, *key, *value;
    size_t key_len, value_len;

    DB_MULTIPLE_INIT(next, bulk);
    for (;; (*seen)++) {
        struct slice k, v;

        DB_MULTIPLE_KEY_NEXT(next, bulk, key, key_len, value, value_len);
        if (next == NULL)
            return 0;
        k = (struct slice){key, key_len};
        v = (struct slice){value, value_len};
        if (!is_inside(k, begin, bulk->ulen) || !is_inside(v, begin, bulk->ulen)) {
            return source_fail(source, "damaged: a record is longer than its page");
        }
        if (record_add(source, k, v) != 0)
            return -1;
    }
}

/* Room for the record that did not fit into the bulk; libdb says how long it is. */
static int grow(DBT *bulk)
{
    uint64_t len = bulk->size > bulk->ulen ? bulk->size : bulk->ulen;
    char *grown;

    len = (len * 2 + 1023) & ~UINT64_C(1023);
    grown = len < UINT32_MAX ? realloc(bulk->data, (size_t)len) : NULL;
    if (grown == NULL)
        return ENOMEM;
    bulk->data = grown;
    bulk->ulen = (u_int32_t)len;
    return 0;
}

/* Up to the end, or to one record more than there should be: damaged pages can form a ring. */
static int walk_bulks(DBC *cursor, DBT *bulk, struct source *source, uint64_t limit, uint64_t *seen)
{
    DBT key = {0};
    int rc = 0;

    while (rc == 0 && *seen <= limit) {
        rc = cursor->get(cursor, &key, bulk, DB_NEXT | DB_MULTIPLE_KEY);
        if (rc == DB_BUFFER_SMALL)
            rc = grow(bulk);
        else if (rc == 0 && add_bulk(source, bulk, seen) != 0)
            return -1;
    }
    if (rc != 0 && rc != DB_NOTFOUND)
        return explain(rc, "cannot read the database to its end", source);
    return 0;
}

static int walk(DB *db, struct source *source, bool counted, uint64_t records)
{
    DBT bulk = {.data = malloc(BULK), .ulen = BULK, .flags = DB_DBT_USERMEM};
    uint64_t seen = 0;
    DBC *cursor;
    int rc = bulk.data != NULL ? db->cursor(db, NULL, &cursor, 0) : ENOMEM;

    if (rc != 0)
        rc = explain(rc, "cannot walk the database", source);
    else
        rc = walk_bulks(cursor, &bulk, source, counted ? records : UINT64_MAX, &seen);
    free(bulk.data);
    if (rc == 0 && counted && seen != records) {
        return source_fail(source, "damaged: its pages hold %llu records, and libdb finds %s%llu",
                           (unsigned long long)records, seen > records ? "more than " : "",
                           (unsigned long long)(seen > records ? records : seen));
    }
    return rc;
}

static int open_database(struct source *source, DB **db)
{
    DB_ENV *env;
    int rc;

    if ((rc = db_env_create(&env, 0)) != 0)
        return explain(rc, "cannot start libdb", source);
    env->set_errcall(env, keep_first_error);
    if ((rc = env->set_mp_mmapsize(env, 0)) != 0 ||
        (rc = env->set_tmp_dir(env, "/nonexistent")) != 0 ||
        (rc = env->open(env, NULL, DB_CREATE | DB_PRIVATE | DB_INIT_MPOOL, 0)) != 0 ||
        (rc = db_create(db, env, 0)) != 0)
        return explain(rc, "cannot start libdb", source);
    if ((rc = (*db)->open(*db, NULL, only_name, NULL, DB_UNKNOWN, DB_RDONLY, 0)) != 0)
        return explain(rc, "not a Berkeley DB file", source);
    return 0;
}

static int check_type(DB *db, DBTYPE want, struct source *source)
{
    static const char *const names[] = {[DB_BTREE] = "btree", [DB_HASH] = "hash"};
    DBTYPE type;
    int rc = db->get_type(db, &type);

    if (rc != 0)
        return explain(rc, "not a Berkeley DB file", source);
    if (type == want)
        return 0;
    return source_fail(source, "the file is a Berkeley DB %s, not a %s",
                       type == DB_BTREE || type == DB_HASH ? names[type] : "of another kind",
                       names[want]);
}

/* The process ends after this one load: nothing of libdb is closed or freed. */
static int load(DBTYPE want, struct source *source)
{
    uint64_t records = 0;
    bool counted;
    struct stat st;
    DB *db;

    if (fstat(source->fd, &st) != 0)
        return explain(errno, "cannot tell the size of the file", source);
    if (st.st_size == 0)
        return source_fail(source, "the file is empty");
    if (st.st_size < PAGE_LEAST)
        return source_fail(source,
                           "not a Berkeley DB file: %lld bytes, less than its shortest page",
                           (long long)st.st_size);
    only_fd = source->fd;
    set_hooks();
    if (open_database(source, &db) != 0 || check_type(db, want, source) != 0 ||
        count(db, st.st_size, source, &counted, &records) != 0)
        return -1;
    return walk(db, source, counted, records);
}

static int load_hash(struct source *source)
{
    return load(DB_HASH, source);
}

static int load_btree(struct source *source)
{
    return load(DB_BTREE, source);
}

const struct source_ops source_hash = {.type = TYPE_HASH, .load = load_hash};
const struct source_ops source_btree = {.type = TYPE_BTREE, .load = load_btree};
