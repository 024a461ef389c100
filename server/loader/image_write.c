/*
 * Writing an image: see image_write.h. Runs in the loader. It may write to the memfd it is given;
 * it must never touch anything else.
 */
#include "server/loader/image_write.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "server/image.h"

#define IMAGE_MAX UINT32_C(0xfffffff0) /* offsets in a cdb are 32 bits */

struct image_writer {
    struct cdb_make make;
    struct image_header header;
    uint64_t size;
    char *record;
    size_t record_cap;
};

struct image_writer *image_writer_start(int fd)
{
    struct image_writer *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->header.magic = htole32(IMAGE_MAGIC);
    w->size = 2048; /* the directory of a cdb */
    if (getrandom(w->header.seed, sizeof w->header.seed, 0) != (ssize_t)sizeof w->header.seed ||
        cdb_make_start(&w->make, fd) != 0) {
        free(w);
        return NULL;
    }
    return w;
}

/* Every record costs two 32-bit lengths and two 8-byte slots of its hash table besides itself. */
static int add(struct image_writer *w, const void *key, size_t key_len, const void *value,
               size_t value_len)
{
    w->size += key_len + value_len + 24;
    if (w->size > IMAGE_MAX) {
        errno = EFBIG;
        return -1;
    }
    return cdb_make_add(&w->make, key, (unsigned)key_len, value, (unsigned)value_len) < 0 ? -1 : 0;
}

int image_writer_add(struct image_writer *w, struct slice key, unsigned forms, struct slice value)
{
    size_t need = sizeof(uint32_t) + key.len + value.len;
    unsigned char hash[IMAGE_HASH_LEN];
    uint32_t word;

    if (key.len > IMAGE_KEY_MAX || need > IMAGE_MAX) {
        errno = EFBIG;
        return -1;
    }
    if (need > w->record_cap) {
        char *grown = realloc(w->record, need * 2);

        if (grown == NULL)
            return -1;
        w->record = grown;
        w->record_cap = need * 2;
    }
    word = htole32((uint32_t)key.len | forms << 28);
    memcpy(w->record, &word, sizeof word);
    if (key.len > 0)
        memcpy(w->record + sizeof word, key.ptr, key.len);
    if (value.len > 0)
        memcpy(w->record + sizeof word + key.len, value.ptr, value.len);
    crypto_shorthash(hash, (const unsigned char *)key.ptr, key.len, w->header.seed);
    if (add(w, hash, sizeof hash, w->record, need) != 0)
        return -1;
    w->header.entries += (forms & IMAGE_FORMS_WRITTEN) != 0;
    return 0;
}

int image_writer_default(struct image_writer *w, struct slice value)
{
    return add(w, IMAGE_DEFAULT_KEY, sizeof IMAGE_DEFAULT_KEY - 1, value.ptr, value.len);
}

int image_writer_finish(struct image_writer *w, uint64_t *entries)
{
    int rc;

    *entries = w->header.entries;
    w->header.entries = htole64(w->header.entries);
    rc = add(w, IMAGE_HEADER_KEY, sizeof IMAGE_HEADER_KEY - 1, &w->header, sizeof w->header);
    if (cdb_make_finish(&w->make) != 0) /* frees what it holds, too */
        rc = -1;
    free(w->record);
    free(w);
    return rc;
}
