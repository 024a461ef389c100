/*
 * Watching sources. Runs in the monitor, with privilege. It may watch the directories that hold
 * approved sources, by inotify; it must never open a source: an event only says that tables.c
 * should look, and what does not cause events is looked at now and then anyway.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "privsep/monitor.h"

#define INTERESTING                                                                                \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |            \
     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static void inotify_ready(struct watched *self, uint32_t events);

static struct watched inotify = {-1, inotify_ready};
static struct watch {
    int wd;
    const char *name; /* last component of the source */
} * watches;

void watch_start(void)
{
    watches = calloc(monitor_policy->ntables + 1, sizeof *watches);
    inotify.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    for (size_t i = 0; watches != NULL && i < monitor_policy->ntables; i++)
        watches[i].wd = -1;
    if (watches == NULL || inotify.fd < 0 || !monitor_watch(&inotify, EPOLLIN))
        log_line(LOG_WARNING, "inotify is not available (%s): changes are noticed by looking",
                 strerror(errno));
}

void watch_source(size_t index, const char *path)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];
    size_t len = (size_t)(slash - path);
    int before;

    if (inotify.fd < 0 || watches == NULL || len >= sizeof dir)
        return;
    memcpy(dir, path, len);
    strcpy(dir + len, len == 0 ? "/" : "");
    watches[index].name = slash + 1;
    before = watches[index].wd;
    /* Asking again for a directory that is watched returns the number that it has. */
    watches[index].wd = inotify_add_watch(inotify.fd, dir, INTERESTING);
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (watches[i].wd == before)
            return;
    inotify_rm_watch(inotify.fd, before); /* another directory has that name now */
}

static void note(const struct inotify_event *event, uint64_t now)
{
    bool whole = event->len == 0 || (event->mask & IN_Q_OVERFLOW);

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        if (watches[i].name == NULL ||
            (watches[i].wd != event->wd && !(event->mask & IN_Q_OVERFLOW)))
            continue;
        if (whole || strcmp(event->name, watches[i].name) == 0)
            table_touched(i, now);
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
