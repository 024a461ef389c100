/*
 * Fuzz target import: what `jailmap import` makes of the words of Postfix. Run by tests/fuzz/run;
 * makes memory streams. Users come from a name service of its own, as in the unit tests. Input: a
 * value of proxy_read_maps, which is also taken for a main.cf and for the output of postconf(1).
 * What is approved must stand in the value behind proxy:, white space must come back from its
 * marks, and what is printed must be read as a policy with the same tables.
 */
#include "ctl/import.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sysexits.h>

#include "policy/policy.h"
#include "tests/fuzz/common.h"

struct passwd *getpwnam(const char *name)
{
    static struct passwd pw;

    errno = 0;
    pw = (struct passwd){.pw_uid = name[0] == 'r' ? 0 : name[0] == 'p' ? 105 : 990, .pw_gid = 991};
    return &pw;
}

struct group *getgrnam(const char *name)
{
    static struct group group = {.gr_gid = 991};

    (void)name;
    return &group;
}

int import_say(int status, const char *format, ...)
{
    (void)format;
    return status;
}

/* ---- which tables a value approves ---- */

static void check_name(void *context, struct slice name)
{
    const struct slice *value = context;

    CHECK(name.ptr >= value->ptr + 6 && name.ptr + name.len <= value->ptr + value->len,
          "a name that is not in the value");
    CHECK(memcmp(name.ptr - 6, "proxy:", 6) == 0, "a name without proxy: before it");
    CHECK(memchr(name.ptr, ':', name.len) != NULL, "a name without a colon");
    CHECK(name.len < 6 || memcmp(name.ptr, "proxy:", 6) != 0, "a name that begins with proxy:");
}

static void ignore(void *context, const char *what, struct slice token)
{
    const struct slice *value = context;

    (void)what;
    CHECK(token.ptr >= value->ptr && token.ptr + token.len <= value->ptr + value->len,
          "a warning about what is not in the value");
}

static void check_value(struct slice value)
{
    const struct import_rules rules = {
        .approve = check_name, .warn = ignore, .context = (void *)&value};

    import_approved(value, &rules);
}

/* ---- lines and white space ---- */

static void check_marks(const char *line)
{
    char *marked;

    if (import_is_marked(line))
        return;
    marked = import_mark_spaces(line);
    REQUIRE(marked != NULL, "out of memory");
    import_unmark_spaces(marked);
    CHECK(strcmp(marked, line) == 0, "marked and back: \"%s\", before \"%s\"", marked, line);
    CHECK(import_same_words(marked, line), "not the same words as itself");
    free(marked);
}

static void check_lines(struct slice text)
{
    struct slice rest = text;
    char *line, *value = import_main_cf(text, "a");

    CHECK(value == NULL || strchr(value, '\n') == NULL, "a value of two lines");
    free(value);
    value = import_master_cf(text, "a", "b", "{a b} c");
    CHECK(value == NULL || import_same_words(value, "{a b} c"), "other words: \"%s\"", value);
    free(value);
    while ((line = import_next_line(&rest)) != NULL) {
        CHECK(strchr(line, '\n') == NULL, "a line with a newline");
        check_marks(line);
        free(line);
    }
    CHECK(rest.len == 0, "%zu bytes are left", rest.len);
}

/* ---- settings, and the policy that comes of them ---- */

static size_t read_settings(struct import_settings *settings, const char *text, size_t len)
{
    char *copy = need_memory(len + 1);

    memcpy(copy, text, len);
    copy[len] = '\0';
    return import_settings_read(settings, copy, len);
}

static void check_settings(struct slice text)
{
    struct import_settings settings;

    if (read_settings(&settings, text.ptr, text.len) == 0)
        for (size_t i = 0; i < settings.n; i++)
            CHECK(import_setting(&settings, settings.list[i].name) != NULL, "a setting is lost");
    import_settings_free(&settings);
}

static int open_printed(void *context, const char *name, char *why, size_t len)
{
    CHECK(name[0] == '\0', "the policy includes %s", name);
    snprintf(why, len, "none");
    return file_of_bytes(context, strlen(context));
}

static void check_policy(const struct import *import, char *text)
{
    const struct policy_files files = {open_printed, text};
    char why[2048];
    struct policy *policy = policy_read(&files, "/printed", why, sizeof why);
    size_t served = 0;

    REQUIRE(policy != NULL, "refused: %s\n%s", why, text);
    for (size_t i = 0; i < import->approved.n; i++)
        if (import_unserved(import, import->approved.names[i]) == NULL) {
            REQUIRE(served < policy->ntables, "only %zu tables", policy->ntables);
            CHECK(strcmp(policy->tables[served].name, import->approved.names[i]->name) == 0,
                  "another name");
            CHECK(policy->allows[0].tables[served] && policy->allows[1].tables[served],
                  "a table that is not approved");
            served++;
        }
    CHECK(served == policy->ntables, "%zu tables of %zu", policy->ntables, served);
    policy_free(policy);
}

/* The value as that of proxy_read_maps, and of a parameter that it names. */
static void check_import(struct slice value)
{
    struct import import = {.existence = false};
    struct import_settings *const settings[] = {&import.raw, &import.over, &import.read_by,
                                                &import.plain, &import.over_x};
    char *text = NULL, *printed = NULL;
    int len = asprintf(&text, "mail_version = 3.7.1\nproxy_read_maps = %.*s\nk = %.*s\n",
                       (int)value.len, value.ptr, (int)value.len, value.ptr);
    size_t room, bad = 0;
    FILE *out = open_memstream(&printed, &room);

    REQUIRE(len > 0 && out != NULL, "out of memory");
    for (size_t i = 0; i < COUNT(settings); i++)
        bad += read_settings(settings[i], text, i == 1 || i == 4 ? 0 : (size_t)len) != 0;
    if (bad == 0) {
        CHECK(import_decide(&import) == EX_OK, "not decided");
        import_print(out, &import,
                     &(struct import_place){
                         .directory = "/", .socket = "/s", .owner = "postfix", .group = "p"});
        fflush(out);
        check_policy(&import, printed);
    }
    fclose(out);
    free(printed);
    free(text);
    import_free(&import);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = exact_copy(data, size);
    struct slice input = {copy, size};

    check_value(input);
    check_lines(input);
    check_settings(input);
    if (memchr(copy, '\0', size) == NULL && memchr(copy, '\n', size) == NULL)
        check_import(input);
    free(copy);
    return 0;
}
