/*
 * Clients, compartments and workers. Runs in the monitor, with privilege. It may accept a
 * connection, ask the kernel who is there, and pass it on; it must never read from one. Clients of
 * different uids, or of different listeners, never share a worker. What a worker says about tables
 * is looked up in the policy under the identity that the kernel told at accept(2).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "privsep/monitor.h"
#include "proto/proxymap.h"

#define WORKERS_MOST    64     /* in all */
#define IDLE_MS         100000 /* a worker without clients ends after this */
#define MAX_USE         100000 /* a worker takes no more clients after so many, and is replaced */
#define BACKOFF_MIN_MS  100    /* after a worker that died young, doubled each time */
#define BACKOFF_MAX_MS  1000
#define STEADY_MS       10000 /* a worker that lived so long starts from the beginning */
#define STRANGERS_MOST  8     /* workers, in all, of uids that no allow section names */
#define AGAIN_MS        1000  /* what could not be sent is tried again after this */
#define BEHIND_MS       20    /* and what a worker has no use for yet */
#define RELINKS_MOST    8     /* a worker that loses more links to one agent is broken */
#define WORKER_MEMORY   (UINT64_C(256) << 20) /* and 16 of the largest requests */
#define CLIENT_MESSAGES 16                    /* what a client can make a worker say, generously */

struct client {
    bool used;
    pid_t pid;
};

/* What a worker asked for, by table, and what it has been told. */
struct grant {
    bool asked;
    uint32_t ref;
    uint64_t told;    /* table_version() */
    uint64_t linked;  /* agent_version(); 0: it has no link */
    uint64_t agent;   /* of the last link that it had */
    unsigned relinks; /* made anew to the same agent */
};

/* Kinds of lines that a client can cause, each with its own limit. */
enum limited { DENIALS, CLOSINGS, REFUSALS, COMPLAINTS, LIMITED };
static const char *const limited_names[LIMITED] = {"denials", "clients closed", "clients refused",
                                                   "complaints of workers"};

struct compartment {
    size_t listener;
    uid_t uid;
    unsigned workers;
    uint64_t start_at, backoff; /* no worker is started before, after one died */
    struct log_limit limits[LIMITED];
    struct compartment *next;
};

struct worker {
    struct child *child;
    struct compartment *compartment;
    struct grant *grants;
    struct client *clients; /* as many as one worker may have; the index is the client's number */
    unsigned nclients, served;
    uint64_t idle_since;
    uint64_t again_at; /* NEVER, or when to tell it what could not be told */
    struct worker *next;
};

static struct compartment *compartments;
static struct worker *workers;
static unsigned nworkers;

static const struct policy_listen *listen_of(const struct compartment *c)
{
    return &monitor_policy->listens[c->listener];
}

/* "uid 105 pid 99 on /path", the identity part of every line about a client. */
static const char *identity(const struct worker *w, uint32_t client)
{
    static char text[256];

    snprintf(text, sizeof text, "uid %u pid %d on %s", (unsigned)w->compartment->uid,
             (int)w->clients[client].pid, listen_of(w->compartment)->path);
    return text;
}

/* Says what was held back in intervals that are over at now. */
static void tell_held(struct compartment *c, uint64_t now)
{
    for (int i = 0; i < LIMITED; i++) {
        unsigned held = log_held(&c->limits[i], now);

        if (held > 0)
            log_line(LOG_WARNING, "%u more %s for uid %u on %s", held, limited_names[i],
                     (unsigned)c->uid, listen_of(c)->path);
    }
}

static bool log_about(struct compartment *c, enum limited kind)
{
    tell_held(c, monitor_now());
    return log_allow(&c->limits[kind]);
}

static bool is_client(const struct worker *w, uint32_t number)
{
    return number < listen_of(w->compartment)->clients_per_worker && w->clients[number].used;
}

/* ---- grants ---- */

static uint32_t features_of(const struct table_type_info *type)
{
    return (type->sequence ? FEATURE_SEQUENCE : 0) | (type->text ? FEATURE_TEXT : 0);
}

