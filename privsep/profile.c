/*
 * Entering a system call filter: see profile.h. Runs in every process before it reads anything, and
 * in the tool that compares. It may call prctl and seccomp; profile_enter() must never return
 * without the filter in force.
 */
#include "privsep/profile.h"

#include <stdbool.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "privsep/sanitized.h"

static bool add_part(scmp_filter_ctx filter, const struct profile_part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        const struct profile_rule *rule = &part->rules[i];

        if (seccomp_rule_add_array(filter, rule->action != 0 ? rule->action : SCMP_ACT_ALLOW,
                                   rule->syscall, rule->nargs, rule->args) != 0)
            return false;
    }
    return true;
}

scmp_filter_ctx profile_build(const struct profile *profile)
{
    scmp_filter_ctx filter = seccomp_init(profile->otherwise);
    bool good = filter != NULL;

    for (size_t i = 0; good && i < PROFILE_PARTS; i++)
        good = add_part(filter, &profile->parts[i]);
    if (SANITIZED && good && profile->otherwise != SCMP_ACT_ALLOW)
        good = add_part(filter, &profile_sanitized);
    /* Any other architecture's calling convention dies as well, whatever the default is. */
    if (good && seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0)
        return filter;
    seccomp_release(filter);
    return NULL;
}

void profile_enter(const struct profile *profile)
{
    scmp_filter_ctx filter = profile_build(profile);

    if (filter == NULL || prctl(PR_SET_NAME, profile->program) != 0 ||
        prctl(PR_SET_DUMPABLE, 0) != 0 || seccomp_load(filter) != 0)
        _exit(PROFILE_EXIT);
    seccomp_release(filter);
}
