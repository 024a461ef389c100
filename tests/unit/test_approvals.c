/*
 * Tests of what policy/config reads about approvals in detail: fields that are revealed, limits of
 * keys, groups, anyone, listeners, types of tables, and the greeting. What is wrong is said word
 * for word. Part of the unit test program, whose name service (test_config.c) stands in for the
 * system's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy/policy.h"
#include "tests/unit/unit.h"

static char why[1024];

static int open_text(void *context, const char *name, char *reason, size_t len)
{
    const char *text = context;
    int fd = memfd_create("jailmapd.conf", MFD_CLOEXEC);

    (void)name;
    snprintf(reason, len, "no file");
    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "no file");
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static struct policy *read_text(const char *text)
{
    return policy_read(&(struct policy_files){open_text, (void *)text}, "conf", why, sizeof why);
}

static struct policy *good(const char *text)
{
    struct policy *p = read_text(text);

    REQUIRE(p != NULL, "%s\n%s", why, text);
    return p;
}

/* What the policy says once it has been printed and read back, as the monitor gets it. */
static struct policy *printed(const struct policy *p)
{
    size_t size, again_size;
    char *text = NULL, *again = NULL;
    FILE *out = open_memstream(&text, &size);
    struct policy *q;

    REQUIRE(out != NULL && policy_print(p, out) && fclose(out) == 0, "not printed");
    q = policy_parse(text, size, why, sizeof why);
    REQUIRE(q != NULL, "%s\n%s", why, text);
    out = open_memstream(&again, &again_size);
    REQUIRE(out != NULL && policy_print(q, out) && fclose(out) == 0, "not printed again");
    CHECK_TEXT(again, text, "printed again");
    free(text);
    free(again);
    return q;
}

struct mistake {
    const char *text, *why;
};

static void refused(const struct mistake *mistakes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct policy *p = read_text(mistakes[i].text);

        if (CHECK(p == NULL, "accepted: %s", mistakes[i].text))
            CHECK_TEXT(why, mistakes[i].why, mistakes[i].text);
        policy_free(p);
    }
}

/* ---- reveal ---- */

static void fields(void)
{
    static const struct {
        const char *table, *reveal;
        uint32_t bits;
    } rows[] = {
        {"unix:passwd.byname", "all", REVEAL_ALL},
        {"unix:passwd.byname", "existence", REVEAL_EXISTENCE},
        {"unix:passwd.byname", "{name}", 1},
        {"unix:passwd.byname", "{ \"uid\", gid, }", 12},
        {"unix:passwd.byname", "{shell, home, gecos, gid, uid, password, name}", 127},
        {"unix:group.byname", "{name}", 1},
        {"unix:group.byname", "{members, gid, password}", 14},
        {"hash:/t", "existence", REVEAL_EXISTENCE},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy *p, *q;
        char text[256];

        snprintf(text, sizeof text, "listen \"/s\" { }\ntable \"%s\" { reveal = %s }",
                 rows[i].table, rows[i].reveal);
        p = good(text);
        q = printed(p);
        CHECK(p->tables[0].reveal == rows[i].bits && q->tables[0].reveal == rows[i].bits,
              "%s: %x and %x", rows[i].reveal, p->tables[0].reveal, q->tables[0].reveal);
        policy_free(p);
        policy_free(q);
    }
}

#define TABLE(name, options) "listen \"/s\" { }\ntable \"" name "\" { " options " }"

static void wrong_fields(void)
{
    static const struct mistake mistakes[] = {
        {TABLE("unix:passwd.byname", "reveal = {uid, shel}"),
         "conf:2:45: reveal: \"shel\" is no field of unix:passwd.byname; name, password, uid, gid, "
         "gecos, home or shell is expected"},
        {TABLE("unix:group.byname", "reveal = {uid}"),
         "conf:2:39: reveal: \"uid\" is no field of unix:group.byname; name, password, gid or "
         "members is expected"},
        {TABLE("unix:group.byname", "reveal = {gid, gid}"),
         "conf:2:44: reveal names the field gid twice; once is expected"},
        {TABLE("unix:group.byname", "reveal = {}"),
         "conf:2:38: reveal names no field; existence, or some of name, password, gid or members, "
         "is expected"},
        {TABLE("hash:/t", "reveal = {name}"),
         "conf:2:28: reveal has a list of fields, and the entries of a table of type hash have "
         "none; all or existence is expected"},
        {TABLE("unix:group.byname", "reveal = gid"),
         "conf:2:38: reveal = \"gid\" is not known; all or existence, or a list of fields, {name, "
         "gid}, is expected"},
        {TABLE("hash:/t", "reveal = some"),
         "conf:2:28: reveal = \"some\" is not known; all or existence is expected"},
    };

    refused(mistakes, COUNT(mistakes));
}

/* ---- keys ---- */

