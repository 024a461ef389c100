/*
 * Workers, from their start to their end. Runs in the monitor, with privilege. It may tell them
 * what is new, wait for what a reload asks of them, and end them; whatever a worker says is checked
 * against what it was given, and none is waited for longer than it is told here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/launch.h"
#include "privsep/limits.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/workers.h"
#include "server/counters.h"

#define IDLE_MS        100000 /* a worker without clients ends after this */
#define BACKOFF_MIN_MS 100    /* after a worker that died young, doubled each time */
#define BACKOFF_MAX_MS 1000
#define PATIENCE_MS    10000 /* a worker that reads nothing for so long holds up its clients */
#define SETTLE_MS      10000 /* in which it confirms a new policy, and hands back its clients */
#define MORE_TABLES    32    /* that a worker may be given besides those that there were */
#define WORKER_MEMORY  (UINT64_C(64) << 20) /* and twice max-pending, for buffers that grow */

/* What is told of to the census by a number: no two workers have the same at a time. */
struct place {
    struct worker *worker; /* NULL: nobody's now */
    uint32_t paged, told;  /* see census_edition(): it has its page; it knows the rest */
};

struct worker *workers;
static struct place *places;
static size_t nplaces;
static uint32_t reloads; /* serial of the latest */

static bool take_place(struct worker *w)
{
    struct place *grown;

    for (w->place = 0; w->place < nplaces && places[w->place].worker != NULL; w->place++)
        ;
    if (w->place == nplaces) {
        grown = realloc(places, (nplaces + 1) * sizeof *grown);
        if (grown == NULL)
            return false;
        places = grown;
        nplaces++;
    }
    places[w->place] = (struct place){.worker = w};
    return true;
}

void worker_news(size_t place)
{
    places[place].told = 0;
    census_changed();
}

static void leave_place(const struct worker *w)
{
    if (w->place < nplaces && places[w->place].worker == w) {
        places[w->place].worker = NULL;
        worker_news(w->place);
    }
}

/* A page for its counters: the worker's end first, since it must not get one after the other while
 * the census takes none. */
static bool tell_page(struct place *p, bool fresh)
{
    struct worker *w = p->worker;
    struct msg_counters counters = {w->slots, 0};
    struct msg_page page = {(uint32_t)w->place, (uint32_t)w->compartment->peer.uid,
                            (uint32_t)w->compartment->peer.listener, w->slots, fresh};
    int writer, reader;
    bool told;

    if (!census_page(w->slots, &writer, &reader))
        return false;
    told = child_send(w->child, MSG_COUNTERS, &counters, NULL, 0, &writer) &&
           census_tell(MSG_PAGE, &page, NULL, &reader);
    close(writer);
    close(reader);
    if (told)
        p->paged = census_edition();
    return told;
}

static bool tell_worker(const struct place *p)
{
    const struct worker *w = p->worker;
    struct msg_worker_state body = {
        (uint32_t)w->place, w->nclients, w->served, (uint32_t)w->child->pid, {0}};

    limits_told(w->compartment->peer.uid, body.limits);
    return census_tell(MSG_WORKER_STATE, &body, NULL, NULL);
}

bool clients_tell(void)
{
    bool all = true;

    for (size_t i = 0; i < nplaces; i++) {
        struct place *p = &places[i];
        struct msg_ended ended = {(uint32_t)i};

        if (p->told == census_edition() && (p->worker == NULL || p->paged == p->told))
            continue;
        /* Each page that a worker has not even taken is memory, as with images. */
        if (p->worker != NULL && p->paged != census_edition() &&
            (child_backlog(p->worker->child) || !tell_page(p, false))) {
            all = false;
            continue;
        }
        if (p->worker != NULL ? !tell_worker(p) : !census_tell(MSG_ENDED, &ended, NULL, NULL))
            return false;
        if (p->worker != NULL && p->worker->child->pid == 0)
            all = false; /* that it has one will be news */
        else
            p->told = census_edition();
    }
    if (!all)
        census_changed();
    return true;
}

