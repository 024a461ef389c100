/*
 * Memory with a descriptor, to be sealed. Runs in jailmapd only, with privilege; it never maps any.
 */
#ifndef JAILMAP_PRIVSEP_MEMFD_H
#define JAILMAP_PRIVSEP_MEMFD_H

/* Empty, to be sealed one day, and close-on-exec; the caller's. -1 with errno. */
int memfd_make(const char *name);
/* Puts these seals on it for good. Returns another descriptor of it, to be read only; -1 with a
 * constant text in why. */
int memfd_seal(int fd, int seals, const char **why);

#endif
