/*
 * Agents: for each table that needs them a crew. Runs in the monitor, with privilege. It may start
 * agents and their dialers, start them again when they die, give them the descriptors of their
 * source, and make links between them and workers; it must never see a question or an answer: those
 * go over the links. The agents of a crew share the ends of links, so whoever is free takes the
 * next question, and one that dies takes no more with it than the one it had in hand.
 */
#include "privsep/agents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/census.h"
#include "privsep/child.h"
#include "privsep/clients.h"
#include "privsep/fingerprint.h"
#include "privsep/launch.h"
#include "privsep/log.h"
#include "privsep/monitor.h"
#include "privsep/tables.h"
#include "privsep/workers.h"

#define BACKOFF_MIN_MS  100 /* an agent that dies is started again after this, doubled */
#define BACKOFF_MAX_MS  30000
#define AGENT_STEADY_MS 10000 /* an agent that lived this long starts from the beginning */
#define PATIENCE_MS     60000 /* a lookup may take that long, and meanwhile it reads nothing */
#define DRAIN_MS        5000  /* a crew that is not needed any more may finish what it was asked */
#define MEGABYTE        (UINT64_C(1) << 20)

struct agent {
    struct crew *crew;
    struct child *child, *dialer; /* NULL: there is none */
    bool serves;                  /* it has read its source */
    bool unheard;                 /* it has not said how that went */
    uint64_t start_at;            /* NEVER, or when to start it again */
};

struct crew {
    struct pool *pool;
    unsigned unheard; /* agents that have not said how it went with the source */
    struct offered word;
    int files[INPUTS];
    struct fingerprint seen[INPUTS]; /* as the crew has read them */
    bool has_files;                  /* files are its own */
    uint64_t stop_at;                /* NEVER, or when it has had time enough to finish */
    unsigned n;
    struct agent agents[];
};

/* What a table has of them. */
struct pool {
    size_t index;
    const struct policy_table *conf;
    struct crew *now, *offered, *old; /* NULL: there is none */
    bool needed;
    uint64_t version; /* see agent_version() */
    uint64_t started; /* agents, in all */
    uint64_t backoff;
    struct log_limit limit, claims; /* claims: of what an agent says, so that its end is told */
    char trouble[512];              /* why it does not answer now; empty: it does */
    time_t trouble_since;
    uint32_t told; /* see census_edition() */
};
static struct pool **pools;
static size_t npools;

static void set_trouble(struct pool *p, const char *why)
{
    snprintf(p->trouble, sizeof p->trouble, "%s", why);
    p->trouble_since = time(NULL);
    p->told = 0;
    census_changed();
}

static bool allows(struct log_limit *limit, const struct pool *p)
{
    log_left_out(limit, monitor_now(), LOG_WARNING,
                 "lines about the agent of table \"%s\" were left out", p->conf->name);
    return log_allow(limit);
}

static bool may_log(struct pool *p)
{
    return allows(&p->limit, p);
}

static unsigned serving(const struct crew *crew)
{
    unsigned count = 0;

    for (unsigned i = 0; crew != NULL && i < crew->n; i++)
        count += crew->agents[i].child != NULL && crew->agents[i].serves;
    return count;
}

/* ---- the end of a crew ---- */

static void let_agent_go(struct agent *a, const char *verdict)
{
    struct child *both[] = {a->child, a->dialer};

    a->child = a->dialer = NULL;
    for (int i = 0; i < 2; i++) {
        if (both[i] == NULL)
            continue;
        child_release(both[i]);
        if (verdict != NULL)
            child_end(both[i], verdict);
    }
}

static void close_files(struct crew *crew)
{
    for (int i = 0; crew->has_files && i < INPUTS; i++)
        if (crew->files[i] >= 0)
            close(crew->files[i]);
    crew->has_files = false;
}

static void free_crew(struct crew *crew, const char *verdict)
{
    if (crew == NULL)
        return;
    for (unsigned i = 0; i < crew->n; i++)
        let_agent_go(&crew->agents[i], verdict);
    close_files(crew);
    free(crew);
}

