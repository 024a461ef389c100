/*
 * A policy as text: see policy_print(). Runs in the program that reads a configuration for the
 * monitor, and in `jailmapd -n`. It may touch only its arguments.
 */
#include "policy/config.h"
#include "privsep/bridge.h"

#include <string.h>

static void print_string(const char *text, FILE *out)
{
    static char escaped[4 * BRIDGE_NAME_MAX + 8];

    fprintf(out, "\"%s\"",
            policy_escape((struct slice){text, strlen(text)}, escaped, sizeof escaped));
}

static void print_tables(const struct policy_allow *a, FILE *out)
{
    fputs("tables = {", out);
    for (size_t i = 0; i < a->nwords; i++) {
        print_string(a->words[i], out);
        fputs(", ", out);
    }
    fputs("}\n", out);
}

static void print_listens(const struct policy *policy, const struct policy_allow *a, FILE *out)
{
    if (a->listens == NULL)
        return;
    fputs("listen = {", out);
    for (size_t i = 0; i < policy->nlistens; i++)
        if (a->listens[i]) {
            print_string(policy->listens[i].path, out);
            fputs(", ", out);
        }
    fputs("}\n", out);
}

static void print_reveal(const struct policy_table *t, FILE *out)
{
    if (t->reveal == REVEAL_ALL || t->reveal == REVEAL_EXISTENCE) {
        fprintf(out, "reveal = %s\n", t->reveal == REVEAL_ALL ? "all" : "existence");
        return;
    }
    fputs("reveal = {", out);
    for (size_t i = 0; t->type->fields[i] != NULL; i++)
        if (t->reveal & UINT32_C(1) << i)
            fprintf(out, "%s, ", t->type->fields[i]);
    fputs("}\n", out);
}

static bool is_allowed(const uint8_t allowed[32], unsigned byte)
{
    return byte < 256 && (allowed[byte / 8] & 1u << byte % 8) != 0;
}

static void print_set(const struct policy_table *t, FILE *out)
{
    if (t->nset == 0)
        return;
    fputs("set = {", out);
    for (size_t i = 0; i < t->nset; i++) {
        print_string(t->set[i], out);
        fputs(", ", out);
    }
    fputs("}\n", out);
}

/* As ranges of bytes, within single quotes, where a backslash before an x is one. */
static void print_keys(const uint8_t allowed[32], FILE *out)
{
    if (memcmp(allowed, key_limit_none.allowed, sizeof key_limit_none.allowed) == 0)
        return;
    fputs("keys = '", out);
    for (unsigned first = 0; first < 256; first++) {
        unsigned last = first;

        if (!is_allowed(allowed, first))
            continue;
        while (is_allowed(allowed, last + 1))
            last++;
        fprintf(out, "\\x%02x-\\x%02x", first, last);
        first = last;
    }
    fputs("'\n", out);
}

/* What has no value, or one that follows from others, is left out. */
static void print_option(const struct policy *policy, const struct config_option *o,
                         const void *base, FILE *out)
{
    const void *place = (const char *)base + o->offset;
    const uint64_t *bytes = place;
    const unsigned *number = place;

    switch (o->value) {
    case VALUE_NUMBER:
        if (*number != 0)
            fprintf(out, "%s = %u\n", o->name, *number);
        break;
    case VALUE_MEGABYTES:
        if (*bytes % (1 << 20) == 0)
            fprintf(out, "%s = %llu\n", o->name, (unsigned long long)(*bytes >> 20));
        break;
    case VALUE_MODE:
        fprintf(out, "%s = %04o\n", o->name, (unsigned)*(const mode_t *)place);
        break;
    case VALUE_WORD:
        fprintf(out, "%s = %s\n", o->name, o->words[o->words[1] != NULL && *(const bool *)place]);
        break;
    case VALUE_CHOICE:
        fprintf(out, "%s = %s\n", o->name, o->words[*number]);
        break;
    case VALUE_USER:
    case VALUE_GROUP:
        if (*number != POLICY_NO_OWNER)
            fprintf(out, "%s = %u\n", o->name, *number);
        break;
    case VALUE_CHILD:
        fprintf(out, "%s = \"%u:%u\"\n", o->name, (unsigned)policy->uid, (unsigned)policy->gid);
        break;
    case VALUE_PATH:
        fprintf(out, "%s = ", o->name);
        print_string(*(char *const *)place, out);
        fputc('\n', out);
        break;
    case VALUE_REVEAL:
        print_reveal(base, out);
        break;
    case VALUE_KEYS:
        print_keys(place, out);
        break;
    case VALUE_SET:
        print_set(base, out);
        break;
    case VALUE_LISTENS:
        print_listens(policy, base, out);
        break;
    case VALUE_TABLES:
        print_tables(base, out);
        break;
    }
}

static void print_section(const struct policy *policy, const struct config_section *section,
                          const char *title, const struct policy_place *place, unsigned id,
                          const void *base, FILE *out)
{
    /* The column is that of the title. */
    fprintf(out, "#line %d %d %u \"%s\"\n%s ", place->line,
            place->column - (int)strlen(section->name) - 1, id, place->file, section->name);
    print_string(title, out);
    fputs(" {\n", out);
    for (size_t i = 0; i < section->noptions; i++)
        if (section != &config_table || config_unmeant(&section->options[i], base) == NULL)
            print_option(policy, &section->options[i], base, out);
    fputs("}\n", out);
}

bool policy_print(const struct policy *policy, FILE *out)
{
    for (size_t i = 0; i < config_global.noptions; i++)
        print_option(policy, &config_global.options[i], policy, out);
    for (size_t i = 0; i < policy->nlistens; i++)
        if (!policy->listens[i].gone)
            print_section(policy, &config_listen, policy->listens[i].path,
                          &policy->listens[i].place, 0, &policy->listens[i], out);
    for (size_t i = 0; i < policy->ntables; i++)
        if (!policy->tables[i].gone)
            print_section(policy, &config_table, policy->tables[i].name, &policy->tables[i].place,
                          0, &policy->tables[i], out);
    for (size_t i = 0; i < policy->nallows; i++)
        print_section(policy, &config_allow, policy->allows[i].title, &policy->allows[i].place,
                      policy->allows[i].who == WHO_GROUP ? policy->allows[i].gid
                                                         : policy->allows[i].uid,
                      &policy->allows[i], out);
    for (size_t i = 0; i < policy->nlimits; i++)
        print_section(policy, &config_limit, policy->limits[i].title, &policy->limits[i].place,
                      policy->limits[i].uid, &policy->limits[i], out);
    return fflush(out) == 0 && !ferror(out);
}
