/*
 * The policy: what jailmapd.conf(5) says, checked and resolved. Read by the monitor at start, and
 * by `jailmapd -n`. Deny by default: a table is approved by its exact canonical name, for a user, a
 * group or anyone, on a listener.
 * Must never be changed after it has been read.
 */
#ifndef JAILMAP_POLICY_POLICY_H
#define JAILMAP_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "policy/key_limit.h"
#include "policy/table_type.h"
#include "proto/slice.h"

#define POLICY_NO_OWNER ((uid_t)-1)
#define POLICY_NO_GROUP ((gid_t)-1)

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
    bool greeting;               /* new clients are greeted, as Postfix 3.6 and later expects */
    bool gone;                   /* it keeps its place only: see adopt.h */
};

struct policy_table {
    char *name; /* canonical type:name */
    struct policy_place place;
    const struct table_type_info *type;
    char *path;             /* of the source; NULL: it has none, the name says all */
    uint32_t reveal;        /* fields of an entry, see policy/table_type.h */
    bool symlinks;          /* followed on the way to the source */
    struct key_limit limit; /* of its keys */
    uid_t owner;            /* accepted besides root; POLICY_NO_OWNER: none */
    unsigned load_time;     /* seconds */
    unsigned load_memory;   /* MB */
    unsigned image_size;    /* most MB; 0: 64 and 16 times the source, at most 4 GB */
    /* Of a table that an agent answers; 0 of others: */
    unsigned processes;          /* that do, at the same time */
    unsigned timeout;            /* seconds that an answer may take */
    unsigned queue;              /* most lookups that wait, in one worker */
    unsigned cache_ttl;          /* seconds that an entry found is kept; 0: it is not */
    unsigned negative_cache_ttl; /* the same of a key that was not found */
    unsigned cache_size;         /* most MB of all that one worker keeps */
    char *database;              /* path of the second file; NULL: there is none */
    char **set;                  /* "NAME=VALUE" of environ, whose entries they are */
    size_t nset, set_bytes;      /* a NUL behind each included */
    size_t *members;             /* of a composite, in order: by index in policy.tables */
    size_t nmembers;
    bool gone; /* it keeps its place only: see adopt.h */
};

/* Whom an allow section speaks of. */
enum policy_who { WHO_USER, WHO_GROUP, WHO_ANYONE };

struct policy_allow {
    char *title; /* as written */
    enum policy_who who;
    uid_t uid;     /* of WHO_USER */
    gid_t gid;     /* of WHO_GROUP */
    bool *listens; /* by index in policy.listens; NULL: every one */
    bool *tables;  /* by index in policy.tables */
    char **words;  /* `tables` as written: names, "*", "TYPE:*" */
    size_t nwords;
    struct policy_place place;
};

/* What becomes of lookups beyond a limit. */
enum policy_action { ACTION_AUDIT, ACTION_SLOW, ACTION_RETRY };

/* How much one uid may do, on all listeners together. 0: there is no such limit. */
struct policy_limit {
    char *title;                 /* as written */
    bool anyone;                 /* each uid that has no section of its own */
    uid_t uid;                   /* else */
    unsigned clients;            /* most connections */
    unsigned lookups_per_second; /* fewer than these */
    unsigned misses_per_minute;
    unsigned action; /* enum policy_action */
    struct policy_place place;
};

struct policy {
    char *user;
    uid_t uid;
    gid_t gid;
    gid_t control_gid; /* whose members may ask for the status; POLICY_NO_GROUP: root alone may */
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
    struct policy_limit *limits;
    size_t nlimits;
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

/* How an allow section that speaks of a client came to do so: the closest of all that do. */
enum policy_standing { STANDING_NONE, STANDING_GUEST, STANDING_NAMED };

/*
 * A client, to a policy: its listener, its uid, and of its groups those that an allow section names
 * for that listener, in the order of the gids and each once. So two clients with equal ones are
 * spoken of by the same sections.
 */
struct policy_peer {
    size_t listener;
    uid_t uid;
    const gid_t *groups;
    size_t ngroups;
};

/* Does any allow section name a group for that listener? Else the groups of a client are all one.
 */
bool policy_asks_groups(const struct policy *policy, size_t listener);

/* How many allow sections of that kind are there for that listener? */
size_t policy_count(const struct policy *policy, size_t listener, enum policy_who who);

/*
 * Reduces the groups that the kernel told of, in place, to those of struct policy_peer. Returns how
 * many are left, which is no more than policy_count().
 */
size_t policy_reduce(const struct policy *policy, size_t listener, gid_t *groups, size_t count);

/* STANDING_NAMED: a section has its uid; STANDING_GUEST: one has a group of it, or anyone. */
enum policy_standing policy_standing(const struct policy *policy, const struct policy_peer *peer);

/* Does a word in the list of an allow section name that table, once it is declared: by its name, by
 * "*", or by "TYPE:*", unless that itself is the name of one? */
bool policy_word_names(const struct policy *policy, const char *word, struct slice table);

/* Writes a line for each word of an allow section that may stand for several tables: which they are
 * now. */
void policy_show_words(const struct policy *policy, FILE *out);

/* The limits of a uid: its own section, or that of "*", or what holds if there is neither. */
const struct policy_limit *policy_limit(const struct policy *policy, uid_t uid);

/* Does the section hold on that listener? */
bool policy_is_on(const struct policy_allow *allow, size_t listener);

enum policy_decision { POLICY_DENY, POLICY_APPROVE };

/* May the client use the table of that canonical name, and, if it is a composite, all its members,
 * and theirs? On POLICY_APPROVE *table is its index. */
enum policy_decision policy_decide(const struct policy *policy, const struct policy_peer *peer,
                                   struct slice name, size_t *table);

/*
 * Writes the configuration lines that would approve name for the uid of that client: the table if
 * it is not declared, and the whole allow line; the same for what a composite lacks of its members.
 * Text is cut at len; returns text. The name is escaped for a log.
 */
char *policy_advice(const struct policy *policy, const struct policy_peer *peer, struct slice name,
                    char *text, size_t len);

/* The dictionary type bits of a table: its type's; of a composite, whether its first member has
 * fixed keys or patterns. */
uint32_t policy_table_flags(const struct policy *policy, size_t table);

/*
 * Copies name into text as one printable line that jailmapd.conf(5) reads back as the same name:
 * `"` and `\` escaped, what is not printable and the $ of ${ as \xHH. Cut at len; returns text.
 */
char *policy_escape(struct slice name, char *text, size_t len);

/* Copies what a child says, for a line of the log: what is not printable as \xHH. Cut at len;
 * returns text. */
char *policy_printable(struct slice words, char *text, size_t len);

#endif