/* Its links go, and so it is asked nothing any more; what it was asked it may finish. No more than
 * one crew does that: a source that changes all the time is not to gather them. */
static void retire(struct pool *p)
{
    struct crew *crew = p->now;

    p->now = NULL;
    if (crew == NULL)
        return;
    for (unsigned i = 0; i < crew->n; i++)
        crew->agents[i].start_at = NEVER;
    close_files(crew);
    crew->stop_at = monitor_now() + DRAIN_MS;
    free_crew(p->old, NULL);
    p->old = crew;
}

/* ---- what agents say ---- */

/* It has said all that it will say of the source. A crew that is on offer may go with that. */
static void heard(struct agent *a)
{
    struct crew *crew = a->crew;

    if (!a->unheard)
        return;
    a->unheard = false;
    if (--crew->unheard == 0 && crew == crew->pool->offered)
        table_offered(crew->pool->index, &crew->word);
}

static void look_at(int fd, struct fingerprint *found)
{
    struct stat st;

    memset(found, 0, sizeof *found);
    if (fd >= 0 && fstat(fd, &st) == 0)
        *found = fingerprint(&st);
}

/* Do its files still hold what the crew has read? If they were written in place, one that reads
 * them later would answer from something else, or from half of it. */
static bool is_as_read(const struct crew *crew)
{
    struct fingerprint now;

    for (int i = 0; i < INPUTS; i++) {
        look_at(crew->files[i], &now);
        if (crew->files[i] >= 0 && !fingerprint_unwritten(&crew->seen[i], &now))
            return false;
    }
    return true;
}

/* From now on there are links to make, or to one more. */
static void begin_serving(struct agent *a)
{
    struct pool *p = a->crew->pool;

    if (a->serves)
        return;
    a->serves = true;
    if (a->crew != p->now)
        return;
    if (serving(a->crew) > 1) {
        grants_link(p->index, a->child);
        return;
    }
    if (p->trouble[0] != '\0' && may_log(p))
        log_line(LOG_INFO, "table \"%s\" has an agent again", p->conf->name);
    set_trouble(p, "");
    p->version++;
    clients_table_changed(p->index);
}

/* LOADED: entries, -, ignored; warning. FAILED: error; reason. */
static void take_word(struct agent *a, const struct bridge_msg *msg)
{
    struct offered *word = &a->crew->word;
    bool loaded = msg->type == MSG_LOADED;

    if (!a->unheard) {
        child_end(a->child, "it speaks of its source again");
        return;
    }
    a->child->kill_at = NEVER;
    if (!loaded || word->text[0] == '\0')
        policy_printable((struct slice){msg->tail, msg->tail_len}, word->text, sizeof word->text);
    if (loaded && a->crew->has_files && !is_as_read(a->crew)) {
        child_end(a->child, "its source was written while it read that");
    } else if (loaded) {
        word->entries = msg->body.LOADED.entries;
        word->ignored = msg->body.LOADED.ignored;
        begin_serving(a);
    } else {
        word->refused = true;
    }
    heard(a);
}

/* The latest word on the source holds. The others hear that there is news, look for themselves, and
 * tell how their next lookup goes: one that believes a server dead answers at once, and would have
 * more than its share of the questions. */
static void take_health(struct pool *p, bool fails, const char *text)
{
    bool news = fails != (p->trouble[0] != '\0');

    for (unsigned i = 0; news && p->now != NULL && i < p->now->n; i++)
        if (p->now->agents[i].child != NULL)
            child_send(p->now->agents[i].child, MSG_RECHECK, &(struct msg_recheck){fails}, NULL, 0,
                       NULL);
    set_trouble(p, fails ? text : "");
    if (!news || !allows(&p->claims, p))
        return;
    if (fails)
        log_line(LOG_WARNING, "table \"%s\" failed: %s; lookups get a temporary error meanwhile",
                 p->conf->name, text);
    else
        log_line(LOG_INFO, "table \"%s\" recovered", p->conf->name);
}

