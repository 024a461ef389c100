/*
 * The table types: see table_type.h. Linked into the monitor, the loader and the agents. It may
 * touch nothing but its arguments.
 */
#include "policy/table_type.h"

#include <string.h>

#include "proto/proxymap.h"

#define STORED_BOTH_WAYS (PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL)

static const struct table_type_info types[] = {
    {.type = TYPE_HASH,
     .prefix = "hash:",
     .suffix = ".db",
     .lock = TABLE_LOCK_FLOCK,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_BTREE,
     .prefix = "btree:",
     .suffix = ".db",
     .lock = TABLE_LOCK_FLOCK,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_CDB,
     .prefix = "cdb:",
     .suffix = ".cdb",
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_LMDB,
     .prefix = "lmdb:",
     .suffix = ".lmdb",
     .lock = TABLE_LOCK_RECORD,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS | PM_FLAG_MULTI_WRITER,
     .sequence = true},
    {.type = TYPE_TEXTHASH,
     .prefix = "texthash:",
     .suffix = "",
     .flags = PM_FLAG_FIXED,
     .sequence = true,
     .text = true},
    {.type = TYPE_INLINE,
     .prefix = "inline:",
     .argument = true,
     .flags = PM_FLAG_FIXED,
     .sequence = true,
     .text = true},
    {.type = TYPE_STATIC, .prefix = "static:", .argument = true, .flags = PM_FLAG_FIXED},
    {.type = TYPE_PASSWD,
     .prefix = "unix:",
     .name = "passwd.byname",
     .path = "/etc/passwd",
     .flags = PM_FLAG_FIXED,
     .agent = "jailmap-agent-nss"},
    {.type = TYPE_GROUP,
     .prefix = "unix:",
     .name = "group.byname",
     .path = "/etc/group",
     .flags = PM_FLAG_FIXED,
     .agent = "jailmap-agent-nss"},
};

const struct table_type_info *table_type_info(unsigned type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}

const struct table_type_info *table_type_of(const char *canonical, const char **why)
{
    *why = "unknown table type (known: hash:PATH, btree:PATH, cdb:PATH, lmdb:PATH, texthash:PATH, "
           "inline:{...}, static:VALUE, unix:passwd.byname, unix:group.byname)";
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t len = strlen(types[i].prefix);

        if (strncmp(canonical, types[i].prefix, len) != 0)
            continue;
        if (types[i].name == NULL || strcmp(canonical + len, types[i].name) == 0)
            return &types[i];
        *why = "unix: has the tables passwd.byname and group.byname only";
    }
    return NULL;
}
