/*
 * Tables of the policy, their sources and images. Runs in the monitor, with privilege. It may open
 * an approved source, lock it as its writers do, hand it to a loader with an empty memfd, seal what
 * the loader leaves, and pass that on; it must never read a source or an image. What cannot be
 * loaded leaves the last good image in service and says so; a table that never loaded answers
 * RETRY, and neither is ever "not found".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "policy/adopt.h"
#include "policy/policy.h"
#include "privsep/agents.h"
#include "privsep/bridge.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/fingerprint.h"
#include "privsep/launch.h"
#include "privsep/log.h"
#include "privsep/memfd.h"
#include "privsep/monitor.h"
#include "privsep/priv_open.h"
#include "privsep/tables.h"
#include "privsep/watch.h"

#define MEGABYTE          (UINT64_C(1) << 20)
#define FIRST_MS          3000 /* a table that takes longer at start answers RETRY meanwhile */
#define TORN_MOST         3    /* loads in a row that a writer may spoil before it is said */
#define IMAGE_MIN_MB      64
#define IMAGE_MAX_MB      4095
#define IMAGE_RATIO       16    /* an image may be larger than its source, but not by much */
#define LOCK_LOOK_MS      10    /* while a writer has the source locked, or open */
#define SETTLED_MS        1000  /* since the last change, if a writer may keep it open */
#define REST              2     /* times as long as a load took, until the next */
#define REST_MIN_MS       1000  /* for a database, which a program may write all the time */
#define QUIET_MS          20    /* after an event, before the source is looked at */
#define QUIET_MOST_MS     200   /* however long events go on */
#define LOOK_MS           5000  /* for what causes no event */
#define RETRY_MS          10000 /* a failed load is tried again, changed or not */
#define RETIRE_MS         1000  /* after workers let go of an image, its memory is freed here */
#define NSSWITCH          "/etc/nsswitch.conf"
#define SQLITE_RESERVED   0x40000001 /* see lock_as_sqlite() */
#define SQLITE_SHARED     0x40000002
#define SQLITE_SHARED_LEN 510
#define SEALS             (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct input {
    const char *path;        /* NULL: the table has no such input */
    struct fingerprint seen; /* the content that was loaded, or tried, last */
    int fd;                  /* while it is loaded */
};

struct mtable {
    size_t index;
    const struct policy_table *conf;
    bool anew;                    /* the latest reload has let go of what it held */
    uint64_t version;             /* see table_version() */
    char failure[512];            /* why it cannot be loaded now; empty: it can */
    time_t since;                 /* when it began to be as it is, loaded or failing */
    uint32_t told;                /* see census_edition() */
    enum bridge_kind answered_by; /* 0: not known before the first load */
    int image;                    /* sealed, read-only; -1: none */
    uint64_t generation;          /* counts the images; with what is known of the latest: */
    uint64_t entries, image_size;
    time_t loaded_at;
    int retired; /* the image before; -1: none */
    uint64_t retire_at;
    struct input inputs[INPUTS];
    uint64_t look_at, look_latest, retry_at;
    uint64_t rest_until;   /* readers hold up writers: a large table that is written all the time */
    uint64_t writer_until; /* 0, or when to stop waiting for a writer */
    uint64_t slow_at;      /* when to stop keeping those waiting who asked before the first load */
    unsigned torn;         /* loads in a row during which an input changed */
    struct log_limit limit;
    /* of the load that runs: */
    struct child *loader;
    int build;
    bool loaded, refused;
    bool offered; /* to a crew of agents, in the place of a loader */
    uint64_t offered_at;
    char *beside[2]; /* paths of INPUT_JOURNAL and INPUT_WAL */
    struct msg_loaded result;
    char text[512]; /* the loader's reason, if it failed, or its warning */
    char late[96];
};

static struct mtable **tables;
static size_t ntables;
static unsigned loaders;

static bool has_inputs(const struct mtable *t)
{
    return t->inputs[INPUT_SOURCE].path != NULL;
}

static void note_news(struct mtable *t)
{
    t->told = 0;
    census_changed();
}

static void changed(struct mtable *t)
{
    t->version++;
    note_news(t);
    clients_table_changed(t->index);
}

/* The owner of a source can make it change all day long. */
static bool may_log(struct mtable *t)
{
    log_left_out(&t->limit, monitor_now(), LOG_INFO,
                 "lines about loads of table \"%s\" were left out", t->conf->name);
    return log_allow(&t->limit);
}

