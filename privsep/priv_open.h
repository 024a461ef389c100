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

#define PRIV_EXECUTE   1u /* for execution only, as an O_PATH descriptor; else for reading */
#define PRIV_FOLLOW    2u /* symbolic links, under the conditions below */
#define PRIV_REAL_NAME 4u /* but not one in the place of the file: its own name is expected */

/*
 * The safe path rule: path is absolute; no component is a symbolic link; every directory on the way
 * and the file belong to root or owner and can be written by nobody else. Checked with fstat(2) on
 * what was opened, component by component, so nothing can be exchanged in between.
 *
 * With PRIV_FOLLOW a component may be a link, and its target is walked by the same rule. owner is
 * not root, though: what a link in one of its directories leads to, and what has a second name in
 * one of them, is accepted only if it is owner's own.
 *
 * Opens the regular file without waiting (a FIFO cannot hang the caller), close-on-exec. Returns
 * the descriptor, which the caller owns, and fills *st; or -1 with the reason, naming the
 * component, in why[0..len), and errno ENOENT if, and only if, it does not exist.
 */
int priv_open_file(const char *path, uid_t owner, unsigned flags, struct stat *st, char *why,
                   size_t len);

/*
 * The same, and calls step for every component before it is looked at, links and their targets
 * included, with the directory that holds it: whoever wants to know when path begins to mean
 * something else watches these.
 */
typedef void priv_step(void *arg, int dir, const char *name);
int priv_open_source(const char *path, uid_t owner, unsigned flags, priv_step *step, void *arg,
                     struct stat *st, char *why, size_t len);

/*
 * Opens the directory that path names (whole: true) or that holds it (whole: false) by the same
 * rule, as an O_PATH descriptor.
 */
int priv_open_dir(const char *path, uid_t owner, bool whole, struct stat *st, char *why,
                  size_t len);

#endif
