/*
 * The policy: what jailmapd.conf(5) says, checked and resolved. Read by the monitor at start, and
 * by `jailmapd -n`. Deny by default: a table is approved by its exact canonical name, for a uid.
 * Must never be changed after it has been read.
 */
#ifndef JAILMAP_POLICY_POLICY_H
#define JAILMAP_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "policy/table_type.h"
#include "proto/slice.h"

#define POLICY_NO_OWNER ((uid_t)-1)

struct policy_listen {
    char *path;
    int line; /* where the section ends, for messages */
    uid_t uid;
    gid_t gid;
    mode_t mode;
    int backlog;
    unsigned max_request;        /* bytes */
    uint64_t max_pending;        /* bytes, of one worker */
    unsigned request_timeout;    /* seconds */
    unsigned answer_timeout;     /* seconds */
    unsigned workers;            /* most for one uid */
    unsigned clients_per_worker; /* most connections of one worker */
    unsigned max_use;            /* connections after which a worker is replaced */
};

struct policy_table {
    char *name; /* canonical type:name */
    int line;
    const struct table_type_info *type;
    char *path;           /* of the source; NULL: it has none, the name says all */
    bool existence;       /* reveal = existence */
    bool symlinks;        /* followed on the way to the source */
    uid_t owner;          /* accepted besides root; POLICY_NO_OWNER: none */
    unsigned load_time;   /* seconds */
    unsigned load_memory; /* MB */
    unsigned image_size;  /* most MB; 0: 64 and 16 times the source, at most 4 GB */
};

struct policy_allow {
    char *title; /* as written */
    uid_t uid;
    bool *tables; /* by index in policy.tables */
    bool all;     /* "*" was among them */
};

struct policy {
    char *user;
    uid_t uid;
    gid_t gid;
    char *runtime_dir;
    char *libexec_dir;
    bool strict;                    /* every wall of the sandbox, or no start */
    unsigned loaders;               /* most at the same time */
    int runtime_line, libexec_line; /* 0: not in the file, the default holds */
    struct policy_listen *listens;
    size_t nlistens;
    struct policy_table *tables;
    size_t ntables;
    struct policy_allow *allows;
    size_t nallows;
};

/*
 * Reads a configuration. fp is an open stream of it, path its name for messages. Resolves users and
 * groups, so it asks the name service. Returns the policy, or NULL with one complete message,
 * `FILE: LINE: what is wrong and what was expected`, in why. The environment must be empty: the
 * configuration language expands ${NAME} from it.
 */
struct policy *policy_read(FILE *fp, const char *path, char *why, size_t len);
void policy_free(struct policy *policy);

/* Is there an allow section for uid? */
bool policy_knows(const struct policy *policy, uid_t uid);

enum policy_decision { POLICY_DENY, POLICY_APPROVE };

/* May uid use the table of that canonical name? On POLICY_APPROVE *table is its index. */
enum policy_decision policy_decide(const struct policy *policy, uid_t uid, struct slice name,
                                   size_t *table);

/*
 * Writes the configuration lines that would approve name for uid: the table if it is not declared,
 * and the whole allow line. Text is cut at len; returns text. The name is escaped for a log.
 */
char *policy_advice(const struct policy *policy, uid_t uid, struct slice name, char *text,
                    size_t len);

/*
 * Copies name into text as one printable line that jailmapd.conf(5) reads back as the same name:
 * `"` and `\` escaped, what is not printable and the $ of ${ as \xHH. Cut at len; returns text.
 */
char *policy_escape(struct slice name, char *text, size_t len);

/* Copies what a child says, for a line of the log: what is not printable as \xHH. Cut at len;
 * returns text. */
char *policy_printable(struct slice words, char *text, size_t len);

#endif
