/*
 * Tests of server/agent/sqlite/wal: a log that SQLite has written, and logs laid out by hand in
 * both byte orders: what is committed is found and laid over an image; what is not, or is of a log
 * before, is left; a log that begins anew meanwhile is noticed. Part of the unit test program;
 * touches nothing outside.
 */
#include "server/agent/sqlite/wal.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

#define PAGE   512u
#define FRAMES 8u
#define SIZE   (WAL_FRAME + PAGE)

struct log {
    unsigned char bytes[WAL_HEADER + FRAMES * SIZE];
    size_t len;
    uint32_t sum[2];
    bool big, broken; /* broken: behind the header it cannot be read */
};

static struct wal wal;
static char why[200];

static enum wal_read read_log(void *arg, void *to, size_t len, uint64_t at)
{
    const struct log *log = arg;

    if (log->broken && at > 0) {
        errno = EIO;
        return WAL_ERROR;
    }
    if (at > log->len || len > log->len - at)
        return WAL_ENDS;
    memcpy(to, log->bytes + at, len);
    return WAL_READ;
}

static void set(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

static uint32_t word(const unsigned char *at, bool big)
{
    return big ? (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]
               : (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static void add(struct log *log, const unsigned char *at, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        log->sum[0] += word(at + i, log->big) + log->sum[1];
        log->sum[1] += word(at + i + 4, log->big) + log->sum[0];
    }
}

static void set_sum(const struct log *log, unsigned char *at)
{
    set(at, log->sum[0]);
    set(at + 4, log->sum[1]);
}

/* At its beginning; what stands behind that stays. */
static void begin(struct log *log, bool big, uint32_t salt)
{
    log->big = big;
    log->len = log->len > 0 ? log->len : WAL_HEADER;
    log->sum[0] = log->sum[1] = 0;
    set(log->bytes, 0x377f0682u | big);
    set(log->bytes + 4, 3007000);
    set(log->bytes + 8, PAGE);
    set(log->bytes + 16, salt);
    set(log->bytes + 20, salt * 7);
    add(log, log->bytes, 24);
    set_sum(log, log->bytes + 24);
}

/* pages: 0, or how many the database has after this end of a transaction. */
static void frame(struct log *log, unsigned i, uint32_t page, uint32_t pages, int fill)
{
    unsigned char *at = log->bytes + WAL_HEADER + (size_t)i * SIZE;

    set(at, page);
    set(at + 4, pages);
    memcpy(at + 8, log->bytes + 16, 8);
    memset(at + WAL_FRAME, fill, PAGE);
    add(log, at, 8);
    add(log, at + WAL_FRAME, PAGE);
    set_sum(log, at + 16);
    if (log->len < WAL_HEADER + (size_t)(i + 1) * SIZE)
        log->len = WAL_HEADER + (size_t)(i + 1) * SIZE;
}

/* Three transactions: two pages, both again and one more, and the third cut off. */
static struct log usual(bool big)
{
    struct log log = {.len = 0};

    begin(&log, big, 4711);
    frame(&log, 0, 1, 0, 'a');
    frame(&log, 1, 2, 2, 'b');
    frame(&log, 2, 3, 0, 'c');
    frame(&log, 3, 1, 3, 'd');
    frame(&log, 4, 2, 2, 'e');
    return log;
}

static bool scan(struct log *log)
{
    wal.read = read_log;
    wal.arg = log;
    why[0] = '\0';
    return wal_scan(&wal, why, sizeof why);
}

static void expect(struct log *log, uint64_t frames, uint32_t pages, const char *about)
{
    CHECK(scan(log), "%s: %s", about, why);
    CHECK(wal.frames == frames && wal.pages == pages, "%s: %u frames, %u pages", about,
          (unsigned)wal.frames, wal.pages);
}

/* The first byte of each page, as text. */
static void expect_image(const char *before, const char *after)
{
    unsigned char *image = need_memory(wal.pages * wal.page_size);

    for (uint32_t i = 0; i < wal.pages; i++)
        memset(image + i * PAGE, before[i], PAGE);
    CHECK(wal_lay_over(&wal, image), "it is taken for another log");
    for (uint32_t i = 0; i < wal.pages; i++)
        for (uint32_t j = 0; j < PAGE; j += PAGE - 1)
            CHECK(image[i * PAGE + j] == after[i], "page %u: %c", i + 1, image[i * PAGE + j]);
    free(image);
}

static void of_sqlite(void)
{
    static const unsigned char head[] =
        "\x37\x7f\x06\x82\x00\x2d\xe2\x18\x00\x00\x02\x00\x00\x00\x00\x00\xa7\x90\xdc\x76\x52\x7d"
        "\x8c\x88\x4b\xa7\x93\xba\x8c\x0d\xe8\xb1\x00\x00\x00\x01\x00\x00\x00\x01\xa7\x90\xdc\x76"
        "\x52\x7d\x8c\x88\xcc\x30\xf3\x75\x63\x35\x61\x3d\x53\x51\x4c\x69\x74\x65\x20\x66\x6f\x72"
        "\x6d\x61\x74\x20\x33\x00\x02\x00\x02\x02\x00\x40\x20\x20\x00\x00\x00\x02\x00\x00\x00\x01";
    struct log log = {.len = WAL_HEADER + SIZE};
    unsigned char page[PAGE];

    memcpy(log.bytes, head, sizeof head - 1);
    log.bytes[119] = 7;
    memcpy(log.bytes + 151, "\x02\x00\x2e\x63\x01\x0d", 6);
    log.bytes[161] = 2;
    expect(&log, 1, 1, "one transaction");
    CHECK(wal_lay_over(&wal, page) && memcmp(page, log.bytes + WAL_HEADER + WAL_FRAME, PAGE) == 0,
          "its page is another");
}

static void both_orders(void)
{
    for (int big = 0; big < 2; big++) {
        struct log log = usual(big);

        expect(&log, 5, 2, "three transactions");
        expect_image("xy", "de");
        frame(&log, 5, 4, 6, 'f');
        expect(&log, 6, 6, "pages between");
        expect_image("uvwxyz", "decfyz");
    }
}

static void not_committed(void)
{
    struct log log = usual(true);

    frame(&log, 5, 1, 0, 'f');
    frame(&log, 6, 2, 0, 'g');
    expect(&log, 5, 2, "frames behind the last commit");
    log.len = WAL_HEADER;
    expect(&log, 0, 0, "no frame");
    log = (struct log){.len = 0};
    begin(&log, false, 1);
    frame(&log, 0, 1, 0, 'a');
    expect(&log, 0, 0, "no commit");
}

static void torn(void)
{
    struct log log = usual(false);
    size_t len = log.len;

    for (log.len = len - 1; log.len > len - SIZE; log.len -= 97)
        expect(&log, 4, 3, "the last frame is cut");
    for (size_t at = 0; at < SIZE; at++) {
        log = usual(false);
        log.bytes[WAL_HEADER + 4 * SIZE + at] ^= 0x20;
        expect(&log, 4, 3, "a bit of the last frame is another");
    }
    log = usual(false);
    log.bytes[WAL_HEADER + WAL_FRAME] ^= 1;
    expect(&log, 0, 0, "a bit of the first");
}

static void begun_anew(void)
{
    struct log log = usual(true);

    begin(&log, true, 4712);
    frame(&log, 0, 2, 3, 'z');
    expect(&log, 1, 3, "old frames behind");
    expect_image("abc", "azc");
    begin(&log, true, 4713);
    expect(&log, 0, 0, "old frames only");
}

static void begins_anew_meanwhile(void)
{
    struct log log = usual(true);
    unsigned char image[3 * PAGE];

    expect(&log, 5, 2, "as it was");
    begin(&log, true, 4712);
    CHECK(!wal_lay_over(&wal, image), "another header is not noticed");
    log = usual(true);
    expect(&log, 5, 2, "as it was");
    log.len = 0;
    CHECK(!wal_lay_over(&wal, image), "that it was cut is not noticed");
    expect(&log, 0, 0, "empty");
    begin(&log, true, 4712);
    CHECK(!wal_lay_over(&wal, image), "that it begins is not noticed");
}

static void added_meanwhile(void)
{
    struct log log = usual(true);

    expect(&log, 5, 2, "as it was");
    frame(&log, 5, 1, 2, 'f');
    expect_image("xy", "de");
}

static void headers(void)
{
    for (size_t at = 0; at < WAL_HEADER; at++) {
        struct log log = usual(true);

        log.bytes[at] ^= 0x40;
        expect(&log, 0, 0, "a header that is not whole");
    }
    for (unsigned size = 0; size <= 32; size++) {
        struct log log = {.len = 0};

        begin(&log, true, 1);
        set(log.bytes + 8, size < 32 ? 1u << size : 513);
        log.sum[0] = log.sum[1] = 0;
        add(&log, log.bytes, 24);
        set_sum(&log, log.bytes + 24);
        frame(&log, 0, 1, 1, 'a');
        expect(&log, size == 9, size == 9, "a size of pages");
    }
}

static void versions(void)
{
    struct log log = usual(true);

    set(log.bytes + 4, 3007001);
    log.sum[0] = log.sum[1] = 0;
    add(&log, log.bytes, 24);
    set_sum(&log, log.bytes + 24);
    CHECK(!scan(&log), "another version is taken");
    CHECK_TEXT(why, "has a -wal file of version 3007001; 3007000 is expected", "why");
}

static void unreadable(void)
{
    struct log log = usual(true);
    unsigned char image[2 * PAGE];

    expect(&log, 5, 2, "as it was");
    log.broken = true;
    CHECK(!wal_lay_over(&wal, image), "an error is not noticed");
    CHECK(!scan(&log), "an error is taken for the end");
    CHECK_TEXT(why, "has a -wal file that cannot be read: Input/output error", "why");
}

static const struct unit_test tests[] = {
    {"a log that SQLite has written", of_sqlite},
    {"the latest page of each number counts, in both byte orders", both_orders},
    {"what is not committed does not count", not_committed},
    {"a frame that is cut or damaged ends the log", torn},
    {"frames of a log before do not count", begun_anew},
    {"a log that begins anew while it is read is noticed", begins_anew_meanwhile},
    {"what is added while it is read is left", added_meanwhile},
    {"a header that is not whole heads nothing", headers},
    {"another version is refused", versions},
    {"an error is not the end of the log", unreadable},
};

const struct unit_suite wal_suite = {.name = "wal", .tests = tests, .ntests = COUNT(tests)};
