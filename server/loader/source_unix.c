/*
 * Source types unix:passwd.byname and unix:group.byname: the files behind getpwnam(3) and
 * getgrnam(3). Runs in the loader, on files that root wrote but that anybody may have put odd
 * fields into. An entry must come out exactly as the `files` service of glibc's NSS gives it, or
 * not at all; and where NSS would not ask that file first, and believe it, nothing is read: the
 * name service then answers. When in doubt, it does.
 */
#include "server/entry_line.h"
#include "server/image.h"
#include "server/loader/key_index.h"
#include "server/loader/source.h"
#include "server/text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum taken { TAKEN, NOT_ASKED_FOR, MALFORMED };

struct database {
    const char *name; /* in nsswitch.conf(5) */
    const char *line; /* what is expected */
    enum taken (*parse)(struct slice line, struct slice *name, struct entry_line *value);
};

/* ---- nsswitch.conf ---- */

static struct slice cut_word(struct slice *rest)
{
    struct slice word;
    size_t i = 0;

    *rest = text_skip_space(*rest);
    while (i < rest->len && !text_is_space(rest->ptr[i]) && rest->ptr[i] != '[')
        i++;
    word = (struct slice){rest->ptr, i};
    *rest = text_skip_space((struct slice){rest->ptr + i, rest->len - i});
    return word;
}

static bool is_one_of(struct slice word, const char *const *names)
{
    for (; *names != NULL; names++)
        if (word.len == strlen(*names) && strncasecmp(word.ptr, *names, word.len) == 0)
            return true;
    return false;
}

/* `status=action` or `!status=action` */
static bool is_criterion(struct slice word)
{
    static const char *const statuses[] = {"success", "notfound", "unavail", "tryagain", NULL};
    static const char *const actions[] = {"return", "continue", "merge", NULL};
    const char *equals = memchr(word.ptr, '=', word.len);
    const char *status = word.ptr + (word.ptr[0] == '!');

    return equals != NULL && equals >= status &&
           is_one_of((struct slice){status, (size_t)(equals - status)}, statuses) &&
           is_one_of((struct slice){equals + 1, word.len - (size_t)(equals + 1 - word.ptr)},
                     actions);
}

/* Cuts an [action] off. False if it is not one that glibc would certainly take: it forgets the
 * whole line for a word that it does not know. */
static bool cut_action(struct slice *rest)
{
    const char *close = memchr(rest->ptr, ']', rest->len);
    struct slice inside, word;

    if (close == NULL)
        return false;
    inside = (struct slice){rest->ptr + 1, (size_t)(close - rest->ptr) - 1};
    *rest = (struct slice){close + 1, rest->len - inside.len - 2};
    do {
        word = cut_word(&inside);
        if (word.len == 0 || !is_criterion(word))
            return false;
    } while (inside.len > 0);
    *rest = text_skip_space(*rest);
    return true;
}

/* The services of a database. Comments end no line here, for glibc 2.36 takes `#` for a service:
 * then `files # old` is KIND_BOTH, and right wherever `#` does begin a comment. */
static enum bridge_kind kind_of(struct slice rest)
{
    enum bridge_kind kind = KIND_IMAGE;

    if (!slice_is(cut_word(&rest), "files") || (rest.len > 0 && rest.ptr[0] == '['))
        return KIND_LINK;
    while (rest.len > 0) {
        kind = KIND_BOTH;
        if (rest.ptr[0] == '[' ? !cut_action(&rest) : cut_word(&rest).len == 0)
            return KIND_LINK;
    }
    return kind;
}

/* True if the line is one of that database; *services is then what stands behind its name. glibc
 * takes blanks for the colon, too. */
static bool is_line_of(struct slice line, const char *database, struct slice *services)
{
    size_t i = 0;

    line = text_skip_space(line);
    while (i < line.len && line.ptr[i] != ':' && !text_is_space(line.ptr[i]))
        i++;
    if (!slice_is((struct slice){line.ptr, i}, database))
        return false;
    while (i < line.len && (line.ptr[i] == ':' || text_is_space(line.ptr[i])))
        i++;
    *services = (struct slice){line.ptr + i, line.len - i};
    return true;
}

