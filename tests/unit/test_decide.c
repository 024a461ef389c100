/*
 * Tests of policy/decide: who may use which table, exactly; and what the log says of a refusal, as
 * one printable line that would lift it. Part of the unit test program; touches nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy/policy.h"
#include "tests/unit/unit.h"

static char *const names[] = {(char *)"hash:/x", (char *)"hash:/x/long",
                              (char *)"unix:passwd.byname", (char *)"btree:/x"};

enum { X, X_LONG, PASSWD, TREE }; /* indices of these */

static struct policy_table tables[COUNT(names)];
static struct policy_listen listens[] = {{.path = (char *)"/s"}, {.path = (char *)"/t"}};
static bool all[] = {true, true, true, true}, some[] = {true, false, true, false},
            none[] = {false, false, false, false}, tree[] = {false, false, false, true};
static bool on_s[] = {true, false}, on_t[] = {false, true};
static char *star[] = {(char *)"*"},
            *some_words[] = {(char *)"hash:/x", (char *)"unix:passwd.byname"},
            *tree_words[] = {(char *)"btree:*"};
static struct policy_allow allows[] = {
    {.title = (char *)"root", .uid = 0, .tables = all, .words = star, .nwords = 1},
    {.title = (char *)"postfix", .uid = 105, .tables = some, .words = some_words, .nwords = 2},
    {.title = (char *)"7", .uid = 7, .tables = none},
    {.title = (char *)"8",
     .uid = 8,
     .tables = some,
     .words = some_words,
     .nwords = 2,
     .listens = on_s},
    {.title = (char *)"8",
     .uid = 8,
     .tables = tree,
     .words = tree_words,
     .nwords = 1,
     .listens = on_t},
};
static struct policy policy = {.listens = listens,
                               .nlistens = COUNT(listens),
                               .tables = tables,
                               .ntables = COUNT(tables),
                               .allows = allows,
                               .nallows = COUNT(allows)};

static struct policy_peer peer_of(uid_t uid)
{
    return (struct policy_peer){.uid = uid};
}

static int start(void)
{
    for (size_t i = 0; i < COUNT(names); i++)
        tables[i].name = names[i];
    return 0;
}

static enum policy_decision decide(uid_t uid, const char *name, size_t len, size_t *table)
{
    char *exact = exact_copy(name, len);
    struct policy_peer peer = peer_of(uid);
    enum policy_decision d = policy_decide(&policy, &peer, (struct slice){exact, len}, table);

    free(exact);
    return d;
}

/* ---- policy_decide ---- */

static void matrix(void)
{
    static const struct {
        uid_t uid;
        bool approved[COUNT(names)];
    } rows[] = {
        {0, {true, true, true, true}},
        {105, {true, false, true, false}},
        {7, {false, false, false, false}},
        {1, {false, false, false, false}},
        {104, {false, false, false, false}},
        {65534, {false, false, false, false}},
        {(uid_t)-1, {false, false, false, false}},
    };

    for (size_t r = 0; r < COUNT(rows); r++)
        for (size_t t = 0; t < COUNT(names); t++) {
            size_t table = 999;
            bool approved =
                decide(rows[r].uid, names[t], strlen(names[t]), &table) == POLICY_APPROVE;

            CHECK(approved == rows[r].approved[t], "uid %u, %s: %s", rows[r].uid, names[t],
                  approved ? "approved" : "denied");
            CHECK(!approved || table == t, "%s is table %zu", names[t], table);
        }
}

static void exact_names_only(void)
{
    static const struct {
        const char *name;
        size_t len;
    } rows[] = {
        {"", 0},
        {"hash:/", 6},   /* a prefix */
        {"hash:/x/", 8}, /* between two */
        {"hash:/x/lon", 11},
        {"hash:/x/longer", 14}, /* goes beyond one */
        {"hash:/x ", 8},
        {" hash:/x", 8},
        {"hash:/x\0", 8}, /* NUL behind and inside */
        {"hash:/x\0y", 9},
        {"\0hash:/x", 8},
        {"hash:\0/x", 8},
        {"hash:/X", 7}, /* case */
        {"HASH:/x", 7},
        {"hash://x", 8}, /* the same file by another name */
        {"hash:/./x", 9},
        {"hash:/x/../x", 12},
        {"proxy:hash:/x", 13},
        {"btree:/x/long", 13}, /* declared with another type */
        {"/x", 2},
        {"*", 1},
        {"hash:/*", 7},
        {"unix:group.byname", 17},
        {"unix:passwd_byname", 18},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t table;

        CHECK(decide(0, rows[i].name, rows[i].len, &table) == POLICY_DENY, "row %zu: \"%s\"", i,
              rows[i].name);
    }
}

