/*
 * One client connection each: its bytes, its buffers and its time. Runs in the worker. Receives
 * requests, has answer.c answer them in order, and sends what it says; while a request is held the
 * client's further bytes wait where they are, so nobody else notices. It may touch the connection;
 * it must never send what was not asked for, and a client that misbehaves costs only itself.
 */
#include "server/worker/session.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE      (64u * 1024)
#define LANE_SIZE      (16u * 1024)
#define REPLIES_SOME   (256u * 1024) /* stop answering and send, once this much is ready */
#define NOT_READING_MS 60000u        /* a client may take this long over each part of an answer */

static struct session **slots;
static size_t slots_len;
static size_t timed;
static uint32_t last_serial;
static struct session *dead_list;
static struct buffer replies; /* answers of the session in hand */
static uint64_t pending;      /* bytes of all buffers and held keys */
static uint32_t wanted;       /* clients that the monitor wants back */

/* A connection whose first request is received and decoded, and not answered yet. */
static struct lane {
    struct session *session; /* NULL: handled otherwise */
    size_t len, used;        /* of bytes; used by the first request */
    enum pm_result result;
    struct pm_request request;
    const void *slot;
    char bytes[LANE_SIZE];
} lanes[SESSIONS_AT_ONCE];

bool session_keep(const struct session *s, size_t more)
{
    if (pending + more <= session_limits.max_pending) {
        pending += more;
        return true;
    }
    tell_event(EVENT_OVER_PENDING, s->client, NULL, 0);
    return false;
}

void session_release(size_t bytes)
{
    pending -= bytes;
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
    if (!session_keep(s, cap - b->cap))
        return false;
    grown = realloc(b->ptr, cap);
    if (grown == NULL) {
        session_release(cap - b->cap);
        return false;
    }
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

void session_set_deadline(struct session *s, uint64_t at)
{
    timed += (at != 0) - (s->deadline != 0);
    s->deadline = at;
}

static void end_session(struct session *s)
{
    loop_close(&s->io);
    session_set_deadline(s, 0);
    buffer_drop(&s->in);
    buffer_drop(&s->out);
    slots[s->slot] = NULL;
    s->dead = true;
    s->next_dead = dead_list;
    dead_list = s;
}

static void close_session(struct session *s)
{
    if (s->dead)
        return;
    answer_forget(s);
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

/* ---- bytes ---- */

void session_reply(struct session *s, const struct pm_request *req, enum pm_status status,
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
    if (s->memo.answers != NULL) /* not before: the value may stand there */
        memo_drop(&s->memo);
}

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
        session_set_deadline(s, loop_now() + NOT_READING_MS);
    } else if (behind && n > 0) {
        s->out_sent += (size_t)n;
        session_set_deadline(s, loop_now() + NOT_READING_MS);
        if (s->out_sent == s->out.len) {
            buffer_drop(&s->out);
            session_set_deadline(s, 0);
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
        session_set_deadline(s, 0); /* a request is complete; the next one gets its own time */
    if (size > session_limits.max_request) {
        tell_event(EVENT_TOO_LARGE, s->client, NULL, 0);
        s->ending = true;
    } else if (result == PM_MALFORMED || result == PM_REQUEST) {
        answer_request(s, result, req);
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
    if (s->hold != HOLD_NONE && s->deadline == 0)
        session_set_deadline(s, session_waits_until(s));
    else if (s->hold == HOLD_NONE && !partial)
        session_set_deadline(s, 0);
    else if (partial && s->deadline == 0)
        session_set_deadline(s, loop_now() + (uint64_t)session_limits.request_timeout * 1000);
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
        answer_request(s, PM_MALFORMED, &req);
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

void session_resume(struct session *s)
{
    if (s->hold == HOLD_NONE || replies.len > 0)
        run(s);
}

size_t sessions_slots(void)
{
    return slots_len;
}

struct session *session_in(size_t slot)
{
    return slots[slot];
}

uint32_t session_serial(void)
{
    return ++last_serial;
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
        else if (s->hold != HOLD_NONE)
            answer_is_late(s);
        else
            close_for(s, EVENT_TOO_SLOW);
    }
}
