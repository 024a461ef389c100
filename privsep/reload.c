/*
 * Reload: from one policy to another. Runs in the monitor, with privilege. It may have the
 * configuration read, and then change over to it in one step, or, if anything is wrong with it, not
 * at all; it must never leave a part of the old policy in force. It is done when every worker has
 * confirmed, so what is asked for after that is decided by the new policy alone.
 */
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/census.h"
#include "privsep/clients.h"
#include "privsep/control.h"
#include "privsep/listen.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/notify.h"
#include "privsep/reading.h"
#include "privsep/reload.h"
#include "privsep/tables.h"
#include "privsep/watch.h"

#define TRIES    3  /* to read files that change meanwhile */
#define PAUSE_MS 50 /* before the next */

static enum { IDLE, WAITING, READING, SETTLING } phase;
static bool again; /* it was asked for while one runs */
static unsigned tries;
static uint64_t start_at = NEVER;
static struct reload_waiter *waiting, *waiting_again;
static struct policy_changes changes;

static void begin(uint64_t at)
{
    phase = WAITING;
    start_at = at;
}

/* Says how it went, to everybody who wants to know. */
static void finish(bool reloaded, const char *result)
{
    struct reload_waiter *list = waiting;

    log_line(reloaded ? LOG_INFO : LOG_ERR, "%s", result);
    notify_ready();
    waiting = waiting_again;
    waiting_again = NULL;
    phase = IDLE;
    if (again)
        begin(monitor_now());
    again = false;
    tries = 0;
    while (list != NULL) {
        struct reload_waiter *w = list;

        list = w->next;
        w->done(w, reloaded, result);
    }
}

static void refuse(const char *why)
{
    char result[2304];

    snprintf(result, sizeof result, "not reloaded: %s", why);
    census_policy(why);
    finish(false, result);
}

static void finish_settled(void)
{
    const struct policy_changes *c = &changes;
    char result[256];

    snprintf(result, sizeof result,
             "reloaded: listeners +%u -%u ~%u, tables +%u -%u ~%u, approvals +%u -%u",
             c->listens_added, c->listens_removed, c->listens_changed, c->tables_added,
             c->tables_removed, c->tables_changed, c->approvals_added, c->approvals_removed);
    finish(true, result);
}

/* Can it be, as far as that is known before anything is changed? */
static bool is_possible(const struct policy *next, char *why, size_t len)
{
    unsigned long long needed = monitor_descriptors_needed(next);
    const char *option = policy_needs_restart(monitor_policy, next);

    if (option != NULL)
        snprintf(why, len, "%s: to change %s needs a restart", monitor_config, option);
    else if (needed > monitor_descriptors())
        snprintf(why, len,
                 "%s: this configuration needs %llu open files, and jailmapd was started with a "
                 "limit of %llu",
                 monitor_config, needed, (unsigned long long)monitor_descriptors());
    else
        return true;
    return false;
}

/* All that can fail. False: nothing has changed. */
static bool prepare(const struct policy *next, char *why, size_t len)
{
    if (watch_prepare(next->ntables) && agents_prepare(next->ntables) &&
        tables_prepare(next->ntables) && clients_prepare(next->ntables))
        return listen_prepare(next, why, len);
    snprintf(why, len, "%s: out of memory", monitor_config);
    return false;
}

/* The one step. */
static void change_over(struct policy *next)
{
    const struct policy *old = monitor_policy;

    monitor_policy = next;
    agents_reload();
    tables_reload(old);
    clients_reload(old);
    agents_let_go();
    census_policy(""); /* before workers of new listeners count in tables that it cannot name */
    listen_reload(old);
    control_policy_changed();
    policy_free((struct policy *)old);
    phase = SETTLING;
}

static void take_policy(struct policy *policy, const char *why, bool torn)
{
    char reason[1024] = "out of memory";
    bool possible;

    if (torn && ++tries < TRIES) {
        begin(monitor_now() + PAUSE_MS);
        return;
    }
    if (policy == NULL) {
        refuse(why);
        return;
    }
    possible = is_possible(policy, reason, sizeof reason) && policy_adopt(monitor_policy, policy);
    if (possible)
        changes = policy_compare(monitor_policy, policy);
    if (possible && !policy_is_changed(&changes)) {
        policy_free(policy);
        census_policy("");
        finish(true, "reloaded: nothing has changed");
    } else if (possible && prepare(policy, reason, sizeof reason)) {
        change_over(policy);
    } else {
        policy_free(policy);
        refuse(reason);
    }
}

void reload_ask(const char *who, struct reload_waiter *waiter)
{
    struct reload_waiter **list = phase == IDLE ? &waiting : &waiting_again;

    log_reopen();
    log_line(LOG_INFO, "%s: looking at every table", who);
    tables_check_all();
    if (waiter != NULL) {
        waiter->next = *list;
        *list = waiter;
    }
    if (phase != IDLE) {
        again = true;
        return;
    }
    begin(monitor_now());
}

void reload_forget(struct reload_waiter *waiter)
{
    struct reload_waiter **lists[] = {&waiting, &waiting_again};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (struct reload_waiter **at = lists[i]; *at != NULL; at = &(*at)->next)
            if (*at == waiter) {
                *at = waiter->next;
                return;
            }
}

uint64_t reload_tick(uint64_t now)
{
    if (phase == WAITING && start_at <= now) {
        phase = READING;
        start_at = NEVER;
        if (tries == 0)
            notify_reloading();
        reading_start(take_policy);
    }
    if (phase == SETTLING && clients_settled())
        finish_settled();
    return start_at;
}
