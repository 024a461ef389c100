/*
 * System call filters. One profile for each program, one line for each system call with the caller
 * that needs it. Runs once in every child, as its first act, before it has read a byte from anyone.
 * A profile must never be widened at run time; filters cannot be taken off.
 */
#ifndef JAILMAP_PRIVSEP_PROFILE_H
#define JAILMAP_PRIVSEP_PROFILE_H

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

struct profile_rule {
    int syscall;
    uint32_t action; /* 0: allow */
    unsigned nargs;
    struct scmp_arg_cmp args[2];
    const char *why; /* who needs it, for reports and reviewers */
};

struct profile {
    const char *program; /* also becomes the process name */
    uint32_t otherwise;  /* action for what no rule names */
    size_t count;
    const struct profile_rule *rules;
};

extern const struct profile profile_worker;
extern const struct profile profile_loader;
extern const struct profile profile_scribe;
extern const struct profile profile_agent_nss;

/*
 * Names the process, makes it undumpable and enters the profile. On any failure it ends the
 * process with PROFILE_EXIT: no child runs without its filter.
 */
void profile_enter(const struct profile *profile);

#define PROFILE_EXIT 70

#endif