static void slice_is_all_of_the_name(void)
{
    struct policy_peer root = peer_of(0), postfix = peer_of(105);
    size_t table;

    /* What stands behind the slice does not count. */
    CHECK(policy_decide(&policy, &root, (struct slice){"hash:/x/longer", 7}, &table) ==
                  POLICY_APPROVE &&
              table == 0,
          "hash:/x and more behind it");
    CHECK(policy_decide(&policy, &postfix, (struct slice){"hash:/x/long", 12}, &table) ==
              POLICY_DENY,
          "not approved for 105");
}

static void empty_policy(void)
{
    const struct policy empty = {0};
    struct policy only_tables = policy, only_allows = policy;
    struct policy_peer root = peer_of(0);
    size_t table;

    only_tables.nallows = 0;
    only_allows.ntables = 0;
    CHECK(policy_decide(&empty, &root, text_slice("hash:/x"), &table) == POLICY_DENY, "empty");
    CHECK(policy_decide(&only_tables, &root, text_slice("hash:/x"), &table) == POLICY_DENY,
          "no allow");
    CHECK(policy_decide(&only_allows, &root, text_slice("hash:/x"), &table) == POLICY_DENY,
          "no table");
}

/* ---- groups, anyone, listeners ---- */

/* By index in tables; uid 105 is named, everybody else is not. */
static bool group_some[] = {true, false, false, false}, any_tree[] = {false, false, false, true},
            group_long[] = {false, true, false, false}, user_passwd[] = {false, false, true, false};
static struct policy_allow wide_allows[] = {
    {.title = (char *)"postfix", .uid = 105, .tables = user_passwd},
    {.title = (char *)"@mail", .who = WHO_GROUP, .gid = 8, .tables = group_some},
    {.title = (char *)"@9", .who = WHO_GROUP, .gid = 9, .tables = group_long, .listens = on_t},
    {.title = (char *)"*", .who = WHO_ANYONE, .tables = any_tree, .listens = on_t},
};
static struct policy wide = {.listens = listens,
                             .nlistens = COUNT(listens),
                             .tables = tables,
                             .ntables = COUNT(tables),
                             .allows = wide_allows,
                             .nallows = COUNT(wide_allows)};

static void groups_and_anyone(void)
{
    static const struct {
        size_t listener;
        uid_t uid;
        gid_t groups[3];
        size_t ngroups;
        enum policy_standing standing;
        bool approved[COUNT(names)];
    } rows[] = {
        {0, 105, {0}, 0, STANDING_NAMED, {[PASSWD] = true}},
        {1, 105, {0}, 0, STANDING_NAMED, {[PASSWD] = true, [TREE] = true}},
        {0, 105, {8}, 1, STANDING_NAMED, {[X] = true, [PASSWD] = true}},
        {0, 8, {0}, 0, STANDING_NONE, {false}}, /* a uid is no gid */
        {0, 5, {105}, 1, STANDING_NONE, {false}},
        {0, 5, {8}, 1, STANDING_GUEST, {[X] = true}},
        {0, 5, {8, 9}, 2, STANDING_GUEST, {[X] = true}},
        {1, 5, {8, 9}, 2, STANDING_GUEST, {[X] = true, [X_LONG] = true, [TREE] = true}},
        {1, 5, {9}, 1, STANDING_GUEST, {[X_LONG] = true, [TREE] = true}},
        {1, 0, {0}, 0, STANDING_GUEST, {[TREE] = true}},
        {0, 0, {0}, 0, STANDING_NONE, {false}},
    };

    for (size_t r = 0; r < COUNT(rows); r++) {
        struct policy_peer peer = {rows[r].listener, rows[r].uid, rows[r].groups, rows[r].ngroups};

        CHECK(policy_standing(&wide, &peer) == rows[r].standing, "row %zu: standing %d", r,
              policy_standing(&wide, &peer));
        for (size_t t = 0; t < COUNT(names); t++) {
            size_t table = 999;
            bool approved =
                policy_decide(&wide, &peer, text_slice(names[t]), &table) == POLICY_APPROVE;

            CHECK(approved == rows[r].approved[t], "row %zu, %s: %s", r, names[t],
                  approved ? "approved" : "denied");
            CHECK(table == t, "%s is table %zu", names[t], table);
        }
    }
}

