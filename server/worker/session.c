/*
 * One client connection each. Runs in the worker. Reads requests, answers them in order, and holds
 * one back while the monitor or an agent is asked; meanwhile the client's further bytes wait where
 * they are, so nobody else notices. It may touch the connection and the tables; it must never send
 * what was not asked for, and a client that misbehaves costs only itself.
 */
#include "server/worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE      (64u * 1024)
#define LANE_SIZE      (16u * 1024)
#define REPLIES_SOME   (256u * 1024) /* stop answering and send, once this much is ready */
#define NOT_READING_MS 60000u        /* a client may take this long over each part of an answer */
#define DENIED_TOLD    4             /* repeated denials reported for each connection */
#define NO_TALLY       UINT32_MAX
#define AHEAD_NS       UINT64_C(50000000) /* lookups of so much time may come at once */
#define TURNS          64                 /* given until others are looked after */
#define MINUTE_NS      UINT64_C(60000000000)

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
    uint32_t slot;   /* in slots[]; low half of a query's id */
    uint32_t serial; /* high half: of the latest query, or of the session */
    struct pm_decoder decoder;
    struct buffer in, out;
    size_t out_sent;
    uint64_t since;                 /* the request in hand is complete: tally_clock() */
    uint32_t tallied;               /* index of the table that it is a lookup in, or NO_TALLY */
    const struct table *last_table; /* spares the search by name; never one that is denied */
    struct cursor *cursors;
    /* The request that is held back, if any: its table is to be decided, or its answer to come, or
     * its turn. */
    enum hold { HOLD_NONE, HOLD_TABLE, HOLD_ANSWER, HOLD_PACE } hold;
    enum { NOT_LIMITED, LIMITED, HAS_TURN } turn; /* of the request in hand */
    struct pm_request held;
    char *held_key;
    struct table *held_table;
    struct session *next_waiter;
    uint64_t deadline;    /* ms; 0: none */
    uint32_t events;      /* what epoll waits for */
    uint32_t last_denied; /* hash of the name */
    uint8_t denied_told;
    bool ending; /* close as soon as the answers are out */
    bool dead;
    struct session *next_dead;
};

static struct session **slots;
static size_t slots_len;
static size_t timed;
static uint32_t last_serial;
static struct session *dead_list;
static struct buffer replies; /* answers of the session in hand */
static uint64_t pending;      /* bytes of all buffers and held keys */
static uint32_t wanted;       /* clients that the monitor wants back */

/* How lookups are answered, and the sessions that wait for their turn, in order. */
static struct msg_pace pace;
static uint64_t turn_at; /* ns: the next lookup has its turn then, or a little sooner */
static struct session *paced, **paced_end = &paced;

/* A connection whose first request is received and decoded, and not answered yet. */
static struct lane {
    struct session *session; /* NULL: handled otherwise */
    size_t len, used;        /* of bytes; used by the first request */
    enum pm_result result;
    struct pm_request request;
    const void *slot;
    char bytes[LANE_SIZE];
} lanes[SESSIONS_AT_ONCE];

/*
 * May the sessions keep so much more in memory? If not, the client that would need it is closed by
 * the caller, and the others have what they need to go on.
 */
static bool may_keep(const struct session *s, size_t more)
{
    if (pending + more <= session_limits.max_pending)
        return true;
    tell_event(EVENT_OVER_PENDING, s->client, NULL, 0);
    return false;
}

/* False: the session is to be closed. */
static bool buffer_reserve(const struct session *s, struct buffer *b, size_t more)
{
    size_t cap = b->cap == 0 ? 4096 : b->cap;
    char *grown;

    if (b->cap - b->len >= more)
        return true;
    while (cap - b->len < more)
        cap *= 2;
    if (!may_keep(s, cap - b->cap))
        return false;
    grown = realloc(b->ptr, cap);
    if (grown == NULL)
        return false;
    pending += cap - b->cap;
    b->ptr = grown;
    b->cap = cap;
    return true;
}

static bool buffer_add(const struct session *s, struct buffer *b, const char *bytes, size_t len)
{
    if (!buffer_reserve(s, b, len))
        return false;
    memcpy(b->ptr + b->len, bytes, len);
    b->len += len;
    return true;
}

