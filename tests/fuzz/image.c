/*
 * Fuzz target image: what a worker reads in an image that a loader may have forged. Run by
 * tests/fuzz/run; makes anonymous files. Input: one byte; if it is 0, a file follows as it is. If
 * not, entries follow, up to one of length 255, which are written as a loader writes them: the
 * image must answer each search as the list of entries does. Then come changes to that file, after
 * which nothing may be read outside of it, and a walk must end.
 */
#include "server/image.h"

#include <stdlib.h>
#include <unistd.h>

#include "server/loader/image_write.h"
#include "tests/fuzz/common.h"

#define ENTRIES  16
#define KEY_MOST 24

struct model {
    struct record entries[ENTRIES];
    size_t count;
    bool has_default;
    struct slice default_value;
};

static void check_inside(const struct image *image, struct slice s)
{
    const char *begin = (const char *)image->cdb.cdb_mem, *end = begin + image->cdb.cdb_fsize;

    CHECK(s.ptr >= begin && s.ptr <= end && s.len <= (size_t)(end - s.ptr),
          "a slice of %zu bytes lies outside of the image of %u", s.len, image->cdb.cdb_fsize);
}

/* As a worker searches: it has the processor fetch first. */
static unsigned find(struct image *image, struct slice key, unsigned forms, struct slice *value)
{
    const void *slot = image_fetch_slot(image, key);
    unsigned form;

    if (slot != NULL) {
        check_inside(image, (struct slice){slot, 8});
        image_fetch_entry(image, slot);
    }
    form = image_find(image, key, forms, value);
    if (form != 0)
        check_inside(image, *value);
    return form;
}

/* ---- an image as it should be ---- */

static void write_entry(struct image_writer *writer, struct model *model, struct input *input)
{
    struct record *entry = &model->entries[model->count];

    entry->key = take_slice(input, KEY_MOST);
    entry->forms = take_byte(input) % IMAGE_FORM_ANY + 1;
    entry->value = take_slice(input, UINT8_MAX);
    REQUIRE(image_writer_add(writer, entry->key, entry->forms, entry->value) == 0, "not added");
    model->count++;
}

static int write_image(struct model *model, struct input *input, bool has_default)
{
    int fd = file_of_bytes("", 0);
    struct image_writer *writer = image_writer_start(fd);
    uint64_t entries, written = 0;

    REQUIRE(writer != NULL, "no writer");
    while (model->count < ENTRIES && input->left > 0 && *input->at != UINT8_MAX)
        write_entry(writer, model, input);
    take_byte(input);
    model->has_default = has_default;
    if (has_default) {
        model->default_value = take_slice(input, UINT8_MAX);
        REQUIRE(image_writer_default(writer, model->default_value) == 0, "no default");
    }
    REQUIRE(image_writer_finish(writer, &entries) == 0, "not finished");
    for (size_t i = 0; i < model->count; i++)
        written += (model->entries[i].forms & IMAGE_FORMS_WRITTEN) != 0;
    CHECK(entries == written, "%d entries, not %d", (int)entries, (int)written);
    return fd;
}

/* What a search must find: of the highest form that has the key, the entry added first. */
static unsigned find_in_model(const struct model *model, struct slice key, unsigned forms,
                              struct slice *value)
{
    for (unsigned form = 8; form > 0; form >>= 1)
        for (size_t i = 0; i < model->count; i++)
            if ((model->entries[i].forms & forms & form) &&
                slice_same(model->entries[i].key, key)) {
                *value = model->entries[i].value;
                return form;
            }
    *value = model->default_value;
    return model->has_default ? IMAGE_FORM_ANY : 0;
}

static void expect_found(struct image *image, const struct model *model, struct slice key)
{
    static const unsigned searches[] = {0, 1, 2, 3, 4, 8, 12, IMAGE_FORM_ANY};

    for (size_t i = 0; i < COUNT(searches); i++) {
        struct slice got, want;
        unsigned form = find(image, key, searches[i], &got);
        unsigned wanted = find_in_model(model, key, searches[i], &want);

        CHECK(form == wanted && (form == 0 || slice_same(got, want)),
              "key of %zu bytes in forms %u: found in form %u, not %u", key.len, searches[i], form,
              wanted);
    }
}

static void expect_walk(struct image *image, const struct model *model)
{
    struct slice key, value;
    uint32_t cursor = 0;

    for (size_t i = 0; i < model->count; i++) {
        if ((model->entries[i].forms & IMAGE_FORMS_WRITTEN) == 0)
            continue;
        REQUIRE(image_next(image, &cursor, &key, &value), "the walk ends before entry %zu", i);
        CHECK(slice_same(key, model->entries[i].key) && slice_same(value, model->entries[i].value),
              "the walk comes to another entry than %zu", i);
    }
    CHECK(!image_next(image, &cursor, &key, &value), "the walk goes on");
}

static void check_image(int fd, const struct model *model)
{
    static const struct slice others[] = {SLICE(""), SLICE("jailmap"), SLICE("default")};
    struct image image;
    const char *why;

    REQUIRE(image_open(&image, fd, &why) == 0, "not an image: %s", why);
    for (size_t i = 0; i < model->count; i++)
        expect_found(&image, model, model->entries[i].key);
    for (size_t i = 0; i < COUNT(others); i++)
        expect_found(&image, model, others[i]);
    expect_walk(&image, model);
    image_close(&image);
}

/* ---- any image ---- */

static void search(struct image *image, struct slice key)
{
    char *exact = exact_copy(key.ptr, key.len);
    struct slice value;

    for (unsigned forms = 1; forms <= IMAGE_FORM_ANY; forms = forms * 2 + 1)
        find(image, (struct slice){exact, key.len}, forms, &value);
    free(exact);
}

/* Reads all there is, by each way there is. */
static void read_all(int fd, const struct model *model)
{
    struct slice key, value;
    struct image image;
    uint32_t cursor = 0, before = 0;
    const char *why = NULL;

    if (image_open(&image, fd, &why) != 0) {
        CHECK(why != NULL, "no image, without a reason");
        return;
    }
    if (image.has_default)
        check_inside(&image, image.default_value);
    for (size_t i = 0; i < model->count; i++)
        search(&image, model->entries[i].key);
    for (; image_next(&image, &cursor, &key, &value); before = cursor) {
        CHECK(cursor > before, "the walk does not move on");
        check_inside(&image, key);
        check_inside(&image, value);
        search(&image, key);
    }
    CHECK(image_shed(&image), "a small image is let go of at once");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct model model = {.count = 0};
    unsigned kind = take_byte(&input);
    int fd;

    if (kind == 0) {
        fd = file_of_bytes(input.at, input.left);
    } else {
        fd = write_image(&model, &input, kind % 2 == 0);
        check_image(fd, &model);
        damage(fd, &input, 16);
    }
    read_all(fd, &model);
    close(fd);
    return 0;
}