static bool tell_pace(struct worker *w)
{
    w->pace_owed = !child_send(w->child, MSG_PACE, &w->pace, NULL, 0, NULL);
    return !w->pace_owed;
}

bool clients_has_worker(uid_t uid)
{
    const struct worker *w = workers;

    while (w != NULL && w->compartment->peer.uid != uid)
        w = w->next;
    return w != NULL;
}

void clients_pace(uid_t uid)
{
    struct msg_pace pace;
    unsigned count = 0;

    for (const struct worker *w = workers; w != NULL; w = w->next)
        count += w->compartment->peer.uid == uid;
    if (count == 0)
        return;
    pace = limits_pace(uid, count);
    for (struct worker *w = workers; w != NULL; w = w->next)
        if (w->compartment->peer.uid == uid && memcmp(&w->pace, &pace, sizeof pace) != 0) {
            w->pace = pace;
            tell_pace(w);
        }
}

void clients_limits_changed(void)
{
    for (size_t i = 0; i < nplaces; i++)
        if (places[i].worker != NULL)
            worker_news(i);
}

static bool tell_limits(struct worker *w)
{
    const struct policy_listen *l = listen_of(w->compartment);
    struct msg_serve serve = {l->max_pending,
                              l->max_request,
                              l->request_timeout,
                              l->answer_timeout,
                              l->greeting,
                              w->slots,
                              0};

    w->serve_owed = !child_send(w->child, MSG_SERVE, &serve, NULL, 0, NULL);
    return !w->serve_owed;
}

/* Of a reload: all that is taken from it, and then the question whether it has done that. */
static bool tell_reload(struct worker *w)
{
    struct msg_settle settle = {reloads};

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (w->grants[i].owed != OWED_NOTHING && !grant_tell_owed(w, i))
            return false;
    if (w->serve_owed && !tell_limits(w))
        return false;
    if (!child_send(w->child, MSG_SETTLE, &settle, NULL, 0, NULL))
        return false;
    w->settling = SETTLING;
    return true;
}

static void worker_writable(struct child *child)
{
    struct worker *w = child->owner;

    if ((w->settling == SETTLE_OWED && !tell_reload(w)) || (w->pace_owed && !tell_pace(w)))
        return;
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (!grant_tell(w, i))
            return;
}

static void free_worker(struct worker *w)
{
    struct compartment *c = w->compartment;
    struct worker **at = &workers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    leave_place(w);
    c->workers--;
    c->clients -= w->nclients;
    if (c->worn == w)
        c->worn = NULL;
    grants_free(w);
    free(w->clients);
    free(w);
    clients_pace(c->peer.uid);
}

static void worker_message(struct child *child, const struct bridge_msg *msg);

static void worker_gone(struct child *child, const char *how)
{
    struct worker *w = child->owner;
    struct compartment *c = w->compartment;
    uint64_t now = monitor_now();

    /* What it sent instead of a connection may still be open: see bridge_discard(). Once is enough,
     * and the place of a second worn worker pays for it. */
    if (child->state == STATE_DRAIN && child->verdict != NULL && !w->dismissed)
        c->suspect = true;
    if (w->dismissed) {
        free_worker(w);
        return;
    }
    if (now - child->started >= STEADY_MS)
        c->backoff = 0;
    c->start_at = now + c->backoff;
    if (c->backoff == 0)
        c->backoff = BACKOFF_MIN_MS;
    else if (c->backoff * 2 <= BACKOFF_MAX_MS)
        c->backoff *= 2;
    if (compartment_may_log(c, DEATHS))
        log_line(LOG_WARNING, "worker pid %d for uid %u on %s died: %s; it had %u clients",
                 (int)child->pid, (unsigned)c->peer.uid, listen_of(c)->path,
                 how != NULL ? how : "it ended by itself", w->nclients);
    free_worker(w);
}