/* What makes no difference is left out, so that compartments are the same for the same rights. */
static void groups_are_reduced(void)
{
    static const struct {
        size_t listener;
        gid_t groups[6];
        size_t count, left;
        gid_t want[6];
    } rows[] = {
        {0, {0}, 0, 0, {0}},       {0, {1, 2, 105}, 3, 0, {0}},
        {0, {9, 8}, 2, 1, {8}},    {1, {9, 8}, 2, 2, {8, 9}},
        {1, {8, 9}, 2, 2, {8, 9}}, {1, {9, 1, 8, 9, 8, 9}, 6, 2, {8, 9}},
        {1, {8, 8, 8}, 3, 1, {8}},
    };

    for (size_t r = 0; r < COUNT(rows); r++) {
        gid_t *groups = (gid_t *)(void *)exact_copy(rows[r].groups, rows[r].count * sizeof *groups);
        size_t left = policy_reduce(&wide, rows[r].listener, groups, rows[r].count);

        CHECK(left == rows[r].left, "row %zu: %zu left", r, left);
        CHECK(memcmp(groups, rows[r].want, rows[r].left * sizeof *groups) == 0, "row %zu", r);
        free(groups);
    }
    CHECK(policy_asks_groups(&wide, 0) && !policy_asks_groups(&policy, 0), "asked for");
    CHECK(policy_count(&wide, 0, WHO_GROUP) == 1 && policy_count(&wide, 1, WHO_GROUP) == 2 &&
              policy_count(&wide, 0, WHO_ANYONE) == 0 && policy_count(&wide, 1, WHO_ANYONE) == 1 &&
              policy_count(&wide, 1, WHO_USER) == 1,
          "counts");
}

static void sections_of_a_listener(void)
{
    struct policy_peer peer = peer_of(8);
    size_t table;

    for (peer.listener = 0; peer.listener < 2; peer.listener++) {
        CHECK((policy_decide(&policy, &peer, text_slice("hash:/x"), &table) == POLICY_APPROVE) ==
                  (peer.listener == 0),
              "hash:/x on %zu", peer.listener);
        CHECK((policy_decide(&policy, &peer, text_slice("btree:/x"), &table) == POLICY_APPROVE) ==
                  (peer.listener == 1),
              "btree:/x on %zu", peer.listener);
    }
}

static void words_that_name_tables(void)
{
    static char *const odd_names[] = {(char *)"static:*", (char *)"inline:{a=b}"};
    struct policy_table odd_tables[COUNT(odd_names)] = {{.name = odd_names[0]},
                                                        {.name = odd_names[1]}};
    struct policy odd = {.tables = odd_tables, .ntables = COUNT(odd_tables)};
    static const struct {
        const char *word, *table;
        bool names;
    } rows[] = {
        {"*", "hash:/x", true},          {"hash:/x", "hash:/x", true},
        {"hash:/x", "hash:/y", false},   {"hash:*", "hash:/x", true},
        {"hash:*", "btree:/x", false},   {"hash:*", "hash:", true},
        {"hash:*", "hash", false},       {"has:*", "hash:/x", false},
        {"hash:/*", "hash:/x", false},   {"hash:/x*", "hash:/x", false},
        {"hash*", "hash:/x", false},     {"**", "hash:/x", false},
        {"static:*", "static:*", true},  {"static:*", "static:x", false}, /* that table alone */
        {"inline:*", "inline:{}", true},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        CHECK(policy_word_names(&odd, rows[i].word, text_slice(rows[i].table)) == rows[i].names,
              "\"%s\" and \"%s\"", rows[i].word, rows[i].table);
    CHECK(policy_word_names(&policy, "static:*", text_slice("static:x")), "no such table");
}

/* ---- policy_escape ---- */

/* What one byte becomes. */
static const char *escaped_byte(int byte)
{
    static char text[8];

    if (byte == '"' || byte == '\\')
        snprintf(text, sizeof text, "\\%c", byte);
    else if (byte < 0x20 || byte >= 0x7f)
        snprintf(text, sizeof text, "\\x%02x", byte);
    else
        snprintf(text, sizeof text, "%c", byte);
    return text;
}

static void escape_every_byte(void)
{
    char all_bytes[256], want[1100] = "", text[1100];

    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte;

        all_bytes[byte] = one;
        strcat(want, escaped_byte(byte));
        policy_escape((struct slice){&one, 1}, text, sizeof text);
        CHECK(strcmp(text, escaped_byte(byte)) == 0, "byte %d becomes \"%s\"", byte, text);
    }
    CHECK(policy_escape((struct slice){all_bytes, sizeof all_bytes}, text, sizeof text) == text,
          "it returns its buffer");
    CHECK_TEXT(text, want, "all bytes");
    for (const char *at = text; *at != '\0'; at++)
        CHECK(*at >= 0x20 && *at < 0x7f, "byte %d is not printable", *at);
}

