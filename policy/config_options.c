/*
 * The grammar of jailmapd.conf(5): see config.h. Linked wherever a configuration is read.
 */
#include "policy/config.h"

#include <string.h>

#define IMAGE_KEY_MOST   ((1l << 28) - 1) /* the format of images: server/image.h */
#define COUNT(array)     (sizeof(array) / sizeof(array)[0])
#define AT(type, member) offsetof(struct policy##type, member)

static const struct config_option global[] = {
    {"user", VALUE_CHILD, 0, 0, 0, NULL, {NULL}},
    {"runtime-dir", VALUE_PATH, AT(, runtime_dir), 0, 0, NULL, {NULL}},
    {"libexec-dir", VALUE_PATH, AT(, libexec_dir), 0, 0, NULL, {NULL}},
    {"sandbox", VALUE_WORD, AT(, strict), 0, 0, "available or strict", {"available", "strict"}},
    {"control-group", VALUE_GROUP, AT(, control_gid), 0, 0, NULL, {NULL}},
    {"loaders", VALUE_NUMBER, AT(, loaders), 1, 64, "1 to 64", {NULL}},
};

static const struct config_option listen[] = {
    {"protocol", VALUE_WORD, 0, 0, 0, "proxymap", {"proxymap", NULL}},
    {"owner", VALUE_USER, AT(_listen, uid), 0, 0, NULL, {NULL}},
    {"group", VALUE_GROUP, AT(_listen, gid), 0, 0, NULL, {NULL}},
    {"mode", VALUE_MODE, AT(_listen, mode), 0, 0, NULL, {NULL}},
    {"greeting", VALUE_WORD, AT(_listen, greeting), 0, 0, "on or off", {"off", "on"}},
    {"backlog", VALUE_NUMBER, AT(_listen, backlog), 1, 65535, "1 to 65535", {NULL}},
    {"max-request",
     VALUE_NUMBER,
     AT(_listen, max_request),
     4096,
     1 << 30,
     "4096 to 1073741824 bytes",
     {NULL}},
    {"request-timeout",
     VALUE_NUMBER,
     AT(_listen, request_timeout),
     1,
     86400,
     "1 to 86400 seconds",
     {NULL}},
    {"answer-timeout",
     VALUE_NUMBER,
     AT(_listen, answer_timeout),
     1,
     86400,
     "1 to 86400 seconds",
     {NULL}},
    {"workers", VALUE_NUMBER, AT(_listen, workers), 1, 64, "1 to 64", {NULL}},
    {"clients-per-worker",
     VALUE_NUMBER,
     AT(_listen, clients_per_worker),
     1,
     4096,
     "1 to 4096",
     {NULL}},
    {"max-use", VALUE_NUMBER, AT(_listen, max_use), 1, 1000000000, "1 to 1000000000", {NULL}},
    {"max-pending",
     VALUE_MEGABYTES,
     AT(_listen, max_pending),
     4,
     1 << 20,
     "4 to 1048576 MB",
     {NULL}},
};

static const struct config_option table[] = {
    {"reveal", VALUE_REVEAL, AT(_table, reveal), 0, 0, NULL, {NULL}},
    {"max-key",
     VALUE_NUMBER,
     AT(_table, limit.max),
     1,
     IMAGE_KEY_MOST,
     "1 to 268435455 bytes",
     {NULL}},
    {"keys", VALUE_KEYS, AT(_table, limit.allowed), 0, 0, NULL, {NULL}},
    {"owner", VALUE_USER, AT(_table, owner), 0, 0, NULL, {NULL}},
    {"symlinks", VALUE_WORD, AT(_table, symlinks), 0, 0, "refuse or follow", {"refuse", "follow"}},
    {"load-time", VALUE_NUMBER, AT(_table, load_time), 1, 86400, "1 to 86400 seconds", {NULL}},
    {"load-memory", VALUE_NUMBER, AT(_table, load_memory), 16, 1 << 20, "16 to 1048576 MB", {NULL}},
    {"image-size", VALUE_NUMBER, AT(_table, image_size), 1, 4095, "1 to 4095 MB", {NULL}},
    {"processes", VALUE_NUMBER, AT(_table, processes), 1, 64, "1 to 64", {NULL}},
    {"timeout", VALUE_NUMBER, AT(_table, timeout), 1, 3600, "1 to 3600 seconds", {NULL}},
    {"queue", VALUE_NUMBER, AT(_table, queue), 1, 1000000, "1 to 1000000", {NULL}},
    {"cache-ttl", VALUE_NUMBER, AT(_table, cache_ttl), 0, 86400, "0 to 86400 seconds", {NULL}},
    {"negative-cache-ttl",
     VALUE_NUMBER,
     AT(_table, negative_cache_ttl),
     0,
     86400,
     "0 to 86400 seconds",
     {NULL}},
    {"cache-size", VALUE_NUMBER, AT(_table, cache_size), 1, 4096, "1 to 4096 MB", {NULL}},
    {"database", VALUE_PATH, AT(_table, database), 0, 0, NULL, {NULL}},
    {"set", VALUE_SET, 0, 0, 0, NULL, {NULL}},
};

