/*
 * Connections and queries of a database table: see sql.h. Runs in jailmap-agent-mysql and -pgsql,
 * without capabilities. It may ask its dialer for connections to the hosts that the configuration
 * names and talk over these; it must never wait for a server longer than the table's timeout, never
 * let a query wait where no server is known to work, and never call a failure "not found".
 */
#include "server/agent/sql/sql.h"

#include <ctype.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "privsep/landlock.h"
#include "server/agent/dial.h"
#include "server/agent/sql/sql_files.h"
#include "server/agent/sql/stand_in.h"

#define SURPLUS_MAX  1000 /* values beyond what an answer may have that are read for politeness */
#define REJECTED_MAX 3    /* in a row: then it is not the key */
#define SECONDS_MAX  86400

static const struct sql_library *library;
static const struct agent_source *source;
static struct plan *plan;
static struct hosts hosts;
static uint64_t idle_interval; /* ms */

static enum { CLOSED, DIALING, CONNECTING, IDLE, ASKING } state = CLOSED;
static int host;       /* in use, unless CLOSED */
static bool used;      /* the connection has answered before */
static uint64_t until; /* when DIALING and CONNECTING have failed; when an IDLE one is closed */
static struct sql_io io;
static char why[512]; /* the last failure */

static struct {
    bool waits;        /* there is one */
    bool again;        /* it was begun a second time */
    uint64_t deadline; /* for its answer */
    struct slice key;
} query;
static unsigned surplus;
static unsigned rejected; /* queries in a row */
static bool answered;     /* one query, ever */
static bool in_vain;      /* the last one had no answer: that it connects does not mean it works */

static void next_host(bool due);
static void go_on(enum sql_step step);

/* ---- what is said ---- */