/* EVENT: event; text. A claim of the agent about its source. */
static void take_event(struct agent *a, const struct bridge_msg *msg)
{
    struct pool *p = a->crew->pool;
    char text[512];

    policy_printable((struct slice){msg->tail, msg->tail_len}, text, sizeof text);
    switch (msg->body.EVENT.event) {
    case EVENT_FAILING:
    case EVENT_WORKING:
        if (a->crew == p->now)
            take_health(p, msg->body.EVENT.event == EVENT_FAILING, text);
        break;
    case EVENT_WEAKER:
        if (allows(&p->claims, p))
            log_line(LOG_WARNING, "table \"%s\": %s", p->conf->name, text);
        break;
    case EVENT_CANNOT:
        if (allows(&p->claims, p))
            log_line(LOG_WARNING, "table \"%s\": a lookup gets a temporary error: %s",
                     p->conf->name, text);
        break;
    default:
        child_end(a->child, "it reports an event that it cannot have");
    }
}

static void agent_message(struct child *c, const struct bridge_msg *msg)
{
    if (msg->type == MSG_EVENT)
        take_event(c->owner, msg);
    else
        take_word(c->owner, msg);
}

/* Returns in how many ms it is to be started. */
static uint64_t back_off(struct agent *a)
{
    struct pool *p = a->crew->pool;
    uint64_t wait = p->backoff;

    a->start_at = monitor_now() + wait;
    p->backoff = wait * 2 < BACKOFF_MAX_MS ? wait * 2 : BACKOFF_MAX_MS;
    return wait;
}

static void start_later(struct agent *a, const struct child *died, const char *how)
{
    uint64_t wait;

    struct pool *p = a->crew->pool;

    if (monitor_now() - died->started >= AGENT_STEADY_MS)
        p->backoff = BACKOFF_MIN_MS;
    wait = back_off(a);
    if (may_log(p))
        log_line(LOG_WARNING,
                 "agent pid %d for table \"%s\" died: %s; the next one starts in %llu ms",
                 (int)died->pid, p->conf->name, how, (unsigned long long)wait);
}

static void agent_gone(struct child *c, const char *how)
{
    struct agent *a = c->owner;
    struct crew *crew = a->crew;
    struct pool *p = crew->pool;
    bool served = a->serves;
    char why[sizeof p->trouble];

    a->child = NULL;
    a->serves = false;
    p->told = 0;
    census_changed();
    let_agent_go(a, NULL); /* its dialer */
    if (how == NULL)
        how = "it ended by itself";
    if (crew == p->now) {
        start_later(a, c, how);
        if (served && serving(crew) == 0) { /* who asks is not to wait for nobody */
            snprintf(why, sizeof why, "its agent died: %s", how);
            set_trouble(p, why);
            grants_unlink(p->index);
        }
    } else if (crew == p->offered && a->unheard) {
        crew->word.died = true;
        if (crew->word.text[0] == '\0')
            snprintf(crew->word.text, sizeof crew->word.text, "its agent ended: %s", how);
    }
    heard(a);
}

/* ---- starting ---- */

static enum helper helper_of(enum table_type type)
{
    switch (type) {
    case TYPE_CIDR:
    case TYPE_REGEXP:
    case TYPE_PCRE:
        return HELPER_AGENT_PATTERN;
    case TYPE_SQLITE:
        return HELPER_AGENT_SQLITE;
    case TYPE_MYSQL:
        return HELPER_AGENT_MYSQL;
    case TYPE_PGSQL:
        return HELPER_AGENT_PGSQL;
    case TYPE_SOCKETMAP:
    case TYPE_TCP:
        return HELPER_AGENT_NET;
    default:
        return HELPER_AGENT_NSS;
    }
}

