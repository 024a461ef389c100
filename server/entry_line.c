/*
 * Lines of users and groups: see entry_line.h. Runs in the loader and in jailmap-agent-nss. It may
 * touch the line; it must never copy a part of a field that is not revealed.
 */
#include "server/entry_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(struct entry_line *line, struct slice part)
{
    size_t need = line->len + part.len, cap = need > line->cap ? 2 * need + 256 : line->cap;
    char *grown;

    if (part.len == 0)
        return;
    grown = cap > line->cap ? realloc(line->ptr, cap) : line->ptr;
    if (grown == NULL) {
        line->failed = true;
        return;
    }
    line->ptr = grown;
    line->cap = cap;
    memcpy(line->ptr + line->len, part.ptr, part.len);
    line->len = need;
}

void entry_begin(struct entry_line *line, uint32_t reveal)
{
    line->len = 0;
    line->fields = 0;
    line->failed = false;
    line->reveal = reveal;
}

void entry_field(struct entry_line *line)
{
    if (line->fields++ > 0)
        append(line, (struct slice)SLICE(":"));
}

void entry_add(struct entry_line *line, struct slice part)
{
    if (line->reveal & 1u << (line->fields - 1))
        append(line, part);
}

void entry_text(struct entry_line *line, struct slice text)
{
    entry_field(line);
    entry_add(line, text);
}

void entry_id(struct entry_line *line, long id)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%ld", id);

    entry_text(line, (struct slice){digits, (size_t)len});
}

void entry_member(struct entry_line *line, struct slice member, bool *first)
{
    if (!*first)
        entry_add(line, (struct slice)SLICE(","));
    entry_add(line, member);
    *first = false;
}
