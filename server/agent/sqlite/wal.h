/*
 * The write-ahead log of an SQLite database: what it holds that is committed, laid over a copy of
 * the database. Runs in jailmap-agent-sqlite; touches no file by itself. The format is that of
 * section 4 of https://www.sqlite.org/fileformat2.html.
 */
#ifndef JAILMAP_SERVER_AGENT_SQLITE_WAL_H
#define JAILMAP_SERVER_AGENT_SQLITE_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_HEADER   32
#define WAL_FRAME    24 /* bytes before each page */
#define WAL_PAGE_MAX 65536

enum wal_read { WAL_READ, WAL_ENDS, WAL_ERROR };

struct wal {
    /* Reads len bytes from `at` on, all of them or none. WAL_ERROR with errno. */
    enum wal_read (*read)(void *arg, void *to, size_t len, uint64_t at);
    void *arg;
    /* What wal_scan() has found: */
    size_t page_size;
    uint64_t frames; /* that are committed; 0: the log holds nothing */
    uint32_t pages;  /* of the database, after the last of them */
    unsigned char header[WAL_HEADER];
    unsigned char frame[WAL_FRAME + WAL_PAGE_MAX]; /* in hand */
};

/* Finds what is committed. False: why says what was found and what is expected. */
bool wal_scan(struct wal *wal, char *why, size_t len);

/*
 * Lays the pages that wal_scan() found over image, which has wal->pages of them. False: the log has
 * begun anew since the scan, or cannot be read, and image is nothing to be used.
 */
bool wal_lay_over(struct wal *wal, unsigned char *image);

#endif
