/*
 * Tables of networks: see cidr.h. Runs in jailmap-agent-pattern; touches its arguments and malloc's
 * memory only.
 */
#include "server/agent/pattern/cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/agent/pattern/grammar.h"

cidr_number cidr_highest(enum cidr_family family)
{
    return family == CIDR_IPV4 ? (cidr_number)UINT32_MAX : ~(cidr_number)0;
}

static bool address_of(struct slice text, enum cidr_family *family, cidr_number *address)
{
    char string[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];

    if (text.len >= sizeof string || text.len == 0 || memchr(text.ptr, '\0', text.len) != NULL)
        return false;
    memcpy(string, text.ptr, text.len);
    string[text.len] = '\0';
    *family = memchr(text.ptr, ':', text.len) != NULL ? CIDR_IPV6 : CIDR_IPV4;
    if (inet_pton(*family == CIDR_IPV6 ? AF_INET6 : AF_INET, string, bytes) != 1)
        return false;
    *address = 0;
    for (size_t i = 0; i < (*family == CIDR_IPV6 ? 16 : 4); i++)
        *address = *address << 8 | bytes[i];
    return true;
}

/* ---- parsing ---- */

static struct slice behind(struct slice s, size_t n)
{
    return (struct slice){s.ptr + n, s.len - n};
}

/* Digits and nothing else, up to most. */
static bool length_of(struct slice text, unsigned most, unsigned *length)
{
    *length = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        *length = *length * 10 + (unsigned)(text.ptr[i] - '0');
        if (*length > most)
            return false;
    }
    return text.len > 0;
}

/* Cuts [addr], [addr/len] or [addr]/len into an address and what stands behind its slash. */
static const char *split(struct slice pattern, struct slice *address, struct slice *length,
                         bool *has_length)
{
    const char *slash;
    struct slice rest = {NULL, 0};

    if (pattern.len > 0 && pattern.ptr[0] == '[') {
        const char *closing = memchr(pattern.ptr, ']', pattern.len);

        if (closing == NULL)
            return "a `[` that is not closed";
        rest = behind(pattern, (size_t)(closing - pattern.ptr) + 1);
        pattern = (struct slice){pattern.ptr + 1, (size_t)(closing - pattern.ptr) - 1};
        if (rest.len > 0 && rest.ptr[0] != '/')
            return "text behind the `]`";
    }
    slash = pattern.len > 0 ? memchr(pattern.ptr, '/', pattern.len) : NULL;
    *has_length = slash != NULL || rest.len > 0;
    *address = pattern;
    if (slash != NULL) {
        *address = (struct slice){pattern.ptr, (size_t)(slash - pattern.ptr)};
        *length = behind(pattern, address->len + 1);
        return rest.len > 0 ? "two lengths" : NULL;
    }
    if (rest.len > 0)
        *length = behind(rest, 1);
    return NULL;
}

/* NULL, or what is wrong. */
static const char *parse_network(struct slice pattern, struct cidr_rule *rule)
{
    struct slice address, length = {NULL, 0};
    bool has_length;
    unsigned bits, prefix;
    cidr_number hosts;
    const char *wrong = split(pattern, &address, &length, &has_length);

    if (wrong != NULL)
        return wrong;
    if (!address_of(address, &rule->family, &rule->low))
        return "no address";
    bits = rule->family == CIDR_IPV4 ? 32 : 128;
    prefix = bits;
    if (has_length && !length_of(length, bits, &prefix))
        return "no length behind the slash";
    hosts =
        prefix == 0 ? cidr_highest(rule->family) : cidr_highest(rule->family) >> (prefix - 1) >> 1;
    if ((rule->low & hosts) != 0)
        return "bits set behind the network's length";
    rule->high = rule->low | hosts;
    return NULL;
}

