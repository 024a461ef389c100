/*
 * Tests of server/agent/sql/hosts: lists of database servers as people write them, whose turn it
 * is, and when one that has failed is tried again, by a clock of the test's own. Part of the unit
 * test program; touches nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "server/agent/sql/hosts.h"
#include "tests/unit/unit.h"

#define CHECK_NUM(got, want)                                                                       \
    CHECK((long long)(got) == (long long)(want), "%s is %lld, expected %lld", #got,                \
          (long long)(got), (long long)(want))

static bool uri(struct hosts *hosts, const char *text, char *why, size_t len);

static const struct host_rules mysql = {.port = "3306", .local = "/run/mysqld/mysqld.sock"};
static const struct host_rules pgsql = {.port = "5432", .in = ".s.PGSQL.", .uri = uri};

/* A URI of two hosts, the second of which is local. */
static bool uri(struct hosts *hosts, const char *text, char *why, size_t len)
{
    return hosts_add_uri(hosts, &pgsql, "db", "6000", text, why, len) &&
           hosts_add_uri(hosts, &pgsql, "/d", "", text, why, len);
}

/* The names, and what the library is told, each as KIND NAME WHERE PORT. */
static const char *parsed(const struct host_rules *rules, const char *list)
{
    static const char kinds[] = {'U', 'I', 'P'};
    static char text[4096];
    struct hosts hosts;
    char why[256];
    size_t used = 0;

    text[0] = '\0';
    if (!hosts_parse(&hosts, rules, list, why, sizeof why))
        snprintf(text, sizeof text, "! %s", why);
    for (uint32_t i = 0; text[0] != '!' && i < hosts.count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%c %s %s %s",
                                 i > 0 ? ", " : "", kinds[hosts.host[i].kind], hosts.host[i].name,
                                 hosts.host[i].where, hosts.host[i].port);
    hosts_free(&hosts);
    return text;
}

static void expect(const struct host_rules *rules, const char *list, const char *expected)
{
    const char *found = parsed(rules, list);

    CHECK(strcmp(found, expected) == 0, "\"%s\": found \"%s\", expected \"%s\"", list, found,
          expected);
}

static void mysql_lists(void)
{
    expect(&mysql, "db", "I inet:db:3306 db 3306");
    expect(&mysql, "inet:db", "I inet:db:3306 db 3306");
    expect(&mysql, "inet:db:33060", "I inet:db:33060 db 33060");
    expect(&mysql, "unix:/s/x:1", "U unix:/s/x:1 /s/x:1 3306");
    expect(&mysql, "localhost", "U unix:/run/mysqld/mysqld.sock /run/mysqld/mysqld.sock 3306");
    expect(&mysql, "inet:LocalHost:3307",
           "U unix:/run/mysqld/mysqld.sock /run/mysqld/mysqld.sock 3307");
    expect(&mysql, "[::1], [fe80::1]:7\n\tinet:[::2]:8",
           "I inet:[::1]:3306 ::1 3306, I inet:[fe80::1]:7 fe80::1 7, I inet:[::2]:8 ::2 8");
    expect(&mysql, " ,a,, b:1 ", "I inet:a:3306 a 3306, I inet:b:1 b 1");
}

static void pgsql_lists(void)
{
    expect(&pgsql, "localhost, LOCALHOST:5433",
           "I inet:localhost:5432 localhost 5432, I inet:LOCALHOST:5433 LOCALHOST 5433");
    expect(&pgsql, "unix:/d unix:/d:1",
           "U unix:/d/.s.PGSQL.5432 /d 5432, U unix:/d:1/.s.PGSQL.5432 /d:1 5432");
    expect(&pgsql, "postgresql://u:p@db x",
           "P inet:db:6000 db 6000, P unix:/d/.s.PGSQL.5432 /d 5432, I inet:x:5432 x 5432");
}

static void uris(void)
{
    static const struct {
        const char *list;
        uint32_t count; /* each gives two, and others one */
    } lists[] = {{"postgresql://a", 2},         {"postgresql://a,b:1,c/d", 2},
                 {"postgresql://a,b/d?x=y", 2}, {"postgresql://a,b/d,c", 3},
                 {"postgresql://a,b/d,c,e", 4}, {"postgresql://a,postgres://b", 4},
                 {"postgresql://a,unix:/b", 3}, {"postgresql://a,inet:b,c", 4},
                 {"postgresql://a, b", 3},      {"b,postgresql://a", 3},
                 {"postgresql://,", 2}};

    for (size_t i = 0; i < COUNT(lists); i++) {
        struct hosts hosts;
        char why[256] = "";

        hosts_parse(&hosts, &pgsql, lists[i].list, why, sizeof why);
        CHECK(hosts.count == lists[i].count, "\"%s\": %u hosts, expected %u %s", lists[i].list,
              hosts.count, lists[i].count, why);
        hosts_free(&hosts);
    }
}

static void refused(void)
{
    static const char *const lists[] = {"",         " , ",
                                        "unix:",    "unix:relative",
                                        "a:",       "a:0",
                                        "a:65536",  "a:b",
                                        "a:1:2",    ":3306",
                                        "[::1",     "[::1]x",
                                        "[::1]:",   "[]",
                                        "::1",      "a/b",
                                        "a:-1",     "a:+1",
                                        "a:000001", "inet:",
                                        "inet:u@h", "mysql://u:secret@h",
                                        "secret@h", "a?b=secret"};

    for (size_t i = 0; i < COUNT(lists); i++) {
        const char *found = parsed(&mysql, lists[i]);

        CHECK(found[0] == '!' && strstr(found, "expected") != NULL, "\"%s\": %s", lists[i], found);
        CHECK(strchr(lists[i], '@') == NULL || strstr(found, "secret") == NULL, "\"%s\": %s",
              lists[i], found);
    }
}

