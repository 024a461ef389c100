/*
 * The table types that exist, in one array. Read by the monitor (what to open, how to answer an
 * open request), by the loader and by the agents. Data only: nothing here runs.
 */
#ifndef JAILMAP_POLICY_TABLE_TYPE_H
#define JAILMAP_POLICY_TABLE_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

enum table_type {
    TYPE_HASH = 1,
    TYPE_BTREE,
    TYPE_PASSWD,
    TYPE_GROUP,
    TYPE_CDB,
    TYPE_LMDB,
    TYPE_TEXTHASH,
    TYPE_INLINE,
    TYPE_STATIC,
    TYPE_CIDR,
    TYPE_REGEXP,
    TYPE_PCRE,
    TYPE_SQLITE,
    TYPE_MYSQL,
    TYPE_PGSQL,
    TYPE_SOCKETMAP,
    TYPE_TCP,
    TYPE_ENVIRON,
    TYPE_RANDMAP,
    TYPE_FAIL,
    TYPE_UNIONMAP,
    TYPE_PIPEMAP
};

/* What answers a table: bits. An image first, and an agent for what it does not have, if there is
 * one; or the worker alone, by what stands in the table's name. */
enum table_by { TABLE_BY_IMAGE = 1, TABLE_BY_AGENT = 2, TABLE_BY_WORKER = 4 };

/* How writers lock a source, and so whoever reads it. */
enum table_lock { TABLE_LOCK_NONE, TABLE_LOCK_FLOCK, TABLE_LOCK_RECORD };

/* What `reveal` lets out of an entry: a bit for each of the type's fields, the first is 1; or one
 * of these. Nothing more than the key itself, if nothing is said. */
#define REVEAL_EXISTENCE UINT32_C(0)
#define REVEAL_ALL       UINT32_MAX

/*
 * A table is `prefix` and what stands behind it: one fixed name, or the path of its source, or,
 * with `argument`, all there is to know of a table that has no source.
 */
struct table_type_info {
    enum table_type type;
    const char *prefix; /* what stands before the colon, and the colon */
    const char *name;   /* what must stand behind it; NULL: a path or an argument */
    const char *path;   /* of the source, where it does not depend on the name */
    const char *suffix; /* what the source's path has behind the name; NULL: the name is no path */
    enum table_lock lock;      /* that postmap(1) holds on the source while it writes */
    const char *const *fields; /* of an entry, up to a NULL; NULL: it is not made of fields */
    unsigned by;               /* bits of enum table_by */
    bool argument;             /* the name holds the table's content; it must not be empty */
    bool braced;               /* a name that begins with { is an argument, and else a path */
    uint32_t flags;            /* dictionary type bits, shown to clients */
    bool sequence;             /* walking the table is supported */
    bool text;                 /* its image has the indexes of a text, see server/image.h */
    bool folds_mul;            /* keys are folded as FOLD_MUL says, not FOLD_FIX */
    bool unauth;               /* refused to a client that says NO_UNAUTH */
    bool dials;                /* its agent has a dialer, which connects to its servers */
    bool database;             /* its source names a second file, which `database` says, too */
    bool members;              /* its name holds other tables: see policy/members.h */
    const char *agent;         /* helper that answers; NULL: none does */
};

/* All types, for a message. */
#define TABLE_TYPES                                                                                \
    "hash, btree, cdb, lmdb, texthash, inline, static, unix, cidr, regexp, pcre, sqlite, mysql, "  \
    "pgsql, socketmap, tcp, environ, randmap, fail, unionmap, pipemap"

/* The type with that number, or NULL. */
const struct table_type_info *table_type_info(unsigned type);

/* The bit of the field of that name; 0: there is none. */
uint32_t table_type_field(const struct table_type_info *type, const char *name);

/* The names of all fields, for a message: "name, gid or members". Cut at len; returns text. */
const char *table_type_fields(const struct table_type_info *type, char *text, size_t len);

/* Is there a type with that prefix, of which len bytes are the type and the colon? */
bool table_type_begins(const char *prefix, size_t len);

/* The first type with whose prefix that name begins, or NULL; *argument is what stands behind. */
const struct table_type_info *table_type_with(struct slice table, struct slice *argument);

/* The type of a canonical `type:name`; on NULL *why is a constant text. */
const struct table_type_info *table_type_of(const char *canonical, const char **why);

#endif
