/*
 * Tests of server/agent/query/params: configuration files of database clients, taken as Postfix
 * 3.7.11 takes them, and what is said of those that cannot be. Part of the unit test program; makes
 * anonymous files.
 */
#include "server/agent/query/params.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static struct agent_report report;

static struct params *read_bytes(const void *bytes, size_t len)
{
    int fd = memfd_create("cf", MFD_CLOEXEC);
    struct params *params;

    REQUIRE(fd >= 0 && write(fd, bytes, len) == (ssize_t)len, "no file: %s", strerror(errno));
    report = (struct agent_report){0};
    params = params_read("/t.cf", fd, &report);
    close(fd);
    return params;
}

static struct params *read_text(const char *text)
{
    struct params *params = read_bytes(text, strlen(text));

    REQUIRE(params != NULL, "\"%s\": %s", text, report.text);
    return params;
}

static void expect(const char *text, const char *name, const char *value)
{
    struct params *params = read_text(text);

    CHECK_TEXT(params_text(params, name, "(not given)"), value, text);
    params_free(params);
}

static void refuse(const char *text, const char *why)
{
    CHECK(read_bytes(text, strlen(text)) == NULL, "\"%s\" is taken", text);
    CHECK_TEXT(report.text, why, text);
}

static void lines_of_a_file(void)
{
    expect("a = b", "a", "b");
    expect("a=b\n", "a", "b");
    expect("a \t=\t b c \t\r\n", "a", "b c");
    expect("a = b = c\n", "a", "b = c");
    expect("a =\n", "a", "");
    expect("a =\nb = c\n", "a", "");
    expect("# x\n\n  \na = b\n", "a", "b");
    expect("a = b\n  c\n# x\n\n\td\nb = e\n", "a", "b  c\td");
    expect("a\n = b\n", "a", "b");
    expect("a = $b\nb = c\n", "a", "$b");
    expect("A = b\n", "a", "(not given)");
    expect("", "a", "(not given)");
}

static void lines_that_are_wrong(void)
{
    refuse("a = b\nsecret word\n", "/t.cf:2: no `=` behind the first word; `name = value` is "
                                   "expected");
    refuse("\n\nsecret\n", "/t.cf:3: no `=` behind the first word; `name = value` is expected");
    refuse("a b = c\n", "/t.cf:1: no `=` behind the first word; `name = value` is expected");
    refuse("= c\n", "/t.cf:1: no name before `=`; `name = value` is expected");
    CHECK(read_bytes("a = b\nc = \0d\n", 13) == NULL, "a NUL byte is taken");
    CHECK_TEXT(report.text, "/t.cf:2: a NUL byte; text is expected", "a NUL byte");
    CHECK(params_read("/t.cf", -1, &report) == NULL, "no descriptor");
    CHECK_TEXT(report.text, "/t.cf: cannot read the file: Bad file descriptor", "no descriptor");
}

static void bounds(void)
{
    size_t len = PARAMS_FILE_MAX;
    char *text = need_memory(len + 1);
    struct params *params;

    memset(text, 'x', len + 1);
    memcpy(text, "a = ", 4);
    params = read_bytes(text, len);
    REQUIRE(params != NULL, "1 MB: %s", report.text);
    CHECK(strlen(params_text(params, "a", "")) == len - 4, "1 MB is cut");
    params_free(params);
    CHECK(read_bytes(text, len + 1) == NULL, "more than 1 MB");
    CHECK_TEXT(report.text,
               "/t.cf: the file is larger than 1 MB; `name = value` lines are expected", "size");
    for (size_t i = 0; i < 1001; i++)
        snprintf(text + 7 * i, 8, "a%04zu=\n", i);
    CHECK(read_bytes(text, (size_t)7 * 1001) == NULL, "1001 parameters");
    CHECK_TEXT(report.text, "/t.cf: more than 1000 parameters; a few are expected", "parameters");
    free(text);
}

static void what_is_ignored(void)
{
    struct params *params = read_text("  x\na = 1\nb = 2\na = 3\nqwery = 4\n");

    CHECK(report.ignored == 2, "%u lines ignored", report.ignored);
    CHECK_TEXT(report.text,
               "/t.cf:1: a line that begins with white space, and has none before it to continue; "
               "it is ignored",
               "the first");
    CHECK_TEXT(params_text(params, "a", ""), "3", "the later one");
    CHECK(params_given(params, "b") && !params_given(params, "c"), "which are given");
    params_finish(params);
    CHECK(report.ignored == 3, "%u ignored", report.ignored);
    params_free(params);

    params = read_text("password = x\npassword = y\n");
    CHECK_TEXT(report.text, "/t.cf:2: password is given again, after line 1; this line counts",
               "again");
    params_free(params);
    params = read_text("a = 1\nqwery = 4\n");
    params_text(params, "a", "");
    params_finish(params);
    CHECK_TEXT(report.text, "/t.cf:2: qwery is no parameter of such a table; it is ignored",
               "unknown");
    params_free(params);
}

