/*
 * What the parts of the monitor share. Runs in jailmapd only, with privilege. It may open what the
 * policy names, accept connections, pass descriptors and start children; it must never read from a
 * client connection, never read the content of a table, never block on a child, and never grow
 * without bound for one.
 */
#ifndef JAILMAP_PRIVSEP_MONITOR_H
#define JAILMAP_PRIVSEP_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/priv_spawn.h"

#define NEVER UINT64_MAX

/* ---- loop (jailmapd.c) ---- */

extern const struct policy *monitor_policy;

/* Descriptors that the monitor opened at start: the helper programs and the empty jail. */
enum helper { HELPER_WORKER, HELPER_LOADER, HELPER_SCRIBE, HELPER_AGENT_NSS, HELPERS };
int monitor_helper(enum helper helper);
int monitor_jail(void);

/* Something that epoll watches; ready() gets the events of epoll(7). Embed it, fill in fd. */
struct watched {
    int fd;
    void (*ready)(struct watched *self, uint32_t events);
};
bool monitor_watch(struct watched *watched, uint32_t events);
void monitor_rewatch(struct watched *watched, uint32_t events);
void monitor_unwatch(struct watched *watched);

/* Monotonic milliseconds. */
uint64_t monitor_now(void);

/* ---- children (child.c) ---- */

struct child;
struct child_ops {
    enum bridge_role role;
    const char *what; /* for log lines */
    /* A checked message. Descriptors in it, if any, are the handler's. */
    void (*message)(struct child *child, const struct bridge_msg *msg);
    void (*writable)(struct child *child); /* its queue takes messages again */
    /* It has ended, and everything that it sent has been handled; how says in words if anything
     * but exit status 0. The child is freed afterwards. */
    void (*gone)(struct child *child, const char *how);
};

struct child {
    struct watched io;
    const struct child_ops *ops;
    void *owner;
    pid_t pid;
    enum bridge_state state;
    uint32_t events;
    int64_t credit; /* messages that it may send before it counts as flooding */
    uint64_t credit_at;
    uint64_t started;
    uint64_t kill_at;    /* NEVER, or when patience ends */
    const char *verdict; /* why the monitor ended it */
    bool reaped;
    struct child *next;
};

/* NULL if it cannot be started; the reason has been logged. */
struct child *child_start(const struct child_ops *ops, void *owner, enum helper helper,
                          const struct spawn *limits, bool jailed, const char *title);
/* Sends or, if the queue is full, returns false and calls writable() later. A child that is gone
 * takes everything: its end is being reported anyway. */
bool child_send(struct child *child, enum bridge_type type, const void *body, const void *tail,
                size_t tail_len, const int *fds);
/* Ends it at once, with a reason that appears in the log. */
void child_end(struct child *child, const char *verdict);
/* Lets it go: the bridge is closed, and it is ended if it has not gone within a second. gone() will
 * not be called any more. */
void child_release(struct child *child);
/* Messages that it may send besides its allowance, for work that it was given; within bounds. */
void child_credit(struct child *child, unsigned messages);
void children_reap(void);
uint64_t children_tick(uint64_t now);
/* Frees children that ended, once no event in hand can point at them. */
void children_free(void);
/* Ends all of them and waits; the scribe last, after it has written what it has. */
void children_stop(void);

/* ---- log (log.c) ---- */

void log_start(bool foreground);
/* Connects to syslogd anew. */
void log_reopen(void);
void log_tick(uint64_t now, uint64_t *next);
/* Composes one record and hands it to the scribe. Text from outside goes through policy_escape().
 */
__attribute__((format(printf, 2, 3))) void log_line(int level, const char *format, ...);

/* At most a few lines of one kind in an interval; what was held back is counted. */
struct log_limit {
    uint64_t until; /* of the interval; 0: none has begun */
    unsigned count, held;
};
/* True if a line may be written; else it is counted. */
bool log_allow(struct log_limit *limit);
/* Ends an interval that is over at now. Returns how many lines it held back. */
unsigned log_held(struct log_limit *limit, uint64_t now);

/* ---- tables (tables.c) ---- */

/* What a worker that asked for a table is to be told now. */
struct table_word {
    uint64_t version; /* changes when there is something new to be told */
    bool ready;       /* else RETRY, until the version changes */
    bool again;       /* ... or until it is asked again, in a while */
    enum bridge_kind kind;
    int fd; /* image, or the worker's end of a new link, which close_fd says to close */
    bool close_fd;
};

bool tables_start(void);
/* Version to compare with; 0: nothing to tell yet. */
uint64_t table_version(size_t index);
void table_tell(size_t index, struct table_word *word);
void table_spoiled(size_t index, const char *why);
uint64_t tables_tick(uint64_t now);
void tables_check_all(void);

/* ---- watch (watch.c) ---- */

void watch_start(void);
/* Watch the directory that holds path; called again whenever the source is looked at. */
void watch_source(size_t index, const char *path);
/* Implemented by tables.c: something happened to a source. */
void table_touched(size_t index, uint64_t now);

/* ---- clients (clients.c) ---- */

/* Takes one connection from a listening socket. 0, or the errno of accept(2). */
int client_accept(size_t listener, int listen_fd, uint64_t now);
/* A table has something new to tell to the workers that asked for it. */
void clients_table_changed(size_t index);
uint64_t clients_tick(uint64_t now);
/* Says what was held back until now; at the end. */
void clients_stop(void);

/* ---- listeners (listen.c) ---- */

/* Binds every socket of the policy; before priv_confine(). False with a message in why. */
bool listen_bind(const char *config, char *why, size_t len);
bool listen_start(void);
void listen_stop(void);
uint64_t listen_tick(uint64_t now);

#endif
