/*
 * Tests of server/loader/source_texthash and what it stands on: a text becomes the entries that
 * Postfix 3.7.11 finds in it, as seen with `postmap -q`, in each form of search; and no text, not
 * even a hostile one, does harm. Part of the unit test program; makes anonymous files.
 */
#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/image.h"
#include "server/loader/key_forms.h"
#include "server/loader/key_index.h"
#include "server/fold.h"
#include "server/text.h"

#define E_ACUTE "\xc3\xa9"
#define E_UPPER "\xc3\x89"
#define SHARP_S "\xc3\x9f"

static void expect_bytes(struct slice file, const char *entries, const char *warning)
{
    struct loaded l = {0};

    load_file(&l, &source_texthash, file, NULL);
    expect_loaded(&l, entries, warning);
    expect_sane(&l);
    unload(&l);
}

static void expect(const char *file, const char *entries, const char *warning)
{
    expect_bytes(text_slice(file), entries, warning);
}

/* ---- lines ---- */

static void simple_lines(void)
{
    expect("a 1\nb\t2\nc  \t 3 3\t3 \t\n", "EUAF a=1\nEUAF b=2\nEUAF c=3 3\t3\n", "");
    expect("a 1", "EUAF a=1\n", "");
    expect("user@example.com x@y, z\n", "EUAF user@example.com=x@y, z\n", "");
    expect("a:\t1\nk=v x\n", "EUAF a:=1\nEUAF k=v=x\n", "");
    expect("a\v1\nb\f2\nc\r3\r\n", "EUAF a=1\nEUAF b=2\nEUAF c=3\n", "");
}

static void comments_and_blank_lines(void)
{
    expect("# no entries\n", "", "");
    expect("\n \n\t\n #\n#", "", "");
    expect("#a 1\na 1\n  # c\n\nb 2 # kept\n#c 3", "EUAF a=1\nEUAF b=2 # kept\n", "");
}

/* The example of the facts: dropped lines do not end a logical line. */
static void continued_lines(void)
{
    expect(
        "k long one\n  continued\n\ttwo\n\n   three after blank\n# c\n  four after comment\nj 1\n",
        "EUAF k=long one  continued\ttwo   three after blank  four after comment\nEUAF j=1\n", "");
    expect("a\n 1\nb\n#\n#\n\n 2", "EUAF a=1\nEUAF b=2\n", "");
    expect("a 1\r\n 2\r\n", "EUAF a=1\r 2\n", "");
    expect("a\\\n b 1\n", "EUAF a\\ b=1\n", "");
}

static void nothing_to_continue(void)
{
    expect("  a 1\nb 2\n", "EUAF b=2\n",
           "line 1: it begins with white space and there is no line before that it could continue");
    expect("# c\n\n  a\n  b 1\nb 2\n", "EUAF b=2\n",
           "line 3: it begins with white space and there is no line before that it could continue");
}

static void quotes_and_backslashes(void)
{
    expect("\"a b\" 1\n", "EUAF \"a b\"=1\n", "");
    expect("a\\ b 1\n", "EUAF a\\ b=1\n", "");
    expect("a\\\"b 1\n", "EUAF a\\\"b=1\n", "");
    expect("a\"b c\"d 1\n\"\" 2\n", "EUAF a\"b c\"d=1\nEUAF \"\"=2\n", "");
    expect("a b\"\n", "EUAF a=b\"\n", ""); /* a value may hold anything */
    expect("\\  1\n", "EUAF \\ =1\n", "");
    expect("\"a 1\nb 2\n", "EUAF b=2\n", "line 1: a double quote is not closed");
}

static void without_key_or_value(void)
{
    expect("a 1\nb\nc \n", "EUAF a=1\n", "line 2: no value, expected `key value`");
    expect("a \\\n", "EUAF a=\\\n", "");
    expect("a\\", "", "line 1: no value, expected `key value`");
}

/* The number is that of the line on which the entry begins. */
static void line_numbers(void)
{
    expect("# 1\na 2\n 3\n\nb\n#\n\n", "EUAF a=2 3\n", "line 5: no value, expected `key value`");
}

