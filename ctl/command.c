/*
 * `jailmap reload` and `jailmap stop`: has a running jailmapd do that, and says what became of it.
 * Runs as whoever calls it, of whom the daemon obeys root alone. It may connect to a control
 * socket; it must never read a configuration, nor signal a process.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "ctl/jailmap.h"

#define RELOAD_S 300 /* the reader has 60 s, workers 10 s, and another reload may come first */
#define STOP_S   60

static const char *read_dir(int argc, char **argv)
{
    const char *dir = CTL_RUNTIME_DIR;
    int opt;

    while ((opt = getopt(argc, argv, "d:")) != -1) {
        if (opt != 'd')
            return NULL;
        dir = optarg;
    }
    return optind == argc ? dir : NULL;
}

/* Cut to one printable line; false if there is none. */
static bool make_line(char *text, size_t len)
{
    size_t at;

    for (at = 0; at < len && text[at] != '\n'; at++)
        if (text[at] < 0x20 || text[at] > 0x7e)
            text[at] = '?';
    if (at == 0 || at == len)
        return false;
    text[at] = '\0';
    return true;
}

/* The answer begins with `good`, or it is an error of that status. */
static int command(int argc, char **argv, const char *name, unsigned patience, const char *good,
                   int otherwise)
{
    struct ctl_socket socket = {read_dir(argc, argv), name, patience};
    size_t len;
    char *text;
    int status;

    if (socket.dir == NULL) {
        fprintf(stderr, "usage: jailmap %s [-d DIR]\n", argv[0]);
        return EX_USAGE;
    }
    status = ctl_ask(&socket, &text, &len);
    if (status != EX_OK)
        return status;
    if (!make_line(text, len)) {
        fprintf(stderr, "jailmap: %s/%s: jailmapd ended without an answer; see its log\n",
                socket.dir, name);
        status = EX_UNAVAILABLE;
    } else if (strncmp(text, good, strlen(good)) == 0) {
        if (puts(text) == EOF || fflush(stdout) != 0)
            status = EX_IOERR;
    } else {
        fprintf(stderr, "jailmap: %s\n", text);
        status = otherwise;
    }
    free(text);
    return status;
}

int ctl_reload(int argc, char **argv)
{
    return command(argc, argv, "control.reload", RELOAD_S, "reloaded: ", EX_CONFIG);
}

int ctl_stop(int argc, char **argv)
{
    return command(argc, argv, "control.stop", STOP_S, "stopping", EX_DATAERR);
}
