/*
 * Tests of server/loader/source_unix: passwd and group files become what glibc 2.36's `files`
 * service answers, as seen by asking it with each of these files in the place of its own; and
 * nsswitch.conf decides who answers as it decides there. Part of the unit test program; makes
 * anonymous files and does not look at the system's own.
 */
#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/image.h"

static const struct slice files_only = SLICE("passwd: files\ngroup: files\n");

static void expect_of(const struct source_ops *ops, struct slice file, const char *entries,
                      const char *warning)
{
    struct loaded l = {0};

    load_file(&l, ops, file, &files_only);
    expect_loaded(&l, entries, warning);
    expect_sane(&l);
    CHECK(l.source.answered_by == KIND_IMAGE, "answered by %d", l.source.answered_by);
    unload(&l);
}

static void expect_user(const char *file, const char *entries)
{
    expect_of(&source_passwd, text_slice(file), entries, "");
}

static void expect_group(const char *file, const char *entries)
{
    expect_of(&source_group, text_slice(file), entries, "");
}

#define NO_USER  "line 1: not `name:passwd:uid:gid:gecos:dir:shell`"
#define NO_GROUP "line 1: not `name:passwd:gid:member,member`"
#define GOOD     "z:x:9:9:::\n"
#define GOOD_IS  "EUAF z=z:x:9:9:::\n"

/* A line that is no entry; the next one is. */
static void no_user(const char *line)
{
    char file[512];

    snprintf(file, sizeof file, "%s\n" GOOD, line);
    expect_of(&source_passwd, text_slice(file), GOOD_IS, NO_USER);
}

static void no_group(const char *line)
{
    char file[512];

    snprintf(file, sizeof file, "%s\nz:x:9:\n", line);
    expect_of(&source_group, text_slice(file), "EUAF z=z:x:9:\n", NO_GROUP);
}

static void users(void)
{
    expect_user("root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1001:Alice A,,,:/home/a:/bin/sh\n",
                "EUAF root=root:x:0:0:root:/root:/bin/bash\n"
                "EUAF alice=alice:x:1000:1001:Alice A,,,:/home/a:/bin/sh\n");
    expect_user("a:x:1:2:g:d:s", "EUAF a=a:x:1:2:g:d:s\n");
    expect_user("a::1:2:::\n", "EUAF a=a::1:2:::\n");
    expect_user("a:x:1:2:g:d:s:t:u\n", "EUAF a=a:x:1:2:g:d:s:t:u\n");
    expect_user("a:x:1:2:g:d:s\r\n", "EUAF a=a:x:1:2:g:d:s\r\n");
    expect_user("A:x:1:2: g : d : s \n", "EUAF A=A:x:1:2: g : d : s \n");
    expect_user("\xff:x:1:2:\xfe::\n", "EUAF \xff=\xff:x:1:2:\xfe::\n");
}

/* As the policy names fields: the first is 1. */
enum { NAME = 1, PASSWORD = 2, UID = 4, GID = 8, GECOS = 16, HOME = 32, SHELL = 64 };
enum { GROUP_GID = 4, GROUP_MEMBERS = 8 };

