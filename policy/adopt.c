/*
 * One policy after another: see adopt.h. Runs in the monitor when it reloads, on policies alone. It
 * may order the arrays of the new one; it must never approve there what was not.
 */
#include "policy/adopt.h"

#include <stdlib.h>
#include <string.h>

#define NOWHERE SIZE_MAX

/* ---- places ---- */

/* The names of one kind of section, in both policies. */
struct names {
    const char *(*of)(const struct policy *policy, size_t index); /* NULL: gone */
    size_t old, new;                                              /* how many there are */
};

static const char *table_name(const struct policy *policy, size_t index)
{
    return policy->tables[index].gone ? NULL : policy->tables[index].name;
}

static const char *listen_name(const struct policy *policy, size_t index)
{
    return policy->listens[index].gone ? NULL : policy->listens[index].path;
}

/* What has gone is like nothing else. */
static bool is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Searches from a place on, and on from the beginning: files mostly keep their order. */
static size_t find(const struct policy *policy, const struct names *names, size_t from,
                   const char *name)
{
    for (size_t i = 0; i < names->old; i++) {
        size_t at = (from + i) % names->old;

        if (is_same(names->of(policy, at), name))
            return at;
    }
    return NOWHERE;
}

/*
 * Where each of new goes: to its place in old, else to one that was free there, else behind the
 * last. Returns places, for the caller to free, and how many there are then in *total; NULL: out of
 * memory.
 */
static size_t *places_of(const struct policy *old, const struct policy *new,
                         const struct names *names, size_t *total)
{
    size_t *places = calloc(names->new + 1, sizeof *places), vacant = 0, from = 0;

    *total = names->old;
    for (size_t i = 0; places != NULL && i < names->new; i++) {
        places[i] = find(old, names, from, names->of(new, i));
        if (places[i] != NOWHERE) {
            from = places[i] + 1;
            continue;
        }
        while (vacant < names->old && names->of(old, vacant) != NULL)
            vacant++;
        places[i] = vacant < names->old ? vacant++ : (*total)++;
    }
    return places;
}

/* An array with every element in its place, and zeroes where there is none. */
static void *ordered(const void *array, size_t size, size_t count, const size_t *places,
                     size_t total)
{
    char *to = calloc(total + 1, size);

    for (size_t i = 0; to != NULL && i < count; i++)
        memcpy(to + places[i] * size, (const char *)array + i * size, size);
    return to;
}

/* What is in none of the places of new is gone. Its name is empty, which is no table's. */
static bool bury_tables(const struct policy *old, struct policy_table *tables, size_t total)
{
    for (size_t i = 0; i < total; i++) {
        if (tables[i].name != NULL)
            continue;
        tables[i] = (struct policy_table){.name = strdup(""),
                                          .type = old->tables[i].type,
                                          .owner = POLICY_NO_OWNER,
                                          .gone = true};
        if (tables[i].name == NULL)
            return false;
    }
    return true;
}

/* The path stays: the sockets of a listener go after the policy. */
static bool bury_listens(const struct policy *old, struct policy_listen *listens, size_t total)
{
    for (size_t i = 0; i < total; i++) {
        if (listens[i].path != NULL)
            continue;
        listens[i] = old->listens[i];
        listens[i].place = (struct policy_place){NULL, 0, 0};
        listens[i].gone = true;
        listens[i].path = strdup(old->listens[i].path);
        if (listens[i].path == NULL)
            return false;
    }
    return true;
}

/* What an allow section says of each table, or listener, in the new order; NULL stays. */
static bool reorder(bool **says, size_t count, const size_t *places, size_t total)
{
    bool *to;

    if (*says == NULL)
        return true;
    to = ordered(*says, sizeof *to, count, places, total);
    if (to == NULL)
        return false;
    free(*says);
    *says = to;
    return true;
}

static bool adopt_listens(const struct policy *old, struct policy *new)
{
    struct names names = {listen_name, old->nlistens, new->nlistens};
    struct policy_listen *listens = NULL;
    size_t total, *places = places_of(old, new, &names, &total);
    bool good = places != NULL;

    for (size_t i = 0; good && i < new->nallows; i++)
        good = reorder(&new->allows[i].listens, new->nlistens, places, total);
    if (good)
        listens = ordered(new->listens, sizeof *listens, new->nlistens, places, total);
    free(places);
    if (listens == NULL)
        return false;
    free(new->listens);
    new->listens = listens;
    new->nlistens = total;
    return bury_listens(old, listens, total);
}

