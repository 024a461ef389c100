/*
 * The tables of a worker: names that clients used, and what the monitor said of each. Runs in the
 * worker. It may map images and talk over links that the monitor sent; it must never decide an
 * approval: it asks, and keeps the answer.
 */
#include "server/worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/worker/chance.h"

#define CALM_MS         5000 /* without such a lookup: then it is over */
#define BUCKETS         256
#define DENIED_MAX      256 /* denials kept, so that a client cannot fill memory with names */
#define ASKS_BURST      200 /* pace of questions to the monitor: at most this many in one second */
#define ANSWERS_AT_ONCE 16  /* received from one link before others are looked after */

static struct table *buckets[BUCKETS];
static struct table **by_ref;
static uint32_t refs_used, refs_cap;
static unsigned denied_count, unsent_count;
static uint64_t pace_started;
static unsigned pace_used;
static _Alignas(8) char link_buf[BRIDGE_LARGE];
static struct table *forgotten;
static unsigned unmet_count; /* tables with lookups that had no answer */

static void forget_unmet(struct table *table);

/* Images and caches that were replaced, and are let go of between lookups. */
static struct shedding {
    struct cache *cache; /* NULL: an image */
    struct image image;
    struct shedding *next;
} * shedding;

static uint32_t name_hash(struct slice name)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)name.ptr[i]) * 16777619u;
    return h;
}

static void forget(struct table *table)
{
    struct table **at = &buckets[table->hash % BUCKETS];

    forget_unmet(table);
    while (*at != table)
        at = &(*at)->next_in_bucket;
    *at = table->next_in_bucket;
    by_ref[table->ref] = NULL;
    table->next_in_bucket = forgotten;
    forgotten = table;
}

void tables_reap(void)
{
    while (forgotten != NULL) {
        struct table *table = forgotten;

        forgotten = table->next_in_bucket;
        free(table);
    }
}

/* Forgets one denial to make room for another. */
static void evict_denied(void)
{
    for (uint32_t ref = 0; ref < refs_used; ref++)
        if (by_ref[ref] != NULL && by_ref[ref]->state == TABLE_DENIED && by_ref[ref]->paced == 0) {
            forget(by_ref[ref]);
            denied_count--;
            return;
        }
}

void table_unwait(struct table *table, const struct session *session)
{
    session_unlink(&table->waiters, session);
    /* Nobody wants to know any more: a name costs nothing once its client has gone. */
    if (table->waiters == NULL && table->state == TABLE_UNSENT) {
        forget(table);
        unsent_count--;
    }
}

static bool take_ref(uint32_t *ref)
{
    struct table **grown;

    for (*ref = 0; *ref < refs_used; (*ref)++)
        if (by_ref[*ref] == NULL)
            return true;
    if (refs_used == refs_cap) {
        grown = realloc(by_ref, (refs_cap + 64) * sizeof *grown);
        if (grown == NULL)
            return false;
        by_ref = grown;
        refs_cap += 64;
    }
    by_ref[refs_used] = NULL;
    *ref = refs_used++;
    return true;
}

void table_ask(struct table *table, uint32_t client)
{
    uint64_t now = loop_now();

    if (now - pace_started >= 1000) {
        pace_started = now;
        pace_used = 0;
    }
    if (pace_used >= ASKS_BURST) {
        loop_tick_soon();
        return;
    }
    if (tell_open(table->ref, client, (struct slice){table->name, table->name_len}) != 0) {
        tell_when_writable();
        return;
    }
    pace_used++;
    unsent_count--;
    table->state = TABLE_ASKED;
}

struct table *table_get(struct slice name)
{
    uint32_t hash = name_hash(name);
    struct table *table;
    const char *why;

