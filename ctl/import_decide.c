/*
 * From the settings of Postfix to the tables that its proxymap(8) approves, who names each, and
 * which ones are named in vain. Runs in jailmap-import as whoever calls it. It may touch its
 * arguments, and the files that import_approved() reads.
 */
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "ctl/import.h"
#include "policy/config_table.h"
#include "policy/members.h"
#include "privsep/bridge.h"

#define SERVICE    "proxymap/unix/"
#define READ_MAPS  "proxy_read_maps"
#define WRITE_MAPS "proxy_write_maps"
#define CLASSES    "smtpd_restriction_classes"
#define USERS      "unix:passwd.byname"
#define SEPARATORS ", \t\r\n"

struct naming {
    struct import_list *list;
    const struct import_list *among; /* only names that are in it; NULL: all */
    const char *from;
    bool files; /* that stand in the value are read, where Postfix does */
    bool warn;
};

static void add(void *context, struct slice name)
{
    const struct naming *naming = context;
    char *text = strndup(name.ptr, name.len);

    if (text == NULL)
        naming->list->failed = true;
    else if (naming->among == NULL || import_list_find(naming->among, text) != NULL)
        import_list_add(naming->list, name, naming->from);
    free(text);
}

static void warn(void *context, const char *what, struct slice token)
{
    const struct naming *naming = context;

    if (naming->warn)
        import_say(0, "%s: \"%.*s\" is skipped, as Postfix does: %s",
                   naming->from != NULL ? naming->from : READ_MAPS,
                   token.len > 200 ? 200 : (int)token.len, token.ptr, what);
}

static void add_named(const char *value, const struct import *import, struct naming naming)
{
    const struct import_rules rules = {
        .files = naming.files && import->classes, .approve = add, .warn = warn, .context = &naming};

    if (value != NULL)
        import_approved((struct slice){value, strlen(value)}, &rules);
}

/* The next name of a parameter that $name, ${name...} or $(name...) refers to; the caller's to
 * free. $$ is a dollar. */
