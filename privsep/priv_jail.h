/*
 * Entering the jail for good. Runs in jailmap-launcher, as root, once, before it has started
 * anything. Must never leave the process with a privilege, or go on after a step that failed.
 */
#ifndef JAILMAP_PRIVSEP_PRIV_JAIL_H
#define JAILMAP_PRIVSEP_PRIV_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

/* What could not be had: bits of enum bridge_wall, and the errno of the last of them. */
struct lacking {
    unsigned walls;
    int error;
};

/*
 * Enters new namespaces, as many as may be had, and makes the directory dir the root of everything
 * that it sees; the process id namespace is that of its children alone. The namespaces are an extra
 * wall, so one that is refused is noted in *lacking. Returns NULL, or a constant text that says
 * what failed, with errno.
 */
const char *priv_enter_jail(int dir, struct lacking *lacking);

/* Makes a process id namespace for its children alone; as above if that is refused. */
void priv_enter_processes(struct lacking *lacking);

/*
 * Becomes uid and gid without supplementary groups, with no capability in any set, and
 * no_new_privs, and looks that it is so. Returns NULL, or a constant text, with errno.
 */
const char *priv_become(uid_t uid, gid_t gid);

#endif