    for (table = buckets[hash % BUCKETS]; table != NULL; table = table->next_in_bucket)
        if (table->hash == hash && table->name_len == name.len &&
            memcmp(table->name, name.ptr, name.len) == 0)
            return table;
    if (name.len > BRIDGE_NAME_MAX || (table = calloc(1, sizeof *table + name.len + 1)) == NULL)
        return NULL;
    if (!take_ref(&table->ref)) {
        free(table);
        return NULL;
    }
    by_ref[table->ref] = table;
    table->link = (struct watched){WATCH_LINK, -1};
    table->state = TABLE_UNSENT;
    table->hash = hash;
    table->name_len = name.len;
    memcpy(table->name, name.ptr, name.len);
    table->type = table_type_of(table->name, &why);
    table->next_in_bucket = buckets[hash % BUCKETS];
    buckets[hash % BUCKETS] = table;
    unsent_count++;
    return table;
}

void tables_flush(void)
{
    for (uint32_t ref = 0; unsent_count > 0 && ref < refs_used; ref++) {
        struct table *table = by_ref[ref];
        unsigned before = unsent_count;

        if (table == NULL || table->state != TABLE_UNSENT)
            continue;
        table_ask(table, session_client(table->waiters));
        if (unsent_count == before)
            return;
    }
}

/* What is kept of its agents' answers is not good any more, nor is what they have not sent yet. */
static void drop_cache(struct table *table)
{
    struct shedding *old;

    table->cache_age++;
    if (table->cache == NULL)
        return;
    old = malloc(sizeof *old);
    if (old == NULL) {
        cache_free(table->cache);
    } else {
        *old = (struct shedding){.cache = table->cache, .next = shedding};
        shedding = old;
    }
    table->cache = NULL;
}

static void drop_link(struct table *table)
{
    if (table->link.fd >= 0)
        loop_close(&table->link);
    table->link.fd = -1;
    table->link_full = false;
    table->unanswered = (struct unanswered){0};
    drop_cache(table);
}

/* RETRY for what the link is needed for, until the monitor sends another. */
static void link_failed(struct table *table)
{
    drop_link(table);
    tell_event(EVENT_BAD_TABLE, table->ref, NULL, 0);
}

static void wake(struct table *table)
{
    struct session *list = table->waiters;

    table->waiters = NULL;
    table->queued = 0; /* who still has to wait is counted again */
    session_wake(list);
}

/* The table that the monitor speaks of, if it was asked about it. */
static struct table *granted_ref(uint32_t ref)
{
    struct table *table = ref < refs_used ? by_ref[ref] : NULL;

    if (table == NULL || table->state == TABLE_UNSENT || table->state == TABLE_DENIED)
        exit(EXIT_FAILURE);
    return table;
}

static void shed_image(struct table *table)
{
    struct shedding *old = malloc(sizeof *old);

    table->has_image = false;
    if (old == NULL) {
        image_close(&table->image);
        return;
    }
    *old = (struct shedding){NULL, table->image, shedding};
    shedding = old;
}

bool tables_shed(void)
{
    struct shedding *old = shedding;

    if (old != NULL && (old->cache != NULL ? cache_shed(old->cache) : image_shed(&old->image))) {
        shedding = old->next;
        free(old);
    }
    return shedding != NULL;
}

static void take_image(struct table *table, int fd)
{
    struct image image;
    const char *why = "";

    if (image_open(&image, fd, &why) == 0) {
        if (table->has_image)
            shed_image(table);
        table->image = image;
        table->has_image = true;
        table->generation++;
    } else {
        tell_event(EVENT_BAD_TABLE, table->ref, why, strlen(why));
    }
    close(fd);
}

static void take_link(struct table *table, int fd, bool orderly)
{
    bool replaced = table->link.fd >= 0;

    drop_link(table);
    table->link.fd = fd;
    if (!loop_add(&table->link, EPOLLIN))
        link_failed(table);
    if (replaced) /* after the new one is in place: sessions go on at once */
        (orderly ? session_link_replaced : session_link_lost)(table);
}

static void take_kind(struct table *table, uint32_t flags, uint32_t features, uint32_t answered_by,
                      const struct key_limit *limit, const struct link_use *use)
{
    table->flags = flags;
    table->features = features;
    table->answered_by = (enum bridge_kind)answered_by;
    table->use = *use;
    table->limit = *limit;
    table->limited = memcmp(limit, &key_limit_none, sizeof *limit) != 0;
    table->state = TABLE_READY;
    drop_cache(table);
    if (!(table->answered_by & KIND_IMAGE) && table->has_image)
        shed_image(table);
}

