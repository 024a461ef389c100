/*
 * Tests of `jailmap import` without Postfix: which tables a value approves, as proxymap(8) was seen
 * to do it (tests/system/test_import.py asks it again), what comes of settings, and what is
 * printed. Part of the unit test program; makes nothing but anonymous files, and pipes.
 */
#include "ctl/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "tests/unit/unit.h"

/* ---- what the code under test says ---- */

static char said[8192];

int import_say(int status, const char *format, ...)
{
    size_t used = strlen(said);
    va_list ap;

    va_start(ap, format);
    vsnprintf(said + used, sizeof said - used, format, ap);
    va_end(ap);
    return status;
}

/* ---- which tables a value approves ---- */

struct seen {
    char names[4096]; /* each in [ ] */
    unsigned warnings;
    char what[64]; /* the last one */
};

static void see(void *context, struct slice name)
{
    struct seen *seen = context;
    size_t used = strlen(seen->names);

    snprintf(seen->names + used, sizeof seen->names - used, "[%.*s]", (int)name.len, name.ptr);
}

static void see_warning(void *context, const char *what, struct slice token)
{
    struct seen *seen = context;

    (void)token;
    seen->warnings++;
    snprintf(seen->what, sizeof seen->what, "%s", what);
}

static struct seen approve(struct slice value, bool files)
{
    struct seen seen = {.warnings = 0};
    const struct import_rules rules = {
        .files = files, .approve = see, .warn = see_warning, .context = &seen};
    char *copy = exact_copy(value.ptr, value.len);

    import_approved((struct slice){copy, value.len}, &rules);
    free(copy);
    return seen;
}

struct value {
    const char *value, *names;
    unsigned warnings;
};

static void check_values(const struct value *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct seen seen = approve(text_slice(values[i].value), true);

        CHECK_TEXT(seen.names, values[i].names, values[i].value);
        CHECK(seen.warnings == values[i].warnings, "%u warnings, expected %u: %s", seen.warnings,
              values[i].warnings, values[i].value);
    }
}

static void separators(void)
{
    static const struct value values[] = {
        {"", "", 0},
        {" ,\t\r\n, ", "", 0},
        {"proxy:hash:/a", "[hash:/a]", 0},
        {",proxy:hash:/a,\tproxy:hash:/b\r\nproxy:hash:/c,,", "[hash:/a][hash:/b][hash:/c]", 0},
        {"proxy:hash:/a;proxy:hash:/b", "[hash:/a;proxy:hash:/b]", 0},
        {"proxy:inline:{a=b, c=d} proxy:hash:/e", "[inline:{a=b, c=d}][hash:/e]", 0},
        {"proxy:inline:{ {x = y  z},\t{} }", "[inline:{ {x = y  z},\t{} }]", 0},
        {"proxy:static:\"a b\"", "[static:\"a]", 0},
        {"proxy:hash:/a}b proxy:hash:/c", "[hash:/a}b][hash:/c]", 0},
        {"}proxy:hash:/a a}proxy:hash:/b", "", 0},
        {"proxy:hash:/a{b c", "[hash:/a{b c]", 0},
    };
    check_values(values, COUNT(values));
}

static void prefixes(void)
{
    static const struct value values[] = {
        {"hash:/a static:b unix:passwd.byname", "", 0},
        {"proxy:proxy:proxy:hash:/a", "[hash:/a]", 0},
        {"proxy:nocolon proxy: proxy:proxy: proxy", "", 0},
        {"proxy:a: proxy::b", "[a:][:b]", 0},
        {"PROXY:hash:/a Proxy:hash:/b", "", 0},
        {"xproxy:hash:/a [::1] reject", "", 0},
        {"proxy:hash:proxy:/a", "[hash:proxy:/a]", 0},
    };
    check_values(values, COUNT(values));
}

static void groups(void)
{
    static const struct value values[] = {
        {"{proxy:hash:/a}", "[hash:/a]", 0},
        {"{ proxy:hash:/a words, more }", "[hash:/a]", 0},
        {"{proxy:hash:/a,proxy:hash:/b}", "[hash:/a]", 0},
        {"{ , proxy:hash:/a }", "[hash:/a]", 0},
        {"{} { } {,}", "", 0},
        {"{ {proxy:hash:/a} } {{proxy:hash:/b}}", "", 0},
        {"{proxy:hash:/a}x proxy:hash:/b", "[hash:/b]", 1},
        {"{proxy:hash:/a}{proxy:hash:/b}", "", 1},
        {"{proxy:hash:/a proxy:hash:/b", "", 1},
        {"{", "", 1},
        {"}", "", 0},
        {"{proxy:inline:{a = b} x}", "[inline:{a = b}]", 0},
    };
    check_values(values, COUNT(values));
}