/* A line is a string for Postfix; the rest of it is not there, nor are lines that continue it. */
static void lines_with_nul(void)
{
    expect_bytes((struct slice)SLICE("a 1\0x\n y\nb 2\n"), "EUAF a=1\nEUAF b=2\n", "");
    expect_bytes((struct slice)SLICE("a\0 1\nb 2\n"), "EUAF b=2\n",
                 "line 1: no value, expected `key value`");
    expect_bytes((struct slice)SLICE("a 1\n\0\n x\n"), "EUAF a=1\n",
                 "line 2: no key, expected `key value`");
    expect_bytes((struct slice)SLICE("a 1\0\xff\n"), "EUAF a=1\n", "");
    expect_bytes((struct slice)SLICE(E_ACUTE " 1\0\xff\n"), "EA " E_ACUTE "=1\n",
                 "line 1: not UTF-8: requests that ask for UTF-8 do not find it");
}

/* ---- forms and duplicates ---- */

static void forms_of_ascii_keys(void)
{
    expect("abc 1\nAbC 2\n", "EUAF abc=1\nEU AbC=2\n",
           "line 2: duplicate key \"AbC\" where case does not count");
    expect("Upper 1\n", "EU Upper=1\nAF upper=1\n", "");
}

static void forms_of_other_keys(void)
{
    expect(E_ACUTE " 1\n", "EUAF " E_ACUTE "=1\n", "");
    expect(E_UPPER " 1\n", "EUA " E_UPPER "=1\nF " E_ACUTE "=1\n", "");
    expect("A" E_UPPER " 1\n", "EU A" E_UPPER "=1\nA a" E_UPPER "=1\nF a" E_ACUTE "=1\n", "");
    expect("A" E_ACUTE " 1\n", "EU A" E_ACUTE "=1\nAF a" E_ACUTE "=1\n", "");
    expect("STRA" SHARP_S "E 1\n", "EU STRA" SHARP_S "E=1\nA stra" SHARP_S "e=1\nF strasse=1\n",
           "");
    expect("\xc4\xb0 1\n", "EUA \xc4\xb0=1\nF i\xcc\x87=1\n", ""); /* I with dot above */
    expect("e\xcc\x81 1\n", "EUAF e\xcc\x81=1\n", "");             /* it is not composed */
    expect("\xef\xac\x81 1\n", "EUA \xef\xac\x81=1\nF fi=1\n", "");
}

static void lines_that_are_not_utf8(void)
{
    static const char warning[] = "line 1: not UTF-8: requests that ask for UTF-8 do not find it";

    expect("\xc9T\xe9 1\n", "E \xc9T\xe9=1\nA \xc9t\xe9=1\n", warning);
    expect("a \xff\n", "EA a=\xff\n", warning); /* the line decides, not the key */
    expect("a \xff\na 2\n", "EA a=\xff\nUF a=2\n", warning);
}

static void first_of_duplicates_stays(void)
{
    expect("a 1\na 2\nb 3\na 4\n", "EUAF a=1\nEUAF b=3\n", "line 2: duplicate key \"a\"");
    expect("A 1\na 2\n", "EU A=1\nAF a=1\nEU a=2\n",
           "line 2: duplicate key \"a\" where case does not count");
    expect(SHARP_S " 1\nSS 2\nss 3\n", "EUA " SHARP_S "=1\nF ss=1\nEU SS=2\nA ss=2\nEU ss=3\n",
           "line 2: duplicate key \"SS\" where case does not count");
    expect("\"\x01\xc3\xa9\" 1\n\"\x01\xc3\xa9\" 2\n", "EUAF \"\x01" E_ACUTE "\"=1\n",
           "line 2: duplicate key \"\\x22\\x01\\xc3\\xa9\\x22\"");
}

/* All that is ignored is counted; the first of it is told. */
static void ignored_is_counted(void)
{
    struct loaded l = {0};

    load_file(&l, &source_texthash, text_slice("a 1\na 2\nb\n\"\n\xff 1\n"), NULL);
    CHECK(l.source.ignored == 4, "%u ignored", l.source.ignored);
    CHECK_TEXT(l.source.warning, "line 2: duplicate key \"a\"", "warning");
    unload(&l);
}