/* Is it the name service that has what the image has not? */
static bool asks_names(const struct mtable *t)
{
    return t->conf->type->by == (TABLE_BY_IMAGE | TABLE_BY_AGENT);
}

/* Does a crew of agents answer from its source, in the place of an image? */
static bool has_crew(const struct mtable *t)
{
    return t->conf->type->by == TABLE_BY_AGENT;
}

/* What answers from now on. True if that is new. */
static bool answer_by(struct mtable *t, enum bridge_kind kind)
{
    bool news = t->answered_by != kind;

    t->answered_by = kind;
    if (asks_names(t))
        agent_need(t->index, kind & KIND_LINK);
    return news;
}

/* Where the name service can be asked, it is, as long as the image is not there or in doubt. */
static void doubt(struct mtable *t)
{
    if (asks_names(t) && answer_by(t, t->image >= 0 ? KIND_BOTH : KIND_LINK))
        changed(t);
}

static void log_failed(struct mtable *t)
{
    if (!may_log(t))
        return;
    if (t->image >= 0)
        log_line(LOG_WARNING,
                 "table \"%s\" not reloaded: %s; the image of generation %llu stays in service",
                 t->conf->name, t->failure, (unsigned long long)t->generation);
    else if (has_crew(t) && t->answered_by != 0)
        log_line(LOG_WARNING,
                 "table \"%s\" not reloaded: %s; what was read before, generation %llu, stays in "
                 "service",
                 t->conf->name, t->failure, (unsigned long long)t->generation);
    else
        log_line(LOG_WARNING, "table \"%s\" failed: %s; %s", t->conf->name, t->failure,
                 asks_names(t) ? "the name service answers instead"
                               : "lookups get a temporary error until it loads");
}

/* One line for each new reason, not one for each attempt. */
static void fail(struct mtable *t, const char *reason)
{
    char why[sizeof t->failure];

    policy_printable((struct slice){reason, strlen(reason)}, why, sizeof why);
    if (t->failure[0] == '\0')
        t->since = time(NULL);
    if (strcmp(t->failure, why) != 0) {
        strcpy(t->failure, why);
        log_failed(t);
        note_news(t);
    }
    doubt(t);
    if (t->version == 0)
        changed(t);
}