/* Returns whether the line is a rule, else why. */
static bool parse_line(struct slice line, struct cidr_rule *rule, char *why, size_t len)
{
    struct text_quoted quoted;
    struct slice rest = line, pattern;
    const char *wrong;
    size_t n = 0;

    *rule = (struct cidr_rule){.kind = CIDR_RULE};
    if (statement_keyword(line, "endif", &rest)) {
        rule->kind = CIDR_ENDIF;
        if (rest.len > 0)
            snprintf(why, len, "\"%s\" behind endif; expected nothing", text_quote(&quoted, rest));
        return rest.len == 0;
    }
    if (statement_keyword(line, "if", &rest))
        rule->kind = CIDR_IF;
    rule->negated = statement_negated(&rest);
    while (n < rest.len && (rule->kind == CIDR_IF || !text_is_space(rest.ptr[n])))
        n++;
    pattern = (struct slice){rest.ptr, n};
    rule->result = text_skip_space(behind(rest, n));
    wrong = parse_network(pattern, rule);
    if (wrong != NULL) {
        snprintf(why, len,
                 "\"%s\" has %s; expected ADDRESS or NETWORK/LENGTH, as 192.0.2.0/24 or "
                 "2001:db8::/32",
                 text_quote(&quoted, pattern), wrong);
        return false;
    }
    if (rule->kind == CIDR_RULE && rule->result.len == 0)
        snprintf(why, len, "there is no result; expected one behind the network");
    return rule->kind == CIDR_IF || rule->result.len > 0;
}

static bool append(struct cidr_table *t, const struct cidr_rule *rule)
{
    if (t->count == t->cap) {
        size_t cap = t->cap * 2 + 64;
        struct cidr_rule *grown = realloc(t->rules, cap * sizeof *grown);

        if (grown == NULL)
            return false;
        t->rules = grown;
        t->cap = cap;
    }
    t->rules[t->count++] = *rule;
    return true;
}

#define NONE SIZE_MAX

/* *open: the innermost if that is open; through skip it leads to those around it until it is
 * closed. The endif stays, since an index has to know where the rules of an if end. */
static bool take_line(struct cidr_table *t, struct rules *rules, const struct rule_line *line,
                      size_t *open)
{
    struct cidr_rule rule;
    char why[320];
    size_t around;

    if (!parse_line(line->text, &rule, why, sizeof why)) {
        rules_skip(rules, line->number, "%s", why);
        return true;
    }
    if (rule.kind == CIDR_ENDIF && *open == NONE) {
        rules_skip(rules, line->number, "an endif without an if before it; expected none");
        return true;
    }
    rule.skip = *open;
    if (!append(t, &rule))
        return false;
    if (rule.kind == CIDR_IF)
        *open = t->count - 1;
    if (rule.kind == CIDR_ENDIF) {
        around = t->rules[*open].skip;
        t->rules[*open].skip = t->count;
        *open = around;
    }
    return true;
}

bool cidr_parse(struct cidr_table *t, struct rules *rules)
{
    struct rule_line line;
    size_t open = NONE;

    *t = (struct cidr_table){0};
    while (rules_next(rules, &line))
        if (!take_line(t, rules, &line, &open))
            return false;
    while (open != NONE) { /* the rest of the table belongs to an if that is not closed */
        size_t around = t->rules[open].skip;

        t->rules[open].skip = t->count;
        open = around;
    }
    return cidr_build_index(t);
}

void cidr_free(struct cidr_table *t)
{
    free(t->rules);
    for (int f = 0; f < CIDR_FAMILIES; f++)
        free(t->index[f].ranges);
    *t = (struct cidr_table){0};
}

/* ---- finding ---- */

/* A rule is for addresses of its own family, even behind `!`. */
static bool matches(const struct cidr_rule *rule, enum cidr_family family, cidr_number address)
{
    return rule->family == family &&
           (address >= rule->low && address <= rule->high) != rule->negated;
}

static size_t first_in_turn(const struct cidr_table *t, enum cidr_family family,
                            cidr_number address)
{
    for (size_t i = 0; i < t->count;) {
        const struct cidr_rule *rule = &t->rules[i];
        bool match = rule->kind == CIDR_ENDIF || matches(rule, family, address);

        if (rule->kind == CIDR_RULE && match)
            return i;
        i = rule->kind == CIDR_IF && !match ? rule->skip : i + 1;
    }
    return NONE;
}

static bool find(const struct cidr_table *t, struct slice key, bool indexed, struct slice *result)
{
    enum cidr_family family;
    cidr_number address;
    size_t rule;

    if (!address_of(key, &family, &address))
        return false;
    rule =
        indexed ? cidr_index_find(&t->index[family], address) : first_in_turn(t, family, address);
    if (rule == NONE)
        return false;
    *result = t->rules[rule].result;
    return true;
}

bool cidr_find(const struct cidr_table *t, struct slice key, struct slice *result)
{
    return find(t, key, t->indexed, result);
}

bool cidr_find_in_turn(const struct cidr_table *t, struct slice key, struct slice *result)
{
    return find(t, key, false, result);
}
