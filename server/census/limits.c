/*
 * The arithmetic of limits: see limits.h. Runs in the census, on numbers that workers write, and
 * touches the memory that it is given and nothing else.
 */
#include "server/census/limits.h"

#include <string.h>

#include "server/counters.h"

static const struct {
    unsigned slices, width, quiet; /* ms */
} kinds[LIMIT_KINDS] = {
    [LIMIT_LOOKUPS] = {4, 250, 10000},
    [LIMIT_MISSES] = {60, 1000, 60000},
};

void window_begin(struct window *w, enum bridge_limit limit, uint64_t now)
{
    *w = (struct window){.slices = kinds[limit].slices, .width = kinds[limit].width};
    w->latest = now / w->width;
}

static void add(struct lookups *to, uint64_t lookups, uint64_t misses)
{
    to->lookups = counters_plus(to->lookups, lookups);
    to->misses = counters_plus(to->misses, misses);
}

void window_add(struct window *w, struct lookups more, uint64_t now)
{
    uint64_t slice = now / w->width, passed = slice > w->latest ? slice - w->latest : 0;
    uint64_t shares = passed > 0 ? passed : 1, first;

    /* The rest that does not divide goes to the last. */
    first = passed > w->slices ? slice - w->slices + 1 : slice - passed + 1;
    for (uint64_t i = first; passed > 0 && i < slice; i++)
        w->parts[i % w->slices] = (struct lookups){more.lookups / shares, more.misses / shares};
    if (passed > 0)
        w->parts[slice % w->slices] = (struct lookups){0};
    w->latest += passed;
    add(&w->parts[w->latest % w->slices], more.lookups / shares + more.lookups % shares,
        more.misses / shares + more.misses % shares);
}

struct lookups window_sum(const struct window *w)
{
    struct lookups sum = {0};

    for (unsigned i = 0; i < w->slices; i++)
        add(&sum, w->parts[i].lookups, w->parts[i].misses);
    return sum;
}

unsigned episode_judge(struct episode *e, enum bridge_limit limit, uint32_t most, uint64_t sum,
                       uint64_t now)
{
    if (most > 0 && !e->on && sum >= most) {
        e->on = true;
        if (e->open)
            return LIMIT_RESUMES;
        e->open = true;
        e->begun = now;
        return LIMIT_BEGINS;
    }
    if (e->open && most == 0) {
        e->open = e->on = false;
        return LIMIT_ENDS;
    }
    if (e->on && sum <= most / 2) {
        e->on = false;
        e->rested = now;
        return LIMIT_RESTS;
    }
    if (e->open && !e->on && now - e->rested >= kinds[limit].quiet) {
        e->open = false;
        return LIMIT_ENDS;
    }
    return 0;
}