static void fail_for_a_while(struct mtable *t, const char *why)
{
    fail(t, why);
    t->retry_at = monitor_now() + RETRY_MS;
    if (t->retry_at < t->rest_until)
        t->retry_at = t->rest_until;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- images ---- */

static void log_loaded(struct mtable *t, const char *how)
{
    const char *where = "";
    char ignored[600] = "", entries[32] = "";

    if (!may_log(t))
        return;
    if (asks_names(t))
        where = t->answered_by == KIND_BOTH ? ", what it has not is asked of the name service"
                                            : ", and nothing else is asked";
    if (t->result.ignored > 0)
        snprintf(ignored, sizeof ignored, "; %u ignored, the first: %s", t->result.ignored,
                 t->text);
    if (!has_crew(t) || t->entries > 0)
        snprintf(entries, sizeof entries, "%llu %s, ", (unsigned long long)t->entries,
                 has_crew(t) ? "rules" : "entries");
    log_line(t->result.ignored > 0 ? LOG_WARNING : LOG_INFO,
             "table \"%s\" %s: %sgeneration %llu%s%s", t->conf->name, how, entries,
             (unsigned long long)t->generation, where, ignored);
}

/* The memory of an image is freed by whoever lets go of it last: that is to be this process, not a
 * worker that has lookups to answer. */
static void retire_image(struct mtable *t)
{
    close_fd(&t->retired);
    t->retired = t->image;
    t->retire_at = monitor_now() + RETIRE_MS;
    t->image = -1;
}

/* image: -1 if the loader says that another than the image answers. */
static void take_image(struct mtable *t, int image)
{
    const char *how = t->failure[0] != '\0' ? "recovered" : t->image >= 0 ? "reloaded" : "loaded";
    enum bridge_kind before = t->answered_by;
    struct stat st;

    if (image < 0 && before == KIND_LINK && t->failure[0] == '\0')
        return; /* as it was */
    retire_image(t);
    t->image = image;
    t->since = time(NULL);
    t->failure[0] = '\0';
    t->entries = t->result.entries;
    t->image_size = image >= 0 && fstat(image, &st) == 0 ? (uint64_t)st.st_size : 0;
    answer_by(t, image >= 0 ? (enum bridge_kind)t->result.answered_by : KIND_LINK);
    if (image >= 0) {
        t->generation++;
        t->loaded_at = t->since;
        log_loaded(t, how);
    } else if (before != KIND_LINK) {
        log_line(LOG_INFO, "table \"%s\": the name service answers: %s", t->conf->name,
                 t->result.ignored > 0 ? t->text : NSSWITCH " has it so");
    }
    changed(t);
}

/* ---- loading ---- */

static uint64_t image_limit(const struct mtable *t)
{
    uint64_t limit = IMAGE_MIN_MB * MEGABYTE;

    if (t->conf->image_size > 0)
        return t->conf->image_size * MEGABYTE;
    limit += (uint64_t)t->inputs[INPUT_SOURCE].seen.size * IMAGE_RATIO;
    return limit < IMAGE_MAX_MB * MEGABYTE ? limit : IMAGE_MAX_MB * MEGABYTE;
}

static void loader_message(struct child *c, const struct bridge_msg *msg)
{
    struct mtable *t = c->owner;

    c->state = STATE_DONE;
    policy_printable((struct slice){msg->tail, msg->tail_len}, t->text, sizeof t->text - 64);
    if (msg->type == MSG_LOADED) { /* entries, what answers; warning */
        t->loaded = true;
        t->result = msg->body.LOADED;
        if (!asks_names(t))
            t->result.answered_by = KIND_IMAGE;
        else if (t->result.answered_by < KIND_IMAGE || t->result.answered_by > KIND_BOTH)
            child_end(c, "it reports a kind of table that there is not");
    } else { /* FAILED: error; reason */
        size_t len = strlen(t->text);

        t->refused = msg->body.FAILED.error == 0;
        if (msg->body.FAILED.error == ENOMEM)
            snprintf(t->text + len, sizeof t->text - len, "; load-memory is %u MB",
                     t->conf->load_memory);
        else if (msg->body.FAILED.error == EFBIG)
            snprintf(t->text + len, sizeof t->text - len, "; image-size is %llu MB",
                     (unsigned long long)(image_limit(t) / MEGABYTE));
    }
}

static void look_soon(struct mtable *t, uint64_t now)
{
    if (t->look_latest == 0)
        t->look_latest = now + QUIET_MOST_MS;
    t->look_at = now + QUIET_MS < t->look_latest ? now + QUIET_MS : t->look_latest;
    if (t->look_at < t->rest_until)
        t->look_at = t->rest_until;
}

static void close_inputs(struct mtable *t)
{
    for (int i = 0; i < INPUTS; i++)
        close_fd(&t->inputs[i].fd);
}

/* Written so lately that the next change may bear the same time. */
static bool is_young(const struct timespec *written)
{
    int64_t age = fingerprint_age(*written);

    return age >= 0 && age < TICK_MS;
}

/* Compares the inputs with what was loaded last; keep: and that is what will be. A log that is just
 * being written is not waited for: it will be news again. */
static bool is_news(struct mtable *t, bool keep)
{
    bool news = false;

    for (int i = 0; i < INPUTS; i++) {
        struct fingerprint found = {0};
        struct stat st;

        if (t->inputs[i].fd >= 0 && fstat(t->inputs[i].fd, &st) == 0)
            found = fingerprint(&st);
        news |= !fingerprint_same(&found, &t->inputs[i].seen);
        if (i == INPUT_WAL && is_young(&found.mtime))
            memset(&found, 0, sizeof found);
        if (keep)
            t->inputs[i].seen = found;
    }
    return news;
}

/* Has an input changed since it was opened? Then nobody knows what the loader has read. But to
 * SQLite's log its writers only add, and the agent itself sees when it begins anew. */
static bool is_torn(const struct mtable *t)
{
    for (int i = 0; i < INPUTS; i++) {
        const struct input *in = &t->inputs[i];
        struct fingerprint now;
        struct stat st;

        if (i == INPUT_WAL || in->fd < 0 || fstat(in->fd, &st) != 0)
            continue;
        now = fingerprint(&st);
        if (!fingerprint_unwritten(&in->seen, &now))
            return true;
    }
    return false;
}

/* It is to be read anew, as if it had changed. */
static void forget_seen(struct mtable *t)
{
    for (int i = 0; i < INPUTS; i++)
        memset(&t->inputs[i].seen, 0, sizeof t->inputs[i].seen);
}

/* After its source was read, from `since` on. False: it has changed meanwhile, and all is to be
 * done again. */
static bool was_read_whole(struct mtable *t, uint64_t since)
{
    uint64_t now = monitor_now();

    t->rest_until = now + REST * (now - since);
    if (t->conf->database != NULL && t->rest_until < now + REST_MIN_MS)
        t->rest_until = now + REST_MIN_MS;
    if (has_inputs(t))
        look_soon(t, now); /* events were not heard while it was loaded */
    t->retry_at = NEVER;
    if (!is_torn(t)) {
        t->torn = 0;
        return true;
    }
    forget_seen(t);
    if (++t->torn >= TORN_MOST) { /* whoever writes all the time is left alone a while */
        fail_for_a_while(t, "it changes while it is read");
        t->look_at = t->retry_at;
    }
    return false;
}

static void loader_gone(struct child *c, const char *how)
{
    struct mtable *t = c->owner;
    const char *why = t->text;
    int image = -1;
    bool whole = was_read_whole(t, c->started);

    t->loader = NULL;
    loaders--;
    close_inputs(t);
    if (!whole) {
        close_fd(&t->build);
        return;
    }
    if (t->loaded && how == NULL && t->result.answered_by == KIND_LINK) {
        close_fd(&t->build);
        take_image(t, -1);
        return;
    }
    if (t->loaded && how == NULL) {
        image = memfd_seal(t->build, SEALS, &why);
    } else if (t->loaded || t->text[0] == '\0' || c->verdict != NULL) {
        snprintf(t->text, sizeof t->text, "the loader ended: %s; is the file damaged?",
                 how != NULL ? how : "it said nothing");
    }
    close_fd(&t->build);
    if (image >= 0)
        take_image(t, image);
    else if (t->refused && !has_inputs(t)) /* a name does not change */
        fail(t, why);
    else
        fail_for_a_while(t, why);
}

static const struct child_ops loader_ops = {
    .role = ROLE_LOADER, .what = "loader", .message = loader_message, .gone = loader_gone};

/* The entries of an environ table, a NUL behind each; the configuration has no more than fit. */
static size_t join_set(const struct policy_table *conf, char *text, size_t room)
{
    size_t used = 0;

    for (size_t i = 0; i < conf->nset; i++) {
        size_t len = strlen(conf->set[i]) + 1;

        if (len > room - used)
            break;
        memcpy(text + used, conf->set[i], len);
        used += len;
    }
    return used;
}

/* Starts a loader on the inputs that are open, which stay so until it has ended. */
static void load(struct mtable *t)
{
    struct spawn limits = {.descriptors = 16,
                           .file_size = image_limit(t),
                           .memory = t->conf->load_memory * MEGABYTE,
                           .cpu_seconds = t->conf->load_time + 1,
                           .background = true};
    struct msg_load order = {t->conf->type->type, t->conf->reveal, t->conf->limit};
    const char *name = t->conf->name + strlen(t->conf->type->prefix);
    char content[BRIDGE_NAME_MAX];
    size_t len = strlen(name);
    bool sent = true;
    char title[256];

    t->look_at = t->retry_at = NEVER;
    t->loaded = t->refused = false;
    t->text[0] = '\0';
    /* By its type it chooses its filter. What an inline table says is nobody's business. */
    snprintf(title, sizeof title, "jailmap-loader: %s%s", t->conf->type->prefix,
             t->conf->path != NULL ? name : "...");
    t->build = memfd_make("jailmap-image");
    if (t->build >= 0)
        t->loader = child_start(&loader_ops, t, HELPER_LOADER, &limits, title);
    if (t->loader == NULL) {
        fail_for_a_while(t, t->build < 0 ? strerror(errno) : "no loader can be started");
        close_fd(&t->build);
        close_inputs(t);
        return;
    }
    loaders++;
    for (uint32_t i = 0; i < INPUTS && sent; i++)
        if (t->inputs[i].fd >= 0)
            sent =
                child_send(t->loader, MSG_INPUT, &(struct msg_input){i}, NULL, 0, &t->inputs[i].fd);
    if (t->conf->type->type == TYPE_ENVIRON) {
        len = join_set(t->conf, content, sizeof content);
        name = content;
    }
    if (!sent || !child_send(t->loader, MSG_LOAD, &order, name, len, &t->build))
        child_end(t->loader, "it could not be sent its work");
    t->loader->state = STATE_SERVE;
    snprintf(t->late, sizeof t->late, "it took longer than load-time, %u s", t->conf->load_time);
    t->loader->late = t->late;
    t->loader->kill_at = t->loader->started + UINT64_C(1000) * t->conf->load_time;
}

/* ---- crews of agents, in the place of a loader and an image ---- */

static void offer(struct mtable *t)
{
    int files[INPUTS];

    t->look_at = t->retry_at = NEVER;
    for (int i = 0; i < INPUTS; i++)
        files[i] = t->inputs[i].fd;
    t->offered_at = monitor_now();
    t->offered = agents_offer(t->index, files);
    if (t->offered)
        return;
    fail_for_a_while(t, "no agent can be started");
    close_inputs(t);
}

/* Those that start later read the same files; where others write under a lock, they are offered
 * them anew instead, and the lock does not wait for the last descriptor to go. */
static void take_crew(struct mtable *t, const struct offered *word)
{
    const char *how = t->failure[0] != '\0' ? "recovered" : t->answered_by ? "reloaded" : "loaded";
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    bool keep = t->conf->type->lock == TABLE_LOCK_NONE;
    int files[INPUTS];

    for (int i = 0; i < INPUTS; i++) {
        files[i] = t->inputs[i].fd;
        if (keep)
            t->inputs[i].fd = -1;
        else if (files[i] >= 0)
            fcntl(files[i], F_OFD_SETLK, &whole);
    }
    agents_take(t->index, files, keep);
    t->since = t->loaded_at = time(NULL);
    t->failure[0] = '\0';
    t->entries = word->entries;
    t->result.ignored = word->ignored;
    snprintf(t->text, sizeof t->text, "%s", word->text);
    t->answered_by = KIND_LINK;
    t->generation++;
    log_loaded(t, how);
    changed(t);
}

void table_offered(size_t index, const struct offered *said)
{
    struct mtable *t = tables[index];
    const struct offered word = *said; /* which goes with the crew that said it */

    t->offered = false;
    if (!was_read_whole(t, t->offered_at)) {
        agents_drop(index);
    } else if (word.refused || word.died) {
        agents_drop(index);
        if (word.refused && !has_inputs(t)) /* a name does not change */
            fail(t, word.text);
        else
            fail_for_a_while(t, word.text);
    } else {
        take_crew(t, &word);
    }
    close_inputs(t);
}

void table_offer_again(size_t index)
{
    struct mtable *t = tables[index];

    forget_seen(t);
    table_touched(index, monitor_now());
}

/*
 * Is somebody writing it who takes no lock? The kernel grants a lease to read only while no process
 * has the file open for writing; and only to its owner, whose identity it takes for a moment. Over
 * a network EAGAIN may mean anything.
 */
static bool is_open_for_writing(int fd, uid_t owner, bool *sure)
{
    static const long networks[] = {NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC,
                                    SMB2_SUPER_MAGIC, AFS_SUPER_MAGIC, FUSE_SUPER_MAGIC};
    struct statfs fs;
    int rc;

    setfsuid(owner);
    rc = fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? 0 : errno;
    if (rc == 0)
        fcntl(fd, F_SETLEASE, F_UNLCK);
    setfsuid(0);
    *sure = rc == 0 || (rc == EAGAIN && fstatfs(fd, &fs) == 0);
    for (size_t i = 0; rc != 0 && i < sizeof networks / sizeof networks[0]; i++)
        *sure = *sure && (unsigned)fs.f_type != (unsigned)networks[i];
    return rc != 0;
}

/* The input that its writers lock. */
static enum bridge_input locked_input(const struct mtable *t)
{
    return t->conf->database != NULL ? INPUT_DATABASE : INPUT_SOURCE;
}

/*
 * Is nobody writing it? Whoever writes a database takes its lock, and may keep the file open for
 * ever, or be waiting for this very lock. For the others, where it cannot be known, it is enough
 * that the file has not changed for a while. (And none is young.)
 */
static bool is_settled(const struct mtable *t, enum bridge_input input)
{
    bool locked = t->conf->type->lock != TABLE_LOCK_NONE && input == locked_input(t), sure;
    int fd = t->inputs[input].fd;
    struct stat st;
    int64_t age;

    if (fd < 0 || fstat(fd, &st) != 0)
        return true;
    if (is_young(&st.st_mtim))
        return false;
    if (locked || !is_open_for_writing(fd, st.st_uid, &sure))
        return true;
    age = fingerprint_age(st.st_mtim);
    return !sure && (age < 0 || age > SETTLED_MS);
}

/* False: somebody else has it. */
static bool lock_range(int fd, short type, off_t start, off_t len)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return fcntl(fd, F_OFD_SETLK, &range) == 0 || (errno != EAGAIN && errno != EACCES);
}

