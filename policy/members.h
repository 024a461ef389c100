/*
 * What a table's name holds that is a list in braces: the member tables of `unionmap:{...}` and
 * `pipemap:{...}`, the values of `randmap:{...}`. Read by the monitor, which approves members with
 * the composite, and by the worker, which answers it. Pure: touches its arguments only.
 */
#ifndef JAILMAP_POLICY_MEMBERS_H
#define JAILMAP_POLICY_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/slice.h"

/* Of one composite, all composites among its members included; the reader of a configuration
 * refuses more, and the worker need not go beyond. */
#define MEMBERS_MOST  64
#define MEMBERS_DEPTH 8 /* composites in each other, the outermost is the first */

enum members_kind {
    MEMBERS_TABLES, /* TYPE:NAME each, and proxy: before it means nothing */
    MEMBERS_VALUES  /* anything; one in braces keeps them, as Postfix has it */
};

struct members {
    struct slice rest;
    enum members_kind kind;
};

/*
 * Begins with what stands behind the type in a table's name: items between braces, apart by commas
 * and white space that no further braces enclose. Returns NULL, and members_next() then yields one
 * or more items, each as it should be; or a constant text for an administrator: what was found, and
 * what is expected.
 */
const char *members_begin(struct members *members, enum members_kind kind, struct slice argument);

/* The next item, a part of the argument. False: there is none. */
bool members_next(struct members *members, struct slice *item);

#endif
