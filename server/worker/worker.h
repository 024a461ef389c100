/*
 * What the parts of jailmap-worker share: sessions (one client connection each), tables (what the
 * monitor granted), and the loop between them. Runs in the worker only, in an empty chroot, with no
 * capability and about a dozen system calls. Must never make a descriptor or name a path.
 */
#ifndef JAILMAP_SERVER_WORKER_WORKER_H
#define JAILMAP_SERVER_WORKER_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/table_type.h"
#include "privsep/bridge.h"
#include "proto/proxymap.h"
#include "server/image.h"
#include "server/worker/cache.h"
#include "server/worker/unanswered.h"

/* ---- loop (worker.c) ---- */

/* What an epoll event points at. It stands first in each of the structs that are watched. */
enum watch { WATCH_BRIDGE, WATCH_SESSION, WATCH_LINK };
struct watched {
    enum watch watch;
    int fd;
};

/* Watch fd, change what is waited for, in events as of epoll(7). False if the kernel refuses. */
bool loop_add(struct watched *watched, uint32_t events);
void loop_change(struct watched *watched, uint32_t events);
/* Stop watching and close: the descriptor alone, if closed, would be reported as long as another
 * process has it open too, as the monitor may for a moment, with a pointer to what is gone. */
void loop_close(struct watched *watched);
/* Ask to be called back within 250 ms even if nothing happens. */
void loop_tick_soon(void);
/* Monotonic milliseconds. */
uint64_t loop_now(void);

/* Tell the monitor. Events that find its queue full are dropped: they are log lines. */
void tell_event(enum bridge_event event, uint32_t subject, const char *tail, size_t len);
/* A closed connection is always told, later if need be, so that the monitor's count stays true. */
void tell_closed(uint32_t client);
/* Gives a connection back. The descriptor stays the caller's. 0, or -1 with EAGAIN when the
 * monitor's queue is full, or another error for now. */
int tell_handback(uint32_t client, int fd);
/* All that the monitor asked for before is done: is always told, later if need be. */
void tell_settled(uint32_t serial);
/* 0, or -1 with EAGAIN when the monitor's queue is full. */
int tell_open(uint32_t ref, uint32_t client, struct slice name);
/* Call tables_flush() and sessions_hand_back() as soon as the monitor takes more. */
void tell_when_writable(void);

/* ---- counters (tally.c) ---- */

/* Begin to count, with so many slots, on a private page. */
void tally_start(uint32_t slots);
/* Go on counting on the page behind fd, which is consumed. */
void tally_share(int fd, uint32_t slots);
/* Nanoseconds; made without a system call where the kernel's vDSO can tell. */
uint64_t tally_clock(void);
/* A request of any kind was answered. */
void tally_reply(enum pm_status status);
/* It was a lookup, complete at `since`, in the table of that index: the monitor's. */
void tally_lookup(uint32_t table, enum pm_status status, uint64_t since);
/* A lookup in that table was answered by what the worker has kept; it is counted as above, too. */
void tally_cached(uint32_t table);
/* It was refused, because too many waited for that table's agents; counted as above, too. */
void tally_refused(uint32_t table);
/* A step of a walk over a table was answered. */
void tally_step(void);
/* A lookup is made to wait, or refused, by a limit. */
void tally_limited(void);

/* ---- tables (tables.c) ---- */

enum table_state {
    TABLE_UNSENT, /* the monitor is still to be asked */
    TABLE_ASKED,  /* ... has been asked */
    TABLE_READY,
    TABLE_FAILED, /* approved, answers RETRY until the monitor sends it again */
    TABLE_DENIED
};

struct session;

struct table {
    struct watched link; /* to the agent of an answer table; fd -1 otherwise */
    enum table_state state;
    enum bridge_kind answered_by; /* both: the image first */
    uint32_t ref;
    uint32_t flags;
    uint32_t features;
    struct key_limit limit;
    bool limited;   /* there are keys that it lets not pass */
    uint32_t index; /* the monitor's, for counting */
    bool has_image;
    uint32_t generation; /* counts the images, so that a cursor knows its own */
    struct image image;
    unsigned paced;                     /* sessions whose lookup in it waits for its turn */
    struct session *waiters;            /* sessions whose held request is to be answered anew */
    const struct table_type_info *type; /* NULL: there is none of that name */
    struct link_use use;
    bool link_full;               /* until it can be written to */
    unsigned queued;              /* sessions among the waiters that wait for that */
    struct unanswered unanswered; /* queries that were sent */
    struct cache *cache;          /* NULL: nothing is kept */
    uint32_t cache_age;           /* counts how often it was dropped */
    unsigned unmet;    /* lookups that had a temporary error since the monitor was told of that */
    uint64_t unmet_at; /* the latest of them, ms */
    uint32_t hash;
    struct table *next_in_bucket;
    size_t name_len;
    char name[]; /* with a NUL behind it */
};

