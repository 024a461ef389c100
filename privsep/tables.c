/*
 * Tables of the policy: their images and agents. Runs in the monitor, with privilege. It may open
 * an approved source, hand it to a loader with an empty memfd, seal what the loader leaves, and
 * pass that on; it must never read a source or an image. What cannot be loaded leaves the last good
 * image in service and says so; a table that never loaded answers RETRY, and neither is ever "not
 * found".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "privsep/monitor.h"
#include "privsep/priv_open.h"

#define LOADERS_AT_ONCE 8    /* most wait for a lock, if there are many */
#define FIRST_MS        3000 /* a table that takes longer at start answers RETRY meanwhile */
#define TORN_MOST       3    /* loads in a row that a writer may spoil before it is said */
#define IMAGE_MIN       (UINT64_C(64) << 20)
#define IMAGE_MAX       (UINT64_C(4) << 30)
#define IMAGE_RATIO     16     /* an image may be larger than its source, but not by much */
#define LOCK_MS         10000  /* a loader waits this long for a writer's lock */
#define LOAD_MS         120000 /* and is ended after this long */
#define QUIET_MS        20     /* after an event, before the source is looked at */
#define QUIET_MOST_MS   200    /* however long events go on */
#define LOOK_MS         5000   /* for what causes no event */
#define RETRY_MS        10000  /* a failed load is tried again, changed or not */
#define BACKOFF_MIN_MS  100    /* an agent that dies is started again after this, doubled */
#define BACKOFF_MAX_MS  30000
#define AGENT_STEADY_MS 10000 /* an agent that lived this long starts from the beginning */
#define SEALS           (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* What tells one content of a source from another. */
struct fingerprint {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};

struct mtable {
    const struct policy_table *conf;
    uint64_t version;  /* see table_version() */
    char failure[512]; /* why it cannot be loaded or asked now; empty: it can */
    /* image tables */
    int image;               /* sealed, read-only; -1: never loaded */
    uint64_t generation;     /* of that image */
    struct fingerprint seen; /* the content that was loaded, or tried, last */
    uint64_t look_at, look_latest, retry_at;
    struct child *loader;
    unsigned torn;     /* loads in a row during which the source changed */
    uint64_t slow_at;  /* when to stop keeping those waiting who asked before the first load */
    int source, build; /* of the load that runs */
    bool loaded;
    uint64_t entries;
    char reason[512]; /* the loader's, if it failed */
    /* answer tables */
    struct child *agent;
    uint64_t start_at, backoff;
    struct log_limit limit;
};

static struct mtable *tables;
static unsigned loaders;

static size_t index_of(const struct mtable *t)
{
    return (size_t)(t - tables);
}

static void changed(struct mtable *t)
{
    t->version++;
    clients_table_changed(index_of(t));
}

/* One line for each new reason, not one for each attempt. */
static void fail(struct mtable *t, const char *why)
{
    bool news = strcmp(t->failure, why) != 0, first = t->version == 0;

    snprintf(t->failure, sizeof t->failure, "%s", why);
    if (news && t->image >= 0)
        log_line(LOG_WARNING,
                 "table \"%s\" not reloaded: %s; the image of generation %llu stays in service",
                 t->conf->name, why, (unsigned long long)t->generation);
    else if (news)
        log_line(LOG_WARNING,
                 "table \"%s\" failed: %s; lookups get a temporary error until it loads",
                 t->conf->name, why);
    if (first)
        changed(t);
}

