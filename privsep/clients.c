/*
 * Clients, compartments and workers. Runs in the monitor, with privilege. It may accept a
 * connection, ask the kernel who is there, and pass it on; it must never read from one. Clients of
 * different uids, of different listeners, or of whom different allow sections speak, never share a
 * worker. What a worker says about tables is looked up in the policy under the identity that the
 * kernel told at accept(2), and a connection that a worker hands back must be the one that was
 * passed to it. Each uid that the policy names has places of its own, which no other can take;
 * those that come in by a group or as anyone share some, and all others share a few.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/bridge.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/launch.h"
#include "privsep/limits.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/tables.h"
#include "proto/proxymap.h"
#include "server/counters.h"

#define IDLE_MS         100000 /* a worker without clients ends after this */
#define BACKOFF_MIN_MS  100    /* after a worker that died young, doubled each time */
#define BACKOFF_MAX_MS  1000
#define PATIENCE_MS     10000 /* a worker that reads nothing for so long holds up its clients */
#define SETTLE_MS       10000 /* in which it confirms a new policy, and hands back its clients */
#define MORE_TABLES     32    /* that a worker may be given besides those that there were */
#define STEADY_MS       10000 /* a worker that lived so long starts from the beginning */
#define GROUPS_MOST     65536 /* of one process */
#define HANDBACKS       32    /* clients that a worn worker is asked for at a time */
#define AGAIN_MS        1000  /* what could not be sent is tried again after this */
#define BEHIND_MS       20    /* and what a worker has no use for yet */
#define RELINKS_MOST    8     /* a worker that loses more links to one agent is broken */
#define WORKER_MEMORY   (UINT64_C(64) << 20) /* and twice max-pending, for buffers that grow */
#define CLIENT_MESSAGES 16                   /* what a client can make a worker say, generously */

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
    uint64_t agent;   /* of the last link that it had */
    unsigned relinks; /* made anew to the same agent */
};

/* Kinds of lines that a client can cause, each with its own limit. */
enum limited { DENIALS, CLOSINGS, REFUSALS, COMPLAINTS, DEATHS, LIMITED };
static const char *const limited_names[LIMITED] = {"denials", "clients closed", "clients refused",
                                                   "complaints of workers", "workers that died"};

/* Those who share places, because there may be 65,536 of them on one day: their workers are few,
 * and started at a limited pace, and so are the lines of the log about them. */
struct crowd {
    const char *who;
    unsigned most;       /* workers, in all */
    unsigned burst;      /* of their workers that may be started at once */
    unsigned pace;       /* ms: and one more in this time */
    uint64_t paid_until; /* by those that were started */
    struct log_limit limits[LIMITED];
};

static struct crowd strangers = {"users whom no allow section names", 8, 64, 100, 0, {{0}}};
static struct crowd guests = {"users allowed by a group or as anyone", 64, 256, 40, 0, {{0}}};

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

