/*
 * The table types that exist, in one array. Read by the monitor (what to open, how to answer an
 * open request), by the loader and by the agents. Data only: nothing here runs.
 */
#ifndef JAILMAP_POLICY_TABLE_TYPE_H
#define JAILMAP_POLICY_TABLE_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum table_type { TYPE_HASH = 1, TYPE_BTREE, TYPE_PASSWD, TYPE_GROUP };

struct table_type_info {
    enum table_type type;
    const char *prefix; /* what stands before the colon */
    const char *name;   /* what must stand behind it; NULL: the path of the source */
    const char *suffix; /* appended to the path */
    uint32_t flags;     /* dictionary type bits, shown to clients */
    bool sequence;      /* walking the table is supported */
    const char *agent;  /* helper that answers; NULL: a loader makes an image */
};

/* The type with that number, or NULL. */
const struct table_type_info *table_type_info(unsigned type);

/* The type of a canonical `type:name`; on NULL *why is a constant text. */
const struct table_type_info *table_type_of(const char *canonical, const char **why);

#endif
