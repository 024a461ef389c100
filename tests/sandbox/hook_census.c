/*
 * The census, taken over by what it is told: the real jailmap-census, in which the reason why a
 * table fails is an order if it holds "attack:", and whoever asks for the status next gets the
 * report first. Runs where the census runs, behind its filter. A reason names a file, so "^" stands
 * for "/" in an order.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/sandbox/bridge_attempts.h"

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

int __real_close(int fd);
int __wrap_close(int fd);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

static char line[1100];
static int len;

static void carry_out(struct slice reason)
{
    static char report[1024], order[BRIDGE_TEXT_MAX];

    loot.role = ROLE_CENSUS;
    memcpy(order, reason.ptr, reason.len);
    for (size_t i = 0; i < reason.len; i++)
        if (order[i] == '^')
            order[i] = '/';
    if (attack((struct slice){order, reason.len}, report, sizeof report) != NULL)
        len = snprintf(line, sizeof line, "census reports: %s\n", report);
}

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc == BRIDGE_OK && msg->type == MSG_TABLE_STATE && msg->tail_len > 0)
        carry_out((struct slice){msg->tail, msg->tail_len});
    if (rc == BRIDGE_OK && msg->type == MSG_ASKED && len > 0) {
        send(msg->fds[0], line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
        len = 0;
    }
    return rc;
}

/* Who has taken over a census keeps the descriptor of a page, and knows where that is mapped. */
int __wrap_close(int fd)
{
    return fd == loot.image ? 0 : __real_close(fd);
}

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    void *map = __real_mmap(at, size, prot, flags, fd, offset);

    if (map != MAP_FAILED && loot.image < 0) {
        loot.image = fd;
        loot.map = map;
    }
    return map;
}

/* "UID LIMIT NEWS": well-formed, and a lie. */
static long lie(struct order *o)
{
    struct msg_limit body = {.lookups = UINT64_MAX,
                             .misses = UINT64_MAX,
                             .limited = UINT64_MAX,
                             .seconds = UINT64_MAX,
                             .uid = (uint32_t)o->numbers[0],
                             .limit = (uint32_t)o->numbers[1],
                             .news = (uint32_t)o->numbers[2]};

    return bridge_send(BRIDGE_FD, MSG_LIMIT, &body, NULL, 0, NULL);
}

const struct attempt own_attempts[] = {{"lie", lie}, {NULL, NULL}};
