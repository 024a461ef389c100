/*
 * The worker, taken over: the real jailmap-worker, in which a lookup of a key that begins with
 * "attack:" is an order, and its answer the report. Runs where the worker runs, behind its filter.
 * The linker puts these functions in front of the real ones.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/worker/worker.h"
#include "tests/sandbox/bridge_attempts.h"

#define PATIENCE_MS 20000

unsigned __real_image_find(struct image *image, struct slice key, unsigned forms,
                           struct slice *value);
unsigned __wrap_image_find(struct image *image, struct slice key, unsigned forms,
                           struct slice *value);
int __real_image_open(struct image *image, int fd, const char **why);
int __wrap_image_open(struct image *image, int fd, const char **why);
void __real_session_start(int fd, uint32_t client);
void __wrap_session_start(int fd, uint32_t client);
int __real_close(int fd);
int __wrap_close(int fd);

unsigned __wrap_image_find(struct image *image, struct slice key, unsigned forms,
                           struct slice *value)
{
    static char report[1024];

    loot.role = ROLE_WORKER;
    if (attack(key, report, sizeof report) == NULL)
        return __real_image_find(image, key, forms, value);
    *value = (struct slice){report, strlen(report)};
    return forms & -forms;
}

int __wrap_image_open(struct image *image, int fd, const char **why)
{
    int rc = __real_image_open(image, fd, why);

    if (rc == 0 && loot.image < 0) {
        loot.image = fd;
        loot.map = (void *)image->cdb.cdb_mem;
    }
    return rc;
}

void __wrap_session_start(int fd, uint32_t client)
{
    loot.client = fd;
    loot.client_number = client;
    __real_session_start(fd, client);
}

/* Who has taken over a worker keeps the descriptor of its image. */
int __wrap_close(int fd)
{
    return fd == loot.image ? 0 : __real_close(fd);
}

/* ---- lies ---- */

/* %XX is a byte. Returns the length. */
static size_t unescape(const char *text, char *name)
{
    size_t len = 0;
    unsigned byte;

    for (; *text != '\0'; len++)
        if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1) {
            name[len] = (char)byte;
            text += 3;
        } else {
            name[len] = *text++;
        }
    return len;
}

static long send_open(uint32_t ref, uint32_t client, const char *text)
{
    struct msg_open body = {ref, client};
    char name[512];
    size_t len = unescape(text, name);

    return bridge_send(BRIDGE_FD, MSG_OPEN, &body, name, len, NULL);
}

/* The next message of the monitor; false when it is too late. */
static bool hear_until(uint64_t until, struct bridge_msg *msg)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    const char *why;

    while (milliseconds() < until)
        if (bridge_receive(BRIDGE_FD, buf, sizeof buf, ROLE_MONITOR, ROLE_WORKER, STATE_SERVE, msg,
                           &why) == BRIDGE_OK)
            return true;
    return false;
}

/* What the monitor says to that: a table, or that it is denied. */
static long verdict(struct order *o)
{
    uint64_t until = milliseconds() + PATIENCE_MS;
    struct bridge_msg msg;

    while (hear_until(until, &msg)) {
        snprintf(o->detail, sizeof o->detail, "%s", bridge_name(msg.type));
        if (msg.type != MSG_TABLE_ERROR)
            return msg.type;
        errno = msg.body.TABLE_ERROR.status == PM_DENY ? EACCES : EAGAIN;
        return -1;
    }
    errno = ETIMEDOUT;
    return -1;
}

static const char *word(const char *text, int number)
{
    for (; number > 0 && text != NULL; number--)
        text = strchr(text, ' ') != NULL ? strchr(text, ' ') + 1 : NULL;
    return text != NULL ? text : "";
}

/* "NAME": asks for it as its own client. */
static long open_table(struct order *o)
{
    return send_open(7777, loot.client_number, o->text) != 0 ? -1 : verdict(o);
}

/* "REF CLIENT NAME": just what another worker has sent, or what it would like to be true. */
static long open_as(struct order *o)
{
    return send_open((uint32_t)o->numbers[0], (uint32_t)o->numbers[1], word(o->text, 2)) != 0
               ? -1
               : verdict(o);
}

/* "COUNT": so many names that are denied, each as long as can be, and every answer is read. */
static long open_many(struct order *o)
{
    static char name[BRIDGE_NAME_MAX];
    long count = 0;

    memset(name, 'x', sizeof name);
    for (; count < o->numbers[0]; count++) {
        struct msg_open body = {(uint32_t)count, loot.client_number};

        snprintf(name, sizeof name, "hash:/%ld", count);
        name[strlen(name)] = 'x';
        if (bridge_send(BRIDGE_FD, MSG_OPEN, &body, name, sizeof name, NULL) != 0 ||
            (verdict(o) >= 0 || errno != EACCES))
            return -1;
    }
    return count;
}