/*
 * As a reader of SQLite's, whose file format names these bytes; and not while somebody writes, who
 * has the reserved one. That is looked at and let go: to others it would mean that an interrupted
 * transaction still goes on, and they would not roll it back.
 */
static bool lock_as_sqlite(int fd)
{
    bool good = lock_range(fd, F_RDLCK, SQLITE_RESERVED, 1) &&
                lock_range(fd, F_RDLCK, SQLITE_SHARED, SQLITE_SHARED_LEN);

    lock_range(fd, F_UNLCK, SQLITE_RESERVED, 1);
    return good;
}

/* Takes the lock that writers honour, without waiting. It goes with the last descriptor. */
static bool lock_shared(const struct mtable *t)
{
    int fd = t->inputs[locked_input(t)].fd;

    switch (t->conf->type->lock) {
    case TABLE_LOCK_FLOCK: /* postmap(1) on Berkeley DB */
        return flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    case TABLE_LOCK_RECORD: /* and on LMDB */
        return t->conf->database != NULL ? lock_as_sqlite(fd) : lock_range(fd, F_RDLCK, 0, 0);
    case TABLE_LOCK_NONE:
        break;
    }
    return true;
}

/* Without it, whatever that means there: no nsswitch.conf; no transaction that has been
 * interrupted.
 */
