/*
 * One policy after another: what has changed, and who keeps which place. Read by the monitor, when
 * it reloads. Holds no code.
 */
#ifndef JAILMAP_POLICY_ADOPT_H
#define JAILMAP_POLICY_ADOPT_H

#include "policy/policy.h"

/* What becomes of the table, or listener, of an index. */
enum policy_change {
    POLICY_SAME,
    POLICY_ADDED,
    POLICY_REMOVED,
    POLICY_TUNED, /* only limits are different */
    POLICY_ANEW   /* what it holds, or who may see it, is different */
};

/* Counts, for the log. */
struct policy_changes {
    unsigned listens_added, listens_removed, listens_changed;
    unsigned tables_added, tables_removed, tables_changed;
    unsigned approvals_added, approvals_removed;
    bool others;
};

/*
 * Gives the tables and listeners of new the places that those of old have under the same name. What
 * new does not have keeps its place, as gone, until a later policy needs one; so both number the
 * same things alike, and new has at least as many. False: out of memory, and new is to be freed.
 */
bool policy_adopt(const struct policy *old, struct policy *new);

/* Of two policies that number alike. An index may be beyond old's. */
enum policy_change policy_table_change(const struct policy *old, const struct policy *new,
                                       size_t index);
enum policy_change policy_listen_change(const struct policy *old, const struct policy *new,
                                        size_t index);
struct policy_changes policy_compare(const struct policy *old, const struct policy *new);
bool policy_is_changed(const struct policy_changes *changes);

/* Does new ask for groups of the clients of a listener of old that old does not ask for? */
bool policy_asks_more_groups(const struct policy *old, const struct policy *new, size_t listener);

/* How many there are, but for those that have gone. */
size_t policy_tables(const struct policy *policy);
size_t policy_listeners(const struct policy *policy);

/* An option that a process that runs cannot change, and new has changed: its name; NULL: none. */
const char *policy_needs_restart(const struct policy *old, const struct policy *new);

#endif
