/*
 * Writing what Postfix approves as a jailmapd.conf(5). Runs in jailmap-import as whoever calls it.
 * It may touch only its arguments; nothing that it is given may get into the file but as a name in
 * quotes or as printable words of a comment.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl/import.h"
#include "policy/config_table.h"
#include "policy/members.h"
#include "policy/policy.h"
#include "policy/table_type.h"
#include "privsep/bridge.h"

/* Writes text as one of the policy's functions makes it safe: at most four bytes for one. */
static void print_safe(FILE *out, const char *text,
                       char *(*safe)(struct slice words, char *to, size_t len))
{
    size_t len = strlen(text), room = 4 * len + 8;
    char *to = malloc(room);

    fputs(to != NULL ? safe((struct slice){text, len}, to, room) : "(out of memory)", out);
    free(to);
}

void import_print_name(FILE *out, const char *name)
{
    print_safe(out, name, policy_escape);
}

/* Is the parameter a class of smtpd's restrictions? */
static bool is_class(const struct import *import, const char *parameter)
{
    const char *at = import_setting(&import->plain, "smtpd_restriction_classes");
    size_t len = strlen(parameter);

    for (; at != NULL && *at != '\0'; at += strcspn(at, ", \t")) {
        at += strspn(at, ", \t");
        if (strcspn(at, ", \t") == len && strncmp(at, parameter, len) == 0)
            return true;
    }
    return false;
}

void import_print_from(FILE *out, const struct import *import, const struct import_name *name)
{
    for (size_t i = 0; i < name->nfrom; i++) {
        fputs(i > 0 ? ", " : "", out);
        print_safe(out, name->from[i], policy_printable);
        fputs(is_class(import, name->from[i]) ? " (restriction class)" : "", out);
    }
}

const char *import_refused_path(const char *path)
{
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return "has a control character in its path";
    if (path[0] != '/')
        return "has a relative path; write an absolute one in main.cf";
    for (const char *at = path; at != NULL; at = strchr(at + 1, '/')) {
        size_t len = strcspn(at + 1, "/");

        if (len == 0 || (len == 1 && at[1] == '.') || (len == 2 && memcmp(at + 1, "..", 2) == 0))
            return "has an empty, . or .. component in its path; write it without in main.cf";
    }
    return NULL;
}

/* What check_table_name() of the configuration refuses. */
static const char *refused_name(const struct table_type_info *type, const char *argument)
{
    if (type->argument && argument[0] == '\0')
        return "has nothing behind the colon";
    if (config_table_name(type, argument) != NULL)
        return type->argument
                   ? "has a name that jailmapd does not understand"
                   : "has its parameters in main.cf, which jailmapd does not read; write "
                     "them into a file and name its absolute path";
    if (type->suffix == NULL || (type->braced && argument[0] == '{'))
        return NULL;
    return import_refused_path(argument);
}

/* Composites hold no more names in each other than refused_name() lets pass. */
static const char *unserved_member(const struct import *import, struct slice argument)
{
    struct members members;
    struct slice member;
    const char *why = NULL;

    if (members_begin(&members, MEMBERS_TABLES, argument) != NULL)
        return "has a name that jailmapd does not understand";
    while (why == NULL && members_next(&members, &member)) {
        char *text = strndup(member.ptr, member.len);
        const struct import_name *name =
            text != NULL ? import_list_find(&import->approved, text) : NULL;

        if (name == NULL || import_unserved(import, name) != NULL)
            why = "has a member that jailmapd cannot serve";
        free(text);
    }
    return why;
}

const char *import_unserved(const struct import *import, const struct import_name *name)
{
    const char *why, *argument;
    const struct table_type_info *type = table_type_of(name->name, &why);

    if (strlen(name->name) > BRIDGE_NAME_MAX)
        return "has a longer name than jailmapd takes";
    if (type == NULL)
        return "is of a type that jailmapd does not serve yet";
    argument = name->name + strlen(type->prefix);
    why = refused_name(type, argument);
    if (why == NULL && type->database && name->database == NULL)
        why = "needs database = \"PATH\" with the dbpath of its file, where no absolute one can be "
              "read";
    if (why == NULL && type->members)
        why = unserved_member(import, (struct slice){argument, strlen(argument)});
    return why;
}