static char *next_reference(const char **at)
{
    for (; **at != '\0'; (*at)++) {
        size_t len;

        if (**at != '$')
            continue;
        (*at)++;
        *at += strspn(*at, "{(");
        len = strspn(*at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
        if (len > 0) {
            char *name = strndup(*at, len);

            *at += len;
            return name;
        }
        if (**at == '\0')
            break;
    }
    return NULL;
}

/* Every parameter that proxy_read_maps refers to names some of the tables that it approves. */
static void find_parameters(struct import *import, const char *maps)
{
    char *name;

    while ((name = next_reference(&maps)) != NULL) {
        for (size_t i = 0; i < import->read_by.n; i++)
            if (strcmp(import->read_by.list[i].name, name) == 0)
                add_named(import->read_by.list[i].value, import,
                          (struct naming){.list = &import->approved,
                                          .among = &import->approved,
                                          .from = import->read_by.list[i].name,
                                          .files = true});
        free(name);
    }
}

static bool at_least(const char *version, unsigned major, unsigned minor)
{
    char *end = NULL;
    unsigned long first = version != NULL ? strtoul(version, &end, 10) : 0, second = 0;

    if (end != NULL && *end == '.')
        second = strtoul(end + 1, NULL, 10);
    return first > major || (first == major && second >= minor);
}

/* The tables of restriction classes. */
static void add_classes(struct import *import)
{
    const char *classes = import_setting(&import->read_by, CLASSES);
    char *copy = strdup(classes != NULL ? classes : ""), *rest = copy, *name;

    import->approved.failed = import->approved.failed || copy == NULL;
    while (copy != NULL && (name = strsep(&rest, SEPARATORS)) != NULL)
        for (size_t i = 0; *name != '\0' && i < import->read_by.n; i++)
            if (strcmp(import->read_by.list[i].name, name) == 0)
                add_named(import->read_by.list[i].value, import,
                          (struct naming){.list = &import->approved,
                                          .from = import->read_by.list[i].name,
                                          .files = true,
                                          .warn = true});
    free(copy);
}

/* What any service but proxymap finds with proxy: in its parameters. Paths may be those of
 * anything, as keys or logs, and are not followed. */
static void find_named(const struct import *import, struct import_list *named)
{
    for (size_t i = 0; i < import->plain.n; i++) {
        const struct import_setting *s = &import->plain.list[i];

        if (strcmp(s->name, READ_MAPS) != 0 && strcmp(s->name, WRITE_MAPS) != 0)
            add_named(s->value, import, (struct naming){.list = named, .from = s->name});
    }
    for (size_t i = 0; i < import->over_x.n; i++) {
        const struct import_setting *s = &import->over_x.list[i];
        const char *slash = strrchr(s->name, '/');

        if (strncmp(s->name, SERVICE, strlen(SERVICE)) != 0 && slash != NULL &&
            strcmp(slash + 1, READ_MAPS) != 0 && strcmp(slash + 1, WRITE_MAPS) != 0)
            add_named(s->value, import, (struct naming){.list = named, .from = s->name});
    }
}

/* postconf prints overrides of master.cf with single blanks, whatever the table's name has. */
static bool is_approved(const struct import_list *approved, const char *name)
{
    bool found = import_list_find(approved, name) != NULL;

    for (size_t i = 0; !found && strchr(name, ' ') != NULL && i < approved->n; i++)
        found = import_same_words(approved->names[i]->name, name);
    return found;
}

/* Is there nobody but local_recipient_maps, for which it is enough that a user exists? */
static bool names_only_recipients(const struct import_name *name)
{
    for (size_t i = 0; name != NULL && i < name->nfrom; i++) {
        const char *slash = strrchr(name->from[i], '/'); /* of a service in master.cf */

        if (strcmp(slash != NULL ? slash + 1 : name->from[i], "local_recipient_maps") != 0)
            return false;
    }
    return name != NULL && name->nfrom > 0;
}

static void find_denied(struct import *import)
{
    struct import_list named = {0}, written = {0};

    find_named(import, &named);
    add_named(import_setting(&import->plain, WRITE_MAPS), import,
              (struct naming){.list = &written, .from = WRITE_MAPS});
    for (size_t i = 0; i < named.n; i++) {
        const struct import_name *name = named.names[i];
        struct slice text = {name->name, strlen(name->name)};

        for (size_t from = 0; from < name->nfrom; from++)
            if (!is_approved(&import->approved, name->name) && !is_approved(&written, name->name))
                import_list_add(&import->denied, text, name->from[from]);
    }
    import->existence = names_only_recipients(import_list_find(&import->approved, USERS)) &&
                        names_only_recipients(import_list_find(&named, USERS));
    import->denied.failed = import->denied.failed || named.failed || written.failed;
    import_list_free(&named);
    import_list_free(&written);
}

/* Postfix opens the members of a composite unasked; jailmapd approves them, or not the whole. Those
 * are added behind the last, where the members of a composite among them are found in turn. */
static void add_members(struct import_list *approved)
{
    for (size_t i = 0; i < approved->n; i++) {
        const char *name = approved->names[i]->name, *why;
        const struct table_type_info *type = table_type_of(name, &why);
        struct slice argument, member;
        struct members members;

        if (type == NULL || !type->members || strlen(name) > BRIDGE_NAME_MAX ||
            config_table_name(type, name + strlen(type->prefix)) != NULL)
            continue;
        argument = (struct slice){name, strlen(name)};
        argument.ptr += strlen(type->prefix);
        argument.len -= strlen(type->prefix);
        if (members_begin(&members, MEMBERS_TABLES, argument) != NULL)
            continue;
        while (members_next(&members, &member))
            import_list_add(approved, member, name);
    }
}

int import_decide(struct import *import)
{
    const char *version = import_setting(&import->plain, "mail_version");
    const char *maps = import_setting(&import->over, SERVICE READ_MAPS);

    if (maps == NULL)
        maps = import_setting(&import->raw, READ_MAPS);
    if (maps == NULL || version == NULL)
        return import_say(EX_PROTOCOL,
                          "postconf does not print %s; Postfix 2.10 or later is expected",
                          maps == NULL ? READ_MAPS : "mail_version");
    import->classes = at_least(version, 3, 11);
    add_named(import_setting(&import->read_by, READ_MAPS), import,
              (struct naming){.list = &import->approved, .files = true, .warn = true});
    find_parameters(import, maps);
    for (size_t i = 0; i < import->approved.n; i++) /* what stands there itself */
        if (import->approved.names[i]->nfrom == 0)
            import_list_add(&import->approved,
                            (struct slice){import->approved.names[i]->name,
                                           strlen(import->approved.names[i]->name)},
                            READ_MAPS);
    if (import->classes)
        add_classes(import);
    add_members(&import->approved);
    find_denied(import);
    if (import->approved.failed || import->denied.failed)
        return import_say(EX_OSERR, "out of memory");
    return EX_OK;
}