/* Of several lines of one database, glibc uses the last. It may not see a line that does not end
 * in a newline: whether it does is a doubt. */
static enum bridge_kind switch_says(struct text *conf, const char *database)
{
    struct text_reader reader = text_start(conf);
    enum bridge_kind kind = KIND_LINK;
    struct text_line line;
    struct slice services;

    if (conf->len > 0 && memchr(conf->ptr, '\0', conf->len) != NULL)
        return KIND_LINK;
    while (text_physical(&reader, &line))
        if (is_line_of((struct slice){line.ptr, line.len}, database, &services))
            kind = line.ptr + line.len < reader.end ? kind_of(services) : KIND_LINK;
    return kind;
}

static int ask_switch(struct source *source, const struct database *database)
{
    struct text conf = {NULL, 0, 0};
    int rc = 0;

    source->answered_by = KIND_LINK;
    if (source->nsswitch >= 0) {
        rc = source_read(source, source->nsswitch, &conf);
        if (rc == 0)
            source->answered_by = switch_says(&conf, database->name);
        free(conf.ptr);
    }
    return source->error == ENOMEM ? rc : 0; /* what cannot be read is a doubt */
}

/* ---- lines of passwd and group ---- */

/* What stands before the next colon. A field that is not there is empty. */
static struct slice cut_field(struct slice *rest)
{
    const char *colon = rest->len > 0 ? memchr(rest->ptr, ':', rest->len) : NULL;
    size_t len = colon != NULL ? (size_t)(colon - rest->ptr) : rest->len;
    size_t used = colon != NULL ? len + 1 : len;
    struct slice field = {rest->ptr, len};

    *rest = (struct slice){rest->ptr + used, rest->len - used};
    return field;
}

/* An id as glibc reads it: by strtoul(3), blanks before it, sign and all, up to the end of its
 * field. What is not in 32 bits then is no id. */
static bool cut_id(struct slice *rest, uint32_t *id)
{
    struct slice field = text_skip_space(cut_field(rest));
    bool minus = field.len > 0 && field.ptr[0] == '-';
    size_t i = minus || (field.len > 0 && field.ptr[0] == '+');
    unsigned long n = 0;

    if (i == field.len)
        return false;
    for (; i < field.len; i++) {
        unsigned digit = (unsigned)(field.ptr[i] - '0');

        if (digit > 9 || __builtin_mul_overflow(n, 10ul, &n) ||
            __builtin_add_overflow(n, digit, &n))
            return false;
    }
    if (minus)
        n = -n;
    *id = (uint32_t)n;
    return n <= UINT32_MAX;
}

/* Names that begin so are for NSS's compat service: no lookup finds them. */
static bool cannot_be_asked_for(struct slice name)
{
    return name.len == 0 || name.ptr[0] == '+' || name.ptr[0] == '-';
}

/* name:passwd:uid:gid:gecos:dir:shell. The shell is the rest of the line, colons included. */
static enum taken parse_passwd(struct slice line, struct slice *name, struct entry_line *value)
{
    struct slice passwd;
    uint32_t uid, gid;

    *name = cut_field(&line);
    passwd = cut_field(&line);
    if (cannot_be_asked_for(*name))
        return NOT_ASKED_FOR;
    if (!cut_id(&line, &uid) || !cut_id(&line, &gid))
        return MALFORMED;
    entry_text(value, *name);
    entry_text(value, passwd);
    entry_id(value, (long)uid);
    entry_id(value, (long)gid);
    entry_text(value, cut_field(&line));
    entry_text(value, cut_field(&line));
    entry_text(value, line);
    return TAKEN;
}

/* Blanks before a member are not part of it, and a member of nothing is none. */
static void add_members(struct entry_line *value, struct slice list)
{
    bool first = true;

    entry_field(value);
    while (list.len > 0) {
        const char *comma = memchr(list.ptr, ',', list.len);
        size_t len = comma != NULL ? (size_t)(comma - list.ptr) : list.len;
        struct slice member = text_skip_space((struct slice){list.ptr, len});

        list.ptr += len + (comma != NULL);
        list.len -= len + (comma != NULL);
        if (member.len > 0)
            entry_member(value, member, &first);
    }
}

