/*
 * The answer to who asks for the status: lines of text, fields with tabs between them, all
 * printable ASCII. Runs in the census. It reads what state.c knows and must never say of a table
 * what the monitor has not told.
 *
 *     jailmap-status VERSION-OF-THIS-FORMAT
 *     daemon VERSION PID SINCE NOW
 *     policy SINCE REASON              the last attempt to read it; no reason: it is in force
 *     listener PATH WORKERS CLIENTS MAX-USE                                           the limits
 *     compartment UID LISTENER REQUESTS DENIED HITS MISSES ERRORS LIMITED LIMITED-SINCE
 *     worker PID UID LISTENER CLIENTS SERVED
 *     table NAME STATE SINCE LOADED GENERATION ENTRIES BYTES ANSWERED-BY HITS MISSES ERRORS
 *         CACHED REFUSED NANOSECONDS TIMES REASON
 *     agent TABLE PID RUNNING STARTED SINCE REASON
 *     others HITS MISSES ERRORS        lookups in tables that had no counters of their own
 *     end
 *
 * LISTENER and TABLE count the lines of their kind, from 0; TIMES are BUCKET:LOOKUPS,... as in
 * server/counters.h; times are seconds since the epoch, 0 if there was none.
 */
#include "server/census/census.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static void report_daemon(FILE *out, const struct census *census)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    fprintf(out, "jailmap-status 5\ndaemon\t%s\t%" PRIu32 "\t%" PRIu64 "\t%lld\n",
            or_empty(census->version), census->daemon.pid, census->daemon.since,
            (long long)now.tv_sec);
    fprintf(out, "policy\t%" PRIu64 "\t%s\n", census->policy.since,
            or_empty(census->policy_failure));
}

static bool is_gone(const char *name)
{
    return name != NULL && name[0] == '\0';
}

/* A listener without its name is none: whatever is of it, is not told of. */
static bool has_listener(const struct census *census, uint32_t listener)
{
    return listener >= census->nlisteners || !is_gone(census->listeners[listener].path);
}

/* Lines of a kind, before that of an index. */
static size_t listener_line(const struct census *census, uint32_t index)
{
    size_t line = 0;

    for (uint32_t i = 0; i < index; i++)
        line += has_listener(census, i);
    return line;
}

static size_t table_line(const struct census *census, size_t index)
{
    size_t line = 0;

    for (size_t i = 0; i < index; i++)
        line += !is_gone(census->tables[i].name);
    return line;
}

static void report_listeners(FILE *out, const struct census *census)
{
    for (size_t i = 0; i < census->nlisteners; i++) {
        const struct msg_listener *l = &census->listeners[i].limits;

        if (!has_listener(census, (uint32_t)i))
            continue;
        fprintf(out, "listener\t%s\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu32 "\n",
                or_empty(census->listeners[i].path), l->workers, l->clients, l->max_use);
    }
}

static void report_compartment(FILE *out, const struct census *census, const struct compartment *c)
{
    struct compartment all = *c;

    if (!has_listener(census, c->listener))
        return;
    for (size_t i = 0; i < census->nworkers; i++) {
        const struct worker *w = &census->workers[i];

        if (!w->used || w->is.uid != c->uid || w->is.listener != c->listener)
            continue;
        all.requests = counters_plus(all.requests, w->seen->requests);
        all.denied = counters_plus(all.denied, w->seen->denied);
        all.limited = counters_plus(all.limited, w->seen->limited);
        for (size_t slot = 0; slot <= w->is.slots; slot++)
            counters_add(&all.lookups, &w->seen->slots[slot]);
    }
    fprintf(out,
            "compartment\t%" PRIu32 "\t%zu\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
            "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n",
            all.uid, listener_line(census, all.listener), all.requests, all.denied,
            all.lookups.hits, all.lookups.misses, all.lookups.errors, all.limited,
            watch_since(census, all.uid));
}