static bool may_lack(int input)
{
    return input == INPUT_NSSWITCH ||
           ((input == INPUT_JOURNAL || input == INPUT_WAL) && errno == ENOENT);
}

/* SQLite's other files lie beside the real database, whatever links lead there. */
static unsigned open_flags(const struct mtable *t, int input)
{
    if (input == INPUT_DATABASE && t->conf->symlinks)
        return PRIV_FOLLOW | PRIV_REAL_NAME;
    return t->conf->symlinks || input == INPUT_NSSWITCH ? PRIV_FOLLOW : 0;
}

/* False with the reason if it cannot be opened and must. What SQLite keeps beside a database is as
 * good as not there while it is empty: those who only read make and remove it. */
static bool open_input(struct mtable *t, int input, priv_step *step, char *why, size_t len)
{
    struct input *in = &t->inputs[input];
    size_t index = t->index;
    struct stat st;

    close_fd(&in->fd);
    if (in->path == NULL)
        return true;
    in->fd = priv_open_source(in->path, t->conf->owner, open_flags(t, input), step, &index, &st,
                              why, len);
    if (in->fd < 0)
        return may_lack(input);
    if ((input == INPUT_JOURNAL || input == INPUT_WAL) && st.st_size == 0)
        close_fd(&in->fd);
    return true;
}

