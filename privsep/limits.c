/*
 * Limits on what a user looks up: what the census says of them becomes lines of the log, and a pace
 * for the workers of that user. Runs in the monitor, with privilege. It may write to the log and
 * send a pace; it must never do more to anybody because a census says so, which may lie: a uid can
 * be slowed down or told to try again, as far as the policy says, and only while it has workers.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <syslog.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/clients.h"
#include "privsep/limits.h"
#include "privsep/log.h"
#include "privsep/monitor.h"

#define EPISODES_MOST 1024 /* far more users than have workers */

static const char *const names[LIMIT_KINDS] = {"lookups-per-second", "misses-per-minute"};
static const char *const spans[LIMIT_KINDS] = {"second", "minute"};

/* A uid of which limits are reached, or were a short while ago. */
static struct episode {
    uid_t uid;
    bool open[LIMIT_KINDS];
    bool on[LIMIT_KINDS]; /* and are enforced now */
    struct episode *next;
} * episodes;

static unsigned nepisodes;
static struct log_limit lines;

void limits_told(uid_t uid, uint32_t limits[LIMIT_KINDS])
{
    const struct policy_limit *l = policy_limit(monitor_policy, uid);

    limits[LIMIT_LOOKUPS] = l->lookups_per_second;
    limits[LIMIT_MISSES] = l->misses_per_minute;
}

static struct episode *find(uid_t uid)
{
    struct episode *e = episodes;

    while (e != NULL && e->uid != uid)
        e = e->next;
    return e;
}

static void forget(struct episode *e)
{
    struct episode **at = &episodes;

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    nepisodes--;
    free(e);
}

/* What is left out is counted, and said later: see limits_tick(). */
static bool may_log(void)
{
    limits_tick(monitor_now());
    return log_allow(&lines);
}

uint64_t limits_tick(uint64_t now)
{
    return log_left_out(&lines, now, LOG_WARNING, "lines on limits of users");
}

static void log_begin(const struct msg_limit *m, uint32_t limit)
{
    static const char *const actions[] = {"nothing is done about it, action = audit",
                                          "its lookups are slowed down, action = slow",
                                          "its lookups get \"try again\", action = retry"};

    if (may_log())
        log_line(LOG_WARNING,
                 "limit reached by uid %" PRIu32 ": %s = %" PRIu32 ", and in the last %s it had "
                 "%" PRIu64 " lookups with %" PRIu64 " misses; %s",
                 m->uid, names[m->limit], limit, spans[m->limit], m->lookups, m->misses,
                 actions[policy_limit(monitor_policy, m->uid)->action]);
}

static void log_end(const struct msg_limit *m)
{
    if (may_log())
        log_line(LOG_WARNING,
                 "limit kept again by uid %" PRIu32 ": %s; it was reached %" PRIu64 " s ago, and "
                 "%" PRIu64 " lookups with %" PRIu64 " misses were counted, of which %" PRIu64
                 " were delayed or refused",
                 m->uid, names[m->limit], m->seconds, m->lookups, m->misses, m->limited);
}

/* Counts that begin while the worker that they are of ends are of nobody. */
static void begin(const struct msg_limit *m)
{
    struct episode *e = find(m->uid);
    uint32_t limits[LIMIT_KINDS];

    limits_told(m->uid, limits);
    if (limits[m->limit] == 0 || !clients_has_worker(m->uid))
        return;
    if (e == NULL) {
        e = nepisodes < EPISODES_MOST ? calloc(1, sizeof *e) : NULL;
        if (e == NULL)
            return;
        e->uid = m->uid;
        e->next = episodes;
        episodes = e;
        nepisodes++;
    }
    if (!e->open[m->limit])
        log_begin(m, limits[m->limit]);
    e->open[m->limit] = e->on[m->limit] = true;
}

bool limits_heard(const struct msg_limit *m)
{
    struct episode *e = find(m->uid);

    if (m->limit >= LIMIT_KINDS || m->news < LIMIT_BEGINS || m->news > LIMIT_ENDS)
        return false;
    if (m->news == LIMIT_BEGINS || m->news == LIMIT_RESUMES) {
        begin(m);
    } else if (e != NULL && e->open[m->limit]) {
        e->on[m->limit] = false;
        if (m->news == LIMIT_ENDS) {
            e->open[m->limit] = false;
            log_end(m);
        }
        if (!e->open[LIMIT_LOOKUPS] && !e->open[LIMIT_MISSES])
            forget(e);
    }
    clients_pace(m->uid);
    return true;
}

/* The limit is for all of them; each has its part. */
struct msg_pace limits_pace(uid_t uid, unsigned workers)
{
    const struct policy_limit *l = policy_limit(monitor_policy, uid);
    const struct episode *e = find(uid);
    uint32_t most = 0;

    if (e == NULL || l->action == ACTION_AUDIT)
        return (struct msg_pace){PACE_FREE, 0};
    if (e->on[LIMIT_LOOKUPS])
        most = 60 * l->lookups_per_second;
    if (e->on[LIMIT_MISSES] && l->misses_per_minute > 0 &&
        (most == 0 || l->misses_per_minute < most))
        most = l->misses_per_minute;
    if (most == 0)
        return (struct msg_pace){PACE_FREE, 0};
    if (l->action == ACTION_RETRY)
        return (struct msg_pace){PACE_RETRY, 0};
    return (struct msg_pace){PACE_SLOW, workers > 0 && most > workers ? most / workers : 1};
}

void limits_changed(void)
{
    clients_limits_changed();
    for (const struct episode *e = episodes; e != NULL; e = e->next)
        clients_pace(e->uid);
}

void limits_unwatched(void)
{
    while (episodes != NULL) {
        struct episode *e = episodes;
        uid_t uid = e->uid;

        for (int i = 0; i < LIMIT_KINDS; i++)
            if (e->open[i] && may_log())
                log_line(LOG_WARNING,
                         "limit not watched of uid %u: %s; the census died, and the next one "
                         "counts anew",
                         (unsigned)uid, names[i]);
        forget(e);
        clients_pace(uid);
    }
}