static void limits_of_keys(void)
{
    struct policy *p = good("listen \"/s\" { }\n"
                            "table \"hash:/a\" { }\n"
                            "table \"hash:/b\" { max-key = 64 }\n"
                            "table \"hash:/c\" { keys = \"a-z0-9._-\" }\n"
                            "table \"hash:/d\" { max-key = 268435455 keys = '\\x00-\\xff' }\n"
                            "table \"hash:/e\" { keys = '\\\\\\\\\\-\"' }\n"),
                  *q = printed(p);
    const struct policy_table *t = q->tables;

    for (size_t i = 0; i < p->ntables; i++)
        CHECK(memcmp(&p->tables[i].limit, &t[i].limit, sizeof t[i].limit) == 0, "table %zu", i);
    CHECK(memcmp(&t[0].limit, &key_limit_none, sizeof t[0].limit) == 0, "none");
    CHECK(t[1].limit.max == 64 && key_limit_passes(&t[1].limit, text_slice("\xff")), "max-key");
    CHECK(t[2].limit.max == 0 && key_limit_passes(&t[2].limit, text_slice("Ab.9_-")) &&
              !key_limit_passes(&t[2].limit, text_slice("a@b")),
          "keys");
    CHECK(t[3].limit.max == (1u << 28) - 1 && key_limit_passes(&t[3].limit, text_slice("\x01")),
          "both");
    CHECK(key_limit_passes(&t[4].limit, text_slice("\\-\"")) &&
              !key_limit_passes(&t[4].limit, text_slice("a")),
          "escapes");
    policy_free(p);
    policy_free(q);
}

static void wrong_limits_of_keys(void)
{
    static const struct mistake mistakes[] = {
        {TABLE("hash:/t", "max-key = 0"),
         "conf:2:29: max-key = 0 is out of range; 1 to 268435455 bytes is expected"},
        {TABLE("hash:/t", "max-key = 268435456"),
         "conf:2:29: max-key = 268435456 is out of range; 1 to 268435455 bytes is expected"},
        {TABLE("hash:/t", "keys = \"\""),
         "conf:2:26: keys = \"\" names no character, so that there would be no key; a character "
         "class like \"a-z0-9._-\" is expected"},
        {TABLE("hash:/t", "keys = \"z-a\""),
         "conf:2:26: keys = \"z-a\" has the range \"z-a\", which goes backwards; \"a-z\" is "
         "expected"},
        {TABLE("hash:/t", "keys = \"a-z-9\""),
         "conf:2:26: keys = \"a-z-9\" has a - in it that belongs to no range; write it first, last "
         "or as \\-"},
        {TABLE("hash:/t", "keys = '\\d'"), "conf:2:26: keys = \"\\d\" has \"\\d\" in it; of "
                                           "escapes, \\xHH, \\\\ and \\- are expected"},
        {TABLE("hash:/t", "keys = {a}"), "conf:2:26: { stands here; a value is expected"},
    };

    refused(mistakes, COUNT(mistakes));
}

/* ---- allow ---- */

static void whom_sections_speak_of(void)
{
    struct policy *p = good("allow \"postfix\" { tables = {\"hash:/a\"} }\n"
                            "allow \"@postfix\" { tables = {\"hash:*\", \"static:x\"} }\n"
                            "allow \"@77\" { listen = {\"/t\"} tables = {\"unix:*\"} }\n"
                            "allow \"@77\" { listen = {\"/s\", \"/u\"} tables = {\"*\"} }\n"
                            "allow \"*\" { tables = {\"cdb:*\"} }\n"
                            "listen \"/s\" { }\nlisten \"/t\" { greeting = off }\n"
                            "listen \"/u\" { greeting = on }\n"
                            "table \"hash:/a\" { }\ntable \"hash:/b\" { }\ntable \"static:x\" { }\n"
                            "table \"unix:passwd.byname\" { }\n"),
                  *q = printed(p);
    static const struct {
        enum policy_who who;
        unsigned id;
        bool listens[3], tables[4];
    } want[] = {
        {WHO_USER, 105, {true, true, true}, {true, false, false, false}},
        {WHO_GROUP, 110, {true, true, true}, {true, true, true, false}},
        {WHO_GROUP, 77, {false, true, false}, {false, false, false, true}},
        {WHO_GROUP, 77, {true, false, true}, {true, true, true, true}},
        {WHO_ANYONE, 0, {true, true, true}, {false, false, false, false}},
    };

    REQUIRE(q->nallows == COUNT(want), "%zu sections", q->nallows);
    for (size_t i = 0; i < COUNT(want); i++) {
        const struct policy_allow *a = &q->allows[i];

        CHECK(a->who == want[i].who && (a->who == WHO_GROUP ? a->gid : a->uid) == want[i].id,
              "section %zu", i);
        for (size_t l = 0; l < 3; l++)
            CHECK((a->listens == NULL || a->listens[l]) == want[i].listens[l],
                  "section %zu, listener %zu", i, l);
        CHECK(memcmp(a->tables, want[i].tables, sizeof want[i].tables) == 0, "section %zu", i);
    }
    CHECK(q->listens[0].greeting && !q->listens[1].greeting && q->listens[2].greeting, "greeting");
    policy_free(p);
    policy_free(q);
}