static bool send_table(struct worker *w, size_t index, enum bridge_kind kind, int fd)
{
    const struct table_type_info *type = monitor_policy->tables[index].type;
    struct msg_table body = {.ref = w->grants[index].ref,
                             .kind = kind,
                             .flags = type->flags,
                             .features = features_of(type),
                             .answered_by = table_answered_by(index)};

    return child_send(w->child, MSG_TABLE, &body, NULL, 0, &fd);
}

/* The image; or that there is none, and what answers instead, if anything does. */
static bool tell_image(struct worker *w, size_t index)
{
    const struct table_type_info *type = monitor_policy->tables[index].type;
    uint32_t ref = w->grants[index].ref;
    enum bridge_kind by = table_answered_by(index);

    if (by & KIND_IMAGE)
        return send_table(w, index, KIND_IMAGE, table_image(index));
    if (by & KIND_LINK)
        return child_send(w->child, MSG_TABLE_KIND,
                          &(struct msg_table_kind){ref, type->flags, features_of(type), by}, NULL,
                          0, NULL);
    return child_send(w->child, MSG_TABLE_ERROR,
                      &(struct msg_table_error){ref, PM_RETRY, type->flags}, NULL, 0, NULL);
}

static bool tell_link(struct worker *w, size_t index, uint64_t agent)
{
    int link = agent_link(index);
    bool sent;

    if (link < 0) {
        w->again_at = monitor_now() + AGAIN_MS;
        return true;
    }
    sent = send_table(w, index, KIND_LINK, link);
    close(link);
    if (sent) {
        struct grant *g = &w->grants[index];

        if (g->agent != agent)
            g->relinks = 0;
        g->linked = g->agent = agent;
    }
    return sent;
}

/*
 * Tells a worker what is new about a table it asked for. The link first: an agent alone gives right
 * answers, an image alone may not. False: its queue is full; writable() comes back to it.
 */
static bool tell(struct worker *w, size_t index)
{
    struct grant *g = &w->grants[index];
    uint64_t version = table_version(index), agent = agent_version(index);

    if (!g->asked)
        return true;
    if ((table_answered_by(index) & KIND_LINK) && agent != 0 && g->linked != agent &&
        !tell_link(w, index, agent))
        return false;
    if (g->told == version)
        return true;
    /* Each image that a worker has not even taken is memory that it holds: no second one then. */
    if (g->told != 0 && child_backlog(w->child)) {
        w->again_at = monitor_now() + BEHIND_MS;
        return true;
    }
    if (!tell_image(w, index))
        return false;
    g->told = version;
    return true;
}

static void worker_writable(struct child *child)
{
    struct worker *w = child->owner;

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (!tell(w, i))
            return;
}

void clients_table_changed(size_t index)
{
    for (struct worker *w = workers; w != NULL; w = w->next)
        tell(w, index);
}

static void log_denied(struct worker *w, uint32_t client, struct slice name)
{
    static char escaped[512], advice[4096];
    char start[64];
    const char *why = NULL;

    if (!log_about(w->compartment, DENIALS))
        return;
    policy_escape(name, escaped, sizeof escaped);
    snprintf(start, sizeof start, "%.*s", (int)(name.len < 63 ? name.len : 63), name.ptr);
    if (table_type_of(start, &why) == NULL)
        log_line(LOG_WARNING, "denied table \"%s\" to %s; no line can approve it: %s", escaped,
                 identity(w, client), why);
    else if (policy_advice(monitor_policy, w->compartment->uid, name, advice, sizeof advice) &&
             strlen(advice) == sizeof advice - 1)
        log_line(LOG_WARNING,
                 "denied table \"%s\" to %s; what would approve it is too long for "
                 "the log",
                 escaped, identity(w, client));
    else
        log_line(LOG_WARNING, "denied table \"%s\" to %s; to approve it, jailmapd.conf needs: %s",
                 escaped, identity(w, client), advice);
}

