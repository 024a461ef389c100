/*
 * The words of jailmapd.conf(5): see words.h.
 */
#include "policy/words.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\n\v\f"
#define MARKS  "={},"

static bool begins(const struct words *w, const char *what)
{
    size_t len = strlen(what);

    return (size_t)(w->end - w->at) >= len && memcmp(w->at, what, len) == 0;
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static void pass(struct words *w)
{
    if (*w->at++ == '\n') {
        w->here.line++;
        w->here.column = 1;
    } else {
        w->here.column++;
    }
}

static bool wrong(struct words *w, const char *what)
{
    w->complaint = what;
    return false;
}

/* ---- what stands between tokens ---- */

/* `#line LINE COLUMN ID "FILE"`: the next line begins there. It was written by policy_print(). */
static bool obey(struct words *w)
{
    char line[8192];
    const char *newline = memchr(w->at, '\n', (size_t)(w->end - w->at));
    size_t len = newline != NULL ? (size_t)(newline - w->at) : sizeof line;
    unsigned long number[3];
    char *rest = line + strlen("#line "), *quote;

    if (len >= sizeof line)
        return wrong(w, "a #line that is too long, or not ended");
    memcpy(line, w->at, len);
    line[len] = '\0';
    for (int i = 0; i < 3; i++)
        number[i] = strtoul(rest, &rest, 10);
    if (strncmp(rest, " \"", 2) != 0 || number[0] > INT_MAX / 2 || number[2] > UINT_MAX)
        return wrong(w, "a #line that says nothing");
    rest += 2;
    quote = strrchr(rest, '"');
    if (quote != NULL)
        *quote = '\0';
    w->at = newline + 1;
    w->here.file = w->keep_file(w->context, rest);
    w->here.line = (int)number[0];
    /* The title's, less the name of its section: it may be a little before the line. */
    w->here.column =
        (long)number[1] > INT_MAX / 2 || (long)number[1] < -64 ? 1 : (int)(long)number[1];
    w->id = (unsigned)number[2];
    return w->here.file != NULL || wrong(w, "out of memory");
}

static bool pass_long_comment(struct words *w)
{
    while (!begins(w, "*/")) {
        if (w->at == w->end)
            return wrong(w, "the comment that begins here never ends; */ is expected");
        if (*w->at == '\0')
            return wrong(w, "not a text file: a comment holds a NUL byte");
        pass(w);
    }
    pass(w);
    pass(w);
    return true;
}

static bool pass_comment(struct words *w)
{
    w->spot = w->here;
    if (w->canonical && begins(w, "#line "))
        return obey(w);
    if (begins(w, "/*"))
        return pass_long_comment(w);
    while (w->at < w->end && *w->at != '\n' && *w->at != '\0')
        pass(w);
    return true;
}

static bool pass_blanks(struct words *w)
{
    while (w->at < w->end) {
        if (is_one_of(*w->at, BLANKS))
            pass(w);
        else if (*w->at != '#' && !begins(w, "//") && !begins(w, "/*"))
            break;
        else if (!pass_comment(w))
            return false;
    }
    return true;
}

/* ---- tokens ---- */

static bool add(struct words *w, char c)
{
    if (w->len + 1 >= w->room) {
        size_t room = w->room == 0 ? 256 : 2 * w->room;
        char *grown = realloc(w->text, room);

        if (grown == NULL)
            return wrong(w, "out of memory");
        w->text = grown;
        w->room = room;
    }
    w->text[w->len++] = c;
    w->text[w->len] = '\0';
    return true;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF",
               *at = c != '\0' ? strchr(digits, c) : NULL;

    return at == NULL ? -1 : (int)(at - digits) % 16;
}

/* The backslash is what is wrong. */
static bool wrong_escape(struct words *w, const char *what)
{
    w->spot = w->here;
    w->spot.column--;
    return wrong(w, what);
}

/* Behind a backslash within double quotes. */
static bool take_escape(struct words *w)
{
    int high, low;
    char c = w->at < w->end ? *w->at : '\0';

    if (c == '"' || c == '\\') {
        pass(w);
        return add(w, c);
    }
    if (c != 'x' || w->end - w->at < 3 || (high = hex_digit(w->at[1])) < 0 ||
        (low = hex_digit(w->at[2])) < 0)
        return wrong_escape(
            w, "unknown escape; \\\\, \\\" or \\xHH, with two hexadecimal digits, is expected");
    if (high == 0 && low == 0)
        return wrong_escape(w, "a string holds a NUL byte");
    for (int i = 0; i < 3; i++)
        pass(w);
    return add(w, (char)(high * 16 + low));
}

static bool take_string(struct words *w)
{
    char quote = *w->at;

    w->token = TOKEN_STRING;
    pass(w);
    while (w->at < w->end && *w->at != quote && *w->at != '\n') {
        char c = *w->at;

        if (c == '\0') {
            w->spot = w->here;
            return wrong(w, "not a text file: it holds a NUL byte");
        }
        pass(w);
        if (c == '\\' && quote == '"') {
            if (!take_escape(w))
                return false;
            continue;
        }
        if (c == '\\' && w->at < w->end && (*w->at == '\'' || *w->at == '\\')) {
            c = *w->at;
            pass(w);
        }
        if (!add(w, c))
            return false;
    }
    if (w->at == w->end || *w->at == '\n')
        return wrong(w,
                     quote == '"'
                         ? "the string that begins here does not end on its line; \" is expected"
                         : "the string that begins here does not end on its line; ' is expected");
    pass(w);
    return true;
}

static bool take_word(struct words *w)
{
    w->token = TOKEN_WORD;
    while (w->at < w->end && !is_one_of(*w->at, BLANKS MARKS "\"'#")) {
        if (*w->at == '\0') {
            w->spot = w->here;
            return wrong(w, "not a text file: it holds a NUL byte");
        }
        if (!add(w, *w->at))
            return false;
        pass(w);
    }
    return true;
}

void words_begin(struct words *w, const char *text, size_t size, const char *file)
{
    w->at = text;
    w->end = text + size;
    w->here = (struct policy_place){file, 1, 1};
    w->complaint = NULL;
}

bool words_next(struct words *w)
{
    struct policy_place last = w->here;

    if (!pass_blanks(w))
        return false;
    w->len = 0;
    if (!add(w, '\0')) /* so that there always is a text */
        return false;
    w->len = 0;
    w->spot = w->here;
    if (w->at == w->end) {
        /* Behind the last newline there is no line: what lacks there, lacks behind the last word.
         */
        if (w->spot.column == 1 && w->spot.line > 1)
            w->spot = last;
        w->token = TOKEN_END;
        return true;
    }
    if (is_one_of(*w->at, MARKS)) {
        w->token = TOKEN_MARK;
        return add(w, *w->at) && (pass(w), true);
    }
    return *w->at == '"' || *w->at == '\'' ? take_string(w) : take_word(w);
}

bool words_is(const struct words *w, char mark)
{
    return w->token == TOKEN_MARK && w->text[0] == mark;
}

const char *words_found(const struct words *w, char *text, size_t len)
{
    static const char *const forms[] = {
        [TOKEN_WORD] = "\"%.60s\"%s", [TOKEN_STRING] = "\"%.60s\"%s", [TOKEN_MARK] = "%s%s"};

    if (w->token == TOKEN_END)
        snprintf(text, len, "the end of the file");
    else
        snprintf(text, len, forms[w->token], w->text,
                 w->len > 60 && w->token != TOKEN_MARK ? "..." : "");
    return text;
}

void words_end(struct words *w)
{
    free(w->text);
    w->text = NULL;
    w->len = w->room = 0;
}
