/*
 * Tables of regular expressions: see expr.h. Runs in jailmap-agent-pattern; touches memory only.
 */
#include "server/agent/pattern/expr.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/agent/pattern/grammar.h"

struct part {
    void *compiled; /* NULL: there is none */
    bool negated;
};

struct rule {
    size_t line;
    bool is_if;
    size_t skip; /* of an if that does not match: the rule to go on with */
    struct part first, second;
    struct result result;
};

struct expr_table {
    const struct engine *engine;
    const char *file;
    struct rule *rules;
    size_t count, cap;
    size_t open; /* the innermost if that is open, as an index, and through skip those around it */
    unsigned groups;
    void *scratch;
    struct span *spans;
    struct text value, key;
    size_t at; /* rule that is being matched */
};

#define NONE SIZE_MAX

/* ---- parsing ---- */

static bool options_of(const struct engine *engine, struct slice letters, uint32_t *options,
                       char *why, size_t len)
{
    struct text_quoted quoted;

    *options = engine->initially;
    for (size_t i = 0; i < letters.len; i++) {
        const struct engine_letter *l = engine->letters;

        while (l->letter != '\0' && l->letter != letters.ptr[i])
            l++;
        if (l->letter == '\0') {
            snprintf(why, len,
                     "\"%s\" behind the pattern is no flag; expected %s, and white space before "
                     "the result",
                     text_quote(&quoted, (struct slice){letters.ptr + i, 1}),
                     engine->type == TYPE_PCRE ? "i, s, m, x, A, E, U or X" : "i, m or x");
            return false;
        }
        *options ^= l->options;
    }
    return true;
}

static bool compile_part(const struct engine *engine, const struct expression *e, bool groups,
                         struct part *part, char *why, size_t len)
{
    uint32_t options;

    if (!options_of(engine, e->letters, &options, why, len))
        return false;
    part->negated = e->negated;
    part->compiled = engine->compile(e->pattern, options, groups, why, len);
    return part->compiled != NULL;
}

static void discard_rule(const struct engine *engine, struct rule *rule)
{
    if (rule->first.compiled != NULL)
        engine->discard(rule->first.compiled);
    if (rule->second.compiled != NULL)
        engine->discard(rule->second.compiled);
    result_free(&rule->result);
}

/* False, and why. The caller discards the rule in both cases. */
static bool build_rule(const struct engine *engine, const struct statement *s, struct rule *rule,
                       char *why, size_t len)
{
    unsigned highest;

    if (!result_parse(s->result, &rule->result, why, len))
        return false;
    highest = rule->result.highest;
    if (highest > 0 && s->first.negated) {
        snprintf(why, len,
                 "the result has $%u, but a pattern behind `!` has found nothing that "
                 "could stand for it; expected a result without $, or $$ for a dollar "
                 "sign",
                 highest);
        return false;
    }
    if (!compile_part(engine, &s->first, highest > 0, &rule->first, why, len) ||
        (s->has_second && !compile_part(engine, &s->second, false, &rule->second, why, len)))
        return false;
    if (highest > engine->groups(rule->first.compiled)) {
        snprintf(why, len,
                 "the result has $%u, and the pattern has %u groups; expected no higher "
                 "number",
                 highest, engine->groups(rule->first.compiled));
        return false;
    }
    return true;
}

static bool append(struct expr_table *t, const struct rule *rule)
{
    if (t->count == t->cap) {
        size_t cap = t->cap * 2 + 16;
        struct rule *grown = realloc(t->rules, cap * sizeof *grown);

        if (grown == NULL)
            return false;
        t->rules = grown;
        t->cap = cap;
    }
    t->rules[t->count++] = *rule;
    if (rule->is_if) { /* until its endif comes, skip leads to the if around it */
        t->rules[t->count - 1].skip = t->open;
        t->open = t->count - 1;
    }
    if (rule->result.highest > t->groups)
        t->groups = rule->result.highest;
    return true;
}

static bool close_if(struct expr_table *t)
{
    size_t around;

    if (t->open == NONE)
        return false;
    around = t->rules[t->open].skip;
    t->rules[t->open].skip = t->count;
    t->open = around;
    return true;
}

/* False: out of memory for the table as a whole. */
static bool take_line(struct expr_table *t, struct rules *rules, const struct rule_line *line)
{
    struct statement s;
    struct rule rule = {.line = line->number};
    char why[320];

    if (!statement_parse(line->text, t->engine->seconds, &s, why, sizeof why)) {
        rules_skip(rules, line->number, "%s", why);
        return true;
    }
    if (s.kind == STATEMENT_ENDIF) {
        if (!close_if(t))
            rules_skip(rules, line->number, "an endif without an if before it; expected none");
        return true;
    }
    rule.is_if = s.kind == STATEMENT_IF;
    if (build_rule(t->engine, &s, &rule, why, sizeof why)) {
        if (append(t, &rule))
            return true;
        discard_rule(t->engine, &rule);
        return false;
    }
    rules_skip(rules, line->number, "%s", why);
    discard_rule(t->engine, &rule);
    return true;
}