/* In a small buffer: the beginning, in whole units, and an end. */
static void escape_into_small_buffers(void)
{
    static const char *const rows[] = {"",         "plain name", "\x01\x02\x03",
                                       "\"\"\"\"", "a\xff_b\"c", "\\\\\\\\"};

    for (size_t i = 0; i < COUNT(rows); i++) {
        char full[100];
        size_t full_len = strlen(policy_escape(text_slice(rows[i]), full, sizeof full));

        for (size_t len = 1; len < 40; len++) {
            char *text = need_memory(len);
            size_t got, at = 0;

            memset(text, 'x', len);
            policy_escape(text_slice(rows[i]), text, len);
            REQUIRE(memchr(text, '\0', len) != NULL, "row %zu: no end in %zu bytes", i, len);
            got = strlen(text);
            CHECK(strncmp(text, full, got) == 0, "row %zu in %zu bytes: %s", i, len, text);
            for (const char *byte = rows[i]; at < got; byte++)
                at += strlen(escaped_byte((unsigned char)*byte));
            CHECK(at == got, "row %zu in %zu bytes is cut inside a unit: %s", i, len, text);
            CHECK(got == full_len || len < full_len + 6, "row %zu is cut in %zu bytes", i, len);
            free(text);
        }
    }
}

static void escape_reads_its_slice_only(void)
{
    char text[32], *exact = exact_copy("abcdef", 6);

    CHECK_TEXT(policy_escape((struct slice){exact, 3}, text, sizeof text), "abc", "three bytes");
    CHECK_TEXT(policy_escape((struct slice){exact, 6}, text, sizeof text), "abcdef", "all");
    CHECK_TEXT(policy_escape((struct slice){NULL, 0}, text, sizeof text), "", "nothing");
    free(exact);
}

/* ---- policy_advice ---- */