static const struct config_option allow[] = {
    {"listen", VALUE_LISTENS, 0, 0, 0, NULL, {NULL}},
    {"tables", VALUE_TABLES, 0, 0, 0, NULL, {NULL}},
};

/* 0 would mean nobody, or no limit: it is left to be said in words. */
static const struct config_option limit[] = {
    {"clients",
     VALUE_NUMBER,
     AT(_limit, clients),
     1,
     1000000,
     "1 to 1000000, or no such line for no limit,",
     {NULL}},
    {"lookups-per-second",
     VALUE_NUMBER,
     AT(_limit, lookups_per_second),
     1,
     10000000,
     "1 to 10000000, or no such line for no limit,",
     {NULL}},
    {"misses-per-minute",
     VALUE_NUMBER,
     AT(_limit, misses_per_minute),
     1,
     600000000,
     "1 to 600000000, or no such line for no limit,",
     {NULL}},
    {"action",
     VALUE_CHOICE,
     AT(_limit, action),
     0,
     0,
     "audit, slow or retry",
     {"audit", "slow", "retry"}},
};

const struct config_section config_global = {NULL, NULL, global, COUNT(global)};
const struct config_section config_listen = {"listen", "the path of a socket", listen,
                                             COUNT(listen)};
const struct config_section config_table = {"table", "a table's TYPE:NAME", table, COUNT(table)};
const struct config_section config_allow = {"allow", "a user, a @group or *", allow, COUNT(allow)};
const struct config_section config_limit = {"limit", "a user or *", limit, COUNT(limit)};

/* What a table must have, or be, for an option of its section to mean anything. */
enum need {
    NEED_ENTRIES,
    NEED_KEYS,
    NEED_FILE,
    NEED_IMAGE,
    NEED_PROCESS,
    NEED_AGENT,
    NEED_DATABASE,
    NEED_ENVIRON
};

static const struct {
    const char *option;
    enum need need;
} needs[] = {
    {"max-key", NEED_KEYS},        {"keys", NEED_KEYS},
    {"reveal", NEED_ENTRIES},      {"owner", NEED_FILE},
    {"symlinks", NEED_FILE},       {"load-time", NEED_PROCESS},
    {"load-memory", NEED_PROCESS}, {"image-size", NEED_IMAGE},
    {"processes", NEED_AGENT},     {"timeout", NEED_AGENT},
    {"queue", NEED_AGENT},         {"cache-ttl", NEED_AGENT},
    {"cache-size", NEED_AGENT},    {"negative-cache-ttl", NEED_AGENT},
    {"database", NEED_DATABASE},   {"set", NEED_ENVIRON},
};

static const char *lacks(const struct policy_table *t, enum need need)
{
    const struct table_type_info *type = t->type;

    switch (need) {
    case NEED_ENTRIES:
        if (type->members)
            return "whose members say what they reveal";
        return type->by != TABLE_BY_WORKER ? NULL : "which has nothing to hide";
    case NEED_KEYS:
        return type->members ? "whose members have limits of their own" : NULL;
    case NEED_FILE:
        if (t->path != NULL)
            return NULL;
        return type->suffix != NULL ? "which has its rules in its name" : "which has no file";
    case NEED_IMAGE:
        return type->by & TABLE_BY_IMAGE ? NULL : "of which no image is made";
    case NEED_PROCESS:
        return type->by != TABLE_BY_WORKER ? NULL : "for which no process is started";
    case NEED_AGENT:
        return type->by & TABLE_BY_AGENT ? NULL : "which no agent answers";
    case NEED_DATABASE:
        return type->database ? NULL : "which is not sqlite";
    default:
        return type->type == TYPE_ENVIRON ? NULL : "which is not environ";
    }
}

const char *config_unmeant(const struct config_option *option, const struct policy_table *t)
{
    for (size_t i = 0; i < COUNT(needs); i++)
        if (strcmp(option->name, needs[i].option) == 0)
            return lacks(t, needs[i].need);
    return NULL;
}
