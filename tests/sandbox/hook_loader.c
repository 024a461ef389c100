/*
 * The loader, taken over by the file that it loads: the real jailmap-loader, which looks whether
 * its source begins with an order, carries it out, and reports it as the reason why the load fails.
 * Runs where the loader runs, behind its filter.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/image.h"
#include "server/loader/source.h"
#include "server/text.h"
#include "tests/sandbox/bridge_attempts.h"

#define LOOP_SLOTS (4u << 20)

enum bridge_result __real_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);
enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why);

/* The first bytes of the source, by whichever way the loader of that type has. */
static struct slice first_bytes(uint32_t type, struct slice name)
{
    static char bytes[512];
    ssize_t n;
    void *at;

    if (loot.source < 0)
        return name;
    if (type == TYPE_CDB || type == TYPE_LMDB) {
        at = mmap(NULL, sizeof bytes, PROT_READ, MAP_SHARED, loot.source, 0);
        return (struct slice){at, at == MAP_FAILED ? 0 : sizeof bytes};
    }
    n = pread(loot.source, bytes, sizeof bytes, 0);
    return (struct slice){bytes, n > 0 ? (size_t)n : 0};
}

static void take_over(const struct bridge_msg *load)
{
    struct slice order, name = {load->tail, load->tail_len};
    struct msg_failed body = {0};
    static char report[1024];

    loot.role = ROLE_LOADER;
    loot.image = load->fds[0];
    order = first_bytes(load->body.LOAD.type, name);
    if (order.len < strlen(ATTACK_PREFIX) ||
        memcmp(order.ptr, ATTACK_PREFIX, strlen(ATTACK_PREFIX)) != 0 ||
        attack(order, report, sizeof report) == NULL)
        return;
    bridge_send(BRIDGE_FD, MSG_FAILED, &body, report, strlen(report), NULL);
    exit(EXIT_FAILURE);
}

enum bridge_result __wrap_bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                         enum bridge_role to, enum bridge_state state,
                                         struct bridge_msg *msg, const char **why)
{
    enum bridge_result rc = __real_bridge_receive(fd, buf, cap, from, to, state, msg, why);

    if (rc == BRIDGE_OK && msg->type == MSG_INPUT && msg->body.INPUT.input == INPUT_SOURCE)
        loot.source = msg->fds[0];
    if (rc == BRIDGE_OK && msg->type == MSG_LOAD)
        take_over(msg);
    return rc;
}

/* ---- lies ---- */

static long say_loaded(uint64_t entries, uint32_t by, uint32_t ignored, const char *text)
{
    struct msg_loaded body = {entries, by, ignored};

    return bridge_send(BRIDGE_FD, MSG_LOADED, &body, text, strlen(text), NULL);
}

static long say_failed(const char *text)
{
    struct msg_failed body = {0};

    return bridge_send(BRIDGE_FD, MSG_FAILED, &body, text, strlen(text), NULL);
}

/* "ENTRIES ANSWERED_BY IGNORED": and no image at all. */
static long loaded(struct order *o)
{
    if (say_loaded((uint64_t)o->numbers[0], (uint32_t)o->numbers[1], (uint32_t)o->numbers[2],
                   "a line\njailmapd: ready: of its own \033[2J") != 0)
        return -1;
    _exit(0);
}

static long loaded_twice(struct order *o)
{
    (void)o;
    say_loaded(1, KIND_IMAGE, 0, "");
    say_loaded(1, KIND_IMAGE, 0, "");
    idle();
}

static long failed_then_loaded(struct order *o)
{
    (void)o;
    say_failed("no");
    say_loaded(1, KIND_IMAGE, 0, "");
    idle();
}

/* The breach is among its last words, and its exit status tells nothing of it. */
static long loaded_then_breach(struct order *o)
{
    (void)o;
    say_loaded(1, KIND_IMAGE, 0, "");
    send_malformed(BRIDGE_FD, 99, "");
    _exit(0);
}

static long loaded_and_stays(struct order *o)
{
    (void)o;
    say_loaded(1, KIND_IMAGE, 0, "");
    idle();
}

