/*
 * What the tables of a worker say of one key: an image, what is kept of an agent's answers, a name
 * that holds the answer, or a composite of other tables. Runs in the worker. It may read tables and
 * keep what it is given; it must never wait: it says what is to be waited for, and is called again.
 */
#ifndef JAILMAP_SERVER_WORKER_LOOKUP_H
#define JAILMAP_SERVER_WORKER_LOOKUP_H

#include "server/worker/worker.h"

/*
 * What is known of the members of a composite, in the order in which they are asked. A lookup that
 * has waited is begun anew, and takes from here what it has come to already, so each member is
 * asked once and the answers are of one piece. All zero: nothing. Counted as the session's memory.
 */
struct memo {
    struct memo_answer *answers;
    unsigned count;
    size_t bytes;
};

/* The next member's answer; value is copied. False: no memory for it. */
bool memo_add(struct memo *memo, const struct session *session, const struct table *table,
              enum pm_status status, struct slice value);
bool memo_has(const struct memo *memo, const struct table *table);
void memo_drop(struct memo *memo);

/* What becomes of a key that the image does not have, where an agent answers too. */
enum beyond { ASK_AGENT, AGENT_IS_GONE, AGENT_HAS_NOT };

struct lookup {
    const struct session *session;
    struct slice key;
    uint32_t flags;
    struct memo *memo;
    /* Known of the agent of that table, for the first key that the memo has no answer for; of the
     * table itself, if it is no composite. */
    enum beyond beyond;
    const struct table *beyond_of;
};

/* What it has come to. */
struct outcome {
    enum {
        LOOKUP_DONE,  /* status, flags of the reply, value */
        LOOKUP_TABLE, /* the monitor has not said yet what that table is */
        LOOKUP_AGENT, /* that table's agent is to be asked for that key */
        LOOKUP_ENDS   /* out of memory */
    } is;
    enum pm_status status;
    uint32_t flags;
    bool cached; /* answered by what was kept */
    struct table *table;
    struct slice key;   /* good until the next lookup */
    struct slice value; /* good until a table changes, or the memo */
};

/* In a table that the monitor has spoken of. */
void lookup(const struct lookup *lookup, struct table *table, struct outcome *outcome);

#endif
