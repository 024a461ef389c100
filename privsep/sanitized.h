/*
 * What is different in a build with AddressSanitizer, which exists for the tests alone: its
 * programs need libraries, system calls and memory that the others are refused. Read by whatever
 * has such a difference, which says `if (SANITIZED)`, so that the compiler takes it out of every
 * other build. A normal program must never be linked with what is declared here.
 */
#ifndef JAILMAP_PRIVSEP_SANITIZED_H
#define JAILMAP_PRIVSEP_SANITIZED_H

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Rules that every list of what is allowed has there as well. */
extern const struct profile_part profile_sanitized;

/*
 * Covers the working directory, the empty jail, with one that shows the system's libraries and
 * /proc, read-only, and makes that the working directory. The mount namespace must be the process's
 * own, and private. Returns false with errno.
 */
bool sanitized_furnish(void);

#endif
