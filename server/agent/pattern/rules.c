/*
 * Reading the rules of a pattern table: see rules.h. Runs in jailmap-agent-pattern. It may read the
 * descriptor that it is given, with pread(2), since other agents of the pool read it, too.
 */
#include "server/agent/pattern/rules.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (UINT32_MAX - 1) /* bytes; more than people write */

void rules_of_text(struct rules *rules, struct text text, const char *file,
                   struct agent_report *report)
{
    *rules = (struct rules){.text = text, .file = file, .report = report};
    if (text.len > 0) /* else there is nothing that a reader could point to */
        rules->reader = text_start(&rules->text);
}

void rules_free(struct rules *rules)
{
    free(rules->text.ptr);
    rules->text = (struct text){NULL, 0, 0};
}

/* An empty file is refused: a writer may have truncated it a moment ago. */
static const char *read_rules(int fd, struct text *text)
{
    if (text_read(fd, FILE_MAX, text) != 0)
        return errno == EFBIG ? "the file is larger than 4 GB; fewer rules are expected"
                              : strerror(errno);
    return text->len > 0 ? NULL
                         : "the file is empty; if the table is meant to have no rules, write a "
                           "comment line into it";
}

bool rules_of_file(struct rules *rules, int fd, const char *file, struct agent_report *report)
{
    struct text text;
    const char *wrong = read_rules(fd, &text);
    struct rule_place place;

    rules_of_text(rules, text, file, report);
    if (wrong != NULL)
        snprintf(report->text, sizeof report->text, "%s: %s", rules_place(&place, file, 1), wrong);
    return wrong == NULL;
}

static bool separates(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The length of the group that s begins with, braces and all; 0: it does not end. */
static size_t group_length(struct slice s)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.len; i++) {
        depth += s.ptr[i] == '{';
        depth -= s.ptr[i] == '}'; /* never of 0: the search ends where it gets there */
        if (depth == 0)
            return i + 1;
    }
    return 0;
}

/* Each group of the name becomes a line. NULL, or what is wrong. */
static const char *lines_of_groups(struct slice rest, struct text *text)
{
    for (;;) {
        struct slice group, inside;

        while (rest.len > 0 && separates(rest.ptr[0]))
            rest = (struct slice){rest.ptr + 1, rest.len - 1};
        if (rest.len == 0)
            return NULL;
        if (rest.ptr[0] != '{')
            return "text outside of braces";
        group = (struct slice){rest.ptr, group_length(rest)};
        if (group.len == 0 || !text_unbrace(group, &inside))
            return "a brace that is not closed";
        rest = (struct slice){rest.ptr + group.len, rest.len - group.len};
        if (rest.len > 0 && !separates(rest.ptr[0]))
            return "text behind a `}`";
        if (text_append(text, inside) != 0 || text_append(text, (struct slice){"\n", 1}) != 0)
            return "more than the memory can hold";
    }
}

bool rules_of_name(struct rules *rules, struct slice name, struct agent_report *report)
{
    struct text text = {NULL, 0, 0};
    struct slice inside;
    const char *wrong =
        text_unbrace(name, &inside) ? lines_of_groups(inside, &text) : "braces that do not pair";

    rules_of_text(rules, text, NULL, report);
    if (wrong == NULL)
        return true;
    snprintf(report->text, sizeof report->text,
             "the table's name has %s; expected {{rule}, {rule}, ...}, each rule in braces that "
             "pair",
             wrong);
    return false;
}

/* A long path is cut at its beginning: its end tells more. */
const char *rules_place(struct rule_place *place, const char *file, size_t number)
{
    size_t len = file != NULL ? strlen(file) : 0;
    size_t most = sizeof place->text - 32;

    if (file == NULL)
        snprintf(place->text, sizeof place->text, "rule %zu", number);
    else
        snprintf(place->text, sizeof place->text, "%s%s:%zu", len > most ? "..." : "",
                 len > most ? file + len - most : file, number);
    return place->text;
}

void rules_skip(struct rules *rules, size_t number, const char *format, ...)
{
    struct agent_report *report = rules->report;
    struct rule_place place;
    va_list ap;
    int used;

    if (report->ignored < UINT32_MAX)
        report->ignored++;
    if (report->ignored != 1)
        return;
    used = snprintf(report->text, sizeof report->text,
                    "%s: ", rules_place(&place, rules->file, number));
    va_start(ap, format);
    vsnprintf(report->text + used, sizeof report->text - (size_t)used, format, ap);
    va_end(ap);
}

bool rules_next(struct rules *rules, struct rule_line *line)
{
    struct text_line logical;

    while (text_logical(&rules->reader, &logical)) {
        line->number = logical.number;
        line->text = text_trim(text_string(&logical));
        if (logical.len > 0 && text_is_space(logical.ptr[0]))
            rules_skip(rules, logical.number,
                       "a line that begins with white space, and no rule before it that it could "
                       "continue; expected a rule at the start of the line");
        else if (line->text.len > 0)
            return true;
    }
    return false;
}
