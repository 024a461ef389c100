/*
 * What a service manager is told, as sd_notify(3) has it. Runs in the monitor: the socket is
 * connected with privilege at start, and sent to afterwards. It may send words that it composes
 * itself; it must never wait for the service manager, nor read from it, nor matter: what cannot be
 * sent is a line in the log.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/notify.h"

#define WATCHDOG "WATCHDOG=1"
#define AGAIN_MS 1000 /* what it did not take is sent again after this */

static char name[sizeof((struct sockaddr_un *)NULL)->sun_path];
static int fd = -1, error; /* why there is no fd, if one was asked for */
static char state[192];    /* the last message but for watchdogs */
static bool owed;          /* it has not been taken yet */
static uint64_t again_at = NEVER;
static uint64_t watchdog, watchdog_at = NEVER; /* interval; 0: nobody waits for it */

static void read_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return;
    watchdog = strtoull(usec, NULL, 10) / 2000; /* ms, and twice as often as it must be */
    if (watchdog > 0)
        watchdog_at = 0;
}

void notify_environment(void)
{
    const char *value = getenv("NOTIFY_SOCKET");

    /* Any other is none, or one of a kind that this program does not know. */
    if (value == NULL || (value[0] != '/' && value[0] != '@') || strlen(value) >= sizeof name)
        return;
    strcpy(name, value);
    read_watchdog();
}

void notify_open(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name);

    if (len == 0)
        return;
    memcpy(address.sun_path, name, len);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0)
        return;
    error = errno;
    if (fd >= 0)
        close(fd);
    fd = -1;
}

/* A full queue is no reason to lose what the service manager waits for. */
static void tell_state(void)
{
    owed = false;
    again_at = NEVER;
    if (fd < 0 || monitor_say(fd, state, strlen(state)))
        return;
    owed = errno == EAGAIN || errno == ENOBUFS;
    if (owed)
        again_at = monitor_now() + AGAIN_MS;
    else
        log_line(LOG_WARNING, "cannot tell the service manager: %s", strerror(errno));
}

void notify_ready(void)
{
    if (error != 0)
        log_line(LOG_WARNING, "cannot tell the service manager: %s", strerror(error));
    error = 0;
    snprintf(state, sizeof state, "READY=1\nMAINPID=%d\nSTATUS=tables: %zu, listeners: %zu",
             (int)getpid(), policy_tables(monitor_policy), policy_listeners(monitor_policy));
    tell_state();
}

void notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    tell_state();
}

void notify_stopping(void)
{
    strcpy(state, "STOPPING=1");
    tell_state();
}

uint64_t notify_tick(uint64_t now)
{
    if (owed && again_at <= now)
        tell_state();
    if (fd >= 0 && watchdog_at <= now)
        watchdog_at =
            now + (monitor_say(fd, WATCHDOG, strlen(WATCHDOG)) || watchdog < AGAIN_MS ? watchdog
                                                                                      : AGAIN_MS);
    if (fd < 0)
        return NEVER;
    return again_at < watchdog_at ? again_at : watchdog_at;
}