static void composites(void)
{
    static const struct value values[] = {
        {"unionmap:{proxy:hash:/a, proxy:hash:/b}", "[hash:/a][hash:/b]", 0},
        {"pipemap:{proxy:hash:/a hash:/b}", "[hash:/a]", 0},
        {"unionmap:{proxy:hash:/a, pipemap:{proxy:hash:/b proxy:proxy:hash:/c}}",
         "[hash:/a][hash:/b][hash:/c]", 0},
        {"proxy:unionmap:{proxy:hash:/a, hash:/b}", "[unionmap:{proxy:hash:/a, hash:/b}]", 0},
        {"{unionmap:{proxy:hash:/a} words}", "[hash:/a]", 0},
        {"unionmap:{ {unionmap:{proxy:hash:/a} x} }", "[hash:/a]", 0},
        {"unionmap:{{proxy:hash:/a x}, hash:/y}", "[hash:/a]", 0},
        {"unionmap:{} pipemap:{ } unionmap: pipemap:", "", 0},
        {"unionmap:proxy:hash:/a unionmap:x{proxy:hash:/b}", "", 0},
        {"unionmap: {proxy:hash:/a}", "[hash:/a]", 0},
        {"unionmap:{proxy:hash:/a}x", "", 1},
        {"pipemap:{{proxy:hash:/a}x proxy:hash:/b}", "[hash:/b]", 1},
        {"unionmap:{proxy:hash:/a", "", 1},
        {"UNIONMAP:{proxy:hash:/a}", "", 0},
    };
    check_values(values, COUNT(values));
}

static void deep_nesting(void)
{
    enum { DEPTH = 100000 };
    char *text = need_memory(DEPTH * 11 + 64), *at = text;
    struct seen seen;

    for (int i = 0; i < DEPTH; i++)
        at = stpcpy(at, "unionmap:{");
    at = stpcpy(at, "proxy:hash:/deep");
    for (int i = 0; i < DEPTH; i++)
        at = stpcpy(at, "}");
    at = stpcpy(at, " proxy:hash:/behind");
    seen = approve(text_slice(text), false);
    CHECK_TEXT(seen.names, "[hash:/behind]", "after 100,000 braces");
    CHECK(seen.warnings == 1, "%u warnings", seen.warnings);
    free(text);
}

/* ---- /file/name ---- */

static void name_of(int fd, char *path, size_t len)
{
    snprintf(path, len, "/proc/self/fd/%d", fd);
}

static int anonymous(const char *text)
{
    int fd = memfd_create("maps", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text),
            "cannot write a file: %s", strerror(errno));
    return fd;
}

static void files(void)
{
    int fd = anonymous("# proxy:hash:/comment\nexample.org, proxy:hash:/a\n"
                       "proxy:inline:{a=b,\n  # proxy:hash:/inner\n\n c=d}\n{proxy:hash:/b x}");
    char value[128];
    struct seen seen;

    snprintf(value, sizeof value, "/proc/self/fd/%d, proxy:hash:/z", fd);
    seen = approve(text_slice(value), true);
    CHECK_TEXT(seen.names, "[hash:/a][inline:{a=b, c=d}][hash:/b][hash:/z]", "a file");
    CHECK(seen.warnings == 0, "%u warnings: %s", seen.warnings, seen.what);
    seen = approve(text_slice(value), false);
    CHECK_TEXT(seen.names, "[hash:/z]", "a file, and Postfix before 3.11");
    close(fd);
}

static void files_that_name_themselves(void)
{
    int fd = memfd_create("maps", MFD_CLOEXEC);
    char path[64], text[256];
    struct seen seen;

    name_of(fd, path, sizeof path);
    snprintf(text, sizeof text, "%s %s proxy:hash:/a", path, path);
    REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "cannot write");
    memset(&seen, 0, sizeof seen);
    seen = approve(text_slice(path), true);
    CHECK(strstr(seen.names, "[hash:/a]") != NULL, "nothing approved");
    CHECK(seen.warnings > 0, "no warning");
    close(fd);
}

