/*
 * Approval decisions. Runs in the monitor on a table name that a child passed on and a uid that the
 * kernel told. It may touch only its arguments; it must never approve what is not written down.
 */
#include "policy/policy.h"

#include "privsep/bridge.h"

/* Every byte of the longest name as an escape, and the end. */
#define ESCAPED_MAX (4 * BRIDGE_NAME_MAX + 8)

static const struct policy_allow *allow_of(const struct policy *policy, uid_t uid)
{
    for (size_t i = 0; i < policy->nallows; i++)
        if (policy->allows[i].uid == uid)
            return &policy->allows[i];
    return NULL;
}

bool policy_knows(const struct policy *policy, uid_t uid)
{
    return allow_of(policy, uid) != NULL;
}

enum policy_decision policy_decide(const struct policy *policy, uid_t uid, struct slice name,
                                   size_t *table)
{
    const struct policy_allow *allow = allow_of(policy, uid);

    for (*table = 0; allow != NULL && *table < policy->ntables; (*table)++)
        if (slice_is(name, policy->tables[*table].name))
            return allow->tables[*table] ? POLICY_APPROVE : POLICY_DENY;
    return POLICY_DENY;
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

char *policy_advice(const struct policy *policy, uid_t uid, struct slice name, char *text,
                    size_t len)
{
    const struct policy_allow *allow = allow_of(policy, uid);
    char escaped[ESCAPED_MAX], other[ESCAPED_MAX];
    bool declared = false;
    FILE *out = fmemopen(text, len, "w");

    if (out == NULL) {
        text[0] = '\0';
        return text;
    }
    policy_escape(name, escaped, sizeof escaped);
    for (size_t i = 0; i < policy->ntables && !declared; i++)
        declared = slice_is(name, policy->tables[i].name);
    if (!declared)
        fprintf(out, "table \"%s\" { }  ", escaped);
    if (allow != NULL)
        fprintf(out, "allow \"%s\" { tables = {", allow->title);
    else
        fprintf(out, "allow \"%u\" { tables = {", (unsigned)uid);
    if (allow != NULL && allow->all) /* names every table that is declared */
        fputs("\"*\"} }", out);
    for (size_t i = 0; allow != NULL && !allow->all && i < policy->ntables; i++)
        if (allow->tables[i]) {
            struct slice its = {policy->tables[i].name, strlen(policy->tables[i].name)};

            fprintf(out, "\"%s\", ", policy_escape(its, other, sizeof other));
        }
    if (allow == NULL || !allow->all)
        fprintf(out, "\"%s\"} }", escaped);
    fclose(out);
    text[len - 1] = '\0';
    return text;
}
