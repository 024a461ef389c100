/*
 * Confinement by Landlock. Runs in the monitor, the launchers, the agents and the dialers, before
 * they read anything. Must never grant what the plain permissions of the process do not. What it
 * can do depends on the kernel: see landlock(7) for its versions; Debian 12's own kernel has
 * version 2.
 */
#ifndef JAILMAP_PRIVSEP_LANDLOCK_H
#define JAILMAP_PRIVSEP_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Version of the kernel's interface; 0: this kernel has none. */
int landlock_version(void);

enum landlock_may {
    LANDLOCK_MAY_READ = 1,    /* files and directories */
    LANDLOCK_MAY_EXECUTE = 2, /* and read: what is executed is read */
    LANDLOCK_MAY_WRITE = 4,   /* make, write, rename and remove files */
    LANDLOCK_MAY_BIND = 8,    /* make, rename and remove sockets, and remove files */
    LANDLOCK_MAY_READ_IT = 16 /* the one file that the descriptor is of */
};

struct landlock_grant {
    int fd;       /* of a file, or of a directory and all below it */
    unsigned may; /* bits of enum landlock_may */
};

/* Besides files: */
enum landlock_beside {
    LANDLOCK_NO_TCP = 1,     /* version 4 */
    LANDLOCK_NO_SIGNALS = 2, /* to processes that are not confined by this very call; version 6 */
    LANDLOCK_NO_ABSTRACT = 4 /* sockets of others; version 6 */
};

/*
 * Leaves the process, and what it starts, able to do to files what grants allow, and nothing of
 * beside (bits of enum landlock_beside) where the kernel knows how. Needs no_new_privs. Returns 0,
 * or -1 with errno.
 */
int landlock_enter(const struct landlock_grant *grants, size_t n, unsigned beside);

/* Only TCP: leaves the process able to connect to these ports, and to no other, and to bind none.
 * As above; 0, too, where the kernel does not know how. */
int landlock_ports(const uint16_t *ports, size_t n);

/* Only signals: leaves the process able to send them to itself and to what it starts. 0, also where
 * the kernel does not know how; or -1 with errno. */
int landlock_keep_signals(void);

#endif