/* OPEN: ref, client; table name. */
static void handle_open(struct worker *w, const struct bridge_msg *msg)
{
    struct slice name = {msg->tail, msg->tail_len};
    const struct msg_open *open = &msg->body.OPEN;
    size_t index;

    if (!is_client(w, open->client)) {
        child_end(w->child, "it asks for a table on behalf of nobody");
        return;
    }
    if (policy_decide(monitor_policy, w->compartment->uid, name, &index) != POLICY_APPROVE) {
        struct msg_table_error body = {open->ref, PM_DENY, 0};

        log_denied(w, open->client, name);
        if (!child_send(w->child, MSG_TABLE_ERROR, &body, NULL, 0, NULL))
            child_end(w->child, "it asks and does not read the answers");
        return;
    }
    if (w->grants[index].asked) { /* workers forget denials only; and each link costs an agent */
        child_end(w->child, "it asks again for a table that it has");
        return;
    }
    log_line(LOG_INFO, "approved table \"%s\" for %s", monitor_policy->tables[index].name,
             identity(w, open->client));
    w->grants[index] = (struct grant){.asked = true, .ref = open->ref};
    tell(w, index);
}

/* CLOSED: client. */
static void handle_closed(struct worker *w, const struct bridge_msg *msg)
{
    uint32_t client = msg->body.CLOSED.client;

    if (!is_client(w, client)) {
        child_end(w->child, "it closes a client that it does not have");
        return;
    }
    w->clients[client].used = false;
    if (--w->nclients == 0)
        w->idle_since = monitor_now();
}

/* An image that is none, or a link whose other end has gone: that one is made anew. */
static void handle_bad_table(struct worker *w, uint32_t ref, struct slice text)
{
    char escaped[256];

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        if (!w->grants[i].asked || w->grants[i].ref != ref)
            continue;
        if (text.len > 0) {
            if (log_about(w->compartment, COMPLAINTS))
                table_spoiled(i, policy_printable(text, escaped, sizeof escaped));
        } else if (++w->grants[i].relinks > RELINKS_MOST) {
            child_end(w->child, "it loses its links to an agent again and again");
            return;
        } else { /* in a while: the agent may be about to go, and a new one tells by itself */
            w->grants[i].linked = 0;
            w->again_at = monitor_now() + AGAIN_MS;
        }
    }
}

/* EVENT: event, client or ref; text. A claim, and named as the worker's where it matters. */
static void handle_event(struct worker *w, const struct bridge_msg *msg)
{
    const struct policy_listen *l = listen_of(w->compartment);
    const struct msg_event *event = &msg->body.EVENT;
    struct slice text = {msg->tail, msg->tail_len};
    size_t index;
    char reason[128];

    if (event->event == EVENT_BAD_TABLE) {
        handle_bad_table(w, event->subject, text);
        return;
    }
    if (!is_client(w, event->subject)) {
        child_end(w->child, "it speaks of a client that it does not have");
        return;
    }
    switch (event->event) {
    case EVENT_DENIED:
        if (policy_decide(monitor_policy, w->compartment->uid, text, &index) == POLICY_DENY)
            log_denied(w, event->subject, text);
        else
            child_end(w->child, "it reports the denial of a table that is approved");
        return;
    case EVENT_TOO_LARGE:
        snprintf(reason, sizeof reason, "request larger than %u bytes", l->max_request);
        break;
    case EVENT_TOO_SLOW:
        snprintf(reason, sizeof reason, "request incomplete after %u s", l->request_timeout);
        break;
    case EVENT_NOT_READING:
        snprintf(reason, sizeof reason, "it does not read its answers");
        break;
    default:
        child_end(w->child, "it reports an event that it cannot have");
        return;
    }
    if (log_about(w->compartment, CLOSINGS))
        log_line(LOG_WARNING, "closed client %s: %s", identity(w, event->subject), reason);
}

static void worker_message(struct child *child, const struct bridge_msg *msg)
{
    struct worker *w = child->owner;

    if (msg->type == MSG_OPEN)
        handle_open(w, msg);
    else if (msg->type == MSG_CLOSED)
        handle_closed(w, msg);
    else
        handle_event(w, msg);
}

/* ---- workers ---- */

static void free_worker(struct worker *w)
{
    struct worker **at = &workers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->compartment->workers--;
    nworkers--;
    free(w->grants);
    free(w->clients);
    free(w);
}