static void report_workers(FILE *out, const struct census *census)
{
    for (size_t i = 0; i < census->nworkers; i++) {
        const struct worker *w = &census->workers[i];

        if (w->used && has_listener(census, w->is.listener))
            fprintf(out, "worker\t%" PRIu32 "\t%" PRIu32 "\t%zu\t%" PRIu32 "\t%" PRIu32 "\n",
                    w->state.pid, w->is.uid, listener_line(census, w->is.listener),
                    w->state.clients, w->state.served);
    }
}

/* Answers come from what was read before. A generation without an image is a crew's. */
static bool has_earlier(const struct table *t)
{
    return t->state.has_image || (t->state.answered_by == KIND_LINK && t->state.generation > 0);
}

/* One word for what is known of a table; since when, and why. */
static const char *state_of(const struct table *t, uint64_t *since, const char **why)
{
    *since = t->state.since;
    *why = or_empty(t->failure);
    if (is_set(t->trouble) && (t->state.answered_by & KIND_LINK)) {
        *since = t->agent.since;
        *why = t->trouble;
        return "failing";
    }
    if (is_set(t->failure))
        return has_earlier(t)                      ? "stale"
               : t->state.answered_by == KIND_LINK ? "degraded"
                                                   : "failing";
    if (t->state.answered_by == 0 || (!t->state.has_image && t->state.waiting))
        return "loading";
    return "current";
}

static void report_times(FILE *out, const struct counters_sum *sum)
{
    const char *comma = "";

    for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
        if (sum->buckets[b] > 0) {
            fprintf(out, "%s%u:%" PRIu64, comma, b, sum->buckets[b]);
            comma = ",";
        }
}

static void report_table(FILE *out, const struct census *census, size_t index)
{
    static const char *const kinds[] = {"-", "image", "agent", "image+agent"};
    const struct table *t = &census->tables[index];
    struct counters_sum sum = t->ended;
    const char *why, *state;
    uint64_t since;

    if (is_gone(t->name))
        return;
    for (size_t i = 0; i < census->nworkers; i++)
        if (census->workers[i].used && census_counts_for(census, &census->workers[i], index))
            counters_add(&sum, &census->workers[i].seen->slots[index]);
    state = state_of(t, &since, &why);
    fprintf(out,
            "table\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
            "\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t",
            or_empty(t->name), state, since, t->state.loaded, t->state.generation, t->state.entries,
            t->state.bytes,
            t->state.answered_by & KIND_WORKER ? "worker" : kinds[t->state.answered_by & KIND_BOTH],
            sum.hits, sum.misses, sum.errors, sum.cached, sum.refused, sum.nanoseconds);
    report_times(out, &sum);
    fprintf(out, "\t%s\n", why);
}

static void report_agents(FILE *out, const struct census *census)
{
    for (size_t i = 0; i < census->ntables; i++) {
        const struct msg_agent_state *a = &census->tables[i].agent;

        if (!is_gone(census->tables[i].name) &&
            (a->started > 0 || is_set(census->tables[i].trouble)))
            fprintf(out, "agent\t%zu\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu64 "\t%s\n",
                    table_line(census, i), a->pid, a->running, a->started, a->since,
                    or_empty(census->tables[i].trouble));
    }
}

static void report_others(FILE *out, const struct census *census)
{
    struct counters_sum sum = census->others;

    for (size_t i = 0; i < census->nworkers; i++) {
        const struct worker *w = &census->workers[i];

        for (size_t slot = 0; w->used && slot <= w->is.slots; slot++)
            if (!census_counts_for(census, w, slot))
                counters_add(&sum, &w->seen->slots[slot]);
    }
    fprintf(out, "others\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\nend\n", sum.hits, sum.misses,
            sum.errors);
}

char *census_report(struct census *census, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    bool good;

    if (out == NULL)
        return NULL;
    census_look(census);
    report_daemon(out, census);
    report_listeners(out, census);
    for (size_t i = 0; i < census->ncompartments; i++)
        report_compartment(out, census, &census->compartments[i]);
    report_workers(out, census);
    for (size_t i = 0; i < census->ntables; i++)
        report_table(out, census, i);
    report_agents(out, census);
    report_others(out, census);
    good = !ferror(out);
    if (fclose(out) != 0 || !good) {
        free(text);
        return NULL;
    }
    return text;
}
