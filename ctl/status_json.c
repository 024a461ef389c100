/*
 * The status as JSON. Runs in the tool. Strings are printable ASCII by then, so they are valid in
 * any encoding; it must never write a part of an object: where memory lacks, nothing.
 */
#include <jansson.h>
#include <stdlib.h>

#include "ctl/status.h"

/* JSON of this library ends where signed numbers do. */
static json_t *count(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* 0 is "none". */
static json_t *moment(uint64_t seconds)
{
    return seconds == 0 ? json_null() : count(seconds);
}

static json_t *reason(const char *why)
{
    return why[0] == '\0' ? json_null() : json_string(why);
}

/* Seconds. null: there was no lookup, or it took longer than is told apart. */
static json_t *quantile(const struct counters_sum *sum, unsigned permille)
{
    uint64_t ns = counters_quantile(sum, permille);

    return ns == 0 || ns == UINT64_MAX ? json_null() : json_real((double)ns / 1e9);
}

static json_t *listener(const struct status *s, size_t i)
{
    const struct status_listener *l = &s->listeners[i];

    return json_pack("{s:s, s:o, s:o, s:{s:o, s:o, s:o}}", "path", l->path, "workers",
                     count(l->workers), "clients", count(l->clients), "limits", "workers",
                     count(l->workers_most), "clients-per-worker", count(l->clients_most),
                     "max-use", count(l->max_use));
}

static json_t *compartment(const struct status *s, size_t i)
{
    const struct status_compartment *c = &s->compartments[i];
    const struct status_listener *l = &s->listeners[c->listener];

    return json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}",
                     "uid", count(c->uid), "user", status_user(c->uid), "listener", l->path,
                     "workers", count(c->workers), "clients", count(c->clients), "workers-limit",
                     count(l->workers_most), "clients-limit",
                     count(l->workers_most * l->clients_most), "requests", count(c->requests),
                     "denied", count(c->denied), "hits", count(c->hits), "misses", count(c->misses),
                     "errors", count(c->errors), "limited", c->limited_since != 0, "limited-since",
                     moment(c->limited_since), "limited-lookups", count(c->limited));
}

static json_t *worker(const struct status *s, size_t i)
{
    const struct status_worker *w = &s->workers[i];

    return json_pack("{s:o, s:o, s:s, s:o, s:o}", "pid", count(w->pid), "uid", count(w->uid),
                     "listener", s->listeners[w->listener].path, "clients", count(w->clients),
                     "served", count(w->served));
}

static json_t *table(const struct status *s, size_t i)
{
    const struct status_table *t = &s->tables[i];
    bool image = t->generation > 0;

    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:o, s:o}",
                     "name", t->name, "state", t->state, "since", moment(t->since), "why",
                     reason(t->why), "generation", image ? count(t->generation) : json_null(),
                     "entries", image ? count(t->entries) : json_null(), "bytes",
                     image ? count(t->bytes) : json_null(), "loaded", moment(t->loaded),
                     "answered-by", t->answered_by, "lookups", count(counters_lookups(&t->sum)),
                     "hits", count(t->sum.hits), "misses", count(t->sum.misses), "errors",
                     count(t->sum.errors), "cached", count(t->sum.cached), "refused",
                     count(t->sum.refused), "seconds", json_real((double)t->sum.nanoseconds / 1e9),
                     "p50", quantile(&t->sum, 500), "p99", quantile(&t->sum, 990));
}

static json_t *agent(const struct status *s, size_t i)
{
    const struct status_agent *a = &s->agents[i];

    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "table", s->tables[a->table].name, "pid",
                     a->pid > 0 ? count(a->pid) : json_null(), "running", count(a->running),
                     "started", count(a->started), "since", moment(a->since), "why",
                     reason(a->why));
}

static json_t *list(const struct status *s, size_t n, json_t *(*one)(const struct status *, size_t))
{
    json_t *all = json_array();

    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(all, one(s, i)) != 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

bool status_json(FILE *out, const struct status *s)
{
    json_t *all = json_pack(
        "{s:i, s:s, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}}",
        "format", 5, "version", s->version, "pid", count(s->pid), "since", moment(s->since), "now",
        moment(s->now), "configuration", "since", moment(s->policy_since), "failure",
        reason(s->policy_failure), "listeners", list(s, s->nlisteners, listener), "compartments",
        list(s, s->ncompartments, compartment), "workers", list(s, s->nworkers, worker), "tables",
        list(s, s->ntables, table), "agents", list(s, s->nagents, agent), "others", "hits",
        count(s->other_hits), "misses", count(s->other_misses), "errors", count(s->other_errors));
    bool good = all != NULL && json_dumpf(all, out, JSON_INDENT(2)) == 0 && fputc('\n', out) != EOF;

    json_decref(all);
    return good;
}
