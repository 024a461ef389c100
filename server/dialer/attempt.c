/*
 * One attempt to connect: see attempt.h. Runs in jailmap-dialer. It makes sockets and connects
 * them; it must never read from one.
 */
#include "server/dialer/attempt.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A UNIX socket whose queue is full says so at once, and does not tell when that is over. */
#define FULL_MS 50

static struct sockaddr_un local;
static struct addrinfo *addresses, *next;
static unsigned left; /* addresses from next on */
static uint64_t end, turn;
static int fd = -1, error;

uint64_t dialer_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void close_socket(void)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
}

static enum attempt_state try_local(void)
{
    uint64_t now = dialer_now();

    close_socket();
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&local, sizeof local) == 0)
        return ATTEMPT_DONE;
    error = errno;
    close_socket();
    if (error != EAGAIN)
        return ATTEMPT_FAILED;
    error = ETIMEDOUT;
    turn = now + FULL_MS < end ? now + FULL_MS : end;
    return now < end ? ATTEMPT_WAITING : ATTEMPT_FAILED;
}

static enum attempt_state try_next(void)
{
    close_socket();
    while (next != NULL) {
        const struct addrinfo *address = next;
        uint64_t now = dialer_now();

        if (now >= end) {
            error = ETIMEDOUT;
            break;
        }
        turn = now + (end - now) / left--;
        next = next->ai_next;
        fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
        if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) == 0)
            return ATTEMPT_DONE;
        error = errno;
        if (fd >= 0 && error == EINPROGRESS)
            return ATTEMPT_WAITING;
        close_socket();
    }
    return ATTEMPT_FAILED;
}

enum attempt_state attempt_begin(const struct host *host, struct addrinfo *list, uint64_t until)
{
    attempt_end();
    end = until;
    error = EADDRNOTAVAIL;
    if (host->name.local) {
        local = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(local.sun_path, host->name.path.ptr, host->name.path.len);
        return try_local();
    }
    addresses = next = list;
    left = 0;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        left++;
    return try_next();
}

enum attempt_state attempt_go_on(bool ready)
{
    socklen_t len = sizeof error;

    if (!ready && dialer_now() < turn)
        return ATTEMPT_WAITING;
    if (local.sun_family == AF_UNIX)
        return try_local();
    error = ETIMEDOUT;
    if (ready && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)
        return ATTEMPT_DONE;
    return try_next();
}

int attempt_fd(void)
{
    return fd;
}

uint64_t attempt_turn(void)
{
    return turn;
}

int attempt_take(void)
{
    int done = fd, yes = 1;

    /* Requests are sent whole, and waited for. */
    if (local.sun_family != AF_UNIX)
        setsockopt(done, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fd = -1;
    attempt_end();
    return done;
}

int attempt_error(void)
{
    return error;
}

void attempt_end(void)
{
    close_socket();
    if (addresses != NULL)
        freeaddrinfo(addresses);
    addresses = next = NULL;
    local.sun_family = AF_UNSPEC;
}
