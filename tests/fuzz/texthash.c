/*
 * Fuzz target texthash: the loader's source type texthash, on a file of anybody's. Run by
 * tests/fuzz/run; makes anonymous files. Input: the file. Nothing may come out that is not in the
 * text, and what comes out, written as a text, must come out again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/fold.h"
#include "server/image.h"
#include "server/loader/key_forms.h"
#include "tests/fuzz/common.h"

/* Key and value of an entry as written stand in the text one behind the other. A line that is
 * continued leaves out what is between its parts. */
static void check_entry(const struct record *r, struct slice file)
{
    char *both = need_memory(r->key.len + r->value.len);

    CHECK(r->key.len > 0 && r->value.len > 0, "an entry without key or value");
    if (r->forms & IMAGE_FORM_UTF8)
        CHECK(is_utf8(r->key) && is_utf8(r->value), "found by UTF-8 requests, and not UTF-8");
    memcpy(both, r->key.ptr, r->key.len);
    memcpy(both + r->key.len, r->value.ptr, r->value.len);
    if (r->forms & IMAGE_FORMS_WRITTEN)
        CHECK(is_part_of((struct slice){both, r->key.len + r->value.len}, file),
              "an entry that is not in the text");
    else
        CHECK(is_part_of(r->value, file), "a value that is not in the text");
    free(both);
}

/* The entries as written, a line each. What was a duplicate is not among them. */
static char *write_text(const struct loaded *l, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < l->count; i++)
        if (l->records[i].forms & IMAGE_FORMS_WRITTEN) {
            fwrite(l->records[i].key.ptr, 1, l->records[i].key.len, out);
            fputc(' ', out);
            fwrite(l->records[i].value.ptr, 1, l->records[i].value.len, out);
            fputc('\n', out);
        }
    fclose(out);
    return text;
}

static void check_again(const struct loaded *l)
{
    struct loaded again = {0};
    size_t len = 0;
    char *text = write_text(l, &len);

    load_file(&again, &source_texthash, (struct slice){text, len}, NULL);
    REQUIRE(again.rc == 0 && again.count == l->count, "%zu entries, written and read again: %zu",
            l->count, again.count);
    expect_same(&again, l);
    unload(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice file = {(const char *)data, size};
    struct loaded l = {0};

    load_file(&l, &source_texthash, file, NULL);
    expect_sane(&l);
    CHECK((l.rc == 0) == (size > 0), "a text is refused only if it is empty: %s", l.source.why);
    CHECK(!l.has_default, "a default");
    for (size_t i = 0; i < l.count; i++)
        check_entry(&l.records[i], file);
    /* What is behind a NUL is seen by nobody but the check for UTF-8. */
    if (l.count > 0 && memchr(data, 0, size) == NULL)
        check_again(&l);
    expect_refusal(&source_texthash, file, (struct slice){NULL, 0}, l.count);
    unload(&l);
    return 0;
}
