/*
 * Opening approved files. Runs in the monitor, with privilege, on paths from the policy only. Must
 * never open anything that a user other than root, or an owner that the policy names, could have
 * put there, and never wait for what it opens.
 */
#ifndef JAILMAP_PRIVSEP_PRIV_OPEN_H
#define JAILMAP_PRIVSEP_PRIV_OPEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * The safe path rule: path is absolute; no component is a symbolic link; every directory on the way
 * and the file belong to root or owner and can be written by nobody else. Checked with fstat(2) on
 * what was opened, component by component, so nothing can be exchanged in between.
 *
 * Opens the regular file for reading, or for execution only (O_PATH) if execute is set, without
 * waiting (a FIFO cannot hang the caller), close-on-exec. Returns the descriptor, which the caller
 * owns, and fills *st; or -1 with the reason, naming the component, in why[0..len).
 */
int priv_open_file(const char *path, uid_t owner, bool execute, struct stat *st, char *why,
                   size_t len);

/*
 * Opens the directory that path names (whole: true) or that holds it (whole: false) by the same
 * rule, as an O_PATH descriptor.
 */
int priv_open_dir(const char *path, uid_t owner, bool whole, struct stat *st, char *why,
                  size_t len);

#endif
