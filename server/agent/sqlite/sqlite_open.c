/*
 * Opening an SQLite database without a file system: see sqlite_open.h. Runs in
 * jailmap-agent-sqlite. It reads the descriptors that it is given, with pread(2), and must never
 * lock them: writers would have to wait for a process that nobody trusts.
 */
#include "server/agent/sqlite/sqlite_open.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/agent/sqlite/wal.h"

#define HEAP_MAX  (64 << 20) /* bytes that the library may take for itself: sorting, for example */
#define VALUE_MAX (16 << 20) /* bytes of one value, on the way to an answer, too */
#define SQL_MAX   (2 << 20)  /* bytes of a query: more than plan.h lets through */

/* As https://www.sqlite.org/fileformat2.html has it */
#define HEADER        100
#define PAGE_SIZE     16
#define WRITE_VERSION 18
#define READ_VERSION  19
#define CHANGES       24 /* four bytes that every transaction changes */
#define ROLLBACK      1
#define WAL_MODE      2
#define RESERVED      0x40000001 /* a writer has it from the beginning of its transaction */
#define SHARED_FIRST  0x40000002 /* bytes that a writer locks before it writes */
#define SHARED_SIZE   510

#define TRIES  50
#define TRY_MS 100

/* ---- instead of a file system ---- */

static int no_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    (void)vfs, (void)path, (void)flags, (void)out;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}

static int no_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    (void)vfs, (void)path, (void)sync;
    return SQLITE_IOERR_DELETE;
}

static int no_access(sqlite3_vfs *vfs, const char *path, int flags, int *result)
{
    (void)vfs, (void)path, (void)flags;
    *result = 0;
    return SQLITE_OK;
}

static int same_path(sqlite3_vfs *vfs, const char *path, int len, char *out)
{
    (void)vfs;
    return snprintf(out, (size_t)len, "%s", path) < len ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int some_randomness(sqlite3_vfs *vfs, int len, char *out)
{
    (void)vfs;
    return len > 0 && getrandom(out, (size_t)len, 0) == len ? len : 0;
}

static int no_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds;
}

/* In ms since noon in Greenwich on the 24th of November, 4714 BC. */
static int current_time(sqlite3_vfs *vfs, sqlite3_int64 *now)
{
    struct timespec ts;

    (void)vfs;
    clock_gettime(CLOCK_REALTIME, &ts);
    *now = INT64_C(210866760000000) + (sqlite3_int64)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    return SQLITE_OK;
}

static int no_error(sqlite3_vfs *vfs, int len, char *out)
{
    (void)vfs, (void)len, (void)out;
    return 0;
}

/* Both are SQLite's names for what an operating system has to give to it. With them here, its own
 * code for files, locks and shared libraries is not linked. */
int sqlite3_os_init(void)
{
    static sqlite3_vfs none = {.iVersion = 2,
                               .szOsFile = sizeof(sqlite3_file),
                               .mxPathname = 64,
                               .zName = "none",
                               .xOpen = no_file,
                               .xDelete = no_delete,
                               .xAccess = no_access,
                               .xFullPathname = same_path,
                               .xRandomness = some_randomness,
                               .xSleep = no_sleep,
                               .xGetLastError = no_error,
                               .xCurrentTimeInt64 = current_time};

    return sqlite3_vfs_register(&none, 1);
}

int sqlite3_os_end(void)
{
    return SQLITE_OK;
}

bool sqlite_begin(void)
{
    tzset(); /* the jail has no time zones: local time is UTC, and nobody looks for a file later */
    return sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK &&
           sqlite3_initialize() == SQLITE_OK && sqlite3_hard_heap_limit64(HEAP_MAX) >= 0;
}

/* ---- the file ---- */

struct image {
    unsigned char *bytes;
    size_t len;
};

static bool read_all(int fd, unsigned char *to, size_t len, off_t from)
{
    ssize_t n;

    while (len > 0) {
        n = pread(fd, to, len, from);
        if (n == 0)
            errno = EAGAIN; /* it has become shorter */
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0) {
            to += n;
            len -= (size_t)n;
            from += n;
        }
    }
    return true;
}

/* arg: the descriptor; -1: there is no log. */
static enum wal_read read_log(void *arg, void *to, size_t len, uint64_t at)
{
    const int *fd = arg;