static void files_that_are_none(void)
{
    int ends[2];
    char path[64];
    struct seen seen;

    REQUIRE(pipe(ends) == 0, "no pipe");
    name_of(ends[0], path, sizeof path);
    seen = approve(text_slice(path), true);
    CHECK(seen.warnings == 1, "a pipe: %u warnings", seen.warnings);
    close(ends[0]);
    close(ends[1]);
    seen = approve(text_slice("/nowhere/at/all"), true);
    CHECK(seen.warnings == 1, "a missing file: %u warnings", seen.warnings);
    CHECK_TEXT(seen.what, "No such file or directory", "a missing file");
    seen = approve(text_slice("/proc"), true);
    CHECK(seen.warnings == 1, "a directory: %u warnings", seen.warnings);
}

/* ---- lines and white space ---- */

static void logical_lines(void)
{
    static const char *const expected[] = {"a = b  c\td", " starts = blank", "e =", "last = x y"};
    struct slice rest;
    char text[] = "# c\n\na = b\n  c\n#x\n\n\td\ne =\n  \t\nlast = x|y";
    char first[] = " starts = blank\n", *line;

    *strchr(text, '|') = '\0'; /* a NUL byte becomes a blank */
    rest = (struct slice){text, sizeof text - 1};
    for (size_t i = 0; i < COUNT(expected); i++) {
        struct slice alone = text_slice(first);

        line = import_next_line(i == 1 ? &alone : &rest);
        REQUIRE(line != NULL, "line %zu is missing", i);
        CHECK_TEXT(line, expected[i], "a logical line");
        free(line);
    }
    CHECK(import_next_line(&rest) == NULL && errno == 0, "more lines");
}

static void values_of_main_cf(void)
{
    static const char text[] =
        "a = one\nab = two\nb=  three  four\t \n# b = no\nb =x\n\t y  z \nc\n";
    char *value = import_main_cf(text_slice(text), "b");

    REQUIRE(value != NULL, "b is missing");
    CHECK_TEXT(value, "x\t y  z", "the last of two");
    free(value);
    value = import_main_cf(text_slice(text), "a");
    REQUIRE(value != NULL, "a is missing");
    CHECK_TEXT(value, "one", "a");
    free(value);
    CHECK(import_main_cf(text_slice(text), "c") == NULL, "a line without =");
    CHECK(import_main_cf(text_slice(text), "bc") == NULL, "a parameter that is not set");
}

static void values_of_master_cf(void)
{
    static const char text[] = "proxymap inet n - - - - x -o { a = {p  q} }\n"
                               "proxymap  unix - - n - - proxymap\n  -o { a =  {p \t q}\n   r }\n";
    char *value = import_master_cf(text_slice(text), "proxymap", "unix", "{p q} r");

    REQUIRE(value != NULL, "not found");
    CHECK_TEXT(value, "{p \t q}   r", "an override");
    free(value);
    CHECK(import_master_cf(text_slice(text), "proxymap", "unix", "{p  q}") == NULL,
          "words that are not there");
    CHECK(import_master_cf(text_slice(text), "proxymap", "fifo", "{p q}") == NULL,
          "a service that is not there");
    CHECK(import_master_cf(text_slice(text), "proxymap", "unix", "") == NULL, "no words");
}

