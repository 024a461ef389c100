/*
 * jailmap-census: adds up what the workers count, and answers who asks for the status. Started by
 * the monitor inside an empty chroot, without capabilities, with its bridge as descriptor 3. It may
 * read the pages of counters that the monitor gives it and write to the connections of those who
 * may ask, whom the monitor has chosen; it must never read from them, nor wait for one of them. To
 * the monitor it says when a user reaches a limit on lookups and when that is over, and nothing
 * else.
 */
#include "server/census/census.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "privsep/hear.h"
#include "privsep/profile.h"

#define ASKERS     16
#define PATIENCE   10000 /* ms for the whole answer */
#define PIECE      (16u * 1024)
#define TURN       64 /* messages of the monitor until the askers get their turn */
#define NEVER_MIND "refused: the status is being shown to 16 others; try again\n"

static struct asker {
    int fd; /* -1: nobody */
    char *text;
    size_t len, sent;
    uint64_t until;
} askers[ASKERS];

static struct census census;

uint64_t census_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool census_say(const struct msg_limit *limit)
{
    return bridge_send(BRIDGE_FD, MSG_LIMIT, limit, NULL, 0, NULL) == 0;
}

static void let_go(struct asker *a)
{
    close(a->fd);
    free(a->text);
    *a = (struct asker){.fd = -1};
}

/* As much as it takes now; all of it, and it is let go. */
static void answer(struct asker *a)
{
    while (a->sent < a->len) {
        size_t size = a->len - a->sent < PIECE ? a->len - a->sent : PIECE;
        ssize_t n = send(a->fd, a->text + a->sent, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            break;
        a->sent += (size_t)n;
    }
    let_go(a);
}

/* ASKED: uid; the connection of somebody who may ask. */
static void take_asker(int fd)
{
    for (int i = 0; i < ASKERS; i++) {
        struct asker *a = &askers[i];

        if (a->fd >= 0)
            continue;
        *a = (struct asker){.fd = fd, .until = census_now() + PATIENCE};
        a->text = census_report(&census, &a->len);
        if (a->text == NULL)
            let_go(a); /* an answer without its end is none */
        else
            answer(a);
        return;
    }
    send(fd, NEVER_MIND, strlen(NEVER_MIND), MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void hear_some(void)
{
    struct bridge_msg msg;

    for (int i = 0; i < TURN && hear(ROLE_CENSUS, STATE_SERVE, &msg); i++)
        if (msg.type == MSG_ASKED)
            take_asker(msg.fds[0]);
        else if (!census_hear(&census, &msg))
            exit(EXIT_FAILURE); /* a count that misses something is worse than a new one */
}

/* Fills in what to wait for, an entry for each asker at its place. Returns for how long. */
static int prepare(struct pollfd *fds)
{
    uint64_t now = census_now(), look_at = watch_look(&census, now);
    int wait = look_at == UINT64_MAX ? -1 : look_at > now ? (int)(look_at - now) : 0;

    fds[ASKERS] = (struct pollfd){.fd = BRIDGE_FD, .events = POLLIN};
    for (int i = 0; i < ASKERS; i++) {
        struct asker *a = &askers[i];

        if (a->fd >= 0 && a->until <= now)
            let_go(a);
        fds[i] = (struct pollfd){.fd = a->fd, .events = POLLOUT};
        if (a->fd >= 0 && (wait < 0 || a->until - now < (uint64_t)wait))
            wait = (int)(a->until - now);
    }
    return wait;
}

int main(void)
{
    struct pollfd fds[ASKERS + 1];

    profile_enter(&profile_census);
    for (int i = 0; i < ASKERS; i++)
        askers[i].fd = -1;
    for (;;) {
        if (poll(fds, ASKERS + 1, prepare(fds)) < 0 && errno != EINTR)
            return EXIT_FAILURE;
        for (int i = 0; i < ASKERS; i++)
            if (askers[i].fd >= 0 && fds[i].revents != 0)
                answer(&askers[i]);
        if (fds[ASKERS].revents != 0)
            hear_some();
    }
}