/* name:passwd:gid:member,member */
static enum taken parse_group(struct slice line, struct slice *name, struct entry_line *value)
{
    struct slice passwd;
    uint32_t gid;

    *name = cut_field(&line);
    passwd = cut_field(&line);
    if (cannot_be_asked_for(*name))
        return NOT_ASKED_FOR;
    if (!cut_id(&line, &gid))
        return MALFORMED;
    entry_text(value, *name);
    entry_text(value, passwd);
    entry_id(value, (long)gid);
    add_members(value, line);
    return TAKEN;
}

/* ---- the file ---- */

/* Of several entries of one name, the first is found. */
static int add(struct source *source, struct key_index *index, size_t number, struct slice name,
               const struct entry_line *value)
{
    unsigned fresh;

    if (key_index_claim(index, name, IMAGE_FORM_ANY, true, &fresh) != 0)
        return source_fail_errno(source);
    if (fresh == 0) {
        source_ignore(source, number, "an earlier line has the same name");
        return 0;
    }
    return source->sink->add(source->sink, name, IMAGE_FORM_ANY,
                             (struct slice){value->ptr, value->len});
}

/* Fails if no line is an entry: there is no system without a user or a group. */
static int take_lines(struct source *source, const struct database *database, struct text *file,
                      struct key_index *index, struct entry_line *value)
{
    struct text_reader reader = text_start(file);
    struct text_line line;
    bool any = false;

    while (text_physical(&reader, &line)) {
        struct slice entry = text_skip_space((struct slice){line.ptr, line.len}), name;
        enum taken taken;

        if (entry.len == 0 || entry.ptr[0] == '#')
            continue;
        entry_begin(value, source->reveal);
        taken = database->parse(entry, &name, value);
        if (value->failed) {
            errno = ENOMEM;
            return source_fail_errno(source);
        }
        if (taken == MALFORMED)
            source_ignore(source, line.number, "not `%s`", database->line);
        if (taken == TAKEN && add(source, index, line.number, name, value) != 0)
            return -1;
        any |= taken == TAKEN;
    }
    if (!any)
        return source_fail(source, "there is no entry in the file, expected lines of `%s`",
                           database->line);
    return 0;
}

/* glibc 2.36 repeats the end of a line that begins with blanks and does not end in a newline, and
 * what it makes of a NUL is as odd. Neither is worth a copy: the name service may answer. */
static bool is_odd(const struct text *file)
{
    const char *newline = memrchr(file->ptr, '\n', file->len);
    const char *last = newline != NULL ? newline + 1 : file->ptr;

    return memchr(file->ptr, '\0', file->len) != NULL ||
           (last < file->ptr + file->len && text_is_space(*last));
}

static int take_file(struct source *source, const struct database *database, struct text *file)
{
    struct entry_line value = {0};
    struct key_index *index;
    int rc;

    if (is_odd(file)) {
        source->answered_by = KIND_LINK;
        source_ignore(source, 0,
                      "a NUL, or a last line that begins with a blank and has no newline");
        return 0;
    }
    index = key_index_new();
    rc = index == NULL ? source_fail_errno(source)
                       : take_lines(source, database, file, index, &value);
    key_index_free(index);
    free(value.ptr);
    return rc;
}

static int load(struct source *source, const struct database *database)
{
    struct text file = {NULL, 0, 0};
    int rc = ask_switch(source, database);

    if (rc != 0 || source->answered_by == KIND_LINK)
        return rc;
    rc = source_read(source, source->fd, &file);
    if (rc == 0 && file.len == 0)
        rc = source_fail(source, "the file is empty");
    if (rc == 0)
        rc = take_file(source, database, &file);
    free(file.ptr);
    return rc;
}

static int load_passwd(struct source *source)
{
    static const struct database passwd = {"passwd", "name:passwd:uid:gid:gecos:dir:shell",
                                           parse_passwd};

    return load(source, &passwd);
}

static int load_group(struct source *source)
{
    static const struct database group = {"group", "name:passwd:gid:member,member", parse_group};

    return load(source, &group);
}

const struct source_ops source_passwd = {.type = TYPE_PASSWD, .load = load_passwd};
const struct source_ops source_group = {.type = TYPE_GROUP, .load = load_group};