/* static:* can be one table, and then the word means that one. */
static void name_that_looks_like_a_type(void)
{
    struct policy *p = good("listen \"/s\" { }\ntable \"static:x\" { }\ntable \"static:*\" { }\n"
                            "allow \"root\" { tables = {\"static:*\"} }\n");

    CHECK(!p->allows[0].tables[0] && p->allows[0].tables[1], "more than that table");
    policy_free(p);
}

#define LISTENS "listen \"/s\" { }\nlisten \"/t\" { }\n"

static void wrong_sections(void)
{
    static const struct mistake mistakes[] = {
        {LISTENS "allow \"@nobodys\" { }",
         "conf:3:7: unknown group \"nobodys\"; the name of a group of this system, or a number, is "
         "expected"},
        {LISTENS "allow \"7\" { listen = {\"/s\", \"/x\"} }",
         "conf:3:29: allow \"7\" names listen \"/x\", which is not declared; listen \"/x\" { } is "
         "expected"},
        {LISTENS "allow \"7\" { listen = {} }",
         "conf:3:22: listen names no socket; leave it out if every one is meant"},
        {LISTENS "allow \"7\" { listen = \"/s\" }",
         "conf:3:22: \"/s\" stands here; a list in braces, listen = {\"...\", \"...\"}, is "
         "expected"},
        {LISTENS "allow \"7\" {\nlisten \"/u\" { }",
         "conf:4:1: listen begins inside the allow section; } is expected before it"},
        {LISTENS "allow \"7\" { tables = {\"hsah:*\"} }",
         "conf:3:23: allow \"7\" names \"hsah:*\", and there is no such type; TYPE:* with "
         "one of these is expected: " TABLE_TYPES},
        {LISTENS "allow \"@7\" { }\nallow \"@7\" { }",
         "conf:4:7: duplicate allow \"@7\"; the first is in conf:3"},
        {LISTENS "allow \"*\" { }\nallow \"*\" { listen = {\"/s\"} }",
         "conf:4:7: duplicate allow \"*\"; the first is in conf:3"},
        {LISTENS "allow \"7\" { listen = {\"/t\", \"/s\"} }\nallow \"7\" { listen = {\"/s\"} }",
         "conf:4:7: duplicate allow \"7\"; the first is in conf:3"},
        {LISTENS "allow \"@postfix\" { }\nallow \"@110\" { }",
         "conf:4:7: allow \"@110\" and allow \"@postfix\" in conf:3 are the same gid 110; one "
         "section "
         "for both is expected"},
        {"listen \"/s\" { greeting = no }",
         "conf:1:26: greeting = \"no\" is not known; on or off is expected"},
    };

    refused(mistakes, COUNT(mistakes));
}

static void a_user_and_a_group_of_one_number(void)
{
    struct policy *p = good(LISTENS "allow \"7\" { }\nallow \"@7\" { }\nallow \"*\" { }\n"
                                    "allow \"0\" { }\nallow \"@0\" { }\n"
                                    "allow \"8\" { listen = {\"/s\"} }\nallow \"8\" { listen = "
                                    "{\"/t\"} }\n");

    CHECK(p->nallows == 7, "%zu sections", p->nallows);
    policy_free(p);
}

static void words_are_shown(void)
{
    struct policy *p = good("listen \"/s\" { }\ntable \"hash:/a\" { }\ntable \"static:\\\"\" { }\n"
                            "allow \"7\" { tables = {\"hash:/a\", \"*\", \"cdb:*\", \"hash:*\"} }");
    char text[512] = "";
    FILE *out = fmemopen(text, sizeof text, "w");

    REQUIRE(out != NULL, "no stream");
    policy_show_words(p, out);
    fclose(out);
    CHECK_TEXT(text,
               "allow \"7\": \"*\" is \"hash:/a\", \"static:\\\"\"\n"
               "allow \"7\": \"cdb:*\" is no table\n"
               "allow \"7\": \"hash:*\" is \"hash:/a\"\n",
               "words");
    policy_free(p);
}

static const struct unit_test tests[] = {
    {"fields that are revealed are read, printed and read back", fields},
    {"fields that are none are refused, and those that are named", wrong_fields},
    {"limits of keys are read, printed and read back", limits_of_keys},
    {"limits of keys that are none are refused", wrong_limits_of_keys},
    {"users, groups, anyone, listeners and types are read, printed and read back",
     whom_sections_speak_of},
    {"a table whose name looks like a type is that table", name_that_looks_like_a_type},
    {"what is wrong in an allow section is named, with what is expected", wrong_sections},
    {"a user and a group of one number are not the same", a_user_and_a_group_of_one_number},
    {"what a word stands for is shown", words_are_shown},
};

const struct unit_suite approvals_suite = {
    .name = "approvals", .tests = tests, .ntests = COUNT(tests)};