/* An idle connection holds no buffer: there may be thousands. */
static void buffer_drop(struct buffer *b)
{
    pending -= b->cap;
    free(b->ptr);
    *b = (struct buffer){0};
}

static void set_deadline(struct session *s, uint64_t at)
{
    timed += (at != 0) - (s->deadline != 0);
    s->deadline = at;
}

/* An agent may take this long; then the client gets RETRY. */
static uint64_t answer_deadline(void)
{
    return loop_now() + (uint64_t)session_limits.answer_timeout * 1000;
}

/* The key of a request that was held. */
static void free_key(char *key, size_t len)
{
    if (key != NULL)
        pending -= len;
    free(key);
}

static void forget_held(struct session *s)
{
    if (s->out.len == 0)
        set_deadline(s, 0);
    free_key(s->held_key, s->held.key.len);
    s->held_key = NULL;
    s->held_table = NULL;
    s->hold = HOLD_NONE;
}

static void end_session(struct session *s)
{
    loop_close(&s->io);
    set_deadline(s, 0);
    buffer_drop(&s->in);
    buffer_drop(&s->out);
    slots[s->slot] = NULL;
    s->dead = true;
    s->next_dead = dead_list;
    dead_list = s;
}

/* It does not wait for its turn any more. */
static void leave_queue(const struct session *s)
{
    s->held_table->paced--;
    session_unlink(&paced, s);
    for (paced_end = &paced; *paced_end != NULL; paced_end = &(*paced_end)->next_waiter)
        ;
}

static void close_session(struct session *s)
{
    if (s->dead)
        return;
    if (s->hold == HOLD_TABLE)
        table_unwait(s->held_table, s);
    if (s->hold == HOLD_PACE)
        leave_queue(s);
    forget_held(s);
    end_session(s);
    tell_closed(s->client);
}

static void close_for(struct session *s, enum bridge_event event)
{
    tell_event(event, s->client, NULL, 0);
    close_session(s);
}

void sessions_reap(void)
{
    while (dead_list != NULL) {
        struct session *s = dead_list;

        dead_list = s->next_dead;
        while (s->cursors != NULL) {
            struct cursor *c = s->cursors;

            s->cursors = c->next;
            free(c);
        }
        free(s);
    }
}

static void wait_for(struct session *s, uint32_t events)
{
    if (s->events != events)
        loop_change(&s->io, events);
    s->events = events;
}

/* ---- back to the monitor ---- */

/* Is there nothing here that the next worker would have to know? What the client has sent and
 * nobody has read is in the kernel, and goes along. */
static bool is_idle(const struct session *s)
{
    if (s->dead || s->ending || s->hold != HOLD_NONE || s->out.len > 0 ||
        !pm_decode_between(&s->decoder, s->in.len))
        return false;
    for (const struct cursor *c = s->cursors; c != NULL; c = c->next)
        if (c->walking)
            return false;
    return true;
}

/* False: the session stays for now. */
static bool hand_back(struct session *s)
{
    if (wanted == 0 || !is_idle(s))
        return false;
    if (tell_handback(s->client, s->io.fd) != 0) {
        if (errno == EAGAIN)
            tell_when_writable();
        else /* the kernel has too many descriptors under way */
            loop_tick_soon();
        return false;
    }
    wanted--;
    end_session(s);
    return true;
}

void sessions_hand_back(void)
{
    for (size_t i = 0; i < slots_len && wanted > 0; i++)
        if (slots[i] != NULL)
            hand_back(slots[i]);
}

void sessions_drain(uint32_t clients)
{
    wanted += clients;
    sessions_hand_back();
}

/* ---- answers ---- */

static void reply(struct session *s, const struct pm_request *req, enum pm_status status,
                  uint32_t flags, struct slice key, struct slice value)
{
    struct pm_reply r = {req->op, req->dialect, status, flags, key, value};

    if (!buffer_reserve(s, &replies, pm_reply_bound(&r))) {
        s->ending = true; /* no memory for it: a clean close, and the client asks again */
        return;
    }
    replies.len = (size_t)(pm_encode(replies.ptr + replies.len, &r) - replies.ptr);
    tally_reply(status);
    if (s->tallied != NO_TALLY)
        tally_lookup(s->tallied, status, s->since);
    else if (req->op == PM_SEQUENCE && s->turn != NOT_LIMITED)
        tally_step();
}

static const struct slice nothing = {"", 0};

