/*
 * The names of tables: see config_table.h. Linked wherever a configuration is read. It may touch
 * only its arguments; it must never accept a name that the program which answers it would read in
 * another way.
 */
#include "policy/config_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "policy/members.h"

#define SOCKET_MOST (sizeof((struct sockaddr_un *)NULL)->sun_path - 1)

static bool is_of(struct slice s, const char *bytes)
{
    for (size_t i = 0; i < s.len; i++)
        if (strchr(bytes, s.ptr[i]) == NULL)
            return false;
    return s.len > 0;
}

/* Cuts off what stands behind the last colon. False: there is none. */
static bool cut_last(struct slice *s, struct slice *last)
{
    for (size_t i = s->len; i-- > 0;)
        if (s->ptr[i] == ':') {
            *last = (struct slice){s->ptr + i + 1, s->len - i - 1};
            s->len = i;
            return true;
        }
    return false;
}

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* A number, or the name of a service. */
static bool is_port(struct slice port)
{
    char text[6] = "";
    long number;

    if (!is_of(port, DIGITS))
        return is_of(port, DIGITS LETTERS "-_") && port.len <= 32;
    if (port.len >= sizeof text)
        return false;
    memcpy(text, port.ptr, port.len);
    number = strtol(text, NULL, 10);
    return number >= 1 && number <= 65535;
}

/* HOST:PORT, with a host that has colons in brackets. */
static bool is_host_port(struct slice host)
{
    struct slice port;

    if (!cut_last(&host, &port) || !is_port(port))
        return false;
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        return is_of((struct slice){host.ptr + 1, host.len - 2}, DIGITS LETTERS ".-_:%");
    return is_of(host, DIGITS LETTERS ".-_") && host.len <= 255;
}

static bool begins(struct slice s, const char *text)
{
    return s.len >= strlen(text) && memcmp(s.ptr, text, strlen(text)) == 0;
}

static const char *check_socketmap(struct slice name)
{
    struct slice map, rest = {name.ptr + 5, name.len > 5 ? name.len - 5 : 0};

    if (cut_last(&rest, &map) && map.len > 0) {
        if (begins(name, "inet:") && is_host_port(rest))
            return NULL;
        if (begins(name, "unix:") && begins(rest, "/") && rest.len <= SOCKET_MOST)
            return NULL;
    }
    return "what stands behind the colon is no server and its map; inet:HOST:PORT:MAP or "
           "unix:/PATH:MAP is expected";
}

/* The members of the composites among the members count, too. */
static const char *check_members(struct slice argument, unsigned depth, unsigned *count)
{
    struct members members;
    const struct table_type_info *type;
    struct slice member, inner;
    const char *why = members_begin(&members, MEMBERS_TABLES, argument);

    if (why == NULL && depth > MEMBERS_DEPTH)
        return "more than 8 composites stand in each other; 8 at most are expected";
    while (why == NULL && members_next(&members, &member)) {
        if (++*count > MEMBERS_MOST)
            return "there are more than 64 members, with those of its members; 64 at most are "
                   "expected";
        type = table_type_with(member, &inner);
        if (type != NULL && type->members)
            why = check_members(inner, depth + 1, count);
    }
    return why;
}

const char *config_table_name(const struct table_type_info *type, const char *argument)
{
    struct slice name = {argument, strlen(argument)};
    struct members members;
    unsigned count = 0;

    if (type->argument && name.len == 0)
        return "the content of the table is expected behind the colon";
    if (type->members)
        return check_members(name, 1, &count);
    switch (type->type) {
    case TYPE_RANDMAP:
        return members_begin(&members, MEMBERS_VALUES, name);
    case TYPE_SOCKETMAP:
        return check_socketmap(name);
    case TYPE_TCP:
        return is_host_port(name) ? NULL
                                  : "what stands behind the colon is no server; HOST:PORT is "
                                    "expected";
    case TYPE_SQLITE:
    case TYPE_MYSQL:
    case TYPE_PGSQL:
        if (argument[0] != '/' && argument[0] != '.')
            return "its parameters would stand in main.cf, which is not read; a file with them, "
                   "and its absolute path behind the colon, is expected";
        return NULL;
    default:
        return NULL;
    }
}
