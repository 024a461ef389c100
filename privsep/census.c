/*
 * The census's end of the monitor: what is told to it. Runs in the monitor, with privilege. It may
 * start a census, make pages of counters, and tell how things are, ten times a second and when root
 * or the control group asks; it must never map a page. All that it hears is that a limit is reached
 * or kept again, and what comes of that is no more than privsep/limits.c says. Nothing is queued
 * here: whoever has news keeps it until census_tell() takes it, so a census that does not read
 * costs nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/bridge.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/launch.h"
#include "privsep/limits.h"
#include "privsep/log.h"
#include "privsep/memfd.h"
#include "privsep/monitor.h"
#include "privsep/tables.h"
#include "server/counters.h"

#define RESTART_MS  1000
#define PAUSE_MS    100   /* between two rounds, whatever happens */
#define PATIENCE_MS 10000 /* the next census will read what this one does not */
#define MEMORY      (UINT64_C(1) << 30)
#define SEALS       (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) /* nobody is made to fault */

static struct child *census;
static uint32_t edition;
static uint64_t start_at = NEVER, tell_at = NEVER, told_at;
static time_t started, policy_since;
static char policy_failure[BRIDGE_TEXT_MAX];
/* What this census knows of what does not change. */
static size_t listeners_told, tables_named;
static bool daemon_told, policy_told;

bool census_tell(enum bridge_type type, const void *body, const char *tail, const int *fd)
{
    size_t len = tail != NULL ? strlen(tail) : 0;

    return census != NULL && child_send(census, type, body, tail, len, fd);
}

static bool tell_daemon(void)
{
    struct msg_daemon body = {.since = (uint64_t)started, .pid = (uint32_t)getpid()};

    return daemon_told || (daemon_told = census_tell(MSG_DAEMON, &body, JAILMAP_VERSION, NULL));
}

static bool tell_policy(void)
{
    struct msg_policy body = {.since = (uint64_t)policy_since};

    return policy_told || (policy_told = census_tell(MSG_POLICY, &body, policy_failure, NULL));
}

static bool tell_listeners(void)
{
    for (; listeners_told < monitor_policy->nlistens; listeners_told++) {
        const struct policy_listen *l = &monitor_policy->listens[listeners_told];
        const char *path = l->gone ? "" : l->path;
        struct msg_listener body = {(uint32_t)listeners_told, l->workers, l->clients_per_worker,
                                    l->max_use};

        if (!census_tell(MSG_LISTENER, &body, path, NULL))
            return false;
    }
    return true;
}

static bool tell_names(void)
{
    for (; tables_named < monitor_policy->ntables; tables_named++) {
        struct msg_table_name body = {(uint32_t)tables_named};

        if (!census_tell(MSG_TABLE_NAME, &body, monitor_policy->tables[tables_named].name, NULL))
            return false;
    }
    return true;
}

/* Everything that is news. False: its queue is full, and census_writable() goes on. */
static bool tell_all(void)
{
    told_at = monitor_now();
    tell_at = NEVER;
    return tell_daemon() && tell_policy() && tell_listeners() && tell_names() && tables_tell() &&
           agents_tell() && clients_tell();
}

static void census_writable(struct child *c)
{
    (void)c;
    tell_all();
}

/* LIMIT: counts, uid, which limit, news: the one message that it may send. */
static void census_message(struct child *c, const struct bridge_msg *msg)
{
    if (!limits_heard(&msg->body.LIMIT))
        child_end(c, "it speaks of a limit that there is not");
}

static void census_gone(struct child *c, const char *how)
{
    census = NULL;
    limits_unwatched();
    start_at = monitor_now() + RESTART_MS;
    log_line(LOG_WARNING,
             "census pid %d died: %s; what workers counted that have ended is lost, and the next "
             "one starts in %d ms",
             (int)c->pid, how != NULL ? how : "it ended by itself", RESTART_MS);
}

static void start(uint64_t now)
{
    static const struct child_ops ops = {.role = ROLE_CENSUS,
                                         .what = "census",
                                         .patience = PATIENCE_MS,
                                         .message = census_message,
                                         .writable = census_writable,
                                         .gone = census_gone};
    static const struct spawn limits = {
        .descriptors = 64, .file_size = 0, .memory = MEMORY, .cpu_seconds = SPAWN_UNLIMITED};

    start_at = NEVER;
    census = child_start(&ops, NULL, HELPER_CENSUS, &limits, "jailmap-census");
    if (census == NULL) {
        start_at = now + RESTART_MS;
        return;
    }
    census->state = STATE_SERVE;
    edition++;
    listeners_told = tables_named = 0;
    daemon_told = policy_told = false;
    tell_at = now;
}

void census_start(void)
{
    started = time(NULL);
    start(monitor_now());
}

uint32_t census_edition(void)
{
    return edition;
}

void census_changed(void)
{
    if (tell_at == NEVER)
        tell_at = told_at + PAUSE_MS;
}

void census_policy(const char *failure)
{
    policy_since = time(NULL);
    snprintf(policy_failure, sizeof policy_failure, "%s", failure);
    policy_told = false;
    listeners_told = tables_named = 0; /* they, and their limits, may be others */
    limits_changed();
    census_changed();
}

bool census_page(uint32_t slots, int *writer, int *reader)
{
    const char *why;

    /* What a page counts is of the tables that were named before it. */
    *writer = census != NULL && tell_names() ? memfd_make("jailmap-counters") : -1;
    *reader = -1;
    if (*writer < 0)
        return false;
    if (ftruncate(*writer, (off_t)counters_size(slots)) == 0)
        *reader = memfd_seal(*writer, SEALS, &why);
    if (*reader < 0)
        close(*writer);
    return *reader >= 0;
}

bool census_asked(int fd, uid_t uid)
{
    struct msg_asked body = {uid};

    return census != NULL && tell_all() && census_tell(MSG_ASKED, &body, NULL, &fd);
}

uint64_t census_tick(uint64_t now)
{
    if (start_at <= now)
        start(now);
    if (tell_at <= now)
        tell_all();
    return start_at < tell_at ? start_at : tell_at;
}