static void number(const char *text, unsigned value, const char *why)
{
    struct params *params = read_text(text);
    unsigned got = 0;
    bool good = params_number(params, "n", 7, 1, 4294967295u, &got);

    CHECK(good == (why == NULL), "%s: %s", text, report.text);
    if (good)
        CHECK(got == value, "%s: %u", text, got);
    else
        CHECK_TEXT(report.text, why, text);
    params_free(params);
}

static void numbers(void)
{
#define RANGE ": a number from 1 to 4294967295 is expected"
    number("m = 1\n", 7, NULL);
    number("n = 1\n", 1, NULL);
    number("n = 007\n", 7, NULL);
    number("n = +8\n", 8, NULL);
    number("n = ++8\n", 0, "/t.cf:1: n = ++8" RANGE);
    number("n = 4294967295\n", 4294967295u, NULL);
    number("n = 0\n", 0, "/t.cf:1: n = 0" RANGE);
    number("n = 4294967296\n", 0, "/t.cf:1: n = 4294967296" RANGE);
    number("n = 99999999999999999999999\n", 0, "/t.cf:1: n = 99999999999999999999999" RANGE);
    number("\nn = -1\n", 0, "/t.cf:2: n = -1" RANGE);
    number("n = 1s\n", 0, "/t.cf:1: n = 1s" RANGE);
    number("n =\n", 0, "/t.cf:1: n is empty; a number from 1 to 4294967295 is expected");
}

static void yes_or_no(const char *text, bool otherwise, bool value, const char *why)
{
    struct params *params = read_text(text);
    bool got = !value;

    if (params_yes(params, "n", otherwise, &got)) {
        CHECK(why == NULL, "%s is taken", text);
        CHECK(got == value, "%s: %d", text, got);
    } else {
        CHECK_TEXT(report.text, why != NULL ? why : "nothing", text);
    }
    params_free(params);
}

static void booleans(void)
{
    yes_or_no("n = yes\n", false, true, NULL);
    yes_or_no("n = No\n", true, false, NULL);
    yes_or_no("", true, true, NULL);
    yes_or_no("", false, false, NULL);
    yes_or_no("n = 1\n", false, false, "/t.cf:1: n = 1: yes or no is expected");
    yes_or_no("n =\n", false, false, "/t.cf:1: n is empty; yes or no is expected");
}

static void messages(void)
{
    struct params *params = read_text("password = geheim\nhosts = x:geheim@y\nd = a\"b\ne =\n");
    const char *value = "untouched";
    char place[64];

    CHECK(!params_fail(params, "password", "%s is expected", "more"), "true");
    CHECK_TEXT(report.text, "/t.cf:1: password = ...: more is expected", "a secret");
    params_fail(params, "hosts", "less");
    CHECK_TEXT(report.text, "/t.cf:2: hosts = ...: less", "hosts");
    params_fail(params, "d", "x");
    CHECK_TEXT(report.text, "/t.cf:3: d = a\\x22b: x", "quoted");
    CHECK(!params_need(params, "f", "a path", &value), "f is not there");
    CHECK_TEXT(report.text, "/t.cf: f is not given; a path is expected", "not given");
    CHECK(!params_need(params, "e", "a path", &value), "e is empty");
    CHECK_TEXT(report.text, "/t.cf:4: e is empty; a path is expected", "empty");
    CHECK_TEXT(value, "untouched", "value");
    CHECK(params_need(params, "d", "a path", &value), "d is there");
    CHECK_TEXT(value, "a\"b", "value");
    CHECK_TEXT(params_place(params, "d", place, sizeof place), "/t.cf:3: d", "place");
    CHECK_TEXT(params_place(params, "x", place, sizeof place), "/t.cf: x", "place");
    params_free(params);
}

static const struct unit_test tests[] = {
    {"lines are read as Postfix reads them", lines_of_a_file},
    {"lines that are wrong are named, and not shown", lines_that_are_wrong},
    {"a file has at most 1 MB and 1000 parameters", bounds},
    {"lines that are overridden or unknown are told", what_is_ignored},
    {"numbers are decimal and in their range", numbers},
    {"booleans are yes or no", booleans},
    {"messages name file, line and parameter, and show no password", messages},
};

const struct unit_suite params_suite = {"params", tests, COUNT(tests), false, NULL, NULL};
