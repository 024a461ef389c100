/*
 * A client connection, between the file that moves its bytes (session.c) and the one that decides
 * about its requests (answer.c). Runs in the worker; nothing else there sees inside.
 */
#ifndef JAILMAP_SERVER_WORKER_SESSION_H
#define JAILMAP_SERVER_WORKER_SESSION_H

#include "server/worker/lookup.h"

#define NO_TALLY UINT32_MAX

struct buffer {
    char *ptr;
    size_t len, cap;
};

/* Where a client's `sequence` requests have come to in a table. */
struct cursor {
    const struct table *table;
    uint32_t generation;
    uint32_t at;
    bool walking; /* the walk has not come to its end */
    struct cursor *next;
};

struct session {
    struct watched io;
    uint32_t client;
    uint32_t slot;   /* low half of a query's id */
    uint32_t serial; /* high half: of the latest query, or of the session */
    struct pm_decoder decoder;
    struct buffer in, out;
    size_t out_sent;
    uint64_t since;                 /* the request in hand is complete: tally_clock() */
    uint32_t tallied;               /* index of the table that it is a lookup in, or NO_TALLY */
    const struct table *last_table; /* spares the search by name; never one that is denied */
    struct cursor *cursors;
    /* The request that is held back, if any: a table is to be decided, an answer to come, a link to
     * take the question, or its turn. */
    enum hold { HOLD_NONE, HOLD_TABLE, HOLD_ANSWER, HOLD_LINK, HOLD_PACE } hold;
    enum { NOT_LIMITED, LIMITED, HAS_TURN } turn; /* of the request in hand */
    struct pm_request held;
    char *held_key;
    struct table *named;      /* the table of the request that is held, */
    struct table *held_table; /* and the one that it waits for: the same, or a member of it */
    struct slice asked;       /* HOLD_ANSWER: the key asked for, if the answer is to be kept */
    char *asked_copy;         /* holds it, unless it is the held key */
    uint32_t asked_age;       /* of the table's cache then */
    struct memo memo;
    struct session *next_waiter;
    /* ms: by when the answer is to be there that it waits for, and by when those of all members,
     * who have their own time each; 0: nobody was asked. */
    uint64_t answer_by, all_by;
    uint64_t deadline;    /* ms; 0: none */
    uint32_t events;      /* what epoll waits for */
    uint32_t last_denied; /* hash of the name */
    uint8_t denied_told;
    bool ending; /* close as soon as the answers are out */
    bool dead;
    struct session *next_dead;
};

/* ---- session.c ---- */

/* Slots from 0 to sessions_slots() - 1 have a session each, or NULL. */
size_t sessions_slots(void);
struct session *session_in(size_t slot);
/* A number that no query has had, nor a session: a late answer must find nobody. */
uint32_t session_serial(void);
void session_set_deadline(struct session *session, uint64_t at);
/* When it is to be told that what it waits for is late; 0: it waits for nothing that can be. */
static inline uint64_t session_waits_until(const struct session *s)
{
    if (s->hold != HOLD_ANSWER && s->hold != HOLD_LINK)
        return 0;
    return s->answer_by < s->all_by ? s->answer_by : s->all_by;
}
/* The answer to its request in hand. */
void session_reply(struct session *session, const struct pm_request *req, enum pm_status status,
                   uint32_t flags, struct slice key, struct slice value);
/* Sends what is answered and goes on with what is received, after a request that was held. */
void session_resume(struct session *session);

/* ---- answer.c ---- */

/* Answers what pm_decode() found, or holds it. */
void answer_request(struct session *session, enum pm_result result, const struct pm_request *req);
/* The time for the answer that it waits for is over. */
void answer_is_late(struct session *session);
/* It goes: it waits for nothing any more, and nothing of its request is kept. */
void answer_forget(struct session *session);

#endif
