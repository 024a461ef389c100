/*
 * File system confinement by Landlock. Runs in agents, which live outside the chroot, before they
 * read anything. Must never grant what the plain permissions of the process do not.
 */
#ifndef JAILMAP_PRIVSEP_LANDLOCK_H
#define JAILMAP_PRIVSEP_LANDLOCK_H

/*
 * Leaves the process able to read files and directories and nothing else: no writing, creating,
 * removing, executing, no signals beyond itself; as much of that as this kernel knows. Returns
 * NULL, or a constant text that names what is missing.
 */
const char *landlock_read_only(void);

#endif
