/*
 * Watches what each uid looks up, on all its workers together, and tells the monitor when a limit
 * is reached and when it is kept again. Runs in the census, on pages that workers write. It decides
 * of a uid by the pages of that uid alone, and has nothing but a uid and counts to say.
 */
#include "server/census/census.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 250

static bool has_limit(const struct watch *w)
{
    return w->limits[LIMIT_LOOKUPS] > 0 || w->limits[LIMIT_MISSES] > 0;
}

static bool is_open(const struct watch *w)
{
    return w->episodes[LIMIT_LOOKUPS].open || w->episodes[LIMIT_MISSES].open;
}

static struct watch *find(const struct census *census, uint32_t uid)
{
    for (size_t i = 0; i < census->nwatches; i++)
        if (census->watches[i].used && census->watches[i].uid == uid)
            return &census->watches[i];
    return NULL;
}

static void begin(struct watch *w, uint64_t now)
{
    w->more = (struct lookups){0};
    w->limited = 0;
    for (unsigned i = 0; i < LIMIT_KINDS; i++)
        window_begin(&w->windows[i], (enum bridge_limit)i, now);
}

bool watch_worker(struct census *census, struct worker *worker, uint64_t now)
{
    struct watch *w = find(census, worker->is.uid), *grown;
    size_t i = 0;

    if (w == NULL) {
        while (i < census->nwatches && census->watches[i].used)
            i++;
        if (i == census->nwatches) {
            grown = realloc(census->watches, (i + 1) * sizeof *grown);
            if (grown == NULL)
                return false;
            census->watches = grown;
            census->nwatches++;
        }
        w = &census->watches[i];
        *w = (struct watch){.used = true, .uid = worker->is.uid};
        begin(w, now);
    }
    for (unsigned k = 0; k < LIMIT_KINDS; k++)
        w->anew[k] = w->episodes[k].on;
    w->workers++;
    worker->watch = (size_t)(w - census->watches);
    worker->marked = worker->is.fresh != 0;
    return true;
}

/* What has come since the look before. A page that is not fresh brings what was counted before. */
static void take(struct census *census, struct worker *worker)
{
    const struct counters_seen *seen = worker->seen;
    struct watch *w = &census->watches[worker->watch];

    if (!counters_glance(worker->seen, worker->page))
        return;
    if (worker->marked) {
        w->more.lookups = counters_plus(w->more.lookups, seen->lookups - worker->mark.lookups);
        w->more.misses = counters_plus(w->more.misses, seen->misses - worker->mark.misses);
        w->limited = counters_plus(w->limited, seen->limited - worker->limited);
    }
    worker->marked = true;
    worker->mark = (struct lookups){seen->lookups, seen->misses};
    worker->limited = seen->limited;
}

void watch_ended(struct census *census, struct worker *worker)
{
    take(census, worker);
    census->watches[worker->watch].workers--;
}

void watch_limits(struct census *census, const struct worker *worker, uint64_t now)
{
    struct watch *w = &census->watches[worker->watch];
    bool had = has_limit(w);

    memcpy(w->limits, worker->state.limits, sizeof w->limits);
    /* What nobody has looked at has been when there was no limit. */
    if (w->told && !had && has_limit(w)) {
        for (size_t i = 0; i < census->nworkers; i++)
            if (census->workers[i].used && census->workers[i].is.uid == w->uid)
                take(census, &census->workers[i]);
        begin(w, now);
    }
    w->told = true;
}

static bool tell(const struct watch *w, enum bridge_limit limit, unsigned news,
                 const struct episode *e, uint64_t now)
{
    bool ends = news == LIMIT_ENDS;
    struct lookups counts = ends ? e->counts : window_sum(&w->windows[limit]);
    struct msg_limit body = {
        counts.lookups, counts.misses, e->limited, ends ? (now - e->begun) / 1000 : 0,
        w->uid,         limit,         news,       0};

    return census_say(&body);
}

/* What the monitor does not take now is found again at the next look. */
static void judge(struct watch *w, enum bridge_limit limit, uint64_t now)
{
    struct lookups sum = window_sum(&w->windows[limit]);
    struct episode next = w->episodes[limit];
    uint64_t n = limit == LIMIT_LOOKUPS ? sum.lookups : sum.misses;
    unsigned news = episode_judge(&next, limit, w->limits[limit], n, now);

    if (news == LIMIT_BEGINS) {
        next.counts = sum;
        next.limited = 0;
        next.since = (uint64_t)time(NULL);
    }
    /* The monitor has no use for what it hears of a uid that has no worker at the moment. */
    if (news == 0 && w->anew[limit] && next.on)
        news = LIMIT_RESUMES;
    if (news == 0 || tell(w, limit, news, &next, now)) {
        w->episodes[limit] = next;
        w->anew[limit] = false;
    }
}

static void look(struct watch *w, uint64_t now)
{
    bool empty = true;

    for (unsigned i = 0; i < LIMIT_KINDS; i++) {
        struct episode *e = &w->episodes[i];

        window_add(&w->windows[i], w->more, now);
        empty &= window_sum(&w->windows[i]).lookups == 0;
        if (e->open) {
            e->counts.lookups = counters_plus(e->counts.lookups, w->more.lookups);
            e->counts.misses = counters_plus(e->counts.misses, w->more.misses);
            e->limited = counters_plus(e->limited, w->limited);
        }
        judge(w, (enum bridge_limit)i, now);
    }
    w->more = (struct lookups){0};
    w->limited = 0;
    /* Who leaves and comes back soon is the same as before. */
    w->used = w->workers > 0 || is_open(w) || (!empty && has_limit(w));
}

uint64_t watch_look(struct census *census, uint64_t now)
{
    bool any = false;

    for (size_t i = 0; i < census->nwatches; i++) {
        struct watch *w = &census->watches[i];

        w->used = w->used && (w->workers > 0 || has_limit(w) || is_open(w));
        any |= w->used && (has_limit(w) || is_open(w));
    }
    if (!any)
        return UINT64_MAX;
    if (now < census->look_at)
        return census->look_at;
    for (size_t i = 0; i < census->nworkers; i++)
        if (census->workers[i].used)
            take(census, &census->workers[i]);
    for (size_t i = 0; i < census->nwatches; i++)
        if (census->watches[i].used)
            look(&census->watches[i], now);
    census->look_at = now + LOOK_MS;
    return census->look_at;
}

uint64_t watch_since(const struct census *census, uint32_t uid)
{
    const struct watch *w = find(census, uid);
    uint64_t since = 0;

    for (unsigned i = 0; w != NULL && i < LIMIT_KINDS; i++)
        if (w->episodes[i].open && (since == 0 || w->episodes[i].since < since))
            since = w->episodes[i].since;
    return since;
}