static void advice_texts(void)
{
    static const struct {
        uid_t uid;
        size_t listener;
        const char *name, *text;
    } rows[] = {
        {105, 0, "hash:/x/long",
         "allow \"postfix\" { tables = {\"hash:/x\", \"unix:passwd.byname\", \"hash:/x/long\"} }"},
        {105, 0, "hash:/new",
         "table \"hash:/new\" { }  allow \"postfix\" { tables = {\"hash:/x\", "
         "\"unix:passwd.byname\", \"hash:/new\"} }"},
        {0, 0, "hash:/new", "table \"hash:/new\" { }  allow \"root\" { tables = {\"*\"} }"},
        {7, 0, "btree:/x", "allow \"7\" { tables = {\"btree:/x\"} }"},
        {8, 0, "btree:/x",
         "allow \"8\" { listen = {\"/s\"}  tables = {\"hash:/x\", \"unix:passwd.byname\", "
         "\"btree:/x\"} }"},
        {8, 1, "btree:/new",
         "table \"btree:/new\" { }  allow \"8\" { listen = {\"/t\"}  tables = {\"btree:*\"} }"},
        {8, 1, "hash:/x", "allow \"8\" { listen = {\"/t\"}  tables = {\"btree:*\", \"hash:/x\"} }"},
        {4711, 0, "hash:/x", "allow \"4711\" { tables = {\"hash:/x\"} }"},
        {4711, 0, "hash:/new",
         "table \"hash:/new\" { }  allow \"4711\" { tables = {\"hash:/new\"} }"},
        {4711, 0, "hash:/\n\"\\\x80",
         "table \"hash:/\\x0a\\\"\\\\\\x80\" { }  "
         "allow \"4711\" { tables = {\"hash:/\\x0a\\\"\\\\\\x80\"} }"},
        {4711, 0, "hash:/%s%n",
         "table \"hash:/%s%n\" { }  allow \"4711\" { tables = {\"hash:/%s%n\"} }"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy_peer peer = {.listener = rows[i].listener, .uid = rows[i].uid};
        char text[512];

        CHECK(policy_advice(&policy, &peer, text_slice(rows[i].name), text, sizeof text) == text,
              "it returns its buffer");
        CHECK_TEXT(text, rows[i].text, "advice");
    }
}

/* A client that a group or anyone's section lets in gets a section of its own, for its socket if it
 * has one elsewhere. */
static void advice_for_others(void)
{
    const gid_t mail[] = {8};
    struct policy_peer guest = {0, 5, mail, 1}, elsewhere = peer_of(8);
    struct policy only_s = policy;
    char text[512];

    policy_advice(&wide, &guest, text_slice("btree:/x"), text, sizeof text);
    CHECK_TEXT(text, "allow \"5\" { tables = {\"btree:/x\"} }", "a guest");
    only_s.nallows = 4;
    elsewhere.listener = 1;
    policy_advice(&only_s, &elsewhere, text_slice("btree:/x"), text, sizeof text);
    CHECK_TEXT(text, "allow \"8\" { listen = {\"/t\"}  tables = {\"btree:/x\"} }", "elsewhere");
}

static void advice_is_cut_at_its_buffer(void)
{
    struct policy_peer peer = peer_of(105);
    char full[512];
    size_t full_len =
        strlen(policy_advice(&policy, &peer, text_slice("hash:/new"), full, sizeof full));

    for (size_t len = 1; len < full_len + 8; len++) {
        char *text = need_memory(len);

        memset(text, 'x', len);
        policy_advice(&policy, &peer, text_slice("hash:/new"), text, len);
        REQUIRE(memchr(text, '\0', len) != NULL, "no end in %zu bytes", len);
        CHECK(strncmp(text, full, strlen(text)) == 0, "in %zu bytes it is another text", len);
        CHECK(strlen(text) == (len <= full_len ? len - 1 : full_len), "%zu of %zu bytes used",
              strlen(text), len);
        free(text);
    }
}

/* ---- an administrator who follows the advice ---- */

static int open_config(void *text, const char *name, char *why, size_t len)
{
    int fd = memfd_create("jailmapd.conf", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
                lseek(fd, 0, SEEK_SET) == 0,
            "no file");
    snprintf(why, len, "%s is not asked for", name);
    return fd;
}

static struct policy *read_config(char *text)
{
    char why[512];
    struct policy *p =
        policy_read(&(struct policy_files){open_config, text}, "jailmapd.conf", why, sizeof why);

    CHECK(p != NULL, "%s\n%s", why, text);
    return p;
}

/* Takes the advice to have name approved for uid 105, whose one table is that of the first. */
static void follow(const char *declared, struct slice name)
{
    char *text = need_memory(65536), *advice = need_memory(32768);
    struct policy_peer peer = peer_of(105), another = peer_of(106);
    struct policy *before, *after;
    size_t table;

    snprintf(text, 65536,
             "listen \"/s\" { }\ntable \"%s\" { }\nallow \"postfix\" { tables = {\"*\"} }\n",
             declared);
    before = read_config(text);
    if (before != NULL) {
        policy_advice(before, &peer, name, advice, 32768);
        snprintf(text, 65536, "listen \"/s\" { }\ntable \"%s\" { }\n%s\n", declared, advice);
        after = read_config(text);
        if (after != NULL) {
            CHECK(policy_decide(after, &peer, name, &table) == POLICY_APPROVE,
                  "\"%.*s\" is still denied with: %.120s", (int)(name.len < 80 ? name.len : 80),
                  name.ptr, advice);
            CHECK(policy_decide(after, &peer, text_slice(before->tables[0].name), &table) ==
                      POLICY_APPROVE,
                  "what was approved is denied with: %.120s", advice);
            CHECK(policy_decide(after, &another, name, &table) == POLICY_DENY,
                  "for another uid, too");
        }
        policy_free(after);
    }
    policy_free(before);
    free(text);
    free(advice);
}

static void advice_can_be_followed(void)
{
    static const char *const wanted[] = {"hash:/new",          "btree:/new",
                                         "unix:passwd.byname", "hash:/with space",
                                         "hash:/a#b",          "hash:/a'b",
                                         "hash:/a\"b",         "hash:/a\\b",
                                         "hash:/a\\",          "hash:/\xc3\xa9t\xc3\xa9",
                                         "hash:/$HOME",        "hash:/%s",
                                         "hash:/{a}",          "hash:/a,b",
                                         "hash:/a=b",          "cdb:/new",
                                         "lmdb:/new",          "texthash:/new",
                                         "inline:{a=b, c=d}",  "inline:{ {a = \"b c\"} }",
                                         "static:x",           "static:{a\tb}"};

    for (size_t i = 0; i < COUNT(wanted); i++)
        follow("hash:/declared", text_slice(wanted[i]));
}

/* In the language of the configuration this is a variable, unless it is escaped. */
static void advice_for_a_name_with_a_variable(void)
{
    clearenv();
    follow("hash:/declared", text_slice("hash:/a${HOME}b"));
}

static void advice_repeats_odd_names(void)
{
    follow("hash:/de\\\"cla\\\\red", text_slice("hash:/new"));
}

/* ---- composites ---- */

static char composites[] =
    "listen \"/s\" { }\n"
    "table \"hash:/a\" { }\ntable \"hash:/b\" { }\ntable \"hash:/c\" { }\n"
    "table \"unionmap:{hash:/a, proxy:hash:/b}\" { }\n"
    "table \"pipemap:{hash:/c unionmap:{hash:/a, proxy:hash:/b}}\" { }\n"
    "allow \"1\" { tables = {\"*\"} }\n"
    "allow \"2\" { tables = {\"unionmap:*\", \"hash:/a\"} }\n"
    "allow \"3\" { tables = {\"unionmap:*\", \"pipemap:*\", \"hash:/c\", \"hash:/a\"} }\n"
    "allow \"4\" { tables = {\"pipemap:*\", \"hash:*\"} }\n"
    "allow \"5\" { tables = {\"unionmap:*\", \"hash:/b\"} }\n"
    "allow \"@8\" { tables = {\"hash:/b\"} }\n";
static const char union_name[] = "unionmap:{hash:/a, proxy:hash:/b}";
static const char pipe_name[] = "pipemap:{hash:/c unionmap:{hash:/a, proxy:hash:/b}}";

static void composites_need_their_members(void)
{
    static const struct {
        uid_t uid;
        bool in_group, union_too, pipe_too;
    } rows[] = {{1, false, true, true},   {2, false, false, false}, {2, true, true, false},
                {3, false, false, false}, {3, true, true, true},    {4, false, false, false},
                {4, true, false, false},  {5, true, false, false},  {6, true, false, false}};
    struct policy *p = read_config(composites);
    const gid_t group = 8;
    size_t table;

    REQUIRE(p != NULL, "no policy");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy_peer peer = {0, rows[i].uid, &group, rows[i].in_group};

        CHECK((policy_decide(p, &peer, text_slice(union_name), &table) == POLICY_APPROVE) ==
                  rows[i].union_too,
              "unionmap for %u, row %zu", (unsigned)rows[i].uid, i);
        CHECK((policy_decide(p, &peer, text_slice(pipe_name), &table) == POLICY_APPROVE) ==
                  rows[i].pipe_too,
              "pipemap for %u, row %zu", (unsigned)rows[i].uid, i);
    }
    policy_free(p);
}

