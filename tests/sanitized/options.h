/*
 * What the sanitizers are told, in every program of `make system-sanitized`: these have no
 * environment that could say it. Leaks are left to the unit tests, since looking for them needs
 * ptrace(2). A program in which something was found ends with a status that no other end has; the
 * test harness looks for it. Holds no code.
 */
#ifndef JAILMAP_TESTS_SANITIZED_OPTIONS_H
#define JAILMAP_TESTS_SANITIZED_OPTIONS_H

#define SANITIZER_OPTIONS                                                                          \
    "detect_leaks=0:exitcode=99:abort_on_error=0:color=never:allocator_may_return_null=1:"         \
    "quarantine_size_mb=16:print_stacktrace=1"

/* The sanitizers call these before main(). */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

#endif