static void print_listen(FILE *out, const struct import_place *place)
{
    fputs("\nlisten \"", out);
    import_print_name(out, place->socket);
    fputs("\" {\n    protocol = proxymap\n    owner = \"", out);
    import_print_name(out, place->owner);
    fputs("\"\n    group = \"", out);
    import_print_name(out, place->group);
    fputs("\"\n    mode = 0660\n}\n", out);
}

static void print_tables(FILE *out, const struct import *import)
{
    for (size_t i = 0; i < import->approved.n; i++) {
        const struct import_name *name = import->approved.names[i];
        const char *why = import_unserved(import, name);
        bool existence = import->existence && strcmp(name->name, "unix:passwd.byname") == 0;

        fputs("\n# ", out);
        import_print_from(out, import, name);
        if (why != NULL)
            fprintf(out, "\n# This table %s; it stays with proxymap(8).", why);
        if (existence)
            fputs("\n# Postfix wants to know no more than that a user exists.", out);
        if (strncmp(name->name, "environ:", strlen("environ:")) == 0)
            fputs("\n# It is empty; set = {\"NAME=VALUE\", ...} gives it entries.", out);
        fprintf(out, "\n%stable \"", why != NULL ? "#" : "");
        import_print_name(out, name->name);
        fprintf(out, "\" { %s", existence ? "reveal = existence " : "");
        if (name->database != NULL) {
            fputs("database = \"", out);
            import_print_name(out, name->database);
            fputs("\" ", out);
        }
        fputs("}\n", out);
    }
}

static void print_allow(FILE *out, const struct import *import, const char *user)
{
    size_t last = 0; /* behind the last one that is served */

    for (size_t i = 0; i < import->approved.n; i++)
        if (import_unserved(import, import->approved.names[i]) == NULL)
            last = i + 1;
    fputs("\nallow \"", out);
    import_print_name(out, user);
    fputs(last > 0 ? "\" {\n    tables = {\n" : "\" {\n    tables = {", out);
    for (size_t i = 0; i < last; i++) {
        const struct import_name *name = import->approved.names[i];

        if (import_unserved(import, name) != NULL)
            continue;
        fputs("        \"", out);
        import_print_name(out, name->name);
        fputs(i + 1 < last ? "\", # " : "\" # ", out);
        import_print_from(out, import, name);
        fputs("\n", out);
    }
    fputs(last > 0 ? "    }\n}\n" : "}\n}\n", out);
}

static void print_denied(FILE *out, const struct import *import)
{
    const char *classes = import_setting(&import->plain, "smtpd_restriction_classes");

    if (import->denied.n == 0)
        return;
    fputs("\n# Postfix names these tables with proxy: too, but its proxymap(8) denies them, and so "
          "does this\n# file. Where one is needed, add it to proxy_read_maps in main.cf and import "
          "again.\n",
          out);
    if (!import->classes && classes != NULL && classes[0] != '\0')
        fputs("# (Postfix before 3.11 does not approve what only a restriction class names, unless "
              "proxy_read_maps\n# names the table or the class.)\n",
              out);
    for (size_t i = 0; i < import->denied.n; i++) {
        fputs("#     ", out);
        import_print_name(out, import->denied.names[i]->name);
        fputs(" # ", out);
        import_print_from(out, import, import->denied.names[i]);
        fputs("\n", out);
    }
}

void import_print(FILE *out, const struct import *import, const struct import_place *place)
{
    const char *version = import_setting(&import->plain, "mail_version");

    fputs("# jailmapd.conf(5), printed by `jailmap import` from the configuration of Postfix ",
          out);
    print_safe(out, version != NULL ? version : "", policy_printable);
    fputs("\n# in ", out);
    print_safe(out, place->directory, policy_printable);
    fputs(". It approves what Postfix's own proxymap(8) approves for reading.\n"
          "# Each table has with it the parameters that name it.\n",
          out);
    if (import->approved.n == 0)
        fputs("# Postfix approves no table: nothing in proxy_read_maps begins with proxy:.\n", out);
    print_listen(out, place);
    print_tables(out, import);
    print_allow(out, import, place->owner);
    if (strcmp(place->owner, "root") != 0) {
        fputs("\n# Daemons of Postfix open tables as root, before they become ", out);
        print_safe(out, place->owner, policy_printable);
        fputs(".", out);
        print_allow(out, import, "root");
    }
    print_denied(out, import);
}
