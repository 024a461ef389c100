/*
 * Fuzz target inline: the loader's source type inline, on a table's name, with and without braces
 * around it. Run by tests/fuzz/run; touches memory only. Input: the name. Nothing may come out that
 * is not in the name, and what comes out, written as a name, must come out again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/image.h"
#include "server/fold.h"
#include "server/loader/key_forms.h"
#include "tests/fuzz/common.h"

static char *write_name(const struct loaded *l, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    REQUIRE(out != NULL, "out of memory");
    fputc('{', out);
    for (size_t i = 0; i < l->count; i++)
        if (l->records[i].forms & IMAGE_FORMS_WRITTEN) {
            fputs(" {", out);
            fwrite(l->records[i].key.ptr, 1, l->records[i].key.len, out);
            fputc('=', out);
            fwrite(l->records[i].value.ptr, 1, l->records[i].value.len, out);
            fputc('}', out);
        }
    fputc('}', out);
    fclose(out);
    return text;
}

static void check_again(const struct loaded *l)
{
    struct loaded again = {0};
    size_t len = 0;
    char *name = write_name(l, &len);

    load_name(&again, &source_inline, (struct slice){name, len});
    REQUIRE(again.rc == 0 && again.count == l->count,
            "%zu entries, written and read again: %zu %s\n%.*s", l->count, again.count,
            again.source.why, (int)len, name);
    expect_same(&again, l);
    unload(&again);
    free(name);
}

static void check_name(struct slice name)
{
    struct loaded l = {0};

    load_name(&l, &source_inline, name);
    expect_sane(&l);
    CHECK(l.rc == 0 || l.count == 0, "entries of a table that is refused");
    CHECK(l.rc != 0 || l.count > 0, "a table without entries");
    CHECK(!l.has_default && l.source.ignored == 0, "a default, or something ignored");
    for (size_t i = 0; i < l.count; i++) {
        const struct record *r = &l.records[i];

        CHECK(is_part_of(r->value, name), "a value that is not in the name");
        if (r->forms & IMAGE_FORMS_WRITTEN)
            CHECK(is_part_of(r->key, name), "a key that is not in the name");
        if (r->forms & IMAGE_FORM_UTF8)
            CHECK(is_utf8(r->key), "found by UTF-8 requests, and not UTF-8");
    }
    if (l.rc == 0)
        check_again(&l);
    expect_refusal(&source_inline, (struct slice){NULL, 0}, name, l.count);
    unload(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *braced = need_memory(size + 2);

    braced[0] = '{';
    if (size > 0)
        memcpy(braced + 1, data, size);
    braced[size + 1] = '}';
    check_name((struct slice){braced + 1, size});
    check_name((struct slice){braced, size + 2});
    free(braced);
    return 0;
}