/* What is told of to the census by a number: no two workers have the same at a time. */
struct place {
    struct worker *worker; /* NULL: nobody's now */
    uint32_t paged, told;  /* see census_edition(): it has its page; it knows the rest */
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
    uint64_t idle_since;
    uint64_t again_at; /* NEVER, or when to tell it what could not be told */
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

static uint64_t served_in_all;
static struct compartment *compartments;
static struct worker *workers;
static struct place *places;
static size_t nplaces;
static uint32_t reloads; /* serial of the latest */

static const struct policy_listen *listen_of(const struct compartment *c)
{
    return &monitor_policy->listens[c->peer.listener];
}

/* "uid 105 pid 99 on /path", the identity part of every line about a client. */
static const char *identity(const struct worker *w, uint32_t client)
{
    static char text[256];

    snprintf(text, sizeof text, "uid %u pid %d on %s", (unsigned)w->compartment->peer.uid,
             (int)w->clients[client].pid, listen_of(w->compartment)->path);
    return text;
}

/* Whom lines of the log that were left out are told of, and the limits of these lines. */
static const char *told_of(const struct compartment *c)
{
    static char text[256];

    if (c->crowd != NULL)
        return c->crowd->who;
    snprintf(text, sizeof text, "uid %u on %s", (unsigned)c->peer.uid, listen_of(c)->path);
    return text;
}

static struct log_limit *limits_of(struct compartment *c)
{
    return c->crowd != NULL ? c->crowd->limits : c->limits;
}

/* Says what was held back in intervals that are over at now. Returns when to come again. */
static uint64_t tell_held(struct log_limit *limits, const char *who, uint64_t now)
{
    uint64_t next = NEVER;

    for (int i = 0; i < LIMITED; i++) {
        unsigned held = log_held(&limits[i], now);

        if (held > 0)
            log_line(LOG_WARNING, "%u more %s for %s", held, limited_names[i], who);
        if (limits[i].until != 0 && limits[i].until < next)
            next = limits[i].until;
    }
    return next;
}

static bool log_about(struct compartment *c, enum limited kind)
{
    tell_held(limits_of(c), told_of(c), monitor_now());
    return log_allow(&limits_of(c)[kind]);
}

static bool is_client(const struct worker *w, uint32_t number)
{
    return number < w->most && w->clients[number].used;
}

/* ---- places ---- */

static bool take_place(struct worker *w)
{
    struct place *grown;

    for (w->place = 0; w->place < nplaces && places[w->place].worker != NULL; w->place++)
        ;
    if (w->place == nplaces) {
        grown = realloc(places, (nplaces + 1) * sizeof *grown);
        if (grown == NULL)
            return false;
        places = grown;
        nplaces++;
    }
    places[w->place] = (struct place){.worker = w};
    return true;
}

/* There is news of it, or of its end. */
static void place_news(size_t place)
{
    places[place].told = 0;
    census_changed();
}

static void leave_place(const struct worker *w)
{
    if (w->place < nplaces && places[w->place].worker == w) {
        places[w->place].worker = NULL;
        place_news(w->place);
    }
}

/* A page for its counters: the worker's end first, since it must not get one after the other while
 * the census takes none. */
static bool tell_page(struct place *p, bool fresh)
{
    struct worker *w = p->worker;
    struct msg_counters counters = {w->slots, 0};
    struct msg_page page = {(uint32_t)w->place, (uint32_t)w->compartment->peer.uid,
                            (uint32_t)w->compartment->peer.listener, w->slots, fresh};
    int writer, reader;
    bool told;

    if (!census_page(w->slots, &writer, &reader))
        return false;
    told = child_send(w->child, MSG_COUNTERS, &counters, NULL, 0, &writer) &&
           census_tell(MSG_PAGE, &page, NULL, &reader);
    close(writer);
    close(reader);
    if (told)
        p->paged = census_edition();
    return told;
}

static bool tell_worker(const struct place *p)
{
    const struct worker *w = p->worker;
    struct msg_worker_state body = {
        (uint32_t)w->place, w->nclients, w->served, (uint32_t)w->child->pid, {0}};

    limits_told(w->compartment->peer.uid, body.limits);
    return census_tell(MSG_WORKER_STATE, &body, NULL, NULL);
}

bool clients_tell(void)
{
    bool all = true;

    for (size_t i = 0; i < nplaces; i++) {
        struct place *p = &places[i];
        struct msg_ended ended = {(uint32_t)i};

        if (p->told == census_edition() && (p->worker == NULL || p->paged == p->told))
            continue;
        /* Each page that a worker has not even taken is memory, as with images. */
        if (p->worker != NULL && p->paged != census_edition() &&
            (child_backlog(p->worker->child) || !tell_page(p, false))) {
            all = false;
            continue;
        }
        if (p->worker != NULL ? !tell_worker(p) : !census_tell(MSG_ENDED, &ended, NULL, NULL))
            return false;
        if (p->worker != NULL && p->worker->child->pid == 0)
            all = false; /* that it has one will be news */
        else
            p->told = census_edition();
    }
    if (!all)
        census_changed();
    return true;
}

/* ---- limits ---- */

/* Connections are counted by compartments; those of one uid are few. */
static bool may_connect(uid_t uid, const char **why)
{
    static char text[128];
    unsigned most = policy_limit(monitor_policy, uid)->clients, count = 0;

    for (const struct compartment *c = compartments; most > 0 && c != NULL; c = c->next)
        if (c->peer.uid == uid)
            count += c->clients;
    if (most == 0 || count < most)
        return true;
    snprintf(text, sizeof text,
             "it has %u connections on all sockets, and clients = %u in its limit section", count,
             most);
    *why = text;
    return false;
}

static bool tell_pace(struct worker *w)
{
    w->pace_owed = !child_send(w->child, MSG_PACE, &w->pace, NULL, 0, NULL);
    return !w->pace_owed;
}

bool clients_has_worker(uid_t uid)
{
    const struct worker *w = workers;

    while (w != NULL && w->compartment->peer.uid != uid)
        w = w->next;
    return w != NULL;
}

void clients_pace(uid_t uid)
{
    struct msg_pace pace;
    unsigned count = 0;

    for (const struct worker *w = workers; w != NULL; w = w->next)
        count += w->compartment->peer.uid == uid;
    if (count == 0)
        return;
    pace = limits_pace(uid, count);
    for (struct worker *w = workers; w != NULL; w = w->next)
        if (w->compartment->peer.uid == uid && memcmp(&w->pace, &pace, sizeof pace) != 0) {
            w->pace = pace;
            tell_pace(w);
        }
}

void clients_limits_changed(void)
{
    for (size_t i = 0; i < nplaces; i++)
        if (places[i].worker != NULL)
            place_news(i);
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
                             .answered_by = table_answered_by(index),
                             .limit = monitor_policy->tables[index].limit,
                             .table = (uint32_t)index};

    return child_send(w->child, MSG_TABLE, &body, NULL, 0, &fd);
}

