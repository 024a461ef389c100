/*
 * Agents: one for each table that needs one. Runs in the monitor, with privilege. It may start
 * agents, start them again when they die, and make links between them and workers; it must never
 * see a question or an answer: those go over the links.
 */
#include <stdio.h>
#include <stdlib.h>
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
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/tables.h"

#define BACKOFF_MIN_MS  100 /* an agent that dies is started again after this, doubled */
#define BACKOFF_MAX_MS  30000
#define AGENT_STEADY_MS 10000 /* an agent that lived this long starts from the beginning */
#define PATIENCE_MS     60000 /* a lookup may take that long, and meanwhile it reads nothing */
#define DRAIN_MS        5000  /* one that is not needed any more may finish what it was asked */

static struct agent {
    size_t index;
    const struct policy_table *conf;
    struct child *child;
    bool needed;
    uint64_t version; /* counts them */
    uint64_t start_at, backoff;
    uint64_t stop_at; /* NEVER, or when it has had time enough to finish */
    struct log_limit limit;
    char trouble[512]; /* why it does not answer now; empty: it does */
    time_t trouble_since;
    uint32_t told; /* see census_edition() */
} * *agents;
static size_t nagents;

static void set_trouble(struct agent *a, const char *why)
{
    snprintf(a->trouble, sizeof a->trouble, "%s", why);
    a->trouble_since = time(NULL);
    a->told = 0;
    census_changed();
}

/* EVENT: event; text. A claim of the agent about its source. */
static void agent_message(struct child *c, const struct bridge_msg *msg)
{
    struct agent *a = c->owner;
    char text[512];

    log_left_out(&a->limit, monitor_now(), LOG_WARNING,
                 "lines about the agent of table \"%s\" were left out", a->conf->name);
    if (msg->body.EVENT.event < EVENT_FAILING || msg->body.EVENT.event > EVENT_WEAKER) {
        child_end(c, "it reports an event that it cannot have");
        return;
    }
    policy_printable((struct slice){msg->tail, msg->tail_len}, text, sizeof text);
    if (msg->body.EVENT.event != EVENT_WEAKER)
        set_trouble(a, msg->body.EVENT.event == EVENT_FAILING ? text : "");
    if (!log_allow(&a->limit))
        return;
    if (msg->body.EVENT.event == EVENT_FAILING)
        log_line(LOG_WARNING, "table \"%s\" failed: %s; lookups get a temporary error meanwhile",
                 a->conf->name, text);
    else if (msg->body.EVENT.event == EVENT_WORKING)
        log_line(LOG_INFO, "table \"%s\" recovered", a->conf->name);
    else if (msg->body.EVENT.event == EVENT_WEAKER)
        log_line(LOG_WARNING, "table \"%s\": %s", a->conf->name, text);
}

static void agent_gone(struct child *c, const char *how)
{
    struct agent *a = c->owner;
    uint64_t now = monitor_now();
    char why[sizeof a->trouble];

    snprintf(why, sizeof why, "its agent died: %s", how != NULL ? how : "it ended by itself");
    set_trouble(a, why);
    a->child = NULL;
    if (!a->needed)
        return;
    if (now - c->started >= AGENT_STEADY_MS)
        a->backoff = BACKOFF_MIN_MS;
    a->start_at = now + a->backoff;
    log_line(LOG_WARNING, "agent pid %d for table \"%s\" died: %s; the next one starts in %llu ms",
             (int)c->pid, a->conf->name, how != NULL ? how : "it ended by itself",
             (unsigned long long)a->backoff);
    a->backoff = a->backoff * 2 < BACKOFF_MAX_MS ? a->backoff * 2 : BACKOFF_MAX_MS;
}

