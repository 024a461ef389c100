/*
 * The servers of a database table: the parameter `hosts`, which of them to try, and when to try one
 * again that has failed. Runs in jailmap-agent-mysql and -pgsql. Pure: it touches its own memory
 * only, and is told what time it is.
 */
#ifndef JAILMAP_SERVER_AGENT_HOSTS_H
#define JAILMAP_SERVER_AGENT_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOSTS_MAX   64
#define HOSTS_NEVER UINT64_MAX

/* In the order of preference. */
enum host_kind { HOST_UNIX, HOST_INET, HOST_URI };

struct host {
    enum host_kind kind;
    char *name;       /* for messages, and for the dialer: "unix:PATH" or "inet:HOST:PORT" */
    char *where;      /* for the library: HOST without brackets, or what stood behind "unix:" */
    char *port;       /* digits */
    char *uri;        /* HOST_URI: what it stands in; has a password, perhaps */
    uint64_t failed;  /* when it did last, ms; HOSTS_NEVER: it has not since it worked */
    uint64_t backoff; /* ms from then until it is tried again */
};

struct hosts {
    struct host host[HOSTS_MAX];
    uint32_t count;
    uint64_t retry_interval; /* ms: the longest back-off */
};

/* What is different from one library to the other. */
struct host_rules {
    const char *port;  /* if none is said */
    const char *local; /* the socket that "localhost" means; NULL: it is a name as any other */
    const char *in;    /* NULL: "unix:" is followed by the path of a socket. Else by a directory,
                          and this and the port are the socket's name in it */
    /* Adds the hosts of a URI by hosts_add(); as hosts_parse(). NULL: there are no URIs. */
    bool (*uri)(struct hosts *hosts, const char *uri, char *why, size_t len);
};

/* Reads a list, of which commas and white space separate the hosts. False: why says what was found
 * and what is expected, without what may be a password. Ends in hosts_free(). */
bool hosts_parse(struct hosts *hosts, const struct host_rules *rules, const char *list, char *why,
                 size_t len);
void hosts_free(struct hosts *hosts);

/* For rules->uri: adds one, at a port, which may be empty. where begins with a slash: a directory
 * of sockets. All are copied. */
bool hosts_add_uri(struct hosts *hosts, const struct host_rules *rules, const char *where,
                   const char *port, const char *uri, char *why, size_t len);

/*
 * The host to try: UNIX sockets before others and URIs last, and among equals the random number
 * decides. One that has failed only if due is set, all have, and its time has come. -1: none.
 */
int hosts_choose(const struct hosts *hosts, uint64_t now, uint32_t random, bool due);

/* How many of them have not failed. */
uint32_t hosts_good(const struct hosts *hosts);

/* It has failed: it is not to be tried for 1 s, and then for twice as long each time, up to
 * retry_interval. */
void hosts_failed(struct hosts *hosts, int host, uint64_t now);
void hosts_works(struct hosts *hosts, int host);

/* All that have failed are due. */
void hosts_hurry(struct hosts *hosts, uint64_t now);

/* When the next of those that have failed is due; HOSTS_NEVER if none has. */
uint64_t hosts_due(const struct hosts *hosts);

#endif