void table_granted(const struct msg_table *grant, int fd)
{
    struct table *table = granted_ref(grant->ref);
    bool first = table->state == TABLE_ASKED;

    table->index = grant->table;
    take_kind(table, grant->flags, grant->features, grant->answered_by, &grant->limit, &grant->use);
    if (grant->kind == KIND_IMAGE)
        take_image(table, fd);
    else
        take_link(table, fd, grant->replaces);
    /* Of both, the link comes first and the image follows at once. Whoever waits waits for that: an
     * agent may answer late, and with what it sees then. */
    if (first && grant->kind == KIND_LINK && (grant->answered_by & KIND_IMAGE)) {
        table->state = TABLE_ASKED;
        return;
    }
    if (!(table->answered_by & KIND_LINK))
        session_link_lost(table);
    wake(table);
}

void table_changed(const struct msg_table_kind *kind)
{
    struct table *table = granted_ref(kind->ref);

    table->index = kind->table;
    take_kind(table, kind->flags, kind->features, kind->answered_by, &kind->limit, &kind->use);
    wake(table);
}

/* At once, however long that takes: another may not have it a moment longer. */
static void let_go(struct table *table)
{
    forget_unmet(table); /* the monitor would not know what is meant */
    if (table->has_image)
        image_close(&table->image);
    table->has_image = false;
    table->generation++;
    cache_free(table->cache);
    table->cache = NULL;
    drop_link(table);
    session_forget(table);
}

void table_recalled(uint32_t ref)
{
    struct table *table = granted_ref(ref);

    table->state = TABLE_ASKED;
    let_go(table);
}

void tables_renew(void)
{
    for (uint32_t ref = 0; denied_count > 0 && ref < refs_used; ref++)
        if (by_ref[ref] != NULL && by_ref[ref]->state == TABLE_DENIED) {
            forget(by_ref[ref]);
            denied_count--;
        }
    while (tables_shed())
        ;
}

void table_refused(const struct msg_table_error *error)
{
    struct table *table = granted_ref(error->ref);

    table->index = error->table;
    table->flags = error->flags;
    table->state = TABLE_FAILED;
    drop_cache(table);
    if (error->status == PM_DENY) {
        table->state = TABLE_DENIED;
        let_go(table);
        if (++denied_count > DENIED_MAX) {
            wake(table);
            evict_denied();
            return;
        }
    }
    wake(table);
}

uint32_t table_timeout(const struct table *table)
{
    uint32_t all = session_limits.answer_timeout, own = table->use.timeout;

    return (own > 0 && own < all ? own : all) * 1000;
}

int table_query(struct table *table, uint64_t id, uint32_t flags, struct slice key)
{
    struct msg_query body = {id, flags & PM_FLAG_KNOWN, 0};
    uint32_t timeout = table_timeout(table);
    uint64_t now = loop_now();

    errno = ENOTCONN;
    if (table->link.fd < 0)
        return -1;
    errno = EBUSY;
    if (table->use.queue > 0 &&
        table->queued + unanswered_count(&table->unanswered, now, timeout) >= table->use.queue)
        return -1;
    errno = EAGAIN;
    if (table->link_full)
        return -1;
    if (bridge_send(table->link.fd, MSG_QUERY, &body, key.ptr, key.len, NULL) == 0) {
        unanswered_ask(&table->unanswered, (uint32_t)(id >> 32), now, timeout);
        return 0;
    }
    if (errno == EAGAIN) {
        table->link_full = true;
        loop_change(&table->link, EPOLLIN | EPOLLOUT);
    }
    return -1;
}

/* ---- lookups without an answer ---- */

static void unmet(struct table *table, const char *why)
{
    if (table->unmet++ == 0) {
        unmet_count++;
        tell_event(EVENT_UNMET, table->ref, why, strlen(why));
    }
    table->unmet_at = loop_now();
}

