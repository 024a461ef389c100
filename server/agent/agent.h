/*
 * An agent: an unprivileged process that answers queries for one answer table, one at a time, and
 * one of several that do: they share the links to the workers, and whoever is free takes the next
 * query. Runs in jailmap-agent-*. The frame below owns the bridge and the links; a back end
 * supplies the answers. Must never hold more than one answer for a worker that does not read.
 */
#ifndef JAILMAP_SERVER_AGENT_AGENT_H
#define JAILMAP_SERVER_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/table_type.h"
#include "privsep/bridge.h"
#include "privsep/profile.h"
#include "proto/slice.h"

#define AGENT_NEVER UINT64_MAX

/* The table, as the monitor describes it. Stays as it is for the life of the process. */
struct agent_source {
    enum table_type type;
    uint32_t reveal;
    struct key_limit limit;
    unsigned timeout; /* seconds that an answer may take */
    const char *name; /* behind the type; of sqlite, behind its NUL: the path of the database */
    int file;         /* the source, opened for reading; -1: it has none. Others read it, too, so
                         with pread(2) only */
    int database;     /* the same of what `database` names */
    int journal, wal; /* of what SQLite keeps beside that; -1: it keeps nothing there */
    int dialer;       /* link to the dialer, or -1 */
};

struct agent_query {
    struct slice key; /* good until agent_answer() */
    uint32_t flags;   /* of the request, as in proto/proxymap.h */
};

/* What has become of the source, for the log. */
struct agent_report {
    uint64_t entries; /* rules, for example; 0: nothing to count */
    uint32_t ignored; /* lines left out */
    char text[512];   /* the first of these; or why there is no answering from this source:
                         FILE:LINE, what was found, what is expected */
};

/* What a back end waits for besides queries: events of poll(2) on one descriptor, or -1, and a
 * time of agent_now(), or AGENT_NEVER. It may close the descriptor, or have another of the same
 * number after it has waited for a third or for none. */
struct agent_wait {
    int fd;
    short events;
    uint64_t until;
};

struct agent_backend {
    const struct profile *profile;
    /* Called before the filter is entered, if there is something to do. NULL, or what is lacking
     * of the sandbox. */
    const char *(*enter)(void);
    /* Reads the source. False: no answering from it, and report->text says why. NULL: nothing to
     * prepare. */
    bool (*prepare)(const struct agent_source *source, struct agent_report *report);
    /* Leads to one call of agent_answer() or agent_cannot(), at once or later; until then no other
     * query comes. */
    void (*ask)(const struct agent_query *query);
    /* Both NULL if ask() always answers at once. wait() is asked before each turn; ready() is
     * called when the events have come, or with 0 when the time has. */
    void (*wait)(struct agent_wait *wait);
    void (*ready)(short revents);
    /* Others of its crew have found out that the source fails, or works again: one that leaves it
     * alone for a while is to look now. NULL: it never does. */
    void (*recheck)(void);
};

/* Runs the agent until the monitor goes. Returns the exit status. */
int agent_main(const struct agent_backend *backend);

/*
 * The answer to the query in hand, with what reveal allows and no more; the frame itself sees to
 * REVEAL_EXISTENCE. value is copied. On ANSWER_RETRY why says what fails of the source as a whole.
 * Never ANSWER_NOT_FOUND unless the source said so.
 */
void agent_answer(enum bridge_answer status, struct slice value, const char *why);
/* NOT_FOUND without having asked the source: says nothing of its health. */
void agent_nothing(void);
/* No answer for this one key, whatever the others get: RETRY, and a line of the log with why. */
void agent_cannot(const char *why);
/* The source fails, or works, as was found out without a query. why as in agent_answer(); NULL: it
 * works. */
void agent_health(const char *why);
/*
 * For a source that cannot be told to stop: SIGALRM, which the back end sets with alarm(2), ends
 * this process, and another takes its place. The query in hand gets RETRY. why is kept; event:
 * EVENT_FAILING, the source fails as a whole, or EVENT_CANNOT, for this one key. False with errno.
 */
bool agent_end_at_alarm(enum bridge_event event, const char *why);
/* Monotonic milliseconds. */
uint64_t agent_now(void);

#endif
