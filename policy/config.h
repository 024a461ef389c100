/*
 * What the words of jailmapd.conf(5) are: sections, options, and where their values go. Read by
 * config.c, which takes them from a text, and print.c, which writes them. Data only.
 */
#ifndef JAILMAP_POLICY_CONFIG_H
#define JAILMAP_POLICY_CONFIG_H

#include <stddef.h>

#include "policy/policy.h"

/* What a value is, and of what type its place in the struct is. */
enum config_value {
    VALUE_NUMBER,    /* unsigned */
    VALUE_MEGABYTES, /* uint64_t, in bytes */
    VALUE_MODE,      /* mode_t */
    VALUE_WORD,      /* bool: is it the second of the words? */
    VALUE_CHOICE,    /* unsigned: which of the words */
    VALUE_USER,      /* uid_t */
    VALUE_GROUP,     /* gid_t */
    VALUE_CHILD,     /* struct policy: the user of the children */
    VALUE_PATH,      /* char * */
    VALUE_REVEAL,    /* uint32_t, of a struct policy_table */
    VALUE_KEYS,      /* uint8_t[32], see policy/key_limit.h */
    VALUE_SET,       /* struct policy_table: its set */
    VALUE_TABLES,    /* struct policy_allow: what it approves */
    VALUE_LISTENS    /* struct policy_allow: where */
};

struct config_option {
    const char *name;
    enum config_value value;
    size_t offset;
    long low, high;             /* of a number */
    const char *expected;       /* in words; of VALUE_WORD and VALUE_CHOICE, all of them */
    const char *const words[3]; /* NULL after the last */
};

/* A section, or, without a title, what stands outside of all. */
struct config_section {
    const char *name;
    const char *title; /* what it is, in words */
    const struct config_option *options;
    size_t noptions;
};

/* Why the option means nothing for the table, in words that go on after the name of its type; NULL:
 * it does. */
const char *config_unmeant(const struct config_option *option, const struct policy_table *table);

extern const struct config_section config_global, config_listen, config_table, config_allow,
    config_limit;

#endif
