/*
 * Tests of policy/config: what a configuration means, and that every mistake gives one line that
 * names the file, the line and what is wrong. Users and groups come from a name service of the
 * test's own, defined below in place of the C library's, so that no machine's accounts matter. Part
 * of the unit test program; makes nothing but anonymous files.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "tests/unit/unit.h"

/* ---- the name service ---- */

static uid_t jailmap_uid = 990;

struct passwd *getpwnam(const char *name)
{
    static const struct {
        char name[12];
        uid_t uid;
        gid_t gid;
    } users[] = {{"root", 0, 0},           {"_jailmap", 990, 991}, {"postfix", 105, 110},
                 {"nobody", 65534, 65534}, {"toor", 0, 1000},      {"wheel0", 1000, 0},
                 {"4711", 4712, 4712}};
    static struct passwd pw;

    errno = 0;
    for (size_t i = 0; i < COUNT(users); i++)
        if (strcmp(name, users[i].name) == 0) {
            pw.pw_name = (char *)users[i].name;
            pw.pw_uid = i == 1 ? jailmap_uid : users[i].uid;
            pw.pw_gid = users[i].gid;
            return &pw;
        }
    return NULL;
}

struct group *getgrnam(const char *name)
{
    static struct group root = {.gr_name = (char *)"root", .gr_gid = 0},
                        postfix = {.gr_name = (char *)"postfix", .gr_gid = 110};

    errno = 0;
    return strcmp(name, "root") == 0 ? &root : strcmp(name, "postfix") == 0 ? &postfix : NULL;
}

/* ---- reading ---- */

static char why[1024], made[64];

/* The files of one configuration: "" is the main one; a text that is NULL is a directory. */
struct file {
    const char *name, *text;
    size_t len;
};
struct files {
    const struct file *file;
    size_t n;
};

static int text_file(const char *text, size_t len)
{
    int fd = memfd_create("jailmapd.conf", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && write(fd, text, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0,
            "cannot write a file: %s", strerror(errno));
    return fd;
}

/* A directory with empty files of those names. */
static int directory(const struct files *files, const char *name)
{
    char path[] = "/tmp/jailmap-unit.XXXXXX";
    int fd;

    REQUIRE(mkdtemp(path) != NULL, "no directory: %s", strerror(errno));
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < files->n; i++)
        if (strncmp(files->file[i].name, name, strlen(name)) == 0 &&
            strchr(files->file[i].name, '/') != NULL)
            close(openat(fd, strchr(files->file[i].name, '/') + 1, O_CREAT | O_WRONLY | O_CLOEXEC,
                         0600));
    /* What is open stays there while its names go. */
    snprintf(made, sizeof made, "%s", path);
    return fd;
}

static int open_file(void *context, const char *name, char *reason, size_t room)
{
    const struct files *files = context;

    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->file[i].name, name) == 0)
            return files->file[i].text != NULL ? text_file(files->file[i].text, files->file[i].len)
                                               : directory(files, name);
    snprintf(reason, room, "there is no such file");
    return -1;
}

static struct policy *read_files(const struct file *file, size_t n, char *reason, size_t room)
{
    struct files all = {file, n};

    return policy_read(&(struct policy_files){open_file, &all}, "/etc/jailmapd.conf", reason, room);
}

static struct policy *read_into(const char *text, size_t len, char *reason, size_t room)
{
    return read_files(&(struct file){"", text, len}, 1, reason, room);
}

static struct policy *read_text(const char *text)
{
    memset(why, 'x', sizeof why);
    return read_into(text, strlen(text), why, sizeof why);
}

/* Must be accepted; the caller frees it. */
static struct policy *good(const char *text)
{
    struct policy *policy = read_text(text);

    REQUIRE(policy != NULL, "refused: %s\n%s", why, text);
    return policy;
}

/* Must be refused in one line, beginning with file and line and holding each of the words. */
static void check_reason(const char *text, int line, const char *const *words)
{
    char begin[64];

    snprintf(begin, sizeof begin, "/etc/jailmapd.conf:%d:", line);
    CHECK(strncmp(why, begin, strlen(begin)) == 0, "\"%s\" does not begin with \"%s\"\n%s", why,
          begin, text);
    CHECK(strlen(why) > strlen(begin), "\"%s\" says nothing", why);
    CHECK(strchr(why, '\n') == NULL, "\"%s\" is not one line", why);
    for (; *words != NULL; words++)
        CHECK(strstr(why, *words) != NULL, "\"%s\" does not say \"%s\"", why, *words);
}

static void bad_bytes(const char *text, size_t len, int line, const char *const *words)
{
    struct policy *policy;

    memset(why, 'x', sizeof why);
    policy = read_into(text, len, why, sizeof why);
    if (!CHECK(policy == NULL, "accepted (expected: line %d, %s):\n%s", line,
               words[0] != NULL ? words[0] : "an error", text))
        policy_free(policy);
    else
        check_reason(text, line, words);
}

/* What is missing at the end shows in the last line, or just behind it. */
static void bad_at_end(const char *text)
{
    struct policy *p = read_text(text);
    const char file[] = "/etc/jailmapd.conf:";
    int last = 1, line;

    if (!CHECK(p == NULL, "accepted:\n%s", text)) {
        policy_free(p);
        return;
    }
    for (const char *at = text; *at != '\0'; at++)
        last += *at == '\n' && at[strspn(at, " \n")] != '\0';
    line = strncmp(why, file, strlen(file)) == 0 ? atoi(why + strlen(file)) : -1;
    CHECK(line == last || line == last + 1, "\"%s\" does not name line %d or %d", why, last,
          last + 1);
    CHECK(strchr(why, '\n') == NULL, "\"%s\" is not one line", why);
}

struct mistake {
    int line;
    const char *text;
    const char *words[4];
};

/* Each with a newline behind it. */
static void bad_each(const struct mistake *mistakes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[512];
        int len = snprintf(text, sizeof text, "%s\n", mistakes[i].text);

        bad_bytes(text, (size_t)len, mistakes[i].line, mistakes[i].words);
    }
}

/* ---- what a good file means ---- */

static const char full[] =
    "\n"                                                                                 /* 1 */
    "user = \"nobody\"\n"                                                                /* 2 */
    "runtime-dir = \"/run/other\"\n"                                                     /* 3 */
    "\n"                                                                                 /* 4 */
    "libexec-dir = /opt/libexec\n"                                                       /* 5 */
    "loaders = 3 control-group = 4711 listen \"/var/spool/postfix/private/jailmap\" {\n" /* 6 */
    "    protocol = proxymap\n"                                                          /* 7 */
    "    owner = postfix   group = postfix\n"                                            /* 8 */
    "    mode = 0640\n"                                                                  /* 9 */
    "    backlog = 7  max-request = 8192  request-timeout = 3\n"                         /* 10 */
    "    workers = 5  clients-per-worker = 17 max-use = 3 max-pending = 9\n"             /* 11 */
    "}\n"                                                                                /* 12 */
    "listen \"/b\" { owner = 12 group = \"34\" mode = 0 }\n"                             /* 13 */
    "table \"unix:passwd.byname\" { reveal = existence }\n"                              /* 14 */
    "table \"hash:/etc/aliases\" { owner = root }\n"                                     /* 15 */
    "table \"btree:/etc/postfix/virtual\" {\n"                                           /* 16 */
    "    owner = \"77\"\n"                                                               /* 17 */
    "    reveal = all  symlinks = follow  load-time = 9  load-memory = 64  image-size = 5\n" /* 18
                                                                                              */
    "}\n"                                                                  /* 19 */
    "table \"unix:group.byname\" { }\n"                                    /* 20 */
    "allow \"postfix\" { tables = {\"unix:passwd.byname\",\n"              /* 21 */
    "    \"btree:/etc/postfix/virtual\"} }\n"                              /* 22 */
    "allow \"root\" { tables = {\"*\"} }\n"                                /* 23 */
    "allow \"4711\" { tables = {} }\n" /* a number is a uid, not a name */ /* 24 */
    "limit \"*\" { misses-per-minute = 600 }\n"
    "limit postfix { clients = 20 lookups-per-second = 3 action = slow }\n"
    "limit \"4711\" { action = retry }\n"
    "allow nobody { tables = {\"hash:/etc/aliases\", \"hash:/etc/aliases\"} }"; /* 28, no newline */

static void check_full_listens(const struct policy *p)
{
    const struct policy_listen *l = p->listens;

    REQUIRE(p->nlistens == 2, "%zu listens", p->nlistens);
    CHECK_TEXT(l[0].path, "/var/spool/postfix/private/jailmap", "path");
    CHECK(l[0].uid == 105 && l[0].gid == 110 && l[0].mode == 0640, "%u:%u %o", l[0].uid, l[0].gid,
          l[0].mode);
    CHECK(l[0].backlog == 7 && l[0].max_request == 8192 && l[0].request_timeout == 3 &&
              l[0].workers == 5 && l[0].clients_per_worker == 17 && l[0].max_use == 3 &&
              l[0].max_pending == 9 << 20,
          "numbers of the first listen");
    CHECK(l[0].place.line == 6 && l[1].place.line == 13, "lines %d and %d", l[0].place.line,
          l[1].place.line);
    CHECK_TEXT(l[1].path, "/b", "path");
    CHECK(l[1].uid == 12 && l[1].gid == 34 && l[1].mode == 0, "%u:%u %o", l[1].uid, l[1].gid,
          l[1].mode);
}

static void check_full_tables(const struct policy *p)
{
    const struct policy_table *t = p->tables;

    REQUIRE(p->ntables == 4, "%zu tables", p->ntables);
    CHECK_TEXT(t[0].name, "unix:passwd.byname", "name");
    CHECK(t[0].type->type == TYPE_PASSWD && t[0].reveal == REVEAL_EXISTENCE && !t[0].symlinks,
          "passwd");
    CHECK_TEXT(t[0].path, "/etc/passwd", "source");
    CHECK(t[0].owner == POLICY_NO_OWNER, "no owner is accepted for it");
    CHECK_TEXT(t[1].name, "hash:/etc/aliases", "name");
    CHECK_TEXT(t[1].path, "/etc/aliases.db", "source");
    CHECK(t[1].type->type == TYPE_HASH && t[1].reveal == REVEAL_ALL && t[1].owner == 0, "aliases");
    CHECK_TEXT(t[2].path, "/etc/postfix/virtual.db", "source");
    CHECK(t[2].type->type == TYPE_BTREE && t[2].reveal == REVEAL_ALL && t[2].owner == 77,
          "virtual");
    CHECK(t[2].symlinks && t[2].load_time == 9 && t[2].load_memory == 64 && t[2].image_size == 5,
          "how virtual is loaded");
    CHECK(t[3].type->type == TYPE_GROUP && t[3].reveal == REVEAL_ALL, "group");
    CHECK_TEXT(t[3].path, "/etc/group", "source");
    CHECK(t[0].place.line == 14 && t[2].place.line == 16, "lines %d and %d", t[0].place.line,
          t[2].place.line);
}

