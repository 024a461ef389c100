/*
 * Results of rules: see result.h. Runs in jailmap-agent-pattern; touches its arguments and malloc's
 * memory only.
 */
#include "server/agent/pattern/result.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool add(struct result *result, struct slice text, unsigned group)
{
    struct result_part *grown;

    if (text.len == 0 && group == 0)
        return true;
    if ((result->count & (result->count - 1)) == 0) { /* full at each power of two */
        grown = realloc(result->parts, (result->count * 2 + 1) * sizeof *grown);
        if (grown == NULL)
            return false;
        result->parts = grown;
    }
    result->parts[result->count++] = (struct result_part){text, group};
    if (group > result->highest)
        result->highest = group;
    return true;
}

/* The name behind a `$`, and the length of all of it with the braces. 0: it does not end. */
static size_t reference(struct slice s, struct slice *name)
{
    char closing = s.len == 0 ? '\0' : s.ptr[0] == '{' ? '}' : s.ptr[0] == '(' ? ')' : '\0';
    size_t i = 0;
    const char *end;

    if (closing == '\0') {
        while (i < s.len && is_name(s.ptr[i]))
            i++;
        *name = (struct slice){s.ptr, i};
        return i;
    }
    end = memchr(s.ptr, closing, s.len);
    if (end == NULL)
        return 0;
    *name = (struct slice){s.ptr + 1, (size_t)(end - s.ptr) - 1};
    return name->len + 2;
}

/* The number of a group, or 0. */
static unsigned number(struct slice name)
{
    unsigned n = 0;

    for (size_t i = 0; i < name.len; i++) {
        if (!is_digit(name.ptr[i]))
            return 0;
        n = n * 10 + (unsigned)(name.ptr[i] - '0');
        if (n > RESULT_GROUPS_MAX)
            return 0;
    }
    return n;
}

bool result_parse(struct slice text, struct result *result, char *why, size_t len)
{
    struct text_quoted quoted;

    *result = (struct result){NULL, 0, 0};
    while (text.len > 0) {
        const char *dollar = memchr(text.ptr, '$', text.len);
        size_t plain = dollar != NULL ? (size_t)(dollar - text.ptr) : text.len, used = 0;
        bool literal = plain + 1 < text.len && text.ptr[plain + 1] == '$';
        struct slice name = {NULL, 0}, rest = {text.ptr + plain + 1, text.len - plain - 1};
        unsigned group = 0;

        if (dollar == NULL || literal) { /* of `$$` the first is text */
            plain += literal;
            used = literal;
        } else {
            used = 1 + reference(rest, &name);
            group = number(name);
            if (group == 0) {
                snprintf(why, len,
                         "the result has \"%s\", which names no group; expected $1, ${1} or $(1), "
                         "or $$ for a dollar sign",
                         text_quote(&quoted, (struct slice){dollar, text.len - plain}));
                return false;
            }
        }
        if (!add(result, (struct slice){text.ptr, plain}, 0) ||
            (group != 0 && !add(result, name, group))) {
            snprintf(why, len, "out of memory");
            return false;
        }
        text = (struct slice){text.ptr + plain + used, text.len - plain - used};
    }
    return true;
}

void result_free(struct result *result)
{
    free(result->parts);
    *result = (struct result){NULL, 0, 0};
}

bool result_expand(const struct result *result, struct slice key, const struct span *groups,
                   size_t limit, struct text *value)
{
    value->len = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct result_part *part = &result->parts[i];
        struct span span = groups[part->group];
        struct slice bytes = part->text;

        if (part->group != 0)
            bytes = span.start <= span.end && span.end <= key.len
                        ? (struct slice){key.ptr + span.start, span.end - span.start}
                        : (struct slice){NULL, 0};
        if (bytes.len > limit - value->len || text_append(value, bytes) != 0)
            return false;
    }
    return true;
}
