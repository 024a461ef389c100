/*
 * White space on its way through postconf(1), which prints one blank for each run of it. A run in
 * the value of a parameter is given to postconf as a blank and marks, control characters that
 * mean nothing to it, and becomes itself again in what postconf prints. Runs in jailmap-import as
 * whoever calls it. It may touch only its arguments.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl/import.h"

static const char blanks[] = " \t\v\f\r";
static const char marks[] = "\1\2\3\4\5";

static bool is_blank(char c)
{
    return c != '\0' && strchr(blanks, c) != NULL;
}

bool import_same_words(const char *a, const char *b)
{
    while (*a != '\0' || *b != '\0') {
        if (is_blank(*a) && is_blank(*b)) {
            while (is_blank(*a))
                a++;
            while (is_blank(*b))
                b++;
        } else if (*a++ != *b++) {
            return false;
        }
    }
    return true;
}

bool import_is_spaced(const char *value)
{
    for (; *value != '\0'; value++)
        if (is_blank(value[0]) && (value[0] != ' ' || is_blank(value[1])))
            return true;
    return false;
}

bool import_is_marked(const char *text)
{
    return strpbrk(text, marks) != NULL;
}

/* Where the expression that begins at at, if one does, ends. */
static const char *expression_end(const char *at)
{
    size_t level = 0;

    if (at[0] != '$' || (at[1] != '{' && at[1] != '('))
        return at;
    for (at++; *at != '\0'; at++) {
        level += *at == '{' || *at == '(';
        level -= *at == '}' || *at == ')';
        if (level == 0)
            return at + 1;
    }
    return at;
}

char *import_mark_spaces(const char *value)
{
    char *marked = malloc(2 * strlen(value) + 1), *to = marked;

    while (marked != NULL && *value != '\0') {
        size_t run = strspn(value, blanks), taken = 1;
        bool doubled = value[0] == '$' && value[1] == '$';

        if (run > 0) {
            *to++ = ' ';
            for (taken = 0; taken < run && (run > 1 || value[0] != ' '); taken++)
                *to++ = marks[strchr(blanks, value[taken]) - blanks];
            value += run;
            continue;
        }
        if (doubled)
            taken = 2;
        else if (expression_end(value) > value)
            taken = (size_t)(expression_end(value) - value);
        to = mempcpy(to, value, taken);
        value += taken;
    }
    if (marked != NULL)
        *to = '\0';
    return marked;
}

void import_unmark_spaces(char *text)
{
    char *to = text;

    while (*text != '\0') {
        const char *mark = strchr(marks, *text);

        if (text[0] == ' ' && text[1] != '\0' && strchr(marks, text[1]) != NULL) {
            text++; /* it stands before marks */
        } else {
            *to++ = mark != NULL ? blanks[mark - marks] : *text;
            text++;
        }
    }
    *to = '\0';
}