static void dialer_gone(struct child *c, const char *how)
{
    struct agent *a = c->owner;
    struct pool *p = a->crew->pool;

    a->dialer = NULL; /* the agent will see the end of its link, and end as well */
    if (how != NULL && may_log(p))
        log_line(LOG_WARNING, "dialer pid %d for table \"%s\" died: %s", (int)c->pid, p->conf->name,
                 how);
}

/* Starts the one that makes the agent's connections. Returns the agent's end of their link, or -1.
 */
static int start_dialer(struct agent *a)
{
    static const struct child_ops ops = {
        .role = ROLE_DIALER, .what = "dialer", .patience = PATIENCE_MS, .gone = dialer_gone};
    const struct spawn limits = {
        .descriptors = 64, .memory = 256 * MEGABYTE, .cpu_seconds = SPAWN_UNLIMITED};
    char title[128];
    int ends[2];

    if (bridge_pair(ends) != 0)
        return -1;
    bridge_take_descriptors(ends[1], false);
    snprintf(title, sizeof title, "jailmap-dialer: %.80s", a->crew->pool->conf->name);
    a->dialer = child_start(&ops, a, HELPER_DIALER, &limits, title);
    if (a->dialer != NULL) {
        a->dialer->state = STATE_SERVE;
        child_send(a->dialer, MSG_LINK, &(struct msg_link){0}, NULL, 0, &ends[1]);
    }
    close(ends[1]);
    if (a->dialer != NULL)
        return ends[0];
    close(ends[0]);
    return -1;
}

/* INPUTs, and the SOURCE. False: it has ended, or will. */
static bool send_source(struct agent *a, const int files[INPUTS], int dialer)
{
    const struct policy_table *conf = a->crew->pool->conf;
    struct msg_source body = {conf->type->type, conf->reveal, conf->limit, conf->timeout};
    const char *name = conf->name + strlen(conf->type->prefix);
    char tail[BRIDGE_NAME_MAX];
    size_t len = strlen(name);

    for (uint32_t i = 0; files != NULL && i < INPUTS; i++)
        if (files[i] >= 0 && i != INPUT_NSSWITCH &&
            !child_send(a->child, MSG_INPUT, &(struct msg_input){i}, NULL, 0, &files[i]))
            return false;
    if (dialer >= 0 &&
        !child_send(a->child, MSG_INPUT, &(struct msg_input){INPUT_DIALER}, NULL, 0, &dialer))
        return false;
    memcpy(tail, name, len + 1);
    if (conf->database != NULL) /* a second name behind the first */
        len += (size_t)snprintf(tail + len + 1, sizeof tail - len - 1, "%s", conf->database) + 1;
    return len <= sizeof tail && child_send(a->child, MSG_SOURCE, &body, tail, len, NULL);
}

/* False: it cannot be. Else it is one more to be heard of. */
static bool start(struct agent *a, const int files[INPUTS])
{
    static const struct child_ops ops = {.role = ROLE_AGENT,
                                         .what = "agent",
                                         .patience = PATIENCE_MS,
                                         .message = agent_message,
                                         .gone = agent_gone};
    struct pool *p = a->crew->pool;
    const struct table_type_info *type = p->conf->type;
    struct spawn limits = {
        .descriptors = (uint32_t)(64 + clients_workers_most(monitor_policy)), /* a link each */
        .file_size = 0,
        .memory = p->conf->load_memory * MEGABYTE,
        .cpu_seconds = SPAWN_UNLIMITED};
    char title[128];
    int dialer = -1;

    a->start_at = NEVER;
    if (type->dials && (dialer = start_dialer(a)) < 0)
        return false;
    snprintf(title, sizeof title, "%s: %.80s", type->agent,
             type->braced && p->conf->path == NULL ? type->prefix : p->conf->name);
    a->child = child_start(&ops, a, helper_of(type->type), &limits, title);
    if (a->child != NULL) {
        p->started++;
        a->unheard = true;
        a->crew->unheard++;
        a->child->late = "it took longer than load-time to read its source";
        a->child->kill_at = a->child->started + UINT64_C(1000) * p->conf->load_time;
        if (!send_source(a, files, dialer))
            child_end(a->child, "it could not be sent its source");
        a->child->state = STATE_SERVE;
    } else {
        let_agent_go(a, NULL);
    }
    if (dialer >= 0)
        close(dialer);
    return a->child != NULL;
}

