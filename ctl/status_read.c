/*
 * Taking the census's answer apart. Runs in the tool, as whoever calls it. It may read /etc/passwd
 * for names of users; it believes no byte of the answer.
 */
#include "ctl/status.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC      "jailmap-status 5"
#define FIELDS_MAX 16 /* of a line, after the word that says its kind */

/* ---- taking apart ---- */

static bool number(const char *text, uint64_t *value)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool numbers(char *const *fields, uint64_t *const *values, int count)
{
    for (int i = 0; i < count; i++)
        if (!number(fields[i], values[i]))
            return false;
    return true;
}
#define NUMBERS(fields, ...)                                                                       \
    numbers((fields), (uint64_t *const[]){__VA_ARGS__},                                            \
            (int)(sizeof((uint64_t *const[]){__VA_ARGS__}) / sizeof(uint64_t *)))

/* Room for one more, which is zero; arrays grow by doubling. NULL: out of memory. */
static void *add(void *array, size_t *count, size_t size)
{
    void **at = array;

    if ((*count & (*count - 1)) == 0) {
        void *grown = realloc(*at, (*count == 0 ? 1 : 2 * *count) * size);

        if (grown == NULL)
            return NULL;
        *at = grown;
    }
    return memset((char *)*at + (*count)++ * size, 0, size);
}

/* BUCKET:LOOKUPS, with commas between them. */
static bool take_times(char *text, struct counters_sum *sum)
{
    char *rest = text;

    while (rest[0] != '\0') {
        char *one = strsep(&rest, ","), *bucket = strsep(&one, ":");
        uint64_t b, lookups;

        if (one == NULL || !number(bucket, &b) || !number(one, &lookups) || b >= COUNTERS_BUCKETS)
            return false;
        sum->buckets[b] = lookups;
        if (rest == NULL)
            return true;
    }
    return rest == text;
}

static bool take_daemon(struct status *s, char **f)
{
    s->version = f[0];
    return NUMBERS(f + 1, &s->pid, &s->since, &s->now);
}

static bool take_policy(struct status *s, char **f)
{
    s->policy_failure = f[1];
    return NUMBERS(f, &s->policy_since);
}

static bool take_listener(struct status *s, char **f)
{
    struct status_listener *l = add(&s->listeners, &s->nlisteners, sizeof *l);

    if (l == NULL)
        return false;
    l->path = f[0];
    return NUMBERS(f + 1, &l->workers_most, &l->clients_most, &l->max_use);
}

static bool take_compartment(struct status *s, char **f)
{
    struct status_compartment *c = add(&s->compartments, &s->ncompartments, sizeof *c);

    return c != NULL && NUMBERS(f, &c->uid, &c->listener, &c->requests, &c->denied, &c->hits,
                                &c->misses, &c->errors, &c->limited, &c->limited_since);
}

static bool take_worker(struct status *s, char **f)
{
    struct status_worker *w = add(&s->workers, &s->nworkers, sizeof *w);

    return w != NULL && NUMBERS(f, &w->pid, &w->uid, &w->listener, &w->clients, &w->served);
}

static bool take_table(struct status *s, char **f)
{
    struct status_table *t = add(&s->tables, &s->ntables, sizeof *t);

    if (t == NULL)
        return false;
    t->name = f[0];
    t->state = f[1];
    t->answered_by = f[7];
    t->why = f[15];
    return NUMBERS(f + 2, &t->since, &t->loaded, &t->generation, &t->entries, &t->bytes) &&
           NUMBERS(f + 8, &t->sum.hits, &t->sum.misses, &t->sum.errors, &t->sum.cached,
                   &t->sum.refused, &t->sum.nanoseconds) &&
           take_times(f[14], &t->sum);
}

static bool take_agent(struct status *s, char **f)
{
    struct status_agent *a = add(&s->agents, &s->nagents, sizeof *a);

    if (a == NULL)
        return false;
    a->why = f[5];
    return NUMBERS(f, &a->table, &a->pid, &a->running, &a->started, &a->since);
}

static bool take_others(struct status *s, char **f)
{
    return NUMBERS(f, &s->other_hits, &s->other_misses, &s->other_errors);
}

static const struct kind {
    const char *name;
    int fields;
    bool (*take)(struct status *s, char **fields);
} kinds[] = {
    {"daemon", 4, take_daemon},     {"policy", 2, take_policy},
    {"listener", 4, take_listener}, {"compartment", 9, take_compartment},
    {"worker", 5, take_worker},     {"table", 16, take_table},
    {"agent", 6, take_agent},       {"others", 3, take_others},
};

static bool take_line(struct status *s, char *text)
{
    const char *kind = strsep(&text, "\t");
    char *fields[FIELDS_MAX];
    int count = 0;

    while (text != NULL && count < FIELDS_MAX)
        fields[count++] = strsep(&text, "\t");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, kind) == 0)
            return count == kinds[i].fields && text == NULL && kinds[i].take(s, fields);
    return false;
}

/* Every number that says which is checked here, and workers are counted where they belong. */
static bool relate(struct status *s)
{
    for (size_t i = 0; i < s->ncompartments; i++)
        if (s->compartments[i].listener >= s->nlisteners)
            return false;
    for (size_t i = 0; i < s->nagents; i++)
        if (s->agents[i].table >= s->ntables)
            return false;
    for (size_t i = 0; i < s->nworkers; i++) {
        const struct status_worker *w = &s->workers[i];

        if (w->listener >= s->nlisteners)
            return false;
        s->listeners[w->listener].workers++;
        s->listeners[w->listener].clients += w->clients;
        for (size_t c = 0; c < s->ncompartments; c++)
            if (s->compartments[c].uid == w->uid && s->compartments[c].listener == w->listener) {
                s->compartments[c].workers++;
                s->compartments[c].clients += w->clients;
            }
    }
    return s->version != NULL && s->policy_failure != NULL;
}

void status_free(struct status *s)
{
    free(s->listeners);
    free(s->compartments);
    free(s->workers);
    free(s->tables);
    free(s->agents);
    *s = (struct status){0};
}

bool status_parse(char *text, size_t len, struct status *s)
{
    bool begun = false, ended = false, good = true;
    char *end = text + len;

    *s = (struct status){0};
    for (size_t i = 0; i < len; i++)
        if ((text[i] < 0x20 || text[i] > 0x7e) && text[i] != '\t' && text[i] != '\n')
            return false;
    while (good && !ended && text < end) {
        char *newline = memchr(text, '\n', (size_t)(end - text));

        good = newline != NULL;
        if (!good)
            break;
        *newline = '\0';
        ended = begun && strcmp(text, "end") == 0;
        if (!begun)
            begun = good = strcmp(text, MAGIC) == 0;
        else if (!ended)
            good = take_line(s, text);
        text = newline + 1;
    }
    if (good && ended && text == end && relate(s))
        return true;
    status_free(s);
    return false;
}

/* ---- names ---- */

const char *status_user(uint64_t uid)
{
    static char name[64];
    const struct passwd *entry;
    FILE *fp = fopen("/etc/passwd", "re");

    snprintf(name, sizeof name, "%llu", (unsigned long long)uid);
    while (fp != NULL && (entry = fgetpwent(fp)) != NULL)
        if (entry->pw_uid == uid) {
            snprintf(name, sizeof name, "%s", entry->pw_name);
            break;
        }
    if (fp != NULL)
        fclose(fp);
    return name;
}
