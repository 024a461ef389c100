/*
 * The table types: see table_type.h. Linked into the monitor, the loader and the agents. It may
 * touch nothing but its arguments.
 */
#include "policy/table_type.h"

#include <stdio.h>
#include <string.h>

#include "proto/proxymap.h"

#define STORED_BOTH_WAYS (PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL)

static const char *const passwd_fields[] = {"name",  "password", "uid",   "gid",
                                            "gecos", "home",     "shell", NULL};
static const char *const group_fields[] = {"name", "password", "gid", "members", NULL};

static const struct table_type_info types[] = {
    {.type = TYPE_HASH,
     .by = TABLE_BY_IMAGE,
     .prefix = "hash:",
     .suffix = ".db",
     .lock = TABLE_LOCK_FLOCK,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_BTREE,
     .by = TABLE_BY_IMAGE,
     .prefix = "btree:",
     .suffix = ".db",
     .lock = TABLE_LOCK_FLOCK,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_CDB,
     .by = TABLE_BY_IMAGE,
     .prefix = "cdb:",
     .suffix = ".cdb",
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS,
     .sequence = true},
    {.type = TYPE_LMDB,
     .by = TABLE_BY_IMAGE,
     .prefix = "lmdb:",
     .suffix = ".lmdb",
     .lock = TABLE_LOCK_RECORD,
     .flags = PM_FLAG_FIXED | STORED_BOTH_WAYS | PM_FLAG_MULTI_WRITER,
     .sequence = true},
    {.type = TYPE_TEXTHASH,
     .by = TABLE_BY_IMAGE,
     .prefix = "texthash:",
     .suffix = "",
     .flags = PM_FLAG_FIXED,
     .sequence = true,
     .text = true},
    {.type = TYPE_INLINE,
     .by = TABLE_BY_IMAGE,
     .prefix = "inline:",
     .argument = true,
     .flags = PM_FLAG_FIXED,
     .sequence = true,
     .text = true},
    {.type = TYPE_STATIC,
     .by = TABLE_BY_IMAGE,
     .prefix = "static:",
     .argument = true,
     .flags = PM_FLAG_FIXED},
    {.type = TYPE_PASSWD,
     .by = TABLE_BY_IMAGE | TABLE_BY_AGENT,
     .prefix = "unix:",
     .name = "passwd.byname",
     .path = "/etc/passwd",
     .fields = passwd_fields,
     .flags = PM_FLAG_FIXED,
     .agent = "jailmap-agent-nss"},
    {.type = TYPE_GROUP,
     .by = TABLE_BY_IMAGE | TABLE_BY_AGENT,
     .prefix = "unix:",
     .name = "group.byname",
     .path = "/etc/group",
     .fields = group_fields,
     .flags = PM_FLAG_FIXED,
     .agent = "jailmap-agent-nss"},
    {.type = TYPE_CIDR,
     .by = TABLE_BY_AGENT,
     .prefix = "cidr:",
     .suffix = "",
     .braced = true,
     .flags = PM_FLAG_PATTERN,
     .agent = "jailmap-agent-pattern"},
    {.type = TYPE_REGEXP,
     .by = TABLE_BY_AGENT,
     .prefix = "regexp:",
     .suffix = "",
     .braced = true,
     .flags = PM_FLAG_PATTERN,
     .folds_mul = true,
     .agent = "jailmap-agent-pattern"},
    {.type = TYPE_PCRE,
     .by = TABLE_BY_AGENT,
     .prefix = "pcre:",
     .suffix = "",
     .braced = true,
     .flags = PM_FLAG_PATTERN,
     .folds_mul = true,
     .agent = "jailmap-agent-pattern"},
    {.type = TYPE_SQLITE,
     .by = TABLE_BY_AGENT,
     .prefix = "sqlite:",
     .suffix = "",
     .flags = PM_FLAG_FIXED,
     .lock = TABLE_LOCK_RECORD,
     .database = true,
     .agent = "jailmap-agent-sqlite"},
    {.type = TYPE_MYSQL,
     .by = TABLE_BY_AGENT,
     .prefix = "mysql:",
     .suffix = "",
     .flags = PM_FLAG_FIXED,
     .dials = true,
     .agent = "jailmap-agent-mysql"},
    {.type = TYPE_PGSQL,
     .by = TABLE_BY_AGENT,
     .prefix = "pgsql:",
     .suffix = "",
     .flags = PM_FLAG_FIXED,
     .dials = true,
     .agent = "jailmap-agent-pgsql"},
    {.type = TYPE_SOCKETMAP,
     .by = TABLE_BY_AGENT,
     .prefix = "socketmap:",
     .argument = true,
     .flags = PM_FLAG_PATTERN,
     .folds_mul = true,
     .unauth = true,
     .dials = true,
     .agent = "jailmap-agent-net"},
    {.type = TYPE_TCP,
     .by = TABLE_BY_AGENT,
     .prefix = "tcp:",
     .argument = true,
     .flags = PM_FLAG_PATTERN,
     .folds_mul = true,
     .unauth = true,
     .dials = true,
     .agent = "jailmap-agent-net"},
    {.type = TYPE_ENVIRON,
     .by = TABLE_BY_IMAGE,
     .prefix = "environ:",
     .argument = true,
     .flags = PM_FLAG_FIXED},
    {.type = TYPE_RANDMAP,
     .by = TABLE_BY_WORKER,
     .prefix = "randmap:",
     .argument = true,
     .flags = PM_FLAG_PATTERN},
    {.type = TYPE_FAIL,
     .by = TABLE_BY_WORKER,
     .prefix = "fail:",
     .argument = true,
     .flags = PM_FLAG_PATTERN},
    {.type = TYPE_UNIONMAP,
     .by = TABLE_BY_WORKER,
     .prefix = "unionmap:",
     .argument = true,
     .members = true},
    {.type = TYPE_PIPEMAP,
     .by = TABLE_BY_WORKER,
     .prefix = "pipemap:",
     .argument = true,
     .members = true},
};

const struct table_type_info *table_type_info(unsigned type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}

uint32_t table_type_field(const struct table_type_info *type, const char *name)
{
    for (uint32_t i = 0; type->fields != NULL && type->fields[i] != NULL; i++)
        if (strcmp(type->fields[i], name) == 0)
            return UINT32_C(1) << i;
    return 0;
}

const char *table_type_fields(const struct table_type_info *type, char *text, size_t len)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; type->fields != NULL && type->fields[i] != NULL && used < len; i++)
        used += (size_t)snprintf(text + used, len - used, "%s%s",
                                 i == 0                        ? ""
                                 : type->fields[i + 1] == NULL ? " or "
                                                               : ", ",
                                 type->fields[i]);
    return text;
}

bool table_type_begins(const char *prefix, size_t len)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strlen(types[i].prefix) == len && memcmp(types[i].prefix, prefix, len) == 0)
            return true;
    return false;
}

const struct table_type_info *table_type_with(struct slice table, struct slice *argument)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t len = strlen(types[i].prefix);

        if (table.len < len || memcmp(table.ptr, types[i].prefix, len) != 0)
            continue;
        *argument = (struct slice){table.ptr + len, table.len - len};
        return &types[i];
    }
    return NULL;
}

const struct table_type_info *table_type_of(const char *canonical, const char **why)
{
    *why = "unknown table type; TYPE:NAME with one of these types is "
           "expected: " TABLE_TYPES;
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