static void marks(void)
{
    static const struct {
        const char *plain, *marked;
    } cases[] = {
        {"", ""},
        {"a b", "a b"},
        {"a  b", "a \1\1b"},
        {"a\tb", "a \2b"},
        {"{a, \t\v\f\rb }", "{a, \1\2\3\4\5b }"},
        {"$$ {  b", "$$ { \1\1b"},
        {"a  ${x?{  y}:{z  }}  b", "a \1\1${x?{  y}:{z  }} \1\1b"},
        {"$(x  y  ", "$(x  y  "},
        {"$${x  y}", "$${x \1\1y}"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *marked = import_mark_spaces(cases[i].plain);

        REQUIRE(marked != NULL, "out of memory");
        CHECK_TEXT(marked, cases[i].marked, cases[i].plain);
        CHECK(import_is_marked(marked) == (strpbrk(cases[i].marked, "\1\2\3\4\5") != NULL),
              "marks in \"%s\"", cases[i].plain);
        import_unmark_spaces(marked);
        CHECK_TEXT(marked, cases[i].plain, "marked and back");
        free(marked);
    }
}

static void words(void)
{
    CHECK(import_same_words("", "") && import_same_words("a b", "a \t b"), "the same words");
    CHECK(import_same_words(" a", "\ta") && !import_same_words("a", " a"), "a blank in front");
    CHECK(!import_same_words("a b", "ab") && !import_same_words("a ", "a"), "a blank is missing");
    CHECK(!import_same_words("ab", "a") && !import_same_words("a", "ab"), "one is longer");
    CHECK(!import_is_spaced("a b{c d}") && !import_is_spaced(""), "single blanks");
    CHECK(import_is_spaced("a  b") && import_is_spaced("a\tb"), "others");
}

/* ---- settings, and what comes of them ---- */

static size_t read_settings(struct import_settings *settings, const char *text, size_t len)
{
    char *copy = need_memory(len + 1);

    memcpy(copy, text, len);
    copy[len] = '\0';
    return import_settings_read(settings, copy, len);
}

static void lines_of_postconf(void)
{
    static const struct {
        const char *text;
        size_t len, line;
    } bad[] = {
        {"a = b", 5, 1},      {"a = b\nwords\n", 12, 2},
        {"\n", 1, 1},         {"= b\n", 4, 1},
        {" a = b\n", 7, 1},   {"a b = c\n", 8, 1},
        {"a = b\0c\n", 8, 1}, {"a = b\nc = d\n\0", 13, 3},
        {"a\n = b\n", 7, 1},  {"a = b\nc\0 = d\n", 13, 2},
    };
    static const char good[] = "a = b = c\nempty =\nx=y \t\nm = {a \1\2b}\n";
    struct import_settings settings;

    REQUIRE(read_settings(&settings, good, sizeof good - 1) == 0, "refused");
    CHECK(settings.n == 4, "%zu settings", settings.n);
    CHECK_TEXT(import_setting(&settings, "a"), "b = c", "a");
    CHECK_TEXT(import_setting(&settings, "empty"), "", "empty");
    CHECK_TEXT(import_setting(&settings, "x"), "y", "x");
    CHECK_TEXT(import_setting(&settings, "m"), "{a \tb}", "m");
    CHECK(import_setting(&settings, "b") == NULL, "a setting that is not there");
    import_settings_free(&settings);
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t line = read_settings(&settings, bad[i].text, bad[i].len);

        CHECK(line == bad[i].line, "case %zu: line %zu, expected %zu", i, line, bad[i].line);
        import_settings_free(&settings);
    }
    CHECK(read_settings(&settings, "", 0) == 0 && settings.n == 0, "nothing");
    import_settings_free(&settings);
}

/* All that Postfix says: raw and expanded are the same but for $read. */
static void decide(struct import *import, const char *version, const char *read,
                   const char *expanded, const char *more, const char *overrides)
{
    struct import_settings *const settings[] = {&import->raw, &import->over, &import->read_by,
                                                &import->plain, &import->over_x};
    int status;

    memset(import, 0, sizeof *import);
    said[0] = '\0';
    for (size_t i = 0; i < COUNT(settings); i++) {
        char text[16384];
        bool over = i == 1 || i == 4;

        if (over)
            snprintf(text, sizeof text, "%s", overrides);
        else
            snprintf(text, sizeof text, "mail_version = %s\nproxy_read_maps = %s\n%s", version,
                     i == 0 ? read : expanded, more);
        REQUIRE(read_settings(settings[i], text, strlen(text)) == 0, "a bad line in %s", text);
    }
    status = import_decide(import);
    REQUIRE(status == EX_OK, "status %d: %s", status, said);
}

/* NAME(FROM, FROM) NAME(FROM) */
static void check_list(const struct import *import, const struct import_list *list,
                       const char *expected, const char *about)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < list->n; i++) {
        fprintf(out, "%s%s(", i > 0 ? " " : "", list->names[i]->name);
        import_print_from(out, import, list->names[i]);
        fputc(')', out);
    }
    fclose(out);
    CHECK_TEXT(text, expected, about);
    free(text);
}

static void parameters(void)
{
    struct import import;

    decide(&import, "3.7.11", "$a ${b} $(c) $$d ${x?{$e}:{none}} $undefined $/ proxy:hash:/own $",
           "proxy:hash:/1 proxy:hash:/2 proxy:hash:/1 proxy:hash:/5 proxy:hash:/own",
           "a = proxy:hash:/1\nb = proxy:hash:/2, proxy:hash:/1\nc = proxy:hash:/1\n"
           "d = proxy:hash:/2\ne = proxy:hash:/5\nunused = proxy:hash:/6\n",
           "");
    check_list(&import, &import.approved,
               "hash:/1(a, b, c) hash:/2(b) hash:/5(e) hash:/own(proxy_read_maps)", "approved");
    check_list(&import, &import.denied, "hash:/6(unused)", "denied");
    CHECK_TEXT(said, "", "what was said");
    import_free(&import);
}

