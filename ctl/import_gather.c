/*
 * What Postfix's proxymap(8) approves, and which parameters make it so. Runs in jailmap-import as
 * whoever calls it. It may run postconf(1), and read main.cf and master.cf for the white space that
 * postconf does not keep; it must never change anything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "ctl/import.h"

#define SERVICE    "proxymap/unix/" /* the read service has no other name */
#define FILE_BYTES ((size_t)64 << 20)
#define SHORT_MOST ((size_t)16 << 10) /* bytes of a value */
#define SHORT_ALL  ((size_t)256 << 10)

/* ---- asking ---- */

/* `-x`, and a `-o NAME=VALUE` for each value that postconf could not know or keep. */
struct options {
    const char **list;
    size_t n;
};

static bool add_option(struct options *options, const char *option)
{
    const char **grown = reallocarray(options->list, options->n + 2, sizeof *grown);

    if (grown == NULL)
        return false;
    options->list = grown;
    grown[options->n++] = option;
    grown[options->n] = NULL;
    return true;
}

static void free_options(struct options *options)
{
    for (size_t i = 1; i < options->n; i++) /* -x is a constant, as -o is */
        if (strcmp(options->list[i], "-o") != 0)
            free((char *)options->list[i]);
    free(options->list);
}

/* Gives a parameter a value, with marks where it has white space that postconf would lose. */
static bool add_setting(struct options *options, const char *name, const char *value)
{
    char *marked = import_mark_spaces(value), *option = NULL;

    if (marked == NULL || asprintf(&option, "%s=%s", name, marked) < 0)
        option = NULL;
    free(marked);
    if (option != NULL && add_option(options, "-o") && add_option(options, option))
        return true;
    free(option);
    return false;
}

/* The files of the configuration, for their white space. */
struct files {
    struct slice main_cf, master_cf;
    bool marks; /* can be used */
};

static int read_one(const char *directory, const char *name, struct slice *text)
{
    char *path = NULL;
    int status = EX_OK;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return import_say(EX_OSERR, "out of memory");
    text->ptr = import_read_file(path, FILE_BYTES, &text->len);
    if (text->ptr == NULL)
        status = import_say(EX_NOINPUT, "%s: %s; a file that postconf can read is expected", path,
                            strerror(errno));
    free(path);
    return status;
}

static int read_files(const struct import *import, struct files *files)
{
    const char *directory = import_setting(&import->raw, "config_directory");
    int status;

    if (directory == NULL)
        return import_say(EX_PROTOCOL,
                          "postconf does not print config_directory; is it Postfix's?");
    status = read_one(directory, "main.cf", &files->main_cf);
    if (status == EX_OK)
        status = read_one(directory, "master.cf", &files->master_cf);
    files->marks = true;
    for (size_t i = 0; i < import->raw.n; i++)
        files->marks = files->marks && !import_is_marked(import->raw.list[i].value);
    for (size_t i = 0; i < import->over.n; i++)
        files->marks = files->marks && !import_is_marked(import->over.list[i].value);
    return status;
}

/*
 * Adds what main.cf has in white space of its own. That matters only within braces, but a value
 * without any may come to stand between those of another: so short ones are added too, while they
 * are not too many for a command line.
 */
static bool add_spaced(struct options *options, const struct import *import,
                       const struct files *files)
{
    size_t room = SHORT_ALL;
    bool good = true;

    for (size_t i = 0; i < import->raw.n && files->marks && good; i++) {
        const struct import_setting *s = &import->raw.list[i];
        size_t len = strlen(s->value);
        bool braces = strchr(s->value, '{') != NULL;
        char *own = NULL;

        errno = 0;
        if (strchr(s->value, ' ') != NULL && (braces || (len <= SHORT_MOST && len <= room)))
            own = import_main_cf(files->main_cf, s->name);
        good = own != NULL || errno != ENOMEM;
        if (own != NULL && import_is_spaced(own) && import_same_words(own, s->value)) {
            room -= braces ? 0 : len;
            good = add_setting(options, s->name, own);
        }
        free(own);
    }
    return good;
}

/* Adds what master.cf says of the proxymap service. */
static bool add_overrides(struct options *options, const struct import *import,
                          const struct files *files)
{
    bool good = true;

    for (size_t i = 0; i < import->over.n && good; i++) {
        const struct import_setting *s = &import->over.list[i];
        char *own = NULL;

        if (strncmp(s->name, SERVICE, strlen(SERVICE)) != 0)
            continue;
        if (files->marks && strchr(s->value, '{') != NULL && strchr(s->value, ' ') != NULL)
            own = import_master_cf(files->master_cf, "proxymap", "unix", s->value);
        good = add_setting(options, s->name + strlen(SERVICE), own != NULL ? own : s->value);
        free(own);
    }
    return good;
}

/* Main.cf, expanded; as the proxymap service sees it, or as a service without overrides does. */
static int ask_expanded(const struct import_postconf *postconf, const struct import *import,
                        const struct files *files, bool overrides, struct import_settings *settings)
{
    struct options options = {NULL, 0};
    int status;

    if (!add_option(&options, "-x") || !add_spaced(&options, import, files) ||
        (overrides && !add_overrides(&options, import, files)))
        status = import_say(EX_OSERR, "out of memory");
    else
        status = import_postconf(postconf, options.list, false, settings);
    free_options(&options);
    return status;
}

int import_gather(const struct import_postconf *postconf, struct import *import)
{
    struct files files = {{NULL, 0}, {NULL, 0}, false};
    int status = import_postconf(postconf, (const char *const[]){NULL}, true, &import->raw);

    if (status == EX_OK)
        status = import_postconf(postconf, (const char *const[]){"-P", NULL}, false, &import->over);
    if (status == EX_OK)
        status = import_postconf(postconf, (const char *const[]){"-x", "-P", NULL}, false,
                                 &import->over_x);
    if (status == EX_OK)
        status = read_files(import, &files);
    if (status == EX_OK)
        status = ask_expanded(postconf, import, &files, true, &import->read_by);
    if (status == EX_OK)
        status = ask_expanded(postconf, import, &files, false, &import->plain);
    free((char *)files.main_cf.ptr);
    free((char *)files.master_cf.ptr);
    return status == EX_OK ? import_decide(import) : status;
}

void import_free(struct import *import)
{
    import_list_free(&import->approved);
    import_list_free(&import->denied);
    import_settings_free(&import->raw);
    import_settings_free(&import->over);
    import_settings_free(&import->read_by);
    import_settings_free(&import->plain);
    import_settings_free(&import->over_x);
}
