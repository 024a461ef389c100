/*
 * The status in the text format of Prometheus (exposition format 0.0.4). Runs in the tool. It
 * writes to the stream that it is given; it must never write a label that is not escaped.
 */
#include "ctl/status.h"

#include <inttypes.h>
#include <string.h>

#define FIRST_BOUND 8 /* 2^8 ns, then each power of two up to 2^36 */
#define LAST_BOUND  36

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* name="value", with what a label may not hold escaped. */
static void label(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=\"", name);
    for (; *value != '\0'; value++)
        fprintf(out, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    fputc('"', out);
}

static void single(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    fprintf(out, "%s %" PRIu64 "\n", name, value);
}

static void daemon_metrics(FILE *out, const struct status *s)
{
    family(out, "jailmap_info", "gauge", "The running daemon.");
    fputs("jailmap_info{", out);
    label(out, "version", s->version);
    fputs("} 1\n", out);
    single(out, "jailmap_start_time_seconds", "gauge", "When the daemon was started.", s->since);
    single(out, "jailmap_config_last_reload_timestamp_seconds", "gauge",
           "When the configuration was read last, or was tried to be.", s->policy_since);
    single(out, "jailmap_config_last_reload_successful", "gauge",
           "1 if that is the configuration in force.", s->policy_failure[0] == '\0');
}

static void listener_metric(FILE *out, const struct status *s, const char *name, const char *help,
                            size_t member)
{
    family(out, name, "gauge", help);
    for (size_t i = 0; i < s->nlisteners; i++) {
        fprintf(out, "%s{", name);
        label(out, "listener", s->listeners[i].path);
        fprintf(out, "} %" PRIu64 "\n",
                *(const uint64_t *)((const char *)&s->listeners[i] + member));
    }
}

static void compartment_labels(FILE *out, const struct status *s,
                               const struct status_compartment *c)
{
    fprintf(out, "{uid=\"%" PRIu64 "\",", c->uid);
    label(out, "user", status_user(c->uid));
    fputc(',', out);
    label(out, "listener", s->listeners[c->listener].path);
}

static void compartment_metric(FILE *out, const struct status *s, const char *name,
                               const char *type, const char *help, size_t member)
{
    family(out, name, type, help);
    for (size_t i = 0; i < s->ncompartments; i++) {
        const struct status_compartment *c = &s->compartments[i];

        fputs(name, out);
        compartment_labels(out, s, c);
        fprintf(out, "} %" PRIu64 "\n", *(const uint64_t *)((const char *)c + member));
    }
}

static void compartment_lookups(FILE *out, const struct status *s)
{
    static const char name[] = "jailmap_client_lookups_total";

    family(out, name, "counter", "Lookups of a user's clients, by result.");
    for (size_t i = 0; i < s->ncompartments; i++) {
        const struct status_compartment *c = &s->compartments[i];
        const struct {
            const char *result;
            uint64_t value;
        } results[] = {{"hit", c->hits}, {"miss", c->misses}, {"error", c->errors}};

        for (int r = 0; r < 3; r++) {
            fputs(name, out);
            compartment_labels(out, s, c);
            fprintf(out, ",result=\"%s\"} %" PRIu64 "\n", results[r].result, results[r].value);
        }
    }
}

static void table_states(FILE *out, const struct status *s)
{
    static const char *const states[] = {"current", "loading", "stale", "degraded", "failing"};

    family(out, "jailmap_table_state", "gauge", "1 for the state that a table is in.");
    for (size_t i = 0; i < s->ntables; i++)
        for (size_t n = 0; n < sizeof states / sizeof states[0]; n++) {
            fputs("jailmap_table_state{", out);
            label(out, "table", s->tables[i].name);
            fprintf(out, ",state=\"%s\"} %d\n", states[n],
                    strcmp(s->tables[i].state, states[n]) == 0);
        }
}

static void table_metric(FILE *out, const struct status *s, const char *name, const char *help,
                         size_t member)
{
    family(out, name, "gauge", help);
    for (size_t i = 0; i < s->ntables; i++) {
        fprintf(out, "%s{", name);
        label(out, "table", s->tables[i].name);
        fprintf(out, "} %" PRIu64 "\n", *(const uint64_t *)((const char *)&s->tables[i] + member));
    }
}

static void table_lookups(FILE *out, const struct status *s)
{
    static const char name[] = "jailmap_lookups_total";

    family(out, name, "counter", "Lookups in a table, by result.");
    for (size_t i = 0; i < s->ntables; i++) {
        const struct counters_sum *sum = &s->tables[i].sum;
        const struct {
            const char *result;
            uint64_t value;
        } results[] = {{"hit", sum->hits}, {"miss", sum->misses}, {"error", sum->errors}};

        for (int r = 0; r < 3; r++) {
            fprintf(out, "%s{", name);
            label(out, "table", s->tables[i].name);
            fprintf(out, ",result=\"%s\"} %" PRIu64 "\n", results[r].result, results[r].value);
        }
    }
}

/* Of the lookups above. */
static void table_total(FILE *out, const struct status *s, const char *name, const char *help,
                        size_t member)
{
    family(out, name, "counter", help);
    for (size_t i = 0; i < s->ntables; i++) {
        fprintf(out, "%s{", name);
        label(out, "table", s->tables[i].name);
        fprintf(out, "} %" PRIu64 "\n",
                *(const uint64_t *)((const char *)&s->tables[i].sum + member));
    }
}

