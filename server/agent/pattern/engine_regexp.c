/*
 * regexp tables: POSIX regular expressions, as glibc has them. Runs in jailmap-agent-pattern, in
 * the C locale. glibc knows no limits: the agent's own limits of time and memory stand behind this.
 */
#include "server/agent/pattern/engine.h"

#include <limits.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

/* regcomp(3) calls itself for each group in a group, and for what may be left out in a row: it
 * would run out of stack, which ends the process. */
#define NESTED_MAX 1000
#define LENGTH_MAX 65536

static const struct engine_letter letters[] = {
    {'i', REG_ICASE}, {'m', REG_NEWLINE}, {'x', REG_EXTENDED}, {'\0', 0}};

struct scratch {
    unsigned groups;
    regmatch_t places[];
};

static void *start(unsigned groups)
{
    struct scratch *s = malloc(sizeof *s + (groups + 1) * sizeof s->places[0]);

    if (s != NULL)
        s->groups = groups;
    return s;
}

/* No fewer than there are, since what is quoted or in brackets is counted, too. */
static bool nests_too_deep(struct slice pattern)
{
    size_t depth = 0;

    for (size_t i = 0; i < pattern.len; i++) {
        depth += pattern.ptr[i] == '(';
        depth -= pattern.ptr[i] == ')' && depth > 0 && (i == 0 || pattern.ptr[i - 1] != '\\');
        if (depth > NESTED_MAX)
            return true;
    }
    return false;
}

/* Returns as regcomp(3); *re is to be freed with regfree(3) only on 0. */
static int compile_text(regex_t *re, struct slice pattern, int options, char *reason, size_t len)
{
    char *text = strndup(pattern.ptr, pattern.len);
    int rc = text != NULL ? regcomp(re, text, options) : REG_ESPACE;

    if (rc != 0)
        regerror(rc, NULL, reason, len);
    free(text);
    return rc;
}

static void *compile(struct slice pattern, uint32_t options, bool groups, char *why, size_t len)
{
    regex_t *re = NULL;
    char reason[128] = "out of memory";

    if (pattern.len > LENGTH_MAX)
        snprintf(reason, sizeof reason, "the pattern is longer than %d bytes", LENGTH_MAX);
    else if (nests_too_deep(pattern))
        snprintf(reason, sizeof reason, "groups stand in groups more than %d deep", NESTED_MAX);
    else
        re = malloc(sizeof *re);
    if (re != NULL && compile_text(re, pattern, (int)options | (groups ? 0 : REG_NOSUB), reason,
                                   sizeof reason) == 0)
        return re;
    free(re);
    snprintf(why, len, "%s; expected a regular expression as in regex(7)", reason);
    return NULL;
}

static void discard(void *compiled)
{
    regfree(compiled);
    free(compiled);
}

static unsigned groups_of(const void *compiled)
{
    const regex_t *re = compiled;

    return (unsigned)re->re_nsub;
}

static enum match match(void *scratch, const void *compiled, const struct subject *subject,
                        struct span *spans, unsigned groups, const char **why)
{
    struct scratch *s = scratch;
    size_t wanted = spans != NULL && groups <= s->groups ? (size_t)groups + 1 : 0;
    int rc;

    if (subject->key.len > INT_MAX) {
        *why = "the key is longer than 2 GB";
        return MATCH_FAILS;
    }
    s->places[0] = (regmatch_t){0, (regoff_t)subject->key.len};
    rc = regexec(compiled, subject->key.len > 0 ? subject->key.ptr : "", wanted, s->places,
                 REG_STARTEND);
    if (rc != 0 && rc != REG_NOMATCH)
        *why = "out of memory";
    if (rc != 0)
        return rc == REG_NOMATCH ? MATCH_NO : MATCH_FAILS;
    for (size_t i = 0; i < wanted; i++)
        spans[i] = s->places[i].rm_so < 0
                       ? (struct span){1, 0}
                       : (struct span){(size_t)s->places[i].rm_so, (size_t)s->places[i].rm_eo};
    return MATCH_YES;
}

const struct engine engine_regexp = {.type = TYPE_REGEXP,
                                     .seconds = true,
                                     .initially = REG_ICASE | REG_EXTENDED,
                                     .letters = letters,
                                     .start = start,
                                     .stop = free,
                                     .compile = compile,
                                     .discard = discard,
                                     .groups = groups_of,
                                     .match = match};
