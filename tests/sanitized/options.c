/*
 * The sanitizers' options: see options.h. Linked into every program of `make system-sanitized` but
 * the loader. Must need nothing, as it runs before anything else does.
 */
#include "tests/sanitized/options.h"

const char *__asan_default_options(void)
{
    return SANITIZER_OPTIONS;
}

const char *__ubsan_default_options(void)
{
    return SANITIZER_OPTIONS;
}
