/*
 * Keys to queries, and results to answers: see plan.h. Runs in the SQL agents. Touches its own
 * memory only. What a key or a value contains must never be taken for a part of a template.
 */
#include "server/agent/query/plan.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/fold.h"

#define LABELS 9 /* %1 to %9 */

#define OUT_OF_MEMORY "out of memory"

/* The parts of a key or a value that the expansions name. */
struct parts {
    struct slice all, user, domain;
    struct slice labels[LABELS]; /* of the domain, from the right */
    unsigned count;              /* of labels, at most LABELS */
};

/* What a template needs that not every key or value has. */
struct needs {
    bool user, domain;
    unsigned labels;
};

struct plan {
    const char *query_name; /* the parameter it is in */
    char *query;            /* templates, checked */
    char *format;
    struct text domains; /* a string, folded; .ptr NULL: any */
    unsigned limit;
    char limit_place[256];
    struct needs of_key, of_value;
    struct text key, domain, sql, answer;
    struct parts key_parts;
    unsigned values;
    const char *why; /* NULL: nothing has failed since plan_begin() */
    char limit_why[512];
};

/* ---- templates ---- */

static void need_domain(struct needs *needs, unsigned labels)
{
    needs->domain = true;
    if (labels > needs->labels)
        needs->labels = labels;
}

/* of: what the lower-case expansions stand for. Those in upper case and digits are the key's. */
static bool note_expansion(struct plan *plan, struct needs *of, char c)
{
    if (c == 'u')
        of->user = true;
    else if (c == 'd')
        need_domain(of, 0);
    else if (c == 'U')
        plan->of_key.user = true;
    else if (c == 'D')
        need_domain(&plan->of_key, 0);
    else if (c >= '1' && c <= '9')
        need_domain(&plan->of_key, (unsigned)(c - '0'));
    else
        return c == '%' || c == 's' || c == 'S';
    return true;
}

static bool check_template(struct plan *plan, struct params *params, const char *name,
                           const char *text, struct needs *of)
{
    for (const char *at = strchr(text, '%'); at != NULL; at = strchr(at + 2, '%'))
        if (!note_expansion(plan, of, at[1]))
            return params_fail(params, name,
                               "there is a %% that begins no expansion; %%s, %%u, %%d, %%S, %%U, "
                               "%%D, %%1 to %%9, or %%%% for a %% are expected");
    return true;
}

static char *copy(struct params *params, const char *name, const char *text)
{
    char *made = strdup(text);

    if (made == NULL)
        params_fail(params, name, OUT_OF_MEMORY);
    return made;
}

static bool set_query(struct plan *plan, struct params *params, const char *name,
                      const char *template)
{
    plan->query_name = name;
    plan->query = copy(params, name, template);
    return plan->query != NULL;
}

static bool read_function(struct plan *plan, struct params *params)
{
    static const char name[] = "select_function";
    char template[4096];
    const char *function;

    return params_need(params, name, "the name of an SQL function", &function) &&
           check_template(plan, params, name, function, &plan->of_key) &&
           (snprintf(template, sizeof template, "SELECT %s('%%s')", function) <
                (int)sizeof template ||
            params_fail(params, name, "a shorter name is expected")) &&
           set_query(plan, params, name, template);
}

/* A template can be wrong in any of these parameters; the message names that one. */
static bool read_select(struct plan *plan, struct params *params)
{
    static const char *const names[] = {"select_field", "table", "where_field"};
    static const char more[] = "additional_conditions";
    const char *part[3], *conditions = params_text(params, more, "");
    char *template = NULL;
    bool good;

    for (size_t i = 0; i < 3; i++)
        if (!params_need(params, names[i], "it, or query,", &part[i]) ||
            !check_template(plan, params, names[i], part[i], &plan->of_key))
            return false;
    if (!check_template(plan, params, more, conditions, &plan->of_key))
        return false;
    if (asprintf(&template, "SELECT %s FROM %s WHERE %s='%%s' %s", part[0], part[1], part[2],
                 conditions) < 0)
        return params_fail(params, "table", OUT_OF_MEMORY);
    good = set_query(plan, params, "table", template);
    free(template);
    return good;
}