static const struct child_ops worker_ops = {.role = ROLE_WORKER,
                                            .what = "worker",
                                            .patience = PATIENCE_MS,
                                            .message = worker_message,
                                            .writable = worker_writable,
                                            .gone = worker_gone};

/* Bytes of all that one worker may keep of what agents have said; of tables that a reload adds it
 * keeps what there is room for. */
static uint64_t caches(const struct policy *policy)
{
    uint64_t size = 0;

    for (size_t i = 0; i < policy->ntables; i++)
        if (policy->tables[i].cache_ttl > 0 || policy->tables[i].negative_cache_ttl > 0)
            size += (uint64_t)policy->tables[i].cache_size << 20;
    return size;
}

struct worker *worker_start(struct compartment *c)
{
    const struct policy_listen *l = listen_of(c);
    struct spawn limits = {.descriptors =
                               l->clients_per_worker + monitor_policy->ntables + MORE_TABLES + 64,
                           .file_size = 0,
                           .memory = WORKER_MEMORY + 2 * l->max_pending + caches(monitor_policy),
                           .cpu_seconds = SPAWN_UNLIMITED};
    struct worker *w = calloc(1, sizeof *w);
    char title[192];

    snprintf(title, sizeof title, "jailmap-worker: uid %u on %s", (unsigned)c->peer.uid, l->path);
    if (w != NULL) {
        w->grants = calloc(monitor_policy->ntables + 1, sizeof *w->grants);
        w->clients = calloc(l->clients_per_worker, sizeof *w->clients);
    }
    if (w != NULL && w->grants != NULL && w->clients != NULL && take_place(w))
        w->child = child_start(&worker_ops, w, HELPER_WORKER, &limits, title);
    if (w == NULL || w->child == NULL) {
        if (w != NULL) {
            leave_place(w);
            free(w->grants);
            free(w->clients);
        }
        free(w);
        c->start_at = monitor_now() + BACKOFF_MAX_MS;
        return NULL;
    }
    w->compartment = c;
    w->slots = (uint32_t)(monitor_policy->ntables < COUNTERS_SLOTS ? monitor_policy->ntables
                                                                   : COUNTERS_SLOTS);
    w->idle_since = monitor_now();
    w->again_at = w->link_at = w->settle_by = w->end_by = NEVER;
    w->most = l->clients_per_worker;
    w->room = monitor_policy->ntables + MORE_TABLES;
    w->next = workers;
    workers = w;
    c->workers++;
    tell_limits(w);
    w->child->state = STATE_SERVE;
    clients_pace(c->peer.uid);
    /* Before its first client, so that nothing is counted late. */
    tell_page(&places[w->place], true);
    return w;
}

void worker_release(struct worker *w)
{
    child_release(w->child);
    free_worker(w);
}

/* SETTLED: serial. */
static void handle_settled(struct worker *w, const struct bridge_msg *msg)
{
    if (w->settling != SETTLING || msg->body.SETTLED.serial != reloads) {
        child_end(w->child, "it confirms what it was not asked");
        return;
    }
    w->settling = SETTLED;
    w->settle_by = NEVER;
}

static void worker_message(struct child *child, const struct bridge_msg *msg)
{
    struct worker *w = child->owner;

    if (msg->type == MSG_OPEN)
        grant_asked(w, msg);
    else if (msg->type == MSG_CLOSED)
        client_closed(w, msg);
    else if (msg->type == MSG_HANDBACK)
        client_handed_back(w, msg);
    else if (msg->type == MSG_SETTLED)
        handle_settled(w, msg);
    else
        client_event(w, msg);
}

void worker_dismiss(struct worker *w, const char *why)
{
    w->dismissed = true;
    w->settling = SETTLING; /* until it has ended */
    child_end(w->child, why);
}

