/*
 * Tables that workers ask for. Runs in the monitor, with privilege. A name that a worker says is
 * looked up in the policy under the identity that the kernel told at accept(2); an image or a link
 * goes to a worker whose clients are all allowed that table, and is taken back when they are not
 * any more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/tables.h"
#include "privsep/workers.h"
#include "proto/proxymap.h"

/* Whether a link was lost by the worker or by an agent cannot be told: neither is ended for it, but
 * after each the next comes later, up to AGAIN_MS times two to the power of this. */
#define RELINKS_SLOWER 6
#define LINK_STEADY_MS 60000 /* one that lasted as long was a good one */

static uint32_t features_of(const struct table_type_info *type)
{
    return (type->sequence ? FEATURE_SEQUENCE : 0) | (type->text ? FEATURE_TEXT : 0) |
           (type->folds_mul ? FEATURE_FOLDS_MUL : 0) | (type->unauth ? FEATURE_UNAUTH : 0);
}

static struct link_use use_of(const struct policy_table *conf)
{
    if (!(conf->type->by & TABLE_BY_AGENT))
        return (struct link_use){0};
    return (struct link_use){.timeout = conf->timeout,
                             .queue = conf->queue,
                             .cache_ttl = conf->cache_ttl,
                             .negative_ttl = conf->negative_cache_ttl,
                             .cache_size = conf->cache_size};
}

static bool send_table(const struct worker *w, size_t index, enum bridge_kind kind, int fd)
{
    const struct policy_table *conf = &monitor_policy->tables[index];
    struct msg_table body = {.ref = w->grants[index].ref,
                             .kind = kind,
                             .flags = policy_table_flags(monitor_policy, index),
                             .features = features_of(conf->type),
                             .answered_by = table_answered_by(index),
                             .limit = conf->limit,
                             .use = use_of(conf),
                             .table = (uint32_t)index,
                             .replaces = kind == KIND_LINK && w->grants[index].link > 0};

    return child_send(w->child, MSG_TABLE, &body, NULL, 0, &fd);
}

/* The image; or that there is none, and what answers instead, if anything does. */
static bool tell_image(struct worker *w, size_t index)
{
    const struct policy_table *conf = &monitor_policy->tables[index];
    uint32_t ref = w->grants[index].ref, flags = policy_table_flags(monitor_policy, index);
    enum bridge_kind by = table_answered_by(index);

    if (by & KIND_IMAGE)
        return send_table(w, index, KIND_IMAGE, table_image(index));
    if (by & (KIND_LINK | KIND_WORKER))
        return child_send(w->child, MSG_TABLE_KIND,
                          &(struct msg_table_kind){ref, flags, features_of(conf->type), by,
                                                   conf->limit, use_of(conf), (uint32_t)index},
                          NULL, 0, NULL);
    return child_send(w->child, MSG_TABLE_ERROR,
                      &(struct msg_table_error){ref, PM_RETRY, flags, (uint32_t)index}, NULL, 0,
                      NULL);
}

static void unlink_grant(struct grant *g)
{
    if (g->link > 0)
        close(g->link);
    g->link = 0;
    g->linked = 0;
}

/* The worker gets one end, and the crew of agents the other, which is kept for those of them that
 * start later. */
static bool tell_link(struct worker *w, size_t index, uint64_t agent)
{
    struct grant *g = &w->grants[index];
    int ends[2];
    bool sent = true, good = bridge_pair(ends) == 0;

    if (good) {
        /* Neither is to find in it what it cannot let go of without waiting. */
        bridge_take_descriptors(ends[0], false);
        bridge_take_descriptors(ends[1], false);
        good = agents_link(index, ends[1]);
        sent = !good || send_table(w, index, KIND_LINK, ends[0]);
        close(ends[0]);
        if (!good || !sent)
            close(ends[1]);
    }
    if (!good)
        w->again_at = monitor_now() + AGAIN_MS;
    if (!good || !sent)
        return sent;
    unlink_grant(g);
    g->link = ends[1];
    if (g->agent != agent)
        g->relinks = 0;
    g->linked = g->agent = agent;
    /* Without an image that is all. A second word would have it drop the first answers. */
    if (!(table_answered_by(index) & KIND_IMAGE))
        g->told = table_version(index);
    return true;
}

