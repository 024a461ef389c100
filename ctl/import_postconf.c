/*
 * Running postconf(1) and reading what it prints. Runs in jailmap-import as whoever calls it. It
 * may execute that one program, without a shell; it trusts nothing in its output, which may be
 * long.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ctl/import.h"

#define BLANKS      " \t\n\v\f\r"
#define OUTPUT_MOST ((size_t)256 << 20)
#define COMMAND     256 /* bytes of the command in a message */

/* A running postconf. */
struct run {
    const struct import_postconf *postconf;
    char **argv;
    char command[COMMAND];
    int output, errors; /* a pipe, and an anonymous file */
    pid_t pid;
};

static bool make_argv(struct run *run, const char *const *options)
{
    size_t n = 0, at = 0;

    while (options[n] != NULL)
        n++;
    run->argv = calloc(n + 4, sizeof *run->argv);
    if (run->argv == NULL)
        return false;
    run->argv[at++] = (char *)run->postconf->program;
    if (run->postconf->directory != NULL) {
        run->argv[at++] = (char *)"-c";
        run->argv[at++] = (char *)run->postconf->directory;
    }
    for (size_t i = 0; i < n; i++)
        run->argv[at++] = (char *)options[i];
    run->command[0] = '\0';
    for (size_t i = 0; i < at; i++) {
        size_t used = strlen(run->command);

        snprintf(run->command + used, sizeof run->command - used, "%s%s", i > 0 ? " " : "",
                 run->argv[i]);
    }
    return true;
}

__attribute__((noreturn)) static void become(const struct run *run, int output)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    signal(SIGPIPE, SIG_DFL);
    if (null >= 0 && dup2(null, 0) == 0 && dup2(output, 1) == 1 && dup2(run->errors, 2) == 2)
        execv(run->argv[0], run->argv);
    dprintf(run->errors, "%s\n", strerror(errno));
    _exit(127);
}

static bool begin(struct run *run)
{
    int ends[2];

    run->errors = memfd_create("errors", MFD_CLOEXEC);
    if (run->errors < 0 || pipe2(ends, O_CLOEXEC) != 0)
        return false;
    run->pid = fork();
    if (run->pid == 0)
        become(run, ends[1]);
    close(ends[1]);
    run->output = ends[0];
    return run->pid > 0;
}

/* All that comes, as a string; NULL with the reason in errno. */
static char *read_all(int fd, size_t *len)
{
    size_t cap = 1 << 16;
    char *text = malloc(cap), *grown;
    ssize_t n = 1;

    *len = 0;
    while (text != NULL && n > 0 && *len < OUTPUT_MOST) {
        if (cap - *len < 2) {
            grown = realloc(text, cap *= 2);
            if (grown == NULL)
                break;
            text = grown;
        }
        do
            n = read(fd, text + *len, cap - *len - 1);
        while (n < 0 && errno == EINTR);
        *len += n > 0 ? (size_t)n : 0;
    }
    if (text == NULL || n != 0) {
        errno = *len >= OUTPUT_MOST ? EFBIG : errno;
        free(text);
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

/* Shows what postconf said on its standard error. */
static void show_errors(int fd)
{
    size_t len;
    char *text = lseek(fd, 0, SEEK_SET) == 0 ? read_all(fd, &len) : NULL;
    char *rest = text, *line;

    while (text != NULL && (line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            import_say(0, "%s", line);
    free(text);
}

/* Waits for the end; EX_OK, or says what went wrong. trouble: why there is no output. */
static int conclude(const struct run *run, bool verbose, const char *trouble)
{
    int status = 0;

    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (trouble != NULL)
        return import_say(EX_OSERR, "the output of \"%s\": %s", run->command, trouble);
    if (verbose || status != 0)
        show_errors(run->errors);
    if (WIFSIGNALED(status))
        return import_say(EX_UNAVAILABLE,
                          "\"%s\" was ended by signal %d; it should print \"name = "
                          "value\" lines",
                          run->command, WTERMSIG(status));
    if (WEXITSTATUS(status) == 127)
        return import_say(EX_UNAVAILABLE,
                          "\"%s\" could not be started (exit status 127); Postfix's "
                          "postconf is expected, option --postconf=PATH names it",
                          run->command);
    if (status != 0)
        return import_say(EX_UNAVAILABLE,
                          "\"%s\" ended with exit status %d; its own words are above, "
                          "option -c names the directory of main.cf",
                          run->command, WEXITSTATUS(status));
    return EX_OK;
}

size_t import_settings_read(struct import_settings *settings, char *text, size_t len)
{
    size_t lines = 0;

    *settings = (struct import_settings){.text = text};
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    settings->list = calloc(lines + 1, sizeof *settings->list);
    for (char *rest = text; settings->list != NULL && rest < text + len; settings->n++) {
        struct import_setting *s = &settings->list[settings->n];
        char *line = strsep(&rest, "\n"), *end = rest != NULL ? rest - 1 : line + strlen(line);
        size_t name = strcspn(line, BLANKS "=");
        char *equals = line + name + strspn(line + name, BLANKS);

        if (name == 0 || *equals != '=' || rest == NULL || line + strlen(line) != end)
            return settings->n + 1;
        line[name] = '\0';
        equals++;
        *s = (struct import_setting){line, equals + strspn(equals, BLANKS)};
        while (end > s->value && strchr(BLANKS, end[-1]) != NULL)
            *--end = '\0';
        import_unmark_spaces(s->value);
    }
    return 0;
}

const char *import_setting(const struct import_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n; i++)
        if (strcmp(settings->list[i].name, name) == 0)
            return settings->list[i].value;
    return NULL;
}

void import_settings_free(struct import_settings *settings)
{
    free(settings->list);
    free(settings->text);
    memset(settings, 0, sizeof *settings);
}

int import_postconf(const struct import_postconf *postconf, const char *const *options,
                    bool verbose, struct import_settings *settings)
{
    struct run run = {.postconf = postconf, .output = -1, .errors = -1};
    size_t len = 0, line = 0;
    char *text = NULL;
    int status, reason;

    if (!make_argv(&run, options) || !begin(&run))
        return import_say(EX_OSERR, "postconf: %s", strerror(errno));
    text = read_all(run.output, &len);
    reason = errno;
    close(run.output);
    status = conclude(&run, verbose, text == NULL ? strerror(reason) : NULL);
    if (status == EX_OK)
        line = import_settings_read(settings, text, len);
    else
        free(text);
    if (line != 0)
        status = import_say(EX_PROTOCOL,
                            "\"%s\" printed a line %zu that is not \"name = value\"; is "
                            "it Postfix's postconf?",
                            run.command, line);
    if (status == EX_OK && settings->list == NULL)
        status = import_say(EX_OSERR, "out of memory");
    close(run.errors);
    free(run.argv);
    return status;
}