static void reply_status(struct session *s, const struct pm_request *req, enum pm_status status)
{
    /* The new dialect echoes the request's flags, but shows none when it refuses. */
    bool refuses = status == PM_BAD || status == PM_DENY;

    reply(s, req, status, refuses ? 0 : req->flags, nothing, nothing);
}

/* Only what the sender may know of: its own bits, masked, and what is true of the table. */
static uint32_t open_flags(const struct table *table, const struct pm_request *req)
{
    const uint32_t try_bits = PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL;
    uint32_t sent = req->instance_flags & PM_FLAG_KNOWN, type = table->flags;

    if (sent & try_bits)
        type &= ~try_bits;
    return sent | type;
}

/* In which forms a key of this request is to be found in an image: see server/image.h. */
static unsigned forms_of(const struct table *table, uint32_t flags)
{
    const uint32_t both = PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL;

    if (table->features & FEATURE_TEXT) {
        if (flags & PM_FLAG_FOLD_FIX)
            return IMAGE_FORM_ASCII;
        /* Such a client has folded its key; unless it was told not to, then there may be only the
         * entry as it is written. */
        if (flags & PM_FLAG_UTF8_REQUEST)
            return IMAGE_FORM_UTF8 | IMAGE_FORM_UNICODE;
        return IMAGE_FORM_EXACT;
    }
    if (!(table->flags & both))
        return IMAGE_FORM_ANY;
    if (!(flags & both)) /* neither asked for: Postfix aborts here in the new dialect */
        return IMAGE_FORM_NUL | IMAGE_FORM_BARE;
    return (flags & PM_FLAG_TRY1NULL ? IMAGE_FORM_NUL : 0) |
           (flags & PM_FLAG_TRY0NULL ? IMAGE_FORM_BARE : 0);
}

/* False if the image does not have the key. */
static bool answer_image(struct session *s, const struct pm_request *req, struct table *table,
                         struct slice key)
{
    uint32_t flags = req->flags;
    struct slice value;
    unsigned found = image_find(&table->image, key, forms_of(table, flags), &value);

    if (found == 0)
        return false;
    /* The form is known now, and the reply says so by clearing the other one's bit. */
    if (table->flags & (PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL))
        flags &= found == IMAGE_FORM_NUL ? ~PM_FLAG_TRY0NULL : ~PM_FLAG_TRY1NULL;
    reply(s, req, PM_OK, flags, nothing, value);
    return true;
}

static void answer_sequence(struct session *s, const struct pm_request *req, struct table *table)
{
    struct cursor *c;
    struct slice key, value;

    if (!(table->features & FEATURE_SEQUENCE) || !table->has_image) {
        reply_status(s, req, PM_RETRY);
        return;
    }
    for (c = s->cursors; c != NULL && c->table != table; c = c->next)
        ;
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL) {
            s->ending = true;
            return;
        }
        *c = (struct cursor){table, table->generation, 0, false, s->cursors};
        s->cursors = c;
    }
    c->walking = true;
    if (req->function == PM_FUNCTION_FIRST) {
        c->at = 0;
        c->generation = table->generation;
    }
    if (c->generation != table->generation) /* half a walk over each of two tables is no walk */
        reply_status(s, req, PM_RETRY);
    else if (image_next(&table->image, &c->at, &key, &value))
        reply(s, req, PM_OK, req->flags, key, value);
    else {
        c->walking = false;
        reply_status(s, req, PM_NOKEY);
    }
}

/* Keeps the request until its table, its answer or its turn is there. */
static void hold(struct session *s, const struct pm_request *req, struct table *table,
                 enum hold what)
{
    char *key = NULL; /* stays so for an empty one */

    if (req->key.len > 0) {
        if (!may_keep(s, req->key.len) || (key = malloc(req->key.len)) == NULL) {
            s->ending = true;
            return;
        }
        pending += req->key.len;
        memcpy(key, req->key.ptr, req->key.len);
    }
    s->held = *req;
    s->held.key.ptr = key;
    s->held_key = key;
    s->held_table = table;
    s->hold = what;
    if (s->out.len == 0) /* else the deadline is for reading what is out already */
        set_deadline(s, what == HOLD_ANSWER ? answer_deadline() : 0);
    if (what == HOLD_TABLE) {
        s->next_waiter = table->waiters;
        table->waiters = s;
    } else if (what == HOLD_PACE) {
        s->next_waiter = NULL;
        table->paced++;
        *paced_end = s;
        paced_end = &s->next_waiter;
    }
}

