/*
 * The image of a table: a constant database (cdb) in a sealed memfd, made by the loader and read by
 * workers. Opening and searching run in the worker, on bytes that an untrusted loader wrote: every
 * access is bounds-checked. Must never write, and makes no system call but mmap, fstat and close.
 *
 * One record names the image: key `jailmap`, value struct image_header. Every entry has as cdb key
 * the SipHash-2-4 of the table's key under the image's own random seed, so that whoever chooses
 * table keys cannot make them collide; its value is a 32-bit little-endian word (length of the key,
 * IMAGE_STORED_NUL), the key, and the value. Entries stand in the order in which the source lists
 * them, which is the order that a `sequence` request walks.
 */
#ifndef JAILMAP_SERVER_IMAGE_H
#define JAILMAP_SERVER_IMAGE_H

#include <cdb.h>
#include <sodium/crypto_shorthash.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/slice.h"

#define IMAGE_MAGIC      0x316d6a69u /* version 1 */
#define IMAGE_HEADER_KEY "jailmap"
#define IMAGE_HASH_LEN   crypto_shorthash_BYTES
/* In the word before a key: the source stored this key with a trailing NUL, which is left out. */
#define IMAGE_STORED_NUL 0x80000000u

/* Which forms of stored keys to look for, as PM_FLAG_TRY1NULL and PM_FLAG_TRY0NULL ask. */
#define IMAGE_FORM_NUL  1u
#define IMAGE_FORM_BARE 2u

struct image_header {
    uint32_t magic;
    uint32_t zero;
    uint64_t entries;
    uint8_t seed[crypto_shorthash_KEYBYTES];
};

struct image {
    struct cdb cdb;
    struct image_header header;
};

/*
 * Maps the image behind fd, which stays the caller's to close. Returns 0, or -1 with *why a
 * constant text if it is not an image; then nothing is held. image_close() releases the mapping.
 */
int image_open(struct image *image, int fd, const char **why);
void image_close(struct image *image);

/*
 * Finds key in one of the forms. Where both are stored, the one with NUL wins, as in Postfix.
 * Returns the form that was found and sets *value, which borrows from the image; 0 if there is
 * none.
 */
unsigned image_find(struct image *image, struct slice key, unsigned forms, struct slice *value);

/*
 * Two steps that have the processor fetch what image_find() will read, so that the waiting for
 * memory of several lookups overlaps: the slot of key's hash, which the first returns, and the
 * entry that the slot points to. Hints only: they change no answer, whatever the image holds.
 */
const void *image_fetch_slot(const struct image *image, struct slice key);
void image_fetch_entry(const struct image *image, const void *slot);

/*
 * The entry at *cursor (start with 0) and the cursor of the one after it. False at the end.
 * Key and value borrow from the image.
 */
bool image_next(struct image *image, uint32_t *cursor, struct slice *key, struct slice *value);

#endif
