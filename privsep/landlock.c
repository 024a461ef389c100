/*
 * File system confinement: see landlock.h. Runs in agents. It may open "/" as a path descriptor to
 * name it in the rule set; it must never do more.
 */
#include "privsep/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than Debian 12's header: see landlock(7). */
#define ACCESS_REFER     (UINT64_C(1) << 13) /* ABI 2 */
#define ACCESS_TRUNCATE  (UINT64_C(1) << 14) /* ABI 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define SCOPE_SIGNAL     (UINT64_C(1) << 1)  /* ABI 6 */
#define ACCESS_ABI_1     ((UINT64_C(1) << 13) - 1)

struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* cppcheck-suppress unusedStructMember; kernel interface */
    uint64_t scoped;
};

const char *landlock_read_only(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset rules = {.handled_access_fs = ACCESS_ABI_1};
    size_t size = sizeof rules.handled_access_fs;
    struct landlock_path_beneath_attr reading = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
                                                                   LANDLOCK_ACCESS_FS_READ_DIR};
    const char *missing = NULL;
    int fd;

    if (abi < 1)
        return "this kernel has no Landlock: the agent is confined by its filter and user alone";
    if (abi >= 2)
        rules.handled_access_fs |= ACCESS_REFER;
    if (abi >= 3)
        rules.handled_access_fs |= ACCESS_TRUNCATE;
    if (abi >= 5)
        rules.handled_access_fs |= ACCESS_IOCTL_DEV;
    if (abi >= 6) {
        rules.scoped = SCOPE_SIGNAL;
        size = sizeof rules;
    }
    fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    reading.parent_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || reading.parent_fd < 0 ||
        syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &reading, 0) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        missing = "Landlock refuses: the agent is confined by its filter and user alone";
    close(fd);
    close(reading.parent_fd);
    return missing;
}