/* Servers choose what they say; a log line has printable text only. */
static void set_why(const char *text)
{
    size_t len = (size_t)snprintf(why, sizeof why, "%s host %s: %s", library->name,
                                  hosts.host[host].name, text);

    if (len >= sizeof why)
        len = sizeof why - 1;
    while (len > 0 && (why[len - 1] == '\n' || why[len - 1] == ' '))
        why[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if (why[i] < ' ' || why[i] > '~')
            why[i] = isspace((unsigned char)why[i]) ? ' ' : '?';
}

static void answer(enum bridge_answer status, struct slice value)
{
    query.waits = false;
    agent_answer(status, value, why);
}

static void retry(void)
{
    answer(ANSWER_RETRY, (struct slice){"", 0});
}

static void cannot(const char *text)
{
    query.waits = false;
    agent_cannot(text);
}

/* ---- connecting ---- */

static uint32_t any(void)
{
    uint32_t number = 0;

    return getrandom(&number, sizeof number, GRND_NONBLOCK) == sizeof number ? number : 0;
}

static void close_connection(bool polite)
{
    library->close(polite);
    state = CLOSED;
}

/* How long connecting may take: the time left, shared among the hosts that may work. */
static uint64_t share(void)
{
    uint64_t now = agent_now(), left = source->timeout * UINT64_C(1000);
    uint32_t good = hosts_good(&hosts);

    if (query.waits)
        left = query.deadline > now ? query.deadline - now : 0;
    left /= good > 0 ? good : 1;
    return left > 0 ? left : 1; /* never more than timeout: no dialer takes that */
}

static void begin(int which)
{
    uint64_t time = share();

    if (sql_files_replaced()) /* its successor can read the new one */
        exit(EXIT_SUCCESS);
    host = which;
    state = DIALING;
    until = agent_now() + time;
    dial((uint32_t)which, (unsigned)time);
}

/* No connection to the host in use, or none any more. */
static void host_failed(const char *text)
{
    uint64_t now = agent_now();

    set_why(text);
    close_connection(false);
    hosts_failed(&hosts, host, now);
    if (query.waits && now >= query.deadline)
        retry();
    else
        next_host(query.waits);
}

/* Whoever may work, now; due: or may work again. */
static void next_host(bool due)
{
    int next = hosts_choose(&hosts, agent_now(), any(), due);

    if (next >= 0)
        begin(next);
    else if (query.waits)
        retry();
    else
        agent_health(why);
}

/* A host that is the only one gets a second chance at once. */
static void not_connected(const char *text)
{
    if (query.waits && !query.again && hosts.count == 1) {
        query.again = true;
        close_connection(false);
        begin(host);
    } else {
        host_failed(text);
    }
}

static void ask_server(void)
{
    struct slice sql;
    bool impossible = false;

    surplus = 0;
    switch (plan_query(plan, query.key, library->quote, &impossible, &sql)) {
    case PLAN_ASK:
        state = ASKING;
        go_on(library->query(sql, &io));
        return;
    case PLAN_CANNOT:
        if (!impossible) {
            cannot(plan_why(plan));
            return;
        }
        break;
    case PLAN_NOT_FOUND:
    case PLAN_FOUND:
        break;
    }
    query.waits = false;
    agent_nothing();
}

static void rest(void)
{
    state = IDLE;
    until = agent_now() + idle_interval;
}

static void connected(void)
{
    hosts_works(&hosts, host);
    used = false;
    rest();
    if (query.waits)
        ask_server();
    else if (!in_vain)
        agent_health(NULL);
}

static void dialed(void)
{
    char text[256];
    int fd;

    switch (dial_take(&fd, text, sizeof text)) {
    case DIAL_WAITING:
        return;
    case DIAL_FAILED:
        not_connected(text);
        return;
    case DIAL_DONE:
        break;
    }
    state = CONNECTING;
    stand_in_offer(fd);
    go_on(library->connect(&hosts.host[host], &io));
    stand_in_withdraw();
}

/* ---- asking ---- */

void sql_result(void)
{
    plan_begin(plan);
}

bool sql_value(struct slice value)
{
    return (surplus == 0 && plan_value(plan, value)) || surplus++ < SURPLUS_MAX;
}

static void finish(void)
{
    struct slice value;
    enum plan_verdict verdict = plan_finish(plan, &value);

    used = answered = true;
    in_vain = false;
    rejected = 0;
    rest();
    if (verdict == PLAN_CANNOT)
        cannot(plan_why(plan));
    else if (verdict == PLAN_FOUND)
        answer(ANSWER_FOUND, value);
    else
        answer(ANSWER_NOT_FOUND, (struct slice){"", 0});
}

/* Where others have their answers, it may be the key: a client must not be able to make the table
 * look as if it failed and worked in turns. */
static void reject(void)
{
    set_why(library->why());
    used = true;
    rest();
    if (answered && ++rejected < REJECTED_MAX)
        cannot(why);
    else
        retry();
}

/* A server may have closed an old connection while it was asked: it is asked once more over a new
 * one. */
static void lost(void)
{
    bool once_more = state == ASKING && used && !query.again;

    if (once_more) {
        query.again = true;
        close_connection(false);
        begin(host);
    } else if (state == CONNECTING) {
        not_connected(library->why());
    } else {
        host_failed(library->why());
    }
}

/* What has come of connecting or asking. */
static void go_on(enum sql_step step)
{
    switch (step) {
    case SQL_WAIT:
        return;
    case SQL_DONE:
        if (state == CONNECTING)
            connected();
        else
            finish();
        return;
    case SQL_LOST:
        lost();
        return;
    case SQL_AGAIN:
        close_connection(false);
        begin(host);
        return;
    case SQL_REJECTED:
        reject();
        return;
    case SQL_CANNOT:
        close_connection(false);
        cannot(plan_why(plan));
        return;
    }
}

/* ---- the back end ---- */

static void out_of_time(void)
{
    char text[64];

    snprintf(text, sizeof text, "no %s within %u s", state == ASKING ? "answer" : "connection",
             source->timeout);
    if (state == CLOSED) {
        next_host(true);
    } else if (state == IDLE) {
        close_connection(true);
    } else if (state == ASKING && surplus > 0) {
        close_connection(false);
        cannot(plan_why(plan));
    } else {
        in_vain = state == ASKING;
        host_failed(text);
    }
}

static void ready(short revents)
{
    if (revents == 0)
        out_of_time();
    else if (state == DIALING)
        dialed();
    else if (state == CONNECTING || state == ASKING)
        go_on(library->go(revents, &io));
    else if (state == IDLE && !library->idle())
        close_connection(false);
}

static void wait_for(struct agent_wait *wait)
{
    *wait = (struct agent_wait){.fd = io.fd, .events = io.events, .until = until};
    switch (state) {
    case CLOSED:
        wait->fd = -1;
        wait->until = hosts_good(&hosts) == 0 ? hosts_due(&hosts) : AGENT_NEVER;
        break;
    case DIALING:
        wait->fd = dial_link();
        wait->events = POLLIN;
        break;
    case IDLE:
        wait->events = POLLIN;
        break;
    case ASKING:
        wait->until = query.deadline;
        break;
    case CONNECTING:
        break;
    }
}

static void recheck(void)
{
    if (state != CLOSED || hosts_good(&hosts) > 0)
        return;
    hosts_hurry(&hosts, agent_now());
    next_host(true);
}

static bool no_quote(void *arg, struct slice in, struct text *out)
{
    (void)arg;
    return text_append(out, in) == 0;
}

/* A failed host is being tried at most; nobody waits for that. */
static bool nobody_works(void)
{
    return state != IDLE && hosts_good(&hosts) == 0;
}

static void ask(const struct agent_query *given)
{
    struct slice sql;

    switch (plan_query(plan, given->key, no_quote, NULL, &sql)) {
    case PLAN_ASK:
        break;
    case PLAN_CANNOT:
        agent_cannot(plan_why(plan));
        return;
    case PLAN_NOT_FOUND:
    case PLAN_FOUND:
        agent_nothing();
        return;
    }
    if (nobody_works()) {
        retry();
        return;
    }
    query.waits = true;
    query.again = false;
    query.key = given->key;
    query.deadline = agent_now() + source->timeout * UINT64_C(1000);
    if (state == IDLE)
        ask_server();
    else if (state == CLOSED)
        next_host(false);
}

/* ---- the start ---- */

static bool read_hosts(struct params *params)
{
    unsigned retry_interval, idle;
    const char *names[HOSTS_MAX];
    char text[256];

    if (!params_number(params, "retry_interval", 60, 1, SECONDS_MAX, &retry_interval) ||
        !params_number(params, "idle_interval", 60, 1, SECONDS_MAX, &idle))
        return false;
    if (!hosts_parse(&hosts, library->hosts, params_text(params, "hosts", "localhost"), text,
                     sizeof text))
        return params_fail(params, "hosts", "%s", text);
    hosts.retry_interval = retry_interval * UINT64_C(1000);
    idle_interval = idle * UINT64_C(1000);
    for (uint32_t i = 0; i < hosts.count; i++)
        names[i] = hosts.host[i].name;
    return dial_begin(source->dialer, names, hosts.count) ||
           params_fail(params, "hosts",
                       "the names of all hosts have more than %d bytes; fewer "
                       "are expected",
                       BRIDGE_NAME_MAX);
}

static bool prepare(const struct agent_source *given, struct agent_report *report)
{
    static struct params *params;

    source = given;
    params = params_read(source->name, source->file, report);
    if (params == NULL)
        return false;
    plan = plan_read(params, library->type);
    if (plan == NULL || !library->read(params) || !read_hosts(params))
        return false;
    params_finish(params);
    /* From here on no path can be opened but those that the parameters have named. */
    if (!sql_files_enter()) {
        snprintf(report->text, sizeof report->text, "%s: Landlock fails: %m", source->name);
        return false;
    }
    next_host(false);
    return true;
}

/* What a library reads when it starts is read before anything else, and before the filter. */
static const char *enter(void)
{
    static const char lacking[] = "without Landlock its agent is confined by its filter and user "
                                  "alone";

    clearenv();
    signal(SIGPIPE, SIG_IGN);
    library->begin();
    return landlock_version() > 0 ? NULL : lacking;
}

int sql_main(const struct sql_library *given, const struct profile *profile)
{
    const struct agent_backend backend = {.profile = profile,
                                          .enter = enter,
                                          .prepare = prepare,
                                          .ask = ask,
                                          .wait = wait_for,
                                          .ready = ready,
                                          .recheck = recheck};

    library = given;
    return agent_main(&backend);
}
