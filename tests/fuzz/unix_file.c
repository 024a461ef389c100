/*
 * What the fuzz targets passwd and group share: see unix_file.h. Run by tests/fuzz/run; makes
 * anonymous files. The source promises that an entry comes out as glibc gives it, or not at all, so
 * glibc's own reader of such files is asked about the same bytes. It stands for the `files` service
 * of NSS, which has the same parser and takes the first entry of a name.
 */
#include "tests/fuzz/unix_file.h"

#include <stdlib.h>

#include "server/image.h"

void entries_add(struct entries *entries, const char *name, char *value)
{
    const struct slice key = text_slice(name);
    struct record *grown;

    for (size_t i = 0; i < entries->count; i++)
        if (slice_same(entries->list[i].key, key))
            name = "";
    if (name[0] == '\0' || name[0] == '+' || name[0] == '-') {
        free(value);
        return;
    }
    grown = realloc(entries->list, (entries->count + 1) * sizeof *grown);
    REQUIRE(grown != NULL, "out of memory");
    entries->list = grown;
    grown[entries->count++] =
        (struct record){IMAGE_FORM_ANY, {exact_copy(key.ptr, key.len), key.len}, text_slice(value)};
}

static void entries_free(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free((char *)entries->list[i].key.ptr);
        free((char *)entries->list[i].value.ptr);
    }
    free(entries->list);
}

static void compare(const struct loaded *l, const struct entries *entries)
{
    for (size_t i = 0; i < l->count && i < entries->count; i++) {
        const struct record *got = &l->records[i], *want = &entries->list[i];

        CHECK(got->forms == IMAGE_FORM_ANY, "forms %u", got->forms);
        CHECK(slice_same(got->key, want->key) && slice_same(got->value, want->value),
              "entry %zu is \"%.*s\", and \"%.*s\" to the C library", i, (int)got->value.len,
              got->value.ptr, (int)want->value.len, want->value.ptr);
    }
    CHECK(l->count == entries->count, "%zu entries, and %zu to the C library", l->count,
          entries->count);
    CHECK((l->rc == 0) == (entries->count > 0), "refused: %s", l->source.why);
}

void check_unix_file(const struct source_ops *ops, const uint8_t *data, size_t size,
                     void (*read_all)(FILE *in, struct entries *entries))
{
    static const struct slice files_only = SLICE("passwd: files\ngroup: files\n");
    struct entries entries = {NULL, 0};
    struct loaded l = {0};
    FILE *in = size > 0 ? fmemopen((void *)data, size, "r") : NULL;

    load_file(&l, ops, (struct slice){(const char *)data, size}, &files_only);
    expect_sane(&l);
    CHECK(l.source.answered_by == KIND_IMAGE || l.count == 0, "entries, and an agent");
    if (in != NULL)
        read_all(in, &entries);
    if (l.source.answered_by == KIND_IMAGE)
        compare(&l, &entries);
    entries_free(&entries);
    unload(&l);
    if (in != NULL)
        fclose(in);
}
