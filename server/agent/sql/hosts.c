/*
 * The servers of a database table: see hosts.h. Runs in jailmap-agent-mysql and -pgsql. It may
 * touch its own memory only; what it says must never contain a URI, which may hold a password.
 */
#include "server/agent/sql/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIRST_BACKOFF 1000 /* ms */
#define SPACES        ", \t\r\n"
#define NAME_MAX_LEN  1024 /* of one host; the longest domain name has 255 bytes, a socket 107 */

static bool fail(char *why, size_t len, const char *host, const char *expected)
{
    bool secret = strchr(host, '@') != NULL; /* a password before it, perhaps */

    snprintf(why, len, "\"%.100s\" is no host: %s", secret ? "...@..." : host, expected);
    return false;
}

/* Takes over nothing: all are copied. */
static bool add(struct hosts *hosts, const struct host *like, const char *name, char *why,
                size_t len)
{
    struct host *h = &hosts->host[hosts->count];

    if (hosts->count >= HOSTS_MAX) {
        snprintf(why, len, "there are more than %d hosts; at most that many are expected",
                 HOSTS_MAX);
        return false;
    }
    *h = (struct host){.kind = like->kind,
                       .name = strdup(name),
                       .where = strdup(like->where),
                       .port = strdup(like->port),
                       .uri = like->uri != NULL ? strdup(like->uri) : NULL,
                       .failed = HOSTS_NEVER};
    hosts->count++;
    if (h->name != NULL && h->where != NULL && h->port != NULL &&
        (h->uri != NULL || like->uri == NULL))
        return true;
    snprintf(why, len, "out of memory");
    return false;
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits >= 1 && digits <= 5 && text[digits] == '\0' && strtoul(text, NULL, 10) >= 1 &&
           strtoul(text, NULL, 10) <= 65535;
}

/* like has kind, where, port and uri: gives it its name. */
static bool add_named(struct hosts *hosts, const struct host_rules *rules, const struct host *like,
                      char *why, size_t len)
{
    char name[NAME_MAX_LEN + 64];
    bool six = strchr(like->where, ':') != NULL;

    if (like->where[0] == '/' && rules->in != NULL)
        snprintf(name, sizeof name, "unix:%s/%s%s", like->where, rules->in, like->port);
    else if (like->where[0] == '/')
        snprintf(name, sizeof name, "unix:%s", like->where);
    else
        snprintf(name, sizeof name, "inet:%s%s%s:%s", six ? "[" : "", like->where, six ? "]" : "",
                 like->port);
    return add(hosts, like, name, why, len);
}

bool hosts_add_uri(struct hosts *hosts, const struct host_rules *rules, const char *where,
                   const char *port, const char *uri, char *why, size_t len)
{
    struct host h = {.kind = HOST_URI,
                     .where = (char *)where,
                     .port = (char *)(*port != '\0' ? port : rules->port),
                     .uri = (char *)uri};

    if (strlen(h.where) > NAME_MAX_LEN)
        return fail(why, len, h.where, "it is too long");
    if (!is_port(h.port))
        return fail(why, len, h.port, "a port from 1 to 65535 is expected");
    return add_named(hosts, rules, &h, why, len);
}

/* Behind "unix:". */
static bool add_unix(struct hosts *hosts, const struct host_rules *rules, char *word, char *why,
                     size_t len)
{
    struct host h = {.kind = HOST_UNIX, .where = word, .port = (char *)rules->port};

    if (word[0] != '/')
        return fail(why, len, word, "behind unix: an absolute path is expected");
    return add_named(hosts, rules, &h, why, len);
}

/* HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT. */
static bool add_inet(struct hosts *hosts, const struct host_rules *rules, char *word, char *why,
                     size_t len)
{
    static const char expected[] = "HOST or HOST:PORT is expected, an IPv6 address in brackets, "
                                   "and a port from 1 to 65535";
    struct host h = {.kind = HOST_INET, .where = word, .port = (char *)rules->port};
    char shown[128], *end = word[0] == '[' ? strchr(word, ']') : strchr(word, ':');

    snprintf(shown, sizeof shown, "%.100s", word);
    if (word[0] == '[') {
        if (end == NULL)
            return fail(why, len, shown, expected);
        *end++ = '\0';
        h.where = word + 1;
        if (*end == '\0')
            end = NULL;
    }
    if (end != NULL) {
        if (*end != ':' || !is_port(end + 1))
            return fail(why, len, shown, expected);
        *end = '\0';
        h.port = end + 1;
    }
    if (h.where[0] == '\0' || strpbrk(h.where, "/[]@?") != NULL)
        return fail(why, len, shown, expected);
    if (rules->local != NULL && strcasecmp(h.where, "localhost") == 0) {
        h.kind = HOST_UNIX;
        h.where = (char *)rules->local;
    }
    return add_named(hosts, rules, &h, why, len);
}

