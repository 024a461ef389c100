/*
 * Tests of policy/members: a list in braces is split where Postfix splits it, and what is no whole
 * list yields nothing. Part of the unit test program; touches nothing else.
 */
#include <stdio.h>
#include <stdlib.h>

#include "policy/members.h"
#include "tests/unit/unit.h"

/* The items, each in [ ], or what is wrong. */
static const char *split(enum members_kind kind, const char *argument)
{
    static char text[4096];
    char *copy = exact_copy(argument, strlen(argument));
    struct members members;
    struct slice item;
    const char *why = members_begin(&members, kind, (struct slice){copy, strlen(argument)});
    size_t used = 0;

    text[0] = '\0';
    if (why != NULL)
        snprintf(text, sizeof text, "%s", why);
    while (members_next(&members, &item)) {
        CHECK(why == NULL, "an item of %s", argument);
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "[%.*s]", (int)item.len, item.ptr);
    }
    free(copy);
    return text;
}

static void member_tables(void)
{
    static const struct {
        const char *argument, *items;
    } rows[] = {
        {"{hash:/a}", "[hash:/a]"},
        {"{hash:/a,hash:/b}", "[hash:/a][hash:/b]"},
        {"{ , hash:/a\t,\r\n btree:/b ,}", "[hash:/a][btree:/b]"},
        {"{proxy:hash:/a proxy:proxy:hash:/b}", "[hash:/a][hash:/b]"},
        {"{proxy:unionmap:{proxy:hash:/a, b:c}, inline:{a=b, c = {d}}}",
         "[unionmap:{proxy:hash:/a, b:c}][inline:{a=b, c = {d}}]"},
        {"{static:a:b static:{x y}}", "[static:a:b][static:{x y}]"},
        {"{hash:/a\vb}", "[hash:/a\vb]"},
        {"{hash:/a hash:/a}", "[hash:/a][hash:/a]"},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        CHECK_TEXT(split(MEMBERS_TABLES, rows[i].argument), rows[i].items, rows[i].argument);
}

static void values(void)
{
    static const struct {
        const char *argument, *items;
    } rows[] = {
        {"{a}", "[a]"},
        {"{a,b {c d}}", "[a][b][{c d}]"},
        {"{ {a} {b, {c}} d{e f}g }", "[{a}][{b, {c}}][d{e f}g]"},
        {"{proxy:hash:/a {}}", "[proxy:hash:/a][{}]"},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        CHECK_TEXT(split(MEMBERS_VALUES, rows[i].argument), rows[i].items, rows[i].argument);
}

static void what_is_no_list(void)
{
    static const char *const whole[] = {"",       "{",    "}",     "a",       "{a",   "a}",
                                        "{a}b",   "}{",   "{a}}",  "{{a}",    " {a}", "{a} ",
                                        "{a}{b}", "{a}{", "{}a{}", "{a}, {b}"};
    static const char *const none[] = {"{}", "{ }", "{,}", "{ ,\t, }"};
    static const char *const no_tables[] = {"{a}",       "{hash:/a b}", "{:a}",
                                            "{hash:}",   "{{hash:/a}}", "{proxy:}",
                                            "{proxy:a}", "{a{:b}}",     "{hash:/a, {b}}"};

    for (size_t i = 0; i < COUNT(whole); i++) {
        CHECK(strstr(split(MEMBERS_TABLES, whole[i]), "one pair of braces") != NULL, "%s",
              whole[i]);
        CHECK(strstr(split(MEMBERS_VALUES, whole[i]), "one pair of braces") != NULL, "%s",
              whole[i]);
    }
    for (size_t i = 0; i < COUNT(none); i++) {
        CHECK(strstr(split(MEMBERS_TABLES, none[i]), "{TYPE:NAME, ") != NULL, "%s", none[i]);
        CHECK(strstr(split(MEMBERS_VALUES, none[i]), "{VALUE, ") != NULL, "%s", none[i]);
    }
    for (size_t i = 0; i < COUNT(no_tables); i++)
        CHECK(strstr(split(MEMBERS_TABLES, no_tables[i]), "no TYPE:NAME") != NULL, "%s",
              no_tables[i]);
}

static const struct unit_test tests[] = {
    {"members are parted by commas and white space outside of braces", member_tables},
    {"values keep their braces", values},
    {"what is no list in braces yields nothing", what_is_no_list},
};

const struct unit_suite members_suite = {.name = "members", .tests = tests, .ntests = COUNT(tests)};
