/*
 * Fuzz target status: what a census that was taken over says to `jailmap status`, on which root may
 * look. Run by tests/fuzz/run; touches memory only. Input: the whole answer. What comes out is
 * printable, and the pages made of it are too, whatever the answer was.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ctl/status.h"
#include "tests/fuzz/common.h"

static void expect_printable(const char *text, size_t len, const char *what)
{
    for (size_t i = 0; i < len; i++)
        CHECK((text[i] >= 0x20 && text[i] <= 0x7e) || text[i] == '\n', "byte %zu of the %s is %d",
              i, what, text[i]);
}

static void check_page(const struct status *status, bool prometheus)
{
    char *page = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&page, &len);

    REQUIRE(out != NULL, "out of memory");
    if (prometheus)
        status_prometheus(out, status);
    else
        status_show(out, status, false);
    fclose(out);
    expect_printable(page, len, prometheus ? "page for Prometheus" : "page");
    free(page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size);
    struct status status;

    if (status_parse(text, size, &status)) {
        CHECK(status.version != NULL, "no daemon");
        check_page(&status, false);
        check_page(&status, true);
        status_free(&status);
    }
    free(text);
    return 0;
}
