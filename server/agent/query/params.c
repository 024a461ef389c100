/*
 * Reading a database client's configuration file: see params.h. Runs in the agents that have one.
 * It may read the descriptor that it is given, never map it, and must never quote a line that it
 * does not understand: it may be one with a password.
 */
#include "server/agent/query/params.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/text.h"

#define OUT_OF_MEMORY "out of memory"
#define PARAMS_MAX    1000u /* each is compared with those before it */

struct param {
    char *name, *value; /* strings in the text */
    size_t line;
    bool known;
};

struct params {
    const char *file;
    struct agent_report *report;
    struct text text;
    struct param *list;
    size_t count, cap;
};

static bool fail(const struct params *params, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(const struct params *params, size_t line, const char *format, va_list ap)
{
    char *text = params->report->text;
    size_t len = sizeof params->report->text;
    int used = line > 0 ? snprintf(text, len, "%s:%zu: ", params->file, line)
                        : snprintf(text, len, "%s: ", params->file);

    if (used >= 0 && (size_t)used < len)
        vsnprintf(text + used, len - (size_t)used, format, ap);
}

/* In the report's words; line 0: the file as a whole. Returns false. */
static bool fail(const struct params *params, size_t line, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    say(params, line, format, ap);
    va_end(ap);
    return false;
}

static void warn(const struct params *params, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void warn(const struct params *params, size_t line, const char *format, ...)
{
    va_list ap;

    if (params->report->ignored++ > 0)
        return;
    va_start(ap, format);
    say(params, line, format, ap);
    va_end(ap);
}

static bool read_file(struct params *params, int fd)
{
    struct text *text = &params->text;
    char *end;

    if (text_read(fd, PARAMS_FILE_MAX, text) != 0) {
        if (errno == EFBIG)
            return fail(params, 0,
                        "the file is larger than 1 MB; `name = value` lines are expected");
        return fail(params, 0, "cannot read the file: %s", strerror(errno));
    }
    end = realloc(text->ptr, text->len + 1);
    if (end == NULL)
        return fail(params, 0, OUT_OF_MEMORY);
    text->ptr = end;
    text->cap = text->len + 1;
    text->ptr[text->len] = '\0'; /* the last value's end, if no newline is there */
    return true;
}

static size_t count_newlines(const char *from, const char *to)
{
    size_t n = 0;

    for (; from < to; from++)
        n += *from == '\n';
    return n;
}

static bool no_nul(const struct params *params)
{
    const struct text *text = &params->text;
    const char *nul = memchr(text->ptr, '\0', text->len);

    return nul == NULL ||
           fail(params, count_newlines(text->ptr, nul) + 1, "a NUL byte; text is expected");
}

static struct param *find(const struct params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++)
        if (strcmp(params->list[i].name, name) == 0)
            return &params->list[i];
    return NULL;
}

static struct param *add(struct params *params)
{
    struct param *list;

    if (params->count == PARAMS_MAX) {
        fail(params, 0, "more than %u parameters; a few are expected", PARAMS_MAX);
        return NULL;
    }
    if (params->count == params->cap) {
        params->cap = params->cap * 2 + 16;
        list = reallocarray(params->list, params->cap, sizeof *list);
        if (list == NULL) {
            fail(params, 0, OUT_OF_MEMORY);
            return NULL;
        }
        params->list = list;
    }
    return &params->list[params->count++];
}

static bool take_entry(struct params *params, char *name, char *value, size_t line)
{
    struct param *p = find(params, name);

    if (p != NULL)
        warn(params, line, "%.64s is given again, after line %zu; this line counts", name, p->line);
    else if ((p = add(params)) == NULL)
        return false;
    *p = (struct param){name, value, line, false};
    return true;
}

/* The line ends at a newline or at the end of the text, either of which may become a NUL. */
static bool take_line(struct params *params, const struct text_line *line)
{
    struct slice rest = text_trim((struct slice){line->ptr, line->len});
    char *name = line->ptr, *value;
    size_t len = 0;

    if (text_is_space(line->ptr[0])) {
        warn(params, line->number,
             "a line that begins with white space, and has none before it to continue; it is "
             "ignored");
        return true;
    }
    while (len < rest.len && name[len] != '=' && !text_is_space(name[len]))
        len++;
    if (len == 0)
        return fail(params, line->number, "no name before `=`; `name = value` is expected");
    rest = text_skip_space((struct slice){rest.ptr + len, rest.len - len});
    if (rest.len == 0 || rest.ptr[0] != '=')
        return fail(params, line->number,
                    "no `=` behind the first word; `name = value` is "
                    "expected");
    rest = text_trim((struct slice){rest.ptr + 1, rest.len - 1});
    value = line->ptr + (rest.ptr - line->ptr);
    value[rest.len] = '\0';
    name[len] = '\0';
    return take_entry(params, name, value, line->number);
}

static bool take_lines(struct params *params)
{
    struct text_reader reader = text_start(&params->text);
    struct text_line line;

    while (text_logical(&reader, &line))
        if (!take_line(params, &line))
            return false;
    return true;
}

struct params *params_read(const char *file, int fd, struct agent_report *report)
{
    struct params *params = calloc(1, sizeof *params);

    if (params == NULL) {
        snprintf(report->text, sizeof report->text, "%s: out of memory", file);
        return NULL;
    }
    params->file = file;
    params->report = report;
    if (read_file(params, fd) && no_nul(params) && take_lines(params))
        return params;
    params_free(params);
    return NULL;
}

void params_free(struct params *params)
{
    if (params == NULL)
        return;
    free(params->text.ptr);
    free(params->list);
    free(params);
}

static struct param *ask(struct params *params, const char *name)
{
    struct param *p = find(params, name);

    if (p != NULL)
        p->known = true;
    return p;
}

bool params_given(struct params *params, const char *name)
{
    return ask(params, name) != NULL;
}

const char *params_text(struct params *params, const char *name, const char *otherwise)
{
    const struct param *p = ask(params, name);

    return p != NULL ? p->value : otherwise;
}

bool params_need(struct params *params, const char *name, const char *what, const char **value)
{
    const struct param *p = ask(params, name);

    if (p == NULL || *p->value == '\0')
        return params_fail(params, name, "%s is expected", what);
    *value = p->value;
    return true;
}

bool params_number(struct params *params, const char *name, unsigned otherwise, unsigned min,
                   unsigned max, unsigned *value)
{
    const struct param *p = ask(params, name);
    unsigned long long number = 0;
    const char *digits;
    bool good;
    size_t len;

    *value = otherwise;
    if (p == NULL)
        return true;
    digits = p->value + (p->value[0] == '+'); /* as Postfix has it */
    len = strspn(digits, "0123456789");
    good = len > 0 && digits[len] == '\0';
    if (good) /* one that is too large yields the largest there is */
        number = strtoull(digits, NULL, 10);
    if (!good || number < min || number > max)
        return params_fail(params, name, "a number from %u to %u is expected", min, max);
    *value = (unsigned)number;
    return true;
}

bool params_yes(struct params *params, const char *name, bool otherwise, bool *value)
{
    const struct param *p = ask(params, name);

    *value = otherwise;
    if (p == NULL)
        return true;
    *value = strcasecmp(p->value, "yes") == 0;
    return *value || strcasecmp(p->value, "no") == 0 ||
           params_fail(params, name, "yes or no is expected");
}

/* Those that hold a password, or may. */
static bool is_secret(const char *name)
{
    return strcmp(name, "password") == 0 || strcmp(name, "hosts") == 0;
}

bool params_fail(struct params *params, const char *name, const char *format, ...)
{
    const struct param *p = ask(params, name);
    struct text_quoted value;
    char why[400];
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    if (p == NULL)
        return fail(params, 0, "%s is not given; %s", name, why);
    if (*p->value == '\0')
        return fail(params, p->line, "%s is empty; %s", name, why);
    return fail(params, p->line, "%s = %s: %s", name,
                is_secret(name) ? "..."
                                : text_quote(&value, (struct slice){p->value, strlen(p->value)}),
                why);
}

void params_warn(struct params *params, const char *name, const char *why)
{
    const struct param *p = find(params, name);

    warn(params, p != NULL ? p->line : 0, "%s: %s", name, why);
}

const char *params_place(struct params *params, const char *name, char *text, size_t len)
{
    const struct param *p = find(params, name);

    if (p != NULL)
        snprintf(text, len, "%s:%zu: %s", params->file, p->line, name);
    else
        snprintf(text, len, "%s: %s", params->file, name);
    return text;
}

void params_finish(struct params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        const struct param *p = &params->list[i];
        struct text_quoted name;

        if (!p->known)
            warn(params, p->line, "%s is no parameter of such a table; it is ignored",
                 text_quote(&name, (struct slice){p->name, strlen(p->name)}));
    }
}