/* The key is quoted, and cut: a log line is no place for 3,000 bytes. */
static void long_key_in_a_warning(void)
{
    static const char *const fills[] = {"x", "\x01", "\\"};
    enum { KEY = 3000, LINE = KEY + 3 };
    char text[2 * LINE];
    struct loaded l = {0};

    for (size_t i = 0; i < COUNT(fills); i++) {
        for (char *line = text; line < text + sizeof text; line += LINE) {
            memset(line, fills[i][0], KEY);
            memcpy(line + KEY, " 1\n", 3);
        }
        load_file(&l, &source_texthash, (struct slice){text, sizeof text}, NULL);
        CHECK(l.count == 1, "%zu entries", l.count);
        CHECK(strlen(l.source.warning) < 200 && strstr(l.source.warning, "...\"") != NULL,
              "warning %s", l.source.warning);
        unload(&l);
    }
}

/* ---- files ---- */

static void empty_file(void)
{
    struct loaded l = {0};

    load_file(&l, &source_texthash, (struct slice){"", 0}, NULL);
    expect_failed(&l,
                  "the file is empty; if the table is meant to have no entries, write a comment "
                  "line into it");
    unload(&l);
}

/* fstat(2) says 0 bytes for what /proc makes up, and says nothing of a file that is growing. */
static void size_is_not_believed(void)
{
    int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    struct loaded l = {0};
    struct slice value;

    REQUIRE(fd >= 0, "/proc/version: %s", strerror(errno));
    load_fd(&l, &source_texthash, fd);
    CHECK(l.rc == 0 && loaded_find(&l, text_slice("Linux"), IMAGE_FORM_EXACT, &value),
          "it is not read: %s", l.source.why);
    unload(&l);
    close(fd);
}

/* Wherever the descriptor stands; and it is not moved. */
static void read_from_the_start(void)
{
    int fd = memfd_create("source", MFD_CLOEXEC);
    struct loaded l = {0};

    REQUIRE(fd >= 0 && write(fd, "a 1\n", 4) == 4, "no file");
    load_fd(&l, &source_texthash, fd);
    expect_loaded(&l, "EUAF a=1\n", "");
    CHECK(lseek(fd, 0, SEEK_CUR) == 4, "the descriptor was moved");
    unload(&l);
    close(fd);
}

static void unreadable_file(void)
{
    struct loaded l = {0};
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    load_fd(&l, &source_texthash, fd);
    expect_failed(&l, "cannot read the file: Is a directory");
    unload(&l);
    close(fd);
    load_fd(&l, &source_texthash, -1);
    expect_failed(&l, "cannot read the file: Bad file descriptor");
    unload(&l);
}

/* The load ends at once, and frees what it took. */
static void sink_that_refuses(void)
{
    struct loaded l = {.refuse_at = 2};

    load_file(&l, &source_texthash, text_slice("A 1\nB 2\nC 3\n"), NULL);
    CHECK(l.rc == -1 && l.count == 2, "rc %d after %zu entries", l.rc, l.count);
    unload(&l);
}

static void many_entries(void)
{
    enum { LINES = 50000 };
    char *text = need_memory(LINES * 64u), *end = text;
    struct loaded l = {0};

    for (unsigned i = 0; i < LINES; i++) /* every key twice, the second time in upper case */
        end += snprintf(end, 64, "%s%u@example.com %u\n", i % 2 ? "USER" : "user", i / 2, i);
    load_file(&l, &source_texthash, (struct slice){text, (size_t)(end - text)}, NULL);
    CHECK(l.rc == 0 && l.count == LINES, "%zu entries", l.count);
    CHECK(l.source.ignored == LINES / 2, "%u ignored", l.source.ignored);
    for (unsigned i = 0; i < l.count; i++)
        if (l.records[i].forms != (i % 2 ? 3 : 15)) {
            CHECK(false, "entry %u has forms %u", i, l.records[i].forms);
            break;
        }
    unload(&l);
    free(text);
}

/* ---- what it stands on ---- */

