/*
 * The jailmap(8) tool: one function for each subcommand. Runs as whoever calls it, with no more
 * rights than that, and must never need any.
 */
#ifndef JAILMAP_CTL_JAILMAP_H
#define JAILMAP_CTL_JAILMAP_H

/* Each gets its own argv, from its name on, and returns the exit status (sysexits.h, but for 1). */
int ctl_query(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_sandbox(int argc, char **argv);

#define CTL_NOT_FOUND   1
#define CTL_NOT_CURRENT 1
#define CTL_WEAKER      1
#define CTL_SOCKET      "/var/spool/postfix/private/jailmap"

#endif
