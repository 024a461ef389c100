/*
 * What all sources need: see source.h. Runs in the loader. It may touch nothing but its arguments.
 */
#include "server/loader/source.h"

#include <stdarg.h>
#include <stdio.h>

int source_fail(struct source *source, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(source->why, sizeof source->why, format, ap);
    va_end(ap);
    return -1;
}
