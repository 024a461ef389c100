/*
 * Which tables the value of a Postfix parameter approves: the rules by which proxymap(8) reads
 * proxy_read_maps. Runs in jailmap-import as whoever calls it, on text that administrators wrote.
 * It may touch its arguments, and from Postfix 3.11 on read the files that they name, as proxymap
 * does; it must never approve more than proxymap would.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/import.h"

#define SEPARATORS ", \t\r\n"
#define DEPTH_MOST 64 /* of braces and files in each other; real ones have two or three */
#define FILES_MOST 256
#define FILE_BYTES (16u << 20)

struct reading {
    const struct import_rules *rules;
    unsigned depth, files;
};

static void approve_all(struct slice value, struct reading *reading);

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool strip(struct slice *s, const char *prefix)
{
    size_t len = strlen(prefix);

    if (s->len < len || memcmp(s->ptr, prefix, len) != 0)
        return false;
    s->ptr += len;
    s->len -= len;
    return true;
}

/* The next word; white space and commas within braces belong to it. A closing brace too many is as
 * good as a letter. */
static bool next_token(struct slice *rest, struct slice *token)
{
    size_t level = 0;

    while (rest->len > 0 && is_one_of(rest->ptr[0], SEPARATORS))
        *rest = (struct slice){rest->ptr + 1, rest->len - 1};
    *token = (struct slice){rest->ptr, 0};
    for (; rest->len > 0; rest->ptr++, rest->len--, token->len++) {
        char c = rest->ptr[0];

        if (level == 0 && is_one_of(c, SEPARATORS))
            break;
        level += c == '{';
        level -= c == '}' && level > 0;
    }
    return token->len > 0;
}

/* proxymap skips with a warning what it does not understand. */
static void warn(const struct reading *reading, const char *what, struct slice token)
{
    reading->rules->warn(reading->rules->context, what, token);
}

/* Takes the braces off a group that ends where its token ends. */
static bool take_group(struct slice token, const struct reading *reading, struct slice *inside)
{
    size_t level = 0, at = 0;

    do {
        level += token.ptr[at] == '{';
        level -= token.ptr[at] == '}';
    } while (++at < token.len && level > 0);
    if (level > 0 || at < token.len) {
        warn(reading, level > 0 ? "a } is missing" : "there is something behind its }", token);
        return false;
    }
    *inside = (struct slice){token.ptr + 1, token.len - 2};
    return true;
}

/* The file is one of main.cf's kind: lines continue in the next, and may be comments. */
static void approve_file(struct slice token, struct reading *reading)
{
    char *path = strndup(token.ptr, token.len), *text = NULL, *line;
    struct slice rest = {NULL, 0};

    if (path != NULL && reading->files < FILES_MOST)
        text = import_read_file(path, FILE_BYTES, &rest.len);
    if (text == NULL)
        warn(reading, reading->files < FILES_MOST ? strerror(errno) : "too many files", token);
    else
        reading->files++;
    rest.ptr = text;
    while (text != NULL && (line = import_next_line(&rest)) != NULL) {
        approve_all((struct slice){line, strlen(line)}, reading);
        free(line);
    }
    if (rest.len > 0)
        warn(reading, "out of memory", token);
    free(text);
    free(path);
}

static void approve_token(struct slice token, struct reading *reading)
{
    struct slice inside, composite;

    if (token.ptr[0] == '{' &&
        (!take_group(token, reading, &inside) || !next_token(&inside, &token)))
        return;
    composite = token;
    if (token.ptr[0] == '/') {
        if (reading->rules->files)
            approve_file(token, reading);
    } else if (strip(&composite, "unionmap:") || strip(&composite, "pipemap:")) {
        if (composite.len > 0 && composite.ptr[0] == '{' && take_group(composite, reading, &inside))
            approve_all(inside, reading);
    } else if (strip(&token, "proxy:")) {
        while (strip(&token, "proxy:"))
            ;
        if (memchr(token.ptr, ':', token.len) != NULL)
            reading->rules->approve(reading->rules->context, token);
    }
}

static void approve_all(struct slice value, struct reading *reading)
{
    struct slice token;

    if (reading->depth == DEPTH_MOST) {
        warn(reading, "it is nested too deep", value);
        return;
    }
    reading->depth++;
    while (next_token(&value, &token))
        approve_token(token, reading);
    reading->depth--;
}

void import_approved(struct slice value, const struct import_rules *rules)
{
    struct reading reading = {.rules = rules};

    approve_all(value, &reading);
}
