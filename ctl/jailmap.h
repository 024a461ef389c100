/*
 * The jailmap(8) tool: one function for each subcommand. Runs as whoever calls it, with no more
 * rights than that, and must never need any.
 */
#ifndef JAILMAP_CTL_JAILMAP_H
#define JAILMAP_CTL_JAILMAP_H

#include <stddef.h>

/* Each gets its own argv, from its name on, and returns the exit status (sysexits.h, but for 1). */
int ctl_query(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_reload(int argc, char **argv);
int ctl_stop(int argc, char **argv);
int ctl_sandbox(int argc, char **argv);

/* A control socket of the daemon with that runtime-dir. */
struct ctl_socket {
    const char *dir, *name;
    unsigned patience; /* seconds without a word of it */
};

/* Gives the command that is to connect there. EX_OK with the whole answer in *text, which is the
 * caller's, or an exit status with a message on standard error. */
int ctl_ask(const struct ctl_socket *to, char **text, size_t *len);

#define CTL_NOT_FOUND   1
#define CTL_NOT_CURRENT 1
#define CTL_WEAKER      1
#define CTL_RUNTIME_DIR "/run/jailmap"
#define CTL_SOCKET      "/var/spool/postfix/private/jailmap"

#endif
