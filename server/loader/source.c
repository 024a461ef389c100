/*
 * What all sources need: see source.h. Runs in the loader. It may read the descriptors that the
 * source was given, and touch nothing else but its arguments.
 */
#include "server/loader/source.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "server/text.h"

/* Offsets in an image are 32 bits: more could not be stored. */
#define FILE_MAX (UINT32_MAX - 1)

int source_fail(struct source *source, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(source->why, sizeof source->why, format, ap);
    va_end(ap);
    return -1;
}

int source_fail_errno(struct source *source)
{
    if (errno == ENOMEM) {
        source->error = ENOMEM;
        return source_fail(source, "out of memory");
    }
    if (errno == EFBIG)
        return source_fail(source, "a key is longer than 256 MB, which is more than an image can "
                                   "hold");
    return source_fail(source, "cannot read the file: %s", strerror(errno));
}

int source_read(struct source *source, int fd, struct text *text)
{
    if (text_read(fd, FILE_MAX, text) == 0)
        return 0;
    return errno == EFBIG ? source_fail(source, "the file is larger than 4 GB, which is more than "
                                                "an image can hold")
                          : source_fail_errno(source);
}

int source_read_table(struct source *source, struct text *text)
{
    if (source_read(source, source->fd, text) != 0)
        return -1;
    if (text->len == 0)
        return source_fail(source, "the file is empty; if the table is meant to have no entries, "
                                   "write a comment line into it");
    return 0;
}

void source_ignore(struct source *source, size_t line, const char *format, ...)
{
    int used = 0;
    va_list ap;

    if (source->ignored < UINT32_MAX)
        source->ignored++;
    if (source->ignored != 1)
        return;
    if (line > 0)
        used = snprintf(source->warning, sizeof source->warning, "line %zu: ", line);
    va_start(ap, format);
    vsnprintf(source->warning + used, sizeof source->warning - (size_t)used, format, ap);
    va_end(ap);
}