static void start(struct agent *a, uint64_t now)
{
    static const struct child_ops ops = {.role = ROLE_AGENT,
                                         .what = "agent",
                                         .patience = PATIENCE_MS,
                                         .message = agent_message,
                                         .gone = agent_gone};
    struct spawn limits = {
        .descriptors = (uint32_t)(64 + clients_workers_most(monitor_policy)), /* a link each */
        .file_size = 0,
        .memory = UINT64_C(1) << 30,
        .cpu_seconds = SPAWN_UNLIMITED};
    struct msg_source source = {a->conf->type->type, a->conf->reveal, a->conf->limit};
    char title[128];

    snprintf(title, sizeof title, "jailmap-agent-nss: %.80s", a->conf->name);
    a->start_at = NEVER;
    a->child = child_start(&ops, a, HELPER_AGENT_NSS, &limits, title);
    if (a->child == NULL) {
        a->start_at = now + a->backoff;
        set_trouble(a, "no agent can be started");
        return;
    }
    set_trouble(a, "");
    child_send(a->child, MSG_SOURCE, &source, a->conf->name, strlen(a->conf->name), NULL);
    a->child->state = STATE_SERVE;
    a->version++;
    clients_table_changed(a->index);
}

void agent_need(size_t index, bool needed)
{
    struct agent *a = agents[index];

    if (a->needed == needed)
        return;
    a->needed = needed;
    a->stop_at = needed ? NEVER : monitor_now() + DRAIN_MS;
    a->start_at = NEVER;
    if (needed && a->child == NULL) {
        a->backoff = BACKOFF_MIN_MS;
        start(a, monitor_now()); /* at once: whoever is told of the need finds it there */
    }
}

static void stop(struct agent *a)
{
    a->stop_at = NEVER;
    set_trouble(a, "");
    if (a->child != NULL)
        child_release(a->child);
    a->child = NULL;
}

bool agents_tell(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct agent *a = agents[i];
        struct msg_agent_state body = {.since = (uint64_t)a->trouble_since,
                                       .table = (uint32_t)i,
                                       .started = (uint32_t)a->version,
                                       .pid = a->child != NULL ? (uint32_t)a->child->pid : 0};

        if (a->trouble_since == 0 || a->told == census_edition()) /* none was ever needed, or so */
            continue;
        if (!census_tell(MSG_AGENT_STATE, &body, a->trouble, NULL))
            return false;
        if (a->child != NULL && a->child->pid == 0)
            census_changed(); /* that it has one will be news */
        else
            a->told = census_edition();
    }
    return true;
}

uint64_t agent_version(size_t index)
{
    return agents[index]->child != NULL ? agents[index]->version : 0;
}

int agent_link(size_t index)
{
    struct agent *a = agents[index];
    struct msg_link link = {0};
    int ends[2];
    bool sent;

    if (a->child == NULL || bridge_pair(ends) != 0)
        return -1;
    /* Neither is to find in it what it cannot let go of without waiting. */
    bridge_take_descriptors(ends[0], false);
    bridge_take_descriptors(ends[1], false);
    sent = child_send(a->child, MSG_LINK, &link, NULL, 0, &ends[1]);
    close(ends[1]);
    if (sent)
        return ends[0];
    close(ends[0]);
    return -1;
}

uint64_t agents_tick(uint64_t now)
{
    uint64_t next = NEVER;

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct agent *a = agents[i];

        if (a->start_at <= now)
            start(a, now);
        if (a->stop_at <= now)
            stop(a);
        if (a->start_at < next)
            next = a->start_at;
        if (a->stop_at < next)
            next = a->stop_at;
    }
    return next;
}

/* ---- start, and reload ---- */

bool agents_start(void)
{
    if (!agents_prepare(monitor_policy->ntables))
        return false;
    agents_reload();
    return true;
}

bool agents_prepare(size_t count)
{
    struct agent **grown = reallocarray(agents, count + 1, sizeof(struct agent *));

    if (grown == NULL)
        return false;
    agents = grown;
    for (; nagents < count; nagents++) {
        agents[nagents] = calloc(1, sizeof *agents[nagents]);
        if (agents[nagents] == NULL)
            return false;
        agents[nagents]->index = nagents;
        agents[nagents]->start_at = agents[nagents]->stop_at = NEVER;
    }
    return true;
}

void agents_reload(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        agents[i]->conf = &monitor_policy->tables[i];
}

/* One that gives what may not be given any more ends at once, and its links with it. */
void agents_let_go(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct agent *a = agents[i];
        struct child *child = a->child;

        if (!table_is_anew(i))
            continue;
        a->needed = false;
        a->start_at = NEVER;
        stop(a);
        if (child != NULL)
            child_end(child, "it is not needed any more");
        if (a->conf->gone) /* whatever has this place next begins anew */
            a->trouble_since = a->version = 0;
    }
}
