/*
 * Connections of clients. Runs in the monitor, with privilege. It may accept one, ask the kernel
 * who is there, and pass it on; it must never read from one. A connection that a worker hands back
 * must be the one that was passed to it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/workers.h"

#define GROUPS_MOST     65536 /* of one process */
#define HANDBACKS       32    /* clients that a worn worker is asked for at a time */
#define CLIENT_MESSAGES 16    /* what a client can make a worker say, generously */

static uint64_t served_in_all;

const char *client_identity(const struct worker *w, uint32_t client)
{
    static char text[256];

    snprintf(text, sizeof text, "uid %u pid %d on %s", (unsigned)w->compartment->peer.uid,
             (int)w->clients[client].pid, listen_of(w->compartment)->path);
    return text;
}

static void take_client(struct worker *w, uint32_t number, const struct client *client)
{
    w->clients[number] = *client;
    w->clients[number].used = true;
    w->nclients++;
    w->compartment->clients++;
    w->idle_since = monitor_now();
    worker_news(w->place);
}

static void drop_client(struct worker *w, uint32_t number)
{
    w->clients[number].used = false;
    w->nclients--;
    w->compartment->clients--;
    w->idle_since = monitor_now();
    worker_news(w->place);
}

void client_closed(struct worker *w, const struct bridge_msg *msg)
{
    uint32_t client = msg->body.CLOSED.client;

    if (is_client(w, client))
        drop_client(w, client);
    else
        child_end(w->child, "it closes a client that it does not have");
}

void client_event(struct worker *w, const struct bridge_msg *msg)
{
    const struct policy_listen *l = listen_of(w->compartment);
    const struct msg_event *event = &msg->body.EVENT;
    struct slice text = {msg->tail, msg->tail_len};
    size_t index;
    char reason[128];

    if (event->event == EVENT_BAD_TABLE) {
        grant_spoiled(w, event->subject, text);
        return;
    }
    if (event->event == EVENT_UNMET || event->event == EVENT_MET) {
        grant_unmet(w, event->subject, event->event == EVENT_UNMET, text);
        return;
    }
    if (!is_client(w, event->subject)) {
        child_end(w->child, "it speaks of a client that it does not have");
        return;
    }
    switch (event->event) {
    case EVENT_DENIED:
        if (policy_decide(monitor_policy, &w->compartment->peer, text, &index) == POLICY_DENY)
            grant_log_denied(w, event->subject, text);
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
    if (compartment_may_log(w->compartment, CLOSINGS))
        log_line(LOG_WARNING, "closed client %s: %s", client_identity(w, event->subject), reason);
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

    return look_at_groups(fd, &peer, client->gid) ? compartment_find(&peer) : NULL;
}

static void refuse(struct compartment *c, const struct client *client, const char *why)
{
    if (compartment_may_log(c, REFUSALS))
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
    if (c != NULL && uid_may_connect(client.uid, &why) &&
        c->clients < compartment_workers_most(c) * listen_of(c)->clients_per_worker)
        w = compartment_worker(c, now, true, &why);
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
        compartment_forget(c, now);
    close(fd);
    return 0;
}

/* Who takes the clients of w next. Of a stale compartment nobody knows before they are looked at
 * anew, one by one. */
static struct worker *find_replacement(struct worker *w, uint64_t now)
{
    const char *why;

    return w->compartment->stale ? w : compartment_worker(w->compartment, now, false, &why);
}

void clients_ask_back(struct worker *w, uint64_t now)
{
    struct compartment *c = w->compartment;
    struct msg_drain body = {HANDBACKS - w->asked_back}; /* what it was asked for holds */
    struct worker *other;

    if (w->asked_back > 0 && !w->returned)
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
    if (child_send(w->child, MSG_DRAIN, &body, NULL, 0, NULL)) {
        w->asked_back = HANDBACKS;
        w->returned = false;
    } else {
        w->again_at = now + BEHIND_MS;
    }
}

static bool is_same(const struct client *a, const struct client *b)
{
    return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid && a->dev == b->dev &&
           a->ino == b->ino;
}

void client_handed_back(struct worker *w, const struct bridge_msg *msg)
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
        next = compartment_worker(c, monitor_now(), false, &why);
    /* If nobody else takes it, it goes to where it came from, and is asked for again. */
    if (next == NULL || !pass_on(next, fd, &client, true)) {
        w->again_at = monitor_now() + BEHIND_MS;
        w->returned = pass_on(w, fd, &client, true);
        if (!w->returned)
            refuse(w->compartment, &client, why);
    }
    if (c != NULL)
        compartment_forget(c, monitor_now());
    close(fd);
}

uint64_t clients_served(void)
{
    return served_in_all;
}
