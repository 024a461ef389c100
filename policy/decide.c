/*
 * Approval decisions. Runs in the monitor on a table name that a child passed on, and on the user
 * and groups that the kernel told. It may touch only its arguments; it must never approve what is
 * not written down.
 */
#include "policy/policy.h"

#include "policy/members.h"
#include "privsep/bridge.h"
#include "proto/proxymap.h"

/* Every byte of the longest name as an escape, and the end. */
#define ESCAPED_MAX (4 * BRIDGE_NAME_MAX + 8)

bool policy_is_on(const struct policy_allow *allow, size_t listener)
{
    return allow->listens == NULL || allow->listens[listener];
}

size_t policy_count(const struct policy *policy, size_t listener, enum policy_who who)
{
    size_t count = 0;

    for (size_t i = 0; i < policy->nallows; i++)
        count += policy->allows[i].who == who && policy_is_on(&policy->allows[i], listener);
    return count;
}

bool policy_asks_groups(const struct policy *policy, size_t listener)
{
    return policy_count(policy, listener, WHO_GROUP) > 0;
}

static bool is_asked_for(const struct policy *policy, size_t listener, gid_t group)
{
    for (size_t i = 0; i < policy->nallows; i++)
        if (policy->allows[i].who == WHO_GROUP && policy->allows[i].gid == group &&
            policy_is_on(&policy->allows[i], listener))
            return true;
    return false;
}

size_t policy_reduce(const struct policy *policy, size_t listener, gid_t *groups, size_t count)
{
    size_t left = 0, at;

    for (size_t i = 0; i < count; i++) {
        gid_t group = groups[i];

        if (!is_asked_for(policy, listener, group))
            continue;
        for (at = left; at > 0 && groups[at - 1] > group; at--)
            ;
        if (at > 0 && groups[at - 1] == group)
            continue;
        memmove(&groups[at + 1], &groups[at], (left - at) * sizeof *groups);
        groups[at] = group;
        left++;
    }
    return left;
}

static bool speaks_of(const struct policy_allow *allow, const struct policy_peer *peer)
{
    if (!policy_is_on(allow, peer->listener))
        return false;
    if (allow->who == WHO_USER)
        return allow->uid == peer->uid;
    for (size_t i = 0; allow->who == WHO_GROUP && i < peer->ngroups; i++)
        if (allow->gid == peer->groups[i])
            return true;
    return allow->who == WHO_ANYONE;
}

enum policy_standing policy_standing(const struct policy *policy, const struct policy_peer *peer)
{
    enum policy_standing standing = STANDING_NONE;

    for (size_t i = 0; i < policy->nallows; i++) {
        if (!speaks_of(&policy->allows[i], peer))
            continue;
        if (policy->allows[i].who == WHO_USER)
            return STANDING_NAMED;
        standing = STANDING_GUEST;
    }
    return standing;
}

bool policy_word_names(const struct policy *policy, const char *word, struct slice table)
{
    const char *colon = strchr(word, ':');
    size_t len = colon != NULL ? (size_t)(colon - word) + 1 : 0;

    if (strcmp(word, "*") == 0 || slice_is(table, word))
        return true;
    if (colon == NULL || strcmp(colon, ":*") != 0)
        return false;
    for (size_t i = 0; i < policy->ntables; i++)
        if (strcmp(policy->tables[i].name, word) == 0) /* as static:* can be */
            return false;
    return table.len >= len && memcmp(table.ptr, word, len) == 0;
}

const struct policy_limit *policy_limit(const struct policy *policy, uid_t uid)
{
    /* Told to the administrator, and nothing else: it must not stand in anybody's way unasked. */
    static const struct policy_limit usual = {.misses_per_minute = 60000};
    const struct policy_limit *found = &usual;

    for (size_t i = 0; i < policy->nlimits; i++) {
        const struct policy_limit *l = &policy->limits[i];

        if (!l->anyone && l->uid == uid)
            return l;
        if (l->anyone)
            found = l;
    }
    return found;
}

/* The index of the table of that name, or how many there are. */
static size_t find_table(const struct policy *policy, struct slice name)
{
    size_t table = 0;

    while (table < policy->ntables && !slice_is(name, policy->tables[table].name))
        table++;
    return table;
}

