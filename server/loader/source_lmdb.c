/*
 * Source type lmdb: an LMDB file as postmap(1) writes it, one file without a lock file. Runs in the
 * loader. liblmdb maps the live file, which its writers change in place: the monitor holds the
 * readers' lock meanwhile. It opens files by name, so open(2) is replaced for it: it gets the one
 * descriptor for the one name, read-only, and an error for all else.
 *
 * liblmdb believes what the file says. A page that points outside of the map, or a file that is cut
 * short, ends this process, and so the load; a page that points elsewhere inside shows in the order
 * or in the number of the entries. It must never yield a part of a damaged file: what is missing
 * would be "not found", and mail bounces.
 */
#include "server/loader/record.h"
#include "server/loader/source.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char only_name[] = "source";
static int only_fd = -1;

/* Where a failed assertion of liblmdb goes; it would abort the process without a reason. */
static jmp_buf damaged;
static char assertion[160];

/* The linker puts this in place of open(2) for every library of the loader. */
int __wrap_open(const char *name, int flags, ...);

int __wrap_open(const char *name, int flags, ...)
{
    if (strcmp(name, only_name) == 0 && (flags & O_ACCMODE) == O_RDONLY && only_fd >= 0)
        return only_fd;
    errno = EACCES;
    return -1;
}

static void note_assertion(MDB_env *env, const char *text)
{
    (void)env;
    snprintf(assertion, sizeof assertion, "%s", text);
    longjmp(damaged, 1); /* NOLINT(cert-err52-cpp): out of a library that cannot return an error */
}

static int explain(int rc, const char *doing, struct source *source)
{
    source->error = rc == ENOMEM ? ENOMEM : 0;
    snprintf(source->why, sizeof source->why, "%s: %s", doing,
             rc == ENOMEM ? "it does not fit into the memory that a load may use"
                          : mdb_strerror(rc));
    return -1;
}

/*
 * Maps what has been written, whatever size the file's last writer was ready for: lmdb_map_size may
 * be far more than a load's address space.
 */
static int open_file(struct source *source, MDB_env **env, off_t *size)
{
    struct stat st;
    int rc;

    if (fstat(source->fd, &st) != 0)
        return explain(errno, "cannot tell the size of the file", source);
    if (st.st_size == 0)
        return source_fail(source, "the file is empty");
    *size = st.st_size;
    only_fd = source->fd;
    if ((rc = mdb_env_create(env)) != 0 || (rc = mdb_env_set_assert(*env, note_assertion)) != 0 ||
        (rc = mdb_env_set_mapsize(*env, (size_t)st.st_size)) != 0)
        return explain(rc, "cannot start liblmdb", source);
    rc = mdb_env_open(*env, only_name, MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR, 0);
    if (rc == 0)
        return 0;
    return explain(rc, rc == ENOMEM ? "cannot map the file" : "not an LMDB file", source);
}

/* Every page of the table has been written, and so must be in the file; so must the first two. */
static int check_size(const MDB_stat *stat, off_t size, struct source *source)
{
    uint64_t pages = (uint64_t)size / stat->ms_psize;

    if (pages < 2 || stat->ms_branch_pages > pages || stat->ms_leaf_pages > pages ||
        stat->ms_overflow_pages > pages ||
        stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages > pages - 2) {
        return source_fail(
            source, "damaged: %lld bytes, too few for the %zu pages of %u bytes that it speaks of",
            (long long)size, stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages,
            stat->ms_psize);
    }
    return 0;
}

static bool in_order(struct slice before, struct slice key)
{
    size_t shared = before.len < key.len ? before.len : key.len;
    int diff = memcmp(before.ptr, key.ptr, shared);

    return diff < 0 || (diff == 0 && before.len < key.len);
}

/*
 * All entries, in the order of their keys. A named database inside the file is what it is for
 * Postfix: an entry, with the record of that database for a value.
 */
static int walk(MDB_cursor *cursor, size_t entries, struct source *source)
{
    struct slice before = {"", 0};
    MDB_val key, value;
    size_t seen = 0;
    int rc;

    for (; (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0; seen++) {
        struct slice k = {key.mv_data, key.mv_size}, v = {value.mv_data, value.mv_size};

        if (!in_order(before, k))
            return source_fail(source, "damaged: its keys are not in order");
        if (seen == entries)
            break;
        if (record_add(source, k, v) != 0)
            return -1;
        before = k;
    }
    if (rc != 0 && rc != MDB_NOTFOUND)
        return explain(rc, "damaged: cannot read the file to its end", source);
    if (rc == 0 || seen != entries) {
        return source_fail(source, "damaged: %zu entries are expected, and it has %s", entries,
                           rc == 0 ? "more" : "fewer");
    }
    return 0;
}

/* A frame of its own: what setjmp(3) may spoil is that of its caller. */
__attribute__((noinline)) static int read_file(struct source *source)
{
    MDB_env *env = NULL;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;
    MDB_envinfo info;
    MDB_cursor *cursor;
    unsigned flags;
    off_t size = 0;
    int rc;

    if (open_file(source, &env, &size) != 0)
        return -1;
    /* postmap(1) makes a new file before it takes its lock, and commits even an empty table. */
    if ((rc = mdb_env_info(env, &info)) != 0)
        return explain(rc, "cannot tell what has been stored", source);
    if (info.me_last_txnid == 0)
        return source_fail(source, "nothing has been stored in it yet");
    if ((rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn)) != 0 ||
        (rc = mdb_dbi_open(txn, NULL, 0, &dbi)) != 0 || (rc = mdb_stat(txn, dbi, &stat)) != 0 ||
        (rc = mdb_dbi_flags(txn, dbi, &flags)) != 0 ||
        (rc = mdb_cursor_open(txn, dbi, &cursor)) != 0)
        return explain(rc, "cannot walk the file", source);
    if (flags != 0)
        return source_fail(source,
                           "its keys are sorted in another way, or are not different; a file "
                           "as postmap(1) writes it is expected");
    if (check_size(&stat, size, source) != 0)
        return -1;
    return walk(cursor, stat.ms_entries, source);
}

/* The process ends after this one load: nothing of liblmdb is closed or freed. */
static int load(struct source *source)
{
    if (setjmp(damaged) == 0) /* NOLINT(cert-err52-cpp) */
        return read_file(source);
    return source_fail(source, "damaged: liblmdb finds that %s", assertion);
}

const struct source_ops source_lmdb = {.type = TYPE_LMDB, .load = load};