static bool quotes_all(const char *template)
{
    char within = '\0';

    for (; *template != '\0'; template ++)
        if (*template == '%' && *++template != '%' && within != '\'')
            return false;
        else if (within == '\0' && (*template == '\'' || *template == '"'))
            within = *template;
        else if (*template == within)
            within = '\0';
    return true;
}

static bool read_query(struct plan *plan, struct params *params, enum table_type type)
{
    const char *query = params_text(params, "query", "");

    if (*query != '\0')
        return check_template(plan, params, "query", query, &plan->of_key) &&
               set_query(plan, params, "query", query);
    if (type == TYPE_PGSQL && params_given(params, "select_function"))
        return read_function(plan, params);
    if (!params_given(params, "table") && !params_given(params, "select_field"))
        return params_fail(params, "query", "an SQL query with '%%s' for the key is expected");
    return read_select(plan, params);
}

/* Known, whether or not they count: files have them beside `query`, too. */
static void know_older(struct params *params, enum table_type type)
{
    params_given(params, "select_field");
    params_given(params, "table");
    params_given(params, "where_field");
    params_given(params, "additional_conditions");
    if (type == TYPE_PGSQL)
        params_given(params, "select_function");
}

static bool read_format(struct plan *plan, struct params *params)
{
    const char *format = params_text(params, "result_format", "%s");

    if (*format == '\0')
        return params_fail(params, "result_format", "a template such as %%s is expected");
    plan->format = copy(params, "result_format", format);
    return plan->format != NULL &&
           check_template(plan, params, "result_format", format, &plan->of_value);
}

/* ---- domains ---- */

static bool next_item(const char **list, struct slice *item)
{
    static const char separators[] = ", \t\r\n";
    size_t len;

    *list += strspn(*list, separators);
    len = strcspn(*list, separators);
    *item = (struct slice){*list, len};
    *list += len;
    return len > 0;
}

/* Without the !s before it, of which an odd number negates. */
static struct slice plain_item(struct slice item, bool *negated)
{
    for (*negated = false; item.len > 0 && item.ptr[0] == '!'; item.ptr++, item.len--)
        *negated = !*negated;
    return item;
}

/* Such an item has a table or a file behind it. */
static bool is_reference(struct slice item)
{
    return item.len > 0 &&
           (item.ptr[0] == '/' || (item.ptr[0] != '[' && memchr(item.ptr, ':', item.len) != NULL));
}

static bool read_domains(struct plan *plan, struct params *params)
{
    const char *list = params_text(params, "domain", "");
    struct slice item;
    bool negated;

    if (*list == '\0')
        return true;
    if (fold_unicode(&plan->domains, (struct slice){list, strlen(list) + 1}) != 0)
        return params_fail(params, "domain", OUT_OF_MEMORY);
    while (next_item(&list, &item)) {
        item = plain_item(item, &negated);
        if (is_reference(item))
            return params_fail(params, "domain",
                               "%.*s is a file or a table, which the agent may not open; domain "
                               "names are expected: write them out here",
                               (int)(item.len < 80 ? item.len : 80), item.ptr);
    }
    return true;
}

/* The domain is folded as the list is. */
static bool is_listed(const char *list, struct slice domain)
{
    struct slice item;
    bool negated;

    while (next_item(&list, &item)) {
        item = plain_item(item, &negated);
        if (slice_same(item, domain))
            return !negated;
    }
    return false;
}

/* ---- beginning and end ---- */

struct plan *plan_read(struct params *params, enum table_type type)
{
    struct plan *plan = calloc(1, sizeof *plan);