/* The image; or that there is none, and what answers instead, if anything does. */
static bool tell_image(struct worker *w, size_t index)
{
    const struct policy_table *conf = &monitor_policy->tables[index];
    const struct table_type_info *type = conf->type;
    uint32_t ref = w->grants[index].ref;
    enum bridge_kind by = table_answered_by(index);

    if (by & KIND_IMAGE)
        return send_table(w, index, KIND_IMAGE, table_image(index));
    if (by & KIND_LINK)
        return child_send(w->child, MSG_TABLE_KIND,
                          &(struct msg_table_kind){ref, type->flags, features_of(type), by,
                                                   conf->limit, (uint32_t)index},
                          NULL, 0, NULL);
    return child_send(w->child, MSG_TABLE_ERROR,
                      &(struct msg_table_error){ref, PM_RETRY, type->flags, (uint32_t)index}, NULL,
                      0, NULL);
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
 * Tells a worker that it does not get a table, of that index if there is one. Where more groups of
 * its clients count since a reload, some may be allowed what these groups are: until each has been
 * looked at anew, what is there is for later. False: its queue is full.
 */
static bool tell_refused(struct worker *w, uint32_t ref, size_t index)
{
    struct msg_table_error body = {.ref = ref, .status = PM_DENY};

    if (w->compartment->stale && index < monitor_policy->ntables) {
        body.status = PM_RETRY;
        body.flags = monitor_policy->tables[index].type->flags;
        body.table = (uint32_t)index;
    }
    return child_send(w->child, MSG_TABLE_ERROR, &body, NULL, 0, NULL);
}

/* What was taken from it by a reload. False: its queue is full. */
static bool tell_owed(struct worker *w, size_t index)
{
    struct grant *g = &w->grants[index];
    struct msg_recall recall = {g->ref};

    if (g->owed == OWED_DENIAL && !tell_refused(w, g->ref, index))
        return false;
    if (g->owed == OWED_RECALL && !child_send(w->child, MSG_RECALL, &recall, NULL, 0, NULL))
        return false;
    g->owed = OWED_NOTHING;
    return true;
}

/*
 * Tells a worker what is new about a table it asked for. The link first: an agent alone gives right
 * answers, an image alone may not. False: its queue is full; writable() comes back to it.
 */
static bool tell(struct worker *w, size_t index)
{
    struct grant *g = &w->grants[index];
    uint64_t version = table_version(index), agent = agent_version(index);

    if (g->owed != OWED_NOTHING && !tell_owed(w, index))
        return false;
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

static bool tell_limits(struct worker *w)
{
    const struct policy_listen *l = listen_of(w->compartment);
    struct msg_serve serve = {l->max_pending,
                              l->max_request,
                              l->request_timeout,
                              l->answer_timeout,
                              l->greeting,
                              w->slots,
                              0};

    w->serve_owed = !child_send(w->child, MSG_SERVE, &serve, NULL, 0, NULL);
    return !w->serve_owed;
}

/* Of a reload: all that is taken from it, and then the question whether it has done that. */
static bool tell_reload(struct worker *w)
{
    struct msg_settle settle = {reloads};

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (w->grants[i].owed != OWED_NOTHING && !tell_owed(w, i))
            return false;
    if (w->serve_owed && !tell_limits(w))
        return false;
    if (!child_send(w->child, MSG_SETTLE, &settle, NULL, 0, NULL))
        return false;
    w->settling = SETTLING;
    return true;
}

static void worker_writable(struct child *child)
{
    struct worker *w = child->owner;

    if ((w->settling == SETTLE_OWED && !tell_reload(w)) || (w->pace_owed && !tell_pace(w)))
        return;
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
    else if (policy_advice(monitor_policy, &w->compartment->peer, name, advice, sizeof advice) &&
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
    if (policy_decide(monitor_policy, &w->compartment->peer, name, &index) != POLICY_APPROVE) {
        if (!w->compartment->stale)
            log_denied(w, open->client, name);
        if (!tell_refused(w, open->ref, index))
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

static void take_client(struct worker *w, uint32_t number, const struct client *client)
{
    w->clients[number] = *client;
    w->clients[number].used = true;
    w->nclients++;
    w->compartment->clients++;
    w->idle_since = monitor_now();
    place_news(w->place);
}

static void drop_client(struct worker *w, uint32_t number)
{
    w->clients[number].used = false;
    w->nclients--;
    w->compartment->clients--;
    w->idle_since = monitor_now();
    place_news(w->place);
}

/* CLOSED: client. */
static void handle_closed(struct worker *w, const struct bridge_msg *msg)
{
    uint32_t client = msg->body.CLOSED.client;

    if (is_client(w, client))
        drop_client(w, client);
    else
        child_end(w->child, "it closes a client that it does not have");
}

/* An image that is none, or a link whose other end has gone: that one is made anew. */
static void handle_bad_table(struct worker *w, uint32_t ref, struct slice text)
{
    char escaped[256];
    size_t i = 0;

    while (i < monitor_policy->ntables && !(w->grants[i].asked && w->grants[i].ref == ref))
        i++;
    if (i == monitor_policy->ntables) {
        if (w->settling == SETTLED) /* else it may not know yet */
            child_end(w->child, "it speaks of a table that it does not have");
    } else if (text.len > 0) {
        if (log_about(w->compartment, COMPLAINTS))
            table_spoiled(i, policy_printable(text, escaped, sizeof escaped));
    } else if (++w->grants[i].relinks > RELINKS_MOST) {
        child_end(w->child, "it loses its links to an agent again and again");
    } else { /* in a while: the agent may be about to go, and a new one tells by itself */
        w->grants[i].linked = 0;
        w->again_at = monitor_now() + AGAIN_MS;
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
        if (policy_decide(monitor_policy, &w->compartment->peer, text, &index) == POLICY_DENY)
            log_denied(w, event->subject, text);
        else if (w->settling == SETTLED)
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
    case EVENT_OVER_PENDING:
        snprintf(reason, sizeof reason,
                 "with it, more bytes would be pending in its worker than max-pending, %u MB",
                 (unsigned)(l->max_pending >> 20));
        break;
    default:
        child_end(w->child, "it reports an event that it cannot have");
        return;
    }
    if (log_about(w->compartment, CLOSINGS))
        log_line(LOG_WARNING, "closed client %s: %s", identity(w, event->subject), reason);
}

/* ---- workers ---- */

static void free_worker(struct worker *w)
{
    struct compartment *c = w->compartment;
    struct worker **at = &workers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    leave_place(w);
    c->workers--;
    c->clients -= w->nclients;
    if (c->worn == w)
        c->worn = NULL;
    free(w->grants);
    free(w->clients);
    free(w);
    clients_pace(c->peer.uid);
}

static void worker_message(struct child *child, const struct bridge_msg *msg);

static void worker_gone(struct child *child, const char *how)
{
    struct worker *w = child->owner;
    struct compartment *c = w->compartment;
    uint64_t now = monitor_now();

    /* What it sent instead of a connection may still be open: see bridge_discard(). Once is enough,
     * and the place of a second worn worker pays for it. */
    if (child->state == STATE_DRAIN && child->verdict != NULL && !w->dismissed)
        c->suspect = true;
    if (w->dismissed) {
        free_worker(w);
        return;
    }
    if (now - child->started >= STEADY_MS)
        c->backoff = 0;
    c->start_at = now + c->backoff;
    if (c->backoff == 0)
        c->backoff = BACKOFF_MIN_MS;
    else if (c->backoff * 2 <= BACKOFF_MAX_MS)
        c->backoff *= 2;
    if (log_about(c, DEATHS))
        log_line(LOG_WARNING, "worker pid %d for uid %u on %s died: %s; it had %u clients",
                 (int)child->pid, (unsigned)c->peer.uid, listen_of(c)->path,
                 how != NULL ? how : "it ended by itself", w->nclients);
    free_worker(w);
}

static const struct child_ops worker_ops = {.role = ROLE_WORKER,
                                            .what = "worker",
                                            .patience = PATIENCE_MS,
                                            .message = worker_message,
                                            .writable = worker_writable,
                                            .gone = worker_gone};

static struct worker *start_worker(struct compartment *c)
{
    const struct policy_listen *l = listen_of(c);
    struct spawn limits = {.descriptors =
                               l->clients_per_worker + monitor_policy->ntables + MORE_TABLES + 64,
                           .file_size = 0,
                           .memory = WORKER_MEMORY + 2 * l->max_pending,
                           .cpu_seconds = SPAWN_UNLIMITED};
    struct worker *w = calloc(1, sizeof *w);
    char title[192];

    snprintf(title, sizeof title, "jailmap-worker: uid %u on %s", (unsigned)c->peer.uid, l->path);
    if (w != NULL) {
        w->grants = calloc(monitor_policy->ntables + 1, sizeof *w->grants);
        w->clients = calloc(l->clients_per_worker, sizeof *w->clients);
    }
    if (w != NULL && w->grants != NULL && w->clients != NULL && take_place(w))
        w->child = child_start(&worker_ops, w, HELPER_WORKER, &limits, title);
    if (w == NULL || w->child == NULL) {
        if (w != NULL) {
            leave_place(w);
            free(w->grants);
            free(w->clients);
        }
        free(w);
        c->start_at = monitor_now() + BACKOFF_MAX_MS;
        return NULL;
    }
    w->compartment = c;
    w->slots = (uint32_t)(monitor_policy->ntables < COUNTERS_SLOTS ? monitor_policy->ntables
                                                                   : COUNTERS_SLOTS);
    w->idle_since = monitor_now();
    w->again_at = w->settle_by = w->end_by = NEVER;
    w->most = l->clients_per_worker;
    w->room = monitor_policy->ntables + MORE_TABLES;
    w->next = workers;
    workers = w;
    c->workers++;
    tell_limits(w);
    w->child->state = STATE_SERVE;
    clients_pace(c->peer.uid);
    /* Before its first client, so that nothing is counted late. */
    tell_page(&places[w->place], true);
    return w;
}

static bool is_of(const struct compartment *c, const struct policy_peer *peer)
{
    return !c->stale && c->peer.listener == peer->listener && c->peer.uid == peer->uid &&
           c->peer.ngroups == peer->ngroups &&
           memcmp(c->groups, peer->groups, peer->ngroups * sizeof *c->groups) == 0;
}

static struct crowd *crowd_of(const struct policy_peer *peer)
{
    enum policy_standing standing = policy_standing(monitor_policy, peer);

    if (standing == STANDING_NAMED)
        return NULL;
    return standing == STANDING_GUEST ? &guests : &strangers;
}

/* A new one is to be let go with forget(), if it gets no worker. */
static struct compartment *find_compartment(const struct policy_peer *peer)
{
    size_t size = peer->ngroups * sizeof *peer->groups;
    struct compartment *c;

    for (c = compartments; c != NULL; c = c->next)
        if (is_of(c, peer))
            return c;
    c = calloc(1, sizeof *c + size);
    if (c == NULL)
        return NULL;
    c->peer = *peer;
    memcpy(c->groups, peer->groups, size);
    c->peer.groups = c->groups;
    c->crowd = crowd_of(&c->peer);
    c->next = compartments;
    compartments = c;
    return c;
}

/*
 * A crowd has its own pace and limits. Of a named user, only what differs by groups is forgotten,
 * and not while it still slows down how often workers die and how much is said about that.
 */
static void forget(struct compartment *c, uint64_t now)
{
    struct compartment **at = &compartments;

    if (c->workers > 0)
        return;
    if (c->crowd == NULL && !c->stale && !listen_of(c)->gone &&
        (c->peer.ngroups == 0 || (c->backoff != 0 && now < c->start_at + STEADY_MS) ||
         tell_held(c->limits, told_of(c), now) != NEVER))
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
}

/* The most workers for c, besides a worn one that hands its clients back. */
static unsigned workers_most(const struct compartment *c)
{
    return c->crowd == &strangers ? 1 : listen_of(c)->workers;
}

/* And for its uid on its listener: for each group that makes a difference there is one more. */
static unsigned places_most(const struct policy *policy, size_t listener)
{
    return policy->listens[listener].workers + (unsigned)policy_count(policy, listener, WHO_GROUP);
}

uint64_t clients_workers_most(const struct policy *policy)
{
    uint64_t most = UINT64_C(2) * strangers.most;
    bool open = false;

    for (size_t i = 0; i < policy->nlistens; i++) {
        uint64_t group_sections = policy_count(policy, i, WHO_GROUP);

        if (policy->listens[i].gone)
            continue;
        /* Each compartment of a uid may have a worn one besides, and all may be replaced at once.
         */
        most += (UINT64_C(2) * places_most(policy, i) + 1 + group_sections) *
                policy_count(policy, i, WHO_USER);
        open |= group_sections > 0 || policy_count(policy, i, WHO_ANYONE) > 0;
    }
    return open ? most + 2 * guests.most : most;
}

static void release_worker(struct worker *w)
{
    child_release(w->child);
    free_worker(w);
}

/* May that worker be let go of for another one? */
static bool is_idle(const struct worker *w)
{
    return w->nclients == 0 && w->compartment->worn != w;
}

/*
 * Is there a place for one more worker of that crowd? One that is idle makes room, if somebody is
 * at the door; but starting them is work that takes time from all, so their pace is limited.
 */
static bool crowd_place(struct crowd *crowd, uint64_t now, bool urgent, const char **why)
{
    static char text[96];
    struct worker *idle = NULL;
    unsigned count = 0;

    snprintf(text, sizeof text, "too many %s", crowd->who);
    *why = text;
    for (struct worker *w = workers; w != NULL; w = w->next) {
        if (w->compartment->crowd != crowd || w->tainted)
            continue;
        count++;
        if (urgent && is_idle(w) && (idle == NULL || w->idle_since < idle->idle_since))
            idle = w;
    }
    if (crowd->paid_until < now)
        crowd->paid_until = now;
    if ((count >= crowd->most && idle == NULL) ||
        crowd->paid_until - now > (uint64_t)crowd->burst * crowd->pace)
        return false;
    crowd->paid_until += crowd->pace;
    if (count >= crowd->most && idle != NULL)
        release_worker(idle);
    return true;
}

/*
 * Is there a place for one more worker of that uid on that listener? What its processes with other
 * groups do not use at the moment makes room.
 */
static bool uid_place(const struct compartment *c, bool urgent)
{
    struct worker *idle = NULL;
    unsigned count = 0;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        const struct compartment *other = w->compartment;

        if (other->peer.uid != c->peer.uid || other->peer.listener != c->peer.listener ||
            other->worn == w || w->tainted || w->child->io.fd < 0)
            continue;
        count++;
        if (urgent && is_idle(w) && (idle == NULL || w->idle_since < idle->idle_since))
            idle = w;
    }
    if (count < places_most(monitor_policy, c->peer.listener))
        return true;
    if (idle != NULL)
        release_worker(idle);
    return idle != NULL;
}

/*
 * The least busy worker that takes one more; another is started when there is none. urgent: a
 * client is at the door, and another worker that is idle may be let go of for it.
 */
static struct worker *find_worker(struct compartment *c, uint64_t now, bool urgent,
                                  const char **why)
{
    struct worker *best = NULL;
    unsigned in_use = 0, leaving = 0;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        if (w->compartment != c)
            continue;
        leaving += w->tainted;
        if (w->child->io.fd < 0 || w == c->worn || w->tainted)
            continue;
        in_use++;
        if (w->nclients < w->most && (best == NULL || w->nclients < best->nclients))
            best = w;
    }
    if (best != NULL)
        return best;
    *why = "all its workers are full";
    if (in_use >= workers_most(c))
        return NULL;
    *why = "its workers die; the next one waits";
    if (now < c->start_at || c->workers - leaving > workers_most(c))
        return NULL;
    *why = "its processes with other groups have all its workers";
    if (!uid_place(c, urgent))
        return NULL;
    if (c->crowd != NULL && !crowd_place(c->crowd, now, urgent, why))
        return NULL;
    *why = "no worker can be started";
    return start_worker(c);
}

static bool pass_on(struct worker *w, int fd, const struct client *client, bool greeted)
{
    struct msg_client body = {0, greeted};

    while (body.client < w->most && w->clients[body.client].used)
        body.client++;
    if (body.client == w->most)
        return false;
    if (!child_send(w->child, MSG_CLIENT, &body, NULL, 0, &fd))
        return false;
    take_client(w, body.client, client);
    child_credit(w->child, CLIENT_MESSAGES);
    return true;
}

/* Asks the kernel. A socket first: the file system of another file could keep fstat(2) waiting. */
static bool look_at(int fd, struct client *client)
{
    struct ucred peer;
    struct stat st;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || fstat(fd, &st) != 0)
        return false;
    *client = (struct client){true, peer.pid, peer.uid, peer.gid, st.st_dev, st.st_ino};
    return true;
}

/* Of the groups of whoever is there, those that the policy asks for. False: the kernel does not
 * tell. */
static bool look_at_groups(int fd, struct policy_peer *peer, gid_t group)
{
    static gid_t groups[GROUPS_MOST + 1];
    socklen_t len = GROUPS_MOST * sizeof *groups;

    peer->groups = groups;
    peer->ngroups = 0;
    if (!policy_asks_groups(monitor_policy, peer->listener))
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
        return false;
    peer->ngroups = len / sizeof *groups;
    groups[peer->ngroups++] = group;
    peer->ngroups = policy_reduce(monitor_policy, peer->listener, groups, peer->ngroups);
    return true;
}

/* Of the one at the other end. NULL: the kernel does not tell, or out of memory. */
static struct compartment *compartment_of(int fd, size_t listener, const struct client *client)
{
    struct policy_peer peer = {.listener = listener, .uid = client->uid};

    return look_at_groups(fd, &peer, client->gid) ? find_compartment(&peer) : NULL;
}

static void refuse(struct compartment *c, const struct client *client, const char *why)
{
    if (log_about(c, REFUSALS))
        log_line(LOG_WARNING, "refused client uid %u pid %d on %s: %s", (unsigned)client->uid,
                 (int)client->pid, listen_of(c)->path, why);
}

int client_accept(size_t listener, int listen_fd, uint64_t now)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client client;
    struct compartment *c = NULL;
    struct worker *w = NULL;
    const char *why = "all its workers are full";

    if (fd < 0)
        return errno;
    if (look_at(fd, &client))
        c = compartment_of(fd, listener, &client);
    /* Those of a worn worker count: there must be room where they go. */
    if (c != NULL && may_connect(client.uid, &why) &&
        c->clients < workers_most(c) * listen_of(c)->clients_per_worker)
        w = find_worker(c, now, true, &why);
    if (w != NULL && !pass_on(w, fd, &client, false)) {
        why = "its worker is too busy";
        w = NULL;
    }
    if (w != NULL) {
        w->served++;
        served_in_all++;
    } else if (c != NULL) {
        refuse(c, &client, why);
    }
    if (c != NULL)
        forget(c, now);
    close(fd);
    return 0;
}

/* ---- worn workers ---- */

/* Who takes the clients of w next. Of a stale compartment nobody knows before they are looked at
 * anew, one by one. */
static struct worker *find_replacement(struct worker *w, uint64_t now)
{
    const char *why;

    return w->compartment->stale ? w : find_worker(w->compartment, now, false, &why);
}

/*
 * Asks a worn or tainted worker for some of its clients, as soon as another one is there to take
 * them and has taken what it was sent; so a queue that is full refuses nobody.
 */
static void ask_back(struct worker *w, uint64_t now)
{
    struct compartment *c = w->compartment;
    struct msg_drain body = {HANDBACKS};
    struct worker *other;

    if (w->asked_back > 0)
        return;
    other = find_replacement(w, now);
    if (other == NULL && w == c->worn && w->child->state == STATE_SERVE)
        c->worn = NULL; /* it goes on as before for a while */
    if (other == NULL || child_backlog(other->child)) {
        w->again_at = now + (other == NULL ? AGAIN_MS : BEHIND_MS);
        return;
    }
    if (w->child->state == STATE_SERVE)
        bridge_take_descriptors(w->child->io.fd, true);
    w->child->state = STATE_DRAIN;
    if (child_send(w->child, MSG_DRAIN, &body, NULL, 0, NULL))
        w->asked_back = HANDBACKS;
    else
        w->again_at = now + BEHIND_MS;
}

static bool is_same(const struct client *a, const struct client *b)
{
    return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid && a->dev == b->dev &&
           a->ino == b->ino;
}

/* HANDBACK: client; its connection. */
static void handle_handback(struct worker *w, const struct bridge_msg *msg)
{
    uint32_t number = msg->body.HANDBACK.client;
    struct compartment *c = w->compartment;
    struct client client;
    struct worker *next = NULL;
    const char *why = "its worker is too busy";
    int fd = msg->fds[0];

    if (w->asked_back == 0 || !is_client(w, number) || !look_at(fd, &client) ||
        !is_same(&client, &w->clients[number])) {
        bridge_discard(fd);
        child_end(w->child, "it hands back what it was not given");
        return;
    }
    w->asked_back--;
    drop_client(w, number);
    if (c->stale)
        c = compartment_of(fd, c->peer.listener, &client);
    if (c != NULL)
        next = find_worker(c, monitor_now(), false, &why);
    /* If nobody else takes it, it goes to where it came from, and is asked for again. */
    if (next == NULL || !pass_on(next, fd, &client, true)) {
        w->again_at = monitor_now() + BEHIND_MS;
        if (!pass_on(w, fd, &client, true))
            refuse(w->compartment, &client, why);
    }
    if (c != NULL)
        forget(c, monitor_now());
    close(fd);
}

/* SETTLED: serial. */
static void handle_settled(struct worker *w, const struct bridge_msg *msg)
{
    if (w->settling != SETTLING || msg->body.SETTLED.serial != reloads) {
        child_end(w->child, "it confirms what it was not asked");
        return;
    }
    w->settling = SETTLED;
    w->settle_by = NEVER;
}

static void worker_message(struct child *child, const struct bridge_msg *msg)
{
    struct worker *w = child->owner;

    if (msg->type == MSG_OPEN)
        handle_open(w, msg);
    else if (msg->type == MSG_CLOSED)
        handle_closed(w, msg);
    else if (msg->type == MSG_HANDBACK)
        handle_handback(w, msg);
    else if (msg->type == MSG_SETTLED)
        handle_settled(w, msg);
    else
        handle_event(w, msg);
}

/* Ends one that may simply have had clients that were never idle: that is no misdeed. */
static void dismiss(struct worker *w, const char *why)
{
    w->dismissed = true;
    w->settling = SETTLING; /* until it has ended */
    child_end(w->child, why);
}

/* One that a reload waits for, or has found tainted, has its time. False: that is over. */
static bool is_in_time(struct worker *w, uint64_t now)
{
    if (w->settle_by <= now) {
        child_end(w->child, "it did not confirm the new policy in time");
    } else if (w->end_by <= now) {
        log_line(LOG_WARNING,
                 "worker pid %d for uid %u on %s ended: %s, and it has not handed back %u clients "
                 "in time",
                 (int)w->child->pid, (unsigned)w->compartment->peer.uid,
                 listen_of(w->compartment)->path,
                 w->compartment->stale ? "more groups of its clients count now"
                                       : "it had a table that is not approved any more",
                 w->nclients);
        dismiss(w, "it did not hand back its clients in time");
    } else {
        return true;
    }
    return false;
}

/* Asks w for its clients, if it is its turn: of worn ones one at a time. */
static void replace(struct worker *w, bool is_worn, uint64_t now)
{
    struct compartment *c = w->compartment;

    if (is_worn && c->worn == NULL && c->crowd != &strangers && !c->suspect && !w->tainted)
        c->worn = w;
    if (c->worn == w || w->tainted)
        ask_back(w, now);
}

/* Lets idle workers go, and worn ones that have no clients; asks others for theirs. */
static uint64_t tick_worker(struct worker *w, uint64_t now)
{
    bool is_worn = w->served >= listen_of(w->compartment)->max_use || w->tainted || w->outdated;
    uint64_t next;

    if (w->child->io.fd < 0 || !is_in_time(w, now)) /* its end is being reported */
        return NEVER;
    if (w->again_at <= now) {
        w->again_at = NEVER;
        worker_writable(w->child);
    }
    if (w->nclients == 0 && (is_worn || now - w->idle_since >= IDLE_MS)) {
        release_worker(w);
        return NEVER;
    }
    if (w->again_at == NEVER)
        replace(w, is_worn, now);
    next = w->settle_by < w->end_by ? w->settle_by : w->end_by;
    if (w->nclients == 0 && w->idle_since + IDLE_MS < next)
        next = w->idle_since + IDLE_MS;
    return w->again_at < next ? w->again_at : next;
}

uint64_t clients_tick(uint64_t now)
{
    uint64_t next = tell_held(strangers.limits, strangers.who, now),
             at = tell_held(guests.limits, guests.who, now);

    next = at < next ? at : next;
    for (struct worker *w = workers, *after; w != NULL; w = after) {
        after = w->next;
        at = tick_worker(w, now);
        next = at < next ? at : next;
    }
    for (struct compartment *c = compartments, *after; c != NULL; c = after) {
        after = c->next;
        at = tell_held(c->limits, told_of(c), now);
        next = at < next ? at : next;
        forget(c, now);
    }
    return next;
}

uint64_t clients_served(void)
{
    return served_in_all;
}

unsigned clients_connected(void)
{
    unsigned count = 0;

    for (const struct compartment *c = compartments; c != NULL; c = c->next)
        count += c->clients;
    return count;
}

void clients_stop(void)
{
    tell_held(strangers.limits, strangers.who, NEVER);
    tell_held(guests.limits, guests.who, NEVER);
    for (struct compartment *c = compartments; c != NULL; c = c->next)
        tell_held(c->limits, told_of(c), NEVER);
}

/* ---- reload ---- */

bool clients_prepare(size_t ntables)
{
    size_t had = monitor_policy->ntables + 1;

    for (struct worker *w = workers; w != NULL; w = w->next) {
        struct grant *grown = reallocarray(w->grants, ntables + 1, sizeof *grown);

        if (grown == NULL)
            return false;
        memset(grown + had, 0, (ntables + 1 - had) * sizeof *grown);
        w->grants = grown;
    }
    return true;
}

/* Takes from w what its clients may not have any more, or not as it was. */
static void take_away(struct worker *w)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct grant *g = &w->grants[i];
        const char *name = monitor_policy->tables[i].name;
        size_t index;

        if (!g->asked)
            continue;
        if (policy_decide(monitor_policy, &w->compartment->peer, (struct slice){name, strlen(name)},
                          &index) != POLICY_APPROVE)
            *g = (struct grant){.owed = OWED_DENIAL, .ref = g->ref};
        else if (table_is_anew(i))
            *g = (struct grant){.asked = true, .owed = OWED_RECALL, .ref = g->ref};
        w->tainted |= g->owed != OWED_NOTHING;
    }
}

