/*
 * Source types hash and btree: Berkeley DB files as postmap(1) and postalias(1) write them. Runs in
 * the loader. libdb opens files by name and is known to crash or loop on damaged ones, so it runs
 * here and nowhere else, in a process that lives for one load, and its way to files is replaced: it
 * gets the one descriptor for the one name, read-only, and an error for all else.
 */
#include "server/loader/source.h"

#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    if (first_error[0] == '\0')
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

static int explain(int rc, const char *doing, char *why, size_t len)
{
    snprintf(why, len, "%s: %s%s%s", doing, db_strerror(rc), first_error[0] != '\0' ? ": " : "",
             first_error);
    return -1;
}

/* Hands over one record as Postfix would return it: text up to the first NUL. */
static int add_record(struct sink *sink, const DBT *key, const DBT *value)
{
    struct slice k = {key->data, key->size}, v = {value->data, value->size};
    const char *nul = v.len > 0 ? memchr(v.ptr, 0, v.len) : NULL;
    bool stored_nul = k.len > 0 && k.ptr[k.len - 1] == '\0';

    if (stored_nul)
        k.len--;
    if (k.len > 0 && memchr(k.ptr, 0, k.len) != NULL)
        return 0; /* no request can carry such a key */
    if (nul != NULL)
        v.len = (size_t)(nul - v.ptr);
    return sink->add(sink, k, stored_nul, v);
}

static int walk(DB *db, struct sink *sink, char *why, size_t len)
{
    DBT key = {0}, value = {0};
    DBC *cursor;
    int rc = db->cursor(db, NULL, &cursor, 0);

    if (rc != 0)
        return explain(rc, "cannot walk the database", why, len);
    while ((rc = cursor->get(cursor, &key, &value, DB_NEXT)) == 0)
        if (add_record(sink, &key, &value) != 0)
            return -1;
    if (rc != DB_NOTFOUND)
        return explain(rc, "cannot read the database to its end", why, len);
    return 0;
}

/* The process ends after this one load: nothing of libdb is closed or freed. */
static int load(int fd, DBTYPE want, struct sink *sink, char *why, size_t len)
{
    static const char *const names[] = {[DB_BTREE] = "btree", [DB_HASH] = "hash"};
    DB_ENV *env;
    DB *db;
    DBTYPE type;
    int rc;

    only_fd = fd;
    set_hooks();
    if ((rc = db_env_create(&env, 0)) != 0)
        return explain(rc, "cannot start libdb", why, len);
    env->set_errcall(env, keep_first_error);
    if ((rc = env->set_mp_mmapsize(env, 0)) != 0 ||
        (rc = env->set_tmp_dir(env, "/nonexistent")) != 0 ||
        (rc = env->open(env, NULL, DB_CREATE | DB_PRIVATE | DB_INIT_MPOOL, 0)) != 0 ||
        (rc = db_create(&db, env, 0)) != 0)
        return explain(rc, "cannot start libdb", why, len);
    if ((rc = db->open(db, NULL, only_name, NULL, DB_UNKNOWN, DB_RDONLY, 0)) != 0)
        return explain(rc, "not a Berkeley DB file", why, len);
    if ((rc = db->get_type(db, &type)) != 0)
        return explain(rc, "not a Berkeley DB file", why, len);
    if (type != want) {
        snprintf(why, len, "the file is a Berkeley DB %s, not a %s",
                 type == DB_BTREE || type == DB_HASH ? names[type] : "of another kind",
                 names[want]);
        return -1;
    }
    return walk(db, sink, why, len);
}

static int load_hash(int fd, struct sink *sink, char *why, size_t len)
{
    return load(fd, DB_HASH, sink, why, len);
}

static int load_btree(int fd, struct sink *sink, char *why, size_t len)
{
    return load(fd, DB_BTREE, sink, why, len);
}

const struct source_ops source_hash = {.type = TYPE_HASH, .load = load_hash, .flock = true};
const struct source_ops source_btree = {.type = TYPE_BTREE, .load = load_btree, .flock = true};
