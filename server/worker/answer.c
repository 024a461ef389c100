/*
 * What becomes of a client's request: which table it means, whether it may be answered now, and
 * what its answer is; or what it is held for, and until when. Runs in the worker. It may read
 * tables, ask the monitor about them and their agents for keys; it must never answer from a table
 * that the monitor has not granted, nor have one client wait for what another has asked.
 */
#include <errno.h>
#include <stdlib.h>

#include "server/worker/session.h"

#define DENIED_TOLD 4                  /* repeated denials reported for each connection */
#define AHEAD_NS    UINT64_C(50000000) /* lookups of so much time may come at once */
#define TURNS       64                 /* given until others are looked after */
#define MINUTE_NS   UINT64_C(60000000000)
/* A request that asked for so much when its table was opened is held to it later, too. */
#define REFUSALS (PM_FLAG_NO_REGSUB | PM_FLAG_NO_UNAUTH)

/* How lookups are answered, and the sessions that wait for their turn, in order. */
static struct msg_pace pace;
static uint64_t turn_at; /* ns: the next lookup has its turn then, or a little sooner */
static struct session *paced, **paced_end = &paced;

static const struct slice nothing = {"", 0};

static void reply_status(struct session *s, const struct pm_request *req, enum pm_status status)
{
    /* The new dialect echoes the request's flags, but shows none when it refuses. */
    bool refuses = status == PM_BAD || status == PM_DENY;

    session_reply(s, req, status, refuses ? 0 : req->flags, nothing, nothing);
}

/* ---- what is held ---- */

/* Bytes that are the session's, and count; NULL for an empty key. False: no memory for them, and
 * the session ends. */
static bool copy_key(struct session *s, struct slice key, char **copy)
{
    *copy = NULL;
    if (key.len == 0)
        return true;
    if (!session_keep(s, key.len)) {
        s->ending = true;
        return false;
    }
    *copy = malloc(key.len);
    if (*copy == NULL) {
        session_release(key.len);
        s->ending = true;
        return false;
    }
    memcpy(*copy, key.ptr, key.len);
    return true;
}

static void free_key(char *key, size_t len)
{
    if (key != NULL)
        session_release(len);
    free(key);
}

/* It does not wait for its turn any more. */
static void leave_queue(const struct session *s)
{
    s->held_table->paced--;
    session_unlink(&paced, s);
    for (paced_end = &paced; *paced_end != NULL; paced_end = &(*paced_end)->next_waiter)
        ;
}

/* It waits for nothing any more. */
static void leave_lists(struct session *s)
{
    if (s->hold == HOLD_LINK)
        s->held_table->queued--;
    if (s->hold == HOLD_TABLE || s->hold == HOLD_LINK)
        table_unwait(s->held_table, s);
    if (s->hold == HOLD_PACE)
        leave_queue(s);
}

/* But for the key, which is the caller's now; it is on no list. */
static char *take_held(struct session *s)
{
    char *key = s->held_key;

    if (s->out.len == 0)
        session_set_deadline(s, 0);
    free_key(s->asked_copy, s->asked.len);
    s->asked_copy = NULL;
    s->held_key = NULL;
    s->held_table = NULL;
    s->hold = HOLD_NONE;
    return key;
}

void answer_forget(struct session *s)
{
    leave_lists(s);
    free_key(take_held(s), s->held.key.len);
    memo_drop(&s->memo);
}

/* Begins to wait for an answer of the table's agents, unless it does that already. */
static void begin_waiting(struct session *s, const struct table *table)
{
    uint64_t now = loop_now();

    if (s->all_by == 0)
        s->all_by = now + (uint64_t)session_limits.answer_timeout * 1000;
    if (s->answer_by == 0)
        s->answer_by = now + table_timeout(table);
}

/* Keeps the request, which names one table, until another or the same has what it waits for. False:
 * no memory for it, and the session ends. */
static bool hold(struct session *s, const struct pm_request *req, struct table *named,
                 struct table *table, enum hold what)
{
    char *key;

    if (!copy_key(s, req->key, &key))
        return false;
    if (what == HOLD_ANSWER || what == HOLD_LINK)
        begin_waiting(s, table);
    s->held = *req;
    s->held.key.ptr = key;
    s->held_key = key;
    s->named = named;
    s->held_table = table;
    s->hold = what;
    if (s->out.len == 0) /* else the deadline is for reading what is out already */
        session_set_deadline(s, session_waits_until(s));
    if (what == HOLD_TABLE || what == HOLD_LINK) {
        table->queued += what == HOLD_LINK;
        s->next_waiter = table->waiters;
        table->waiters = s;
    } else if (what == HOLD_PACE) {
        s->next_waiter = NULL;
        table->paced++;
        *paced_end = s;
        paced_end = &s->next_waiter;
    }
    return true;
}

