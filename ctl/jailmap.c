/*
 * The jailmap(8) tool: finds the subcommand. Runs as whoever calls it; it touches what the
 * subcommand touches, and must never do anything by itself.
 */
#include "ctl/jailmap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define IMPORT JAILMAP_LIBEXECDIR "/jailmap-import"

/* A program of its own, which is not static as this one is. */
static int run_import(int argc, char **argv)
{
    (void)argc;
    argv[0] = (char *)"jailmap import"; /* for its messages */
    execv(IMPORT, argv);
    fprintf(stderr, "jailmap: " IMPORT ": %s; this program comes with jailmap\n", strerror(errno));
    return EX_UNAVAILABLE;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} commands[] = {
    {"query", ctl_query, "query [-s SOCKET] TYPE:NAME KEY..."},
    {"status", ctl_status, "status [-d DIR] [--json | --prometheus] [--watch[=SECONDS]]"},
    {"reload", ctl_reload, "reload [-d DIR]"},
    {"stop", ctl_stop, "stop [-d DIR]"},
    {"sandbox", ctl_sandbox, "sandbox [-a] [-d DIR]"},
    {"import", run_import,
     "import [-c DIR] [-l SOCKET | --diff [-d DIR | -f FILE]] "
     "[--postconf=PATH]"},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argc == 2 && strcmp(argv[1], "-V") == 0)
        return puts("jailmap " JAILMAP_VERSION) == EOF ? EX_IOERR : EX_OK;
    if (argc > 1)
        fprintf(stderr, "jailmap: unknown command \"%s\"\n", argv[1]);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(stderr, "usage: jailmap %s\n", commands[i].usage);
    fputs("       jailmap -V\n", stderr);
    return EX_USAGE;
}
