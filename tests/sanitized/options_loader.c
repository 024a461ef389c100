/*
 * The sanitizers' options: see options.h. Linked into the loader of `make system-sanitized`: as it
 * reads damaged files with libraries that fall over them, it may end by a signal, and that is for
 * the tests of it to judge. Must need nothing, as it runs before anything else does.
 */
#include "tests/sanitized/options.h"

#define OPTIONS SANITIZER_OPTIONS ":handle_segv=0:handle_sigbus=0:handle_sigfpe=0"

const char *__asan_default_options(void)
{
    return OPTIONS;
}

const char *__ubsan_default_options(void)
{
    return OPTIONS;
}
