/*
 * What compartments.c, workers.c, grants.c and clients.c share; the other parts of the monitor see
 * clients.h. Runs in jailmapd only, with privilege. What a worker says is a claim; all that is kept
 * here is what the kernel or the policy says.
 */
#ifndef JAILMAP_PRIVSEP_WORKERS_H
#define JAILMAP_PRIVSEP_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/log.h"
#include "privsep/monitor.h"

#define STEADY_MS 10000 /* a worker that lived so long starts from the beginning */
#define AGAIN_MS  1000  /* what could not be sent is tried again after this */
#define BEHIND_MS 20    /* and what a worker has no use for yet */

/* A connection, as the kernel told of it at accept(2). */
struct client {
    bool used;
    pid_t pid;
    uid_t uid;
    gid_t gid;
    dev_t dev;
    ino_t ino;
};

/* What a worker asked for, by table, and what it has been told. */
struct grant {
    bool asked;
    enum { OWED_NOTHING, OWED_DENIAL, OWED_RECALL } owed; /* what it is to be told first */
    uint32_t ref;
    uint64_t told;    /* table_version() */
    uint64_t linked;  /* agent_version(); 0: it has no link */
    int link;         /* the agents' end of it; 0: there is none */
    uint64_t agent;   /* of the last link that it had */
    unsigned relinks; /* lost, of links to the same agent */
    uint64_t link_at; /* when it may have the next of these */
};

/* Kinds of lines that a client can cause, each with its own limit. */
enum limited { DENIALS, CLOSINGS, REFUSALS, COMPLAINTS, DEATHS, LIMITED };

/* One of a crowd, and one of a named user with groups, is there while it has a worker. */
struct compartment {
    struct policy_peer peer;
    struct crowd *crowd; /* NULL: the uid is named, and has places of its own */
    bool stale;          /* the policy asks for more groups than these: nobody comes in any more */
    bool suspect;        /* none of its workers is asked for clients any more: see worker_gone() */
    unsigned workers, clients;
    struct worker *worn;        /* the one that is to hand its clients back, if any */
    uint64_t start_at, backoff; /* no worker is started before, after one died */
    struct log_limit limits[LIMITED];
    struct compartment *next;
    gid_t groups[]; /* of the peer */
};

struct worker {
    struct child *child;
    size_t place;
    uint32_t slots; /* of its counters */
    struct compartment *compartment;
    struct grant *grants;
    struct client *clients; /* as many as one worker may have; the index is the client's number */
    unsigned most;          /* such clients */
    size_t room;            /* tables for which it has descriptors */
    unsigned nclients, served;
    unsigned asked_back; /* clients that it has been asked for, and has not handed back yet */
    bool returned;       /* one of these could go nowhere else, and went back to it */
    uint64_t idle_since;
    uint64_t again_at; /* NEVER, or when to tell it what could not be told */
    uint64_t link_at;  /* NEVER, or when a link that it has lost may be made anew */
    /* After a reload: */
    enum { SETTLED, SETTLE_OWED, SETTLING } settling;
    uint64_t settle_by;
    bool serve_owed; /* it is to be told its limits */
    bool outdated;   /* its limits are too small for the policy: worn */
    bool tainted;    /* it had what its clients may not have any more: to be replaced soon */
    bool dismissed;  /* it is to end without its being at fault, and has been told */
    uint64_t end_by; /* NEVER, or when a tainted one has had its time */
    struct msg_pace pace;
    bool pace_owed; /* it has not been told */
    struct worker *next;
};

extern struct worker *workers;

static inline const struct policy_listen *listen_of(const struct compartment *c)
{
    return &monitor_policy->listens[c->peer.listener];
}

static inline bool is_client(const struct worker *w, uint32_t number)
{
    return number < w->most && w->clients[number].used;
}

/* ---- compartments.c ---- */

/* May a line of that kind be written about c? Else it is counted. */
bool compartment_may_log(struct compartment *c, enum limited kind);
/* May that uid have one more connection, on whatever socket? False with the reason. */
bool uid_may_connect(uid_t uid, const char **why);
/* Of clients like that one; NULL: out of memory. A new one is to be let go with
 * compartment_forget(), if it gets no worker. */
struct compartment *compartment_find(const struct policy_peer *peer);
/* Frees it, if nothing is worth keeping. */
void compartment_forget(struct compartment *c, uint64_t now);
/* The most workers for c, besides a worn one that hands its clients back. */
unsigned compartment_workers_most(const struct compartment *c);
/*
 * The least busy worker that takes one more; another is started when there is none. urgent: a
 * client is at the door, and another worker that is idle may be let go of for it.
 */
struct worker *compartment_worker(struct compartment *c, uint64_t now, bool urgent,
                                  const char **why);

/* Are its worn workers replaced, one at a time? */
bool compartment_hands_back(const struct compartment *c);
/* As tables_reload(). */
void compartments_reload(const struct policy *old);
/* Says what was held back, and forgets who has gone. Returns when to come again. */
uint64_t compartments_tick(uint64_t now);

/* ---- workers.c ---- */

/* There is news of it, or of its end. */
void worker_news(size_t place);
/* NULL: not now, and the compartment knows when next. */
struct worker *worker_start(struct compartment *c);
/* Ends one that is not at fault: it may simply have clients that are never idle. */
void worker_dismiss(struct worker *w, const char *why);
/* Lets one go that has no clients. */
void worker_release(struct worker *w);

/* ---- grants.c ---- */

/* What was taken from it by a reload. False: its queue is full. */
bool grant_tell_owed(struct worker *w, size_t index);
/*
 * Tells a worker what is new about a table it asked for. The link first: an agent alone gives right
 * answers, an image alone may not. False: its queue is full; writable() comes back to it.
 */
bool grant_tell(struct worker *w, size_t index);
/* Says who was denied what, and what would approve it. */
void grant_log_denied(struct worker *w, uint32_t client, struct slice name);
/* Gives an agent that has just started every link to its table. */
void grants_link(size_t index, struct child *agent);
/* Lets go of all links to a table: nobody answers. */
void grants_unlink(size_t index);
/* Frees what w was granted. */
void grants_free(struct worker *w);
/* OPEN: ref, client; table name. */
void grant_asked(struct worker *w, const struct bridge_msg *msg);
/* An image that is none, or a link whose other end has gone: that one is made anew. */
void grant_spoiled(struct worker *w, uint32_t ref, struct slice text);
/* Lookups in a table begin to have no answer, or have one again. A claim of the worker, whose
 * clients alone it is about. */
void grant_unmet(struct worker *w, uint32_t ref, bool begins, struct slice text);
/* Takes from w what its clients may not have any more, or not as it was. */
void grants_take_away(struct worker *w);

/* ---- clients.c ---- */

/* "uid 105 pid 99 on /path", the identity part of every line about a client. */
const char *client_identity(const struct worker *w, uint32_t client);
/* CLOSED: client. */
void client_closed(struct worker *w, const struct bridge_msg *msg);
/* EVENT: event, client or ref; text. A claim, and named as the worker's where it matters. */
void client_event(struct worker *w, const struct bridge_msg *msg);
/*
 * Asks a worn or tainted worker for some of its clients, as soon as another one is there to take
 * them and has taken what it was sent; so a queue that is full refuses nobody.
 */
void clients_ask_back(struct worker *w, uint64_t now);
/* HANDBACK: client; its connection. */
void client_handed_back(struct worker *w, const struct bridge_msg *msg);

#endif
