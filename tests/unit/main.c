/*
 * The unit tests' program: `unit [SUITE...]` runs every suite, or the named ones, and says so test
 * by test. Run by whoever builds; the suites that make files of other owners need root and a
 * directory below /var/lib. It may touch only what its tests made. The last line is always
 * `N passed, N failed`, and the exit status is 0 only if nothing failed.
 */
#include "tests/unit/unit.h"

#include <CUnit/Basic.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A test that hangs is ended by the kernel, and so fails; far above what valgrind needs. */
#define HANG_SECONDS 600

static const struct unit_suite *const suites[] = {
    &attr_suite,      &proxymap_suite, &bridge_suite,    &config_suite,     &decide_suite,
    &adopt_suite,     &open_suite,     &image_suite,     &cdb_source_suite, &db_pages_suite,
    &texthash_suite,  &inline_suite,   &unix_suite,      &import_suite,     &key_limit_suite,
    &approvals_suite, &census_suite,   &limits_suite,    &members_suite,    &environ_suite,
    &cache_suite,     &lookup_suite,   &netstring_suite, &tcp_table_suite,  &host_name_suite,
    &hosts_suite,     &pattern_suite,  &params_suite,    &plan_suite,       &wal_suite,
};

bool unit_check(bool ok, bool fatal, const char *file, unsigned line, const char *format, ...)
{
    char text[1024] = "";
    va_list ap;

    if (!ok) {
        va_start(ap, format);
        vsnprintf(text, sizeof text, format, ap);
        va_end(ap);
    }
    if (CU_get_current_test() != NULL) {
        CU_assertImplementation(ok, line, text, file, "", fatal);
    } else if (!ok) { /* a suite that starts or stops: CUnit would abort without a word */
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
        exit(EXIT_FAILURE);
    }
    return ok;
}

struct wire wire(const char *text)
{
    struct wire w;

    w.len = strlen(text);
    if (w.len > sizeof w.bytes)
        abort();
    for (size_t i = 0; i < w.len; i++)
        w.bytes[i] = text[i] == '|' ? '\0' : text[i];
    return w;
}

unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    REQUIRE(dir != NULL, "/proc is not mounted");
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

bool is_cloexec(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    return flags >= 0 && (flags & FD_CLOEXEC);
}

static bool wanted(const struct unit_suite *suite, char **names)
{
    if (*names == NULL)
        return true;
    for (; *names != NULL; names++)
        if (strcmp(*names, suite->name) == 0)
            return true;
    return false;
}

/* False: CUnit is out of memory. */
static bool add_suite(const struct unit_suite *suite)
{
    CU_pSuite s;

    if (suite->needs_root && geteuid() != 0) {
        printf("suite %s is left out: it needs root\n", suite->name);
        return true;
    }
    s = CU_add_suite(suite->name, suite->start, suite->stop);
    for (size_t i = 0; s != NULL && i < suite->ntests; i++)
        if (CU_add_test(s, suite->tests[i].name, suite->tests[i].run) == NULL)
            return false;
    return s != NULL;
}

int main(int argc, char **argv)
{
    unsigned all, passed;

    (void)argc;
    alarm(HANG_SECONDS);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (CU_initialize_registry() != CUE_SUCCESS)
        return EXIT_FAILURE;
    for (size_t i = 0; i < COUNT(suites); i++)
        if (wanted(suites[i], argv + 1) && !add_suite(suites[i]))
            return EXIT_FAILURE;
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    /* The tests of a suite that could not start have not run, and have not passed. */
    all = CU_get_registry()->uiNumberOfTests;
    passed = CU_get_number_of_tests_run() - CU_get_number_of_tests_failed();
    CU_cleanup_registry();
    printf("\n%u passed, %u failed\n", passed, all - passed);
    return all > 0 && passed == all ? EXIT_SUCCESS : EXIT_FAILURE;
}