static struct crew *new_crew(struct pool *p, const int files[INPUTS])
{
    unsigned n = p->conf->processes;
    struct crew *crew = calloc(1, sizeof *crew + n * sizeof crew->agents[0]);

    if (crew == NULL)
        return NULL;
    crew->pool = p;
    crew->n = n;
    for (int i = 0; files != NULL && i < INPUTS; i++)
        look_at(files[i], &crew->seen[i]);
    crew->stop_at = NEVER;
    for (unsigned i = 0; i < n; i++) {
        crew->agents[i] = (struct agent){.crew = crew, .start_at = NEVER};
        start(&crew->agents[i], files);
    }
    if (crew->unheard == n)
        return crew;
    free_crew(crew, "another of its crew cannot be started");
    return NULL;
}

/* ---- crews on a source ---- */

bool agents_offer(size_t index, const int files[INPUTS])
{
    struct pool *p = pools[index];

    agents_drop(index);
    p->offered = new_crew(p, files);
    return p->offered != NULL;
}

void agents_drop(size_t index)
{
    struct pool *p = pools[index];
    struct crew *crew = p->offered;

    p->offered = NULL;
    free_crew(crew, "its source is not in service");
}

/* In the place of the one that serves. */
static void put_into_service(struct pool *p, struct crew *crew)
{
    retire(p);
    p->now = crew;
    p->version++;
    set_trouble(p, "");
    for (unsigned i = 0; i < crew->n; i++) /* one may have died since */
        if (crew->agents[i].child == NULL && crew->agents[i].start_at == NEVER)
            back_off(&crew->agents[i]);
    if (serving(crew) > 0)
        return;
    set_trouble(p, "its agents died");
    grants_unlink(p->index);
}

void agents_take(size_t index, int files[INPUTS], bool keep)
{
    struct pool *p = pools[index];
    struct crew *crew = p->offered;

    p->offered = NULL;
    for (int i = 0; keep && i < INPUTS; i++) {
        crew->files[i] = files[i];
        files[i] = -1;
    }
    crew->has_files = keep;
    put_into_service(p, crew);
}

/* ---- crews without a source ---- */

static void start_sourceless(struct pool *p)
{
    struct crew *crew = new_crew(p, NULL);

    if (crew == NULL) {
        set_trouble(p, "no agent can be started");
        return;
    }
    for (unsigned i = 0; i < crew->n; i++) /* at once: whoever is told of the need finds it there */
        crew->agents[i].serves = true;
    put_into_service(p, crew);
    clients_table_changed(p->index);
}

void agent_need(size_t index, bool needed)
{
    struct pool *p = pools[index];

    if (p->needed == needed)
        return;
    p->needed = needed;
    if (needed) {
        start_sourceless(p);
    } else {
        retire(p);
        grants_unlink(index);
    }
}

void agents_renew(size_t index)
{
    if (pools[index]->needed)
        start_sourceless(pools[index]);
}

/* ---- links ---- */

uint64_t agent_version(size_t index)
{
    return serving(pools[index]->now) > 0 ? pools[index]->version : 0;
}

bool agents_link(size_t index, int end)
{
    struct crew *crew = pools[index]->now;
    bool given = false;

    for (unsigned i = 0; crew != NULL && i < crew->n; i++) {
        struct child *c = crew->agents[i].child;

        if (c == NULL || !crew->agents[i].serves)
            continue;
        /* So many descriptors may be under way, or so many workers are told at once: no fault of
         * this one, whose patience sees to it else. All get it, or none, in a while. */
        if (!child_send(c, MSG_LINK, &(struct msg_link){0}, NULL, 0, &end))
            return false;
        given = true;
    }
    return given;
}

/* ---- all of them ---- */