void table_is_full(struct table *table)
{
    char why[64];

    snprintf(why, sizeof why, "its queue of %u is full", table->use.queue);
    unmet(table, why);
}

void table_is_late(struct table *table)
{
    char why[64];

    snprintf(why, sizeof why, "no answer within %u s", table_timeout(table) / 1000);
    unmet(table, why);
}

static void forget_unmet(struct table *table)
{
    unmet_count -= table->unmet > 0;
    table->unmet = 0;
}

bool tables_timed(void)
{
    return unmet_count > 0;
}

void tables_tick(void)
{
    uint64_t now = loop_now();

    for (uint32_t ref = 0; unmet_count > 0 && ref < refs_used; ref++) {
        struct table *table = by_ref[ref];
        char count[16];

        if (table == NULL || table->unmet == 0 || now - table->unmet_at < CALM_MS)
            continue;
        snprintf(count, sizeof count, "%u", table->unmet);
        tell_event(EVENT_MET, table->ref, count, strlen(count));
        forget_unmet(table);
    }
}

/* ---- cache ---- */

/* What of a request's flags makes for another answer to the same key. */
#define VARIANT(flags) ((flags)&PM_FLAG_NO_REGSUB)

bool table_keeps(const struct table *table)
{
    return (table->answered_by & KIND_LINK) && table->use.cache_size > 0 &&
           (table->use.cache_ttl > 0 || table->use.negative_ttl > 0);
}

enum cache_result table_recollect(struct table *table, struct slice key, uint32_t flags,
                                  struct slice *value)
{
    if (table->cache == NULL)
        return CACHE_UNKNOWN;
    return cache_find(table->cache, key, VARIANT(flags), loop_now(), value);
}

void table_keep(struct table *table, uint32_t age, struct slice key, uint32_t flags,
                enum bridge_answer status, struct slice value)
{
    uint32_t ttl = status == ANSWER_FOUND       ? table->use.cache_ttl
                   : status == ANSWER_NOT_FOUND ? table->use.negative_ttl
                                                : 0;
    uint8_t seed[CACHE_SEED_LEN];

    if (ttl == 0 || age != table->cache_age || !table_keeps(table))
        return;
    if (table->cache == NULL) {
        chance_seed(seed);
        table->cache = cache_new((size_t)table->use.cache_size << 20, seed);
    }
    if (table->cache != NULL)
        cache_store(table->cache, key, VARIANT(flags), loop_now() + (uint64_t)ttl * 1000,
                    status == ANSWER_FOUND, value);
}

/* ---- answers ---- */

/* False: there is no more to receive, or nothing more to come, which saves asking. */
static bool take_answer(struct table *table)
{
    struct bridge_msg msg;
    const char *why;

    switch (bridge_receive(table->link.fd, link_buf, sizeof link_buf, ROLE_AGENT, ROLE_WORKER,
                           STATE_SERVE, &msg, &why)) {
    case BRIDGE_AGAIN:
        return false;
    case BRIDGE_OK:
        unanswered_settle(&table->unanswered, (uint32_t)(msg.body.ANSWER.id >> 32));
        session_answer(table, msg.body.ANSWER.id, (enum bridge_answer)msg.body.ANSWER.status,
                       (struct slice){msg.tail, msg.tail_len});
        return table->link.fd >= 0 &&
               unanswered_count(&table->unanswered, loop_now(), table_timeout(table)) > 0;
    case BRIDGE_BAD:
    case BRIDGE_CLOSED:
        break;
    }
    link_failed(table);
    session_link_lost(table);
    wake(table);
    return false;
}

void table_link_ready(struct table *table, uint32_t events)
{
    if (table->link.fd < 0)
        return;
    if (events & EPOLLOUT) {
        table->link_full = false;
        loop_change(&table->link, EPOLLIN);
        wake(table);
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    for (int i = 0; i < ANSWERS_AT_ONCE && take_answer(table); i++)
        ;
}