static bool add_word(struct hosts *hosts, const struct host_rules *rules, char *word, char *why,
                     size_t len)
{
    if (strstr(word, "://") != NULL) {
        if (rules->uri != NULL)
            return rules->uri(hosts, word, why, len);
        snprintf(why, len, "there is a URI among the hosts; unix:PATH or HOST:PORT is expected");
        return false;
    }
    if (strlen(word) > NAME_MAX_LEN)
        return fail(why, len, word, "it is too long");
    if (strncmp(word, "unix:", 5) == 0)
        return add_unix(hosts, rules, word + 5, why, len);
    return add_inet(hosts, rules, strncmp(word, "inet:", 5) == 0 ? word + 5 : word, why, len);
}

/* Whether a host begins here for sure, and not only another name in the URI before it. */
static bool begins(const char *at)
{
    size_t scheme = strcspn(at, SPACES "/");

    return strncmp(at, "unix:", 5) == 0 || strncmp(at, "inet:", 5) == 0 ||
           strchr(SPACES, *at) != NULL ||
           (scheme > 0 && at[scheme - 1] == ':' && strncmp(at + scheme, "//", 2) == 0);
}

/* The length of the host at that place. Commas are also between the hosts of one URI, which end at
 * its third slash. */
static size_t length(const char *at)
{
    size_t len = strcspn(at, SPACES);
    const char *names = strstr(at, "://");

    if (names == NULL || names > at + len)
        return len;
    names += 3;
    while (at[len] == ',' && memchr(names, '/', (size_t)(at + len - names)) == NULL &&
           !begins(at + len + 1))
        len += 1 + strcspn(at + len + 1, SPACES);
    return len;
}

bool hosts_parse(struct hosts *hosts, const struct host_rules *rules, const char *list, char *why,
                 size_t len)
{
    char *copy = strdup(list), *at = copy, *word;
    bool good = copy != NULL, last = false;

    *hosts = (struct hosts){.count = 0};
    if (!good)
        snprintf(why, len, "out of memory");
    while (good && !last) {
        word = at;
        at += length(word);
        last = *at == '\0';
        *at++ = '\0';
        good = *word == '\0' || add_word(hosts, rules, word, why, len);
    }
    free(copy);
    if (good && hosts->count == 0) {
        snprintf(why, len, "no host is named; unix:PATH or HOST:PORT is expected");
        good = false;
    }
    return good;
}

void hosts_free(struct hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        free(hosts->host[i].name);
        free(hosts->host[i].where);
        free(hosts->host[i].port);
        free(hosts->host[i].uri);
    }
    hosts->count = 0;
}

/* ---- which, and when ---- */

static uint64_t due_at(const struct host *h)
{
    return h->failed + h->backoff;
}

uint32_t hosts_good(const struct hosts *hosts)
{
    uint32_t good = 0;

    for (uint32_t i = 0; i < hosts->count; i++)
        good += hosts->host[i].failed == HOSTS_NEVER;
    return good;
}

/* The usable host of that kind that has so many such before it, or how many there are. */
static uint32_t of_kind(const struct hosts *hosts, enum host_kind kind, uint64_t now, bool failed,
                        uint32_t skip, int *found)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < hosts->count; i++) {
        const struct host *h = &hosts->host[i];

        if (h->kind != kind || (h->failed != HOSTS_NEVER) != failed || (failed && now < due_at(h)))
            continue;
        if (n == skip)
            *found = (int)i;
        n++;
    }
    return n;
}

int hosts_choose(const struct hosts *hosts, uint64_t now, uint32_t random, bool due)
{
    bool failed = hosts_good(hosts) == 0;
    int found = -1;

    if (failed && !due)
        return -1;
    for (enum host_kind kind = HOST_UNIX; kind <= HOST_URI; kind++) {
        uint32_t n = of_kind(hosts, kind, now, failed, UINT32_MAX, &found);

        if (n == 0)
            continue;
        of_kind(hosts, kind, now, failed, random % n, &found);
        return found;
    }
    return -1;
}

void hosts_failed(struct hosts *hosts, int host, uint64_t now)
{
    struct host *h = &hosts->host[host];

    h->backoff = h->failed == HOSTS_NEVER ? FIRST_BACKOFF : h->backoff * 2;
    if (h->backoff > hosts->retry_interval)
        h->backoff = hosts->retry_interval;
    h->failed = now;
}

void hosts_works(struct hosts *hosts, int host)
{
    hosts->host[host].failed = HOSTS_NEVER;
}

void hosts_hurry(struct hosts *hosts, uint64_t now)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        struct host *h = &hosts->host[i];

        if (h->failed != HOSTS_NEVER && due_at(h) > now)
            h->failed = now > h->backoff ? now - h->backoff : 0;
    }
}

uint64_t hosts_due(const struct hosts *hosts)
{
    uint64_t due = HOSTS_NEVER;

    for (uint32_t i = 0; i < hosts->count; i++)
        if (hosts->host[i].failed != HOSTS_NEVER && due_at(&hosts->host[i]) < due)
            due = due_at(&hosts->host[i]);
    return due;
}
