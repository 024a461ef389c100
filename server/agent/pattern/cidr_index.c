/*
 * The index of a table of networks: see cidr.h. Runs in jailmap-agent-pattern, while it reads its
 * table, and for each key. Each rule stands for one or more ranges of addresses, what is left of
 * them by the ifs around it; a sweep over the bounds of all ranges finds the first rule between
 * each two of them. Ifs behind `!` in one another cut the addresses into ever more ranges, and so
 * an index that would take too much time or memory is not made.
 */
#include "server/agent/pattern/cidr.h"

#include <stdlib.h>

#define NONE SIZE_MAX

struct range {
    cidr_number low, high;
    size_t rule;
};

struct ranges {
    struct range *at;
    size_t count, cap;
};

/* Addresses that get through all ifs that are open, as ranges of one family or, outside of any if,
 * of both. */
struct gate {
    struct ranges pass[CIDR_FAMILIES];
};

struct builder {
    const struct cidr_table *table;
    struct gate *gates; /* one in another */
    size_t open, gates_cap;
    struct ranges all[CIDR_FAMILIES];
    size_t left; /* ranges that may still be looked at or made */
    bool no_memory;
};

static bool push(struct builder *b, struct ranges *to, cidr_number low, cidr_number high,
                 size_t rule)
{
    if (to->count == to->cap) {
        size_t cap = to->cap * 2 + 4;
        struct range *grown = realloc(to->at, cap * sizeof *grown);

        b->no_memory |= grown == NULL;
        if (grown == NULL)
            return false;
        to->at = grown;
        to->cap = cap;
    }
    to->at[to->count++] = (struct range){low, high, rule};
    return true;
}

/* What a gate lets pass of low to high. */
static bool push_passing(struct builder *b, const struct ranges *pass, struct ranges *to,
                         cidr_number low, cidr_number high, size_t rule)
{
    for (size_t i = 0; i < pass->count; i++) {
        const struct range *p = &pass->at[i];

        if (b->left == 0)
            return false;
        b->left--;
        if (p->low <= high && low <= p->high &&
            !push(b, to, p->low > low ? p->low : low, p->high < high ? p->high : high, rule))
            return false;
    }
    return true;
}

/* NOLINTBEGIN(clang-analyzer-unix.Malloc): the builder keeps its gates */
static bool push_rule(struct builder *b, const struct cidr_rule *rule, struct ranges *to,
                      size_t number)
{
    const struct ranges *pass = &b->gates[b->open].pass[rule->family];

    if (!rule->negated)
        return push_passing(b, pass, to, rule->low, rule->high, number);
    if (rule->low > 0 && !push_passing(b, pass, to, 0, rule->low - 1, number))
        return false;
    return rule->high == cidr_highest(rule->family) ||
           push_passing(b, pass, to, rule->high + 1, cidr_highest(rule->family), number);
}

static struct gate *open_gate(struct builder *b)
{
    if (b->open + 2 > b->gates_cap) {
        size_t cap = b->gates_cap * 2 + 2;
        struct gate *grown = realloc(b->gates, cap * sizeof *grown);

        b->no_memory |= grown == NULL;
        if (grown == NULL)
            return NULL;
        memset(grown + b->gates_cap, 0, (cap - b->gates_cap) * sizeof *grown);
        b->gates = grown;
        b->gates_cap = cap;
    }
    return &b->gates[b->open + 1];
}

static void close_gate(struct builder *b)
{
    for (int f = 0; f < CIDR_FAMILIES; f++)
        free(b->gates[b->open].pass[f].at);
    b->gates[b->open--] = (struct gate){0};
}

/* All ranges of all rules. False: too many, or no memory. */
static bool gather(struct builder *b)
{
    for (size_t i = 0; i < b->table->count; i++) {
        const struct cidr_rule *rule = &b->table->rules[i];
        struct gate *gate;

        if (rule->kind == CIDR_ENDIF) {
            close_gate(b);
        } else if (rule->kind == CIDR_RULE) {
            if (!push_rule(b, rule, &b->all[rule->family], i))
                return false;
        } else {
            bool made;

            gate = open_gate(b);
            made = gate != NULL && push_rule(b, rule, &gate->pass[rule->family], i);
            if (gate != NULL)
                b->open++;
            if (!made)
                return false;
        }
    }
    return true;
}

/* NOLINTEND(clang-analyzer-unix.Malloc) */