static void worker_gone(struct child *child, const char *how)
{
    struct worker *w = child->owner;
    struct compartment *c = w->compartment;
    uint64_t now = monitor_now();

    if (now - child->started >= STEADY_MS)
        c->backoff = 0;
    c->start_at = now + c->backoff;
    if (c->backoff == 0)
        c->backoff = BACKOFF_MIN_MS;
    else if (c->backoff * 2 <= BACKOFF_MAX_MS)
        c->backoff *= 2;
    log_line(LOG_WARNING, "worker pid %d for uid %u on %s died: %s; it had %u clients",
             (int)child->pid, (unsigned)c->uid, listen_of(c)->path,
             how != NULL ? how : "it ended by itself", w->nclients);
    free_worker(w);
}

static const struct child_ops worker_ops = {.role = ROLE_WORKER,
                                            .what = "worker",
                                            .message = worker_message,
                                            .writable = worker_writable,
                                            .gone = worker_gone};

static struct worker *start_worker(struct compartment *c)
{
    const struct policy_listen *l = listen_of(c);
    struct spawn limits = {.descriptors = l->clients_per_worker + monitor_policy->ntables + 64,
                           .file_size = 0,
                           .memory = WORKER_MEMORY + UINT64_C(16) * l->max_request,
                           .cpu_seconds = SPAWN_UNLIMITED};
    struct msg_serve serve = {l->max_request, l->request_timeout, l->answer_timeout};
    struct worker *w = calloc(1, sizeof *w);
    char title[192];

    snprintf(title, sizeof title, "jailmap-worker: uid %u on %s", (unsigned)c->uid, l->path);
    if (w != NULL) {
        w->grants = calloc(monitor_policy->ntables + 1, sizeof *w->grants);
        w->clients = calloc(l->clients_per_worker, sizeof *w->clients);
    }
    if (w != NULL && w->grants != NULL && w->clients != NULL)
        w->child = child_start(&worker_ops, w, HELPER_WORKER, &limits, true, title);
    if (w == NULL || w->child == NULL) {
        if (w != NULL) {
            free(w->grants);
            free(w->clients);
        }
        free(w);
        return NULL;
    }
    w->compartment = c;
    w->idle_since = monitor_now();
    w->again_at = NEVER;
    w->next = workers;
    workers = w;
    nworkers++;
    c->workers++;
    child_send(w->child, MSG_SERVE, &serve, NULL, 0, NULL);
    w->child->state = STATE_SERVE;
    return w;
}

static struct compartment *find_compartment(size_t listener, uid_t uid)
{
    struct compartment *c;

    for (c = compartments; c != NULL; c = c->next)
        if (c->listener == listener && c->uid == uid)
            return c;
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->listener = listener;
    c->uid = uid;
    c->next = compartments;
    compartments = c;
    return c;
}

static void release_worker(struct worker *w)
{
    child_release(w->child);
    free_worker(w);
}

static bool is_idle(const struct worker *w, const struct compartment *c)
{
    (void)c;
    return w->nclients == 0;
}

static bool is_worn(const struct worker *w, const struct compartment *c)
{
    return w->compartment == c && w->served >= MAX_USE;
}

static bool is_strangers(const struct worker *w, const struct compartment *c)
{
    (void)c;
    return !policy_knows(monitor_policy, w->compartment->uid);
}

static bool is_idle_strangers(const struct worker *w, const struct compartment *c)
{
    return is_idle(w, c) && is_strangers(w, c);
}

/* Lets that worker go, of those that fit, which was used longest ago. False: none fits. */
static bool release_one(bool (*fits)(const struct worker *, const struct compartment *),
                        const struct compartment *c)
{
    struct worker *best = NULL;

    for (struct worker *w = workers; w != NULL; w = w->next)
        if (fits(w, c) && (best == NULL || w->idle_since < best->idle_since))
            best = w;
    if (best != NULL)
        release_worker(best);
    return best != NULL;
}

static unsigned strangers(void)
{
    unsigned count = 0;

    for (struct worker *w = workers; w != NULL; w = w->next)
        count += is_strangers(w, NULL);
    return count;
}

/*
 * Is there room for one more worker of c? Idle ones make room for it, and so do its own worn ones
 * whose last clients stay for ever: those find the connection closed, and connect again.
 */