/* A line of a histogram without its value. */
static void histogram_line(FILE *out, const char *part, const char *table)
{
    fprintf(out, "jailmap_lookup_duration_seconds_%s{", part);
    label(out, "table", table);
}

/* By powers of two: four buckets of a page are one here. */
static void table_times(FILE *out, const struct status *s)
{
    family(out, "jailmap_lookup_duration_seconds", "histogram",
           "Time from a complete request to its reply, agents included.");
    for (size_t i = 0; i < s->ntables; i++) {
        const struct status_table *t = &s->tables[i];
        uint64_t below = 0;
        unsigned b = 0;

        for (unsigned power = FIRST_BOUND; power <= LAST_BOUND; power++) {
            while (b + 1 < COUNTERS_BUCKETS && counters_beyond(b) <= UINT64_C(1) << power)
                below = counters_plus(below, t->sum.buckets[b++]);
            histogram_line(out, "bucket", t->name);
            fprintf(out, ",le=\"%.9g\"} %" PRIu64 "\n", (double)(UINT64_C(1) << power) / 1e9,
                    below);
        }
        below = counters_plus(below, t->sum.buckets[COUNTERS_BUCKETS - 1]);
        histogram_line(out, "bucket", t->name);
        fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n", below);
        histogram_line(out, "sum", t->name);
        fprintf(out, "} %.9g\n", (double)t->sum.nanoseconds / 1e9);
        histogram_line(out, "count", t->name);
        fprintf(out, "} %" PRIu64 "\n", below);
    }
}

static void agent_metrics(FILE *out, const struct status *s)
{
    family(out, "jailmap_agents_running", "gauge", "Agents of a table that run now.");
    for (size_t i = 0; i < s->nagents; i++) {
        fputs("jailmap_agents_running{", out);
        label(out, "table", s->tables[s->agents[i].table].name);
        fprintf(out, "} %" PRIu64 "\n", s->agents[i].running);
    }
    family(out, "jailmap_agent_starts_total", "counter", "Agents that were started for a table.");
    for (size_t i = 0; i < s->nagents; i++) {
        fputs("jailmap_agent_starts_total{", out);
        label(out, "table", s->tables[s->agents[i].table].name);
        fprintf(out, "} %" PRIu64 "\n", s->agents[i].started);
    }
}

#define LISTENER(member)    offsetof(struct status_listener, member)
#define COMPARTMENT(member) offsetof(struct status_compartment, member)
#define TABLE(member)       offsetof(struct status_table, member)

void status_prometheus(FILE *out, const struct status *s)
{
    daemon_metrics(out, s);
    listener_metric(out, s, "jailmap_listener_workers", "Workers of a listener.",
                    LISTENER(workers));
    listener_metric(out, s, "jailmap_listener_clients", "Connections of a listener.",
                    LISTENER(clients));
    listener_metric(out, s, "jailmap_listener_workers_limit", "Most workers for one user.",
                    LISTENER(workers_most));
    listener_metric(out, s, "jailmap_listener_worker_clients_limit",
                    "Most connections of one worker.", LISTENER(clients_most));
    compartment_metric(out, s, "jailmap_client_workers", "gauge", "Workers of a user's clients.",
                       COMPARTMENT(workers));
    compartment_metric(out, s, "jailmap_client_connections", "gauge", "A user's connections.",
                       COMPARTMENT(clients));
    compartment_metric(out, s, "jailmap_client_requests_total", "counter",
                       "Requests of a user's clients, of any kind.", COMPARTMENT(requests));
    compartment_metric(out, s, "jailmap_client_denied_total", "counter",
                       "Requests that the policy denies.", COMPARTMENT(denied));
    compartment_metric(out, s, "jailmap_client_limited_total", "counter",
                       "Lookups that a limit has delayed or refused.", COMPARTMENT(limited));
    compartment_metric(out, s, "jailmap_client_limited_since_seconds", "gauge",
                       "Since when a user has reached a limit; 0: it keeps them all.",
                       COMPARTMENT(limited_since));
    compartment_lookups(out, s);
    table_states(out, s);
    table_metric(out, s, "jailmap_table_since_seconds", "Since when a table is in its state.",
                 TABLE(since));
    table_metric(out, s, "jailmap_table_loaded_seconds",
                 "When the image in service was loaded; 0: none is.", TABLE(loaded));
    table_metric(out, s, "jailmap_table_generation", "Counts the images of a table.",
                 TABLE(generation));
    table_metric(out, s, "jailmap_table_entries", "Entries of the image in service.",
                 TABLE(entries));
    table_metric(out, s, "jailmap_table_bytes", "Size of the image in service.", TABLE(bytes));
    table_lookups(out, s);
    table_total(out, s, "jailmap_lookups_cached_total",
                "Lookups in a table that were answered by what a worker had kept.",
                offsetof(struct counters_sum, cached));
    table_total(out, s, "jailmap_lookups_refused_total",
                "Lookups in a table that found its queue full.",
                offsetof(struct counters_sum, refused));
    table_times(out, s);
    agent_metrics(out, s);
}
