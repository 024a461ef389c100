/*
 * Fuzz target params: configuration files of database clients. Run by tests/fuzz/run; makes an
 * anonymous file. Input: the file. What is understood must be in the file, and a message must show
 * nothing of a line that is not, or of a password.
 */
#include "server/agent/query/params.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/common.h"

static void check_text(struct params *params, const char *name, struct slice file)
{
    const char *value = params_text(params, name, NULL);

    CHECK((value != NULL) == params_given(params, name), "%s: given, or not", name);
    if (value == NULL)
        return;
    CHECK(is_part_of(text_slice(value), file), "a value that is not in the file");
    CHECK(strlen(value) == 0 || (strchr(" \t\r\n\v\f", value[0]) == NULL &&
                                 strchr(" \t\r\n\v\f", value[strlen(value) - 1]) == NULL),
          "white space around a value");
}

static void check_getters(struct params *params, struct agent_report *report, struct slice file)
{
    unsigned number = 0;
    bool yes = false;

    check_text(params, "query", file);
    check_text(params, "a", file);
    if (params_number(params, "n", 5, 3, 70000, &number))
        CHECK(number >= 3 && number <= 70000, "the number is %u", number);
    params_yes(params, "yes", true, &yes);
    params_finish(params);
    params_fail(params, "password", "wrong");
    CHECK(strstr(report->text, "password is not given; wrong") != NULL ||
              strstr(report->text, "password is empty; wrong") != NULL ||
              strstr(report->text, "password = ...: wrong") != NULL,
          "\"%s\"", report->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_report report = {0};
    int fd = file_of_bytes(data, size);
    struct params *params = params_read("/f", fd, &report);
    struct slice file = {(const char *)data, size};

    close(fd);
    if (params != NULL)
        check_getters(params, &report, file);
    CHECK(strncmp(report.text, "/f:", 3) == 0, "\"%s\"", report.text);
    CHECK(memchr(report.text, '\0', sizeof report.text) != NULL, "a text without an end");
    params_free(params);
    return 0;
}
