/*
 * Compartments, and the workers that each may have. Runs in the monitor, with privilege. Clients of
 * different uids, of different listeners, or of whom different allow sections speak, never share a
 * worker. Each uid that the policy names has places of its own, which no other can take; those that
 * come in by a group or as anyone share some, and all others share a few. The same holds for lines
 * of the log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/workers.h"

static const char *const limited_names[LIMITED] = {"denials", "clients closed", "clients refused",
                                                   "complaints of workers", "workers that died"};

/* Those who share places, because there may be 65,536 of them on one day: their workers are few,
 * and started at a limited pace, and so are the lines of the log about them. */
struct crowd {
    const char *who;
    unsigned most;       /* workers, in all */
    unsigned burst;      /* of their workers that may be started at once */
    unsigned pace;       /* ms: and one more in this time */
    uint64_t paid_until; /* by those that were started */
    struct log_limit limits[LIMITED];
};

static struct crowd strangers = {"users whom no allow section names", 8, 64, 100, 0, {{0}}};
static struct crowd guests = {"users allowed by a group or as anyone", 64, 256, 40, 0, {{0}}};

static struct compartment *compartments;

/* Whom lines of the log that were left out are told of, and the limits of these lines. */
static const char *told_of(const struct compartment *c)
{
    static char text[256];

    if (c->crowd != NULL)
        return c->crowd->who;
    snprintf(text, sizeof text, "uid %u on %s", (unsigned)c->peer.uid, listen_of(c)->path);
    return text;
}

static struct log_limit *limits_of(struct compartment *c)
{
    return c->crowd != NULL ? c->crowd->limits : c->limits;
}

/* Says what was held back in intervals that are over at now. Returns when to come again. */
static uint64_t tell_held(struct log_limit *limits, const char *who, uint64_t now)
{
    uint64_t next = NEVER;

    for (int i = 0; i < LIMITED; i++) {
        uint64_t at =
            log_left_out(&limits[i], now, LOG_WARNING, "%s for %s", limited_names[i], who);

        next = at < next ? at : next;
    }
    return next;
}

bool compartment_may_log(struct compartment *c, enum limited kind)
{
    tell_held(limits_of(c), told_of(c), monitor_now());
    return log_allow(&limits_of(c)[kind]);
}

/* Connections are counted by compartments; those of one uid are few. */
bool uid_may_connect(uid_t uid, const char **why)
{
    static char text[128];
    unsigned most = policy_limit(monitor_policy, uid)->clients, count = 0;

    for (const struct compartment *c = compartments; most > 0 && c != NULL; c = c->next)
        if (c->peer.uid == uid)
            count += c->clients;
    if (most == 0 || count < most)
        return true;
    snprintf(text, sizeof text,
             "it has %u connections on all sockets, and clients = %u in its limit section", count,
             most);
    *why = text;
    return false;
}

static bool is_of(const struct compartment *c, const struct policy_peer *peer)
{
    return !c->stale && c->peer.listener == peer->listener && c->peer.uid == peer->uid &&
           c->peer.ngroups == peer->ngroups &&
           memcmp(c->groups, peer->groups, peer->ngroups * sizeof *c->groups) == 0;
}

static struct crowd *crowd_of(const struct policy_peer *peer)
{
    enum policy_standing standing = policy_standing(monitor_policy, peer);

    if (standing == STANDING_NAMED)
        return NULL;
    return standing == STANDING_GUEST ? &guests : &strangers;
}

struct compartment *compartment_find(const struct policy_peer *peer)
{
    size_t size = peer->ngroups * sizeof *peer->groups;
    struct compartment *c;

    for (c = compartments; c != NULL; c = c->next)
        if (is_of(c, peer))
            return c;
    c = calloc(1, sizeof *c + size);
    if (c == NULL)
        return NULL;
    c->peer = *peer;
    memcpy(c->groups, peer->groups, size);
    c->peer.groups = c->groups;
    c->crowd = crowd_of(&c->peer);
    c->next = compartments;
    compartments = c;
    return c;
}

/*
 * A crowd has its own pace and limits. Of a named user, only what differs by groups is forgotten,
 * and not while it still slows down how often workers die and how much is said about that. Whoever
 * is suspect stays so.
 */
void compartment_forget(struct compartment *c, uint64_t now)
{
    struct compartment **at = &compartments;

    bool over = c->stale || listen_of(c)->gone;

    if (c->workers > 0 || (c->suspect && !over))
        return;
    if (c->crowd == NULL && !over &&
        (c->peer.ngroups == 0 || (c->backoff != 0 && now < c->start_at + STEADY_MS) ||
         tell_held(c->limits, told_of(c), now) != NEVER))
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
}

unsigned compartment_workers_most(const struct compartment *c)
{
    return c->crowd == &strangers ? 1 : listen_of(c)->workers;
}

/* And for its uid on its listener: for each group that makes a difference there is one more. */
static unsigned places_most(const struct policy *policy, size_t listener)
{
    return policy->listens[listener].workers + (unsigned)policy_count(policy, listener, WHO_GROUP);
}

