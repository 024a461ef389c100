/*
 * Watching sources. Runs in the monitor, with privilege. It may watch the directories on the way to
 * approved sources, by inotify, each through the descriptor with which the way was walked; it must
 * never open a source: an event only says that tables.c should look, and what does not cause events
 * is looked at now and then anyway.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/profile.h"
#include "privsep/tables.h"
#include "privsep/watch.h"

#define INTERESTING                                                                                \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |            \
     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static void inotify_ready(struct watched *self, uint32_t events);

/* A name in a directory that matters to a table. */
struct spot {
    int wd;
    char *name;
    bool current; /* it was named in this walk */
    struct spot *next;
};

static struct watched inotify = {-1, inotify_ready};
static struct spot **spots; /* by table */
static size_t nspots;
static bool complained;

bool watch_prepare(size_t ntables)
{
    struct spot **grown = reallocarray(spots, ntables + 1, sizeof(struct spot *));

    if (grown == NULL)
        return false;
    spots = grown;
    while (nspots < ntables)
        spots[nspots++] = NULL;
    return true;
}

void watch_start(void)
{
    inotify.fd = MONITOR_INOTIFY;
    if (!monitor_watch(&inotify, EPOLLIN)) {
        log_line(LOG_WARNING, "inotify is not available (%s): changes are noticed by looking",
                 strerror(errno));
        inotify.fd = -1;
    }
}

static bool is_watched(int wd)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        for (const struct spot *s = spots[i]; s != NULL; s = s->next)
            if (s->wd == wd)
                return true;
    return false;
}

void watch_begin(size_t index)
{
    for (struct spot *s = spots[index]; s != NULL; s = s->next)
        s->current = false;
}

void watch_step(void *index, int dir, const char *name)
{
    size_t i = *(size_t *)index;
    struct spot *s;
    char path[32];
    int wd;

    if (inotify.fd < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
    /* Asking again for a directory that is watched returns the number that it has. */
    wd = inotify_add_watch(inotify.fd, path, INTERESTING);
    if (wd < 0 && !complained) {
        char printable[NAME_MAX + 1];
        int error = errno;

        complained = true;
        policy_printable((struct slice){name, strlen(name)}, printable, sizeof printable);
        log_line(LOG_WARNING,
                 "no watch for \"%s\" in a directory of table \"%s\" (%s): changes that inotify "
                 "does not report are noticed by looking, every few seconds",
                 printable, monitor_policy->tables[i].name, strerror(error));
    }
    for (s = spots[i]; s != NULL; s = s->next)
        if (s->wd == wd && strcmp(s->name, name) == 0)
            break;
    if (s == NULL && wd >= 0 && (s = calloc(1, sizeof *s)) != NULL) {
        *s = (struct spot){wd, strdup(name), true, spots[i]};
        if (s->name == NULL) {
            free(s);
            return;
        }
        spots[i] = s;
    }
    if (s != NULL)
        s->current = true;
}

void watch_end(size_t index)
{
    for (struct spot **at = &spots[index]; *at != NULL;) {
        struct spot *s = *at;

        if (s->current) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        if (!is_watched(s->wd))
            inotify_rm_watch(inotify.fd, s->wd);
        free(s->name);
        free(s);
    }
}

static void note(const struct inotify_event *event, uint64_t now)
{
    bool lost = (event->mask & IN_Q_OVERFLOW) != 0;

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        for (const struct spot *s = spots[i]; s != NULL; s = s->next)
            if (lost ||
                (s->wd == event->wd && (event->len == 0 || strcmp(event->name, s->name) == 0))) {
                table_touched(i, now);
                break;
            }
}

static void inotify_ready(struct watched *self, uint32_t events)
{
    static _Alignas(struct inotify_event) char buf[16 * 1024];
    ssize_t n = read(self->fd, buf, sizeof buf);
    uint64_t now = monitor_now();

    (void)events;
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
        const struct inotify_event *event = (const struct inotify_event *)(buf + at);

        note(event, now);
        at += (ssize_t)(sizeof *event + event->len);
    }
}
