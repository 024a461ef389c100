/*
 * Source type environ: the entries that `set` of jailmapd.conf(5) gives it. Postfix's type of that
 * name shows the environment of the server; that of jailmapd is nobody's business, so a table
 * without `set` is empty. Runs in the loader; opens nothing, and must never look into its own
 * environment.
 */
#include "server/image.h"
#include "server/loader/source.h"

/* In place of the name the entries are passed on: "NAME=VALUE", each with a NUL behind it. */
static int load(struct source *source)
{
    struct sink *sink = source->sink;
    struct slice rest = source->name;

    while (rest.len > 0) {
        const char *end = memchr(rest.ptr, '\0', rest.len), *equals;
        size_t len;

        if (end == NULL)
            return source_fail(source, "an entry of set does not end; NAME=VALUE is expected");
        len = (size_t)(end - rest.ptr);
        equals = memchr(rest.ptr, '=', len);
        if (equals == NULL || equals == rest.ptr)
            return source_fail(source, "an entry of set has no name; NAME=VALUE is expected");
        if (sink->add(sink, (struct slice){rest.ptr, (size_t)(equals - rest.ptr)}, IMAGE_FORM_ANY,
                      (struct slice){equals + 1, (size_t)(end - equals) - 1}) != 0)
            return -1;
        rest = (struct slice){end + 1, rest.len - len - 1};
    }
    return 0;
}

const struct source_ops source_environ = {.type = TYPE_ENVIRON, .load = load};
