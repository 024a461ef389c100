/*
 * A table of networks: the rules of cidr_table(5). Runs in jailmap-agent-pattern; touches memory
 * only. The first rule that matches wins, and an index must never give another one than going
 * through the rules in turn.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_CIDR_H
#define JAILMAP_SERVER_AGENT_PATTERN_CIDR_H

#include "server/agent/pattern/rules.h"

/* Addresses of both families, as numbers. */
typedef unsigned __int128 cidr_number;
enum cidr_family { CIDR_IPV4, CIDR_IPV6, CIDR_FAMILIES };

struct cidr_rule {
    struct slice result; /* borrowed from the rules */
    cidr_number low, high;
    enum cidr_family family;
    bool negated;
    enum { CIDR_RULE, CIDR_IF, CIDR_ENDIF } kind;
    size_t skip; /* of an if that does not match: the rule to go on with, behind its endif */
};

/* Which rule is the first for an address: ranges that begin at `from`, in order. */
struct cidr_index {
    struct cidr_range {
        cidr_number from;
        size_t rule; /* SIZE_MAX: none */
    } * ranges;
    size_t count;
};

struct cidr_table {
    struct cidr_rule *rules;
    size_t count, cap;
    bool indexed; /* false: so many ifs in ifs that an index would be too large */
    struct cidr_index index[CIDR_FAMILIES];
};

/* Takes all of rules, which must stay until cidr_free(). False: out of memory; free it, too. */
bool cidr_parse(struct cidr_table *table, struct rules *rules);
void cidr_free(struct cidr_table *table);

/* The result for a key. False: no rule matches it, or it is no address. */
bool cidr_find(const struct cidr_table *table, struct slice key, struct slice *result);
/* The same without the index. */
bool cidr_find_in_turn(const struct cidr_table *table, struct slice key, struct slice *result);

/* Builds index and sets indexed, for the rules that there are. False: out of memory. */
bool cidr_build_index(struct cidr_table *table);
/* The rule that the index gives, or SIZE_MAX. */
size_t cidr_index_find(const struct cidr_index *index, cidr_number address);

/* The highest address of a family. */
cidr_number cidr_highest(enum cidr_family family);

#endif
