/*
 * Fuzz target regexp: a table of POSIX regular expressions and keys for it, as
 * jailmap-agent-pattern takes them. Run by tests/fuzz/run; touches memory only. Input: keys, one a
 * line, up to an empty line, then the table. Whatever is found is what is found again, and without
 * parts of the key there is no result that has some.
 */
#include "tests/fuzz/pattern_input.h"

/* glibc's library is not under test: what it may take minutes or gigabytes for is left out. Numbers
 * of repetitions have one digit, and there are few of them. */
static bool too_much(const uint8_t *data, size_t size)
{
    size_t costly = 0, repeated = 0;

    for (size_t i = 0; i < size; i++) {
        bool digit = data[i] >= '0' && data[i] <= '9', interval = false;

        for (size_t j = 1; digit && j <= i && j <= 12 && !interval; j++)
            interval = data[i - j] == '{';
        repeated += interval;
        costly += data[i] == '\\' || data[i] == '(' || data[i] == '*' || data[i] == '+';
    }
    return costly > 16 || repeated > 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!too_much(data, size))
        pattern_check(&engine_regexp, data, size);
    return 0;
}