    if (*fd < 0)
        return WAL_ENDS;
    if (read_all(*fd, to, len, (off_t)at))
        return WAL_READ;
    return errno == EAGAIN ? WAL_ENDS : WAL_ERROR;
}

/* Has somebody locked these bytes to write? */
static bool is_locked(int fd, off_t start, off_t len)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* Is there a transaction to roll back? One that runs has its byte locked, and has changed nothing
 * in the database yet: the monitor holds the lock that it needs for that. Whoever has ended one
 * leaves no such beginning. */
static bool check_journal(int database, int fd, char *why, size_t len)
{
    static const unsigned char magic[] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    unsigned char found[sizeof magic] = {0};

    if (fd >= 0 && !read_all(fd, found, sizeof found, 0) && errno != EAGAIN) {
        snprintf(why, len, "has a -journal file that cannot be read: %s", strerror(errno));
        return false;
    }
    if (memcmp(found, magic, sizeof magic) != 0 || is_locked(database, RESERVED, 1))
        return true;
    snprintf(why, len,
             "has a -journal file, so a transaction was interrupted; open the database with "
             "sqlite3(1) once, which rolls it back");
    return false;
}

/* Has it been as it is now since `before`, when its first bytes were read? */
static bool is_same(int fd, const struct stat *before, const unsigned char *header)
{
    unsigned char changes[4];
    struct stat now;

    return fstat(fd, &now) == 0 && now.st_size == before->st_size &&
           now.st_mtim.tv_sec == before->st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == before->st_mtim.tv_nsec &&
           read_all(fd, changes, sizeof changes, CHANGES) &&
           memcmp(changes, header + CHANGES, sizeof changes) == 0;
}

enum outcome { READ, TRY_AGAIN, FAILED };

/* Memory for what the database will be with its log, and what of it is in its file. */
static enum outcome read_file(int fd, off_t size, const struct wal *wal, struct image *image,
                              char *why, size_t len)
{
    size_t in_file = (size_t)size;

    image->len = wal->frames > 0 ? wal->pages * wal->page_size : in_file;
    if (in_file > image->len)
        in_file = image->len;
    free(image->bytes);
    image->bytes = calloc(1, image->len);
    if (image->bytes == NULL) {
        snprintf(why, len, "has %zu bytes, which is more than the agent has memory for",
                 image->len);
        return FAILED;
    }
    if (read_all(fd, image->bytes, in_file, 0))
        return READ;
    snprintf(why, len, "cannot be read: %s", strerror(errno));
    return errno == EAGAIN ? TRY_AGAIN : FAILED;
}

/* Brings in what the log has. The image is what the file holds. */
static enum outcome add_log(struct wal *wal, struct image *image, char *why, size_t len)
{
    size_t page_size = (size_t)image->bytes[PAGE_SIZE] << 8 | image->bytes[PAGE_SIZE + 1];

    if (page_size == 1)
        page_size = WAL_PAGE_MAX;
    if (wal->frames > 0 && wal->page_size != page_size) {
        snprintf(why, len,
                 "has pages of %zu bytes, and its -wal file has pages of %zu; the log of this "
                 "database, or none, is expected",
                 page_size, wal->page_size);
        return FAILED;
    }
    return wal_lay_over(wal, image->bytes) ? READ : TRY_AGAIN;
}

/* One attempt, without a lock: a writer is noticed by its own, or by what it changed. The log is
 * looked at before the file is read: what goes from it into the file later changes that. */
static enum outcome read_once(const struct agent_source *source, struct wal *wal,
                              struct image *image, char *why, size_t len)
{
    int fd = source->database;
    enum outcome outcome;
    struct stat before;

    if (is_locked(fd, SHARED_FIRST, SHARED_SIZE))
        return TRY_AGAIN;
    if (fstat(fd, &before) != 0) {
        snprintf(why, len, "cannot be read: %s", strerror(errno));
        return FAILED;
    }
    if (before.st_size < HEADER) {
        snprintf(why, len, "has %lld bytes; an SQLite database is expected",
                 (long long)before.st_size);
        return FAILED;
    }
    if (!check_journal(fd, source->journal, why, len) || !wal_scan(wal, why, len))
        return FAILED;
    outcome = read_file(fd, before.st_size, wal, image, why, len);
    if (outcome != READ)
        return outcome;
    if (!is_same(fd, &before, image->bytes) || is_locked(fd, SHARED_FIRST, SHARED_SIZE))
        return TRY_AGAIN;
    return add_log(wal, image, why, len);
}