static void how_many(void)
{
    char list[HOSTS_MAX * 2 + 3] = "";

    for (int i = 0; i < HOSTS_MAX; i++)
        memcpy(list + i * 2, "a ", 3);
    CHECK(parsed(&mysql, list)[0] != '!', "%d hosts are refused", HOSTS_MAX);
    memcpy(list + HOSTS_MAX * 2, "a", 2);
    CHECK(strstr(parsed(&mysql, list), "more than 64 hosts") != NULL, "%d hosts are accepted",
          HOSTS_MAX + 1);
}

static struct hosts three(void)
{
    struct hosts hosts;
    char why[256];

    REQUIRE(hosts_parse(&hosts, &pgsql, "postgresql://x a b unix:/s", why, sizeof why), "%s", why);
    hosts.retry_interval = 5000;
    return hosts;
}

static void preference(void)
{
    struct hosts hosts = three(); /* 0, 1: of the URI; 2: a; 3: b; 4: unix */
    uint32_t seen = 0;

    CHECK_NUM(hosts_good(&hosts), 5);
    CHECK_NUM(hosts_choose(&hosts, 0, 7, false), 4);
    hosts_failed(&hosts, 4, 0);
    for (uint32_t random = 0; random < 6; random++)
        seen |= 1u << hosts_choose(&hosts, 0, random, true);
    CHECK(seen == (1u << 2 | 1u << 3), "of two hosts a and b, chosen were the bits %#x", seen);
    hosts_failed(&hosts, 2, 0);
    CHECK_NUM(hosts_choose(&hosts, 0, 1, false), 3);
    hosts_failed(&hosts, 3, 0);
    CHECK_NUM(hosts_choose(&hosts, 0, 1, false), 1);
    hosts_works(&hosts, 4);
    CHECK_NUM(hosts_choose(&hosts, 0, 1, false), 4);
    hosts_free(&hosts);
}

static void back_off(void)
{
    static const uint64_t steps[] = {1000, 2000, 4000, 5000, 5000};
    struct hosts hosts;
    uint64_t now = 100;
    char why[256];

    REQUIRE(hosts_parse(&hosts, &mysql, "a", why, sizeof why), "%s", why);
    hosts.retry_interval = 5000;
    CHECK(hosts_due(&hosts) == HOSTS_NEVER, "a good host is due");
    for (size_t i = 0; i < COUNT(steps); i++) {
        hosts_failed(&hosts, 0, now);
        CHECK_NUM(hosts_due(&hosts), now + steps[i]);
        CHECK_NUM(hosts_choose(&hosts, now + steps[i] - 1, 0, true), -1);
        now += steps[i];
        CHECK_NUM(hosts_choose(&hosts, now, 0, false), -1);
        CHECK_NUM(hosts_choose(&hosts, now, 0, true), 0);
    }
    hosts_works(&hosts, 0);
    CHECK_NUM(hosts_choose(&hosts, now, 0, false), 0);
    hosts_failed(&hosts, 0, now);
    CHECK_NUM(hosts_due(&hosts), now + 1000);
    hosts_free(&hosts);
}

static void all_have_failed(void)
{
    struct hosts hosts = three();

    for (int i = 0; i < 5; i++)
        hosts_failed(&hosts, i, (uint64_t)(10 * (5 - i)));
    CHECK_NUM(hosts_good(&hosts), 0);
    CHECK_NUM(hosts_due(&hosts), 1010);
    CHECK_NUM(hosts_choose(&hosts, 1009, 0, true), -1);
    CHECK_NUM(hosts_choose(&hosts, 1010, 0, true), 4);
    hosts_failed(&hosts, 4, 1010);
    CHECK_NUM(hosts_choose(&hosts, 1020, 0, true), 3);
    hosts_free(&hosts);
}

/* Those that are due at once back off from where they were. */
static void hurry(void)
{
    struct hosts hosts = three();

    hosts_hurry(&hosts, 5000);
    CHECK(hosts_due(&hosts) == HOSTS_NEVER, "good hosts are not due");
    for (int i = 0; i < 5; i++)
        hosts_failed(&hosts, i, 5000);
    CHECK_NUM(hosts_choose(&hosts, 5001, 0, true), -1);
    hosts_hurry(&hosts, 5001);
    CHECK(hosts_due(&hosts) <= 5001, "they are not due");
    CHECK(hosts_choose(&hosts, 5001, 0, true) >= 0, "none is tried");
    CHECK_NUM(hosts_good(&hosts), 0);
    for (int i = 0; i < 5; i++)
        hosts_failed(&hosts, i, 5001);
    CHECK_NUM(hosts_due(&hosts), 7001);
    hosts_hurry(&hosts, 1);
    CHECK(hosts_due(&hosts) <= 7001, "they are due later");
    hosts_free(&hosts);
}

static const struct unit_test tests[] = {
    {"hosts of a mysql table", mysql_lists},
    {"hosts of a pgsql table", pgsql_lists},
    {"commas within a URI, and behind it", uris},
    {"what is no host is refused, and no password is shown", refused},
    {"there is a most of hosts", how_many},
    {"sockets before hosts before URIs, and chance among equals", preference},
    {"a host that fails is tried after 1 s, 2 s, 4 s, and then at the longest", back_off},
    {"when all have failed, the first that is due is tried", all_have_failed},
    {"all are due when there is news", hurry},
};

const struct unit_suite hosts_suite = {.name = "hosts", .tests = tests, .ntests = COUNT(tests)};