static void fields_that_are_revealed(void)
{
    static const char user[] = "a:pass:1:2:g,e:/home:/shell:x\n", group[] = "a:pass:1: b,,c\n";
    static const struct {
        const struct source_ops *ops;
        uint32_t reveal;
        const char *entries;
    } rows[] = {
        {&source_passwd, NAME, "EUAF a=a::::::\n"},
        {&source_passwd, PASSWORD, "EUAF a=:pass:::::\n"},
        {&source_passwd, UID, "EUAF a=::1::::\n"},
        {&source_passwd, GID, "EUAF a=:::2:::\n"},
        {&source_passwd, GECOS, "EUAF a=::::g,e::\n"},
        {&source_passwd, HOME, "EUAF a=:::::/home:\n"},
        {&source_passwd, SHELL, "EUAF a=::::::/shell:x\n"},
        {&source_passwd, NAME | UID | GID, "EUAF a=a::1:2:::\n"},
        {&source_passwd, 127, "EUAF a=a:pass:1:2:g,e:/home:/shell:x\n"},
        {&source_group, NAME, "EUAF a=a:::\n"},
        {&source_group, PASSWORD, "EUAF a=:pass::\n"},
        {&source_group, GROUP_GID, "EUAF a=::1:\n"},
        {&source_group, GROUP_MEMBERS, "EUAF a=:::b,c\n"},
        {&source_group, NAME | GROUP_MEMBERS, "EUAF a=a:::b,c\n"},
        {&source_group, 15, "EUAF a=a:pass:1:b,c\n"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct loaded l = {.reveal = rows[i].reveal};

        load_file(&l, rows[i].ops, text_slice(rows[i].ops == &source_passwd ? user : group),
                  &files_only);
        expect_loaded(&l, rows[i].entries, "");
        unload(&l);
    }
}

static void missing_fields(void)
{
    expect_user("a:x:1:2\n", "EUAF a=a:x:1:2:::\n");
    expect_user("a:x:1:2:\n", "EUAF a=a:x:1:2:::\n");
    expect_user("a:x:1:2:g\n", "EUAF a=a:x:1:2:g::\n");
    expect_user("a:x:1:2:g:d\n", "EUAF a=a:x:1:2:g:d:\n");
    no_user("a");
    no_user("a:");
    no_user("a:x");
    no_user("a:x:1");
    no_user("a:x:1:");
    no_user("a:x::2:g:d:s");
    expect_group("a:x:1\n", "EUAF a=a:x:1:\n");
    no_group("a");
    no_group("a:x");
    no_group("a:x:");
    no_group("a:x::m");
}

/* strtoul(3), and then 32 bits. */
static void ids(void)
{
    static const struct {
        const char *text, *id;
    } cases[] = {
        {"0", "0"},
        {"010", "10"},
        {"+7", "7"},
        {" 8", "8"},
        {"\t\v\f\r9", "9"},
        {"-0", "0"},
        {"2147483648", "2147483648"},
        {"4294967294", "4294967294"},
        {"4294967295", "4294967295"},
        {"-18446744073709551615", "1"},
        {"000000000000000000000000000005", "5"},
        {"", NULL},
        {" ", NULL},
        {"8 ", NULL},
        {"9\r", NULL},
        {"x", NULL},
        {"1x", NULL},
        {"0x10", NULL},
        {"1.5", NULL},
        {"-", NULL},
        {"+", NULL},
        {"--1", NULL},
        {"+-1", NULL},
        {"- 1", NULL},
        {"\xc2\xa0"
         "9",
         NULL},
        {"-1", NULL},
        {"-5", NULL},
        {"4294967296", NULL},
        {"-4294967295", NULL},
        {"18446744073709551615", NULL},
        {"18446744073709551616", NULL},
        {"-18446744073709551616", NULL},
        {"99999999999999999999999", NULL},
    };
    char line[256], want[256];

    for (size_t i = 0; i < COUNT(cases); i++)
        for (int field = 0; field < 3; field++) {
            static const char *const lines[] = {"a:x:%s:5:g:d:s", "a:x:5:%s:g:d:s", "a:x:%s:m"};
            const struct source_ops *ops = field < 2 ? &source_passwd : &source_group;

            snprintf(line, sizeof line, lines[field], cases[i].text);
            if (cases[i].id == NULL) {
                (field < 2 ? no_user : no_group)(line);
                continue;
            }
            memcpy(want, "EUAF a=", 7);
            snprintf(want + 7, sizeof want - 7, lines[field], cases[i].id);
            strcat(want, "\n");
            expect_of(ops, text_slice(line), want, "");
        }
}

static void blanks_and_comments(void)
{
    expect_user(" \t\v\f\ra:x:1:2:g:d:s\n", "EUAF a=a:x:1:2:g:d:s\n");
    expect_user("a :x:1:2:g:d:s\n", "EUAF a =a :x:1:2:g:d:s\n");
    expect_user("#a:x:1:2:g:d:s\n  # b\n\n \n" GOOD, GOOD_IS);
    expect_user("a#:x:1:2:g#:d:s#\n", "EUAF a#=a#:x:1:2:g#:d:s#\n");
}

/* NSS's compat lines, and a name that nobody can ask for. They are no mistakes, either. */
static void names_that_are_not_found(void)
{
    expect_user("+\n-\n+a:x:1:2:g:d:s\n-a:x:1:2:g:d:s\n+::::::\n+@net::::::\n:x:1:2:g:d:s\n" GOOD,
                GOOD_IS);
    expect_group("+\n+:::\n-a:x:1:m\n:x:1:m\nz:x:9:\n", "EUAF z=z:x:9:\n");
}

static void first_of_a_name_stays(void)
{
    expect_of(&source_passwd,
              text_slice("a:x:1:1:::\nb:x:2:2:::\na:x:3:3:::\nb:x:4:4:::\nA:x:5:5:::\n"),
              "EUAF a=a:x:1:1:::\nEUAF b=b:x:2:2:::\nEUAF A=A:x:5:5:::\n",
              "line 3: an earlier line has the same name");
    expect_of(&source_passwd, text_slice("a:x:1\na:x:3:3:::\n"), "EUAF a=a:x:3:3:::\n", NO_USER);
}

static void members(void)
{
    expect_group("a:x:1:\nb:x:2:m\nc:x:3:m,n\nd:x:4:m,n",
                 "EUAF a=a:x:1:\nEUAF b=b:x:2:m\nEUAF c=c:x:3:m,n\nEUAF d=d:x:4:m,n\n");
    expect_group("a:x:1:,m,,n,\n", "EUAF a=a:x:1:m,n\n");
    expect_group("a:x:1: m , n \n", "EUAF a=a:x:1:m ,n \n");
    expect_group("a:x:1:  \n", "EUAF a=a:x:1:\n");
    expect_group("a:x:1: , ,m\n", "EUAF a=a:x:1:m\n");
    expect_group("a:x:1:m:n,o\n", "EUAF a=a:x:1:m:n,o\n");
    expect_group("a:x:1:m,\tn\r\n", "EUAF a=a:x:1:m,n\r\n");
    expect_group("a:x:1:\r\n", "EUAF a=a:x:1:\n");
}

/* No limit of NSS's callers is in the file. */
static void long_lines(void)
{
    enum { MEMBERS = 20000 };
    char *file = need_memory(MEMBERS * 8u + 64), *end = file;
    struct loaded l = {0};

    end += sprintf(end, "a:x:1:");
    for (int i = 0; i < MEMBERS; i++)
        end += sprintf(end, "%sm%05d", i > 0 ? "," : "", i);
    end += sprintf(end, "\nb:x:2:\n");
    load_file(&l, &source_group, (struct slice){file, (size_t)(end - file)}, &files_only);
    CHECK(l.rc == 0 && l.count == 2, "%zu entries", l.count);
    CHECK(l.count > 0 && l.records[0].value.len == 6 + MEMBERS * 7 - 1, "it was cut");
    unload(&l);
    free(file);
}

static void no_entries(void)
{
    static const char *const files[] = {"# users\n", "\n", "+\n", "a\n", ":x:1:1:::\n"};
    struct loaded l = {0};

    for (size_t i = 0; i < COUNT(files); i++) {
        load_file(&l, &source_passwd, text_slice(files[i]), &files_only);
        expect_failed(&l, "there is no entry in the file, expected lines of "
                          "`name:passwd:uid:gid:gecos:dir:shell`");
        unload(&l);
    }
    load_file(&l, &source_group, text_slice("a\n"), &files_only);
    expect_failed(&l, "expected lines of `name:passwd:gid:member,member`");
    unload(&l);
    load_file(&l, &source_group, text_slice(""), &files_only);
    expect_failed(&l, "the file is empty");
    unload(&l);
}

/* glibc 2.36 gives such lines a meaning of their own, so that it is left to say which. */
static void odd_files_are_left_to_nss(void)
{
    static const struct slice files[] = {
        SLICE(GOOD "a:x:1:2:g\0:d:s\n"),
        SLICE("\0" GOOD),
        SLICE(GOOD " a:x:1:2:g:d:s"), /* its answer ends in ":ss" */
        SLICE(" "),
    };
    struct loaded l = {0};

    for (size_t i = 0; i < COUNT(files); i++) {
        load_file(&l, &source_passwd, files[i], &files_only);
        CHECK(l.source.answered_by == KIND_LINK, "file %zu", i);
        expect_loaded(&l, "", NULL);
        unload(&l);
    }
}

static void sink_that_refuses(void)
{
    struct loaded l = {.refuse_at = 1};

    load_file(&l, &source_passwd, text_slice("a:x:1:1:::\n" GOOD), &files_only);
    CHECK(l.rc == -1 && l.count == 1, "rc %d after %zu entries", l.rc, l.count);
    unload(&l);
}

/* ---- nsswitch.conf ---- */

static void expect_kind(struct slice conf, enum bridge_kind passwd, enum bridge_kind group)
{
    static const char *const names[] = {"nobody", "the image", "the link", "both"};
    struct loaded l = {0};

    for (int i = 0; i < 2; i++) {
        enum bridge_kind want = i == 0 ? passwd : group;

        load_file(&l, i == 0 ? &source_passwd : &source_group, text_slice(GOOD), &conf);
        CHECK(l.rc == 0, "\"%.*s\": %s", (int)conf.len, conf.ptr, l.source.why);
        CHECK(l.source.answered_by == want, "%s: \"%.*s\": answered by %s, not %s",
              i == 0 ? "passwd" : "group", (int)conf.len, conf.ptr, names[l.source.answered_by],
              names[want]);
        CHECK(l.count == (want == KIND_LINK ? 0 : 1), "%zu entries", l.count);
        unload(&l);
    }
}

static void expect_passwd(const char *conf, enum bridge_kind want)
{
    expect_kind(text_slice(conf), want, KIND_LINK);
}

static void files_alone(void)
{
    expect_kind(files_only, KIND_IMAGE, KIND_IMAGE);
    expect_kind((struct slice)SLICE("# c\n\npasswd:\t files \ngroup: files sss\nhosts: dns\n"),
                KIND_IMAGE, KIND_BOTH);
    expect_passwd("passwd:files\n", KIND_IMAGE);
    expect_passwd(" passwd : files\n", KIND_IMAGE);
    expect_passwd("passwd files\n", KIND_IMAGE); /* glibc does not ask for the colon */
    expect_passwd("passwd:: files\r\n", KIND_IMAGE);
    expect_passwd("passwd: files\npasswd_compat: sss\n", KIND_IMAGE);
    expect_passwd("foo: [x\npasswd: files\n:\n", KIND_IMAGE);
}

static void files_first(void)
{
    expect_passwd("passwd: files systemd\n", KIND_BOTH);
    expect_passwd("passwd: files files\n", KIND_BOTH);
    expect_passwd("passwd: files sss [NOTFOUND=return] ldap\n", KIND_BOTH);
    expect_passwd("passwd: files sss[!tryagain=Merge]\n", KIND_BOTH);
    expect_passwd("passwd: files sss [ success=return  NOTFOUND=continue ] [UNAVAIL=return] x\n",
                  KIND_BOTH);
    expect_passwd("passwd: files # sss\n", KIND_BOTH); /* a service for glibc 2.36 */
}

static void files_not_first(void)
{
    expect_passwd("", KIND_LINK);
    expect_passwd("hosts: files\n", KIND_LINK);
    expect_passwd("passwd:\n", KIND_LINK);
    expect_passwd("passwd\n", KIND_LINK);
    expect_passwd("passwd: sss files\n", KIND_LINK);
    expect_passwd("passwd: compat\n", KIND_LINK);
    expect_passwd("passwd: FILES\n", KIND_LINK);
    expect_passwd("PASSWD: files\n", KIND_LINK);
    expect_passwd("#passwd: files\n", KIND_LINK);
    expect_passwd("# passwd: files\n", KIND_LINK);
    expect_passwd("passwd: files,sss\n", KIND_LINK);
    expect_passwd("passwd: files#sss\n", KIND_LINK);
    expect_passwd("passwd: [NOTFOUND=return] files\n", KIND_LINK);
}

static void actions_of_files(void)
{
    expect_passwd("passwd: files [SUCCESS=merge] sss\n", KIND_LINK);
    expect_passwd("passwd: files[NOTFOUND=return] sss\n", KIND_LINK);
    expect_passwd("passwd: files [\n", KIND_LINK);
    expect_passwd("passwd: files []\n", KIND_LINK);
}

/* One word that it does not know and glibc forgets the line. */
static void broken_actions(void)
{
    static const char *const actions[] = {"[",
                                          "[]",
                                          "[ ]",
                                          "[x=y]",
                                          "[success]",
                                          "[success=]",
                                          "[=return]",
                                          "[!=return]",
                                          "[success=return",
                                          "[success= return]",
                                          "[[success=return]]",
                                          "[!!success=return]",
                                          "[success=return=merge]"};
    char conf[128];

    for (size_t i = 0; i < COUNT(actions); i++) {
        snprintf(conf, sizeof conf, "passwd: files sss %s ldap\n", actions[i]);
        expect_passwd(conf, KIND_LINK);
        snprintf(conf, sizeof conf, "passwd: files sss%s\n", actions[i]);
        expect_passwd(conf, KIND_LINK);
    }
}

static void last_line_of_a_database(void)
{
    expect_passwd("passwd: files\npasswd: sss\n", KIND_LINK);
    expect_passwd("passwd: sss\npasswd: files\n", KIND_IMAGE);
    expect_passwd("passwd: files\n  passwd sss\n", KIND_LINK);
}

/* glibc 2.36 does not see a last line that has no newline. */
static void doubts(void)
{
    struct loaded l = {0};

    expect_passwd("passwd: sss\npasswd: files", KIND_LINK);
    expect_passwd("passwd: files", KIND_LINK);
    expect_passwd("passwd: files\ngroup: x", KIND_IMAGE);
    expect_kind((struct slice)SLICE("passwd: files\0\n"), KIND_LINK, KIND_LINK);
    load_file(&l, &source_passwd, text_slice(GOOD), NULL);
    CHECK(l.rc == 0 && l.source.answered_by == KIND_LINK && l.count == 0, "no nsswitch.conf");
    unload(&l);
}

/* Not even a file that could not be loaded. */
static void link_reads_no_file(void)
{
    static const struct slice conf = SLICE("passwd: sss\n");
    struct loaded l = {0};

    load_file(&l, &source_passwd, (struct slice){"", 0}, &conf);
    CHECK(l.rc == 0 && l.source.answered_by == KIND_LINK, "it was read: %s", l.source.why);
    unload(&l);
}

static void mutations(void)
{
    static const char alphabet[] = "aAz:::,,019+-# \t\r\n\n\0\xff";
    static const char seed[] =
        "root:x:0:0:root:/root:/bin/sh\n\n#c\nb:x:1:m,n , o\n+\n c:x:2:3:g:d\n";
    uint64_t random = 4713;
    char bytes[512];

    for (int round = 0; round < 5000; round++) {
        struct loaded l = {0};
        size_t len = sizeof seed - 1;

        memcpy(bytes, seed, len);
        len = mutate(bytes, len, sizeof bytes, alphabet, sizeof alphabet - 1, &random);
        load_file(&l, round % 2 ? &source_passwd : &source_group, (struct slice){bytes, len},
                  &files_only);
        CHECK((l.rc == 0) == (l.count > 0 || l.source.answered_by == KIND_LINK), "round %d", round);
        if (l.rc == 0)
            expect_sane(&l);
        for (size_t i = 0; i < l.count; i++)
            CHECK(l.records[i].forms == IMAGE_FORM_ANY && l.records[i].key.len > 0, "round %d",
                  round);
        unload(&l);
    }
}

static void mutated_switches(void)
{
    static const char alphabet[] = "passwd:files [[]]=!#\t\n\n\r\0x";
    static const char seed[] =
        "passwd: files sss [NOTFOUND=return !success=merge] x\ngroup: files\n";
    uint64_t random = 4714;
    unsigned kinds[4] = {0};
    char bytes[256];

    for (int round = 0; round < 10000; round++) {
        struct loaded l = {0};
        size_t len = sizeof seed - 1;
        struct slice conf = {bytes, 0};

        memcpy(bytes, seed, len);
        conf.len = mutate(bytes, len, sizeof bytes, alphabet, sizeof alphabet - 1, &random);
        load_file(&l, round % 2 ? &source_passwd : &source_group, text_slice(GOOD), &conf);
        CHECK(l.rc == 0 && l.source.answered_by >= 1 && l.source.answered_by <= 3, "round %d",
              round);
        kinds[l.source.answered_by & 3]++;
        unload(&l);
    }
    CHECK(kinds[1] > 100 && kinds[2] > 100 && kinds[3] > 100, "kinds %u, %u, %u", kinds[1],
          kinds[2], kinds[3]);
}

static const struct unit_test tests[] = {
    {"users", users},
    {"fields that are not revealed are empty", fields_that_are_revealed},
    {"fields that are missing", missing_fields},
    {"ids are read as glibc reads them", ids},
    {"blanks and comments", blanks_and_comments},
    {"names that no lookup finds are left out", names_that_are_not_found},
    {"of one name the first entry stays", first_of_a_name_stays},
    {"members of groups", members},
    {"long lines are taken whole", long_lines},
    {"a file without an entry is an error", no_entries},
    {"files that glibc reads in odd ways are left to it", odd_files_are_left_to_nss},
    {"a sink that refuses ends the load", sink_that_refuses},
    {"files alone: the image answers", files_alone},
    {"files first: the image and the link answer", files_first},
    {"files not first, or no such line: the link answers", files_not_first},
    {"an action right behind files: the link answers", actions_of_files},
    {"actions that glibc does not know: the link answers", broken_actions},
    {"the last line of a database counts", last_line_of_a_database},
    {"in doubt the link answers", doubts},
    {"where the link answers, the file is not read", link_reads_no_file},
    {"5,000 mutated files harm nobody", mutations},
    {"10,000 mutated nsswitch.conf harm nobody", mutated_switches},
};

const struct unit_suite unix_suite = {.name = "unix", .tests = tests, .ntests = COUNT(tests)};
