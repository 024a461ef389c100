/*
 * Asking the name service: see resolve.h. Runs in jailmap-dialer. It may do what the name service
 * does, and set a timer; it must never wait for it without one.
 */
#include "server/dialer/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define GIVE_UP_MS 60000

static void (*tell)(void);
static volatile sig_atomic_t told;

/* 0: never. */
static void alarm_in(unsigned ms)
{
    struct itimerval timer = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_alarm(int sig)
{
    int saved = errno;

    (void)sig;
    if (told)
        _exit(EXIT_SUCCESS);
    told = 1;
    tell();
    alarm_in(GIVE_UP_MS);
    errno = saved;
}

static void set_timer(unsigned ms)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};

    sigaction(SIGALRM, &action, NULL);
    alarm_in(ms);
}

enum resolve_state resolve(const struct host *host, unsigned ms, void (*late)(void),
                           struct addrinfo **list, char *why, size_t len)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char name[256];
    int rc;

    snprintf(name, sizeof name, "%.*s", (int)host->name.host.len, host->name.host.ptr);
    tell = late;
    told = 0;
    set_timer(ms > 0 ? ms : 1);
    rc = getaddrinfo(name, host->name.port.ptr, &hints, list); /* the text ends with the port */
    alarm_in(0);
    if (told && rc == 0)
        freeaddrinfo(*list);
    if (told)
        return RESOLVE_LATE;
    if (rc == 0)
        return RESOLVE_DONE;
    snprintf(why, len, "look up %s: %s", host->text,
             rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    return RESOLVE_FAILED;
}

uint16_t resolve_port(const struct host *host)
{
    const struct servent *service;
    unsigned number = host_name_port(host->name.port);

    if (number != 0)
        return (uint16_t)number;
    told = 1; /* nobody waits for this */
    set_timer(GIVE_UP_MS);
    service = getservbyname(host->name.port.ptr, "tcp");
    alarm_in(0);
    return service != NULL ? ntohs((uint16_t)service->s_port) : 0;
}
