/*
 * jailmap-agent-pattern: answers cidr, regexp and pcre tables. Started by the monitor, several for
 * each table, as an unprivileged user in the empty jail. It reads the descriptor of its table once,
 * or the rules in the table's name, and after that nothing but its bridge and its links. A key for
 * which a rule takes too long, or more than it may have, has no answer: it must never be "not
 * found".
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "proto/proxymap.h"
#include "server/agent/agent.h"
#include "server/agent/pattern/cidr.h"
#include "server/agent/pattern/expr.h"

static struct rules rules;
static struct cidr_table networks;
static struct expr_table *expressions; /* NULL: the table is one of networks */
static const struct engine *engine;

/* ---- the time that a key may take ---- */

static struct {
    uint64_t each;           /* milliseconds */
    volatile uint64_t until; /* of agent_now() */
    volatile sig_atomic_t running;
    volatile sig_atomic_t armed;
    sigjmp_buf left;
} limit;

static void set_timer(uint64_t ms)
{
    struct itimerval in = {.it_value = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)}};

    setitimer(ITIMER_REAL, &in, NULL);
}

/* The timer is set once for many keys: when it fires for one that came later, it is set anew. */
static void time_is_up(int sig)
{
    uint64_t now = agent_now();

    (void)sig;
    limit.armed = limit.running != 0;
    if (limit.running && now < limit.until) {
        set_timer(limit.until - now);
    } else if (limit.running) {
        limit.running = 0;
        limit.armed = 0;
        siglongjmp(limit.left, 1);
    }
}

static void limit_begin(void)
{
    limit.until = agent_now() + limit.each;
    limit.running = 1;
    if (!limit.armed) {
        limit.armed = 1;
        set_timer(limit.each);
    }
}

/* Before the filter is entered, which knows no sigaction(2). */
static const char *catch_alarm(void)
{
    struct sigaction action = {.sa_handler = time_is_up, .sa_flags = SA_NODEFER | SA_RESTART};
    sigset_t alarm_only;

    sigemptyset(&action.sa_mask);
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    if (sigaction(SIGALRM, &action, NULL) != 0 || sigprocmask(SIG_UNBLOCK, &alarm_only, NULL) != 0)
        exit(EXIT_FAILURE);
    return NULL;
}

/* ---- the table ---- */

static bool prepare(const struct agent_source *source, struct agent_report *report)
{
    bool read =
        source->file >= 0
            ? rules_of_file(&rules, source->file, source->name, report)
            : rules_of_name(&rules, (struct slice){source->name, strlen(source->name)}, report);
    bool parsed;

    if (!read)
        return false;
    limit.each = (uint64_t)(source->timeout > 0 ? source->timeout : 1) * 1000;
    engine = source->type == TYPE_PCRE     ? &engine_pcre
             : source->type == TYPE_REGEXP ? &engine_regexp
                                           : NULL;
    if (engine == NULL) {
        parsed = cidr_parse(&networks, &rules);
        report->entries = networks.count;
    } else {
        expressions = expr_parse(engine, &rules);
        parsed = expressions != NULL;
        report->entries = parsed ? expr_count(expressions) : 0;
    }
    if (!parsed)
        snprintf(report->text, sizeof report->text,
                 "%.200s: more rules than there is memory for; expected fewer of them, or more "
                 "memory for this process",
                 source->file >= 0 ? source->name : "the table's name");
    return parsed;
}

static void answer_network(struct slice key)
{
    struct slice result = {"", 0};
    bool found = cidr_find(&networks, key, &result);

    agent_answer(found ? ANSWER_FOUND : ANSWER_NOT_FOUND, result, NULL);
}

/* A rule has taken all its time. POSIX matching cannot be left without leaving its locks and its
 * memory in disorder, so the process ends with this answer, and another takes its place. */
static void answer_too_slow(void)
{
    struct rule_place place;
    char why[400];

    snprintf(
        why, sizeof why,
        "%s: this key takes longer than timeout says; until the rule is another, such keys get "
        "a temporary error",
        expr_at(expressions, &place));
    if (engine->restarts)
        expr_clear(expressions);
    agent_cannot(why);
    if (!engine->restarts)
        _exit(EXIT_SUCCESS);
}

static enum expr_found find_in_time(const struct agent_query *query, struct slice *value)
{
    enum expr_found found;

    limit_begin();
    found = expr_find(expressions, query->key, !(query->flags & PM_FLAG_NO_REGSUB), BRIDGE_DATA_MAX,
                      value);
    limit.running = 0;
    return found;
}

static void ask(const struct agent_query *query)
{
    static struct slice value;

    if (engine == NULL) {
        answer_network(query->key);
        return;
    }
    if (sigsetjmp(limit.left, 0) != 0) {
        answer_too_slow();
        return;
    }
    value = (struct slice){"", 0};
    switch (find_in_time(query, &value)) {
    case EXPR_FAILS:
        agent_cannot(value.ptr);
        break;
    case EXPR_FOUND:
        agent_answer(ANSWER_FOUND, value, NULL);
        break;
    case EXPR_NOT_FOUND:
        agent_answer(ANSWER_NOT_FOUND, value, NULL);
        break;
    }
}

int main(void)
{
    static const struct agent_backend backend = {
        .profile = &profile_agent_pattern, .enter = catch_alarm, .prepare = prepare, .ask = ask};

    return agent_main(&backend);
}
