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

/* Where something stands, for messages. Line 0: it does not, and the default holds. */
struct policy_place {
    const char *file; /* the policy's */
    int line, column; /* of its first byte, from 1 */
};

struct policy_listen {
    char *path;
    struct policy_place place;
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
    struct policy_place place;
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
    struct policy_place place;
};

struct policy {
    char *user;
    uid_t uid;
    gid_t gid;
    char *runtime_dir;
    char *libexec_dir;
    bool strict;      /* every wall of the sandbox, or no start */
    unsigned loaders; /* most at the same time */
    struct policy_place runtime_place, libexec_place;
    struct policy_listen *listens;
    size_t nlistens;
    struct policy_table *tables;
    size_t ntables;
    struct policy_allow *allows;
    size_t nallows;
    char **files; /* that it was read from, the main one first */
    size_t nfiles;
};

/*
 * Where the files of a configuration come from. name is "" for the main file, "DIR" for a directory
 * beside it that `include` names, and "DIR/NAME" for a file in that. Returns a descriptor, which
 * policy_read() closes, or -1 with the reason in why.
 */
struct policy_files {
    int (*open)(void *context, const char *name, char *why, size_t len);
    void *context;
};

/*
 * Reads a configuration; path is the name of the main file, for messages. Resolves users and
 * groups, so it asks the name service. Returns the policy, or NULL with one complete message,
 * `FILE:LINE: COLUMN: what is wrong; what is expected`, in why.
 */
struct policy *policy_read(const struct policy_files *files, const char *path, char *why,
                           size_t len);

/*
 * Writes a policy as a text that means the same and leaves nothing open: every option has its
 * value, users and groups are numbers, and before each section stands where it was read. False: out
 * could not take it.
 */
bool policy_print(const struct policy *policy, FILE *out);

/* Reads such a text back. Opens nothing, and asks no name service. The text may come from a process
 * that is not trusted with memory: whatever it is, the result is whole, or NULL with a message. */
struct policy *policy_parse(const char *text, size_t size, char *why, size_t len);

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