static bool adopt_tables(const struct policy *old, struct policy *new)
{
    struct names names = {table_name, old->ntables, new->ntables};
    struct policy_table *tables = NULL;
    size_t total, *places = places_of(old, new, &names, &total);
    bool good = places != NULL;

    for (size_t i = 0; good && i < new->nallows; i++)
        good = reorder(&new->allows[i].tables, new->ntables, places, total);
    if (good)
        tables = ordered(new->tables, sizeof *tables, new->ntables, places, total);
    for (size_t i = 0; tables != NULL && i < new->ntables; i++)
        for (size_t j = 0; j < new->tables[i].nmembers; j++)
            new->tables[i].members[j] = places[new->tables[i].members[j]];
    free(places);
    if (tables == NULL)
        return false;
    free(new->tables);
    new->tables = tables;
    new->ntables = total;
    return bury_tables(old, tables, total);
}

bool policy_adopt(const struct policy *old, struct policy *new)
{
    return adopt_listens(old, new) && adopt_tables(old, new);
}

/* ---- changes ---- */

/* Of what a table holds, that which stands in its section. */
static bool same_content(const struct policy_table *a, const struct policy_table *b)
{
    if ((a->database == NULL) != (b->database == NULL) || a->nset != b->nset ||
        (a->database != NULL && strcmp(a->database, b->database) != 0))
        return false;
    for (size_t i = 0; i < a->nset; i++)
        if (strcmp(a->set[i], b->set[i]) != 0)
            return false;
    return true;
}

enum policy_change policy_table_change(const struct policy *old, const struct policy *new,
                                       size_t index)
{
    const struct policy_table *b = &new->tables[index];
    const struct policy_table *a = index < old->ntables ? &old->tables[index] : NULL;

    if (a == NULL || a->gone)
        return b->gone ? POLICY_SAME : POLICY_ADDED;
    if (b->gone)
        return POLICY_REMOVED;
    if (!same_content(a, b) || a->reveal != b->reveal || a->symlinks != b->symlinks ||
        a->owner != b->owner || a->limit.max != b->limit.max ||
        memcmp(a->limit.allowed, b->limit.allowed, sizeof a->limit.allowed) != 0)
        return POLICY_ANEW;
    if (a->load_time != b->load_time || a->load_memory != b->load_memory ||
        a->image_size != b->image_size || a->processes != b->processes ||
        a->timeout != b->timeout || a->queue != b->queue || a->cache_ttl != b->cache_ttl ||
        a->negative_cache_ttl != b->negative_cache_ttl || a->cache_size != b->cache_size)
        return POLICY_TUNED;
    return POLICY_SAME;
}

enum policy_change policy_listen_change(const struct policy *old, const struct policy *new,
                                        size_t index)
{
    const struct policy_listen *b = &new->listens[index];
    const struct policy_listen *a = index < old->nlistens ? &old->listens[index] : NULL;

    if (a == NULL || a->gone)
        return b->gone ? POLICY_SAME : POLICY_ADDED;
    if (b->gone)
        return POLICY_REMOVED;
    if (a->uid != b->uid || a->gid != b->gid || a->mode != b->mode)
        return POLICY_ANEW;
    if (a->backlog != b->backlog || a->max_request != b->max_request ||
        a->max_pending != b->max_pending || a->request_timeout != b->request_timeout ||
        a->answer_timeout != b->answer_timeout || a->workers != b->workers ||
        a->clients_per_worker != b->clients_per_worker || a->max_use != b->max_use ||
        a->greeting != b->greeting)
        return POLICY_TUNED;
    return POLICY_SAME;
}

static bool is_for(const struct policy_allow *allow, const struct policy_allow *other)
{
    return allow->who == other->who && (allow->who != WHO_USER || allow->uid == other->uid) &&
           (allow->who != WHO_GROUP || allow->gid == other->gid);
}

/* The section that is for the same on that listener: there is one at most. */
static const struct policy_allow *section_for(const struct policy *policy,
                                              const struct policy_allow *allow, size_t listener)
{
    for (size_t i = 0; i < policy->nallows; i++)
        if (is_for(&policy->allows[i], allow) && policy_is_on(&policy->allows[i], listener))
            return &policy->allows[i];
    return NULL;
}

/* How many approvals a has that b has not: for one user, group or anyone, on one listener, of one
 * table each. What a listener brings or takes with it is not one. */
