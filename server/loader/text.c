/*
 * Reading source files that people write: see text.h. Runs in the loader. It may read the
 * descriptor that it is given; it must never map it, because a file that shrinks under a mapping
 * ends the process, and must never believe its size.
 */
#include "server/loader/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX UINT32_MAX /* offsets in an image are 32 bits: more could not be stored */

int text_reserve(struct text *text, size_t more)
{
    size_t want = text->cap * 2;
    char *grown;

    if (more <= text->cap - text->len)
        return 0;
    if (more > SIZE_MAX / 4 || text->len > SIZE_MAX / 4) {
        errno = ENOMEM;
        return -1;
    }
    if (want < text->len + more)
        want = text->len + more;
    grown = realloc(text->ptr, want);
    if (grown == NULL)
        return -1;
    text->ptr = grown;
    text->cap = want;
    return 0;
}

int text_append(struct text *text, struct slice bytes)
{
    if (text_reserve(text, bytes.len) != 0)
        return -1;
    if (bytes.len > 0)
        memcpy(text->ptr + text->len, bytes.ptr, bytes.len);
    text->len += bytes.len;
    return 0;
}

/* The size is a first guess: reading goes on until there is no more. */
int text_read(struct source *source, int fd, struct text *text)
{
    struct stat st;
    size_t guess;
    ssize_t n;

    *text = (struct text){NULL, 0, 0};
    if (fstat(fd, &st) != 0)
        return text_fail_errno(source);
    guess = st.st_size > 0 && st.st_size < (off_t)TEXT_MAX ? (size_t)st.st_size : 4096;
    do {
        if (text->len >= TEXT_MAX)
            return source_fail(source, "the file is larger than 4 GB, which is more than an image "
                                       "can hold");
        if (text_reserve(text, text->len == 0 ? guess + 1 : 1) != 0)
            return text_fail_errno(source);
        n = pread(fd, text->ptr + text->len, text->cap - text->len, (off_t)text->len);
        if (n > 0)
            text->len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? text_fail_errno(source) : 0;
}

int text_read_table(struct source *source, struct text *text)
{
    if (text_read(source, source->fd, text) != 0)
        return -1;
    if (text->len == 0)
        return source_fail(source, "the file is empty; if the table is meant to have no entries, "
                                   "write a comment line into it");
    return 0;
}

struct text_reader text_start(struct text *text)
{
    return (struct text_reader){text->ptr, text->ptr + text->len, 0};
}

bool text_physical(struct text_reader *reader, struct text_line *line)
{
    size_t left = (size_t)(reader->end - reader->next);
    char *newline;

    if (left == 0)
        return false;
    newline = memchr(reader->next, '\n', left);
    line->ptr = reader->next;
    line->len = newline != NULL ? (size_t)(newline - reader->next) : left;
    line->number = ++reader->line;
    reader->next += newline != NULL ? line->len + 1 : left;
    return true;
}

static bool says_nothing(const struct text_line *line)
{
    struct slice rest = text_skip_space((struct slice){line->ptr, line->len});

    return rest.len == 0 || rest.ptr[0] == '#';
}

static bool goes_on(const struct text_reader *reader)
{
    return reader->next < reader->end && (text_is_space(*reader->next) || *reader->next == '#');
}

bool text_logical(struct text_reader *reader, struct text_line *line)
{
    struct text_line more;

    do {
        if (!text_physical(reader, line))
            return false;
    } while (says_nothing(line));
    while (goes_on(reader) && text_physical(reader, &more)) {
        if (says_nothing(&more))
            continue;
        memmove(line->ptr + line->len, more.ptr, more.len);
        line->len += more.len;
    }
    return true;
}

struct slice text_string(const struct text_line *line)
{
    return (struct slice){line->ptr, strnlen(line->ptr, line->len)};
}

bool text_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct slice text_skip_space(struct slice s)
{
    while (s.len > 0 && text_is_space(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    return s;
}

struct slice text_trim(struct slice s)
{
    s = text_skip_space(s);
    while (s.len > 0 && text_is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

bool text_unbrace(struct slice s, struct slice *inside)
{
    size_t depth = 0;

    if (s.len < 2 || s.ptr[0] != '{')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        depth += s.ptr[i] == '{';
        depth -= s.ptr[i] == '}'; /* never of 0: the search ends where it gets there */
        if (depth == 0 && i + 1 < s.len)
            return false;
    }
    if (depth != 0)
        return false;
    *inside = text_trim((struct slice){s.ptr + 1, s.len - 2});
    return true;
}

void text_ignore(struct source *source, size_t line, const char *format, ...)
{
    int used = 0;
    va_list ap;

    if (source->ignored < UINT32_MAX)
        source->ignored++;
    if (source->ignored != 1)
        return;
    if (line > 0)
        used = snprintf(source->warning, sizeof source->warning, "line %zu: ", line);
    va_start(ap, format);
    vsnprintf(source->warning + used, sizeof source->warning - (size_t)used, format, ap);
    va_end(ap);
}

int text_fail_errno(struct source *source)
{
    if (errno == ENOMEM) {
        source->error = ENOMEM;
        return source_fail(source, "out of memory");
    }
    if (errno == EFBIG)
        return source_fail(source, "a key is longer than 256 MB, which is more than an image can "
                                   "hold");
    return source_fail(source, "cannot read the file: %s", strerror(errno));
}

const char *text_quote(struct text_quoted *quoted, struct slice bytes)
{
    char *to = quoted->text, *stop = quoted->text + sizeof quoted->text - 8;

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];

        if (to >= stop) { /* a whole \xNN or `...` and the NUL still fit */
            to = stpcpy(to, "...");
            break;
        }
        if (c >= ' ' && c < 0x7f && c != '\\' && c != '"')
            *to++ = (char)c;
        else
            to += snprintf(to, 5, "\\x%02x", c);
    }
    *to = '\0';
    return quoted->text;
}
