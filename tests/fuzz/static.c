/*
 * Fuzz target static: the loader's source type static, on a table's name. Run by tests/fuzz/run;
 * touches memory only. Input: the name. The one value there is must be the name, or what its braces
 * hold, without white space around it.
 */
#include "server/text.h"
#include "tests/fuzz/common.h"

static void check_braces(struct slice name, struct slice value)
{
    struct slice inside = {name.ptr + 1, name.len - 2};

    CHECK(name.ptr[0] == '{' && name.ptr[name.len - 1] == '}', "a value that is another");
    CHECK(slice_same(text_trim(inside), value), "not what the braces hold");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice name = {(const char *)data, size};
    struct loaded l = {0};

    load_name(&l, &source_static, name);
    expect_sane(&l);
    CHECK(l.count == 0 && l.has_default == (l.rc == 0), "%zu entries", l.count);
    CHECK(l.rc == 0 || size == 0 || data[0] == '{', "refused: %s", l.source.why);
    if (l.rc == 0 && (size < 2 || data[0] != '{'))
        CHECK(slice_same(name, l.default_value), "the value is not the name");
    else if (l.rc == 0)
        check_braces(name, l.default_value);
    unload(&l);
    return 0;
}