/*
 * The table of that canonical name, TABLE_UNSENT on first sight. NULL: out of memory, or the name
 * is longer than any that can be approved. The pointer of a table that is TABLE_READY or
 * TABLE_FAILED stays good until session_forget() is called for it.
 */
struct table *table_get(struct slice name);
/* Ask the monitor about a TABLE_UNSENT table on behalf of client, now or when the pace allows. The
 * caller is among its waiters. */
void table_ask(struct table *table, uint32_t client);
/* A session that waits for the table is going. The table may go with it. */
void table_unwait(struct table *table, const struct session *session);
/* The monitor's word on a reference: descriptor is consumed. */
void table_granted(const struct msg_table *grant, int fd);
void table_changed(const struct msg_table_kind *kind);
void table_refused(const struct msg_table_error *error);
/* The monitor takes the table back, and will send it again: requests wait for that. */
void table_recalled(uint32_t ref);
/* The policy is another one: what was denied is to be asked for again. On return, what is not held
 * any more is not mapped either. */
void tables_renew(void);
/* Free what was forgotten while events that point to it could still be in hand. */
void tables_reap(void);
/* Send a query to the table's agents. -1 with EAGAIN: the link is full, and the table's waiters
 * are woken when it takes more; with EBUSY: as many wait for an answer as may; with ENOTCONN: there
 * is nobody to ask now. */
int table_query(struct table *table, uint64_t id, uint32_t flags, struct slice key);
/* How long an answer of its agents may take, in ms. */
uint32_t table_timeout(const struct table *table);
/* A lookup finds the queue full, or has no answer in time: the monitor is told when that begins,
 * and when it has been over for a while. */
void table_is_full(struct table *table);
void table_is_late(struct table *table);
/* Is there somebody whom tables_tick() is to look after? */
bool tables_timed(void);
void tables_tick(void);
/* Whether an answer of either kind is kept. */
bool table_keeps(const struct table *table);
/* What is kept of a key, with the flags of the request; and an agent's answer, to be kept for as
 * long as the table's owner says. age: the table's cache_age when it was asked for. */
enum cache_result table_recollect(struct table *table, struct slice key, uint32_t flags,
                                  struct slice *value);
void table_keep(struct table *table, uint32_t age, struct slice key, uint32_t flags,
                enum bridge_answer status, struct slice value);
void table_link_ready(struct table *table, uint32_t events);
/* Ask what is still to be asked, as far as queue and pace allow. */
void tables_flush(void);
/* Let go of a part of an image or a cache that was replaced. False: nothing is left of any. */
bool tables_shed(void);

/* ---- sessions (session.c) ---- */

/* Take over a connection. It is greeted at once, unless another worker has done that, or the
 * listener has no greeting. */
void session_start(int fd, uint32_t client, bool greeted);
/* The monitor wants so many more clients back: they are handed over once nothing is owed to them,
 * and nothing of them is kept here that the next worker would need. */
void sessions_drain(uint32_t clients);
/* Try again what could not be handed over. */
void sessions_hand_back(void);
void session_ready(struct session *session, uint32_t events);
/*
 * The same for up to SESSIONS_AT_ONCE connections that are readable and nothing else. Requests are
 * received a little ahead of the answers, and what these will read is fetched meanwhile: in a table
 * that exceeds the caches that is most of a lookup's own time.
 */
void sessions_readable(struct session **ready, unsigned count);
#define SESSIONS_AT_ONCE 16
/* The number of a session's client. */
uint32_t session_client(const struct session *session);
/* Takes a session out of a list of waiters, if it is in it. */
void session_unlink(struct session **list, const struct session *session);
/* May a session keep so much more in memory? Then that is counted, until it is released. If not,
 * the caller ends the session, and the others have what they need to go on. */
bool session_keep(const struct session *session, size_t bytes);
void session_release(size_t bytes);
void sessions_tick(void);
/* Free what was closed while events that point to it could still be in hand. */
void sessions_reap(void);
size_t sessions_timed(void);

extern struct msg_serve session_limits;

/* ---- requests (answer.c) ---- */

/* How lookups are answered from now on. */
void sessions_pace(const struct msg_pace *pace);
/* Answers those whose turn it is. Returns in how many ms it will be the next one's; -1: nobody
 * waits. */
int sessions_go_on(void);
/* The request that each of these sessions holds can be answered anew: what it waits for has
 * changed. Those that have waited longest come last in the list, and first here. */
void session_wake(struct session *list);
/* The agents of that table have answered query id; ignored if its session is gone. */
void session_answer(struct table *table, uint64_t id, enum bridge_answer status,
                    struct slice value);
/* Nobody answers what that table's agents were asked: the image may, else it is RETRY. */
void session_link_lost(const struct table *table);
/* Others answer from now on: they are asked what has no answer yet. */
void session_link_replaced(const struct table *table);
/* The table is denied from now on, or waits to be sent: what has to do with it and is held is
 * decided anew. A table that is denied may be freed after that. */
void session_forget(const struct table *table);

#endif
