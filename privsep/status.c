/*
 * The status file: what `jailmap status` shows, in runtime-dir, for root to read. Runs in the
 * monitor, with privilege. It may write that one file, anew and under its name only when it is
 * whole; it must never wait for a disk (runtime-dir is in memory on any system of today), and never
 * matter: if it cannot be written, that is a line in the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "privsep/monitor.h"

#define STATUS_FILE "status"
#define STATUS_NEW  "status.new"
#define PAUSE_MS    100 /* between two of them, whatever happens */
#define AGAIN_MS    10000

static uint64_t write_at = NEVER, written;
static bool broken;

static bool write_status(void)
{
    int fd = openat(MONITOR_RUNTIME, STATUS_NEW,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good = fd >= 0 && dprintf(fd, "jailmap-status 1\n") > 0;

    good = good && tables_describe(fd) &&
           dprintf(fd, "end\n") > 0 && /* else it is cut, and not to be used */
           renameat(MONITOR_RUNTIME, STATUS_NEW, MONITOR_RUNTIME, STATUS_FILE) == 0;
    if (!good && !broken)
        log_line(LOG_WARNING, "the status file cannot be written: %s", strerror(errno));
    broken = !good;
    if (fd >= 0)
        close(fd);
    return good;
}

void status_start(void)
{
    status_changed();
}

void status_changed(void)
{
    uint64_t now = monitor_now(), at = now < written + PAUSE_MS ? written + PAUSE_MS : now;

    if (at < write_at)
        write_at = at;
}

uint64_t status_tick(uint64_t now)
{
    if (write_at > now)
        return write_at;
    written = now;
    write_at = write_status() ? NEVER : now + AGAIN_MS;
    return write_at;
}

void status_stop(void)
{
    unlinkat(MONITOR_RUNTIME, STATUS_FILE, 0);
}