/* Opens the inputs. False with the reason if one cannot be that must. */
static bool open_inputs(struct mtable *t, char *why, size_t len)
{
    char other[512] = "";
    bool good = true;

    watch_begin(t->index);
    for (int i = 0; i < INPUTS; i++) {
        bool opened = open_input(t, i, watch_step, good ? why : other, good ? len : sizeof other);

        good = good && opened;
    }
    watch_end(t->index);
    return good;
}

/* What SQLite keeps beside the database, anew now that this is locked: a transaction may have
 * begun, and its process ended, before that. From now on nobody can begin one with a journal, nor
 * remove a log. False with the reason. */
static bool open_beside(struct mtable *t, char *why, size_t len)
{
    return open_input(t, INPUT_JOURNAL, NULL, why, len) && open_input(t, INPUT_WAL, NULL, why, len);
}

static void stop_waiting(struct mtable *t)
{
    if (t->writer_until > 0)
        note_news(t);
    t->writer_until = 0;
}

static void wait_for_writer(struct mtable *t, uint64_t now, const char *what)
{
    char why[128];

    doubt(t); /* what is being written may be new */
    if (t->writer_until == 0) {
        t->writer_until = now + UINT64_C(1000) * t->conf->load_time;
        note_news(t);
    }
    if (now < t->writer_until) {
        t->look_at = now + LOCK_LOOK_MS;
        return;
    }
    stop_waiting(t);
    snprintf(why, sizeof why, "another process had it %s for longer than load-time, %u s", what,
             t->conf->load_time);
    fail_for_a_while(t, why);
}

static void read_source(struct mtable *t)
{
    if (has_crew(t))
        offer(t);
    else
        load(t);
}

