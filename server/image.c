/*
 * Reading an image: see image.h. Runs in the worker. It may map what it is given and read inside
 * that mapping; it must never trust a length that it finds there.
 */
#include "server/image.h"

#include <endian.h>
#include <string.h>
#include <sys/mman.h>

#define SHED_SIZE (512u * 1024) /* a multiple of any page */

/* Splits the record at pos/len into key and value. False if it does not hold what it says. */
static bool record_split(const struct image *image, unsigned pos, unsigned len, struct slice *key,
                         struct slice *value, unsigned *forms)
{
    const char *bytes = cdb_get(&image->cdb, len, pos);
    uint32_t word;

    if (bytes == NULL || len < sizeof word)
        return false;
    memcpy(&word, bytes, sizeof word);
    word = le32toh(word);
    *forms = word >> 28;
    word &= IMAGE_KEY_MAX;
    if (word > len - sizeof word)
        return false;
    *key = (struct slice){bytes + sizeof word, word};
    *value = (struct slice){key->ptr + word, len - sizeof word - word};
    return true;
}

int image_open(struct image *image, int fd, const char **why)
{
    const void *header = NULL;

    memset(image, 0, sizeof *image);
    if (cdb_init(&image->cdb, fd) != 0) {
        *why = "not a constant database";
        return -1;
    }
    if (cdb_find(&image->cdb, IMAGE_HEADER_KEY, sizeof IMAGE_HEADER_KEY - 1) > 0 &&
        cdb_datalen(&image->cdb) == sizeof image->header)
        header = cdb_getdata(&image->cdb);
    if (header != NULL)
        memcpy(&image->header, header, sizeof image->header);
    if (header == NULL || le32toh(image->header.magic) != IMAGE_MAGIC) {
        cdb_free(&image->cdb);
        *why = "no image header of this version";
        return -1;
    }
    image->header.entries = le64toh(image->header.entries);
    if (cdb_find(&image->cdb, IMAGE_DEFAULT_KEY, sizeof IMAGE_DEFAULT_KEY - 1) > 0) {
        image->default_value = (struct slice){cdb_getdata(&image->cdb), cdb_datalen(&image->cdb)};
        image->has_default = image->default_value.ptr != NULL;
    }
    return 0;
}

void image_close(struct image *image)
{
    cdb_free(&image->cdb);
}

bool image_shed(struct image *image)
{
    if (image->cdb.cdb_fsize <= SHED_SIZE) {
        cdb_free(&image->cdb);
        return true;
    }
    munmap((void *)image->cdb.cdb_mem, SHED_SIZE);
    image->cdb.cdb_mem += SHED_SIZE;
    image->cdb.cdb_fsize -= SHED_SIZE;
    return false;
}

static unsigned highest(unsigned forms)
{
    return forms != 0 ? 1u << (31 - __builtin_clz(forms)) : 0;
}

unsigned image_find(struct image *image, struct slice key, unsigned forms, struct slice *value)
{
    unsigned char hash[IMAGE_HASH_LEN];
    struct cdb_find find;
    unsigned found = 0;

    crypto_shorthash(hash, (const unsigned char *)key.ptr, key.len, image->header.seed);
    if (cdb_findinit(&find, &image->cdb, hash, sizeof hash) > 0)
        while (found != highest(forms) && cdb_findnext(&find) > 0) {
            struct slice its_key, its_value;
            unsigned its_forms;

            if (!record_split(image, cdb_datapos(&image->cdb), cdb_datalen(&image->cdb), &its_key,
                              &its_value, &its_forms) ||
                !slice_same(its_key, key))
                continue;
            its_forms = highest(its_forms & forms);
            if (its_forms == 0 || its_forms <= found)
                continue;
            found = its_forms;
            *value = its_value;
        }
    if (found == 0 && image->has_default) {
        found = IMAGE_FORM_ANY;
        *value = image->default_value;
    }
    return found;
}

static uint32_t word_at(const unsigned char *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return le32toh(word);
}

/* As the format of a cdb has it: 256 tables of slots, named by the first 2048 bytes. */
const void *image_fetch_slot(const struct image *image, struct slice key)
{
    const unsigned char *bytes = image->cdb.cdb_mem, *entry;
    unsigned char hash[IMAGE_HASH_LEN];
    uint32_t cdb, table, slots;

    crypto_shorthash(hash, (const unsigned char *)key.ptr, key.len, image->header.seed);
    cdb = cdb_hash(hash, sizeof hash);
    entry = bytes + (cdb % 256) * 8; /* cdb_init() has refused anything shorter */
    table = word_at(entry);
    slots = word_at(entry + 4);
    if (slots == 0 || table > image->cdb.cdb_fsize || slots > (image->cdb.cdb_fsize - table) / 8)
        return NULL;
    entry = bytes + table + (size_t)(cdb / 256 % slots) * 8;
    __builtin_prefetch(entry);
    return entry;
}

void image_fetch_entry(const struct image *image, const void *slot)
{
    uint32_t at = word_at((const unsigned char *)slot + 4);

    if (at < image->cdb.cdb_fsize && image->cdb.cdb_fsize - at > 64) {
        __builtin_prefetch(image->cdb.cdb_mem + at);
        __builtin_prefetch(image->cdb.cdb_mem + at + 64);
    }
}

/* libcdb lets a length wrap around, and so a record lead back: that is where a walk ends. */
bool image_next(struct image *image, uint32_t *cursor, struct slice *key, struct slice *value)
{
    unsigned pos = *cursor, next, forms;

    if (pos == 0)
        cdb_seqinit(&pos, &image->cdb);
    next = pos;
    while (cdb_seqnext(&next, &image->cdb) > 0 && next > pos) {
        *cursor = pos = next;
        if (cdb_keylen(&image->cdb) == IMAGE_HASH_LEN &&
            record_split(image, cdb_datapos(&image->cdb), cdb_datalen(&image->cdb), key, value,
                         &forms) &&
            (forms & IMAGE_FORMS_WRITTEN))
            return true;
    }
    *cursor = pos;
    return false;
}
