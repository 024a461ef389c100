/*
 * The image of a table: a constant database (cdb) in a sealed memfd, made by the loader and read by
 * workers. Opening and searching run in the worker, on bytes that an untrusted loader wrote: every
 * access is bounds-checked. Must never write, and makes no system call but mmap, munmap,
 * fstat and close.
 *
 * One record names the image: key `jailmap`, value struct image_header. Every entry has as cdb key
 * the SipHash-2-4 of the table's key under the image's own random seed, so that whoever chooses
 * table keys cannot make them collide; its value is a 32-bit little-endian word (four bits of forms
 * above the length of the key), the key, and the value. Entries stand in the order in which the
 * source lists them, which is the order that a `sequence` request walks. A record with key
 * `default`, if there is one, has the value of every key without an entry.
 *
 * An entry is found by searches in its forms only. What they mean is up to the type of table: a
 * stored database tells keys that were stored with a trailing NUL from those without; a text has
 * several indexes, because its keys are folded by whoever asks, or by nobody.
 */
#ifndef JAILMAP_SERVER_IMAGE_H
#define JAILMAP_SERVER_IMAGE_H

#include <cdb.h>
#include <sodium/crypto_shorthash.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/slice.h"

#define IMAGE_MAGIC       0x326d6a69u /* version 2 */
#define IMAGE_HEADER_KEY  "jailmap"
#define IMAGE_DEFAULT_KEY "default"
#define IMAGE_HASH_LEN    crypto_shorthash_BYTES
#define IMAGE_KEY_MAX     ((1u << 28) - 1)

/* Stored databases (hash, btree, cdb, lmdb): as PM_FLAG_TRY1NULL and PM_FLAG_TRY0NULL ask. */
#define IMAGE_FORM_BARE 1u /* the key is stored without a trailing NUL */
#define IMAGE_FORM_NUL  2u /* with one, which the image leaves out */

/* Texts (texthash, inline): which index an entry is in. */
#define IMAGE_FORM_EXACT   1u /* as written, every line */
#define IMAGE_FORM_UTF8    2u /* as written, lines that are UTF-8 */
#define IMAGE_FORM_ASCII   4u /* A-Z folded, every line */
#define IMAGE_FORM_UNICODE 8u /* fully folded, lines that are UTF-8 */

/* Any other table: found by every search. */
#define IMAGE_FORM_ANY 15u

/* An entry that is in neither of these is the folded copy of another, and does not count. */
#define IMAGE_FORMS_WRITTEN 3u

struct image_header {
    uint32_t magic;
    uint32_t zero;
    uint64_t entries;
    uint8_t seed[crypto_shorthash_KEYBYTES];
};

struct image {
    struct cdb cdb;
    struct image_header header;
    bool has_default;
    struct slice default_value;
};

/*
 * Maps the image behind fd, which stays the caller's to close. Returns 0, or -1 with *why a
 * constant text if it is not an image; then nothing is held. image_close() releases the mapping.
 */
int image_open(struct image *image, int fd, const char **why);
void image_close(struct image *image);

/*
 * The same little by little, because the kernel takes milliseconds over a large mapping and a
 * worker has none: each call lets go of a part, and the last, when nothing is left, returns true.
 * Nothing but this may be called in between.
 */
bool image_shed(struct image *image);

/*
 * Finds key in one of the forms, the highest that has it; in each form, the entry that was added
 * first. Returns that form and sets *value, which borrows from the image. Where there is none, the
 * default, as IMAGE_FORM_ANY; 0 if there is no default either.
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