/* Does a section that speaks of the client name that table itself? */
static bool is_allowed(const struct policy *policy, const struct policy_peer *peer, size_t table)
{
    for (size_t i = 0; i < policy->nallows; i++)
        if (policy->allows[i].tables[table] && speaks_of(&policy->allows[i], peer))
            return true;
    return false;
}

/* A composite's members are declared tables, fewer than 65 in all. */
static bool is_approved(const struct policy *policy, const struct policy_peer *peer, size_t table)
{
    const struct policy_table *t = &policy->tables[table];

    if (!is_allowed(policy, peer, table))
        return false;
    for (size_t i = 0; i < t->nmembers; i++)
        if (!is_approved(policy, peer, t->members[i]))
            return false;
    return true;
}

enum policy_decision policy_decide(const struct policy *policy, const struct policy_peer *peer,
                                   struct slice name, size_t *table)
{
    *table = find_table(policy, name);
    if (*table < policy->ntables && is_approved(policy, peer, *table))
        return POLICY_APPROVE;
    return POLICY_DENY;
}

uint32_t policy_table_flags(const struct policy *policy, size_t table)
{
    const struct policy_table *t = &policy->tables[table];

    if (!t->type->members)
        return t->type->flags;
    while (t->nmembers > 0)
        t = &policy->tables[t->members[0]];
    return t->type->flags & (PM_FLAG_FIXED | PM_FLAG_PATTERN);
}

char *policy_escape(struct slice name, char *text, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < name.len && at + 5 < len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (c == '"' || c == '\\')
            at += (size_t)snprintf(text + at, len - at, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f || (c == '$' && i + 1 < name.len && name.ptr[i + 1] == '{'))
            at += (size_t)snprintf(text + at, len - at, "\\x%02x", c);
        else
            text[at++] = (char)c;
    }
    text[at] = '\0';
    return text;
}

char *policy_printable(struct slice words, char *text, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < words.len && at + 5 < len; i++) {
        unsigned char c = (unsigned char)words.ptr[i];

        if (c < 0x20 || c >= 0x7f)
            at += (size_t)snprintf(text + at, len - at, "\\x%02x", c);
        else
            text[at++] = (char)c;
    }
    text[at] = '\0';
    return text;
}

static void write_quoted(FILE *out, const char *text)
{
    char escaped[ESCAPED_MAX];

    fprintf(out, "\"%s\"",
            policy_escape((struct slice){text, strlen(text)}, escaped, sizeof escaped));
}

/* Is the word the name of one table? */
static bool is_declared(const struct policy *policy, const char *word)
{
    for (size_t i = 0; i < policy->ntables; i++)
        if (strcmp(word, policy->tables[i].name) == 0)
            return true;
    return false;
}

static void show_word(const struct policy *policy, const char *title, const char *word, FILE *out)
{
    const char *between = " is ";

    fputs("allow ", out);
    write_quoted(out, title);
    fputs(": ", out);
    write_quoted(out, word);
    for (size_t i = 0; i < policy->ntables; i++) {
        const char *name = policy->tables[i].name;

        if (policy->tables[i].gone ||
            !policy_word_names(policy, word, (struct slice){name, strlen(name)}))
            continue;
        fputs(between, out);
        write_quoted(out, name);
        between = ", ";
    }
    fputs(between[0] == ' ' ? " is no table\n" : "\n", out);
}

void policy_show_words(const struct policy *policy, FILE *out)
{
    for (size_t i = 0; i < policy->nallows; i++)
        for (size_t j = 0; j < policy->allows[i].nwords; j++)
            if (!is_declared(policy, policy->allows[i].words[j]))
                show_word(policy, policy->allows[i].title, policy->allows[i].words[j], out);
}

/* The section that names the client's user; *elsewhere: one does, but for other listeners. */
static const struct policy_allow *section_of(const struct policy *policy,
                                             const struct policy_peer *peer, bool *elsewhere)
{
    const struct policy_allow *found = NULL;

    *elsewhere = false;
    for (size_t i = 0; i < policy->nallows; i++) {
        const struct policy_allow *allow = &policy->allows[i];

        if (allow->who != WHO_USER || allow->uid != peer->uid)
            continue;
        if (policy_is_on(allow, peer->listener))
            found = allow;
        else
            *elsewhere = true;
    }
    return found;
}