static void hold_for_table(struct session *s, const struct pm_request *req, struct table *named,
                           struct table *table)
{
    if (!hold(s, req, named, table, HOLD_TABLE))
        table_unwait(table, s); /* a name that nobody waits for is forgotten */
    else if (table->state == TABLE_UNSENT)
        table_ask(table, s->client);
}

/* ---- lookups ---- */

static uint32_t flags_of(const struct pm_request *req)
{
    return req->flags | (req->instance_flags & REFUSALS);
}

/* The answer is to be kept: for that key, which may not be the request's. */
static void note_asked(struct session *s, const struct pm_request *req, const struct table *table,
                       struct slice key)
{
    bool same = key.ptr == req->key.ptr && key.len == req->key.len;

    s->asked_age = 0; /* no cache has that age */
    s->asked = nothing;
    if (s->hold != HOLD_ANSWER || !table_keeps(table))
        return;
    if (!same && !copy_key(s, key, &s->asked_copy))
        return;
    s->asked_age = table->cache_age;
    s->asked = same ? s->held.key : (struct slice){s->asked_copy, key.len};
}

static void ask_agent(struct session *s, const struct pm_request *req, struct table *named,
                      const struct lookup *l, const struct outcome *out)
{
    uint64_t id = (uint64_t)(s->serial = session_serial()) << 32 | s->slot;

    if (table_query(out->table, id, l->flags, out->key) == 0) {
        hold(s, req, named, out->table, HOLD_ANSWER);
        note_asked(s, req, out->table, out->key);
    } else if (errno == EAGAIN) {
        hold(s, req, named, out->table, HOLD_LINK);
    } else {
        if (errno == EBUSY) {
            tally_refused(s->tallied);
            table_is_full(out->table);
        }
        reply_status(s, req, PM_RETRY);
    }
}

/* beyond: what is known of the agents of the table it has waited for. */
static void answer_lookup(struct session *s, const struct pm_request *req, struct table *table,
                          enum beyond beyond, const struct table *beyond_of)
{
    struct lookup l = {s, req->key, flags_of(req), &s->memo, beyond, beyond_of};
    struct outcome out;

    lookup(&l, table, &out);
    switch (out.is) {
    case LOOKUP_DONE:
        if (out.cached)
            tally_cached(s->tallied);
        session_reply(s, req, out.status, out.flags & ~(l.flags ^ req->flags), nothing, out.value);
        break;
    case LOOKUP_TABLE:
        hold_for_table(s, req, table, out.table);
        break;
    case LOOKUP_AGENT:
        ask_agent(s, req, table, &l, &out);
        break;
    case LOOKUP_ENDS:
        s->ending = true;
        break;
    }
}

/* ---- walks ---- */

/* Where the client's walk over the table has come to. NULL: out of memory. */
static struct cursor *cursor_of(struct session *s, const struct table *table)
{
    struct cursor *c = s->cursors;

    while (c != NULL && c->table != table)
        c = c->next;
    if (c == NULL && (c = calloc(1, sizeof *c)) != NULL) {
        *c = (struct cursor){table, table->generation, 0, false, s->cursors};
        s->cursors = c;
    }
    return c;
}

static void answer_sequence(struct session *s, const struct pm_request *req, struct table *table)
{
    struct cursor *c;
    struct slice key, value;

    if (!(table->features & FEATURE_SEQUENCE) || !table->has_image) {
        reply_status(s, req, PM_RETRY);
        return;
    }
    c = cursor_of(s, table);
    if (c == NULL) {
        s->ending = true;
        return;
    }
    c->walking = true;
    if (req->function == PM_FUNCTION_FIRST) {
        c->at = 0;
        c->generation = table->generation;
    }
    if (c->generation != table->generation) /* half a walk over each of two tables is no walk */
        reply_status(s, req, PM_RETRY);
    else if (image_next(&table->image, &c->at, &key, &value))
        session_reply(s, req, PM_OK, req->flags, key, value);
    else {
        c->walking = false;
        reply_status(s, req, PM_NOKEY);
    }
}

static void forget_cursor(struct session *s, const struct table *table)
{
    for (struct cursor **at = &s->cursors; *at != NULL; at = &(*at)->next)
        if ((*at)->table == table) {
            struct cursor *c = *at;

            *at = c->next;
            free(c);
            return;
        }
}

/* ---- pace ---- */