static void advice_for_composites(void)
{
    static const struct {
        uid_t uid;
        bool in_group;
        const char *name, *text;
    } rows[] = {
        {2, false, union_name,
         "allow \"2\" { tables = {\"unionmap:*\", \"hash:/a\", \"hash:/b\"} }"},
        {2, true, pipe_name,
         "allow \"2\" { tables = {\"unionmap:*\", \"hash:/a\", "
         "\"pipemap:{hash:/c unionmap:{hash:/a, proxy:hash:/b}}\", \"hash:/c\"} }"},
        {6, true, "unionmap:{hash:/new, hash:/b, hash:/new, pipemap:{proxy:hash:/b}}",
         "table \"unionmap:{hash:/new, hash:/b, hash:/new, pipemap:{proxy:hash:/b}}\" { }  "
         "table \"hash:/new\" { }  table \"pipemap:{proxy:hash:/b}\" { }  allow \"6\" { tables = "
         "{\"unionmap:{hash:/new, hash:/b, hash:/new, pipemap:{proxy:hash:/b}}\", "
         "\"hash:/new\", \"pipemap:{proxy:hash:/b}\"} }"},
        {6, false, "sqlite:/l.cf",
         "table \"sqlite:/l.cf\" { database = \"/ITS-DBPATH\" }  allow \"6\" { tables = "
         "{\"sqlite:/l.cf\"} }"},
        {6, false, "unionmap:{x",
         "table \"unionmap:{x\" { }  allow \"6\" { tables = {\"unionmap:{x\"} }"},
    };
    struct policy *p = read_config(composites);
    const gid_t group = 8;

    REQUIRE(p != NULL, "no policy");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy_peer peer = {0, rows[i].uid, &group, rows[i].in_group};
        char text[1024];

        CHECK_TEXT(policy_advice(p, &peer, text_slice(rows[i].name), text, sizeof text),
                   rows[i].text, rows[i].name);
    }
    policy_free(p);
    follow("hash:/declared", text_slice("unionmap:{hash:/declared, pipemap:{hash:/x cdb:/y}}"));
}

