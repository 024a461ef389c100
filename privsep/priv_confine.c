/*
 * The monitor's own confinement: see priv_confine.h. Runs in jailmapd, once.
 */
#include "privsep/priv_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "privsep/landlock.h"
#include "privsep/listen.h"
#include "privsep/monitor.h"
#include "privsep/profile.h"

int priv_confine_all(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return landlock_keep_signals();
}

static int keep_capabilities(void)
{
    /* SETUID, SETGID: setfsuid(2) and setfsgid(2), to act on files as their owner; its filter has
     * no other call for them. DAC_READ_SEARCH: sources that root's plain permissions do not reach.
     * KILL: children have another uid. */
    static const cap_value_t kept[] = {CAP_SETUID, CAP_SETGID, CAP_DAC_READ_SEARCH, CAP_KILL};
    const int n = (int)(sizeof kept / sizeof kept[0]);
    cap_t caps = cap_init();
    int rc = -1;

    if (caps == NULL)
        return -1;
    /* With an empty bounding set no exec gives a capability. */
    for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++)
        if (cap_get_bound(cap) != 0 && cap_drop_bound(cap) != 0)
            goto out;
    if (cap_set_flag(caps, CAP_PERMITTED, n, kept, CAP_SET) == 0 &&
        cap_set_flag(caps, CAP_EFFECTIVE, n, kept, CAP_SET) == 0 && cap_set_proc(caps) == 0)
        rc = 0;
out:
    cap_free(caps);
    return rc;
}

/* Reading anywhere; runtime-dir; and sockets where there are some. */
static int keep_files(void)
{
    size_t n = 0;
    struct landlock_grant *grants = calloc(monitor_policy->nlistens + 2, sizeof *grants);
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), rc = -1;

    if (grants != NULL && root >= 0) {
        grants[n++] = (struct landlock_grant){root, LANDLOCK_MAY_READ};
        grants[n++] = (struct landlock_grant){MONITOR_RUNTIME, LANDLOCK_MAY_WRITE};
        for (size_t i = 0; i < monitor_policy->nlistens; i++)
            if (listen_dir(i) >= 0)
                grants[n++] = (struct landlock_grant){listen_dir(i), LANDLOCK_MAY_BIND};
        rc = landlock_enter(grants, n, LANDLOCK_NO_TCP);
    }
    if (root >= 0)
        close(root);
    free(grants);
    return rc;
}

int priv_confine(struct walls *walls)
{
    if (keep_files() != 0)
        walls_lack(walls, "the monitor lacks Landlock: %s", strerror(errno));
    return keep_capabilities();
}