static bool make_room(struct compartment *c, const char **why)
{
    while (c->workers >= 2 * listen_of(c)->workers && release_one(is_worn, c))
        ;
    *why = "all workers of all clients are in use";
    if (nworkers >= WORKERS_MOST && !release_one(is_idle, NULL))
        return false;
    *why = "too many users whom no allow section names";
    return policy_knows(monitor_policy, c->uid) || strangers() < STRANGERS_MOST ||
           release_one(is_idle_strangers, NULL);
}

/* The least busy worker that takes one more; another is started when there is none. */
static struct worker *find_worker(struct compartment *c, uint64_t now, const char **why)
{
    const struct policy_listen *l = listen_of(c);
    struct worker *best = NULL;
    unsigned in_use = 0;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        if (w->compartment != c || w->child->io.fd < 0 || w->served >= MAX_USE)
            continue;
        in_use++;
        if (w->nclients < l->clients_per_worker && (best == NULL || w->nclients < best->nclients))
            best = w;
    }
    if (best != NULL)
        return best;
    *why = "all its workers are full";
    if (in_use >= l->workers)
        return NULL;
    *why = "its workers die; the next one waits";
    if (now < c->start_at || !make_room(c, why))
        return NULL;
    *why = "no worker can be started";
    return start_worker(c);
}

static bool pass_on(struct worker *w, int fd, pid_t pid, uint64_t now)
{
    struct msg_client body = {0};

    while (w->clients[body.client].used)
        body.client++;
    if (!child_send(w->child, MSG_CLIENT, &body, NULL, 0, &fd))
        return false;
    w->clients[body.client] = (struct client){true, pid};
    w->nclients++;
    w->served++;
    w->idle_since = now;
    child_credit(w->child, CLIENT_MESSAGES);
    return true;
}

int client_accept(size_t listener, int listen_fd, uint64_t now)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct ucred peer;
    socklen_t len = sizeof peer;
    struct compartment *c = NULL;
    struct worker *w = NULL;
    const char *why = "out of memory";

    if (fd < 0)
        return errno;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        c = find_compartment(listener, peer.uid);
    if (c != NULL)
        w = find_worker(c, now, &why);
    if (w != NULL && !pass_on(w, fd, peer.pid, now)) {
        why = "its worker is too busy";
        w = NULL;
    }
    if (w == NULL && c != NULL && log_about(c, REFUSALS))
        log_line(LOG_WARNING, "refused client uid %u pid %d on %s: %s", (unsigned)peer.uid,
                 (int)peer.pid, listen_of(c)->path, why);
    close(fd);
    return 0;
}

/* Lets idle and worn workers go; forgets compartments that have none and nothing to remember. */
uint64_t clients_tick(uint64_t now)
{
    uint64_t next = NEVER;

    for (struct worker *w = workers, *after; w != NULL; w = after) {
        after = w->next;
        if (w->again_at <= now) {
            w->again_at = NEVER;
            worker_writable(w->child);
        }
        if (w->again_at < next)
            next = w->again_at;
        if (w->nclients > 0)
            continue;
        if (now - w->idle_since >= IDLE_MS || w->served >= MAX_USE)
            release_worker(w);
        else if (w->idle_since + IDLE_MS < next)
            next = w->idle_since + IDLE_MS;
    }
    for (struct compartment **at = &compartments; *at != NULL;) {
        struct compartment *c = *at;
        bool quiet = true; /* what it has done can be forgotten: no limit, no back-off */

        tell_held(c, now);
        for (int i = 0; i < LIMITED; i++) {
            if (c->limits[i].until == 0)
                continue;
            quiet = false;
            if (c->limits[i].until < next)
                next = c->limits[i].until;
        }
        if (c->backoff > 0 && now < c->start_at + STEADY_MS) {
            quiet = false;
            if (c->start_at + STEADY_MS < next)
                next = c->start_at + STEADY_MS;
        }
        if (c->workers > 0 || !quiet) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        free(c);
    }
    return next;
}

void clients_stop(void)
{
    for (struct compartment *c = compartments; c != NULL; c = c->next)
        tell_held(c, NEVER);
}
