/*
 * Fuzz target db_pages: the loader's own look at the pages of a hash or btree file, which stands
 * between libdb and files of anybody's. Run by tests/fuzz/run; makes anonymous files. Input: a byte
 * for the layout (1: swapped, 2: checksums, 4: the file is shorter than it was, 16 and up: the size
 * of a page) and the file, in which a zero is followed by how many more of them there are, because
 * pages are mostly zeros and inputs are best short.
 */
#include "server/loader/db_pages.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/common.h"

#define FILE_MOST (64u * 1024)

/* The file, for the caller to free. */
static char *lay_out(struct input *input, size_t *len)
{
    char *file = need_memory(FILE_MOST);

    memset(file, 0, FILE_MOST);
    for (*len = 0; input->left > 0 && *len < FILE_MOST; (*len)++) {
        file[*len] = (char)take_byte(input);
        if (file[*len] == '\0')
            *len += take_byte(input);
    }
    if (*len > FILE_MOST)
        *len = FILE_MOST;
    return file;
}

static int check(struct source *source, const struct db_layout *layout, int fd, uint64_t *records)
{
    int rc;

    *source = (struct source){.fd = fd, .nsswitch = -1};
    rc = db_pages_check(source, layout, records);
    CHECK(rc == 0 || rc == -1, "rc %d", rc);
    CHECK((rc == 0) == (source->why[0] == '\0'), "the reason is \"%s\"", source->why);
    CHECK(source->error == 0 && source->ignored == 0, "error %d, %u ignored", source->error,
          source->ignored);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned flags = take_byte(&input);
    size_t len;
    char *file = lay_out(&input, &len);
    struct db_layout layout = {.size = (off_t)len + (flags & 4 ? 700 : 0),
                               .page_size = 512u << (flags >> 4) % 8,
                               .swapped = (flags & 1) != 0,
                               .checksums = (flags & 2) != 0};
    int fd = file_of_bytes(file, len);
    struct source source, again;
    uint64_t records = 0, as_many = 0;
    int rc = check(&source, &layout, fd, &records);

    /* Each record takes two offsets of two bytes, and at least one byte for each of its items. */
    CHECK(rc != 0 || records <= len / 6, "%llu records in %zu bytes", (unsigned long long)records,
          len);
    CHECK(check(&again, &layout, fd, &as_many) == rc && strcmp(source.why, again.why) == 0 &&
              records == as_many,
          "a second look sees something else");
    close(fd);
    free(file);
    return 0;
}