/* ---- sweep ---- */

static void sift_down(struct range *at, size_t i, size_t count)
{
    struct range moved = at[i];
    size_t child;

    while ((child = 2 * i + 1) < count) {
        child += child + 1 < count && at[child + 1].low > at[child].low;
        if (at[child].low <= moved.low)
            break;
        at[i] = at[child];
        i = child;
    }
    at[i] = moved;
}

/* Where ranges begin, in order. qsort(3) asks the kernel how much memory there is. */
static void sort_by_low(struct ranges *all)
{
    for (size_t i = all->count / 2; i > 0; i--)
        sift_down(all->at, i - 1, all->count);
    for (size_t left = all->count; left > 1; left--) {
        struct range highest = all->at[0];

        all->at[0] = all->at[left - 1];
        all->at[left - 1] = highest;
        sift_down(all->at, 0, left - 1);
    }
}

/* A heap of ranges, by their rule: the first rule is at the top. */
static void heap_add(const struct range **heap, size_t *count, const struct range *range)
{
    size_t i = (*count)++;

    while (i > 0 && heap[(i - 1) / 2]->rule > range->rule) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = range;
}

static void heap_drop_top(const struct range **heap, size_t *count)
{
    const struct range *last = heap[--*count];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < *count) {
        child += child + 1 < *count && heap[child + 1]->rule < heap[child]->rule;
        if (heap[child]->rule >= last->rule)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
}

/* The first rule may change where a range begins, and behind the end of its own. There are no more
 * such places than bounds, and address 0. */
static void sweep(const struct ranges *all, cidr_number highest, const struct range **heap,
                  struct cidr_index *index)
{
    size_t open = 0, next = 0, rule;
    cidr_number at = 0, behind = 0;
    bool more = true;

    while (more) {
        while (next < all->count && all->at[next].low == at)
            heap_add(heap, &open, &all->at[next++]);
        while (open > 0 && heap[0]->high < at)
            heap_drop_top(heap, &open);
        rule = open > 0 ? heap[0]->rule : NONE;
        if (index->count == 0 || index->ranges[index->count - 1].rule != rule)
            index->ranges[index->count++] = (struct cidr_range){at, rule};
        more = open > 0 && heap[0]->high < highest;
        behind = more ? heap[0]->high + 1 : 0;
        at =
            next < all->count && (!more || all->at[next].low < behind) ? all->at[next].low : behind;
        more |= next < all->count;
    }
}

/* False: no memory. */
static bool build(struct ranges *all, enum cidr_family family, struct cidr_index *index)
{
    const struct range **heap = calloc(all->count + 1, sizeof *heap);

    index->count = 0;
    index->ranges = calloc(all->count * 2 + 1, sizeof *index->ranges);
    if (heap != NULL && index->ranges != NULL) {
        sort_by_low(all);
        sweep(all, cidr_highest(family), heap, index);
    }
    free(heap);
    return heap != NULL && index->ranges != NULL;
}

/* The gate outside of all ifs; it is at 1, so that none is open at 0. */
static bool outermost(struct builder *b)
{
    if (open_gate(b) == NULL)
        return false;
    b->open = 1;
    return push(b, &b->gates[1].pass[CIDR_IPV4], 0, cidr_highest(CIDR_IPV4), 0) &&
           push(b, &b->gates[1].pass[CIDR_IPV6], 0, cidr_highest(CIDR_IPV6), 0);
}

bool cidr_build_index(struct cidr_table *t)
{
    struct builder b = {.table = t, .left = 32 * t->count + 65536};

    t->indexed = outermost(&b) && gather(&b) &&
                 build(&b.all[CIDR_IPV4], CIDR_IPV4, &t->index[CIDR_IPV4]) &&
                 build(&b.all[CIDR_IPV6], CIDR_IPV6, &t->index[CIDR_IPV6]);
    while (b.open > 0)
        close_gate(&b);
    free(b.gates);
    for (int f = 0; f < CIDR_FAMILIES; f++)
        free(b.all[f].at);
    return t->indexed || !b.no_memory;
}

size_t cidr_index_find(const struct cidr_index *index, cidr_number address)
{
    size_t low = 0, high = index->count;

    if (index->count == 0)
        return NONE;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;

        if (index->ranges[middle].from <= address)
            low = middle;
        else
            high = middle;
    }
    return index->ranges[low].rule;
}