static void ask_agent(struct session *s, const struct pm_request *req, struct table *table,
                      struct slice key)
{
    /* A number of its own for each query: a late answer must find nobody. */
    uint64_t id = (uint64_t)(s->serial = ++last_serial) << 32 | s->slot;

    if (key.len > BRIDGE_DATA_MAX)
        reply_status(s, req, PM_NOKEY); /* longer than the name of any user or group can be */
    else if (table_query(table, id, key) == 0)
        hold(s, req, table, HOLD_ANSWER);
    else if (errno == EAGAIN)
        hold(s, req, table, HOLD_TABLE);
    else
        reply_status(s, req, PM_RETRY);
}

/* What becomes of a key that the image does not have, where an agent answers too. */
enum beyond { ASK_AGENT, AGENT_IS_GONE, AGENT_HAS_NOT };

static void answer_lookup(struct session *s, const struct pm_request *req, struct table *table,
                          enum beyond beyond)
{
    struct slice key = req->key;
    char small[512], *folded = NULL;

    /* A key that the table cannot have is looked for nowhere; the loader keeps to that, too. */
    if (table->state == TABLE_READY && table->limited && !key_limit_passes(&table->limit, key)) {
        reply_status(s, req, PM_NOKEY);
        return;
    }
    if (table->state != TABLE_READY || (table->answered_by == KIND_IMAGE && !table->has_image) ||
        ((table->features & FEATURE_TEXT) && (req->flags & PM_FLAG_RHS_IS_FILE))) {
        /* The last: values are names of files, whose contents are asked for. Nobody here, and not
         * the monitor either, opens a file that is named in a table. */
        reply_status(s, req, PM_RETRY);
        return;
    }
    if ((req->flags & PM_FLAG_FOLD_FIX) && (table->flags & PM_FLAG_FIXED) && key.len > 0) {
        folded = key.len <= sizeof small ? small : malloc(key.len);
        if (folded == NULL) {
            s->ending = true;
            return;
        }
        key = pm_fold(folded, key);
    }
    if (!table->has_image || !answer_image(s, req, table, key)) {
        if (!(table->answered_by & KIND_LINK) || beyond == AGENT_HAS_NOT)
            reply_status(s, req, PM_NOKEY);
        else if (beyond == ASK_AGENT)
            ask_agent(s, req, table, key);
        else
            reply_status(s, req, PM_RETRY);
    }
    if (folded != small)
        free(folded);
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
        hold(s, req, table, HOLD_PACE);
    return false;
}