static void classes(void)
{
    static const struct {
        const char *version;
        bool approves;
    } versions[] = {{"3.7.11", false}, {"3.10.0", false},  {"2.11.3", false},
                    {"3.11.0", true},  {"3.11-RC1", true}, {"3.12-20260821", true},
                    {"4.0.1", true},   {"3", false},       {"10.0", true},
                    {"words", false}};
    struct import import;

    for (size_t i = 0; i < COUNT(versions); i++) {
        decide(&import, versions[i].version, "$a", "proxy:hash:/a",
               "a = proxy:hash:/a\nk = check_x proxy:hash:/k, reject\n"
               "smtpd_restriction_classes = j, k\n",
               "");
        check_list(&import, &import.approved,
                   versions[i].approves ? "hash:/a(a) hash:/k(k (restriction class))"
                                        : "hash:/a(a)",
                   versions[i].version);
        check_list(&import, &import.denied,
                   versions[i].approves ? "" : "hash:/k(k (restriction class))",
                   versions[i].version);
        import_free(&import);
    }
}

static void overrides(void)
{
    struct import import;

    decide(&import, "3.7.11", "$a", "proxy:hash:/over proxy:hash:/a", "a = proxy:hash:/a\n",
           "proxymap/unix/proxy_read_maps = proxy:hash:/over $a\n"
           "smtp/inet/b = proxy:hash:/denied, proxy:hash:/a\n"
           "smtp/inet/proxy_read_maps = proxy:hash:/ignored\n"
           "proxywrite/unix/proxy_write_maps = proxy:hash:/ignored2\n");
    check_list(&import, &import.approved, "hash:/over(proxy_read_maps) hash:/a(a)", "approved");
    check_list(&import, &import.denied, "hash:/denied(smtp/inet/b)", "denied");
    import_free(&import);
}

static void written_tables(void)
{
    struct import import;

    decide(&import, "3.7.11", "$a", "proxy:hash:/a",
           "a = proxy:hash:/a\ncache = proxy:btree:/c\nproxy_write_maps = proxy:btree:/c\n", "");
    check_list(&import, &import.denied, "", "what proxywrite serves");
    import_free(&import);
}

static void existence(void)
{
    static const struct {
        const char *more, *over;
        bool existence;
    } cases[] = {
        {"local_recipient_maps = proxy:unix:passwd.byname\n", "", true},
        {"local_recipient_maps = unionmap:{proxy:unix:passwd.byname}\n",
         "smtp/inet/local_recipient_maps = proxy:unix:passwd.byname\n", true},
        {"local_recipient_maps = proxy:unix:passwd.byname\nother = proxy:unix:passwd.byname\n", "",
         false},
        {"local_recipient_maps = proxy:unix:passwd.byname\n",
         "smtp/inet/other = proxy:unix:passwd.byname\n", false},
        {"local_recipient_maps =\n", "", false},
    };
    struct import import;

    for (size_t i = 0; i < COUNT(cases); i++) {
        decide(&import, "3.7.11", "$local_recipient_maps", "proxy:unix:passwd.byname",
               cases[i].more, cases[i].over);
        CHECK(import.existence == cases[i].existence, "case %zu", i);
        import_free(&import);
    }
}

static void unknown_settings(void)
{
    struct import import;

    memset(&import, 0, sizeof import);
    said[0] = '\0';
    CHECK(import_decide(&import) == EX_PROTOCOL, "no settings at all");
    CHECK(strstr(said, "does not print proxy_read_maps") != NULL, "\"%s\"", said);
    import_free(&import);
}

/* ---- printing ---- */

static char *print(const struct import *import, const char *socket, const char *owner)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    REQUIRE(out != NULL, "out of memory");
    import_print(
        out, import,
        &(struct import_place){
            .directory = "/etc/post\nfix", .socket = socket, .owner = owner, .group = "postfix"});
    fclose(out);
    return text;
}