static struct fingerprint fingerprint(const struct stat *st)
{
    return (struct fingerprint){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same(const struct fingerprint *a, const struct fingerprint *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           same_time(a->mtime, b->mtime) && same_time(a->ctime, b->ctime);
}

/* ---- images ---- */

static void loader_message(struct child *c, const struct bridge_msg *msg)
{
    struct mtable *t = c->owner;

    c->state = STATE_DONE;
    if (msg->type == MSG_LOADED) { /* entries */
        t->loaded = true;
        t->entries = msg->body.LOADED.entries;
    } else { /* FAILED: error; reason */
        policy_escape((struct slice){msg->tail, msg->tail_len}, t->reason, sizeof t->reason);
    }
}

/*
 * Seals what the loader left, once it has ended, and opens it anew for reading only. Returns the
 * descriptor, or -1 with the reason.
 */
static int seal(int build, const char **why)
{
    char path[32];
    int fd;

    *why = "the image cannot be sealed";
    if (fcntl(build, F_ADD_SEALS, SEALS) != 0 || (fcntl(build, F_GET_SEALS) & SEALS) != SEALS)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", build);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        *why = "the image cannot be opened for reading; is /proc mounted?";
    return fd;
}

static void take_image(struct mtable *t, int image)
{
    const char *how = t->image >= 0 ? "reloaded" : t->failure[0] != '\0' ? "recovered" : "loaded";

    if (t->image >= 0) {
        close(t->image);
        if (t->failure[0] != '\0')
            how = "recovered";
    }
    t->image = image;
    t->generation++;
    t->failure[0] = '\0';
    log_line(LOG_INFO, "table \"%s\" %s: %llu entries, generation %llu", t->conf->name, how,
             (unsigned long long)t->entries, (unsigned long long)t->generation);
    changed(t);
}

static void loader_gone(struct child *c, const char *how)
{
    struct mtable *t = c->owner;
    struct fingerprint now;
    struct stat st;
    const char *why = t->reason;
    bool torn = false;
    int image = -1;

    t->loader = NULL;
    loaders--;
    if ((!t->loaded || how != NULL) && t->reason[0] == '\0')
        snprintf(t->reason, sizeof t->reason, "the loader died: %s; is the file damaged?",
                 how != NULL ? how : "it said nothing");
    if (fstat(t->source, &st) == 0 && (now = fingerprint(&st), !same(&now, &t->seen))) {
        /* Not one content, perhaps: whatever came of it, it is loaded anew. */
        memset(&t->seen, 0, sizeof t->seen);
        torn = ++t->torn < TORN_MOST;
        why = "it changes while it is read";
        t->loaded = false;
    } else {
        t->torn = 0;
    }
    if (t->loaded && how == NULL)
        image = seal(t->build, &why);
    close(t->source);
    close(t->build);
    t->source = t->build = -1;
    t->look_at = monitor_now() + QUIET_MS; /* events were not heard while it was loaded */
    t->retry_at = NEVER;
    if (image >= 0) {
        take_image(t, image);
    } else if (!torn) {
        fail(t, why);
        t->retry_at = monitor_now() + RETRY_MS;
        if (t->torn > 0) /* not at once again: whoever writes all the time is left alone a while */
            t->look_at = t->retry_at;
    }
}

static const struct child_ops loader_ops = {
    .role = ROLE_LOADER, .what = "loader", .message = loader_message, .gone = loader_gone};

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8 /* Linux 6.3 */
#endif

static int make_memfd(void)
{
    int fd = memfd_create("jailmap-image", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    return fd >= 0 || errno != EINVAL
               ? fd
               : memfd_create("jailmap-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Starts a loader on the open source. Takes the descriptor. */
static void load(struct mtable *t, int source, const struct fingerprint *found)
{
    struct spawn limits = {.descriptors = 16,
                           .file_size = IMAGE_MIN + (uint64_t)found->size * IMAGE_RATIO,
                           .memory = UINT64_C(4) << 30,
                           .cpu_seconds = 60};
    struct msg_load order = {t->conf->type->type,
                             t->conf->existence ? REVEAL_EXISTENCE : REVEAL_ALL, LOCK_MS};
    int fds[2] = {source, make_memfd()};
    struct child *c = NULL;

    if (limits.file_size > IMAGE_MAX)
        limits.file_size = IMAGE_MAX;

    t->seen = *found;
    t->look_at = NEVER;
    if (fds[1] >= 0)
        c = child_start(&loader_ops, t, HELPER_LOADER, &limits, true, "jailmap-loader");
    if (c == NULL) {
        fail(t, fds[1] < 0 ? strerror(errno) : "no loader can be started");
        t->retry_at = monitor_now() + RETRY_MS;
        close(source);
        if (fds[1] >= 0)
            close(fds[1]);
        return;
    }
    loaders++;
    t->loader = c;
    t->source = source;
    t->build = fds[1];
    t->loaded = false;
    t->reason[0] = '\0';
    child_send(c, MSG_LOAD, &order, NULL, 0, fds);
    c->state = STATE_SERVE;
    c->kill_at = c->started + LOAD_MS;
}

/* Has the source changed, or is it time to try it again? */
static void look(struct mtable *t, uint64_t now)
{
    char why[512];
    struct stat st;
    struct fingerprint found;
    int fd;

    t->look_at = now + LOOK_MS;
    t->look_latest = 0;
    watch_source(index_of(t), t->conf->path);
    fd = priv_open_file(t->conf->path, t->conf->owner, false, &st, why, sizeof why);
    if (fd < 0) {
        memset(&t->seen, 0, sizeof t->seen);
        fail(t, why);
        return;
    }
    found = fingerprint(&st);
    if (same(&found, &t->seen) && now < t->retry_at) {
        close(fd);
        return;
    }
    load(t, fd, &found);
}

void table_touched(size_t index, uint64_t now)
{
    struct mtable *t = &tables[index];

    if (t->loader != NULL)
        return; /* the end of the load looks at the source again */
    if (t->torn >= TORN_MOST)
        return; /* somebody writes all the time; it is tried again when its time comes */
    if (t->look_latest == 0)
        t->look_latest = now + QUIET_MOST_MS;
    t->look_at = now + QUIET_MS < t->look_latest ? now + QUIET_MS : t->look_latest;
}

/* ---- agents ---- */

/* EVENT: event; text. A claim of the agent about its source. */
static void agent_message(struct child *c, const struct bridge_msg *msg)
{
    struct mtable *t = c->owner;
    char text[512];
    unsigned held = log_held(&t->limit, monitor_now());

    if (held > 0)
        log_line(LOG_WARNING, "%u more lines about the agent of table \"%s\" were left out", held,
                 t->conf->name);
    if (msg->body.EVENT.event < EVENT_FAILING || msg->body.EVENT.event > EVENT_WEAKER) {
        child_end(c, "it reports an event that it cannot have");
        return;
    }
    if (!log_allow(&t->limit))
        return;
    policy_escape((struct slice){msg->tail, msg->tail_len}, text, sizeof text);
    if (msg->body.EVENT.event == EVENT_FAILING)
        log_line(LOG_WARNING, "table \"%s\" failed: %s; lookups get a temporary error meanwhile",
                 t->conf->name, text);
    else if (msg->body.EVENT.event == EVENT_WORKING)
        log_line(LOG_INFO, "table \"%s\" recovered", t->conf->name);
    else if (msg->body.EVENT.event == EVENT_WEAKER)
        log_line(LOG_WARNING, "table \"%s\": %s", t->conf->name, text);
}

static void agent_gone(struct child *c, const char *how)
{
    struct mtable *t = c->owner;
    uint64_t now = monitor_now();

    t->agent = NULL;
    if (now - c->started >= AGENT_STEADY_MS)
        t->backoff = BACKOFF_MIN_MS;
    t->start_at = now + t->backoff;
    log_line(LOG_WARNING, "agent pid %d for table \"%s\" died: %s; the next one starts in %llu ms",
             (int)c->pid, t->conf->name, how != NULL ? how : "it ended by itself",
             (unsigned long long)t->backoff);
    t->backoff = t->backoff * 2 < BACKOFF_MAX_MS ? t->backoff * 2 : BACKOFF_MAX_MS;
}

static void start_agent(struct mtable *t, uint64_t now)
{
    static const struct child_ops ops = {
        .role = ROLE_AGENT, .what = "agent", .message = agent_message, .gone = agent_gone};
    static const struct spawn limits = {.descriptors = 256,
                                        .file_size = 0,
                                        .memory = SPAWN_UNLIMITED,
                                        .cpu_seconds = SPAWN_UNLIMITED};
    struct msg_source source = {t->conf->type->type,
                                t->conf->existence ? REVEAL_EXISTENCE : REVEAL_ALL};
    char title[128];

    snprintf(title, sizeof title, "jailmap-agent-nss: %.80s", t->conf->name);
    t->start_at = NEVER;
    t->agent = child_start(&ops, t, HELPER_AGENT_NSS, &limits, false, title);
    if (t->agent == NULL) {
        t->start_at = now + t->backoff;
        if (t->version == 0)
            changed(t); /* whoever asked is told to try again later */
        return;
    }
    child_send(t->agent, MSG_SOURCE, &source, t->conf->name, strlen(t->conf->name), NULL);
    t->agent->state = STATE_SERVE;
    changed(t);
}

/* ---- for the other parts ---- */

uint64_t table_version(size_t index)
{
    return tables[index].version;
}

void table_tell(size_t index, struct table_word *word)
{
    struct mtable *t = &tables[index];
    struct msg_link link = {0};
    int ends[2];

    *word = (struct table_word){.version = t->version, .fd = -1};
    if (t->conf->type->agent == NULL) {
        word->kind = KIND_IMAGE;
        word->ready = t->image >= 0;
        word->fd = t->image;
        return;
    }
    word->kind = KIND_LINK;
    if (t->agent == NULL)
        return;
    word->again = true;
    if (priv_socketpair(ends) != 0)
        return;
    word->ready = child_send(t->agent, MSG_LINK, &link, NULL, 0, &ends[1]);
    word->again = !word->ready;
    close(ends[1]);
    word->fd = ends[0];
    word->close_fd = true;
}

void table_spoiled(size_t index, const char *why)
{
    log_line(LOG_ERR, "table \"%s\": a worker cannot use its image: %s", tables[index].conf->name,
             why);
}

void tables_check_all(void)
{
    uint64_t now = monitor_now();

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (tables[i].conf->type->agent == NULL)
            table_touched(i, now);
}

static uint64_t tick_image(struct mtable *t, uint64_t now)
{
    if (t->version == 0 && t->slow_at <= now)
        changed(t);
    if (t->loader != NULL) /* its own time limit is in children_tick() */
        return t->version == 0 ? t->slow_at : NEVER;
    if (t->look_at <= now || t->retry_at <= now) {
        if (loaders >= LOADERS_AT_ONCE) /* the end of one of them comes round again */
            return t->version == 0 ? t->slow_at : NEVER;
        look(t, now);
        if (t->loader != NULL)
            return t->version == 0 ? t->slow_at : NEVER;
        if (t->retry_at <= now)
            t->retry_at = now + RETRY_MS;
    }
    return t->look_at < t->retry_at ? t->look_at : t->retry_at;
}

uint64_t tables_tick(uint64_t now)
{
    uint64_t next = NEVER;

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct mtable *t = &tables[i];
        uint64_t at;

        if (t->conf->type->agent != NULL) {
            if (t->start_at <= now)
                start_agent(t, now);
            at = t->start_at;
        } else {
            at = tick_image(t, now);
        }
        if (at < next)
            next = at;
    }
    return next;
}

bool tables_start(void)
{
    tables = calloc(monitor_policy->ntables + 1, sizeof *tables);
    if (tables == NULL)
        return false;
    watch_start();
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        tables[i] = (struct mtable){.conf = &monitor_policy->tables[i],
                                    .image = -1,
                                    .source = -1,
                                    .build = -1,
                                    .retry_at = NEVER,
                                    .slow_at = monitor_now() + FIRST_MS,
                                    .backoff = BACKOFF_MIN_MS};
    tables_tick(monitor_now());
    return true;
}
