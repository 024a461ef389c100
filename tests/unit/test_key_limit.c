/*
 * Tests of policy/key_limit: a character class allows exactly the bytes that it says, and what is
 * no class is refused in words. Part of the unit test program; touches nothing else.
 */
#include <stdio.h>
#include <stdlib.h>

#include "policy/key_limit.h"
#include "tests/unit/unit.h"

static bool allows(const uint8_t allowed[32], unsigned byte)
{
    return (allowed[byte / 8] & 1u << byte % 8) != 0;
}

static void classes(void)
{
    static const struct {
        const char *class;
        const char *bytes; /* that are allowed, NUL excepted */
    } rows[] = {
        {"a", "aA"},
        {"Z", "zZ"},
        {"0-3", "0123"},
        {"a-c", "abcABC"},
        {"X-Z", "xyzXYZ"},
        {"a-a", "aA"},
        {"-", "-"},
        {"-x", "-xX"},
        {"x-", "-xX"},
        {"--0", "-./0"},
        {"a-c0-1._-", "abcABC01._-"},
        {"0-1-", "01-"},
        {"1\\-3", "13-"},
        {"\\--0", "-./0"},
        {"\\\\", "\\"},
        {"[-]", "[\\]"},
        {"\\x41", "aA"},
        {"\\x30-\\x32", "012"},
        {"\\xE9", "\xe9"},
        {"\xc3-\xc5", "\xc3\xc4\xc5"},
        {"@[-`{", "@[\\]^_`{"}, /* beside the letters, no case */
        {" \t", " \t"},
        {"^a", "^aA"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t allowed[32];
        char why[256] = "";

        CHECK(key_limit_parse(rows[i].class, allowed, why, sizeof why), "\"%s\": %s", rows[i].class,
              why);
        CHECK(!allows(allowed, 0), "\"%s\" allows NUL", rows[i].class);
        for (unsigned byte = 1; byte < 256; byte++)
            CHECK(allows(allowed, byte) == (strchr(rows[i].bytes, (int)byte) != NULL),
                  "\"%s\": byte %u", rows[i].class, byte);
    }
}

static void every_byte(void)
{
    uint8_t allowed[32];
    char why[256];

    REQUIRE(key_limit_parse("\\x00-\\xff", allowed, why, sizeof why), "%s", why);
    for (unsigned byte = 0; byte < 256; byte++)
        CHECK(allows(allowed, byte), "byte %u", byte);
    CHECK(memcmp(allowed, key_limit_none.allowed, sizeof allowed) == 0, "as no limit has it");
}

static void no_classes(void)
{
    static const struct {
        const char *class, *why;
    } rows[] = {
        {"", "names no character, so that there would be no key; a character class like "
             "\"a-z0-9._-\" is expected"},
        {"z-a", "has the range \"z-a\", which goes backwards; \"a-z\" is expected"},
        {"a-z9-0", "has the range \"9-0\", which goes backwards; \"0-9\" is expected"},
        {"\\x41-\\x40", "has the range \"\\x41-\\x40\", which goes backwards; \"@-A\" is expected"},
        {"a-z-9", "has a - in it that belongs to no range; write it first, last or as \\-"},
        {"\\d", "has \"\\d\" in it; of escapes, \\xHH, \\\\ and \\- are expected"},
        {"a\\", "has \"\\\" in it; of escapes, \\xHH, \\\\ and \\- are expected"},
        {"\\x4", "has \"\\x4\" in it; of escapes, \\xHH, \\\\ and \\- are expected"},
        {"\\xg1", "has \"\\xg1\" in it; of escapes, \\xHH, \\\\ and \\- are expected"},
        {"a-\\n", "has \"\\n\" in it; of escapes, \\xHH, \\\\ and \\- are expected"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = exact_copy(rows[i].class, strlen(rows[i].class) + 1), why[256] = "";
        uint8_t allowed[32];

        CHECK(!key_limit_parse(exact, allowed, why, sizeof why), "\"%s\" is taken", rows[i].class);
        CHECK_TEXT(why, rows[i].why, rows[i].class);
        free(exact);
    }
}

/* Whatever is written, it ends, inside its text, and says something. */
static void any_text(void)
{
    static const char letters[] = "-\\xaZ09fF.\xe9";

    for (unsigned n = 0; n < 10000; n++) {
        char text[5] = "", why[256] = "", *exact;
        uint8_t allowed[32];
        bool good, none = true;

        for (unsigned i = 0, rest = n; i < 4 && rest > 0; i++, rest /= 10)
            text[i] = letters[rest % 10];
        exact = exact_copy(text, strlen(text) + 1);
        good = key_limit_parse(exact, allowed, why, sizeof why);
        for (unsigned byte = 0; byte < 256; byte++)
            none &= !allows(allowed, byte);
        CHECK(good ? !none : why[0] != '\0', "\"%s\": %s", text, why);
        free(exact);
    }
}

static void keys(void)
{
    struct key_limit limit = {5, {0}};
    static const struct {
        const char *key;
        size_t len;
        bool passes;
    } rows[] = {
        {"", 0, true},       {"alice", 5, true},   {"ALICE", 5, true}, {"alices", 6, false},
        {"bob!", 4, false},  {"a\0b", 3, false},   {"\0", 1, false},   {"\xe9", 1, false},
        {"bob \n", 3, true}, {"bob \n", 4, false}, {"12", 2, false},
    };
    char why[256], *exact;

    REQUIRE(key_limit_parse("a-z", limit.allowed, why, sizeof why), "%s", why);
    for (size_t i = 0; i < COUNT(rows); i++) {
        exact = exact_copy(rows[i].key, rows[i].len);
        CHECK(key_limit_passes(&limit, (struct slice){exact, rows[i].len}) == rows[i].passes,
              "row %zu: \"%s\"", i, rows[i].key);
        CHECK(key_limit_passes(&key_limit_none, (struct slice){exact, rows[i].len}),
              "row %zu, without a limit", i);
        free(exact);
    }
    limit = (struct key_limit){0};
    CHECK(key_limit_passes(&limit, (struct slice){"", 0}), "the empty key");
    CHECK(!key_limit_passes(&limit, text_slice("a")), "all zero lets nothing pass");
}

static const struct unit_test tests[] = {
    {"a character class allows the bytes that it says, letters in both cases", classes},
    {"a class can allow every byte", every_byte},
    {"what is no class is refused, and it is said what is expected", no_classes},
    {"any text is a class or is refused, and is read inside its bounds", any_text},
    {"a key passes by its length and by each of its bytes", keys},
};

const struct unit_suite key_limit_suite = {
    .name = "key_limit", .tests = tests, .ntests = COUNT(tests)};
