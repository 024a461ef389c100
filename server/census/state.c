/*
 * What the census knows. Runs in the census, on the monitor's messages and on pages that workers
 * write. It may map those pages, to be read; it must never take a number of a page for more than a
 * number, nor grow with anything but the policy and the workers that there are.
 */
#include "server/census/census.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy/policy.h"

#define INDEX_MOST 65536 /* of tables, listeners and places: far beyond what a policy can have */

/* Makes room for that index; what is new is zero. */
static bool reserve(void *array, size_t *count, size_t size, uint32_t index)
{
    void **at = array;
    char *grown;

    if (index < *count)
        return true;
    if (index >= INDEX_MOST)
        return false;
    grown = realloc(*at, (index + 1) * size);
    if (grown == NULL)
        return false;
    memset(grown + *count * size, 0, (index + 1 - *count) * size);
    *at = grown;
    *count = index + 1;
    return true;
}

/* The tail of a message as printable text, in the place of what was there. */
static bool take_text(char **text, const struct bridge_msg *msg,
                      char *(*write)(struct slice, char *, size_t))
{
    size_t size = 4 * msg->tail_len + 8;
    char *fresh = malloc(size);

    if (fresh == NULL)
        return false;
    write((struct slice){msg->tail, msg->tail_len}, fresh, size);
    free(*text);
    *text = fresh;
    return true;
}

struct compartment *census_compartment(struct census *census, uint32_t uid, uint32_t listener)
{
    struct compartment *c = census->compartments, *idle = NULL;
    size_t n = census->ncompartments;

    for (size_t i = 0; i < n; i++) {
        bool busy = false;

        if (c[i].uid == uid && c[i].listener == listener)
            return &c[i];
        for (size_t w = 0; idle == NULL && w < census->nworkers && !busy; w++)
            busy = census->workers[w].used && census->workers[w].is.uid == c[i].uid &&
                   census->workers[w].is.listener == c[i].listener;
        if (idle == NULL && !busy)
            idle = &c[i];
    }
    if (n < COMPARTMENTS_MOST || idle == NULL) {
        if (!reserve(&census->compartments, &census->ncompartments, sizeof *c, (uint32_t)n))
            return NULL;
        idle = &census->compartments[n];
    }
    *idle = (struct compartment){.uid = uid, .listener = listener};
    return idle;
}

bool census_counts_for(const struct census *census, const struct worker *w, size_t slot)
{
    return slot < w->is.slots && slot < census->ntables && census->tables[slot].since <= w->since;
}

/* A worker has ended: what it counted stays. */
static void fold(struct census *census, struct worker *w)
{
    struct compartment *c = census_compartment(census, w->is.uid, w->is.listener);

    counters_look(w->seen, w->page, w->is.slots);
    watch_ended(census, w);
    for (size_t i = 0; i <= w->is.slots; i++) {
        const struct counters_sum *sum = &w->seen->slots[i];

        counters_add(census_counts_for(census, w, i) ? &census->tables[i].ended : &census->others,
                     sum);
        if (c != NULL)
            counters_add(&c->lookups, sum);
    }
    if (c != NULL) {
        c->requests = counters_plus(c->requests, w->seen->requests);
        c->denied = counters_plus(c->denied, w->seen->denied);
        c->limited = counters_plus(c->limited, w->seen->limited);
    }
    munmap((void *)w->page, counters_size(w->is.slots));
    free(w->seen);
    *w = (struct worker){0};
}