bool agents_tell(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct pool *p = pools[i];
        struct child *first = NULL;
        struct msg_agent_state body = {.since = (uint64_t)p->trouble_since,
                                       .table = (uint32_t)i,
                                       .started = (uint32_t)p->started,
                                       .running = serving(p->now)};

        if (p->trouble_since == 0 || p->told == census_edition()) /* none was ever needed, or so */
            continue;
        for (unsigned j = 0; p->now != NULL && j < p->now->n && first == NULL; j++)
            first = p->now->agents[j].child;
        body.pid = first != NULL ? (uint32_t)first->pid : 0;
        if (!census_tell(MSG_AGENT_STATE, &body, p->trouble, NULL))
            return false;
        if (first != NULL && first->pid == 0)
            census_changed(); /* that it has one will be news */
        else
            p->told = census_edition();
    }
    return true;
}

static void start_again(struct pool *p, struct agent *a)
{
    struct crew *crew = a->crew;

    a->start_at = NEVER;
    if (p->conf->path != NULL && !p->needed && !(crew->has_files && is_as_read(crew)))
        table_offer_again(p->index);
    else if (!start(a, crew->has_files ? crew->files : NULL))
        back_off(a);
    else if (p->needed)
        begin_serving(a);
}

static uint64_t tick_pool(struct pool *p, uint64_t now)
{
    uint64_t next = NEVER;

    if (p->old != NULL && p->old->stop_at <= now) {
        free_crew(p->old, NULL);
        p->old = NULL;
    }
    if (p->old != NULL)
        next = p->old->stop_at;
    for (unsigned i = 0; p->now != NULL && i < p->now->n; i++) {
        struct agent *a = &p->now->agents[i];

        if (a->start_at <= now)
            start_again(p, a);
        if (a->start_at < next)
            next = a->start_at;
    }
    return next;
}

uint64_t agents_tick(uint64_t now)
{
    uint64_t next = NEVER;

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        uint64_t at = tick_pool(pools[i], now);

        if (at < next)
            next = at;
    }
    return next;
}

uint64_t agents_descriptors(const struct policy *policy)
{
    uint64_t need = 0, links = clients_workers_most(policy);

    /* Bridges, of three crews; files, of two; links. */
    for (size_t i = 0; i < policy->ntables; i++) {
        const struct policy_table *t = &policy->tables[i];

        if (t->type->by & TABLE_BY_AGENT)
            need += (t->type->dials ? 6 : 3) * (uint64_t)t->processes + 2 * INPUTS + links;
    }
    return need;
}

bool agents_start(void)
{
    if (!agents_prepare(monitor_policy->ntables))
        return false;
    agents_reload();
    return true;
}

bool agents_prepare(size_t count)
{
    struct pool **grown = reallocarray(pools, count + 1, sizeof(struct pool *));

    if (grown == NULL)
        return false;
    pools = grown;
    for (; npools < count; npools++) {
        pools[npools] = calloc(1, sizeof *pools[npools]);
        if (pools[npools] == NULL)
            return false;
        pools[npools]->index = npools;
        pools[npools]->backoff = BACKOFF_MIN_MS;
    }
    return true;
}

void agents_reload(void)
{
    for (size_t i = 0; i < monitor_policy->ntables; i++)
        pools[i]->conf = &monitor_policy->tables[i];
}

/* Those that give what may not be given any more end at once, and their links with them. */
void agents_let_go(void)
{
    static const char verdict[] = "it is not needed any more";

    for (size_t i = 0; i < monitor_policy->ntables; i++) {
        struct pool *p = pools[i];

        if (!table_is_anew(i))
            continue;
        p->needed = false;
        agents_drop(i);
        free_crew(p->now, verdict);
        free_crew(p->old, verdict);
        p->now = p->old = NULL;
        set_trouble(p, "");
        if (p->conf->gone) /* whatever has this place next begins anew */
            p->trouble_since = 0;
        if (p->conf->gone)
            p->version = p->started = 0;
    }
}