static void check_full_limits(const struct policy *p)
{
    const struct policy_limit *l = policy_limit(p, 105);

    REQUIRE(p->nlimits == 3, "%zu limits", p->nlimits);
    CHECK(l->clients == 20 && l->lookups_per_second == 3 && l->misses_per_minute == 0 &&
              l->action == ACTION_SLOW,
          "limits of postfix");
    CHECK(policy_limit(p, 4711)->action == ACTION_RETRY, "limits of 4711");
    l = policy_limit(p, 0);
    CHECK(l->misses_per_minute == 600 && l->clients == 0 && l->action == ACTION_AUDIT,
          "limits of every user");
}

static void check_full_allows(const struct policy *p)
{
    static const struct {
        const char *title;
        uid_t uid;
        bool tables[4];
    } want[] = {
        {"postfix", 105, {true, false, true, false}},
        {"root", 0, {true, true, true, true}},
        {"4711", 4711, {false, false, false, false}},
        {"nobody", 65534, {false, true, false, false}},
    };

    REQUIRE(p->nallows == COUNT(want), "%zu allows", p->nallows);
    for (size_t i = 0; i < COUNT(want); i++) {
        CHECK_TEXT(p->allows[i].title, want[i].title, "title");
        CHECK(p->allows[i].uid == want[i].uid, "uid %u", p->allows[i].uid);
        CHECK(memcmp(p->allows[i].tables, want[i].tables, sizeof want[i].tables) == 0,
              "tables of %s", want[i].title);
    }
}

static void full_file(void)
{
    struct policy *p = good(full);

    CHECK_TEXT(p->user, "nobody", "user");
    CHECK(p->uid == 65534 && p->gid == 65534, "%u:%u", p->uid, p->gid);
    CHECK_TEXT(p->runtime_dir, "/run/other", "runtime-dir");
    CHECK_TEXT(p->libexec_dir, "/opt/libexec", "libexec-dir");
    CHECK(p->loaders == 3, "%u loaders", p->loaders);
    CHECK(p->control_gid == 4711, "control-group is %u", (unsigned)p->control_gid);
    CHECK(p->runtime_place.line == 3 && p->libexec_place.line == 5, "lines %d and %d",
          p->runtime_place.line, p->libexec_place.line);
    check_full_listens(p);
    check_full_tables(p);
    check_full_allows(p);
    check_full_limits(p);
    policy_free(p);
}

static void defaults(void)
{
    struct policy *p = good("listen \"/s\" { }\n");
    const struct policy_listen *l = p->listens;

    CHECK_TEXT(p->user, "_jailmap", "user");
    CHECK(p->uid == 990 && p->gid == 991, "%u:%u", p->uid, p->gid);
    CHECK_TEXT(p->runtime_dir, "/run/jailmap", "runtime-dir");
    CHECK(p->libexec_dir[0] == '/', "libexec-dir %s", p->libexec_dir); /* as it was built */
    CHECK(p->runtime_place.line == 0 && p->libexec_place.line == 0,
          "the defaults stand in no line");
    CHECK(p->loaders == 8, "%u loaders", p->loaders);
    CHECK(p->control_gid == POLICY_NO_GROUP, "control-group is %u", (unsigned)p->control_gid);
    REQUIRE(p->nlistens == 1, "%zu listens", p->nlistens);
    CHECK(l->uid == 0 && l->gid == 0 && l->mode == 0666, "%u:%u %o", l->uid, l->gid, l->mode);
    CHECK(l->backlog == 128 && l->max_request == 4194304 && l->request_timeout == 10 &&
              l->workers == 2 && l->clients_per_worker == 256 && l->max_use == 100000 &&
              l->max_pending == (128 + 16 * 4) << 20,
          "numbers of a listen");
    CHECK(p->ntables == 0 && p->nallows == 0, "tables or allows out of nowhere");
    policy_free(p);
    p = good("listen \"/s\" { }  table \"hash:/t\" { }  allow \"105\" { }");
    CHECK(p->tables[0].reveal == REVEAL_ALL && p->tables[0].owner == POLICY_NO_OWNER, "table");
    CHECK(!p->tables[0].symlinks && p->tables[0].load_time == 120 &&
              p->tables[0].load_memory == 4096 && p->tables[0].image_size == 0,
          "how a table is loaded");
    CHECK(!p->allows[0].tables[0], "an allow that names no table approves one");
    policy_free(p);
}

/* One file after the other: nothing of the first is left in the second. */
static void nothing_is_left_behind(void)
{
    for (int round = 0; round < 3; round++) {
        full_file();
        bad_bytes("frob\n", 5, 1, (const char *const[]){"frob", NULL});
        defaults();
        bad_bytes("listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/n\"} }\n", 54, 2,
                  (const char *const[]){"hash:/n", NULL});
    }
}

static void bounds_of_numbers(void)
{
    static const char listen[] = "listen \"/s\" {\n %s = %ld }\n",
                      table[] = "listen \"/s\" { } table \"hash:/t\" {\n %s = %ld }\n",
                      limit[] = "listen \"/s\" { }\nlimit \"*\" { %s = %ld }\n",
                      outside[] = "listen \"/s\" { }\n%s = %ld\n";
    static const struct {
        const char *text, *name;
        long low, high;
    } ranges[] = {
        {listen, "backlog", 1, 65535},
        {listen, "max-request", 4096, 1073741824},
        {listen, "request-timeout", 1, 86400},
        {listen, "answer-timeout", 1, 86400},
        {listen, "workers", 1, 64},
        {listen, "clients-per-worker", 1, 4096},
        {listen, "max-use", 1, 1000000000},
        {outside, "loaders", 1, 64},
        {table, "load-time", 1, 86400},
        {table, "load-memory", 16, 1048576},
        {table, "image-size", 1, 4095},
        {limit, "clients", 1, 1000000},
        {limit, "lookups-per-second", 1, 10000000},
        {limit, "misses-per-minute", 1, 600000000},
    };

    for (size_t i = 0; i < COUNT(ranges); i++) {
        const long bad[] = {ranges[i].low - 1, ranges[i].high + 1, 0,        -1,
                            4294967296,        4294967297,         LONG_MAX, LONG_MIN};
        char text[128];

        for (int high = 0; high < 2; high++) {
            snprintf(text, sizeof text, ranges[i].text, ranges[i].name,
                     high ? ranges[i].high : ranges[i].low);
            policy_free(good(text));
        }
        for (size_t b = 0; b < COUNT(bad); b++) {
            snprintf(text, sizeof text, ranges[i].text, ranges[i].name, bad[b]);
            bad_bytes(text, strlen(text), 2, (const char *const[]){ranges[i].name, "range", NULL});
        }
    }
}

static void modes(void)
{
    static const struct {
        const char *text;
        mode_t mode;
    } rows[] = {{"0666", 0666}, {"0600", 0600}, {"0777", 0777}, {"0000", 0}, {"00660", 0660}};
    static const struct mistake mistakes[] = {
        {1, "listen \"/s\" { mode = 666 }", {"mode", "leading zero"}},
        {1, "listen \"/s\" { mode = 01000 }", {"mode", "octal"}},
        {1, "listen \"/s\" { mode = 04755 }", {"mode", "octal"}},
        {1, "listen \"/s\" { mode = -1 }", {"mode"}},
        {1, "listen \"/s\" { mode = 0888 }", {"mode"}},
        {1, "listen \"/s\" { mode = rw }", {"mode"}},
        {1, "listen \"/s\" { mode = \"\" }", {"mode"}},
        {1, "listen \"/s\" { mode = 99999999999999999999 }", {"mode"}},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[64];
        struct policy *p;

        snprintf(text, sizeof text, "listen \"/s\" { mode = %s }", rows[i].text);
        p = good(text);
        CHECK(p->listens[0].mode == rows[i].mode, "%s is %04o", rows[i].text, p->listens[0].mode);
        policy_free(p);
    }
    bad_each(mistakes, COUNT(mistakes));
}

/* It must leave room for a client alone; by default, it grows with max-request. */
static void pending_and_request(void)
{
    static const struct mistake mistakes[] = {
        {1, "listen \"/s\" { max-pending = 15 }", {"max-pending", "at least 16"}},
        {1, "listen \"/s\" { max-pending = 3 }", {"max-pending", "range"}},
        {1, "listen \"/s\" { max-pending = 1048577 }", {"max-pending", "range"}},
        {1,
         "listen \"/s\" { max-pending = 4 max-request = 1048577 }",
         {"max-pending", "at least 5"}},
    };
    struct policy *p = good("listen \"/s\" { max-request = 1048576 max-pending = 4 }\n"
                            "listen \"/t\" { max-request = 1073741824 }");

    CHECK(p->listens[0].max_pending == 4 << 20, "as given");
    CHECK(p->listens[1].max_pending == (UINT64_C(128) << 20) + (UINT64_C(16) << 30), "by default");
    policy_free(p);
    bad_each(mistakes, COUNT(mistakes));
}