/* A reason of control characters and lines, as long as a reason may be. */
static long failed_with_lines(struct order *o)
{
    static const char pattern[] = "\njailmapd: ready: forged\033[2J\t";
    char text[BRIDGE_TEXT_MAX + 1];

    (void)o;
    for (size_t i = 0; i < BRIDGE_TEXT_MAX; i++)
        text[i] = pattern[i % strlen(pattern)];
    text[BRIDGE_TEXT_MAX] = '\0';
    say_failed(text);
    _exit(1);
}

/* An image without end. */
static long image_endless(struct order *o)
{
    static char block[1 << 16];
    long written = 0;

    for (;;) {
        ssize_t n = write(loot.image, block, sizeof block);

        if (n < 0) {
            snprintf(o->detail, sizeof o->detail, "after %ld KB", written >> 10);
            return -1;
        }
        written += n;
    }
}

static long image_garbage(struct order *o)
{
    static char block[1 << 16];

    (void)o;
    memset(block, 0x5a, sizeof block);
    if (lseek(loot.image, 0, SEEK_SET) != 0 || write(loot.image, block, sizeof block) < 0 ||
        say_loaded(1000, KIND_IMAGE, 0, "") != 0)
        return -1;
    _exit(0);
}

static void put(unsigned char *at, uint32_t word)
{
    word = htole32(word);
    memcpy(at, &word, sizeof word);
}

/* A record of a cdb; returns its length. */
static uint32_t put_record(unsigned char *at, const void *key, uint32_t key_len, const void *value,
                           uint32_t value_len)
{
    put(at, key_len);
    put(at + 4, value_len);
    memcpy(at + 8, key, key_len);
    memcpy(at + 8 + key_len, value, value_len);
    return 8 + key_len + value_len;
}

static bool write_all(const unsigned char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(loot.image, bytes, len);

        if (n < 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* A right image but for its hash table: 32 MB of slots that all lead to one record, which is
 * not it, however long one looks. */
static long image_loop(struct order *o)
{
    static unsigned char head[4096], slots[1 << 16];
    struct image_header header = {.magic = htole32(IMAGE_MAGIC)};
    static const char wrong[] = {4, 0, 0, (char)0xf0, 'n', 'o', 'n', 'e', 'x'};
    unsigned char hash[IMAGE_HASH_LEN];
    unsigned char named[8];
    uint32_t at = 2048, name, record;

    (void)o;
    crypto_shorthash(hash, (const unsigned char *)"loop", 4, header.seed);
    name = cdb_hash(IMAGE_HEADER_KEY, strlen(IMAGE_HEADER_KEY));
    at += put_record(head + at, IMAGE_HEADER_KEY, 7, &header, sizeof header);
    record = at;
    at += put_record(head + at, hash, sizeof hash, wrong, sizeof wrong);
    for (uint32_t i = 0; i < 256; i++) {
        put(head + i * 8, i == name % 256 ? at + LOOP_SLOTS * 8 : at);
        put(head + i * 8 + 4, i == name % 256 ? 1 : LOOP_SLOTS);
    }
    put(named, name);
    put(named + 4, 2048);
    for (size_t i = 0; i < sizeof slots; i += 8) {
        put(slots + i, cdb_hash(hash, sizeof hash));
        put(slots + i + 4, record);
    }
    if (lseek(loot.image, 0, SEEK_SET) != 0 || !write_all(head, at))
        return -1;
    for (size_t i = 0; i < LOOP_SLOTS / (sizeof slots / 8); i++)
        if (!write_all(slots, sizeof slots))
            return -1;
    if (!write_all(named, sizeof named) || say_loaded(1, KIND_IMAGE, 0, "") != 0)
        return -1;
    _exit(0);
}

const struct attempt own_attempts[] = {
    {"loaded", loaded},
    {"loaded_twice", loaded_twice},
    {"failed_then_loaded", failed_then_loaded},
    {"loaded_then_breach", loaded_then_breach},
    {"loaded_and_stays", loaded_and_stays},
    {"failed_with_lines", failed_with_lines},
    {"image_endless", image_endless},
    {"image_garbage", image_garbage},
    {"image_loop", image_loop},
    {NULL, NULL},
};
