/*
 * Reading files that people write: see text.h. Runs in the loader and in agents. It may read the
 * descriptor that it is given; it must never map it, because a file that shrinks under a mapping
 * ends the process, and must never believe its size.
 */
#include "server/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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
int text_read(int fd, size_t max, struct text *text)
{
    struct stat st;
    size_t guess;
    ssize_t n;

    *text = (struct text){NULL, 0, 0};
    if (fstat(fd, &st) != 0)
        return -1;
    guess = st.st_size > 0 && (uintmax_t)st.st_size < max ? (size_t)st.st_size : 4096;
    do {
        if (text->len > max) {
            errno = EFBIG;
            return -1;
        }
        if (text_reserve(text, text->len == 0 ? guess + 1 : 1) != 0)
            return -1;
        n = pread(fd, text->ptr + text->len, text->cap - text->len, (off_t)text->len);
        if (n > 0)
            text->len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? -1 : 0;
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

const char *text_quote(struct text_quoted *quoted, struct slice bytes)
{
    /* cppcheck-suppress ctuuninitvar ; it is written here, and never read */
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