/* PAGE: place, uid, listener, slots; the page. */
static bool take_page(struct census *census, const struct msg_page *page, int fd)
{
    struct worker *w;
    void *map = MAP_FAILED;

    if (page->slots <= COUNTERS_SLOTS &&
        reserve(&census->workers, &census->nworkers, sizeof *w, page->place))
        map = mmap(NULL, counters_size(page->slots), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return false;
    w = &census->workers[page->place];
    if (w->used)
        fold(census, w);
    *w = (struct worker){.used = true,
                         .is = *page,
                         .state = {.place = page->place},
                         .since = census->names,
                         .page = map,
                         .seen = calloc(1, counters_seen_size(page->slots))};
    return w->seen != NULL && watch_worker(census, w, census_now()) &&
           census_compartment(census, page->uid, page->listener) != NULL;
}

static bool take_table_state(struct census *census, const struct bridge_msg *msg)
{
    const struct msg_table_state *state = &msg->body.TABLE_STATE;

    if (!reserve(&census->tables, &census->ntables, sizeof *census->tables, state->table))
        return false;
    census->tables[state->table].state = *state;
    return take_text(&census->tables[state->table].failure, msg, policy_printable);
}

static bool take_agent_state(struct census *census, const struct bridge_msg *msg)
{
    const struct msg_agent_state *state = &msg->body.AGENT_STATE;

    if (!reserve(&census->tables, &census->ntables, sizeof *census->tables, state->table))
        return false;
    census->tables[state->table].agent = *state;
    return take_text(&census->tables[state->table].trouble, msg, policy_printable);
}

/* What was counted on a listener that has gone is forgotten with it. */
static void forget_compartments(struct census *census, uint32_t listener)
{
    size_t left = 0;

    for (size_t i = 0; i < census->ncompartments; i++)
        if (census->compartments[i].listener != listener)
            census->compartments[left++] = census->compartments[i];
    memset(census->compartments + left, 0,
           (census->ncompartments - left) * sizeof *census->compartments);
    census->ncompartments = left;
}

static bool take_listener(struct census *census, const struct bridge_msg *msg)
{
    const struct msg_listener *limits = &msg->body.LISTENER;
    const char *path;

    if (!reserve(&census->listeners, &census->nlisteners, sizeof *census->listeners,
                 limits->listener))
        return false;
    path = census->listeners[limits->listener].path;
    if (msg->tail_len == 0 || (path != NULL && path[0] == '\0'))
        forget_compartments(census, limits->listener);
    census->listeners[limits->listener].limits = *limits;
    return take_text(&census->listeners[limits->listener].path, msg, policy_escape);
}

/* Another name is another table, of which nothing is known yet. */
static bool take_name(struct census *census, const struct bridge_msg *msg)
{
    uint32_t index = msg->body.TABLE_NAME.table;
    char *before, *name = NULL;
    struct table *t;

    if (!take_text(&name, msg, policy_escape))
        return false;
    if (!reserve(&census->tables, &census->ntables, sizeof *t, index)) {
        free(name);
        return false;
    }
    t = &census->tables[index];
    before = t->name;
    t->name = name;
    if (before == NULL || strcmp(before, name) == 0) {
        free(before);
        return true;
    }
    counters_add(&census->others, &t->ended);
    free(t->failure);
    free(t->trouble);
    free(before);
    *t = (struct table){.name = name, .since = ++census->names};
    return true;
}

bool census_hear(struct census *census, const struct bridge_msg *msg)
{
    uint32_t place;

    switch (msg->type) {
    case MSG_DAEMON: /* since, pid; version */
        census->daemon = msg->body.DAEMON;
        return take_text(&census->version, msg, policy_printable);
    case MSG_POLICY: /* since; why it was not read */
        census->policy = msg->body.POLICY;
        return take_text(&census->policy_failure, msg, policy_printable);
    case MSG_LISTENER: /* index, limits; path */
        return take_listener(census, msg);
    case MSG_TABLE_NAME: /* index; name */
        return take_name(census, msg);
    case MSG_TABLE_STATE: /* what is known of one; why it cannot be loaded */
        return take_table_state(census, msg);
    case MSG_AGENT_STATE: /* what is known of one; why it does not answer */
        return take_agent_state(census, msg);
    case MSG_PAGE:
        return take_page(census, &msg->body.PAGE, msg->fds[0]);
    case MSG_WORKER_STATE: /* place, clients, served, pid, limits */
        place = msg->body.WORKER_STATE.place;
        if (place < census->nworkers && census->workers[place].used) {
            census->workers[place].state = msg->body.WORKER_STATE;
            watch_limits(census, &census->workers[place], census_now());
        }
        return true;
    case MSG_ENDED: /* place */
        place = msg->body.ENDED.place;
        if (place < census->nworkers && census->workers[place].used)
            fold(census, &census->workers[place]);
        return true;
    default:
        return false;
    }
}

void census_look(struct census *census)
{
    for (size_t i = 0; i < census->nworkers; i++)
        if (census->workers[i].used)
            counters_look(census->workers[i].seen, census->workers[i].page,
                          census->workers[i].is.slots);
}