static void note_limits(struct worker *w, const struct policy_listen *before)
{
    const struct policy_listen *l = listen_of(w->compartment);

    w->serve_owed |= l->max_pending != before->max_pending ||
                     l->max_request != before->max_request ||
                     l->request_timeout != before->request_timeout ||
                     l->answer_timeout != before->answer_timeout || l->greeting != before->greeting;
    w->outdated |= l->max_pending != before->max_pending || l->clients_per_worker != w->most ||
                   monitor_policy->ntables > w->room;
}

static void reload_worker(struct worker *w, const struct policy *old, uint64_t now)
{
    const struct compartment *c = w->compartment;

    take_away(w);
    w->tainted |= c->stale;
    if (listen_of(c)->gone || (w->tainted && c->suspect)) {
        dismiss(w, "its clients may not use it any more");
        return;
    }
    note_limits(w, &old->listens[c->peer.listener]);
    if (w->tainted && w->end_by == NEVER)
        w->end_by = now + SETTLE_MS;
    w->settling = SETTLE_OWED;
    w->settle_by = now + SETTLE_MS;
    tell_reload(w);
}

void clients_reload(const struct policy *old)
{
    uint64_t now = monitor_now();

    reloads++;
    for (struct compartment *c = compartments; c != NULL; c = c->next) {
        struct crowd *crowd = crowd_of(&c->peer);

        c->stale |= policy_asks_more_groups(old, monitor_policy, c->peer.listener);
        if (listen_of(c)->gone || c->stale || crowd != c->crowd)
            tell_held(c->limits, told_of(c), NEVER);
        c->crowd = crowd;
    }
    for (struct worker *w = workers; w != NULL; w = w->next)
        if (!w->dismissed)
            reload_worker(w, old, now);
}

bool clients_settled(void)
{
    for (const struct worker *w = workers; w != NULL; w = w->next)
        if (w->settling != SETTLED || w->compartment->stale)
            return false;
    return true;
}