static void whole_policy(void)
{
    static const char expected[] =
        "# jailmapd.conf(5), printed by `jailmap import` from the configuration of Postfix 3.7.11\n"
        "# in /etc/post\\x0afix. It approves what Postfix's own proxymap(8) approves for reading.\n"
        "# Each table has with it the parameters that name it.\n"
        "\n"
        "listen \"/q/\\\"s\" {\n"
        "    protocol = proxymap\n"
        "    owner = \"postfix\"\n"
        "    group = \"postfix\"\n"
        "    mode = 0660\n"
        "}\n"
        "\n"
        "# a\n"
        "table \"hash:/a\" { }\n"
        "\n"
        "# a\n"
        "# This table is of a type that jailmapd does not serve yet; it stays with proxymap(8).\n"
        "#table \"ldap:/p\" { }\n"
        "\n"
        "# local_recipient_maps\n"
        "# Postfix wants to know no more than that a user exists.\n"
        "table \"unix:passwd.byname\" { reveal = existence }\n"
        "\n"
        "allow \"postfix\" {\n"
        "    tables = {\n"
        "        \"hash:/a\", # a\n"
        "        \"unix:passwd.byname\" # local_recipient_maps\n"
        "    }\n"
        "}\n"
        "\n"
        "# Daemons of Postfix open tables as root, before they become postfix.\n"
        "allow \"root\" {\n"
        "    tables = {\n"
        "        \"hash:/a\", # a\n"
        "        \"unix:passwd.byname\" # local_recipient_maps\n"
        "    }\n"
        "}\n"
        "\n"
        "# Postfix names these tables with proxy: too, but its proxymap(8) denies them, and so "
        "does "
        "this\n# file. Where one is needed, add it to proxy_read_maps in main.cf and import "
        "again.\n"
        "#     hash:/z # z\n";
    struct import import;
    char *text;

    decide(&import, "3.7.11", "$a $local_recipient_maps",
           "proxy:hash:/a proxy:ldap:/p proxy:unix:passwd.byname",
           "a = proxy:hash:/a proxy:ldap:/p\nlocal_recipient_maps = proxy:unix:passwd.byname\n"
           "z = proxy:hash:/z\n",
           "");
    text = print(&import, "/q/\"s", "postfix");
    CHECK_TEXT(text, expected, "a policy");
    free(text);
    import_free(&import);
}