    if (plan == NULL) {
        params_fail(params, "query", OUT_OF_MEMORY);
        return NULL;
    }
    know_older(params, type);
    if (read_query(plan, params, type) && read_format(plan, params) && read_domains(plan, params) &&
        params_number(params, "expansion_limit", 0, 0, INT_MAX, &plan->limit)) {
        if (!plan_is_quoted(plan))
            params_warn(params, plan->query_name,
                        "an expansion stands outside of single quotes, where a key can become a "
                        "part of the SQL; '%s' is expected");
        params_place(params, "expansion_limit", plan->limit_place, sizeof plan->limit_place);
        return plan;
    }
    plan_free(plan);
    return NULL;
}

void plan_free(struct plan *plan)
{
    if (plan == NULL)
        return;
    free(plan->query);
    free(plan->format);
    free(plan->domains.ptr);
    free(plan->key.ptr);
    free(plan->domain.ptr);
    free(plan->sql.ptr);
    free(plan->answer.ptr);
    free(plan);
}

/* ---- expansion ---- */

/* Labels are what is between dots; two dots have none between them. */
static void split_labels(struct parts *parts)
{
    size_t end = parts->domain.len, begin;

    for (parts->count = 0; parts->count < LABELS; end = begin) {
        while (end > 0 && parts->domain.ptr[end - 1] == '.')
            end--;
        for (begin = end; begin > 0 && parts->domain.ptr[begin - 1] != '.';)
            begin--;
        if (begin == end)
            return;
        parts->labels[parts->count++] = (struct slice){parts->domain.ptr + begin, end - begin};
    }
}

static struct parts split(struct slice s)
{
    const char *at = s.len > 0 ? memrchr(s.ptr, '@', s.len) : NULL;
    struct parts parts = {.all = s, .user = s};

    if (at != NULL) {
        parts.user.len = (size_t)(at - s.ptr);
        parts.domain = (struct slice){at + 1, s.len - parts.user.len - 1};
    }
    split_labels(&parts);
    return parts;
}

static bool has_all(const struct parts *parts, const struct needs *needs)
{
    return parts->all.len > 0 && (!needs->user || parts->user.len > 0) &&
           (!needs->domain || parts->domain.len > 0) && parts->count >= needs->labels;
}

static struct slice expansion(char c, const struct parts *value, const struct parts *key)
{
    switch (c) {
    case '%':
        return (struct slice)SLICE("%");
    case 's':
        return value->all;
    case 'u':
        return value->user;
    case 'd':
        return value->domain;
    case 'S':
        return key->all;
    case 'U':
        return key->user;
    case 'D':
        return key->domain;
    default:
        return key->labels[c - '1'];
    }
}

struct output {
    struct text *to;
    size_t max;
    plan_quote *quote; /* of expansions; NULL: as they are */
    void *arg;
};

static bool put(const struct output *out, struct slice s, bool quoted)
{
    /* Quoting makes none shorter. */
    if (out->to->len + s.len > out->max)
        return false;
    if (quoted && out->quote != NULL)
        return out->quote(out->arg, s, out->to) && out->to->len <= out->max;
    return text_append(out->to, s) == 0;
}

/* False: it is too long, or there is no memory. */
static bool expand(const struct output *out, const char *template, const struct parts *value,
                   const struct parts *key)
{
    const char *at = template;

    for (const char *sign; (sign = strchr(at, '%')) != NULL; at = sign + 2)
        if (!put(out, (struct slice){at, (size_t)(sign - at)}, false) ||
            !put(out, expansion(sign[1], value, key), sign[1] != '%'))
            return false;
    return put(out, (struct slice){at, strlen(at)}, false);
}

/* ---- queries ---- */

static enum plan_verdict cannot(struct plan *plan, const char *why)
{
    plan->why = why;
    return PLAN_CANNOT;
}

void plan_begin(struct plan *plan)
{
    plan->answer.len = 0;
    plan->values = 0;
    plan->why = NULL;
}

/* PLAN_ASK if there is no list of domains. With one, there must be an address. */
static enum plan_verdict domain_wanted(struct plan *plan, const struct parts *key)
{
    struct needs of_address = {true, true, 0};