/* What a client may send: the line of the log is cut, and nothing else becomes of it. */
static void advice_for_a_deep_composite(void)
{
    enum { DEPTH = 700 };
    char name[8192] = "", text[1024];
    struct policy_peer peer = peer_of(4711);

    for (int i = 0; i < DEPTH; i++)
        strcat(name, "unionmap:{");
    strcat(name, "a:b");
    for (int i = 0; i < DEPTH; i++)
        strcat(name, "}");
    policy_advice(&policy, &peer, text_slice(name), text, sizeof text);
    CHECK(strlen(text) == sizeof text - 1, "%zu bytes", strlen(text));
}

static void advice_for_a_long_name(void)
{
    char name[2000];

    memset(name, 'n', sizeof name);
    memcpy(name, "hash:/", 6);
    for (size_t len = 400; len <= sizeof name; len += 400)
        follow("hash:/declared", (struct slice){name, len});
}

static const struct unit_test tests[] = {
    {"approved is what is written down, for each uid and table", matrix},
    {"a table is approved by its exact name only", exact_names_only},
    {"a name ends with its slice", slice_is_all_of_the_name},
    {"an empty policy denies everything", empty_policy},
    {"groups and anyone are approved what their sections say", groups_and_anyone},
    {"of a client's groups those stay that make a difference, once and in order",
     groups_are_reduced},
    {"a section of some listeners says nothing of others", sections_of_a_listener},
    {"a word names a table by name, as all, or by type", words_that_name_tables},
    {"every byte is escaped into printable text", escape_every_byte},
    {"escaped text fits any buffer, in whole units", escape_into_small_buffers},
    {"escaping reads its slice and nothing more", escape_reads_its_slice_only},
    {"advice names the table, if it is new, and the whole allow line", advice_texts},
    {"advice for whom no section names on that socket", advice_for_others},
    {"advice is cut at its buffer", advice_is_cut_at_its_buffer},
    {"advice that is followed approves the table", advice_can_be_followed},
    {"... for a name that looks like a variable", advice_for_a_name_with_a_variable},
    {"... beside approved tables whose names need escapes", advice_repeats_odd_names},
    {"... for a name of 2,000 bytes", advice_for_a_long_name},
    {"a composite is approved with all its members only", composites_need_their_members},
    {"advice names what a composite lacks", advice_for_composites},
    {"advice for 700 composites in each other is cut", advice_for_a_deep_composite},
};

const struct unit_suite decide_suite = {
    .name = "decide", .tests = tests, .ntests = COUNT(tests), .start = start};