/* Takes one turn, if there is one now. *wait: how long until then, in ns. */
static bool take_turn(uint64_t *wait)
{
    uint64_t now = tally_clock();

    *wait = turn_at > now + AHEAD_NS ? turn_at - now - AHEAD_NS : 0;
    if (*wait > 0)
        return false;
    if (turn_at < now)
        turn_at = now;
    turn_at += MINUTE_NS / (pace.per_minute > 0 ? pace.per_minute : 1);
    return true;
}

/* True if the lookup may be answered now. Else it has its answer, which says nothing of the table,
 * or waits behind those that came before. */
static bool has_turn(struct session *s, const struct pm_request *req, struct table *table)
{
    uint64_t wait;

    if (pace.pace == PACE_FREE || s->turn == HAS_TURN ||
        (pace.pace == PACE_SLOW && paced == NULL && take_turn(&wait))) {
        s->turn = HAS_TURN; /* also if it has to wait for something else */
        return true;
    }
    if (s->turn == NOT_LIMITED)
        tally_limited();
    s->turn = LIMITED;
    if (pace.pace == PACE_RETRY)
        reply_status(s, req, PM_RETRY);
    else
        hold(s, req, table, table, HOLD_PACE);
    return false;
}

void sessions_pace(const struct msg_pace *fresh)
{
    pace = *fresh;
    turn_at = 0;
}

int sessions_go_on(void)
{
    uint64_t wait;

    for (int i = 0; paced != NULL; i++) {
        struct session *s = paced;

        if (i == TURNS)
            return 0;
        if (pace.pace == PACE_SLOW && !take_turn(&wait))
            return (int)((wait + 999999) / 1000000);
        if (pace.pace == PACE_SLOW)
            s->turn = HAS_TURN;
        paced = s->next_waiter;
        if (paced == NULL)
            paced_end = &paced;
        s->held_table->paced--;
        s->next_waiter = NULL;
        session_wake(s);
    }
    return -1;
}

/* ---- requests ---- */

/* Only what the sender may know of: its own bits, masked, and what is true of the table. */
static uint32_t open_flags(const struct table *table, const struct pm_request *req)
{
    const uint32_t try_bits = PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL;
    uint32_t sent = req->instance_flags & PM_FLAG_KNOWN, type = table->flags;

    if (sent & try_bits)
        type &= ~try_bits;
    return sent | type;
}

/* The one place where the state of the table that a request names becomes a status. */
static void answer_from(struct session *s, const struct pm_request *req, struct table *table)
{
    switch (table->state) {
    case TABLE_UNSENT:
    case TABLE_ASKED:
        hold_for_table(s, req, table, table);
        return;
    case TABLE_DENIED:
        s->last_denied = table->hash;
        reply_status(s, req, PM_DENY);
        return;
    case TABLE_READY:
    case TABLE_FAILED:
        break;
    }
    s->last_table = table;
    s->tallied = req->op == PM_LOOKUP ? table->index : NO_TALLY;
    if (req->op == PM_OPEN)
        session_reply(s, req, PM_OK, open_flags(table, req), nothing, nothing);
    else if (!has_turn(s, req, table))
        return;
    else if (req->op == PM_LOOKUP)
        answer_lookup(s, req, table, ASK_AGENT, NULL);
    else
        answer_sequence(s, req, table);
}

static void answer_by_name(struct session *s, const struct pm_request *req, struct slice name)
{
    struct table *table = (struct table *)s->last_table;

    if (table == NULL || table->name_len != name.len ||
        memcmp(table->name, name.ptr, name.len) != 0)
        table = table_get(name);
    if (table == NULL && name.len <= BRIDGE_NAME_MAX) {
        s->ending = true; /* out of memory is not a denial */
        return;
    }
    /* The monitor has logged the denial that it decided; later ones it learns of here. */
    if ((table == NULL || (table->state == TABLE_DENIED && table->hash != s->last_denied)) &&
        s->denied_told < DENIED_TOLD) {
        s->denied_told++;
        tell_event(EVENT_DENIED, s->client, name.ptr, name.len);
    }
    if (table == NULL)
        reply_status(s, req, PM_DENY);
    else
        answer_from(s, req, table);
}

void answer_request(struct session *s, enum pm_result result, const struct pm_request *req)
{
    struct slice name = pm_canonical(req->table);

    s->tallied = NO_TALLY;
    s->turn = NOT_LIMITED;
    s->answer_by = s->all_by = 0;
    if (result == PM_REQUEST && (req->op == PM_UPDATE || req->op == PM_DELETE))
        reply_status(s, req, PM_DENY); /* before the name is even looked at */
    else if (result == PM_MALFORMED || !pm_names_table(name))
        reply_status(s, req, PM_BAD);
    else
        answer_by_name(s, req, name);
}