static unsigned more_approvals(const struct policy *a, const struct policy *b)
{
    unsigned more = 0;

    for (size_t i = 0; i < a->nallows; i++)
        for (size_t l = 0; l < a->nlistens && l < b->nlistens; l++) {
            const struct policy_allow *other = section_for(b, &a->allows[i], l);

            if (a->listens[l].gone || b->listens[l].gone || !policy_is_on(&a->allows[i], l))
                continue;
            for (size_t j = 0; j < a->ntables; j++)
                more += a->allows[i].tables[j] &&
                        (other == NULL || j >= b->ntables || !other->tables[j]);
        }
    return more;
}

static bool same_words(const struct policy_allow *a, const struct policy_allow *b)
{
    if (strcmp(a->title, b->title) != 0 || a->nwords != b->nwords)
        return false;
    for (size_t i = 0; i < a->nwords; i++)
        if (strcmp(a->words[i], b->words[i]) != 0)
            return false;
    return true;
}

/* Do the same sections stand there? They give places, and advice, also where they approve nothing
 * else than before. */
static bool same_sections(const struct policy *old, const struct policy *new)
{
    if (old->nallows != new->nallows)
        return false;
    for (size_t i = 0; i < old->nallows; i++) {
        const struct policy_allow *a = &old->allows[i], *b = &new->allows[i];

        if (!is_for(a, b) || !same_words(a, b) || (a->listens == NULL) != (b->listens == NULL))
            return false;
        for (size_t j = 0; a->listens != NULL && j < old->nlistens; j++)
            if (a->listens[j] != b->listens[j])
                return false;
    }
    return true;
}

static bool same_limits(const struct policy *old, const struct policy *new)
{
    if (old->nlimits != new->nlimits)
        return false;
    for (size_t i = 0; i < old->nlimits; i++) {
        const struct policy_limit *a = &old->limits[i], *b = &new->limits[i];

        if (strcmp(a->title, b->title) != 0 || a->anyone != b->anyone || a->uid != b->uid ||
            a->clients != b->clients || a->lookups_per_second != b->lookups_per_second ||
            a->misses_per_minute != b->misses_per_minute || a->action != b->action)
            return false;
    }
    return true;
}

bool policy_asks_more_groups(const struct policy *old, const struct policy *new, size_t listener)
{
    for (size_t i = 0; i < new->nallows; i++) {
        gid_t group = new->allows[i].gid;

        if (new->allows[i].who == WHO_GROUP && policy_is_on(&new->allows[i], listener) &&
            policy_reduce(old, listener, &group, 1) == 0)
            return true;
    }
    return false;
}

size_t policy_tables(const struct policy *policy)
{
    size_t n = 0;

    for (size_t i = 0; i < policy->ntables; i++)
        n += !policy->tables[i].gone;
    return n;
}

size_t policy_listeners(const struct policy *policy)
{
    size_t n = 0;

    for (size_t i = 0; i < policy->nlistens; i++)
        n += !policy->listens[i].gone;
    return n;
}

static void count(enum policy_change change, unsigned *added, unsigned *removed, unsigned *changed)
{
    *added += change == POLICY_ADDED;
    *removed += change == POLICY_REMOVED;
    *changed += change == POLICY_TUNED || change == POLICY_ANEW;
}

struct policy_changes policy_compare(const struct policy *old, const struct policy *new)
{
    struct policy_changes c = {.others = old->loaders != new->loaders ||
                                         old->control_gid != new->control_gid ||
                                         !same_sections(old, new) || !same_limits(old, new)};

    for (size_t i = 0; i < new->nlistens; i++)
        count(policy_listen_change(old, new, i), &c.listens_added, &c.listens_removed,
              &c.listens_changed);
    for (size_t i = 0; i < new->ntables; i++)
        count(policy_table_change(old, new, i), &c.tables_added, &c.tables_removed,
              &c.tables_changed);
    c.approvals_added = more_approvals(new, old);
    c.approvals_removed = more_approvals(old, new);
    return c;
}

bool policy_is_changed(const struct policy_changes *c)
{
    return c->others || c->listens_added + c->listens_removed + c->listens_changed > 0 ||
           c->tables_added + c->tables_removed + c->tables_changed > 0 ||
           c->approvals_added + c->approvals_removed > 0;
}

const char *policy_needs_restart(const struct policy *old, const struct policy *new)
{
    if (old->uid != new->uid || old->gid != new->gid)
        return "user";
    if (old->strict != new->strict)
        return "sandbox";
    if (strcmp(old->runtime_dir, new->runtime_dir) != 0)
        return "runtime-dir";
    if (strcmp(old->libexec_dir, new->libexec_dir) != 0)
        return "libexec-dir";
    return NULL;
}
