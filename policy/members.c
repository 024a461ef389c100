/*
 * Splitting the names of composites: see members.h. Linked into the reader of a configuration, the
 * monitor and the worker. It may touch only its arguments; it must never yield an item of a name
 * that is not whole.
 */
#include "policy/members.h"

#include <string.h>

static bool separates(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Is that one pair of braces, with whatever between? */
static bool is_braced(struct slice s)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.len; i++) {
        depth += s.ptr[i] == '{';
        if (depth == 0)
            return false;
        depth -= s.ptr[i] == '}';
        if (depth == 0)
            return i + 1 == s.len;
    }
    return false;
}

static struct slice without_proxy(struct slice name)
{
    while (name.len >= 6 && memcmp(name.ptr, "proxy:", 6) == 0)
        name = (struct slice){name.ptr + 6, name.len - 6};
    return name;
}

bool members_next(struct members *members, struct slice *item)
{
    struct slice *rest = &members->rest;
    size_t depth = 0, i = 0;

    while (rest->len > 0 && separates(rest->ptr[0]))
        *rest = (struct slice){rest->ptr + 1, rest->len - 1};
    for (; i < rest->len && (depth > 0 || !separates(rest->ptr[i])); i++) {
        depth += rest->ptr[i] == '{';
        depth -= rest->ptr[i] == '}'; /* never of 0: what was begun with is balanced */
    }
    if (i == 0)
        return false;
    *item = (struct slice){rest->ptr, i};
    *rest = (struct slice){rest->ptr + i, rest->len - i};
    if (members->kind == MEMBERS_TABLES)
        *item = without_proxy(*item);
    return true;
}

/* A type, a colon, and something behind it. */
static bool is_table(struct slice item)
{
    const char *colon = item.len > 0 ? memchr(item.ptr, ':', item.len) : NULL;

    return colon != NULL && colon > item.ptr && colon + 1 < item.ptr + item.len &&
           memchr(item.ptr, '{', (size_t)(colon - item.ptr)) == NULL;
}

const char *members_begin(struct members *members, enum members_kind kind, struct slice argument)
{
    struct members look = {.kind = kind};
    struct slice item;
    size_t count = 0;

    *members = look;
    if (!is_braced(argument))
        return "what stands behind the colon is not one pair of braces; {...} with as many } as { "
               "is expected";
    look.rest = (struct slice){argument.ptr + 1, argument.len - 2};
    *members = look;
    for (; members_next(&look, &item); count++)
        if (kind == MEMBERS_TABLES && !is_table(item)) {
            members->rest.len = 0;
            return "a member is no TYPE:NAME; {TYPE:NAME, TYPE:NAME, ...} is expected";
        }
    if (count > 0)
        return NULL;
    return kind == MEMBERS_TABLES
               ? "there is nothing in the braces; {TYPE:NAME, TYPE:NAME, ...} is expected"
               : "there is nothing in the braces; {VALUE, VALUE, ...} is expected";
}
