/*
 * Fuzz target nsswitch: what the loader makes of nsswitch.conf(5). Run by tests/fuzz/run; makes
 * anonymous files. Input: the file. That the image is all there is may only be said of a file that
 * says so beyond any doubt; whatever else it holds, the agent must be asked.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/common.h"

static enum bridge_kind answered_by(const struct source_ops *ops, const char *entry,
                                    struct slice conf)
{
    enum bridge_kind kind;
    struct loaded l = {0};

    load_file(&l, ops, text_slice(entry), &conf);
    expect_sane(&l);
    REQUIRE(l.rc == 0, "refused: %s", l.source.why);
    kind = l.source.answered_by;
    CHECK(kind == KIND_LINK || kind == KIND_IMAGE || kind == KIND_BOTH, "answered by %d", kind);
    CHECK(l.count == (kind != KIND_LINK), "%zu entries", l.count);
    unload(&l);
    return kind;
}

/* The words of a line, in place, with blanks and colons between them cut away. A line that begins
 * with a colon has none: to glibc it names no database. */
static size_t words_of(char *line, const char *words[3])
{
    size_t n = 0;

    line += strspn(line, " \t\v\f\r");
    if (line[0] == ':')
        return 0;
    for (char *save = NULL, *word = strtok_r(line, ": \t\v\f\r", &save); word != NULL;
         word = strtok_r(NULL, ": \t\v\f\r", &save))
        if (n++ < 3)
            words[n - 1] = word;
    return n;
}

/* Does the last line of that database name `files` and nothing else? */
static bool is_files_only(struct slice conf, const char *database)
{
    char *text = need_memory(conf.len + 1), *rest = text, *line;
    bool files = false;

    memcpy(text, conf.ptr, conf.len);
    text[conf.len] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        const char *words[3] = {"", "", ""};
        size_t n = words_of(line, words);

        if (n > 0 && strcmp(words[0], database) == 0)
            files = n == 2 && strcmp(words[1], "files") == 0;
    }
    free(text);
    return files;
}

static char *with_line(struct slice conf, const char *line, size_t *len)
{
    char *text = need_memory(conf.len + strlen(line) + 1);

    memcpy(text, conf.ptr, conf.len);
    text[conf.len] = '\n';
    memcpy(text + conf.len + 1, line, strlen(line));
    *len = conf.len + 1 + strlen(line);
    return text;
}

/* Whatever stands before it, the last line decides. One of the lines, as the input's size has it.
 */
static void expect_with_line(const struct source_ops *ops, const char *name, const char *entry,
                             struct slice conf)
{
    static const struct {
        const char *services;
        enum bridge_kind kind;
    } lines[] = {{"files\n", KIND_IMAGE},
                 {"files nis\n", KIND_BOTH},
                 {"nis files\n", KIND_LINK},
                 {"files", KIND_LINK}};
    size_t choice = conf.len % COUNT(lines), len;
    enum bridge_kind want = lines[choice].kind, got;
    char line[64], *text;

    snprintf(line, sizeof line, "%s: %s", name, lines[choice].services);
    text = with_line(conf, line, &len);
    got = answered_by(ops, entry, (struct slice){text, len});
    if (memchr(conf.ptr, 0, conf.len) != NULL)
        want = KIND_LINK; /* a doubt */
    CHECK(got == want, "with \"%s\": %d, not %d", line, got, want);
    free(text);
}

static void check_database(const struct source_ops *ops, const char *name, const char *entry,
                           struct slice conf)
{
    enum bridge_kind kind = answered_by(ops, entry, conf);

    if (kind == KIND_IMAGE)
        CHECK(is_files_only(conf, name), "the agent is left out, and it does not say so");
    if (kind != KIND_LINK)
        CHECK(conf.len > 0 && memchr(conf.ptr, 0, conf.len) == NULL, "a doubt is no doubt");
    expect_with_line(ops, name, entry, conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *conf = exact_copy(data, size);

    check_database(&source_passwd, "passwd", "z:x:9:9:::\n", (struct slice){conf, size});
    check_database(&source_group, "group", "z:x:9:\n", (struct slice){conf, size});
    free(conf);
    return 0;
}
