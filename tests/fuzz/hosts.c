/*
 * Fuzz target hosts: lists of database servers, which an administrator writes and a table's owner
 * may, and what becomes of them when they fail. Run by tests/fuzz/run; touches memory only. Input:
 * a byte that tells the library, then the list. What is accepted has names that the dialer takes,
 * and comes out the same when it is read again; and a password is in no message.
 */
#include <stdlib.h>

#include "server/agent/sql/hosts.h"
#include "tests/fuzz/common.h"

static bool uri(struct hosts *hosts, const char *text, char *why, size_t len);

static const struct host_rules mysql = {.port = "3306", .local = "/run/mysqld/mysqld.sock"};
static const struct host_rules pgsql = {.port = "5432", .in = ".s.PGSQL.", .uri = uri};

/* As if what is behind the slashes were one host. */
static bool uri(struct hosts *hosts, const char *text, char *why, size_t len)
{
    return hosts_add_uri(hosts, &pgsql, strstr(text, "://") + 3, "", text, why, len);
}

static void check_host(const struct host *h)
{
    bool local = strncmp(h->name, "unix:/", 6) == 0;

    CHECK(local || strncmp(h->name, "inet:", 5) == 0, "its name is %s", h->name);
    CHECK(local == (h->where[0] == '/'), "%s is %s", h->name, h->where);
    CHECK(atoi(h->port) >= 1 && atoi(h->port) <= 65535, "port %s", h->port);
    CHECK((h->uri != NULL) == (h->kind == HOST_URI), "kind %d", h->kind);
    if (h->kind != HOST_URI)
        CHECK(strpbrk(h->name, " ,\t\r\n") == NULL, "white space in %s", h->name);
}

static void check_again(const struct host_rules *rules, const struct host *h)
{
    struct hosts again;
    char why[256];

    if (h->kind != HOST_INET)
        return;
    REQUIRE(hosts_parse(&again, rules, h->name, why, sizeof why), "%s", why);
    CHECK(again.count == 1 && strcmp(again.host[0].name, h->name) == 0, "%s becomes %s", h->name,
          again.host[0].name);
    hosts_free(&again);
}

/* Each fails once for each byte: the one that is chosen is there, and due. */
static void check_choices(struct hosts *hosts, const uint8_t *data, size_t size)
{
    uint64_t now = 0;

    hosts->retry_interval = 60000;
    for (size_t i = 0; i < size; i++) {
        int chosen = hosts_choose(hosts, now += data[i] * 16u, data[i], data[i] & 1);

        CHECK(chosen >= -1 && chosen < (int)hosts->count, "host %d was chosen", chosen);
        CHECK(chosen >= 0 || hosts_good(hosts) == 0, "none was chosen, and some are good");
        if (chosen >= 0 && (data[i] & 2))
            hosts_failed(hosts, chosen, now);
        else if (chosen >= 0)
            hosts_works(hosts, chosen);
        CHECK(hosts_good(hosts) == hosts->count || hosts_due(hosts) != HOSTS_NEVER,
              "one has failed, and is never due");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct host_rules *rules = size > 0 && (data[0] & 1) ? &pgsql : &mysql;
    char *list = need_memory(size + 1), why[256];
    struct hosts hosts;

    memcpy(list, data, size);
    list[size] = '\0';
    if (size > 0 && hosts_parse(&hosts, rules, list + 1, why, sizeof why)) {
        CHECK(hosts.count >= 1 && hosts.count <= HOSTS_MAX, "%u hosts", hosts.count);
        for (uint32_t i = 0; i < hosts.count; i++) {
            check_host(&hosts.host[i]);
            check_again(rules, &hosts.host[i]);
        }
        check_choices(&hosts, data, size);
    } else if (size > 0) {
        CHECK(strchr(why, '@') == NULL || strstr(why, "...@...") != NULL, "%s", why);
    }
    if (size > 0)
        hosts_free(&hosts);
    free(list);
    return 0;
}