/* `listen = {...} `, if the section is to be one of some listeners only. */
static void write_listens(FILE *out, const struct policy *policy, const struct policy_peer *peer,
                          const struct policy_allow *allow, bool elsewhere)
{
    const char *between = "listen = {";

    if (allow != NULL ? allow->listens == NULL : !elsewhere)
        return;
    for (size_t i = 0; i < policy->nlistens; i++)
        if (allow != NULL ? allow->listens[i] : i == peer->listener) {
            fputs(between, out);
            write_quoted(out, policy->listens[i].path);
            between = ", ";
        }
    fputs("}  ", out);
}

/* A table that was denied, and what it is made of; each once. */
struct wanted {
    struct slice names[MEMBERS_MOST + 1];
    size_t count;
};

/* The name is a child's, and anything: what is no whole composite has no members. */
static void want(struct wanted *wanted, struct slice name, unsigned depth)
{
    const struct table_type_info *type;
    struct members members;
    struct slice argument;

    for (size_t i = 0; i < wanted->count; i++)
        if (slice_same(wanted->names[i], name))
            return;
    if (wanted->count == sizeof wanted->names / sizeof wanted->names[0])
        return;
    wanted->names[wanted->count++] = name;
    type = table_type_with(name, &argument);
    if (depth > MEMBERS_DEPTH || type == NULL || !type->members ||
        members_begin(&members, MEMBERS_TABLES, argument) != NULL)
        return;
    while (members_next(&members, &name))
        want(wanted, name, depth + 1);
}

/* Has the client that table already, or does the section name it, as soon as it is declared? */
static bool is_named(const struct policy *policy, const struct policy_peer *peer,
                     const struct policy_allow *allow, struct slice name)
{
    size_t table = find_table(policy, name);

    if (table < policy->ntables && is_allowed(policy, peer, table))
        return true;
    for (size_t i = 0; allow != NULL && i < allow->nwords; i++)
        if (policy_word_names(policy, allow->words[i], name))
            return true;
    return false;
}

/* The shortest section that declares it. Where a database is cannot be known here. */
static void write_table(FILE *out, struct slice name)
{
    struct slice argument;
    const struct table_type_info *type = table_type_with(name, &argument);
    char escaped[ESCAPED_MAX];

    fprintf(out, "table \"%s\" { %s}  ", policy_escape(name, escaped, sizeof escaped),
            type != NULL && type->database ? "database = \"/ITS-DBPATH\" " : "");
}

char *policy_advice(const struct policy *policy, const struct policy_peer *peer, struct slice name,
                    char *text, size_t len)
{
    bool elsewhere;
    struct wanted wanted = {.count = 0};
    const char *between = "";
    const struct policy_allow *allow = section_of(policy, peer, &elsewhere);
    char escaped[ESCAPED_MAX], uid[16];
    FILE *out = fmemopen(text, len, "w");

    if (out == NULL) {
        text[0] = '\0';
        return text;
    }
    want(&wanted, name, 1);
    for (size_t i = 0; i < wanted.count; i++)
        if (find_table(policy, wanted.names[i]) == policy->ntables)
            write_table(out, wanted.names[i]);
    snprintf(uid, sizeof uid, "%u", (unsigned)peer->uid);
    fputs("allow ", out);
    write_quoted(out, allow != NULL ? allow->title : uid);
    fputs(" { ", out);
    write_listens(out, policy, peer, allow, elsewhere);
    fputs("tables = {", out);
    for (size_t i = 0; allow != NULL && i < allow->nwords; i++, between = ", ") {
        fputs(between, out);
        write_quoted(out, allow->words[i]);
    }
    for (size_t i = 0; i < wanted.count; i++)
        if (!is_named(policy, peer, allow, wanted.names[i])) {
            fprintf(out, "%s\"%s\"", between,
                    policy_escape(wanted.names[i], escaped, sizeof escaped));
            between = ", ";
        }
    fputs("} }", out);
    fclose(out);
    text[len - 1] = '\0';
    return text;
}
