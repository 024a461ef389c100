/*
 * How an order reaches a program that can open nothing: a file beside the program, which is mapped
 * before the walls are up. Runs in the attacker builds of the launcher and of the monitor.
 */
#ifndef JAILMAP_TESTS_SANDBOX_MAILBOX_H
#define JAILMAP_TESTS_SANDBOX_MAILBOX_H

#include <stdbool.h>

/* Maps the file `mailbox` in the directory of the running program, if there is one. */
void mailbox_open(void);

/* Is that word in the mailbox, and nothing else? */
bool mailbox_says(const char *word);

/*
 * Carries out the order that is in the mailbox, if it begins with `to` and a space, and leaves the
 * report. Returns the report, or NULL if there was no order. An order is carried out once.
 */
const char *mailbox_serve(const char *to);

#endif
