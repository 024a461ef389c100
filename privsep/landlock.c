/*
 * Confinement by Landlock: see landlock.h. Runs in the monitor, the launchers, the agents and the
 * dialers. It may make a rule set and enter it; it must never do more.
 */
#include "privsep/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than Debian 12's header: see landlock(7). */
#define ACCESS_REFER     (UINT64_C(1) << 13) /* version 2 */
#define ACCESS_TRUNCATE  (UINT64_C(1) << 14) /* version 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define ACCESS_TCP       UINT64_C(3)         /* version 4: bind and connect */
#define ACCESS_CONNECT   UINT64_C(2)         /* that alone */
#define RULE_PORT        2                   /* version 4 */
#define SCOPE_ABSTRACT   (UINT64_C(1) << 0)  /* version 6 */
#define SCOPE_SIGNAL     (UINT64_C(1) << 1)  /* version 6 */
#define ACCESS_VERSION_1 ((UINT64_C(1) << 13) - 1)

/* As long as the newest that this program knows; an older kernel takes the part that it knows. */
struct ruleset {
    uint64_t fs, net, scoped;
};

int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return version > 0 ? (int)version : 0;
}

static size_t size_in(int version)
{
    return version >= 6   ? sizeof(struct ruleset)
           : version >= 4 ? offsetof(struct ruleset, scoped)
                          : offsetof(struct ruleset, net);
}

static uint64_t files_in(int version)
{
    return ACCESS_VERSION_1 | (version >= 2 ? ACCESS_REFER : 0) |
           (version >= 3 ? ACCESS_TRUNCATE : 0) | (version >= 5 ? ACCESS_IOCTL_DEV : 0);
}

static uint64_t access_of(unsigned may)
{
    uint64_t access = 0;

    if (may & (LANDLOCK_MAY_READ | LANDLOCK_MAY_EXECUTE | LANDLOCK_MAY_READ_IT))
        access |= LANDLOCK_ACCESS_FS_READ_FILE;
    if (may & LANDLOCK_MAY_READ)
        access |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (may & LANDLOCK_MAY_EXECUTE)
        access |= LANDLOCK_ACCESS_FS_EXECUTE;
    if (may & LANDLOCK_MAY_WRITE)
        access |= LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                  LANDLOCK_ACCESS_FS_REMOVE_FILE | ACCESS_TRUNCATE;
    if (may & LANDLOCK_MAY_BIND)
        access |= LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;
    return access;
}

/* Enters a rule set, which it closes. */
static int restrict_self(int fd, bool good)
{
    int error;

    good = good && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return good ? 0 : -1;
}

/* Enters rules with those grants. */
static int enter(const struct ruleset *rules, int version, const struct landlock_grant *grants,
                 size_t n)
{
    int fd = (int)syscall(SYS_landlock_create_ruleset, rules, size_in(version), 0);
    bool good = fd >= 0;

    for (size_t i = 0; good && i < n; i++) {
        struct landlock_path_beneath_attr beneath = {
            .allowed_access = access_of(grants[i].may) & rules->fs, .parent_fd = grants[i].fd};

        good = syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0;
    }
    return restrict_self(fd, good);
}

int landlock_enter(const struct landlock_grant *grants, size_t n, unsigned beside)
{
    int version = landlock_version();
    struct ruleset rules = {.fs = files_in(version)};

    if (version == 0) {
        errno = ENOSYS;
        return -1;
    }
    if (beside & LANDLOCK_NO_TCP)
        rules.net = ACCESS_TCP;
    if (beside & LANDLOCK_NO_SIGNALS)
        rules.scoped |= SCOPE_SIGNAL;
    if (beside & LANDLOCK_NO_ABSTRACT)
        rules.scoped |= SCOPE_ABSTRACT;
    return enter(&rules, version, grants, n);
}

int landlock_ports(const uint16_t *ports, size_t n)
{
    int version = landlock_version(), fd;
    struct ruleset rules = {.net = ACCESS_TCP};
    bool good;

    if (version < 4)
        return 0;
    fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size_in(version), 0);
    good = fd >= 0;
    for (size_t i = 0; good && i < n; i++) {
        const uint64_t rule[] = {ACCESS_CONNECT, ports[i]};

        good = syscall(SYS_landlock_add_rule, fd, RULE_PORT, rule, 0) == 0;
    }
    return restrict_self(fd, good);
}

int landlock_keep_signals(void)
{
    int version = landlock_version();
    struct ruleset rules = {.scoped = SCOPE_SIGNAL};

    return version < 6 ? 0 : enter(&rules, version, NULL, 0);
}
