/*
 * Writing an image: see server/image.h for its form. Runs in the loader, into the memfd that the
 * monitor made. Must never read a source; that is the table types' part.
 */
#ifndef JAILMAP_SERVER_LOADER_IMAGE_WRITE_H
#define JAILMAP_SERVER_LOADER_IMAGE_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/slice.h"

struct image_writer;

/* Begins an image in fd, which stays the caller's. NULL with errno if that fails. */
struct image_writer *image_writer_start(int fd);

/*
 * Adds an entry, to be found by searches in its forms (IMAGE_FORM_*). Returns 0, or -1 with errno;
 * EFBIG when the image would pass 4 GB, or the key 256 MB, the limits of its format.
 */
int image_writer_add(struct image_writer *writer, struct slice key, unsigned forms,
                     struct slice value);

/* Adds the value of every key without an entry. Returns as image_writer_add() does. */
int image_writer_default(struct image_writer *writer, struct slice value);

/* Completes the image and frees the writer. 0 and the number of entries, or -1 with errno. */
int image_writer_finish(struct image_writer *writer, uint64_t *entries);

#endif