static void index_of_keys(void)
{
    struct key_index *index = key_index_new();
    unsigned fresh = 99;
    char key[16];

    REQUIRE(index != NULL, "no index");
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 5000; i++) { /* the buffer changes: it keeps copies */
            int len = snprintf(key, sizeof key, "%u", i);

            REQUIRE(key_index_claim(index, (struct slice){key, (size_t)len}, 2, false, &fresh) == 0,
                    "key %u", i);
            if (fresh != (round == 0 ? 2 : 0))
                CHECK(false, "key %u, round %u: fresh in %u", i, round, fresh);
        }
    CHECK(key_index_claim(index, text_slice("17"), 7, true, &fresh) == 0 && fresh == 5, "fresh %u",
          fresh);
    CHECK(key_index_claim(index, (struct slice){NULL, 0}, 15, false, &fresh) == 0 && fresh == 15,
          "the empty key: %u", fresh);
    CHECK(key_index_claim(index, (struct slice){"", 0}, 15, true, &fresh) == 0 && fresh == 0,
          "the empty key again: %u", fresh);
    errno = 0;
    CHECK(key_index_claim(index, (struct slice){"", (size_t)IMAGE_KEY_MAX + 1}, 1, true, &fresh) ==
                  -1 &&
              errno == EFBIG,
          "a key that is too long");
    key_index_free(index);
    key_index_free(NULL);
}

static void utf8_is_strict(void)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x61",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xa0",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x90\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xfe",
                                      "\xff",
                                      "a\xc3",
                                      "\xf8\x88\x80\x80\x80"};

    for (size_t i = 0; i < COUNT(good); i++)
        CHECK(is_utf8(text_slice(good[i])), "good %zu is refused", i);
    for (size_t i = 0; i < COUNT(bad); i++)
        CHECK(!is_utf8(text_slice(bad[i])), "bad %zu is taken", i);
    CHECK(is_utf8((struct slice){"\0", 1}), "NUL is a character");
    CHECK(!is_ascii(text_slice("\x80")) && is_ascii(text_slice("\x7f")), "is_ascii");
}

/* Any 3 bytes of a few kinds, cut short at the end of the memory. */
static void mutations(void)
{
    static const char alphabet[] =
        "aAbB zZ\t\n\n\n\r\f\"\\#:=\0\xc3\x89\xa9\x9f\xff\xc4\xb0\xe1\xba\x9e";
    static const char seed[] = "# c\nA b\n\"q q\" v\n\nk v\n  w\n" E_UPPER " 1\nstra" SHARP_S
                               "e x\na b\nB\\ b c\n \n#\n\ttail\n";
    uint64_t random = 4711;
    char bytes[512];

    for (int round = 0; round < 5000; round++) {
        struct loaded l = {0};
        size_t len = sizeof seed - 1;

        memcpy(bytes, seed, len);
        len = mutate(bytes, len, sizeof bytes, alphabet, sizeof alphabet - 1, &random);
        load_file(&l, &source_texthash, (struct slice){bytes, len}, NULL);
        CHECK((l.rc == 0) == (len > 0), "round %d: %s", round, l.source.why);
        expect_sane(&l);
        unload(&l);
    }
}

static const struct unit_test tests[] = {
    {"key and value", simple_lines},
    {"comments and blank lines are not there", comments_and_blank_lines},
    {"white space continues a line, over dropped ones too", continued_lines},
    {"a first line with white space is left out", nothing_to_continue},
    {"quotes and backslashes protect and stay", quotes_and_backslashes},
    {"a line without a value is left out", without_key_or_value},
    {"an entry has the number of its first line", line_numbers},
    {"a line ends at a NUL", lines_with_nul},
    {"ASCII keys are found as written and folded", forms_of_ascii_keys},
    {"other keys fold by bytes and by characters", forms_of_other_keys},
    {"a line that is not UTF-8 is in the forms without it", lines_that_are_not_utf8},
    {"in each form the first of duplicates stays", first_of_duplicates_stays},
    {"what is ignored is counted, and the first is told", ignored_is_counted},
    {"a long key is cut in a warning", long_key_in_a_warning},
    {"a file of no bytes is an error", empty_file},
    {"a file is read to its end, not to its size", size_is_not_believed},
    {"a file is read from its start", read_from_the_start},
    {"what cannot be read is an error with errno's words", unreadable_file},
    {"a sink that refuses ends the load", sink_that_refuses},
    {"50,000 lines, each key twice", many_entries},
    {"the index of keys knows each key in each form", index_of_keys},
    {"UTF-8 is what RFC 3629 says", utf8_is_strict},
    {"5,000 mutated texts harm nobody", mutations},
};

const struct unit_suite texthash_suite = {
    .name = "texthash", .tests = tests, .ntests = COUNT(tests)};
