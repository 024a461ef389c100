/*
 * Fuzz target wal: what an agent takes from SQLite's write-ahead log. Run by tests/fuzz/run. Input:
 * a byte (1: the log gets the right checksums, as an attacker's would have; 2: it is another when
 * it is laid over), another that says how many bytes change then, and the log, in which a zero is
 * followed by how many more of them there are.
 */
#include "server/agent/sqlite/wal.h"

#include <stdlib.h>

#include "tests/fuzz/common.h"

#define LOG_MOST   (16u * 1024)
#define IMAGE_MOST (1u << 20)

struct bytes {
    unsigned char *at;
    size_t len;
};

static enum wal_read read_bytes(void *arg, void *to, size_t len, uint64_t at)
{
    const struct bytes *b = arg;

    if (at > b->len || len > b->len - at)
        return WAL_ENDS;
    memcpy(to, b->at + at, len);
    return WAL_READ;
}

/* The log, in memory of that exact length, for the caller to free. */
static struct bytes lay_out(struct input *input)
{
    unsigned char *log = need_memory(LOG_MOST);
    struct bytes result = {NULL, 0};
    size_t len = 0;

    memset(log, 0, LOG_MOST);
    for (; input->left > 0 && len < LOG_MOST; len++) {
        log[len] = take_byte(input);
        if (log[len] == 0)
            len += take_byte(input);
    }
    result.len = len < LOG_MOST ? len : LOG_MOST;
    result.at = (unsigned char *)exact_copy(log, result.len);
    free(log);
    return result;
}

static uint32_t get(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

static void sum(uint32_t s[2], const unsigned char *at, size_t len, bool big)
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint32_t x = get(at + i), y = get(at + i + 4);

        s[0] += (big ? x : __builtin_bswap32(x)) + s[1];
        s[1] += (big ? y : __builtin_bswap32(y)) + s[0];
    }
}

/* Salts and checksums as they have to be. */
static void repair(struct bytes log)
{
    uint32_t s[2] = {0, 0};
    bool big;
    size_t page;

    if (log.len < WAL_HEADER)
        return;
    big = log.at[3] & 1;
    page = get(log.at + 8);
    sum(s, log.at, 24, big);
    put(log.at + 24, s[0]);
    put(log.at + 28, s[1]);
    if (page < 512 || page > WAL_PAGE_MAX)
        return;
    for (size_t at = WAL_HEADER; at + WAL_FRAME + page <= log.len; at += WAL_FRAME + page) {
        memcpy(log.at + at + 8, log.at + 16, 8);
        sum(s, log.at + at, 8, big);
        sum(s, log.at + at + WAL_FRAME, page, big);
        put(log.at + at + 16, s[0]);
        put(log.at + at + 20, s[1]);
    }
}

static void check_scan(const struct wal *wal, const struct bytes *log, bool good, const char *why)
{
    CHECK(good == (why[0] == '\0'), "the reason is \"%s\"", why);
    CHECK((wal->frames > 0) == (wal->pages > 0), "%llu frames, %u pages",
          (unsigned long long)wal->frames, wal->pages);
    CHECK(wal->frames == 0 || (wal->page_size >= 512 && wal->page_size <= WAL_PAGE_MAX &&
                               WAL_HEADER + wal->frames * (WAL_FRAME + wal->page_size) <= log->len),
          "%llu frames of pages of %zu bytes in a log of %zu", (unsigned long long)wal->frames,
          wal->page_size, log->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned flags = take_byte(&input), changes = take_byte(&input) % 8;
    struct bytes log = lay_out(&input);
    struct wal *wal = need_memory(sizeof *wal);
    uint64_t state = 1 + size, image_len;
    char why[200] = "";
    bool good, same;

    if (flags & 1)
        repair(log);
    wal->read = read_bytes;
    wal->arg = &log;
    good = wal_scan(wal, why, sizeof why);
    check_scan(wal, &log, good, why);
    for (unsigned i = 0; (flags & 2) && i < changes && log.len > 0; i++)
        log.at[random_next(&state) % log.len] = (unsigned char)random_next(&state);
    image_len = (uint64_t)wal->pages * wal->page_size;
    if (good && image_len > 0 && image_len <= IMAGE_MOST) {
        unsigned char *image = need_memory(image_len);

        memset(image, 0, image_len);
        same = wal_lay_over(wal, image);
        CHECK(same || (flags & 2), "a log that is as it was is taken for another");
        free(image);
    }
    free(wal);
    free(log.at);
    return 0;
}