/* The one place where the state of a table becomes a status. */
static void answer_from(struct session *s, const struct pm_request *req, struct table *table)
{
    switch (table->state) {
    case TABLE_UNSENT:
        hold(s, req, table, HOLD_TABLE);
        if (s->hold == HOLD_TABLE)
            table_ask(table, s->client);
        else
            table_unwait(table, s);
        return;
    case TABLE_ASKED:
        hold(s, req, table, HOLD_TABLE);
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
        reply(s, req, PM_OK, open_flags(table, req), nothing, nothing);
    else if (!has_turn(s, req, table))
        return;
    else if (req->op == PM_LOOKUP)
        answer_lookup(s, req, table, ASK_AGENT);
    else
        answer_sequence(s, req, table);
}

static void answer(struct session *s, enum pm_result result, const struct pm_request *req)
{
    struct slice name = pm_canonical(req->table);
    struct table *table = (struct table *)s->last_table;

    s->tallied = NO_TALLY;
    s->turn = NOT_LIMITED;
    if (result == PM_MALFORMED) {
        reply_status(s, req, PM_BAD);
        return;
    }
    if (req->op == PM_UPDATE || req->op == PM_DELETE) { /* before the name is even looked at */
        reply_status(s, req, PM_DENY);
        return;
    }
    if (!pm_names_table(name)) {
        reply_status(s, req, PM_BAD);
        return;
    }
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

/* ---- bytes ---- */

/* Sends what is ready. False: the session is gone. */
static bool flush(struct session *s)
{
    bool behind = s->out.len > 0;
    const char *bytes;
    size_t len;
    ssize_t n = 0;

    if (behind && replies.len > 0 && !buffer_add(s, &s->out, replies.ptr, replies.len)) {
        replies.len = 0;
        close_session(s);
        return false;
    }
    bytes = behind ? s->out.ptr + s->out_sent : replies.ptr;
    len = behind ? s->out.len - s->out_sent : replies.len;
    if (len > 0)
        n = send(s->io.fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        replies.len = 0;
        close_session(s);
        return false;
    }
    if (n < 0)
        n = 0;
    if (!behind && (size_t)n < len) { /* the client is slow: keep the rest for it */
        if (!buffer_add(s, &s->out, bytes + n, len - (size_t)n)) {
            replies.len = 0;
            close_session(s);
            return false;
        }
        s->out_sent = 0;
        set_deadline(s, loop_now() + NOT_READING_MS);
    } else if (behind && n > 0) {
        s->out_sent += (size_t)n;
        set_deadline(s, loop_now() + NOT_READING_MS);
        if (s->out_sent == s->out.len) {
            buffer_drop(&s->out);
            set_deadline(s, 0);
        }
    }
    replies.len = 0;
    if (replies.cap > 4 * REPLIES_SOME)
        buffer_drop(&replies);
    return true;
}

/* What pm_decode() found in the first size bytes. */
static void take(struct session *s, enum pm_result result, const struct pm_request *req,
                 size_t size)
{
    if (s->out.len == 0)
        set_deadline(s, 0); /* a request is complete; the next one gets its own time */
    if (size > session_limits.max_request) {
        tell_event(EVENT_TOO_LARGE, s->client, NULL, 0);
        s->ending = true;
    } else if (result == PM_MALFORMED || result == PM_REQUEST) {
        answer(s, result, req);
    }
}

/* Answers what is complete in buf. Returns how many bytes are done with. */
static size_t consume(struct session *s, const char *buf, size_t len)
{
    size_t pos = 0;

    while (pos < len && s->hold == HOLD_NONE && !s->ending && s->out.len == 0 &&
           replies.len < REPLIES_SOME) {
        struct pm_request req;
        size_t used;
        enum pm_result result = pm_decode(&s->decoder, buf + pos, len - pos, &req, &used);

        pos += used;
        if (result == PM_MORE)
            break;
        s->since = tally_clock();
        take(s, result, &req, used);
    }
    return pos;
}

/* After every turn: what to wait for, how long, and whether it is over. False: session gone. */
static bool settle(struct session *s)
{
    bool partial = s->hold == HOLD_NONE && pm_decode_partial(&s->decoder, s->in.len);

    if (s->out.len > 0) {
        wait_for(s, EPOLLOUT);
        return true;
    }
    if (s->ending) {
        close_session(s);
        return false;
    }
    if (wanted > 0 && hand_back(s))
        return false;
    if (partial && s->in.len > session_limits.max_request) {
        close_for(s, EVENT_TOO_LARGE);
        return false;
    }
    if (s->hold == HOLD_ANSWER && s->deadline == 0)
        set_deadline(s, answer_deadline());
    else if (s->hold == HOLD_NONE && !partial)
        set_deadline(s, 0);
    else if (partial && s->deadline == 0)
        set_deadline(s, loop_now() + (uint64_t)session_limits.request_timeout * 1000);
    /* While a request is held back, reading stays armed: a well-behaved client sends nothing, and
     * two system calls a lookup are saved. lane_receive() disarms it for the others. */
    if (s->hold == HOLD_NONE || s->events == EPOLLOUT)
        wait_for(s, EPOLLIN);
    return true;
}

/* Goes on with the bytes that are kept in s->in. */
static void run(struct session *s)
{
    for (;;) {
        size_t used = consume(s, s->in.ptr, s->in.len);

        s->in.len -= used;
        if (s->in.len == 0)
            buffer_drop(&s->in);
        else if (used > 0)
            memmove(s->in.ptr, s->in.ptr + used, s->in.len);
        if (!flush(s))
            return;
        if (used == 0 || s->in.len == 0 || s->hold != HOLD_NONE || s->out.len > 0 || s->ending)
            break;
    }
    settle(s);
}

static void end_of_input(struct session *s)
{
    struct pm_request req;

    if (pm_decode_eof(&s->decoder, &req) == PM_MALFORMED)
        answer(s, PM_MALFORMED, &req);
    s->ending = true;
    if (flush(s))
        settle(s);
}

/* Takes in what is there, at most size bytes. 0: nothing, or the session is at its end. */
static size_t receive(struct session *s, char *buf, size_t size)
{
    ssize_t n = recv(s->io.fd, buf, size, MSG_DONTWAIT);

    if (n > 0)
        return (size_t)n;
    if (n == 0)
        end_of_input(s);
    else if (errno != EAGAIN && errno != EINTR)
        close_session(s);
    return 0;
}

/* A session that has part of a request already gets more of it. */
static void receive_more(struct session *s)
{
    size_t n;

    if (!buffer_reserve(s, &s->in, READ_SIZE)) {
        close_session(s);
        return;
    }
    n = receive(s, s->in.ptr + s->in.len, READ_SIZE);
    if (n == 0)
        return;
    s->in.len += n;
    run(s);
}

static void lane_receive(struct lane *lane, struct session *s)
{
    const struct table *table = s->last_table;

    lane->session = NULL;
    lane->slot = NULL;
    if (s->dead)
        return;
    if (s->hold != HOLD_NONE) {
        wait_for(s, 0);
        return;
    }
    if (s->in.len > 0) {
        receive_more(s);
        return;
    }
    lane->len = receive(s, lane->bytes, sizeof lane->bytes);
    if (lane->len == 0)
        return;
    lane->session = s;
    s->since = tally_clock();
    lane->result = pm_decode(&s->decoder, lane->bytes, lane->len, &lane->request, &lane->used);
    if (lane->result == PM_REQUEST && lane->request.op == PM_LOOKUP && table != NULL &&
        table->has_image)
        lane->slot = image_fetch_slot(&table->image, lane->request.key);
}

static void lane_answer(struct lane *lane)
{
    struct session *s = lane->session;

    if (lane->result != PM_MORE) {
        take(s, lane->result, &lane->request, lane->used);
        lane->used += consume(s, lane->bytes + lane->used, lane->len - lane->used);
    }
    if (lane->used < lane->len &&
        !buffer_add(s, &s->in, lane->bytes + lane->used, lane->len - lane->used)) {
        replies.len = 0;
        close_session(s);
        return;
    }
    if (!flush(s))
        return;
    if (lane->used > 0 && s->in.len > 0 && s->hold == HOLD_NONE && s->out.len == 0)
        run(s);
    else
        settle(s);
}

void sessions_readable(struct session **ready, unsigned count)
{
    /* A short pipeline: receiving one takes longer than memory needs for the one before, and the
     * first answers are on their way to other processors while the last requests come in. */
    for (unsigned i = 0; i < count + 2; i++) {
        if (i < count)
            lane_receive(&lanes[i], ready[i]);
        if (i >= 1 && i - 1 < count && lanes[i - 1].slot != NULL)
            image_fetch_entry(&lanes[i - 1].session->last_table->image, lanes[i - 1].slot);
        if (i >= 2 && lanes[i - 2].session != NULL)
            lane_answer(&lanes[i - 2]);
    }
}

void session_ready(struct session *s, uint32_t events)
{
    if (s->dead)
        return;
    if (events & EPOLLOUT) {
        if (flush(s) && s->out.len == 0)
            run(s);
    } else if (events & EPOLLIN) {
        sessions_readable(&s, 1);
    }
    /* Gone in both directions. While something is held back nothing is read that would tell. */
    if (!s->dead && (events & (EPOLLHUP | EPOLLERR)) && (s->events & EPOLLIN) == 0)
        close_session(s);
}

/* ---- events from the rest of the worker ---- */

static bool take_slot(struct session *s)
{
    for (size_t i = 0; i < slots_len; i++)
        if (slots[i] == NULL) {
            s->slot = (uint32_t)i;
            slots[i] = s;
            return true;
        }
    struct session **grown = realloc(slots, (slots_len + 64) * sizeof *grown);
    if (grown == NULL)
        return false;
    slots = grown;
    memset(slots + slots_len, 0, 64 * sizeof *slots);
    s->slot = (uint32_t)slots_len;
    slots[slots_len] = s;
    slots_len += 64;
    return true;
}

void session_start(int fd, uint32_t client, bool greeted)
{
    struct session *s = calloc(1, sizeof *s);

    if (s == NULL || !take_slot(s)) {
        free(s);
        close(fd);
        tell_closed(client);
        return;
    }
    s->io = (struct watched){WATCH_SESSION, fd};
    s->client = client;
    s->serial = ++last_serial;
    s->events = EPOLLIN;
    /* A new connection's buffer is empty, so the greeting goes out whole or not at all. */
    if (!loop_add(&s->io, EPOLLIN) ||
        (session_limits.greeting && !greeted &&
         send(fd, PM_GREETING, PM_GREETING_LEN, MSG_NOSIGNAL | MSG_DONTWAIT) < 0))
        close_session(s);
}

/* The request that is held meets its table as that is now. */
static void decide_again(struct session *s)
{
    struct pm_request req = s->held;
    char *key = s->held_key;
    struct table *table = s->held_table;

    s->held_key = NULL;
    forget_held(s);
    answer_from(s, &req, table);
    free_key(key, req.key.len);
    if (s->hold == HOLD_NONE || replies.len > 0)
        run(s);
}

void session_wake(struct session *list)
{
    while (list != NULL) {
        struct session *s = list;

        list = s->next_waiter;
        decide_again(s);
    }
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

static void finish(struct session *s, enum pm_status status, struct slice value)
{
    struct pm_request req = s->held;

    forget_held(s);
    reply(s, &req, status, req.flags, nothing, value);
    run(s);
}

/* What an agent was asked is answered without it. */
static void answer_again(struct session *s, enum beyond beyond)
{
    struct pm_request req = s->held;
    struct table *table = s->held_table;
    char *key = s->held_key;

    s->held_key = NULL;
    forget_held(s);
    answer_lookup(s, &req, table, beyond);
    free_key(key, req.key.len);
    run(s);
}

void session_answer(uint64_t id, enum bridge_answer status, struct slice value)
{
    uint32_t slot = (uint32_t)id;
    struct session *s = slot < slots_len ? slots[slot] : NULL;

    if (s == NULL || s->serial != (uint32_t)(id >> 32) || s->hold != HOLD_ANSWER)
        return;
    switch (status) {
    case ANSWER_FOUND:
        finish(s, PM_OK, value);
        return;
    case ANSWER_NOT_FOUND:
        /* An image may have come since, and its file may be damaged by now, which is not seen by
         * the agent: what the image has is found. */
        answer_again(s, AGENT_HAS_NOT);
        return;
    case ANSWER_RETRY:
        break;
    }
    finish(s, PM_RETRY, nothing);
}

void session_link_lost(const struct table *table)
{
    for (size_t i = 0; i < slots_len; i++) {
        struct session *s = slots[i];

        /* Not by the next agent: a question that ends agents would end them all. */
        if (s != NULL && s->hold == HOLD_ANSWER && s->held_table == table)
            answer_again(s, AGENT_IS_GONE);
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

void session_forget(const struct table *table)
{
    for (size_t i = 0; i < slots_len; i++) {
        struct session *s = slots[i];

        if (s == NULL)
            continue;
        if (s->last_table == table)
            s->last_table = NULL;
        if (table->state == TABLE_DENIED)
            forget_cursor(s, table);
        if (s->held_table != table)
            continue;
        /* Who waits for its turn with a table that is denied has nothing to wait for, and the table
         * may be freed. */
        if (s->hold == HOLD_PACE && table->state == TABLE_DENIED) {
            leave_queue(s);
            decide_again(s);
        } else if (s->hold == HOLD_ANSWER) {
            decide_again(s);
        }
    }
}

uint32_t session_client(const struct session *session)
{
    return session->client;
}

void session_unlink(struct session **list, const struct session *session)
{
    for (struct session **at = list; *at != NULL; at = &(*at)->next_waiter)
        if (*at == session) {
            *at = session->next_waiter;
            return;
        }
}

size_t sessions_timed(void)
{
    return timed;
}

void sessions_tick(void)
{
    uint64_t now = loop_now();

    for (size_t i = 0; i < slots_len && timed > 0; i++) {
        struct session *s = slots[i];

        if (s == NULL || s->deadline == 0 || s->deadline > now)
            continue;
        if (s->out.len > 0)
            close_for(s, EVENT_NOT_READING);
        else if (s->hold == HOLD_ANSWER)
            finish(s, PM_RETRY, nothing);
        else
            close_for(s, EVENT_TOO_SLOW);
    }
}
