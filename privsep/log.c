/*
 * The monitor's log. Runs in the monitor, with privilege. It composes lines and queues them to the
 * scribe, which does the writing; it may open the log socket for the scribe, and must never write a
 * line itself once the scribe runs, nor wait for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/launch.h"
#include "privsep/log.h"
#include "privsep/monitor.h"

#define SYSLOG_SOCKET  "/dev/log"
#define RECONNECT_MS   5000
#define RESTART_MS     1000
#define INTERVAL_MS    10000
#define LINES_INTERVAL 20

static struct child *scribe;
static bool to_stderr;
static unsigned long lost;
static uint64_t syslog_at = NEVER, scribe_at = NEVER;
static char obituary[256]; /* of the last scribe, for the next one to write */

static void scribe_message(struct child *c, const struct bridge_msg *msg);
static void scribe_gone(struct child *c, const char *how);

static const struct child_ops scribe_ops = {
    .role = ROLE_SCRIBE, .what = "scribe", .message = scribe_message, .gone = scribe_gone};

static bool give(enum bridge_log log, int fd)
{
    struct msg_file body = {log};

    return scribe != NULL && child_send(scribe, MSG_LOGFILE, &body, NULL, 0, &fd);
}

static void give_syslog(uint64_t now)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    syslog_at = NEVER;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        !give(LOG_TO_SYSLOG, fd))
        syslog_at = now + RECONNECT_MS;
    if (fd >= 0)
        close(fd);
}

static void start_scribe(uint64_t now)
{
    static const struct spawn limits = {.descriptors = 16,
                                        .file_size = SPAWN_UNLIMITED,
                                        .memory = UINT64_C(64) << 20,
                                        .cpu_seconds = SPAWN_UNLIMITED};

    scribe_at = NEVER;
    scribe = child_start(&scribe_ops, NULL, HELPER_SCRIBE, &limits, "jailmap-scribe");
    if (scribe == NULL) {
        scribe_at = now + RESTART_MS;
        return;
    }
    scribe->state = STATE_SERVE;
    if (to_stderr)
        give(LOG_TO_STDERR, STDERR_FILENO);
    give_syslog(now);
    if (obituary[0] != '\0')
        log_line(LOG_WARNING, "%s", obituary);
    obituary[0] = '\0';
}

/* FAILED: error. The log socket is of no use any more. */
static void scribe_message(struct child *c, const struct bridge_msg *msg)
{
    (void)c;
    (void)msg;
    syslog_at = monitor_now() + RECONNECT_MS;
}

static void scribe_gone(struct child *c, const char *how)
{
    uint64_t now = monitor_now();

    scribe = NULL;
    scribe_at = now + RESTART_MS;
    snprintf(obituary, sizeof obituary, "scribe pid %d died: %s; lines in its hands may be lost",
             (int)c->pid, how != NULL ? how : "it ended by itself");
    if (now - c->started >= RESTART_MS)
        start_scribe(now);
}

void log_start(bool to_standard_error)
{
    to_stderr = to_standard_error;
    start_scribe(monitor_now());
}

void log_reopen(void)
{
    give_syslog(monitor_now());
}

void log_directly(const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    char line[BRIDGE_TEXT_MAX];
    int n = snprintf(line, sizeof line, "<%u>jailmapd[%d]: error: %s", LOG_MAIL | LOG_ERR,
                     (int)getpid(), text);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        monitor_say(fd, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    if (fd >= 0)
        close(fd);
}

void log_tick(uint64_t now, uint64_t *next)
{
    if (scribe_at <= now)
        start_scribe(now);
    if (syslog_at <= now)
        give_syslog(now);
    if (scribe_at < *next)
        *next = scribe_at;
    if (syslog_at < *next)
        *next = syslog_at;
}

static bool send_record(int level, const char *text, size_t len)
{
    struct msg_record body = {(uint32_t)level, (uint32_t)getpid()};

    return scribe != NULL && child_send(scribe, MSG_RECORD, &body, text, len, NULL);
}

void log_line(int level, const char *format, ...)
{
    static char text[BRIDGE_NAME_MAX];
    va_list ap;
    int n;

    if (lost > 0) {
        n = snprintf(text, sizeof text, "%lu log lines were lost: the log did not take them", lost);
        if (send_record(LOG_WARNING, text, (size_t)n))
            lost = 0;
    }
    va_start(ap, format);
    n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof text)
        n = sizeof text - 1;
    if (!send_record(level, text, (size_t)n))
        lost++;
}

uint64_t log_left_out(struct log_limit *limit, uint64_t now, int level, const char *format, ...)
{
    unsigned held = limit->held;
    char what[512];
    va_list ap;

    if (limit->until == 0)
        return NEVER;
    if (now < limit->until)
        return limit->until;
    *limit = (struct log_limit){0};
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    if (held > 0)
        log_line(level, "%u more %s", held, what);
    return NEVER;
}

bool log_allow(struct log_limit *limit)
{
    if (limit->until == 0)
        limit->until = monitor_now() + INTERVAL_MS;
    if (limit->count >= LINES_INTERVAL) {
        limit->held++;
        return false;
    }
    limit->count++;
    return true;
}