/* ---- what was waited for ---- */

/* The request that is held meets its table as that is now. It is on no list. */
static void decide_again(struct session *s)
{
    struct pm_request req = s->held;
    struct table *named = s->named;
    char *key = take_held(s);

    answer_from(s, &req, named);
    free_key(key, req.key.len);
    session_resume(s);
}

/* What an agent was asked is answered without it. */
static void answer_again(struct session *s, enum beyond beyond)
{
    struct pm_request req = s->held;
    struct table *named = s->named;
    const struct table *table = s->held_table;
    char *key = take_held(s);

    answer_lookup(s, &req, named, beyond, table);
    free_key(key, req.key.len);
    session_resume(s);
}

static void finish(struct session *s, enum pm_status status, struct slice value)
{
    struct pm_request req = s->held;

    free_key(take_held(s), req.key.len);
    session_reply(s, &req, status, req.flags, nothing, value);
    session_resume(s);
}

/* One member of a composite is answered. */
static void member_answered(struct session *s, enum pm_status status, struct slice value)
{
    if (!memo_add(&s->memo, s, s->held_table, status, value)) {
        free_key(take_held(s), s->held.key.len);
        s->ending = true;
        session_resume(s);
        return;
    }
    s->answer_by = 0; /* the next has its own time */
    answer_again(s, ASK_AGENT);
}

static struct session *reversed(struct session *list)
{
    struct session *first = NULL;

    while (list != NULL) {
        struct session *next = list->next_waiter;

        list->next_waiter = first;
        first = list;
        list = next;
    }
    return first;
}

void session_wake(struct session *list)
{
    list = reversed(list);
    while (list != NULL) {
        struct session *s = list;

        list = s->next_waiter;
        decide_again(s);
    }
}

void answer_is_late(struct session *s)
{
    table_is_late(s->held_table);
    leave_lists(s);
    finish(s, PM_RETRY, nothing);
}

void session_answer(struct table *table, uint64_t id, enum bridge_answer answer, struct slice value)
{
    uint32_t slot = (uint32_t)id;
    struct session *s = slot < sessions_slots() ? session_in(slot) : NULL;
    enum pm_status status = answer == ANSWER_FOUND    ? PM_OK
                            : answer == ANSWER_CONFIG ? PM_CONFIG
                                                      : PM_RETRY;

    /* Nor may the agents of one table answer for another's. */
    if (s == NULL || s->serial != (uint32_t)(id >> 32) || s->hold != HOLD_ANSWER ||
        s->held_table != table)
        return;
    if (status != PM_OK)
        value = nothing;
    table_keep(table, s->asked_age, s->asked, flags_of(&s->held), answer, value);
    if (answer == ANSWER_NOT_FOUND)
        /* An image may have come since, and its file may be damaged by now, which is not seen by
         * the agent: what the image has is found. */
        answer_again(s, AGENT_HAS_NOT);
    else if (s->named == table)
        finish(s, status, value);
    else
        member_answered(s, status, value);
}

static void answer_all_again(const struct table *table, enum beyond beyond)
{
    for (size_t i = 0; i < sessions_slots(); i++) {
        struct session *s = session_in(i);

        if (s != NULL && s->hold == HOLD_ANSWER && s->held_table == table)
            answer_again(s, beyond);
    }
}

void session_link_lost(const struct table *table)
{
    /* Not by the next agent: a question that ends agents would end them all. */
    answer_all_again(table, AGENT_IS_GONE);
}

void session_link_replaced(const struct table *table)
{
    answer_all_again(table, ASK_AGENT);
}

/* Has what it holds to do with the table, and must that be decided anew? Who waits for the table
 * itself to be decided waits on, and so does who has not had its turn, unless there is nothing more
 * to wait for. */
static bool is_undone(const struct session *s, const struct table *table)
{
    if (s->hold == HOLD_NONE || (s->hold == HOLD_TABLE && s->held_table == table))
        return false;
    if (s->hold == HOLD_PACE)
        return s->held_table == table && table->state == TABLE_DENIED;
    return s->held_table == table || s->named == table || memo_has(&s->memo, table);
}

void session_forget(const struct table *table)
{
    for (size_t i = 0; i < sessions_slots(); i++) {
        struct session *s = session_in(i);

        if (s == NULL)
            continue;
        if (s->last_table == table)
            s->last_table = NULL;
        if (table->state == TABLE_DENIED)
            forget_cursor(s, table);
        if (!is_undone(s, table))
            continue;
        leave_lists(s);
        memo_drop(&s->memo); /* what a table said is nobody's any more once it is taken back */
        decide_again(s);
    }
}
