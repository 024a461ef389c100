/*
 * `jailmap status`: shows how a running jailmapd is. Runs as whoever calls it, whom the daemon
 * answers or not: root, and members of control-group. It may connect to the control socket and
 * write to its own output; it must never change anything, but for the terminal while it watches.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "ctl/jailmap.h"
#include "ctl/status.h"

#define PATIENCE_S 15
#define WATCH_S    2
#define WATCH_MOST 86400

/* The other screen of the terminal, without a cursor; and back. */
#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"
#define HOME  "\033[H"
#define REST  "\033[J"   /* of the screen is cleared */
#define LINE  "\033[K\n" /* so is that of the line */

enum form { PAGE, JSON, PROMETHEUS };

static struct {
    const char *dir;
    enum form form;
    unsigned long watch; /* seconds; 0: once */
    bool terminal, colour;
} options;

static volatile sig_atomic_t signalled;

static void note_signal(int number)
{
    signalled = number;
}

/* ---- once ---- */

static int exit_of(const struct status *s)
{
    for (size_t i = 0; i < s->ntables; i++)
        if (strcmp(s->tables[i].state, "current") != 0)
            return CTL_NOT_CURRENT;
    return EX_OK;
}

static int show(FILE *out)
{
    const struct ctl_socket socket = {options.dir, "control.status", PATIENCE_S};
    struct status s;
    size_t len;
    char *text;
    int status = ctl_ask(&socket, &text, &len);

    if (status != EX_OK)
        return status;
    if (!status_parse(text, len, &s)) {
        fprintf(stderr, "jailmap: %s: not the status of this version of jailmapd\n", options.dir);
        free(text);
        return EX_DATAERR;
    }
    status = exit_of(&s);
    if (options.form == JSON)
        status = status_json(out, &s) ? status : EX_OSERR;
    else if (options.form == PROMETHEUS)
        status_prometheus(out, &s);
    else
        status_show(out, &s, options.colour);
    status_free(&s);
    free(text);
    if (fflush(out) != 0 || ferror(out))
        return EX_IOERR;
    return status;
}

/* ---- again and again ---- */

/* Over what is there, line by line, so that nothing flickers. */
static int show_in_place(void)
{
    char *page = NULL, *line, *rest;
    size_t len;
    FILE *out = open_memstream(&page, &len);
    int status;

    if (out == NULL)
        return EX_OSERR;
    status = show(out);
    if (fclose(out) != 0)
        status = EX_OSERR;
    if (len == 0) { /* it has been said why; the last page stays */
        free(page);
        return status;
    }
    fputs(HOME, stdout);
    for (rest = page; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
        fputs(line, stdout);
        fputs(LINE, stdout);
    }
    fputs(REST, stdout);
    free(page);
    return fflush(stdout) == 0 ? status : EX_IOERR;
}

static void take_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    struct sigaction action = {.sa_handler = note_signal};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}

static void put(const char *escape)
{
    if (options.terminal) {
        fputs(escape, stdout);
        fflush(stdout);
    }
}

/* The terminal is as it was before what the signal means happens. Returns after SIGCONT alone. */
static void obey(void)
{
    int number = signalled;

    put(LEAVE);
    signalled = 0;
    if (number != SIGTSTP)
        signal(number, SIG_DFL);
    kill(getpid(), number == SIGTSTP ? SIGSTOP : number);
    put(ENTER);
}

static int watch(void)
{
    int status;

    take_signals();
    put(ENTER);
    do {
        struct timespec pause = {.tv_sec = (time_t)options.watch};

        status = options.terminal ? show_in_place() : show(stdout);
        if (status != EX_IOERR && signalled == 0)
            nanosleep(&pause, NULL);
        if (signalled != 0)
            obey();
    } while (status != EX_IOERR);
    put(LEAVE);
    return status;
}

/* ---- options ---- */

static int usage(void)
{
    fputs("usage: jailmap status [-d DIR] [--json | --prometheus] [--watch[=SECONDS]]\n", stderr);
    return EX_USAGE;
}

static bool read_seconds(const char *text)
{
    char *end;

    options.watch = WATCH_S;
    if (text == NULL)
        return true;
    errno = 0;
    options.watch = strtoul(text, &end, 10);
    if (errno == 0 && text[0] >= '1' && text[0] <= '9' && *end == '\0' &&
        options.watch <= WATCH_MOST)
        return true;
    fprintf(stderr, "jailmap: --watch=%s: whole seconds from 1 to %d are expected\n", text,
            WATCH_MOST);
    return false;
}

static bool read_options(int argc, char **argv)
{
    static const struct option names[] = {{"json", no_argument, NULL, 'j'},
                                          {"prometheus", no_argument, NULL, 'p'},
                                          {"watch", optional_argument, NULL, 'w'},
                                          {NULL, 0, NULL, 0}};
    int opt;

    options.dir = CTL_RUNTIME_DIR;
    while ((opt = getopt_long(argc, argv, "d:", names, NULL)) != -1) {
        if (opt == 'd')
            options.dir = optarg;
        else if (opt == 'w') {
            if (!read_seconds(optarg))
                return false;
        } else if (opt == '?' || options.form != PAGE)
            return false;
        else
            options.form = opt == 'j' ? JSON : PROMETHEUS;
    }
    return optind == argc;
}

int ctl_status(int argc, char **argv)
{
    const char *no_colour = getenv("NO_COLOR");

    if (!read_options(argc, argv))
        return usage();
    options.terminal = isatty(STDOUT_FILENO) == 1;
    options.colour = options.terminal && (no_colour == NULL || no_colour[0] == '\0');
    return options.watch > 0 ? watch() : show(stdout);
}