/* In a while: the agent may be about to go, and a new one tells by itself. */
static void link_lost(struct worker *w, struct grant *g)
{
    uint64_t now = monitor_now();

    unlink_grant(g);
    if (now >= g->link_at + LINK_STEADY_MS)
        g->relinks = 0;
    g->link_at = now + ((uint64_t)AGAIN_MS << g->relinks);
    if (g->relinks < RELINKS_SLOWER)
        g->relinks++;
    if (g->link_at < w->link_at)
        w->link_at = g->link_at;
}

/* Another crew has nothing to do with links that were lost before. */
static bool link_is_early(struct worker *w, const struct grant *g, uint64_t agent)
{
    if (g->agent != agent || g->link_at <= monitor_now())
        return false;
    if (g->link_at < w->link_at)
        w->link_at = g->link_at;
    return true;
}

void grants_link(size_t index, struct child *agent)
{
    for (struct worker *w = workers; w != NULL; w = w->next)
        if (w->grants[index].link > 0 &&
            !child_send(agent, MSG_LINK, &(struct msg_link){0}, NULL, 0, &w->grants[index].link)) {
            child_end(agent, "it does not take the links that it is sent");
            return;
        }
}

void grants_unlink(size_t index)
{
    for (struct worker *w = workers; w != NULL; w = w->next)
        unlink_grant(&w->grants[index]);
}

void grants_free(struct worker *w)
{
    for (size_t i = 0; w->grants != NULL && i < monitor_policy->ntables; i++)
        unlink_grant(&w->grants[i]);
    free(w->grants);
}

/*
 * Tells a worker that it does not get a table, of that index if there is one. Where more groups of
 * its clients count since a reload, some may be allowed what these groups are: until each has been
 * looked at anew, what is there is for later. False: its queue is full.
 */
static bool tell_refused(struct worker *w, uint32_t ref, size_t index)
{
    struct msg_table_error body = {.ref = ref, .status = PM_DENY};

    if (w->compartment->stale && index < monitor_policy->ntables) {
        body.status = PM_RETRY;
        body.flags = policy_table_flags(monitor_policy, index);
        body.table = (uint32_t)index;
    }
    return child_send(w->child, MSG_TABLE_ERROR, &body, NULL, 0, NULL);
}

bool grant_tell_owed(struct worker *w, size_t index)
{
    struct grant *g = &w->grants[index];
    struct msg_recall recall = {g->ref};

    if (g->owed == OWED_DENIAL && !tell_refused(w, g->ref, index))
        return false;
    if (g->owed == OWED_RECALL && !child_send(w->child, MSG_RECALL, &recall, NULL, 0, NULL))
        return false;
    g->owed = OWED_NOTHING;
    return true;
}

bool grant_tell(struct worker *w, size_t index)
{
    struct grant *g = &w->grants[index];
    uint64_t version = table_version(index), agent = agent_version(index);

    if (g->owed != OWED_NOTHING && !grant_tell_owed(w, index))
        return false;
    if (!g->asked)
        return true;
    if ((table_answered_by(index) & KIND_LINK) && agent != 0 && g->linked != agent &&
        !link_is_early(w, g, agent) && !tell_link(w, index, agent))
        return false;
    if (g->told == version)
        return true;
    /* Each image that a worker has not even taken is memory that it holds: no second one then. */
    if (g->told != 0 && child_backlog(w->child)) {
        w->again_at = monitor_now() + BEHIND_MS;
        return true;
    }
    if (!tell_image(w, index))
        return false;
    g->told = version;
    return true;
}

void clients_table_changed(size_t index)
{
    for (struct worker *w = workers; w != NULL; w = w->next)
        grant_tell(w, index);
}

void grant_log_denied(struct worker *w, uint32_t client, struct slice name)
{
    static char escaped[512], advice[4096];
    char start[64];
    const char *why = NULL;

    if (!compartment_may_log(w->compartment, DENIALS))
        return;
    policy_escape(name, escaped, sizeof escaped);
    snprintf(start, sizeof start, "%.*s", (int)(name.len < 63 ? name.len : 63), name.ptr);
    if (table_type_of(start, &why) == NULL)
        log_line(LOG_WARNING, "denied table \"%s\" to %s; no line can approve it: %s", escaped,
                 client_identity(w, client), why);
    else if (policy_advice(monitor_policy, &w->compartment->peer, name, advice, sizeof advice) &&
             strlen(advice) == sizeof advice - 1)
        log_line(LOG_WARNING,
                 "denied table \"%s\" to %s; what would approve it is too long for "
                 "the log",
                 escaped, client_identity(w, client));
    else
        log_line(LOG_WARNING, "denied table \"%s\" to %s; to approve it, jailmapd.conf needs: %s",
                 escaped, client_identity(w, client), advice);
}