uint64_t clients_workers_most(const struct policy *policy)
{
    uint64_t most = UINT64_C(2) * strangers.most;
    bool open = false;

    for (size_t i = 0; i < policy->nlistens; i++) {
        uint64_t group_sections = policy_count(policy, i, WHO_GROUP);

        if (policy->listens[i].gone)
            continue;
        /* Each compartment of a uid may have a worn one besides, and all may be replaced at once.
         */
        most += (UINT64_C(2) * places_most(policy, i) + 1 + group_sections) *
                policy_count(policy, i, WHO_USER);
        open |= group_sections > 0 || policy_count(policy, i, WHO_ANYONE) > 0;
    }
    return open ? most + 2 * guests.most : most;
}

/* May that worker be let go of for another one? */
static bool is_idle(const struct worker *w)
{
    return w->nclients == 0 && w->compartment->worn != w;
}

/*
 * Is there a place for one more worker of that crowd? One that is idle makes room, if somebody is
 * at the door; but starting them is work that takes time from all, so their pace is limited.
 */
static bool crowd_place(struct crowd *crowd, uint64_t now, bool urgent, const char **why)
{
    static char text[96];
    struct worker *idle = NULL;
    unsigned count = 0;

    snprintf(text, sizeof text, "too many %s", crowd->who);
    *why = text;
    for (struct worker *w = workers; w != NULL; w = w->next) {
        if (w->compartment->crowd != crowd || w->tainted)
            continue;
        count++;
        if (urgent && is_idle(w) && (idle == NULL || w->idle_since < idle->idle_since))
            idle = w;
    }
    if (crowd->paid_until < now)
        crowd->paid_until = now;
    if ((count >= crowd->most && idle == NULL) ||
        crowd->paid_until - now > (uint64_t)crowd->burst * crowd->pace)
        return false;
    crowd->paid_until += crowd->pace;
    if (count >= crowd->most && idle != NULL)
        worker_release(idle);
    return true;
}

/*
 * Is there a place for one more worker of that uid on that listener? What its processes with other
 * groups do not use at the moment makes room.
 */
static bool uid_place(const struct compartment *c, bool urgent)
{
    struct worker *idle = NULL;
    unsigned count = 0;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        const struct compartment *other = w->compartment;

        if (other->peer.uid != c->peer.uid || other->peer.listener != c->peer.listener ||
            other->worn == w || w->tainted || w->child->io.fd < 0)
            continue;
        count++;
        if (urgent && is_idle(w) && (idle == NULL || w->idle_since < idle->idle_since))
            idle = w;
    }
    if (count < places_most(monitor_policy, c->peer.listener))
        return true;
    if (idle != NULL)
        worker_release(idle);
    return idle != NULL;
}

struct worker *compartment_worker(struct compartment *c, uint64_t now, bool urgent,
                                  const char **why)
{
    struct worker *best = NULL;
    unsigned in_use = 0, leaving = 0;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        if (w->compartment != c)
            continue;
        leaving += w->tainted;
        if (w->child->io.fd < 0 || w == c->worn || w->tainted)
            continue;
        in_use++;
        if (w->nclients < w->most && (best == NULL || w->nclients < best->nclients))
            best = w;
    }
    if (best != NULL)
        return best;
    *why = "all its workers are full";
    if (in_use >= compartment_workers_most(c))
        return NULL;
    *why = "its workers die; the next one waits";
    if (now < c->start_at || c->workers - leaving > compartment_workers_most(c))
        return NULL;
    *why = "its processes with other groups have all its workers";
    if (!uid_place(c, urgent))
        return NULL;
    if (c->crowd != NULL && !crowd_place(c->crowd, now, urgent, why))
        return NULL;
    *why = "no worker can be started";
    return worker_start(c);
}

unsigned clients_connected(void)
{
    unsigned count = 0;

    for (const struct compartment *c = compartments; c != NULL; c = c->next)
        count += c->clients;
    return count;
}

void clients_stop(void)
{
    tell_held(strangers.limits, strangers.who, NEVER);
    tell_held(guests.limits, guests.who, NEVER);
    for (struct compartment *c = compartments; c != NULL; c = c->next)
        tell_held(c->limits, told_of(c), NEVER);
}

bool compartment_hands_back(const struct compartment *c)
{
    return c->crowd != &strangers && !c->suspect;
}

void compartments_reload(const struct policy *old)
{
    for (size_t i = 0; i < monitor_policy->nlistens;
         i++) /* once each: there may be many sections */
        if (policy_asks_more_groups(old, monitor_policy, i))
            for (struct compartment *c = compartments; c != NULL; c = c->next)
                c->stale |= c->peer.listener == i;
    for (struct compartment *c = compartments; c != NULL; c = c->next) {
        struct crowd *crowd = crowd_of(&c->peer);

        if (listen_of(c)->gone || c->stale || crowd != c->crowd)
            tell_held(c->limits, told_of(c), NEVER);
        c->crowd = crowd;
    }
}

uint64_t compartments_tick(uint64_t now)
{
    uint64_t next = tell_held(strangers.limits, strangers.who, now),
             at = tell_held(guests.limits, guests.who, now);

    next = at < next ? at : next;
    for (struct compartment *c = compartments, *after; c != NULL; c = after) {
        after = c->next;
        at = tell_held(c->limits, told_of(c), now);
        next = at < next ? at : next;
        compartment_forget(c, now);
    }
    return next;
}
