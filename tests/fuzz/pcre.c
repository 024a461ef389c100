/*
 * Fuzz target pcre: a table of Perl-compatible regular expressions and keys for it, as
 * jailmap-agent-pattern takes them. Run by tests/fuzz/run; touches memory only. Input: keys, one a
 * line, up to an empty line, then the table. Whatever is found is what is found again, and without
 * parts of the key there is no result that has some.
 */
#include "tests/fuzz/pattern_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pattern_check(&engine_pcre, data, size);
    return 0;
}
