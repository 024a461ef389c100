/*
 * Being a child of Postfix's master(8): see master.h. Runs in the monitor, with privilege. It may
 * send two records of a fixed layout to the status socket; it must never read from it, nor wait.
 */
#include "privsep/master.h"

#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <syslog.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/log.h"
#include "privsep/monitor.h"

#define SOCKETS_MOST 64

/* The last word of the records that master reads: pid, generation, and one of these. */
enum { TAKEN = 0, AVAILABLE = 1 };

static uint32_t generation;
static bool told;

static void status_ready(struct watched *self, uint32_t events);
static struct watched status = {-1, status_ready};

bool master_is_parent(void)
{
    const char *text = getenv("GENERATION");
    struct stat st;
    char *end;

    if (text == NULL || *text == '\0' || fstat(MASTER_STATUS, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    generation = (uint32_t)strtoul(text, &end, 8);
    return *end == '\0';
}

/* ---- options ---- */

/* False: no number from 1 to most. */
static bool number(const char *text, unsigned long most, unsigned *value)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || n == 0 || n > most)
        return false;
    *value = (unsigned)n;
    return true;
}

unsigned master_max_use(const char *text)
{
    unsigned value = 0;

    return number(text, INT32_MAX, &value) ? value : 0;
}

/* -o NAME=VALUE, of which main.cf has no part. */
static bool override(const char *text, struct master_options *o)
{
    if (strncmp(text, "jailmap_config=/", 16) == 0)
        o->config = strchr(text, '=') + 1;
    else if (strncmp(text, "max_use=", 8) == 0)
        return (o->max_use = master_max_use(text + 8)) > 0;
    else
        return false;
    return true;
}

/* Which column of master.cf is wrong; NULL: none. */
static const char *wrong_column(const char *type, bool unprivileged, bool chrooted, bool single)
{
    if (strcmp(type, "unix") != 0)
        return "the type, the second column, must be unix: jailmapd has no other listeners";
    if (unprivileged)
        return "unpriv, the fourth column, must be n: jailmapd opens tables for others, and gives "
               "up root by itself";
    if (chrooted)
        return "chroot, the fifth column, must be n: jailmapd opens files outside, and jails its "
               "helpers by itself";
    if (!single)
        return "maxproc, the seventh column, must be 1: one jailmapd serves all clients";
    return NULL;
}

bool master_read_options(int argc, char **argv, struct master_options *o, char *why, size_t len)
{
    bool unprivileged = false, chrooted = false, single = false;
    const char *type = "", *wrong;
    unsigned sockets = 1;
    int opt;

    *o = (struct master_options){.service = strrchr(argv[0], '/')};
    o->service = o->service != NULL ? o->service + 1 : argv[0];
    opterr = 0;
    while ((opt = getopt(argc, argv, ":cdDlm:n:o:s:t:uvVz")) != -1) {
        if (opt == 'c')
            chrooted = true;
        else if (opt == 'u')
            unprivileged = true;
        else if (opt == 'l')
            single = true;
        else if (opt == 'n')
            o->service = optarg;
        else if (opt == 't')
            type = optarg;
        else if (opt == '?' || opt == ':' ||
                 (opt == 'm' && (o->max_use = master_max_use(optarg)) == 0) ||
                 (opt == 'o' && !override(optarg, o)) ||
                 (opt == 's' && !number(optarg, SOCKETS_MOST, &sockets))) {
            snprintf(why, len,
                     "master.cf: service %s: %s is not for jailmapd; expected -o max_use=NUMBER, "
                     "-o jailmap_config=/PATH or -m NUMBER, as main.cf is not read",
                     o->service, argv[optind - 1]);
            return false;
        } /* -d -D -v -V -z: nothing to be done, see -l */
    }
    wrong = optind < argc ? "expected options only after jailmapd"
                          : wrong_column(type, unprivileged, chrooted, single);
    if (wrong != NULL)
        snprintf(why, len, "master.cf: service %s: %s", o->service, wrong);
    o->sockets = (int)sockets;
    return wrong == NULL;
}

/* ---- the status socket ---- */

/* It never sends anything: this is its end, or as good as. */
static void status_ready(struct watched *self, uint32_t events)
{
    (void)events;
    monitor_unwatch(self);
    monitor_stop(EX_OK, "master(8) has no use for it any more");
}

bool master_watch(int fd)
{
    status.fd = fd;
    return monitor_watch(&status, EPOLLIN | EPOLLRDHUP);
}

void master_served(void)
{
    uint32_t pid = (uint32_t)getpid();
    uint32_t pair[] = {pid, generation, TAKEN, pid, generation, AVAILABLE};

    if (told || status.fd < 0)
        return;
    told = true;
    if (!monitor_say(status.fd, pair, sizeof pair))
        log_line(LOG_WARNING, "cannot tell master(8) of the first client: %s", strerror(errno));
}
