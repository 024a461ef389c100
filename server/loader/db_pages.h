/*
 * Whether the pages of a Berkeley DB file are all there and lead to each other, without libdb, and
 * how many records they hold: what libdb finds has to be as many. Runs in the loader, on bytes that
 * nobody vouches for. It reads the file once, from front to end, and must never follow anything
 * that it has not looked at: time and memory (16 bytes a page) are bounded by the file's size.
 */
#ifndef JAILMAP_SERVER_LOADER_DB_PAGES_H
#define JAILMAP_SERVER_LOADER_DB_PAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/loader/source.h"

struct db_layout {
    off_t size;         /* of the file */
    uint32_t page_size; /* 512 to 65536 */
    bool swapped;       /* written on a machine of the other byte order */
    bool checksums;     /* each page has one, behind its head */
};

/*
 * Checks the one hash or btree database that is all of source's file, in which each key has one
 * value, and counts its records. Returns 0: libdb comes to each of them, and to its end; or -1 with
 * why: a page is damaged or missing.
 */
int db_pages_check(struct source *source, const struct db_layout *layout, uint64_t *records);

#endif
