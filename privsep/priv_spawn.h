/*
 * Starting a child inside its jail. Runs in the monitor, with privilege, and between fork and exec
 * in the child. Must never let the child's program execute one instruction with privilege, or with
 * a descriptor that it was not given.
 */
#ifndef JAILMAP_PRIVSEP_PRIV_SPAWN_H
#define JAILMAP_PRIVSEP_PRIV_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn {
    int program;      /* opened by priv_open_file(execute) */
    const char *name; /* argv[0], for ps(1) */
    int jail;         /* directory to chroot to; -1: none */
    uid_t uid;
    gid_t gid;
    /* Resource limits: numbers, bytes, bytes of private memory, seconds. A file_size of 0 means
     * that the program writes no file. */
    uint64_t descriptors, file_size, memory, cpu_seconds;
    bool background; /* its work may wait for everybody else's */
};

#define SPAWN_UNLIMITED UINT64_MAX
/* A child that cannot enter its jail ends with this and the number of the step, and runs nothing.
 */
#define SPAWN_EXIT 100

/*
 * Starts the program with /dev/null as descriptors 0 to 2 and its bridge as 3, no other descriptor,
 * no environment, no supplementary group, no capability in any set, and no_new_privs. Returns its
 * pid and the monitor's end of the bridge, close-on-exec and not blocking, which the caller owns;
 * or -1 with errno.
 */
pid_t priv_spawn(const struct spawn *spawn, int *bridge);

/*
 * Confines the caller for good: an empty bounding set, no_new_privs, and only the capabilities that
 * the monitor needs later on. Returns 0, or -1 with errno.
 */
int priv_confine(void);

/* A SOCK_SEQPACKET pair with room for the largest message. 0, or -1 with errno. */
int priv_socketpair(int fds[2]);

#endif