void grant_asked(struct worker *w, const struct bridge_msg *msg)
{
    struct slice name = {msg->tail, msg->tail_len};
    const struct msg_open *open = &msg->body.OPEN;
    size_t index;

    if (!is_client(w, open->client)) {
        child_end(w->child, "it asks for a table on behalf of nobody");
        return;
    }
    if (policy_decide(monitor_policy, &w->compartment->peer, name, &index) != POLICY_APPROVE) {
        if (!w->compartment->stale)
            grant_log_denied(w, open->client, name);
        if (tell_refused(w, open->ref, index))
            return;
        if (w->settling == SETTLE_OWED) /* a reload has filled its queue, not its own silence */
            worker_dismiss(w, "it was told too much at once");
        else
            child_end(w->child, "it asks and does not read the answers");
        return;
    }
    if (w->grants[index].asked) { /* workers forget denials only; and each link costs an agent */
        child_end(w->child, "it asks again for a table that it has");
        return;
    }
    log_line(LOG_INFO, "approved table \"%s\" for %s", monitor_policy->tables[index].name,
             client_identity(w, open->client));
    w->grants[index] = (struct grant){.asked = true, .ref = open->ref};
    grant_tell(w, index);
}

/* The table that it speaks of; there may be none. */
static bool find_granted(const struct worker *w, uint32_t ref, size_t *index)
{
    for (*index = 0; *index < monitor_policy->ntables; ++*index)
        if (w->grants[*index].asked && w->grants[*index].ref == ref)
            return true;
    if (w->settling == SETTLED && !w->compartment->stale) /* else it may have it still */
        child_end(w->child, "it speaks of a table that it does not have");
    return false;
}

void grant_unmet(struct worker *w, uint32_t ref, bool begins, struct slice text)
{
    const struct compartment *c = w->compartment;
    char said[128];
    size_t i;

    if (!find_granted(w, ref, &i) || !compartment_may_log(w->compartment, COMPLAINTS))
        return;
    policy_printable(text, said, sizeof said);
    if (begins)
        log_line(LOG_WARNING, "table \"%s\": lookups of uid %u on %s get a temporary error: %s",
                 monitor_policy->tables[i].name, (unsigned)c->peer.uid, listen_of(c)->path, said);
    else
        log_line(LOG_INFO,
                 "table \"%s\": lookups of uid %u on %s have answers again, after %s that had none",
                 monitor_policy->tables[i].name, (unsigned)c->peer.uid, listen_of(c)->path, said);
}

void grant_spoiled(struct worker *w, uint32_t ref, struct slice text)
{
    char escaped[256];
    size_t i;

    if (!find_granted(w, ref, &i))
        return;
    if (text.len > 0) {
        if (compartment_may_log(w->compartment, COMPLAINTS))
            table_spoiled(i, policy_printable(text, escaped, sizeof escaped));
    } else {
        link_lost(w, &w->grants[i]);
    }
}

bool clients_prepare(size_t ntables)
{
    size_t had = monitor_policy->ntables + 1;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        struct grant *grown = reallocarray(w->grants, ntables + 1, sizeof *grown);

        if (grown == NULL)
            return false;
        memset(grown + had, 0, (ntables + 1 - had) * sizeof *grown);
        w->grants = grown;
    }
    return true;
}

void grants_take_away(struct worker *w)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct grant *g = &w->grants[i];
        const char *name = monitor_policy->tables[i].name;
        size_t index;

        if (!g->asked)
            continue;
        if (policy_decide(monitor_policy, &w->compartment->peer, (struct slice){name, strlen(name)},
                          &index) != POLICY_APPROVE) {
            unlink_grant(g);
            *g = (struct grant){.owed = OWED_DENIAL, .ref = g->ref};
        } else if (table_is_anew(i)) {
            unlink_grant(g);
            *g = (struct grant){.asked = true, .owed = OWED_RECALL, .ref = g->ref};
        }
        w->tainted |= g->owed != OWED_NOTHING;
    }
}