    if (plan->domains.ptr == NULL)
        return PLAN_ASK;
    if (!has_all(key, &of_address))
        return PLAN_NOT_FOUND;
    if (fold_unicode(&plan->domain, key->domain) != 0)
        return cannot(plan, OUT_OF_MEMORY);
    return is_listed(plan->domains.ptr, (struct slice){plan->domain.ptr, plan->domain.len})
               ? PLAN_ASK
               : PLAN_NOT_FOUND;
}

enum plan_verdict plan_query(struct plan *plan, struct slice key, plan_quote *quote, void *arg,
                             struct slice *sql)
{
    struct output out = {&plan->sql, PLAN_SQL_MAX, quote, arg};
    enum plan_verdict verdict;

    plan_begin(plan);
    plan->key.len = plan->sql.len = 0;
    if (key.len == 0 || memchr(key.ptr, '\0', key.len) != NULL)
        return PLAN_NOT_FOUND;
    if (text_append(&plan->key, key) != 0)
        return cannot(plan, OUT_OF_MEMORY);
    plan->key_parts = split((struct slice){plan->key.ptr, plan->key.len});
    if (!has_all(&plan->key_parts, &plan->of_key))
        return PLAN_NOT_FOUND;
    verdict = domain_wanted(plan, &plan->key_parts);
    if (verdict != PLAN_ASK)
        return verdict;
    if (!expand(&out, plan->query, &plan->key_parts, &plan->key_parts) ||
        text_append(out.to, (struct slice){"", 1}) != 0)
        return cannot(plan, "its query would be longer than 1 MB, or there is no memory for it");
    *sql = (struct slice){plan->sql.ptr, plan->sql.len - 1};
    return PLAN_ASK;
}

enum plan_verdict plan_probe(struct plan *plan, struct slice *sql)
{
    static const struct slice one = SLICE("1");
    struct output out = {&plan->sql, PLAN_SQL_MAX, NULL, NULL};
    struct parts parts = {.all = one, .user = one, .domain = one, .count = LABELS};

    for (unsigned i = 0; i < LABELS; i++)
        parts.labels[i] = one;
    plan_begin(plan);
    plan->sql.len = 0;
    if (!expand(&out, plan->query, &parts, &parts) ||
        text_append(out.to, (struct slice){"", 1}) != 0)
        return cannot(plan, "the query is longer than 1 MB, or there is no memory for it");
    *sql = (struct slice){plan->sql.ptr, plan->sql.len - 1};
    return PLAN_ASK;
}

bool plan_is_quoted(const struct plan *plan)
{
    return quotes_all(plan->query);
}

const char *plan_query_name(const struct plan *plan)
{
    return plan->query_name;
}

/* ---- results ---- */

static bool over_limit(struct plan *plan)
{
    snprintf(plan->limit_why, sizeof plan->limit_why,
             "%s = %u: there are more values than that for one key", plan->limit_place,
             plan->limit);
    cannot(plan, plan->limit_why);
    return false;
}

bool plan_value(struct plan *plan, struct slice value)
{
    struct output out = {&plan->answer, BRIDGE_DATA_MAX, NULL, NULL};
    size_t before = plan->answer.len;
    struct parts parts;

    if (plan->why != NULL)
        return false;
    parts = split((struct slice){value.ptr, value.ptr != NULL ? strnlen(value.ptr, value.len) : 0});
    if (!has_all(&parts, &plan->of_value))
        return true;
    if (!put(&out, (struct slice){",", before > 0 ? 1 : 0}, false) ||
        !expand(&out, plan->format, &parts, &plan->key_parts)) {
        cannot(plan, "its answer would be larger than 256 KiB, or there is no memory for it");
        return false;
    }
    return plan->limit == 0 || ++plan->values <= plan->limit || over_limit(plan);
}

enum plan_verdict plan_finish(struct plan *plan, struct slice *answer)
{
    if (plan->why != NULL)
        return PLAN_CANNOT;
    *answer = (struct slice){plan->answer.ptr, plan->answer.len};
    return plan->answer.len > 0 ? PLAN_FOUND : PLAN_NOT_FOUND;
}

const char *plan_why(const struct plan *plan)
{
    return plan->why;
}
