/*
 * The write-ahead log of an SQLite database: see wal.h. Runs in jailmap-agent-sqlite. A log is only
 * appended to until it begins anew, with another header; so whoever finds the header unchanged has
 * read frames that belong together, without a lock. It must never take a frame that is not
 * committed, and no number in the log may lead out of the image.
 */
#include "server/agent/sqlite/wal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAGIC    0x377f0682u /* its lowest bit: checksums are of big-endian words */
#define VERSION  3007000u
#define PAGE_MIN 512u

/* Where things stand in the header, and in what precedes each page. */
enum { AT_VERSION = 4, AT_PAGE_SIZE = 8, AT_SALT = 16, AT_HEADER_SUM = 24 };
enum { AT_PAGES = 4, AT_FRAME_SALT = 8, AT_FRAME_SUM = 16 };

struct sum {
    uint32_t a, b;
    bool big;
};

static uint32_t number(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* len: a multiple of 8. */
static void add(struct sum *sum, const unsigned char *at, size_t len)
{
    for (const unsigned char *end = at + len; at < end; at += 8) {
        uint32_t x = number(at), y = number(at + 4);

        sum->a += (sum->big ? x : __builtin_bswap32(x)) + sum->b;
        sum->b += (sum->big ? y : __builtin_bswap32(y)) + sum->a;
    }
}

static bool is_sum(const struct sum *sum, const unsigned char *at)
{
    return sum->a == number(at) && sum->b == number(at + 4);
}

static uint64_t place(const struct wal *wal, uint64_t frame)
{
    return WAL_HEADER + frame * (WAL_FRAME + wal->page_size);
}

static bool fail(char *why, size_t len)
{
    snprintf(why, len, "has a -wal file that cannot be read: %s", strerror(errno));
    return false;
}

/* A header that is no good heads nothing, to SQLite as well: its writer was interrupted. */
static bool begin(struct wal *wal, struct sum *sum)
{
    uint32_t magic = number(wal->header), size = number(wal->header + AT_PAGE_SIZE);

    if ((magic & ~1u) != MAGIC || size < PAGE_MIN || size > WAL_PAGE_MAX ||
        (size & (size - 1)) != 0)
        return false;
    *sum = (struct sum){.big = magic & 1};
    add(sum, wal->header, AT_HEADER_SUM);
    wal->page_size = size;
    return is_sum(sum, wal->header + AT_HEADER_SUM);
}

/* Does the frame in hand follow the others? Behind them may be some of a log before this one, or of
 * a transaction that was not written to its end. */
static bool follows(const struct wal *wal, struct sum *sum)
{
    const unsigned char *frame = wal->frame;

    if (number(frame) == 0 || memcmp(frame + AT_FRAME_SALT, wal->header + AT_SALT, 8) != 0)
        return false;
    add(sum, frame, AT_FRAME_SALT);
    add(sum, frame + WAL_FRAME, wal->page_size);
    return is_sum(sum, frame + AT_FRAME_SUM);
}

bool wal_scan(struct wal *wal, char *why, size_t len)
{
    enum wal_read rc;
    struct sum sum;

    wal->frames = 0;
    wal->pages = 0;
    wal->page_size = 0;
    memset(wal->header, 0, sizeof wal->header);
    rc = wal->read(wal->arg, wal->header, sizeof wal->header, 0);
    if (rc == WAL_ERROR)
        return fail(why, len);
    if (rc == WAL_ENDS || !begin(wal, &sum))
        return true;
    if (number(wal->header + AT_VERSION) != VERSION) {
        snprintf(why, len, "has a -wal file of version %u; %u is expected",
                 (unsigned)number(wal->header + AT_VERSION), VERSION);
        return false;
    }
    for (uint64_t i = 0;; i++) {
        rc = wal->read(wal->arg, wal->frame, WAL_FRAME + wal->page_size, place(wal, i));
        if (rc == WAL_ERROR)
            return fail(why, len);
        if (rc == WAL_ENDS || !follows(wal, &sum))
            return true;
        if (number(wal->frame + AT_PAGES) != 0) { /* a transaction ends with it */
            wal->frames = i + 1;
            wal->pages = number(wal->frame + AT_PAGES);
        }
    }
}

static bool is_same(const struct wal *wal)
{
    unsigned char now[WAL_HEADER] = {0};

    return wal->read(wal->arg, now, sizeof now, 0) != WAL_ERROR &&
           memcmp(now, wal->header, sizeof now) == 0;
}

bool wal_lay_over(struct wal *wal, unsigned char *image)
{
    for (uint64_t i = 0; i < wal->frames; i++) {
        uint32_t page;

        if (wal->read(wal->arg, wal->frame, WAL_FRAME + wal->page_size, place(wal, i)) != WAL_READ)
            return false;
        page = number(wal->frame);
        /* Pages that a later transaction has cut off are none any more. */
        if (page >= 1 && page <= wal->pages)
            memcpy(image + (page - 1) * wal->page_size, wal->frame + WAL_FRAME, wal->page_size);
    }
    return is_same(wal);
}