/* Has the source changed, or is it time to try it again? */
static void look(struct mtable *t, uint64_t now)
{
    char why[512];

    t->look_at = now + LOOK_MS;
    t->look_latest = 0;
    if (!has_inputs(t)) { /* its name is all there is */
        read_source(t);
        return;
    }
    if (!open_inputs(t, why, sizeof why)) {
        stop_waiting(t);
        is_news(t, true);
        fail(t, why);
    } else if (!is_news(t, false) && now < t->retry_at) {
        stop_waiting(t);
    } else if (!lock_shared(t)) {
        wait_for_writer(t, now, "locked");
    } else if (!is_settled(t, INPUT_SOURCE) || !is_settled(t, INPUT_DATABASE)) {
        wait_for_writer(t, now, "open for writing");
    } else if (!open_beside(t, why, sizeof why)) {
        stop_waiting(t);
        fail_for_a_while(t, why);
    } else {
        stop_waiting(t);
        is_news(t, true);
        read_source(t);
        return;
    }
    close_inputs(t);
}

void table_touched(size_t index, uint64_t now)
{
    struct mtable *t = tables[index];

    if (t->loader != NULL || t->offered || t->conf->gone)
        return; /* the end of the load looks at the source again */
    if (t->torn >= TORN_MOST)
        return; /* somebody writes all the time; it is tried again when its time comes */
    look_soon(t, now);
}

/* ---- for the other parts ---- */

uint64_t table_version(size_t index)
{
    return tables[index]->version;
}

enum bridge_kind table_answered_by(size_t index)
{
    return tables[index]->answered_by;
}

int table_image(size_t index)
{
    return tables[index]->image;
}

void table_spoiled(size_t index, const char *why)
{
    log_line(LOG_ERR, "table \"%s\": a worker cannot use its image: %s", tables[index]->conf->name,
             why);
}

void tables_check_all(void)
{
    uint64_t now = monitor_now();

    for (size_t i = 0; i < monitor_policy->ntables; i++)
        if (has_inputs(tables[i]))
            table_touched(i, now);
}

bool tables_tell(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct mtable *t = tables[i];
        bool has_image = t->image >= 0;
        bool serves = has_image || (has_crew(t) && t->answered_by != 0);
        struct msg_table_state body = {.since = (uint64_t)t->since,
                                       .loaded = serves ? (uint64_t)t->loaded_at : 0,
                                       .generation = serves ? t->generation : 0,
                                       .entries = serves ? t->entries : 0,
                                       .bytes = has_image ? t->image_size : 0,
                                       .table = (uint32_t)i,
                                       .answered_by = t->answered_by,
                                       .has_image = has_image,
                                       .waiting = t->writer_until > 0};

        if (t->conf->gone || t->told == census_edition())
            continue;
        if (!census_tell(MSG_TABLE_STATE, &body, t->failure, NULL))
            return false;
        t->told = census_edition();
    }
    return true;
}

/* What is to be done about t now. Returns when to come again. */
static uint64_t tick_load(struct mtable *t, uint64_t now)
{
    if (t->loader != NULL || t->offered) /* its own time limit is in children_tick() */
        return NEVER;
    if (t->look_at <= now || t->retry_at <= now) {
        if (loaders >= monitor_policy->loaders) /* the end of one of them comes round again */
            return NEVER;
        look(t, now);
        if (t->loader != NULL)
            return NEVER;
        if (t->retry_at <= now)
            t->retry_at = now + RETRY_MS;
    }
    return t->look_at < t->retry_at ? t->look_at : t->retry_at;
}

uint64_t tables_tick(uint64_t now)
{
    static size_t first; /* each in its turn, when there are fewer loaders than there is to load */
    uint64_t next = NEVER;

    first++;
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct mtable *t = tables[(first + i) % monitor_policy->ntables];
        uint64_t at;

        if (t->retire_at <= now) {
            close_fd(&t->retired);
            t->retire_at = NEVER;
        }
        if (t->version == 0 && t->slow_at <= now)
            changed(t);
        at = tick_load(t, now);
        if (t->version == 0 && t->slow_at < at)
            at = t->slow_at;
        if (t->retire_at < at)
            at = t->retire_at;
        if (at < next)
            next = at;
    }
    return next;
}