static bool read_image(const struct agent_source *source, struct image *image, char *why,
                       size_t len)
{
    static struct wal wal;
    int log = source->wal;
    enum outcome outcome;

    wal.read = read_log;
    wal.arg = &log;
    outcome = read_once(source, &wal, image, why, len);
    for (int i = 1; outcome == TRY_AGAIN && i < TRIES; i++) {
        poll(NULL, 0, TRY_MS);
        outcome = read_once(source, &wal, image, why, len);
    }
    wal.arg = NULL; /* which ends here */
    if (outcome == TRY_AGAIN)
        snprintf(why, len, "is written to all the time; %d seconds without are expected",
                 TRIES * TRY_MS / 1000);
    return outcome == READ;
}

static bool check_header(struct image *image, char *why, size_t len)
{
    if (memcmp(image->bytes, "SQLite format 3", 16) != 0) {
        snprintf(why, len, "is no SQLite database, or an encrypted one");
        return false;
    }
    /* What is in another file has been brought in. */
    if (image->bytes[WRITE_VERSION] == WAL_MODE)
        image->bytes[WRITE_VERSION] = ROLLBACK;
    if (image->bytes[READ_VERSION] == WAL_MODE)
        image->bytes[READ_VERSION] = ROLLBACK;
    return true;
}

/* ---- the database ---- */

/* Queries that read; no other file, setting, or code from elsewhere. */
static int authorize(void *arg, int action, const char *first, const char *second,
                     const char *database, const char *view)
{
    (void)arg, (void)database, (void)view;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    case SQLITE_UPDATE: /* on the way to a virtual table, never done; nothing can be written */
        return sqlite3_stricmp(first, "sqlite_master") == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_PRAGMA: /* full-text search asks for these two */
        return second == NULL && (sqlite3_stricmp(first, "page_size") == 0 ||
                                  sqlite3_stricmp(first, "data_version") == 0)
                   ? SQLITE_OK
                   : SQLITE_DENY;
    case SQLITE_FUNCTION:
        return sqlite3_stricmp(second, "load_extension") != 0 &&
                       sqlite3_stricmp(second, "fts3_tokenizer") != 0
                   ? SQLITE_OK
                   : SQLITE_DENY;
    default:
        return SQLITE_DENY;
    }
}

static bool confine(sqlite3 *db)
{
    static const struct {
        int what, to;
    } settings[] = {{SQLITE_DBCONFIG_DEFENSIVE, 1},
                    {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                    {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
                    {SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0}},
      limits[] = {{SQLITE_LIMIT_LENGTH, VALUE_MAX},
                  {SQLITE_LIMIT_SQL_LENGTH, SQL_MAX},
                  {SQLITE_LIMIT_ATTACHED, 0},
                  {SQLITE_LIMIT_WORKER_THREADS, 0}};

    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (sqlite3_db_config(db, settings[i].what, settings[i].to, NULL) != SQLITE_OK)
            return false;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        sqlite3_limit(db, limits[i].what, limits[i].to);
    return sqlite3_exec(db,
                        "PRAGMA temp_store=MEMORY; PRAGMA query_only=1; PRAGMA cell_size_check=1",
                        NULL, NULL, NULL) == SQLITE_OK &&
           sqlite3_set_authorizer(db, authorize, NULL) == SQLITE_OK;
}

bool sqlite_open(const struct agent_source *source, sqlite3 **db, char *why, size_t len)
{
    struct image image = {NULL, 0};

    if (!read_image(source, &image, why, len) || !check_header(&image, why, len)) {
        free(image.bytes);
        return false;
    }
    if (sqlite3_open_v2(":memory:", db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_deserialize(*db, "main", image.bytes, (sqlite3_int64)image.len,
                            (sqlite3_int64)image.len, SQLITE_DESERIALIZE_READONLY) != SQLITE_OK ||
        !confine(*db)) {
        snprintf(why, len, "cannot be opened: %s", sqlite3_errmsg(*db));
        sqlite3_close(*db);
        free(image.bytes);
        return false;
    }
    return true;
}