/* The same, and no answer is read. */
static long open_deaf(struct order *o)
{
    struct msg_open body = {0, loot.client_number};

    for (;; body.ref++)
        if (bridge_send(BRIDGE_FD, MSG_OPEN, &body, "hash:/deaf", 10, NULL) != 0 &&
            errno != EAGAIN) {
            snprintf(o->detail, sizeof o->detail, "after %u", body.ref);
            return -1;
        }
}

/* "CLIENT" */
static long closed(struct order *o)
{
    struct msg_closed body = {(uint32_t)o->numbers[0]};

    return bridge_send(BRIDGE_FD, MSG_CLOSED, &body, NULL, 0, NULL);
}

static long closed_twice(struct order *o)
{
    o->numbers[0] = loot.client_number;
    return closed(o) != 0 ? -1 : closed(o);
}

/* "KIND SUBJECT TEXT" */
static long event(struct order *o)
{
    struct msg_event body = {(uint32_t)o->numbers[0], (uint32_t)o->numbers[1]};
    char text[512];

    return bridge_send(BRIDGE_FD, MSG_EVENT, &body, text, unescape(word(o->text, 2), text), NULL);
}

/* "COUNT TEXT": complaints about the image of every number that there may be. */
static long guess_numbers(struct order *o)
{
    struct msg_event body = {EVENT_BAD_TABLE, 0};
    const char *text = word(o->text, 1);

    for (; body.subject < o->numbers[0]; body.subject++)
        while (bridge_send(BRIDGE_FD, MSG_EVENT, &body, text, strlen(text), NULL) != 0)
            if (errno != EAGAIN)
                return -1;
    return body.subject;
}

/* "REF": its link to the agent is lost again and again, it says. */
static long lose_links(struct order *o)
{
    struct msg_event body = {EVENT_BAD_TABLE, (uint32_t)o->numbers[0]};

    for (int i = 0; i < 9; i++)
        if (bridge_send(BRIDGE_FD, MSG_EVENT, &body, NULL, 0, NULL) != 0)
            return -1;
    return 0;
}

static long give(int fd)
{
    return send_raw(loot.client, "!", 1, &fd, 1);
}

/* Its bridge, to the client, who is in no jail; and dies. */
static long give_bridge(struct order *o)
{
    (void)o;
    give(BRIDGE_FD);
    _exit(0);
}

static long give_image(struct order *o)
{
    (void)o;
    return give(loot.image);
}

/* What the monitor says until it asks for clients back. The latest client that it sends is kept. */
static bool wait_for_drain(void)
{
    uint64_t until = milliseconds() + PATIENCE_MS;
    struct bridge_msg msg;

    while (hear_until(until, &msg)) {
        if (msg.type == MSG_DRAIN)
            return true;
        if (msg.type == MSG_CLIENT) {
            loot.client = msg.fds[0];
            loot.client_number = msg.body.CLIENT.client;
        }
    }
    return false;
}

/* "WHAT": as a connection that is asked back, hands back something else. */
static long handback(struct order *o)
{
    int first = loot.client, fd;
    struct msg_handback body;

    if (!wait_for_drain())
        return -1;
    body.client = loot.client_number;
    if (strcmp(o->text, "bridge") == 0)
        fd = BRIDGE_FD;
    else if (strcmp(o->text, "image") == 0)
        fd = loot.image;
    else if (strcmp(o->text, "null") == 0)
        fd = 0;
    else if (strcmp(o->text, "another") == 0)
        fd = first;
    else
        fd = loot.client;
    if (strcmp(o->text, "unknown") == 0)
        body.client = 7;
    if (strcmp(o->text, "twice") == 0)
        bridge_send(BRIDGE_FD, MSG_HANDBACK, &body, NULL, 0, &fd);
    return bridge_send(BRIDGE_FD, MSG_HANDBACK, &body, NULL, 0, &fd);
}

const struct attempt own_attempts[] = {
    {"handback", handback},
    {"open_table", open_table},
    {"open_as", open_as},
    {"open_many", open_many},
    {"open_deaf", open_deaf},
    {"closed", closed},
    {"closed_twice", closed_twice},
    {"event", event},
    {"guess_numbers", guess_numbers},
    {"lose_links", lose_links},
    {"give_bridge", give_bridge},
    {"give_image", give_image},
    {NULL, NULL},
};