/* As it is at first, but for the count of its images. One that has gone does nothing. */
static void begin(struct mtable *t)
{
    const struct policy_table *conf = &monitor_policy->tables[t->index];
    bool names = conf->type->by == (TABLE_BY_IMAGE | TABLE_BY_AGENT) && !conf->gone;
    bool idle = conf->gone || conf->type->by == TABLE_BY_WORKER;

    for (int i = 0; i < 2; i++) {
        free(t->beside[i]);
        t->beside[i] = NULL;
        if (conf->database != NULL &&
            asprintf(&t->beside[i], "%s%s", conf->database, i == 0 ? "-journal" : "-wal") < 0)
            t->beside[i] = NULL;
    }
    *t = (struct mtable){.index = t->index,
                         .conf = conf,
                         .anew = t->anew,
                         .generation = t->generation,
                         .limit = t->limit,
                         .beside = {t->beside[0], t->beside[1]},
                         .since = time(NULL),
                         .image = -1,
                         .retired = t->retired,
                         .retire_at = t->retire_at,
                         .build = -1,
                         .inputs = {[INPUT_SOURCE] = {.path = conf->path, .fd = -1},
                                    [INPUT_NSSWITCH] = {.path = names ? NSSWITCH : NULL, .fd = -1},
                                    [INPUT_DATABASE] = {.path = conf->database, .fd = -1},
                                    [INPUT_JOURNAL] = {.path = t->beside[0], .fd = -1},
                                    [INPUT_WAL] = {.path = t->beside[1], .fd = -1}},
                         .look_at = idle ? NEVER : 0,
                         .retry_at = NEVER,
                         .slow_at = idle ? NEVER : monitor_now() + FIRST_MS};
    if (conf->type->by == TABLE_BY_WORKER && !conf->gone) { /* there is nothing to wait for */
        t->answered_by = KIND_WORKER;
        t->version = 1;
    }
}

bool tables_start(void)
{
    watch_start();
    if (!watch_prepare(monitor_policy->ntables) || !tables_prepare(monitor_policy->ntables))
        return false;
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        begin(tables[i]);
    tables_tick(monitor_now());
    return true;
}

/* ---- reload ---- */

/* Lets go of all that it holds and does, at once and without a word in the log. */
static void let_go(struct mtable *t)
{
    if (t->loader != NULL) {
        child_release(t->loader);
        child_end(t->loader, "it is not needed any more");
        t->loader = NULL;
        loaders--;
    }
    t->offered = false; /* the crew goes with agents_let_go() */
    close_fd(&t->build);
    close_inputs(t);
    retire_image(t);
    watch_begin(t->index);
    watch_end(t->index);
}

bool tables_prepare(size_t count)
{
    struct mtable **grown = reallocarray(tables, count + 1, sizeof(struct mtable *));

    if (grown == NULL)
        return false;
    tables = grown;
    for (; ntables < count; ntables++) {
        tables[ntables] = calloc(1, sizeof *tables[ntables]);
        if (tables[ntables] == NULL)
            return false;
        tables[ntables]->index = ntables;
        tables[ntables]->image = tables[ntables]->retired = tables[ntables]->build = -1;
        tables[ntables]->retire_at = NEVER;
    }
    return true;
}

/* Those that are on offer are of the old policy. */
static void withdraw_offer(struct mtable *t)
{
    if (!t->offered)
        return;
    t->offered = false;
    agents_drop(t->index);
    close_inputs(t);
}

static void reload_table(struct mtable *t, enum policy_change change)
{
    t->conf = &monitor_policy->tables[t->index];
    t->anew = change == POLICY_REMOVED || change == POLICY_ANEW;
    if (t->anew)
        let_go(t);
    if (change == POLICY_ADDED) /* nothing to do with what may have had this place before */
        t->generation = 0;
    if (change != POLICY_SAME && change != POLICY_TUNED)
        begin(t);
    t->inputs[INPUT_SOURCE].path = t->conf->path;
    t->inputs[INPUT_DATABASE].path = t->conf->database;
    if (change == POLICY_TUNED && (t->conf->type->by & TABLE_BY_AGENT)) {
        if (has_crew(t)) { /* their number, or their time, may be another */
            withdraw_offer(t);
            table_offer_again(t->index);
        } else {
            agents_renew(t->index);
        }
        changed(t);
    }
    if (change == POLICY_TUNED && t->failure[0] != '\0' && t->loader == NULL)
        t->retry_at = monitor_now(); /* the reason may have been a limit */
}

void tables_reload(const struct policy *old)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        reload_table(tables[i], policy_table_change(old, monitor_policy, i));
}

bool table_is_anew(size_t index)
{
    return tables[index]->anew;
}
