/*
 * Fuzz target cdb: the loader's source type cdb, on a file of anybody's. Run by tests/fuzz/run;
 * makes anonymous files. Input: one byte; if it is 0, a file follows as it is. If not, records
 * follow, up to one of length 255, which libcdb writes: the source must hand over just these. Then
 * come changes to that file. Of a file with one wrong byte it is promised that it is refused, or
 * that every key is there in its place and at most one value differs; of others, that the source
 * ends, and that it says why it fails.
 */
#include <cdb.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/image.h"
#include "tests/fuzz/common.h"

#define RECORDS  24
#define KEY_MOST 24

struct model {
    struct record records[RECORDS];
    size_t count;
};

/* As Postfix reads a record: see record.h. */
static void expect_record(struct model *model, struct slice key, struct slice value)
{
    struct record *r = &model->records[model->count];

    r->forms = IMAGE_FORM_BARE;
    if (key.len > 0 && key.ptr[key.len - 1] == '\0') {
        r->forms = IMAGE_FORM_NUL;
        key.len--;
    }
    if (strnlen(key.ptr, key.len) < key.len)
        return;
    value.len = strnlen(value.ptr, value.len);
    r->key = key;
    r->value = value;
    model->count++;
}

static int write_file(struct model *model, struct input *input)
{
    int fd = file_of_bytes("", 0);
    struct cdb_make make;

    REQUIRE(cdb_make_start(&make, fd) == 0, "cdb_make_start");
    for (unsigned n = 0; n < RECORDS && input->left > 0 && *input->at != UINT8_MAX; n++) {
        struct slice key = take_slice(input, KEY_MOST), value = take_slice(input, UINT8_MAX);

        REQUIRE(cdb_make_add(&make, key.ptr, (unsigned)key.len, value.ptr, (unsigned)value.len) ==
                    0,
                "cdb_make_add");
        expect_record(model, key, value);
    }
    take_byte(input);
    REQUIRE(cdb_make_finish(&make) == 0, "cdb_make_finish");
    return fd;
}

/* How many values differ. The keys must not. */
static size_t compare(const struct loaded *l, const struct model *model)
{
    size_t differ = 0;

    REQUIRE(l->count == model->count, "%zu records, not %zu", l->count, model->count);
    for (size_t i = 0; i < l->count; i++) {
        CHECK(l->records[i].forms == model->records[i].forms &&
                  slice_same(l->records[i].key, model->records[i].key),
              "the key of record %zu is another", i);
        differ += !slice_same(l->records[i].value, model->records[i].value);
    }
    return differ;
}

/* Loads the file; what came of it is checked as far as it can be without a model. */
static void load(struct loaded *l, int fd)
{
    uint64_t before = descriptors();

    *l = (struct loaded){0};
    load_fd(l, &source_cdb, fd);
    CHECK(l->rc == 0 || (l->rc == -1 && l->source.why[0] != '\0'), "it fails without a reason");
    CHECK(l->source.ignored == 0 && !l->has_default, "a stored database has records only");
    for (size_t i = 0; i < l->count; i++)
        CHECK((l->records[i].forms == IMAGE_FORM_BARE || l->records[i].forms == IMAGE_FORM_NUL) &&
                  memchr(l->records[i].key.ptr, 0, l->records[i].key.len) == NULL &&
                  memchr(l->records[i].value.ptr, 0, l->records[i].value.len) == NULL,
              "record %zu", i);
    CHECK(descriptors() == before, "descriptors were opened or closed");
}

static void check_whole(int fd, const struct model *model)
{
    struct loaded l;

    load(&l, fd);
    REQUIRE(l.rc == 0, "refused: %s", l.source.why);
    CHECK(compare(&l, model) == 0, "values differ");
    unload(&l);
}

static void check_damaged(int fd, struct input *input, const struct model *model, bool once)
{
    struct loaded l;

    damage(fd, input, once ? 1 : 16);
    load(&l, fd);
    if (once && l.rc == 0)
        CHECK(compare(&l, model) <= 1, "one byte has changed several values");
    unload(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct model model = {.count = 0};
    unsigned kind = take_byte(&input);
    struct loaded l;
    int fd;

    if (kind == 0) {
        fd = file_of_bytes(input.at, input.left);
        load(&l, fd);
        unload(&l);
    } else {
        fd = write_file(&model, &input);
        check_whole(fd, &model);
        check_damaged(fd, &input, &model, kind % 2 == 0);
    }
    close(fd);
    return 0;
}
