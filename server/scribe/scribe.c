/*
 * jailmap-scribe: writes what the monitor composes to syslog and, in the foreground, to standard
 * error. Started by the monitor inside an empty chroot, without capabilities, with its bridge as
 * descriptor 3. It may write to the descriptors that come with LOGFILE, and nothing else: so a
 * stalled syslogd or a full pipe stops the scribe and never the monitor. It must not invent, change
 * or drop a record silently: what it could not deliver it counts and says so.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/hear.h"
#include "privsep/profile.h"

#define SYSLOG_WAIT_MS 1000 /* for a syslogd that does not take datagrams */

static int syslog_fd = -1, stderr_fd = -1;
static unsigned long syslog_lost;
static char line[BRIDGE_NAME_MAX + 128];

static const char *level_word(uint32_t level)
{
    if (level <= LOG_ERR)
        return "error: ";
    return level == LOG_WARNING ? "warning: " : "";
}

/* The socket is of no use any more: the monitor is asked for a new one. */
static void syslog_broken(int error)
{
    struct msg_failed body = {(uint32_t)error};

    close(syslog_fd);
    syslog_fd = -1;
    bridge_send(BRIDGE_FD, MSG_FAILED, &body, NULL, 0, NULL);
}

/*
 * One datagram as syslog(3) sends it, but for the time stamp: the jail has no time zone, and every
 * syslogd stamps what it receives. Returns whether it was delivered.
 */
static bool syslog_send(uint32_t level, uint32_t pid, const char *text, size_t len)
{
    int n = snprintf(line, sizeof line, "<%u>jailmapd[%u]: %s%.*s",
                     LOG_MAIL | (level & LOG_PRIMASK), pid, level_word(level), (int)len, text);

    for (int tries = 0; syslog_fd >= 0 && tries < 2; tries++) {
        struct pollfd p = {.fd = syslog_fd, .events = POLLOUT};

        if (send(syslog_fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return true;
        if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
            syslog_broken(errno);
            return false;
        }
        poll(&p, 1, SYSLOG_WAIT_MS);
    }
    return false;
}

static void write_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(stderr_fd, bytes, len);

        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = stderr_fd, .events = POLLOUT};

            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return; /* whoever watched has gone; syslog goes on */
        } else if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

static void record(const struct msg_record *r, const char *text, size_t len)
{
    if (stderr_fd >= 0) {
        int n =
            snprintf(line, sizeof line, "jailmapd: %s%.*s\n", level_word(r->level), (int)len, text);

        write_all(line, (size_t)n);
    }
    if (syslog_lost > 0 && syslog_fd >= 0) {
        char lost[64];
        int n = snprintf(lost, sizeof lost, "%lu log lines could not be delivered", syslog_lost);

        if (syslog_send(LOG_WARNING, r->pid, lost, (size_t)n))
            syslog_lost = 0;
    }
    if (!syslog_send(r->level, r->pid, text, len))
        syslog_lost++;
}

static void take_file(const struct msg_file *file, int fd)
{
    int *slot = file->log == LOG_TO_STDERR ? &stderr_fd : &syslog_fd;

    if (*slot >= 0)
        close(*slot);
    *slot = fd;
}

int main(void)
{
    profile_enter(&profile_scribe);
    for (;;) {
        struct bridge_msg msg = hear_next(ROLE_SCRIBE, STATE_SERVE);

        if (msg.type == MSG_RECORD) /* level, pid; text */
            record(&msg.body.RECORD, msg.tail, msg.tail_len);
        else /* log; descriptor */
            take_file(&msg.body.LOGFILE, msg.fds[0]);
    }
}