/* One that a reload waits for, or has found tainted, has its time. False: that is over. */
static bool is_in_time(struct worker *w, uint64_t now)
{
    if (w->settle_by <= now) {
        child_end(w->child, "it did not confirm the new policy in time");
    } else if (w->end_by <= now) {
        log_line(LOG_WARNING,
                 "worker pid %d for uid %u on %s ended: %s, and it has not handed back %u clients "
                 "in time",
                 (int)w->child->pid, (unsigned)w->compartment->peer.uid,
                 listen_of(w->compartment)->path,
                 w->compartment->stale ? "more groups of its clients count now"
                                       : "it had a table that is not approved any more",
                 w->nclients);
        worker_dismiss(w, "it did not hand back its clients in time");
    } else {
        return true;
    }
    return false;
}

/* Asks w for its clients, if it is its turn: of worn ones one at a time. */
static void replace(struct worker *w, bool is_worn, uint64_t now)
{
    struct compartment *c = w->compartment;

    if (is_worn && c->worn == NULL && compartment_hands_back(c) && !w->tainted)
        c->worn = w;
    if (c->worn == w || w->tainted)
        clients_ask_back(w, now);
}

/* Lets idle workers go, and worn ones that have no clients; asks others for theirs. */
static uint64_t tick_worker(struct worker *w, uint64_t now)
{
    bool is_worn = w->served >= listen_of(w->compartment)->max_use || w->tainted || w->outdated;
    uint64_t next;

    if (w->child->io.fd < 0 || !is_in_time(w, now)) /* its end is being reported */
        return NEVER;
    if (w->again_at <= now || w->link_at <= now) {
        w->again_at = w->again_at <= now ? NEVER : w->again_at;
        w->link_at = NEVER;
        worker_writable(w->child);
    }
    if (w->nclients == 0 && (is_worn || now - w->idle_since >= IDLE_MS)) {
        worker_release(w);
        return NEVER;
    }
    if (w->again_at == NEVER)
        replace(w, is_worn, now);
    next = w->settle_by < w->end_by ? w->settle_by : w->end_by;
    if (w->nclients == 0 && w->idle_since + IDLE_MS < next)
        next = w->idle_since + IDLE_MS;
    if (w->link_at < next)
        next = w->link_at;
    return w->again_at < next ? w->again_at : next;
}

static void note_limits(struct worker *w, const struct policy_listen *before)
{
    const struct policy_listen *l = listen_of(w->compartment);

    w->serve_owed |= l->max_pending != before->max_pending ||
                     l->max_request != before->max_request ||
                     l->request_timeout != before->request_timeout ||
                     l->answer_timeout != before->answer_timeout || l->greeting != before->greeting;
    w->outdated |= l->max_pending != before->max_pending || l->clients_per_worker != w->most ||
                   monitor_policy->ntables > w->room;
}

static void reload_worker(struct worker *w, const struct policy *old, uint64_t now)
{
    const struct compartment *c = w->compartment;

    grants_take_away(w);
    w->tainted |= c->stale;
    if (listen_of(c)->gone || (w->tainted && c->suspect)) {
        worker_dismiss(w, "its clients may not use it any more");
        return;
    }
    note_limits(w, &old->listens[c->peer.listener]);
    if (w->tainted && w->end_by == NEVER)
        w->end_by = now + SETTLE_MS;
    w->settling = SETTLE_OWED;
    w->settle_by = now + SETTLE_MS;
    tell_reload(w);
}

uint64_t clients_tick(uint64_t now)
{
    uint64_t next = NEVER, at;

    for (struct worker *w = workers, *after; w != NULL; w = after) {
        after = w->next;
        at = tick_worker(w, now);
        next = at < next ? at : next;
    }
    at = compartments_tick(now);
    return at < next ? at : next;
}

void clients_reload(const struct policy *old)
{
    uint64_t now = monitor_now();

    reloads++;
    compartments_reload(old);
    for (struct worker *w = workers; w != NULL; w = w->next)
        if (!w->dismissed)
            reload_worker(w, old, now);
}

bool clients_settled(void)
{
    for (const struct worker *w = workers; w != NULL; w = w->next)
        if (w->settling != SETTLED || w->compartment->stale)
            return false;
    return true;
}
