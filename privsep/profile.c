/*
 * Entering a system call filter: see profile.h. Runs in every child before it reads anything. It
 * may call prctl and seccomp; it must never return without the filter in force.
 */
#include "privsep/profile.h"

#include <sys/prctl.h>
#include <unistd.h>

void profile_enter(const struct profile *profile)
{
    scmp_filter_ctx filter = seccomp_init(profile->otherwise);

    if (filter == NULL || prctl(PR_SET_NAME, profile->program) != 0 ||
        prctl(PR_SET_DUMPABLE, 0) != 0)
        _exit(PROFILE_EXIT);
    for (size_t i = 0; i < profile->count; i++) {
        const struct profile_rule *rule = &profile->rules[i];

        if (seccomp_rule_add_array(filter, rule->action != 0 ? rule->action : SCMP_ACT_ALLOW,
                                   rule->syscall, rule->nargs, rule->args) != 0)
            _exit(PROFILE_EXIT);
    }
    /* Any other architecture's calling convention dies as well, whatever the default is. */
    if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) != 0 ||
        seccomp_load(filter) != 0)
        _exit(PROFILE_EXIT);
    seccomp_release(filter);
}