struct expr_table *expr_parse(const struct engine *engine, struct rules *rules)
{
    struct expr_table *t = calloc(1, sizeof *t);
    struct rule_line line;
    bool taken = true;

    if (t == NULL)
        return NULL;
    t->engine = engine;
    t->file = rules->file;
    t->open = NONE;
    while (taken && rules_next(rules, &line))
        taken = take_line(t, rules, &line);
    while (t->open != NONE) /* the rest of the table belongs to an if that is not closed */
        close_if(t);
    t->spans = calloc((size_t)t->groups + 1, sizeof *t->spans);
    t->scratch = engine->start(t->groups);
    if (taken && t->spans != NULL && t->scratch != NULL)
        return t;
    expr_free(t);
    return NULL;
}

void expr_free(struct expr_table *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->count; i++)
        discard_rule(t->engine, &t->rules[i]);
    if (t->scratch != NULL)
        t->engine->stop(t->scratch);
    free(t->rules);
    free(t->spans);
    free(t->value.ptr);
    free(t->key.ptr);
    free(t);
}

size_t expr_count(const struct expr_table *t)
{
    return t->count;
}

/* ---- finding ---- */

/* The key with a NUL behind it, which regexec(3) is promised even if it is told the length. */
static bool copy_key(struct expr_table *t, struct slice *key)
{
    t->key.len = 0;
    if (text_append(&t->key, *key) != 0 || text_append(&t->key, (struct slice){"", 1}) != 0)
        return false;
    key->ptr = t->key.ptr;
    return true;
}

static void note_bytes(struct subject *subject)
{
    for (size_t i = 0; i < subject->key.len; i++) {
        unsigned char c = (unsigned char)subject->key.ptr[i];

        subject->bytes[c / 64] |= UINT64_C(1) << c % 64;
    }
}

static enum match match_part(struct expr_table *t, const struct part *part,
                             const struct subject *subject, unsigned groups, const char **why)
{
    enum match m = t->engine->match(t->scratch, part->compiled, subject,
                                    groups > 0 ? t->spans : NULL, groups, why);

    if (m == MATCH_FAILS || !part->negated)
        return m;
    return m == MATCH_YES ? MATCH_NO : MATCH_YES;
}

static enum match match_rule(struct expr_table *t, const struct rule *rule,
                             const struct subject *subject, const char **why)
{
    enum match m = match_part(t, &rule->first, subject, rule->result.highest, why);

    if (m != MATCH_YES || rule->second.compiled == NULL)
        return m;
    m = match_part(t, &rule->second, subject, 0, why);
    return m == MATCH_FAILS ? m : m == MATCH_YES ? MATCH_NO : MATCH_YES;
}

const char *expr_at(const struct expr_table *t, struct rule_place *place)
{
    return rules_place(place, t->file, t->at < t->count ? t->rules[t->at].line : 0);
}

static enum expr_found fail(struct expr_table *t, const char *why, struct slice *value)
{
    static char text[512];
    struct rule_place place;

    snprintf(text, sizeof text,
             "%s: %s; until the rule is another, such keys get a temporary error",
             expr_at(t, &place), why);
    *value = (struct slice){text, strlen(text)};
    return EXPR_FAILS;
}

enum expr_found expr_find(struct expr_table *t, struct slice key, bool regsub, size_t limit,
                          struct slice *value)
{
    struct subject subject = {.key = key};
    const char *why = "out of memory";

    t->at = 0;
    if (!copy_key(t, &subject.key))
        return fail(t, why, value);
    note_bytes(&subject);
    for (size_t i = 0; i < t->count;) {
        const struct rule *rule = &t->rules[i];
        enum match m;

        i++;
        if (!regsub && rule->result.highest > 0)
            continue;
        t->at = i - 1;
        m = match_rule(t, rule, &subject, &why);
        if (m == MATCH_FAILS)
            return fail(t, why, value);
        if (rule->is_if && m == MATCH_NO)
            i = rule->skip;
        if (rule->is_if || m == MATCH_NO)
            continue;
        if (!result_expand(&rule->result, key, t->spans, limit, &t->value))
            return fail(t, "the result is longer than 256 KiB", value);
        *value = (struct slice){t->value.ptr, t->value.len};
        return EXPR_FOUND;
    }
    return EXPR_NOT_FOUND;
}

void expr_clear(struct expr_table *t)
{
    t->engine->clear(t->scratch);
}
