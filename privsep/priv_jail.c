/*
 * Entering the jail: see priv_jail.h. Runs in jailmap-launcher, as root, before it reads a request
 * from the monitor. Everything that the helpers lose, they have lost before their process is born.
 */
#include "privsep/priv_jail.h"

#include <errno.h>
#include <grp.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privsep/messages.h"
#include "privsep/sanitized.h"

static void lack(struct lacking *lacking, enum bridge_wall wall)
{
    lacking->walls |= wall;
    lacking->error = errno;
}

/* The working directory, a mount, becomes the root. What was there goes away, or, where that cannot
 * be, as with the first file system of the kernel, is covered. */
static bool take_root(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
    return mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0;
}

/*
 * Makes the working directory, which is empty, the only file system of a new mount namespace:
 * nothing is left to get back to, where chroot(2) alone leaves the rest of the tree in place.
 */
static bool mount_only(void)
{
    struct mount_attr bare = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                          MOUNT_ATTR_NOEXEC};
    unsigned clone = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    int tree;
    bool ok;

    /* Mounts that are made here must not appear outside. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    if (SANITIZED) {
        if (!sanitized_furnish())
            return false;
        clone |= AT_RECURSIVE;
    }
    tree = open_tree(AT_FDCWD, ".", clone);
    if (tree < 0)
        return false;
    ok = mount_setattr(tree, "", AT_EMPTY_PATH, &bare, sizeof bare) == 0 &&
         move_mount(tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) == 0 && fchdir(tree) == 0 &&
         take_root();
    close(tree);
    return ok;
}

void priv_enter_processes(struct lacking *lacking)
{
    if (unshare(CLONE_NEWPID) != 0)
        lack(lacking, WALL_PROCESSES);
}

const char *priv_enter_jail(int dir, struct lacking *lacking)
{
    static const struct {
        int flag;
        enum bridge_wall wall;
    } spaces[] = {{CLONE_NEWNET, WALL_NETWORK},
                  {CLONE_NEWIPC, WALL_IPC},
                  {CLONE_NEWUTS, WALL_HOST_NAME},
                  {CLONE_NEWNS, WALL_MOUNTS}};
    bool mounted = false;

    /* Before, as the working directory comes along into a new namespace, and a descriptor does
     * not. */
    if (fchdir(dir) != 0)
        return "cannot enter the jail";
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++)
        if (unshare(spaces[i].flag) != 0)
            lack(lacking, spaces[i].wall);
    priv_enter_processes(lacking);
    if ((lacking->walls & WALL_MOUNTS) == 0) {
        mounted = mount_only();
        if (!mounted)
            lack(lacking, WALL_ROOT);
    }
    /* Else the tree is still there, and out of reach. */
    if (!mounted && (chroot(".") != 0 || chdir("/") != 0))
        return "cannot make the jail its root";
    return NULL;
}

/* Nothing left, looked at rather than believed. The uid change has emptied the other sets. */
static bool no_capabilities(void)
{
    cap_t now, none = cap_init();
    bool empty = none != NULL && cap_set_proc(none) == 0 && (now = cap_get_proc()) != NULL &&
                 cap_compare(now, none) == 0;

    for (cap_value_t cap = 0; empty && cap_get_bound(cap) >= 0; cap++)
        empty = cap_get_bound(cap) == 0 && cap_get_ambient(cap) == 0;
    return empty;
}

const char *priv_become(uid_t uid, gid_t gid)
{
    for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
        if (cap_get_bound(cap) != 0 && cap_drop_bound(cap) != 0)
            return "cannot empty its bounding set";
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return "cannot change its user";
    errno = EPERM;
    if (!no_capabilities())
        return "cannot give up its capabilities";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "cannot set no_new_privs";
    return NULL;
}
