/*
 * Records of stored databases: see record.h. Runs in the loader. It may touch nothing but its
 * arguments.
 */
#include "server/loader/record.h"

#include <string.h>

#include "server/image.h"

int record_add(struct source *source, struct slice key, struct slice value)
{
    const char *nul = value.len > 0 ? memchr(value.ptr, 0, value.len) : NULL;
    unsigned form = IMAGE_FORM_BARE;

    if (key.len > 0 && key.ptr[key.len - 1] == '\0') {
        form = IMAGE_FORM_NUL;
        key.len--;
    }
    if (key.len > 0 && memchr(key.ptr, 0, key.len) != NULL)
        return 0;
    if (nul != NULL)
        value.len = (size_t)(nul - value.ptr);
    return source->sink->add(source->sink, key, form, value);
}
