/*
 * Seeds for the fuzz targets: the unit tests' program, linked so that what its tests hand to the
 * functions under test comes by here first and is written to a directory for each target. So every
 * golden frame is a seed without being written down a second time. Run by `make fuzz-seeds`; it may
 * write below the directory that SEEDS names and must not change what a test sees.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "server/image.h"
#include "server/loader/db_pages.h"
#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

#define SEED_MOST 6400u /* bytes: larger ones are not worth their time */

static const struct slice no_head = {NULL, 0};

/* One file for each different content. head is what the target's form of inputs wants before it. */
static void save(const char *target, struct slice head, struct slice bytes)
{
    uint64_t name = UINT64_C(14695981039346656037);
    static const char *directory; /* kept: a test clears the environment */
    char path[512];
    int fd;

    if (directory == NULL)
        directory = getenv("SEEDS");
    if (directory == NULL || bytes.len > SEED_MOST)
        return;
    for (size_t i = 0; i < head.len + bytes.len; i++) {
        char c = i < head.len ? head.ptr[i] : bytes.ptr[i - head.len];

        name = (name ^ (unsigned char)c) * UINT64_C(1099511628211);
    }
    snprintf(path, sizeof path, "%s/%s/%016llx", directory, target, (unsigned long long)name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST)
        return;
    if (fd < 0 || (head.len > 0 && write(fd, head.ptr, head.len) != (ssize_t)head.len) ||
        (bytes.len > 0 && write(fd, bytes.ptr, bytes.len) != (ssize_t)bytes.len)) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    close(fd);
}

static void save_file(const char *target, struct slice head, int fd)
{
    static char bytes[SEED_MOST + 1];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);

    if (n >= 0)
        save(target, head, (struct slice){bytes, (size_t)n});
}

/* ---- attribute lists and requests ---- */

struct wire __real_wire(const char *text);
struct wire __wrap_wire(const char *text);

struct wire __wrap_wire(const char *text)
{
    struct wire w = __real_wire(text);

    save("attr", (struct slice)SLICE("\x06"), (struct slice){w.bytes, w.len});
    save("proxymap", (struct slice)SLICE("\x06"), (struct slice){w.bytes, w.len});
    return w;
}

/* ---- the bridge ---- */

const char *__real_bridge_decode(const void *bytes, size_t len, unsigned nfds,
                                 enum bridge_role from, enum bridge_role to,
                                 enum bridge_state state, struct bridge_msg *msg);
const char *__wrap_bridge_decode(const void *bytes, size_t len, unsigned nfds,
                                 enum bridge_role from, enum bridge_role to,
                                 enum bridge_state state, struct bridge_msg *msg);

/* The first few that are accepted of each type, and that are refused for each reason. */
static bool is_new(const char *why, unsigned type)
{
    static struct {
        const char *why;
        unsigned type, count;
    } seen[256];

    for (size_t i = 0; i < COUNT(seen); i++) {
        if (seen[i].count == 0)
            seen[i].why = why, seen[i].type = type;
        if (seen[i].why == why && seen[i].type == type)
            return seen[i].count++ < 8;
    }
    return false;
}

/* For the form see bridge_side.c, where tails grow to their full length. */
const char *__wrap_bridge_decode(const void *bytes, size_t len, unsigned nfds,
                                 enum bridge_role from, enum bridge_role to,
                                 enum bridge_state state, struct bridge_msg *msg)
{
    const char *why = __real_bridge_decode(bytes, len, nfds, from, to, state, msg);
    const char head[] = {(char)(__builtin_ctz(from) | __builtin_ctz(state) << 4), (char)nfds, 0,
                         (char)(len > 64)};
    size_t most = len < 64 ? len : 64;

    if (nfds <= 2 && is_new(why, why == NULL ? msg->type : 0))
        save(to == ROLE_MONITOR ? "bridge_monitor" : "bridge_worker",
             (struct slice){head, sizeof head}, (struct slice){bytes, most});
    return why;
}

/* ---- images and stored databases: as they are ---- */

int __real_image_open(struct image *image, int fd, const char **why);
int __wrap_image_open(struct image *image, int fd, const char **why);
int __real_db_pages_check(struct source *source, const struct db_layout *layout, uint64_t *records);
int __wrap_db_pages_check(struct source *source, const struct db_layout *layout, uint64_t *records);
extern const struct source_ops __real_source_cdb, __wrap_source_cdb;

int __wrap_image_open(struct image *image, int fd, const char **why)
{
    save_file("image", (struct slice)SLICE("\0"), fd);
    return __real_image_open(image, fd, why);
}

/* Zeros are counted: see db_pages.c. */
int __wrap_db_pages_check(struct source *source, const struct db_layout *layout, uint64_t *records)
{
    static char file[SEED_MOST], seed[2 * SEED_MOST];
    char flags = (char)(layout->swapped | layout->checksums << 1);
    ssize_t n = pread(source->fd, file, sizeof file, 0);
    size_t len = 0;

    for (ssize_t i = 0; i < n; i++) {
        unsigned more = 0;

        seed[len++] = file[i];
        if (file[i] != '\0')
            continue;
        for (; more < UINT8_MAX && i + 1 < n && file[i + 1] == '\0'; i++)
            more++;
        seed[len++] = (char)more;
    }
    save("db_pages", (struct slice){&flags, 1}, (struct slice){seed, len});
    return __real_db_pages_check(source, layout, records);
}

static int load_cdb(struct source *source)
{
    save_file("cdb", (struct slice)SLICE("\0"), source->fd);
    return __real_source_cdb.load(source);
}

const struct source_ops __wrap_source_cdb = {.type = TYPE_CDB, .load = load_cdb};

/* ---- texts ---- */

void __real_load_file(struct loaded *l, const struct source_ops *ops, struct slice file,
                      const struct slice *nsswitch);
void __wrap_load_file(struct loaded *l, const struct source_ops *ops, struct slice file,
                      const struct slice *nsswitch);
void __real_load_name(struct loaded *l, const struct source_ops *ops, struct slice name);
void __wrap_load_name(struct loaded *l, const struct source_ops *ops, struct slice name);
struct policy *__real_policy_read(const struct policy_files *files, const char *path, char *why,
                                  size_t len);
struct policy *__wrap_policy_read(const struct policy_files *files, const char *path, char *why,
                                  size_t len);

void __wrap_load_file(struct loaded *l, const struct source_ops *ops, struct slice file,
                      const struct slice *nsswitch)
{
    if (ops == &source_texthash)
        save("texthash", no_head, file);
    else
        save(ops == &source_passwd ? "passwd" : "group", no_head, file);
    if (nsswitch != NULL)
        save("nsswitch", no_head, *nsswitch);
    __real_load_file(l, ops, file, nsswitch);
}

void __wrap_load_name(struct loaded *l, const struct source_ops *ops, struct slice name)
{
    save(ops == &source_inline ? "inline" : "static", no_head, name);
    __real_load_name(l, ops, name);
}

struct policy *__wrap_policy_read(const struct policy_files *files, const char *path, char *why,
                                  size_t len)
{
    char reason[64];
    int fd = files->open(files->context, "", reason, sizeof reason);

    save_file("config", no_head, fd);
    close(fd);
    return __real_policy_read(files, path, why, len);
}
