/*
 * Preparing a configuration for libconfuse: see config_text.h. Runs in the monitor at start, with
 * privilege, on a file that only root can write. It may touch only its arguments.
 */
#include "policy/config_text.h"

#include <stdbool.h>
#include <string.h>

struct text {
    char *at, *end;
    int line;
};

static bool begins(const struct text *t, const char *what)
{
    size_t len = strlen(what);

    return (size_t)(t->end - t->at) >= len && memcmp(t->at, what, len) == 0;
}

static void pass(struct text *t)
{
    t->line += *t->at++ == '\n';
}

static void blank(struct text *t)
{
    if (*t->at != '\n')
        *t->at = ' ';
    pass(t);
}

static const char *blank_comment(struct text *t)
{
    if (!begins(t, "/*")) {
        while (t->at < t->end && *t->at != '\n')
            blank(t);
        return NULL;
    }
    while (!begins(t, "*/")) {
        if (t->at == t->end)
            return "the comment that begins here never ends; */ is expected";
        blank(t);
    }
    blank(t);
    blank(t);
    return NULL;
}

/* Is an escape that stands for a NUL byte here: \0, \00, \x0, \x00? */
static bool escapes_nul(const struct text *t)
{
    const char *at = t->at + 1;
    bool hex = at < t->end && *at == 'x';
    const char *digits = hex ? "0123456789abcdefABCDEF" : "01234567";
    int value = 0, count = 0;

    for (at += hex; at < t->end && *at != '\0' && strchr(digits, *at) != NULL && count < 3; at++) {
        value |= *at != '0';
        count++;
    }
    return count > 0 && value == 0;
}

static const char *pass_string(struct text *t)
{
    char quote = *t->at;

    pass(t);
    while (t->at < t->end && *t->at != quote) {
        if (*t->at == '\0')
            return NULL; /* complained of by the caller */
        if (*t->at == '\\') {
            if (escapes_nul(t))
                return "a string holds a NUL byte";
            pass(t);
        }
        if (t->at < t->end)
            pass(t);
    }
    if (t->at == t->end)
        return "the string that begins here never ends";
    pass(t);
    return NULL;
}

int config_text(char *text, size_t len, int *line, const char **why)
{
    struct text t = {text, text + len, 1};
    int depth = 0;
    bool in_word = false; /* an unquoted word may hold //, as in a path */

    *why = NULL;
    while (t.at < t.end && *why == NULL) {
        *line = t.line;
        if (*t.at == '\0') {
            *why = "not a text file: it holds a NUL byte";
        } else if (*t.at == '#' || (!in_word && (begins(&t, "//") || begins(&t, "/*")))) {
            *why = blank_comment(&t);
        } else if (*t.at == '"' || *t.at == '\'') {
            *why = pass_string(&t);
            in_word = false;
        } else {
            depth += (*t.at == '{') - (*t.at == '}');
            in_word = strchr(" \t\r\n={}(),+", *t.at) == NULL;
            pass(&t);
        }
    }
    if (*why == NULL && depth > 0) {
        *line = t.line - (len > 0 && text[len - 1] == '\n');
        *why = "the file ends inside a section or a list; } is expected";
    }
    return *why == NULL ? 0 : -1;
}
