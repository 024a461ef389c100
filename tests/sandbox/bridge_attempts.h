/*
 * Sending what the rules of the bridge forbid: what bridge_attempts.c shares with the hooks. Runs
 * in attacker programs only; see attack.h.
 */
#ifndef JAILMAP_TESTS_SANDBOX_BRIDGE_ATTEMPTS_H
#define JAILMAP_TESTS_SANDBOX_BRIDGE_ATTEMPTS_H

#include "tests/sandbox/attack.h"

/* One packet with these bytes and descriptors, unchecked. As sendmsg(2), without waiting. */
long send_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned nfds);

/* A message of that number that is right but for what the words in `how` say: empty, cut,
 * headless, short, long, huge, nonzero; without, another, nine, hundreds (of descriptors). */
long send_malformed(int fd, long type, const char *how);

uint64_t milliseconds(void);

_Noreturn void idle(void);

#endif