static int open_printed(void *context, const char *name, char *why, size_t len)
{
    int fd = anonymous(context);

    CHECK(name[0] == '\0', "the policy includes %s", name);
    snprintf(why, len, "none");
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static struct policy *read_policy(char *text)
{
    const struct policy_files printed = {open_printed, text};

    said[0] = '\0';
    return policy_read(&printed, "/printed", said, sizeof said);
}

static void strange_names(void)
{
    static const char names[] =
        "proxy:static:\"}{proxy:static:\\x41 proxy:static:'#/**/ "
        "proxy:static:\x1b[2J proxy:static:${HOME} proxy:inline:{a=//,\t b} "
        "proxy:static:\xff\xfe proxy:hash:/a\"b proxy:hash:/a\\nb "
        "proxy:unix:passwd.byname proxy:unix:group.byname";
    struct import import;
    struct policy *policy;
    size_t matched = 0;
    char *text;

    decide(&import, "3.7.11", "", names, "", "");
    text = print(&import, "/q/s", "postfix");
    for (const char *at = text; *at != '\0'; at++)
        CHECK(*at == '\n' || (*at >= 0x20 && *at < 0x7f), "byte %d is printed", *at);
    policy = read_policy(text);
    REQUIRE(policy != NULL, "refused: %s\n%s", said, text);
    REQUIRE(policy->ntables == import.approved.n && policy->nallows == 2, "%zu tables of %zu",
            policy->ntables, import.approved.n);
    for (size_t i = 0; i < policy->ntables; i++)
        matched += strcmp(policy->tables[i].name, import.approved.names[i]->name) == 0 &&
                   policy->allows[0].tables[i] && policy->allows[1].tables[i];
    CHECK(matched == policy->ntables, "%zu of %zu names came back", matched, policy->ntables);
    policy_free(policy);
    free(text);
    import_free(&import);
}

static void policies_that_are_read(void)
{
    static const char *const reads[] = {
        "",
        "proxy:pcre:/a",
        "proxy:pcre:/a proxy:hash:/b proxy:cidr:/c",
        "proxy:hash:/b proxy:pcre:/a",
        "proxy:hash:rel proxy:hash:/a/../b proxy:hash://c proxy:hash: proxy:static: "
        "proxy:hash:/d/. proxy:unix:x proxy:hash:/ok/.. proxy::x",
        "proxy:unionmap:{hash:/a, hash:/b}",
        "proxy:pipemap:{proxy:hash:/a, unionmap:{ldap:/x hash:/b}} proxy:ldap:/x",
        "proxy:unionmap:{unionmap:{hash:/a}x} proxy:pipemap: proxy:unionmap:{a} proxy:randmap:x",
        "proxy:sqlite:/nowhere/at.cf proxy:unionmap:{sqlite:/nowhere/at.cf} proxy:mysql:virt "
        "proxy:pgsql:rel/x proxy:mysql:/m.cf proxy:tcp:localhost:1 proxy:tcp:x proxy:socketmap:y "
        "proxy:socketmap:unix:/s:map proxy:environ:e proxy:fail:f proxy:regexp:{{/a/ b}} "
        "proxy:pcre:{ proxy:randmap:{a,b}",
    };
    static const char *const owners[] = {"postfix", "root"};
    struct import import;

    for (size_t i = 0; i < COUNT(reads) * 2; i++) {
        struct policy *policy;
        char *text;

        decide(&import, "3.7.11", "", reads[i / 2], "", "");
        text = print(&import, "/q/s", owners[i % 2]);
        policy = read_policy(text);
        if (CHECK(policy != NULL, "refused: %s\n%s", said, text))
            CHECK(policy->nallows == 2 - i % 2, "%zu allow sections", policy->nallows);
        policy_free(policy);
        free(text);
        import_free(&import);
    }
}

static void names_too_long(void)
{
    struct import_name name = {.name = need_memory(BRIDGE_NAME_MAX + 2)};
    struct import nothing = {.existence = false};

    memset(name.name, 'x', BRIDGE_NAME_MAX + 1);
    memcpy(name.name, "static:", 7);
    name.name[BRIDGE_NAME_MAX] = '\0';
    CHECK(import_unserved(&nothing, &name) == NULL, "the longest name");
    name.name[BRIDGE_NAME_MAX] = 'x';
    name.name[BRIDGE_NAME_MAX + 1] = '\0';
    CHECK(import_unserved(&nothing, &name) != NULL, "a longer one");
    free(name.name);
}

/* ---- tables that are more than a name ---- */

/* What is printed between the listener and the first allow section. */
static void check_tables(const char *reads, const char *expected)
{
    struct import import;
    char *text, *begin, *end;

    decide(&import, "3.7.11", "", reads, "", "");
    CHECK(import_databases(&import) == EX_OK, "the databases: %s", said);
    text = print(&import, "/q/s", "postfix");
    begin = strstr(text, "0660\n}\n");
    end = strstr(text, "\nallow ");
    REQUIRE(begin != NULL && end != NULL, "%s", text);
    *end = '\0';
    CHECK_TEXT(begin + 7, expected, reads);
    free(text);
    import_free(&import);
}

static void composites_bring_their_members(void)
{
    check_tables("proxy:pipemap:{proxy:hash:/a,unionmap:{hash:/b}} proxy:hash:/b",
                 "\n# proxy_read_maps\ntable \"pipemap:{proxy:hash:/a,unionmap:{hash:/b}}\" { }\n"
                 "\n# proxy_read_maps, unionmap:{hash:/b}\ntable \"hash:/b\" { }\n"
                 "\n# pipemap:{proxy:hash:/a,unionmap:{hash:/b}}\ntable \"hash:/a\" { }\n"
                 "\n# pipemap:{proxy:hash:/a,unionmap:{hash:/b}}\n"
                 "table \"unionmap:{hash:/b}\" { }\n");
    check_tables("proxy:unionmap:{ldap:/a}",
                 "\n# proxy_read_maps\n# This table has a member that jailmapd cannot serve; it "
                 "stays with proxymap(8).\n#table \"unionmap:{ldap:/a}\" { }\n"
                 "\n# unionmap:{ldap:/a}\n# This table is of a type that jailmapd does not serve "
                 "yet; it stays with proxymap(8).\n#table \"ldap:/a\" { }\n");
}

static void databases_are_named(void)
{
    int good = anonymous("# a file\nquery = select\n  1\ndbpath = /no\ndbpath = /db/\"x\n");
    int bad = anonymous("dbpath = relative\n");
    char reads[128], expected[512];

    snprintf(reads, sizeof reads, "proxy:sqlite:/proc/self/fd/%d", good);
    snprintf(expected, sizeof expected,
             "\n# proxy_read_maps\ntable \"sqlite:/proc/self/fd/%d\" "
             "{ database = \"/db/\\\"x\" }\n",
             good);
    check_tables(reads, expected);
    snprintf(reads, sizeof reads, "proxy:sqlite:/proc/self/fd/%d", bad);
    snprintf(expected, sizeof expected,
             "\n# proxy_read_maps\n# This table needs database = \"PATH\" with the dbpath of its "
             "file, where no absolute one can be read; it stays with proxymap(8).\n"
             "#table \"sqlite:/proc/self/fd/%d\" { }\n",
             bad);
    check_tables(reads, expected);
    CHECK(strstr(said, "no usable dbpath") != NULL, "\"%s\"", said);
    close(good);
    close(bad);
}

static void what_jailmapd_does_not_read(void)
{
    check_tables("proxy:mysql:virt",
                 "\n# proxy_read_maps\n# This table has its parameters in main.cf, which jailmapd "
                 "does not read; write them into a file and name its absolute path; it stays with "
                 "proxymap(8).\n#table \"mysql:virt\" { }\n");
    check_tables("proxy:tcp:x", "\n# proxy_read_maps\n# This table has a name that jailmapd does "
                                "not understand; it stays with proxymap(8).\n"
                                "#table \"tcp:x\" { }\n");
    check_tables("proxy:environ:e", "\n# proxy_read_maps\n# It is empty; set = {\"NAME=VALUE\", "
                                    "...} gives it entries.\ntable \"environ:e\" { }\n");
}

/* ---- comparing ---- */

static void check_diff(const struct import *import, const char *const *approved, size_t n,
                       size_t differences, const char *expected)
{
    char *text = NULL;
    size_t len, found;
    FILE *out = open_memstream(&text, &len);

    REQUIRE(out != NULL, "out of memory");
    found = import_diff(out, import, approved, n);
    fclose(out);
    CHECK(found == differences, "%zu differences, expected %zu", found, differences);
    CHECK_TEXT(text, expected, "differences");
    free(text);
}

static void differences(void)
{
    static const char *const same[] = {"ldap:/p", "hash:/b", "hash:/a"};
    static const char *const other[] = {"hash:/c", "hash:/b", "hash:/\"\n", "hash:/c"};
    struct import import;

    decide(&import, "3.7.11", "$m $n", "proxy:hash:/a proxy:hash:/b proxy:ldap:/p",
           "m = proxy:hash:/a\nn = proxy:hash:/a proxy:ldap:/p\n", "");
    check_diff(&import, same, COUNT(same), 0, "");
    check_diff(&import, other, COUNT(other), 4,
               "+ hash:/a  (m, n)\n"
               "+ ldap:/p  (n; it is of a type that jailmapd does not serve yet)\n"
               "- hash:/c\n- hash:/\\\"\\x0a\n");
    import_free(&import);
}

static void lists(void)
{
    struct import_list list = {0};
    static const char from[] = "p", more[] = "p";

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            char name[16];

            snprintf(name, sizeof name, "n:%d", i);
            import_list_add(&list, text_slice(name), round == 0 ? NULL : from);
        }
    import_list_add(&list, text_slice("n:7"), more);
    CHECK(list.n == 1000 && !list.failed, "%zu names", list.n);
    CHECK_TEXT(list.names[999]->name, "n:999", "the last name");
    CHECK(import_list_find(&list, "n:7")->nfrom == 1, "the same parameter twice");
    CHECK(import_list_find(&list, "n:1000") == NULL, "a name that is not there");
    import_list_free(&list);
    CHECK(list.n == 0, "names in an empty list");
    import_list_free(&list);
}

