/*
 * Source type static: one value for every key, which is the name of the table. Runs in the loader;
 * opens nothing.
 */
#include "server/loader/source.h"
#include "server/text.h"

static int load(struct source *source)
{
    struct slice value = source->name;

    if (value.len == 0)
        return source_fail(source, "no value, expected `static:value`");
    if (value.ptr[0] == '{' && !text_unbrace(value, &value))
        return source_fail(source,
                           "a value that begins with `{` must end with the `}` that belongs "
                           "to it");
    return source->sink->add_default(source->sink, value);
}

const struct source_ops source_static = {.type = TYPE_STATIC, .load = load};