/* Read as decimal these would be 0620, 0670 and 0210: not what anybody means. */
static void mode_without_leading_zero(void)
{
    static const struct mistake mistakes[] = {
        {1, "listen \"/s\" { mode = 400 }", {"mode", "leading zero"}},
        {1, "listen \"/s\" { mode = 440 }", {"mode", "leading zero"}},
        {1, "listen \"/s\" { mode = 136 }", {"mode", "leading zero"}},
        {1, "listen \"/s\" { mode = 0x1b6 }", {"mode", "leading zero"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

/* ---- mistakes ---- */

static void unknown_words(void)
{
    static const struct mistake mistakes[] = {
        {1, "frob = 1\n", {"frob"}},
        {3, "\n\nlisen \"/s\" { }\n", {"lisen"}},
        {1, "frob \"x\" { y = 1 }", {"frob"}},
        {1, "User = \"nobody\"", {"User"}},
        {2, "listen \"/s\" {\n frob = 1\n}\n", {"frob"}},
        {2, "listen \"/s\" {\n reveal = all\n}\n", {"reveal"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { mode = 0600 }\n", {"mode"}},
        {2, "listen \"/s\" { }\nallow \"root\" { table = {\"*\"} }\n", {"table"}},
        {2, "listen \"/s\" { }\ntables = {\"*\"}\n", {"tables"}},
        {2, "listen \"/s\" {\n loaders = 2\n}\n", {"loaders"}},
        {2, "listen \"/s\" {\n symlinks = follow\n}\n", {"symlinks"}},
        {1, "load-time = 5\nlisten \"/s\" { }\n", {"load-time"}},
        {3, "listen \"/s\" { }\ntable \"hash:/t\" {\n loaders = 2 }\n", {"loaders"}},
        {2, "listen \"/s\" { }\nallow \"root\" { load-memory = 64 }\n", {"load-memory"}},
        {2, "listen \"/s\" {\n image-size = 64 }\n", {"image-size"}},
        {1, "include(\"/etc/passwd\")\n", {"include"}},
        {2, "listen \"/s\" { }\n\"\" = 3\n", {"\"\" is not known here", "loaders"}},
        {3, "listen \"/s\" {\n mode = 0600\n \"\"\n}\n", {"\"\" is not known here"}},
        {1, "user = \"r}\\x0at\"\n", {"unknown user \"r}\\x0at\""}},
        {1, "user = \"r}\nt\"\n", {"does not end on its line", "\" is expected"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void duplicate_titles(void)
{
    static const struct mistake mistakes[] = {
        {2, "listen \"/s\" { }\nlisten \"/s\" { }\n", {"duplicate", "/s"}},
        {4,
         "listen \"/s\" { }\ntable \"hash:/t\" { }\n\ntable \"hash:/t\" { }\n",
         {"duplicate", "hash:/t"}},
        {3, "listen \"/s\" { }\nallow \"root\" { }\nallow \"root\" { }\n", {"duplicate", "root"}},
        /* the same uid by another name */
        {3, "listen \"/s\" { }\nallow \"root\" { }\nallow \"0\" { }\n", {"root", "\"0\"", "uid 0"}},
        {3,
         "listen \"/s\" { }\nallow \"105\" { }\nallow \"postfix\" { }\n",
         {"postfix", "105", "same"}},
        {4,
         "listen \"/s\" { }\nallow \"105\" { }\nallow \"7\" { }\nallow \"0105\" { }\n",
         {"0105", "same"}},
        {3, "listen \"/s\" { }\nallow \"root\" { }\nallow \"toor\" { }\n", {"toor", "same"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void bad_types(void)
{
    static const struct mistake mistakes[] = {
        {1, "listen \"/s\" { backlog = many }", {"backlog", "number"}},
        {1, "listen \"/s\" { workers = 1.5 }", {"workers", "number"}},
        {1, "listen \"/s\" { workers = 2x }", {"workers", "number"}},
        {1, "listen \"/s\" { workers = \"\" }", {"workers"}},
        {1, "listen \"/s\" { backlog = 99999999999999999999 }", {"backlog", "range"}},
        {1, "loaders = many", {"loaders", "number"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { load-time = 2m }", {"load-time", "number"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { load-memory = 1G }", {"load-memory"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { image-size = \"\" }", {"image-size"}},
        {1, "user = {\"nobody\"}", {"{"}},
        {1, "user nobody", {"\"nobody\"", "= behind user is expected"}},
        {1, "user += \"nobody\"", {"user"}},
        {1, "listen { }", {"{ stands here", "the path of a socket"}},
        {1, "listen = \"/s\"", {"listen"}},
        {1, "listen \"/s\" \"/t\" { }", {"listen"}},
        {2, "listen \"/s\" { }\nallow \"root\" { tables = {\"a\" \"b\"} }", {"b"}},
        {2, "listen \"/s\" { }\nallow \"root\" { tables = {{\"a\"}} }", {"{"}},
        {1, "listen \"/s\" { protocol = { proxymap } }", {"{"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void words_of_a_list(void)
{
    static const struct mistake mistakes[] = {
        {2, "listen \"/s\" {\n protocol = socketmap\n}", {"protocol", "socketmap", "proxymap"}},
        {1, "listen \"/s\" { protocol = Proxymap }", {"Proxymap"}},
        {1, "listen \"/s\" { protocol = \"\" }", {"protocol", "proxymap"}},
        {2,
         "listen \"/s\" { }\ntable \"hash:/t\" { reveal = none }",
         {"reveal", "none", "all or existence"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { reveal = ALL }", {"ALL"}},
        {3, "listen \"/s\" { }\ntable \"hash:/t\" {\n reveal = existence2 }", {"existence2"}},
        {3,
         "listen \"/s\" { }\ntable \"hash:/t\" {\n symlinks = yes }",
         {"symlinks", "yes", "refuse or follow"}},
        {2, "listen \"/s\" { }\ntable \"hash:/t\" { symlinks = \"\" }", {"symlinks"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void unknown_users(void)
{
    static const struct mistake mistakes[] = {
        {1, "user = \"nosuch\"\nlisten \"/s\" { }\n", {"nosuch", "unknown user"}},
        {1, "user = \"\"\nlisten \"/s\" { }\n", {"unknown user"}},
        {1, "user = \"990\"\nlisten \"/s\" { }\n", {"990"}}, /* a name, never a number */
        {2, "listen \"/s\" {\n owner = nosuch\n}\n", {"nosuch", "unknown user"}},
        {3, "listen \"/s\" {\n\n group = nosuch\n}\n", {"nosuch", "unknown group"}},
        {1, "control-group = nosuch\nlisten \"/s\" { }\n", {"nosuch", "unknown group"}},
        {2, "listen \"/s\" {\n owner = -1\n}\n", {"-1"}},
        {2, "listen \"/s\" {\n owner = 4294967295\n}\n", {"4294967295"}}, /* means "no change" */
        {2, "listen \"/s\" {\n group = 4294967295\n}\n", {"4294967295"}},
        {2, "listen \"/s\" {\n owner = 18446744073709551616\n}\n", {"18446744073709551616"}},
        {2, "listen \"/s\" {\n owner = \" 5\"\n}\n", {"\" 5\""}},
        {2, "listen \"/s\" {\n owner = 5x\n}\n", {"5x"}},
        {2, "listen \"/s\" {\n owner = 0x5\n}\n", {"0x5"}},
        {3, "listen \"/s\" { }\ntable \"hash:/t\" {\n owner = nosuch }\n", {"nosuch"}},
        {2, "listen \"/s\" { }\nallow \"nosuch\" { }\n", {"nosuch", "unknown user"}},
        {2, "listen \"/s\" { }\nallow \"\" { }\n", {"unknown user"}},
        {2, "listen \"/s\" { }\nallow \"**\" { }\n", {"**"}},
        {2, "listen \"/s\" { }\nallow \"@no-such-group\" { }\n", {"no-such-group", "group"}},
        {2, "listen \"/s\" { }\nallow \"@\" { }\n", {"group"}},
        {2, "listen \"/s\" { }\nallow \"postfix \" { }\n", {"postfix "}},
        {2, "listen \"/s\" { }\nallow \"4294967295\" { }\n", {"4294967295"}},
        {2, "listen \"/s\" { }\nallow \"4294967296\" { }\n", {"4294967296"}}, /* not uid 0 */
        {2, "listen \"/s\" { }\nallow \"-5\" { }\n", {"-5"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void privileged_users(void)
{
    static const struct mistake mistakes[] = {
        {2, "\nuser = \"root\"\nlisten \"/s\" { }\n", {"root", "uid"}},
        {1, "user = \"toor\"\nlisten \"/s\" { }\n", {"toor", "uid"}},
        {1, "user = \"wheel0\"\nlisten \"/s\" { }\n", {"wheel0", "gid 0"}},
        {1, "user = \"0\"\nlisten \"/s\" { }\n", {"0"}},
        {2, "user = \"nobody\"\nuser = \"root\"\nlisten \"/s\" { }\n", {NULL}},
        {1, "user = \"root\"\nuser = \"nobody\"\nlisten \"/s\" { }\n", {"root"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

/* The default has to be as harmless as what the file says. */
static void privileged_default_user(void)
{
    struct policy *p;

    jailmap_uid = 0;
    p = read_text("listen \"/s\" { }\n");
    jailmap_uid = 990;
    CHECK(p == NULL, "the default user has uid 0, and that is accepted");
    if (p != NULL)
        policy_free(p);
    else
        CHECK(strstr(why, "_jailmap") != NULL && strstr(why, "uid") != NULL, "%s", why);
}

static void relative_paths(void)
{
    static const char *const bad[] = {"",       "s",     "run/s", "./s",  "../s", "~/s", "/",
                                      "//s",    "/a//s", "/a/",   "/./s", "/a/.", "/..", "/a/../s",
                                      "/a/./s", "/a/b/", "/a/..", "/a//", "//"};
    static const char *const fine[] = {"/s", "/a/.s", "/a/..s", "/a/s.", "/a/...", "/.a/b", "/ /s"};
    static const char *const forms[] = {"listen \"%s\" { }\n",
                                        "listen \"/s\" { } runtime-dir = \"%s\"\n",
                                        "listen \"/s\" { } libexec-dir = \"%s\"\n",
                                        "listen \"/s\" { } table \"hash:%s\" { }\n",
                                        "listen \"/s\" { } table \"btree:%s\" { }\n",
                                        "listen \"/s\" { } table \"cdb:%s\" { }\n",
                                        "listen \"/s\" { } table \"lmdb:%s\" { }\n",
                                        "listen \"/s\" { } table \"texthash:%s\" { }\n"};

    for (size_t f = 0; f < COUNT(forms); f++)
        for (size_t i = 0; i < COUNT(bad) + COUNT(fine); i++) {
            const char *path = i < COUNT(bad) ? bad[i] : fine[i - COUNT(bad)];
            const char *hole = strstr(forms[f], "%s");
            char text[128];

            if (strncmp(forms[f], "listen \"/s\"", 11) == 0 || strcmp(path, "/s") != 0)
                snprintf(text, sizeof text, "\n%.*s%s%s", (int)(hole - forms[f]), forms[f], path,
                         hole + 2);
            else
                continue;
            if (i < COUNT(bad))
                bad_bytes(text, strlen(text), 2, (const char *const[]){path, NULL});
            else
                policy_free(good(text));
        }
}

/* They would go into logs and on terminals as they are. */
static void control_characters_in_paths(void)
{
    static const char *const texts[] = {
        "listen \"/a\x01b\" { }\n",
        "listen \"/a\\nb\" { }\n",
        "listen \"/a\\x1b[2J\" { }\n",
        "runtime-dir = \"/a\\x7f\" listen \"/s\" { }\n",
        "table \"hash:/a\\tb\" { } listen \"/s\" { }\n",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        bad_bytes(texts[i], strlen(texts[i]), 1, (const char *const[]){NULL});
}

static void long_socket_paths(void)
{
    const size_t most = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;

    for (size_t len = most - 1; len <= most + 2; len++) {
        char path[128], text[256];

        memset(path, 'p', len);
        path[0] = '/';
        path[len] = '\0';
        snprintf(text, sizeof text, "listen \"%s\" { }\n", path);
        if (len <= most)
            policy_free(good(text));
        else
            bad_bytes(text, strlen(text), 1, (const char *const[]){"longer", "107", NULL});
    }
}

static void nothing_to_listen_on(void)
{
    bad_at_end("");
    bad_at_end("\n");
    bad_at_end("user = \"nobody\"");
    bad_at_end("user = \"nobody\"\n");
    bad_at_end("\n\ntable \"hash:/t\" { }\n");
    CHECK(strstr(why, "listen") != NULL, "\"%s\" does not say what is missing", why);
}

static void tables(void)
{
    static const struct mistake mistakes[] = {
        {2, "listen \"/s\" { }\ntable \"ldap:/t\" { }", {"ldap:/t", "unknown table type", "btree"}},
        {2, "listen \"/s\" { }\ntable \"hash\" { }", {"\"hash\"", "type"}},
        {2, "listen \"/s\" { }\ntable \"/etc/aliases\" { }", {"/etc/aliases", "type"}},
        {2, "listen \"/s\" { }\ntable \"\" { }", {"type"}},
        {2, "listen \"/s\" { }\ntable \":\" { }", {"type"}},
        {2, "listen \"/s\" { }\ntable \"Hash:/t\" { }", {"Hash:/t", "type"}},
        {2, "listen \"/s\" { }\ntable \"*\" { }", {"*"}},
        {2, "listen \"/s\" { }\ntable \"unix:shadow.byname\" { }", {"unix:", "passwd.byname"}},
        {2, "listen \"/s\" { }\ntable \"unix:\" { }", {"unix:"}},
        {2, "listen \"/s\" { }\ntable \"unix:passwd.byname2\" { }", {"unix:"}},
        {2, "listen \"/s\" { }\ntable \"hash:\" { }", {"relative"}},
        {2, "listen \"/s\" { }\ntable \"hash:etc/aliases\" { }", {"relative", "etc/aliases"}},
        {2, "listen \"/s\" { }\ntable \"inline:\" { }", {"inline:", "content"}},
        {3, "listen \"/s\" { }\n\ntable \"static:\" { }", {"static:", "content"}},
        {2, "listen \"/s\" { }\ntable \"texthash:\" { }", {"relative"}},
        {2, "listen \"/s\" { }\ntable \"static\" { }", {"\"static\"", "TYPE:NAME", "static"}},
        {2, "listen \"/s\" { }\ntable \"proxy:hash:/t\" { }", {"proxy:"}},
        {2, "listen \"/s\" { }\ntable \"proxy:unix:passwd.byname\" { }", {"proxy:"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

/* What stands behind the colon of these is no path, whatever it looks like. */
static void tables_without_a_source(void)
{
    static const char *const names[] = {"static:x",           "static:/etc/passwd",
                                        "static:../x",        "static:{}",
                                        "static: ",           "inline:{a=b, c=d}",
                                        "inline:{{a = b c}}", "inline:x",
                                        "static:a:b"};

    for (size_t i = 0; i < COUNT(names); i++) {
        char text[128];
        struct policy *p;

        snprintf(text, sizeof text, "listen \"/s\" { }\ntable \"%s\" { load-time = 5 }\n",
                 names[i]);
        p = good(text);
        CHECK_TEXT(p->tables[0].name, names[i], "name");
        CHECK(p->tables[0].path == NULL, "%s has the source %s", names[i], p->tables[0].path);
        policy_free(p);
    }
}

/* ---- answer tables and composites ---- */

static char *print(const struct policy *p, size_t *size);

static const char answered[] =
    "listen \"/s\" { }\n"
    "table \"mysql:/m.cf\" { processes = 7 timeout = 3 queue = 50 cache-ttl = 60\n"
    "    negative-cache-ttl = 5 cache-size = 9 reveal = existence owner = 12\n"
    "    load-memory = 77 load-time = 8 }\n"
    "table \"sqlite:/l.cf\" { database = \"/var/lib/l.db\" }\n"
    "table \"environ:x\" { set = {\"A=b\", \"C=\", 'D e=\"f=g'} reveal = existence }\n"
    "table \"environ:y\" { set = {} load-time = 3 }\n"
    "table \"unionmap:{cidr:{{10.0.0.0/8 x}}, proxy:pipemap:{hash:/a hash:/a}}\" { }\n"
    "table \"pipemap:{hash:/a hash:/a}\" { }\n"
    "table \"hash:/a\" { }\n"
    "table \"cidr:{{10.0.0.0/8 x}}\" { keys = \"0-9.\" }\n"
    "table \"pcre:/p\" { symlinks = follow }\n"
    "table \"socketmap:inet:[::1]:smtp:map\" { }\n"
    "table \"socketmap:unix:/run/s:map\" { }\n"
    "table \"tcp:localhost:65535\" { }\n"
    "table \"randmap:{a, {b c}}\" { }\n"
    "table \"fail:x\" { }\n"
    "table \"unix:passwd.byname\" { timeout = 2 }\n";

enum { MYSQL, SQLITE, ENVIRON, EMPTY, UNION, PIPE, HASH, CIDR, PCRE, MAP, UNIX_MAP, TCP, RANDOM };

static void check_answered(const struct policy *p)
{
    const struct policy_table *t = p->tables;

    REQUIRE(p->ntables == 15, "%zu tables", p->ntables);
    CHECK(t[MYSQL].load_memory == 77 && t[MYSQL].load_time == 8, "limits of an agent");
    CHECK(t[PCRE].load_memory == 1024 && t[SQLITE].load_memory == 4096 &&
              t[ENVIRON].load_memory == 4096,
          "usual limits of memory");
    CHECK(t[MYSQL].processes == 7 && t[MYSQL].timeout == 3 && t[MYSQL].queue == 50 &&
              t[MYSQL].cache_ttl == 60 && t[MYSQL].negative_cache_ttl == 5 &&
              t[MYSQL].cache_size == 9 && t[MYSQL].reveal == REVEAL_EXISTENCE,
          "options of mysql");
    CHECK_TEXT(t[MYSQL].path, "/m.cf", "the file of mysql");
    CHECK(t[SQLITE].processes == 4 && t[SQLITE].timeout == 10 && t[SQLITE].queue == 1000 &&
              t[SQLITE].cache_ttl == 0 && t[SQLITE].negative_cache_ttl == 0 &&
              t[SQLITE].cache_size == 4,
          "defaults");
    CHECK_TEXT(t[SQLITE].path, "/l.cf", "the file of sqlite");
    CHECK_TEXT(t[SQLITE].database, "/var/lib/l.db", "the database of sqlite");
    REQUIRE(t[ENVIRON].nset == 3 && t[EMPTY].nset == 0, "%zu entries", t[ENVIRON].nset);
    CHECK_TEXT(t[ENVIRON].set[2], "D e=\"f=g", "an entry");
    CHECK(t[HASH].processes == 0 && t[HASH].timeout == 0 && t[ENVIRON].queue == 0, "no agent");
    CHECK(t[CIDR].path == NULL && t[MAP].path == NULL && t[RANDOM].path == NULL, "paths of none");
    CHECK_TEXT(t[PCRE].path, "/p", "the file of pcre");
    CHECK(t[TCP + 3].timeout == 2 && t[TCP + 3].processes == 4, "options of unix");
    REQUIRE(t[UNION].nmembers == 2 && t[PIPE].nmembers == 2, "%zu members", t[UNION].nmembers);
    CHECK(t[UNION].members[0] == CIDR && t[UNION].members[1] == PIPE, "members of unionmap");
    CHECK(t[PIPE].members[0] == HASH && t[PIPE].members[1] == HASH, "members of pipemap");
    CHECK(policy_table_flags(p, UNION) == 32 && policy_table_flags(p, PIPE) == 16 &&
              policy_table_flags(p, HASH) == 28 && policy_table_flags(p, RANDOM) == 32,
          "flags");
}

static void answer_tables(void)
{
    struct policy *p = good(answered), *q;
    size_t size, again_size;
    char *text, *again;

    check_answered(p);
    text = print(p, &size);
    q = policy_parse(text, size, why, sizeof why);
    REQUIRE(q != NULL, "%s\n%s", why, text);
    check_answered(q);
    again = print(q, &again_size);
    CHECK(size == again_size && memcmp(text, again, size) == 0, "%s\n---\n%s", text, again);
    free(text);
    free(again);
    policy_free(p);
    policy_free(q);
}

/* Whatever a reader that was taken over reports. */
static void hostile_answer_tables(void)
{
    struct policy *p = good(answered);
    size_t size;
    char *text = print(p, &size);

    policy_free(p);
    for (size_t round = 0; round < 10000; round++) {
        char *copy = exact_copy(text, size);

        for (int i = 0; i < 4; i++)
            copy[(size_t)rand() % size] = "{}:,=\"a"[rand() % 7];
        why[0] = '\0';
        p = policy_parse(copy, size, why, sizeof why);
        CHECK((p == NULL) == (why[0] != '\0'), "%s", why);
        for (size_t i = 0; p != NULL && i < p->ntables; i++)
            CHECK(!p->tables[i].type->members || p->tables[i].nmembers > 0, "no members");
        policy_free(p);
        free(copy);
    }
    free(text);
}

static void options_that_mean_nothing(void)
{
    static const struct {
        const char *table, *option, *why;
    } rows[] = {
        {"hash:/t", "processes = 4", "hash, which no agent answers"},
        {"static:x", "timeout = 4", "static, which no agent answers"},
        {"environ:x", "queue = 4", "environ, which no agent answers"},
        {"texthash:/t", "cache-ttl = 4", "texthash, which no agent answers"},
        {"fail:x", "negative-cache-ttl = 4", "fail, which no agent answers"},
        {"randmap:{a}", "cache-size = 4", "randmap, which no agent answers"},
        {"randmap:{a}", "load-time = 4", "randmap, for which no process is started"},
        {"fail:x", "load-memory = 64", "fail, for which no process is started"},
        {"mysql:/t", "image-size = 64", "mysql, of which no image is made"},
        {"tcp:a:1", "image-size = 4", "tcp, of which no image is made"},
        {"tcp:a:1", "owner = 4", "tcp, which has no file"},
        {"inline:{a=b}", "symlinks = follow", "inline, which has no file"},
        {"pcre:{{/a/ b}}", "symlinks = follow", "pcre, which has its rules in its name"},
        {"mysql:/t", "database = \"/x\"", "mysql, which is not sqlite"},
        {"inline:{a=b}", "set = {\"a=b\"}", "inline, which is not environ"},
        {"unionmap:{hash:/t}", "reveal = all", "unionmap, whose members say what they reveal"},
        {"fail:x", "reveal = existence", "fail, which has nothing to hide"},
        {"unionmap:{hash:/t}", "max-key = 5", "unionmap, whose members have limits of their own"},
        {"pipemap:{hash:/t}", "keys = a-z", "pipemap, whose members have limits of their own"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[256], expected[256], name[32];

        snprintf(name, sizeof name, "%.*s", (int)strcspn(rows[i].option, " "), rows[i].option);
        snprintf(text, sizeof text, "listen \"/s\" { }\ntable '%s' {\n %s }\n", rows[i].table,
                 rows[i].option);
        snprintf(expected, sizeof expected,
                 "/etc/jailmapd.conf:3:2: %s means nothing for a table of type %s; leave it out",
                 name, rows[i].why);
        CHECK(read_text(text) == NULL, "accepted: %s", text);
        CHECK_TEXT(why, expected, text);
    }
}

static void names_of_answer_tables(void)
{
    static const struct {
        const char *table, *words;
    } rows[] = {
        {"mysql:virt", "main.cf"},
        {"pgsql:", "main.cf"},
        {"sqlite:virt/x", "main.cf"},
        {"mysql:./x", "relative path"},
        {"mysql:/a/../b", ".. component"},
        {"cidr:x", "relative path"},
        {"socketmap:", "content"},
        {"socketmap:x", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:h:25", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:h:0:m", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:h:65536:m", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:h:25:", "inet:HOST:PORT:MAP"},
        {"socketmap:inet::25:m", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:::1:25:m", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:[::1:25:m", "inet:HOST:PORT:MAP"},
        {"socketmap:inet:a b:25:m", "inet:HOST:PORT:MAP"},
        {"socketmap:unix:rel:m", "unix:/PATH:MAP"},
        {"socketmap:unix:/s", "unix:/PATH:MAP"},
        {"socketmap:unix::m", "unix:/PATH:MAP"},
        {"socketmap:unix:/123456789/123456789/123456789/123456789/123456789/123456789/123456789/"
         "123456789/123456789/123456789/1234567:m",
         "unix:/PATH:MAP"},
        {"tcp:", "content"},
        {"tcp:h", "HOST:PORT"},
        {"tcp:h:", "HOST:PORT"},
        {"tcp::1", "HOST:PORT"},
        {"tcp:[]:1", "HOST:PORT"},
        {"tcp:h:1:2", "HOST:PORT"},
        {"randmap:x", "one pair of braces"},
        {"randmap:{}", "{VALUE, "},
        {"unionmap:x", "one pair of braces"},
        {"pipemap:{}", "{TYPE:NAME, "},
        {"pipemap:{hash:/a, x}", "no TYPE:NAME"},
        {"unionmap:{unionmap:{hash:/a}x}", "one pair of braces"},
        {"fail:", "content"},
        {"environ:", "content"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[256];

        snprintf(text, sizeof text, "listen \"/s\" { }\ntable \"%s\" { }\n", rows[i].table);
        CHECK(read_text(text) == NULL, "accepted: %s", text);
        check_reason(text, 2, (const char *const[]){rows[i].words, "is expected", NULL});
    }
}

static void sets_and_databases(void)
{
    static const struct mistake mistakes[] = {
        {2, "listen \"/s\" { }\ntable \"sqlite:/l\" { }", {"database = \"/PATH\"", "dbpath"}},
        {2, "listen \"/s\" { }\ntable \"sqlite:/l\" { database = x }", {"relative path"}},
        {2, "listen \"/s\" { }\ntable \"environ:e\" { set = {\"a\"} }", {"NAME=VALUE"}},
        {2, "listen \"/s\" { }\ntable \"environ:e\" { set = {\"=a\"} }", {"NAME=VALUE"}},
        {2, "listen \"/s\" { }\ntable \"environ:e\" { set = \"a=b\" }", {"a list in braces"}},
        {2,
         "listen \"/s\" { }\ntable \"environ:e\" { set = {\"ab=b\", \"a=\", \"ab=c\"} }",
         {"names ab twice"}},
    };
    char *text = need_memory(BRIDGE_NAME_MAX + 128), *end;

    bad_each(mistakes, COUNT(mistakes));
    for (int more = 0; more < 2; more++) {
        struct policy *p;

        end = stpcpy(text, "listen \"/s\" { }\ntable \"environ:e\" { set = {\"a=b\", \"c=");
        memset(end, 'x', (size_t)(BRIDGE_NAME_MAX - 7 + more));
        strcpy(end + BRIDGE_NAME_MAX - 7 + more, "\"} }\n");
        p = read_text(text);
        CHECK((p != NULL) == (more == 0), "%d bytes: %s", BRIDGE_NAME_MAX + more, why);
        CHECK(p != NULL || strstr(why, "longer than 8192 bytes") != NULL, "%s", why);
        policy_free(p);
    }
    free(text);
}

/* A text with a composite of that many members, in that many composites, and all of them. */
static char *composite(unsigned count, unsigned depth)
{
    char *text = need_memory(65536), *end = text, *name = need_memory(8192), *inner;

    end = stpcpy(end, "listen \"/s\" { }\ntable \"hash:/a\" { }\n");
    strcpy(name, "hash:/a");
    for (unsigned i = 0; i < depth; i++) {
        inner = strdup(name);
        REQUIRE(inner != NULL, "out of memory");
        strcpy(stpcpy(stpcpy(name, "unionmap:{"), inner), i == 0 ? "" : "}");
        for (unsigned j = 1; i == 0 && j < count; j++)
            strcat(name, ",hash:/a");
        strcat(name, i == 0 ? "}" : "");
        end += sprintf(end, "table \"%s\" { }\n", name);
        free(inner);
    }
    free(name);
    return text;
}

static void composites(void)
{
    static const struct {
        unsigned count, depth;
        const char *why;
    } rows[] = {{64, 1, NULL},
                {65, 1, "more than 64 members"},
                {57, 8, NULL},
                {58, 8, "more than 64 members"},
                {1, 9, "more than 8 composites"}};
    static const struct mistake mistakes[] = {
        {3,
         "listen \"/s\" { }\ntable \"hash:/a\" { }\ntable \"unionmap:{hash:/a, cdb:/b}\" { }",
         {"unionmap:{hash:/a, cdb:/b}", "table \"cdb:/b\" { } is expected"}},
        {2,
         "listen \"/s\" { }\ntable \"unionmap:{pipemap:{hash:/a}}\" { }\ntable \"hash:/a\" { }",
         {"\"pipemap:{hash:/a}\", which is not declared"}},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *text = composite(rows[i].count, rows[i].depth);
        struct policy *p = read_text(text);

        CHECK((p != NULL) == (rows[i].why == NULL), "%u in %u: %s", rows[i].count, rows[i].depth,
              why);
        CHECK(rows[i].why == NULL || strstr(why, rows[i].why) != NULL, "%s", why);
        CHECK(p == NULL || policy_table_flags(p, p->ntables - 1) == 16, "flags");
        policy_free(p);
        free(text);
    }
    bad_each(mistakes, COUNT(mistakes));
}

/* Of a static table the client knows the value: it has named it. */
static void existence_of_a_static_table(void)
{
    static const struct mistake mistakes[] = {
        {4,
         "listen \"/s\" { }\ntable \"static:x\" {\n\n reveal = existence\n}\n",
         {"reveal", "static"}},
    };

    policy_free(good("listen \"/s\" { }\ntable \"static:x\" { reveal = all }\n"));
    policy_free(good("listen \"/s\" { }\ntable \"inline:{a=b}\" { reveal = existence }\n"));
    bad_each(mistakes, COUNT(mistakes));
}

static void undeclared_tables(void)
{
    static const struct mistake mistakes[] = {
        {2,
         "listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/t\"} }\n",
         {"root", "hash:/t", "not declared"}},
        /* the line of the value, not of the list or of the section */
        {7,
         "listen \"/s\" { }\n" /* 1 */
         "table \"hash:/t\" { }\n"
         "allow \"root\" {\n" /* 3 */
         "    tables = {\n"
         "        \"hash:/t\",\n" /* 5 */
         "\n"
         "        \"hash:/undeclared\",\n" /* 7 */
         "        \"hash:/t\"\n"
         "    }\n" /* 9 */
         "}\n",
         {"hash:/undeclared", "not declared"}},
        {6,
         "listen \"/s\" { }\n"
         "table \"hash:/t\" { }\n"
         "allow \"7\" { tables = {\"hash:/t\"} }\n"
         "allow \"root\" { tables = {\"*\",\n" /* 4 */
         "  \"hash:/t\", \"hash:/t\",\n"
         "  \"hash:/t2\"\n" /* 6 */
         "} }\n",
         {"hash:/t2"}},
        /* exactly: no prefix, no longer name, no other case, no proxy: */
        {1,
         "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"hash:/\"} }",
         {"hash:/"}},
        {1,
         "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"hash:/tt\"} }",
         {"/tt"}},
        {1,
         "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"hash:/T\"} }",
         {"/T"}},
        {1, "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"\"} }", {"\"\""}},
        {1, "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"**\"} }", {"**"}},
        {1,
         "listen \"/s\" { } table \"hash:/t\" { } allow \"7\" { tables = {\"proxy:hash:/t\"} }",
         {"proxy:"}},
    };
    struct policy *p = good("listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/t\"} }\n"
                            "table \"hash:/t\" { }\n");

    CHECK(p->allows[0].tables[0], "an allow above its table");
    policy_free(p);
    bad_each(mistakes, COUNT(mistakes));
}

/* The second list replaces the first; the complaint is about the line that counts. */
static void undeclared_table_in_a_second_list(void)
{
    static const struct mistake mistakes[] = {
        {6,
         "listen \"/s\" { }\n"
         "table \"hash:/t\" { }\n"
         "allow \"root\" {\n"
         "  tables = {\"hash:/t\"}\n" /* 4 */
         "\n"
         "  tables = {\"hash:/t2\"}\n" /* 6 */
         "}\n",
         {NULL}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

/* The last of two would win, and the first one be believed. */
static void options_given_twice(void)
{
    static const struct mistake mistakes[] = {
        {3, "user = \"nobody\"\nlisten \"/s\" { }\nuser = \"postfix\"\n", {"user", "twice"}},
        {3, "listen \"/s\" {\n mode = 0600\n mode = 0666\n}\n", {"mode", "twice"}},
        {3, "listen \"/s\" {\n owner = root\n owner = root\n}\n", {"owner", "twice"}},
        {2,
         "listen \"/s\" { }\ntable \"hash:/t\" { reveal = existence reveal = all }\n",
         {"reveal", "twice"}},
        {2,
         "listen \"/s\" { }\ntable \"hash:/t\" { symlinks = follow symlinks = follow }\n",
         {"symlinks", "twice"}},
        {3,
         "listen \"/s\" { }\ntable \"hash:/t\" { load-time = 5\n load-time = 6 }\n",
         {"load-time", "twice"}},
        {2,
         "listen \"/s\" { }\ntable \"hash:/t\" { load-memory = 16 load-memory = 16 }\n",
         {"load-memory", "twice"}},
        {2,
         "listen \"/s\" { }\ntable \"hash:/t\" { image-size = 16 image-size = 16 }\n",
         {"image-size", "twice"}},
        {2, "loaders = 5\nloaders = 5 listen \"/s\" { }\n", {"loaders", "twice"}},
        {2, "runtime-dir = /a\nruntime-dir = /b listen \"/s\" { }\n", {"runtime-dir", "twice"}},
        {2, "libexec-dir = /a\nlibexec-dir = /b listen \"/s\" { }\n", {"libexec-dir", "twice"}},
    };
    struct policy *p = good("listen \"/s\" { mode = 0600 backlog = 1 }\n"
                            "listen \"/t\" { mode = 0666 backlog = 1 }\n");

    CHECK(p->listens[0].mode == 0600 && p->listens[1].mode == 0666, "once in each section");
    policy_free(p);
    bad_each(mistakes, COUNT(mistakes));
}

static void broken_syntax(void)
{
    static const struct mistake mistakes[] = {
        {2, "listen \"/s\" { }\n}\n", {"} stands here", "ends no section"}},
        {1, "{", {NULL}},
        {1, "= 5", {"="}},
        {1, "listen \"/s\" { protocol = proxymap, }", {","}},
    };
    static const char *const cut_short[] = {
        "user = ",
        "user = \n",
        "user",
        "listen \"/s\" { }\nlisten",
        "listen \"/s\"\n",
        "listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/t\"",
        "listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/t\",\n",
        "listen \"/s\" { }\nallow \"root\" { tables = {",
        "listen \"/s\" { }\nallow \"root\" { tables = ",
        "listen \"/s\" { }\nallow \"root\" { tables",
        "listen \"/s\" { }\nallow \"root\" {\n tables =\n\n",
    };

    bad_each(mistakes, COUNT(mistakes));
    for (size_t i = 0; i < COUNT(cut_short); i++) {
        bad_at_end(cut_short[i]);
        CHECK(strstr(why, "end-of-file") == NULL, "\"%s\" speaks of what nobody wrote", why);
    }
}

/* As when a write stopped half-way: what is missing may have been a limit. */
static void section_without_end(void)
{
    static const char *const texts[] = {
        "listen \"/s\" { }\nlisten \"/t\" {",
        "listen \"/s\" { }\nlisten \"/t\" {\n",
        "listen \"/s\" { }\ntable \"hash:/t\" {",
        "listen \"/s\" { }\nlisten \"/t\" {\n mode = 0600",
        "listen \"/s\" { }\nallow \"root\" {\n tables = {\"*\"}",
        "listen \"/s\" { }\nallow \"root\" {\n tables = {\"*\"}\n",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        bad_at_end(texts[i]);
}

static void string_without_end(void)
{
    static const char *const texts[] = {
        "listen \"/s\" { }\nuser = \"nobody\n",
        "listen \"/s\" { }\nuser = \"nobody",
        "listen \"/s\" { }\nuser = 'nobody\n",
        "listen \"/s\" { }\ntable \"hash:/t { }\n",
        "listen \"/s\" { }\nallow \"root\" { tables = {\"hash:/t } }\n",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        bad_at_end(texts[i]);
}

static void last_line_without_newline(void)
{
    static const char *const texts[] = {"frob = 1", "user = \"root\"", "listen \"s\" { }",
                                        "listen \"/s\" {\n mode = 9999 }",
                                        "listen \"/s\" { }\nfrob = 1"};

    for (size_t i = 0; i < COUNT(texts); i++)
        bad_bytes(texts[i], strlen(texts[i]), strchr(texts[i], '\n') != NULL ? 2 : 1,
                  (const char *const[]){NULL});
}

/* Whoever writes a good configuration writes comments. */
static void comments_keep_the_lines(void)
{
    static const struct mistake mistakes[] = {
        {2, "# one\nfrob = 1\n", {"frob"}},
        {4, "# one\n#\n  # three\nfrob = 1\n", {"frob"}},
        {2, "user = nobody # one\nfrob = 1\n", {"frob"}},
        {2, "// one\nfrob = 1\n", {"frob"}},
        {2, "/* one */\nfrob = 1\n", {"frob"}},
        {4, "/* one\n * two\n */\nfrob = 1\n", {"frob"}},
        {4, "listen \"/s\" {\n  # one\n  backlog = 5 # two\n  frob = 1\n}\n", {"frob"}},
        {2, "listen \"/s\" { } # \"quoted { #\nfrob = 1\n", {"frob"}},
    };

    bad_each(mistakes, COUNT(mistakes));
}

static void comments_stand_anywhere(void)
{
    static const char *const texts[] = {
        "# a\nlisten \"/s\" { # b\n  # c\n} # d\ntable \"hash:/t#x\" { }\n# e",
        "listen /s { } table \"hash:/t#x\" { }\nallow root { tables = { # a\n\"*\", # b\n\"*\" } }",
        "listen \"/s\" /* here */ { backlog = /* and here */ 5 } table \"hash:/t#x\" { }",
        "listen // here\n \"/s\" { } table \"hash:/t#x\" { }",
    };

    for (size_t i = 0; i < COUNT(texts); i++) {
        struct policy *p = read_text(texts[i]);

        if (CHECK(p != NULL, "%s\n%s", why, texts[i]))
            CHECK_TEXT(p->tables[0].name, "hash:/t#x", "a # inside a string");
        policy_free(p);
    }
}

/* Everything behind it would be left out without a word. */
static void comment_without_end(void)
{
    struct policy *p = read_text("listen \"/s\" { }\n/* a comment\nallow \"root\" { }\n");

    CHECK(p == NULL, "accepted, without what follows the comment");
    policy_free(p);
}

static void binary_garbage(void)
{
    static const char png[] = "\x89PNG\r\n\x1a\nIHDR\x01\x02\x03\xff\xfe\n";
    uint64_t state = 99;
    char bytes[300];

    bad_bytes(png, sizeof png - 1, 1, (const char *const[]){NULL});
    for (int round = 0; round < 500; round++) {
        struct policy *p;
        size_t len = random_next(&state) % sizeof bytes;

        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)random_next(&state);
        p = read_into(bytes, len, why, sizeof why);
        CHECK(p == NULL, "round %d is accepted", round);
        policy_free(p);
        CHECK(strncmp(why, "/etc/jailmapd.conf:", 19) == 0, "round %d: %s", round, why);
    }
}

/* In place of any byte of a good file. */
static void null_byte(void)
{
    static const char *const texts[] = {"listen \"/s\" { }\n@", "listen \"/s\" { }\n@\n",
                                        "listen \"/s\" { }\n@ user = \"nobody\"\n",
                                        "listen \"/s\" { }\ntable @ { }\n"};

    for (size_t i = 0; i < COUNT(texts); i++) {
        char bytes[80];
        size_t len = strlen(texts[i]);

        memcpy(bytes, texts[i], len);
        *(char *)memchr(bytes, '@', len) = '\0';
        bad_bytes(bytes, len, 2, (const char *const[]){NULL});
    }
}

/* The name that is approved must be all of the name that is written. */
static void null_byte_inside_a_string(void)
{
    static const char raw[] = "listen \"/s\" { }\ntable \"hash:/t\0/more\" { }\n";
    static const char escaped[] = "listen \"/s\" { }\ntable \"hash:/t\\0/more\" { }\n";
    static const char in_hex[] = "listen \"/s\" { }\ntable \"hash:/t\\x00/more\" { }\n";

    bad_bytes(raw, sizeof raw - 1, 2, (const char *const[]){NULL});
    bad_bytes(escaped, sizeof escaped - 1, 2, (const char *const[]){NULL});
    bad_bytes(in_hex, sizeof in_hex - 1, 2, (const char *const[]){NULL});
}

static void mutated_files(void)
{
    uint64_t state = 12345;

    for (int round = 0; round < 1500; round++) {
        char text[sizeof full];
        size_t len = sizeof full - 1;
        struct policy *p;

        memcpy(text, full, len);
        for (unsigned n = 1 + (unsigned)(random_next(&state) % 4); n > 0; n--) {
            size_t at = random_next(&state) % len;

            if (random_next(&state) % 3 == 0)
                len = at + 1;
            text[at] = "{}\"'\\=,#/*\n\t$0a\x80"[random_next(&state) % 16];
        }
        if (text[len - 1] == '\\')
            text[len - 1] = '0';
        why[0] = '\0';
        p = read_into(text, len, why, sizeof why);
        CHECK(p != NULL || strncmp(why, "/etc/jailmapd.conf:", 19) == 0, "round %d: \"%s\"", round,
              why);
        policy_free(p);
    }
}

static void very_long_lines(void)
{
    static const char *const heads[] = {
        "listen \"/", "user = \"", "table \"hash:/", "# ", "listen \"/s\" { mode = ", "frob"};
    const size_t len = 64 << 10; /* no time to speak of, whatever it is */

    for (size_t i = 0; i < COUNT(heads); i++) {
        char *text = need_memory(len + 1);
        struct policy *p;

        memset(text, '7', len);
        memcpy(text, heads[i], strlen(heads[i]));
        memcpy(text + len - 6, "\" { }\n", 6);
        memset(why, 'x', sizeof why);
        p = read_into(text, len, why, sizeof why);
        CHECK(p == NULL, "\"%s\" and 64 KiB: accepted", heads[i]);
        CHECK(strncmp(why, "/etc/jailmapd.conf:", 19) == 0, "\"%s\" and 64 KiB: %.100s", heads[i],
              why);
        policy_free(p);
        free(text);
    }
}

static void many_sections(void)
{
    const int many = 2000;
    char *text = need_memory(200 * (size_t)many), *end = text;
    struct policy *p;

    end += sprintf(end, "listen \"/s\" { }\n");
    for (int i = 0; i < many; i++)
        end += sprintf(end, "table \"hash:/t%d\" { }\nallow \"%d\" { tables = {\"hash:/t%d\"} }\n",
                       i, i + 10, i);
    p = good(text);
    free(text);
    CHECK(p->ntables == (size_t)many && p->nallows == (size_t)many, "%zu, %zu", p->ntables,
          p->nallows);
    for (size_t i = 0; i < p->nallows; i++)
        for (size_t t = i > 5 ? i - 5 : 0; t < i + 5 && t < p->ntables; t++)
            CHECK(p->allows[i].tables[t] == (t == i), "allow %zu, table %zu", i, t);
    policy_free(p);
}

/* It is no template: a dollar is a dollar. */
static void environment_does_not_leak(void)
{
    struct policy *p;

    CHECK(setenv("JAILMAP_SECRET", "s3cret", 1) == 0, "setenv");
    p = good("listen \"/s${JAILMAP_SECRET}x\" { }\n");
    CHECK_TEXT(p->listens[0].path, "/s${JAILMAP_SECRET}x", "path");
    unsetenv("JAILMAP_SECRET");
    policy_free(p);
}

/* ---- places ---- */

static void columns(void)
{
    static const struct {
        const char *text, *begin;
    } rows[] = {
        {"lisen \"/s\" { }", ":1:1: \"lisen\" is not known here; did you mean \"listen\"?"},
        {"listen \"/s\" {\n  mdoe = 0600 }",
         ":2:3: \"mdoe\" is not known here; did you mean \"mode\"?"},
        {"listen \"/s\" {\n\tworkers = 0 }",
         ":2:12: workers = 0 is out of range; 1 to 64 is expected"},
        {"listen \"/s\" { } table \"hash:t\" { }", ":1:23: the path in table"},
        {"listen \"/s\" { }\nallow \"root\" { tables = {\"*\", \"hash:/t\"} }",
         ":2:31: allow \"root\" names"},
        {"listen \"/s\" { mode 0600 }", ":1:20: \"0600\" stands here; = behind mode is expected"},
        {"limit root { clients = 0 }",
         ":1:24: clients = 0 is out of range; 1 to 1000000, or no such line for no limit, is "
         "expected"},
        {"limit root { action = deny }",
         ":1:23: action = \"deny\" is not known; audit, slow or retry is expected"},
        {"limit \"@root\" { }",
         ":1:7: limit \"@root\" names a group; a user, or * for each user, is expected"},
        {"limit nosuch { }", ":1:7: unknown user \"nosuch\""},
        {"limit \"*\" { }\nlimit \"*\" { }", ":2:7: duplicate limit \"*\"; the first is in "},
        {"limit root { }\nlimit \"0\" { }",
         ":2:7: limit \"0\" and limit \"root\" in /etc/jailmapd.conf:1 are the same uid 0; one "
         "section for both is expected"},
        {"listen \"/s\" { mode = }", ":1:22: } stands here; a value is expected"},
        {"listen \"/s\" mode = 0600 }",
         ":1:13: \"mode\" stands here; { behind the title of the listen section is expected"},
        {"listen \"/s\" {\n  mode = 0600\ntable \"hash:/t\" { }",
         ":3:1: table begins inside the listen section that begins in line 1; } is expected before "
         "it"},
        {"listen \"/s\" { owner = \"po\\qx\" }", ":1:26: unknown escape"},
        {"listen \"/s\" { } allow \"root\" { tables = \"*\" }",
         ":1:41: \"*\" stands here; a list in braces, tables = {\"...\", \"...\"}, is expected"},
        {"listen \"/s\" { } allow \"root\" { tables = {\"*\" \"*\"} }",
         ":1:46: \"*\" stands here; , or } is expected"},
        {"listen \"/s\" { mode = 0600\n\n",
         ":1:26: the file ends inside the listen section that begins in line 1; } is expected"},
        {"listen \"/s\" { } listen \"/s\" { }",
         ":1:24: duplicate listen \"/s\"; the first is in /etc/jailmapd.conf:1"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy *p = read_text(rows[i].text);
        char begin[256];

        snprintf(begin, sizeof begin, "/etc/jailmapd.conf%s", rows[i].begin);
        CHECK(p == NULL, "accepted: %s", rows[i].text);
        CHECK(strncmp(why, begin, strlen(begin)) == 0, "\"%s\"\n   does not begin with\n\"%s\"",
              why, begin);
        policy_free(p);
    }
}

/* ---- include ---- */

#define FILE_OF(name, text)                                                                        \
    {                                                                                              \
        name, text, sizeof text - 1                                                                \
    }

static struct policy *include(const struct file *file, size_t n)
{
    struct policy *p;

    memset(why, 'x', sizeof why);
    p = read_files(file, n, why, sizeof why);
    for (size_t i = 0; i < n; i++) {
        const char *slash = strchr(file[i].name, '/');
        char path[256];

        if (slash != NULL) {
            snprintf(path, sizeof path, "%s%s", made, slash);
            unlink(path);
        }
    }
    rmdir(made);
    return p;
}

static void fragments_in_order(void)
{
    static const struct file files[] = {
        FILE_OF("", "listen \"/a\" { }\ninclude \"conf.d\" listen \"/z\" { }\n"),
        {"conf.d", NULL, 0},
        FILE_OF("conf.d/20-b.conf", "listen \"/c\" { }\nloaders = 3"),
        FILE_OF("conf.d/10-a.conf",
                "\nlisten \"/b\" { }\nallow \"root\" { tables = {\"hash:/t\"} }"),
        FILE_OF("conf.d/100.conf", "table \"hash:/t\" { }"),
        FILE_OF("conf.d/30-c.conf.bak", "nonsense"),
        FILE_OF("conf.d/.40.conf", "nonsense"),
        FILE_OF("conf.d/readme", "nonsense"),
    };
    static const char *const order[] = {"/a", "/b", "/c", "/z"};
    struct policy *p = include(files, COUNT(files));

    REQUIRE(p != NULL, "%s", why);
    REQUIRE(p->nlistens == 4 && p->loaders == 3, "%zu listeners, %u loaders", p->nlistens,
            p->loaders);
    for (size_t i = 0; i < 4; i++)
        CHECK_TEXT(p->listens[i].path, order[i], "listen");
    CHECK(p->allows[0].tables[0], "an allow of one file names a table of another");
    CHECK_TEXT(p->listens[1].place.file, "/etc/conf.d/10-a.conf", "file");
    CHECK(p->listens[1].place.line == 2 && p->listens[3].place.line == 2, "lines");
    CHECK_TEXT(p->listens[3].place.file, "/etc/jailmapd.conf", "file behind the include");
    policy_free(p);
}

static void mistakes_in_fragments(void)
{
    static const struct {
        struct file files[3];
        const char *why;
    } rows[] = {
        {{FILE_OF("", "\n include \"conf.d\""),
          {"conf.d", NULL, 0},
          FILE_OF("conf.d/a.conf", "\n frob = 1")},
         "/etc/conf.d/a.conf:2:2: \"frob\" is not known here"},
        {{FILE_OF("", "loaders = 2 include \"conf.d\""),
          {"conf.d", NULL, 0},
          FILE_OF("conf.d/a.conf", "loaders = 2")},
         "/etc/conf.d/a.conf:1:1: loaders is given twice; the first is in /etc/jailmapd.conf:1"},
        {{FILE_OF("", "include \"conf.d\""),
          {"conf.d", NULL, 0},
          FILE_OF("conf.d/a.conf", "include \"conf.d\"")},
         "/etc/conf.d/a.conf:1:1: include in an included file"},
        {{FILE_OF("", "listen \"/s\" { } include \"conf.d\""),
          {"conf.d", NULL, 0},
          FILE_OF("conf.d/a.conf", "listen \"/t\" {")},
         "/etc/conf.d/a.conf:1:14: the file ends inside the listen section"},
        {{FILE_OF("", "\ninclude \"conf.d\""), {"x", NULL, 0}, {"y", NULL, 0}},
         "/etc/jailmapd.conf:2:1: include \"conf.d\": there is no such file"},
        {{FILE_OF("", "include \"/etc/conf.d\""), {"x", NULL, 0}, {"y", NULL, 0}},
         "/etc/jailmapd.conf:1:9: include \"/etc/conf.d\" is not a plain name"},
        {{FILE_OF("", "include \"..\""), {"x", NULL, 0}, {"y", NULL, 0}},
         "/etc/jailmapd.conf:1:9: include \"..\" is not a plain name"},
        {{FILE_OF("", "include = \"conf.d\""), {"x", NULL, 0}, {"y", NULL, 0}},
         "/etc/jailmapd.conf:1:9: = stands here; the name of a directory"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy *p = include(rows[i].files, 3);

        CHECK(p == NULL, "accepted (expected: %s)", rows[i].why);
        CHECK(strncmp(why, rows[i].why, strlen(rows[i].why)) == 0,
              "\"%s\"\n   does not begin with\n\"%s\"", why, rows[i].why);
        policy_free(p);
    }
}

/* ---- there and back ---- */

static char *print(const struct policy *p, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    REQUIRE(out != NULL && policy_print(p, out) && fclose(out) == 0, "not printed");
    return text;
}

/* What is printed is read back without a name service, and is the same policy in every part. */
static void there_and_back(void)
{
    struct policy *p = good(full), *q;
    size_t size, again_size;
    char *text = print(p, &size), *again;

    q = policy_parse(text, size, why, sizeof why);
    REQUIRE(q != NULL, "%s\n%s", why, text);
    again = print(q, &again_size);
    CHECK(size == again_size && memcmp(text, again, size) == 0, "%s\n---\n%s", text, again);
    CHECK(q->uid == 65534 && q->gid == 65534 && q->loaders == 3, "globals");
    check_full_listens(q);
    check_full_tables(q);
    check_full_allows(q);
    check_full_limits(q);
    CHECK_TEXT(q->listens[1].place.file, "/etc/jailmapd.conf", "file");
    free(text);
    free(again);
    policy_free(p);
    policy_free(q);
}

static void odd_names_there_and_back(void)
{
    struct policy
        *p = good(
            "listen \"/a\\x22 b\\\\\" { }\ntable 'inline:{{\"k\" = ${x}}, {b = \xc3\xa4}}' { }\n"
            "allow \"postfix\" { tables = {'inline:{{\"k\" = ${x}}, {b = \xc3\xa4}}'} }"),
        *q;
    size_t size;
    char *text = print(p, &size);

    q = policy_parse(text, size, why, sizeof why);
    REQUIRE(q != NULL, "%s\n%s", why, text);
    CHECK_TEXT(q->listens[0].path, "/a\" b\\", "path");
    CHECK(p->listens[0].place.column == 8 && q->listens[0].place.column == 8, "columns %d and %d",
          p->listens[0].place.column, q->listens[0].place.column);
    CHECK_TEXT(q->tables[0].name, p->tables[0].name, "name");
    CHECK(q->allows[0].uid == 105 && q->allows[0].tables[0], "allow");
    CHECK_TEXT(q->allows[0].title, "postfix", "title");
    CHECK(q->listens[0].max_pending == p->listens[0].max_pending, "max-pending");
    free(text);
    policy_free(p);
    policy_free(q);
}

/* The text may come from a process that was taken over: whatever it is, no name is resolved, no
 * file is opened, and nothing is read behind its end. */
static void hostile_canonical_text(void)
{
    struct policy *p = good(full);
    size_t size;
    char *text = print(p, &size);

    policy_free(p);
    for (size_t round = 0; round < 20000; round++) {
        size_t len = round < size ? round : size;
        char *copy = need_memory(len + 1);

        memcpy(copy, text, len);
        if (round >= size)
            for (int i = 0; i < 3; i++)
                copy[(size_t)rand() % len] = (char)rand();
        why[0] = '\0';
        p = policy_parse(copy, len, why, sizeof why);
        CHECK((p == NULL) == (why[0] != '\0'), "%s", why);
        policy_free(p);
        free(copy);
    }
    free(text);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"user = nobody\nlisten \"/s\" { }",
                                            "listen \"/s\" { owner = postfix }",
                                            "include \"conf.d\""};

        p = policy_parse(names[i], strlen(names[i]), why, sizeof why);
        CHECK(p == NULL, "a name in a canonical text: %s", names[i]);
        policy_free(p);
    }
}

static void short_reason_buffers(void)
{
    static const char *const texts[] = {"frob = 1\n", "", "listen \"s\" { }", "user = \"root\""};

    for (size_t i = 0; i < COUNT(texts); i++)
        for (size_t room = 1; room < 100; room++) {
            char *reason = need_memory(room);
            struct policy *p = read_into(texts[i], strlen(texts[i]), reason, room);

            CHECK(p == NULL, "accepted with a buffer of %zu", room);
            CHECK(memchr(reason, '\0', room) != NULL, "no end in a buffer of %zu", room);
            policy_free(p);
            free(reason);
        }
}

static void freeing_nothing(void)
{
    policy_free(NULL);
}

static void table_types(void)
{
    const struct {
        const char *name, *path, *suffix;
        enum table_type type;
        uint32_t flags;
        bool agent, sequence, text, argument;
    } rows[] = {
        {"hash:/x", NULL, ".db", TYPE_HASH, 28, false, true, false, false},
        {"btree:/x", NULL, ".db", TYPE_BTREE, 28, false, true, false, false},
        {"cdb:/x", NULL, ".cdb", TYPE_CDB, 28, false, true, false, false},
        {"lmdb:/x", NULL, ".lmdb", TYPE_LMDB, 262172, false, true, false, false},
        {"texthash:/x", NULL, "", TYPE_TEXTHASH, 16, false, true, true, false},
        {"inline:{a=b}", NULL, NULL, TYPE_INLINE, 16, false, true, true, true},
        {"static:x", NULL, NULL, TYPE_STATIC, 16, false, false, false, true},
        {"unix:passwd.byname", "/etc/passwd", NULL, TYPE_PASSWD, 16, true, false, false, false},
        {"unix:group.byname", "/etc/group", NULL, TYPE_GROUP, 16, true, false, false, false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *reason;
        const struct table_type_info *info = table_type_of(rows[i].name, &reason);

        REQUIRE(info != NULL, "%s: %s", rows[i].name, reason);
        CHECK(info->type == rows[i].type && info == table_type_info(rows[i].type), "%s",
              rows[i].name);
        CHECK(info->flags == rows[i].flags, "%s has flags %u", rows[i].name, info->flags);
        CHECK((info->agent != NULL) == rows[i].agent && info->sequence == rows[i].sequence &&
                  info->text == rows[i].text && info->argument == rows[i].argument,
              "what %s can do", rows[i].name);
        CHECK_TEXT(info->path != NULL ? info->path : "", rows[i].path != NULL ? rows[i].path : "",
                   rows[i].name);
        CHECK((info->suffix == NULL) == (rows[i].suffix == NULL), "suffix of %s", rows[i].name);
        if (info->suffix != NULL && rows[i].suffix != NULL)
            CHECK_TEXT(info->suffix, rows[i].suffix, rows[i].name);
    }
    CHECK(table_type_info(0) == NULL && table_type_info(TYPE_PIPEMAP + 1) == NULL &&
              table_type_info(UINT32_MAX) == NULL,
          "a type of no number");
}

static const struct unit_test tests[] = {
    {"each table type has its flags and its way of being served", table_types},
    {"a full file means what it says", full_file},
    {"what a file leaves out has its default", defaults},
    {"one file leaves nothing behind for the next", nothing_is_left_behind},
    {"numbers have bounds, and keep them", bounds_of_numbers},
    {"max-pending leaves room for a request", pending_and_request},
    {"modes are octal", modes},
    {"a mode without its leading zero is refused", mode_without_leading_zero},
    {"unknown options and sections are named with their line", unknown_words},
    {"duplicate titles and uids are named with their line", duplicate_titles},
    {"values of the wrong type are named with their line", bad_types},
    {"wrong protocol and reveal: what is expected is said", words_of_a_list},
    {"unknown users and groups are named with their line", unknown_users},
    {"users with uid or gid 0 are refused", privileged_users},
    {"the default user is refused if it has uid 0", privileged_default_user},
    {"relative paths and empty, . and .. components are refused", relative_paths},
    {"control characters in paths are refused", control_characters_in_paths},
    {"the path of a socket has 107 bytes at most", long_socket_paths},
    {"a file without listen is refused", nothing_to_listen_on},
    {"unknown table types, sources and proxy: are refused", tables},
    {"the name of a table without a source is no path", tables_without_a_source},
    {"reveal = existence is refused for a static table", existence_of_a_static_table},
    {"answer tables and composites mean what they say, there and back", answer_tables},
    {"... and broken ones break nothing", hostile_answer_tables},
    {"an option that means nothing for a table is refused", options_that_mean_nothing},
    {"names of answer tables are what their agents read", names_of_answer_tables},
    {"sets and databases are whole", sets_and_databases},
    {"composites have declared members, and not too many", composites},
    {"an undeclared table is named with the line of that very value", undeclared_tables},
    {"... in a list that replaces another one, too", undeclared_table_in_a_second_list},
    {"an option given twice is refused", options_given_twice},
    {"broken syntax is named with its line", broken_syntax},
    {"the last line needs no newline to have its number", last_line_without_newline},
    {"a section that never ends is refused", section_without_end},
    {"a string that never ends is refused", string_without_end},
    {"comments do not shift the lines of complaints", comments_keep_the_lines},
    {"comments may stand anywhere", comments_stand_anywhere},
    {"a comment that never ends is refused", comment_without_end},
    {"binary garbage is refused", binary_garbage},
    {"a NUL byte is refused with its line", null_byte},
    {"a NUL byte inside a string does not cut it short", null_byte_inside_a_string},
    {"1,500 mutated files break nothing", mutated_files},
    {"lines of 64 KiB are refused", very_long_lines},
    {"2,000 tables and allows keep apart", many_sections},
    {"no variable of the environment gets into a policy", environment_does_not_leak},
    {"complaints name line and column, and what is meant", columns},
    {"fragments are read in the order of their names", fragments_in_order},
    {"mistakes in fragments are named with their file", mistakes_in_fragments},
    {"a policy that is printed is read back the same", there_and_back},
    {"... with odd names, too", odd_names_there_and_back},
    {"a hostile canonical text breaks nothing", hostile_canonical_text},
    {"a reason fits any buffer", short_reason_buffers},
    {"freeing no policy is no error", freeing_nothing},
};

const struct unit_suite config_suite = {.name = "config", .tests = tests, .ntests = COUNT(tests)};