static const struct unit_test tests[] = {
    {"commas and white space part names, but not in braces", separators},
    {"only what begins with proxy: is approved, and without that", prefixes},
    {"a group in braces approves its first word", groups},
    {"unionmap and pipemap approve their members", composites},
    {"100,000 braces in each other do no harm", deep_nesting},
    {"a file stands for what it holds from Postfix 3.11 on", files},
    {"files that name themselves come to an end", files_that_name_themselves},
    {"pipes, directories and missing files are told of", files_that_are_none},
    {"logical lines are those of Postfix", logical_lines},
    {"the last value of main.cf counts, with its white space", values_of_main_cf},
    {"an override of master.cf is found with its white space", values_of_master_cf},
    {"white space is marked, but not in expressions, and comes back", marks},
    {"white space decides whether words are the same, not how much", words},
    {"lines of postconf that are no settings are numbered", lines_of_postconf},
    {"each table has the parameters that name it", parameters},
    {"restriction classes approve from Postfix 3.11 on", classes},
    {"overrides of master.cf: of proxymap, and of others", overrides},
    {"what proxywrite serves is not called denied", written_tables},
    {"users are only told to exist where nobody wants more", existence},
    {"settings that are not there are named", unknown_settings},
    {"the whole policy, word for word", whole_policy},
    {"strange names come back as they were", strange_names},
    {"what is printed can be read, whatever Postfix approves", policies_that_are_read},
    {"names are as long as the bridge lets them be", names_too_long},
    {"composites bring their members", composites_bring_their_members},
    {"the database of an sqlite table is that of its file", databases_are_named},
    {"what jailmapd does not read is said", what_jailmapd_does_not_read},
    {"differences are told in both directions", differences},
    {"a list has each name once", lists},
};

const struct unit_suite import_suite = {.name = "import", .tests = tests, .ntests = COUNT(tests)};
