/*
 * jailmap-agent-sqlite: answers sqlite tables. Started by the monitor, several for each table, as
 * an unprivileged user, in the jail. It gets the table's configuration file, its database and what
 * SQLite keeps beside that as descriptors, reads them once, and has nothing but memory from then
 * on. It must never take an error for "not found".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/agent/agent.h"
#include "server/agent/query/params.h"
#include "server/agent/query/plan.h"
#include "server/agent/sqlite/sqlite_open.h"
#include "server/fold.h"

#define PROGRESS_STEPS 1000 /* of SQLite's machine, between two looks at the clock */

static const struct agent_source *source;
static sqlite3 *db;
static struct plan *plan;
static uint64_t deadline;

/* The frame puts a NUL behind the last of both. */
static const char *database_path(void)
{
    return source->name + strlen(source->name) + 1;
}

/* ---- the source ---- */

static bool check_path(struct params *params)
{
    const char *path;

    if (!params_need(params, "dbpath", "the path of a database", &path))
        return false;
    return strcmp(path, database_path()) == 0 ||
           params_fail(params, "dbpath",
                       "jailmapd.conf says database = %.200s; both must name the same file",
                       database_path());
}

static bool open_database(struct params *params)
{
    char why[200];

    return sqlite_open(source, &db, why, sizeof why) || params_fail(params, "dbpath", "it %s", why);
}

static sqlite3_stmt *prepare_query(struct slice sql)
{
    sqlite3_stmt *query = NULL;

    return sqlite3_prepare_v2(db, sql.ptr, (int)sql.len + 1, &query, NULL) == SQLITE_OK ? query
                                                                                        : NULL;
}

/* What SQLite says of a query, which may quote it. */
static const char *message(struct text_quoted *text)
{
    const char *said =
        sqlite3_errcode(db) == SQLITE_OK ? "there is no statement in it" : sqlite3_errmsg(db);

    return text_quote(text, (struct slice){said, strlen(said)});
}

/* What a database cannot make sense of is found out now, and not by somebody's mail. */
static bool try_query(struct params *params)
{
    struct text_quoted text;
    sqlite3_stmt *query;
    struct slice sql;

    if (!plan_is_quoted(plan))
        return true;
    if (plan_probe(plan, &sql) != PLAN_ASK)
        return params_fail(params, plan_query_name(plan), "%s", plan_why(plan));
    query = prepare_query(sql);
    if (query == NULL)
        return params_fail(params, plan_query_name(plan),
                           "SQLite says: %s; a SELECT statement is expected", message(&text));
    sqlite3_finalize(query);
    return true;
}

static bool prepare(const struct agent_source *given, struct agent_report *report)
{
    struct params *params;
    bool good;

    source = given;
    params = params_read(source->name, source->file, report);
    if (params == NULL)
        return false;
    good = check_path(params) && (plan = plan_read(params, TYPE_SQLITE)) != NULL &&
           open_database(params) && try_query(params);
    if (good)
        params_finish(params);
    params_free(params);
    return good;
}

/* ---- queries ---- */

/* As printf's %q of SQLite. */
static bool quote(void *arg, struct slice in, struct text *out)
{
    static const struct slice two = SLICE("''");
    size_t plain;

    (void)arg;
    for (; in.len > 0; in.ptr += plain, in.len -= plain) {
        const char *found = memchr(in.ptr, '\'', in.len);

        plain = found != NULL ? (size_t)(found - in.ptr) : in.len;
        if (text_append(out, (struct slice){in.ptr, plain}) != 0 ||
            (found != NULL && text_append(out, two) != 0))
            return false;
        plain += found != NULL;
    }
    return true;
}

static int is_late(void *arg)
{
    (void)arg;
    return agent_now() >= deadline;
}

/* After an error of a query that the database understands with another key. */
static void answer_error(int rc)
{
    struct text_quoted text;
    char why[256];

    if (rc == SQLITE_INTERRUPT) {
        agent_cannot("its query takes longer than timeout says");
        return;
    }
    snprintf(why, sizeof why, "SQLite says: %s", message(&text));
    if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
        agent_answer(ANSWER_RETRY, (struct slice){"", 0}, why);
    else
        agent_cannot(why);
}

/* The first column counts. False: there is no memory for the text of a value. */
static bool take_row(sqlite3_stmt *query, bool *good)
{
    const char *text = (const char *)sqlite3_column_text(query, 0);

    if (text == NULL && sqlite3_column_type(query, 0) != SQLITE_NULL)
        return false;
    *good = plan_value(
        plan, (struct slice){text, text != NULL ? (size_t)sqlite3_column_bytes(query, 0) : 0});
    return true;
}

static void answer_plan(void)
{
    struct slice value = {"", 0};

    switch (plan_finish(plan, &value)) {
    case PLAN_FOUND:
        agent_answer(ANSWER_FOUND, value, NULL);
        break;
    case PLAN_NOT_FOUND:
        agent_answer(ANSWER_NOT_FOUND, value, NULL);
        break;
    default:
        agent_cannot(plan_why(plan));
    }
}

static void run_query(struct slice sql)
{
    sqlite3_stmt *query = prepare_query(sql);
    bool good = true;
    int rc;

    if (query == NULL) {
        answer_error(sqlite3_errcode(db));
        return;
    }
    while ((rc = sqlite3_step(query)) == SQLITE_ROW && good)
        if (!take_row(query, &good)) {
            rc = SQLITE_NOMEM;
            break;
        }
    if (rc == SQLITE_DONE || !good)
        answer_plan();
    else
        answer_error(rc);
    sqlite3_finalize(query);
}

static void ask(const struct agent_query *asked)
{
    struct slice sql, none = {"", 0};
    enum plan_verdict verdict = PLAN_NOT_FOUND;

    if (is_utf8(asked->key))
        verdict = plan_query(plan, asked->key, quote, NULL, &sql);
    if (verdict == PLAN_NOT_FOUND) {
        agent_answer(ANSWER_NOT_FOUND, none, NULL);
    } else if (verdict == PLAN_CANNOT) {
        agent_cannot(plan_why(plan));
    } else {
        deadline = agent_now() + source->timeout * UINT64_C(1000);
        sqlite3_progress_handler(db, PROGRESS_STEPS, is_late, NULL);
        alarm(source->timeout + 1);
        run_query(sql);
        alarm(0);
    }
}

static const char *enter(void)
{
    /* One function of SQLite, such as LIKE, can go on for ages without asking whether it is late.
     */
    if (!sqlite_begin() ||
        !agent_end_at_alarm(EVENT_CANNOT, "its query takes longer than timeout says, in one step"))
        exit(EXIT_FAILURE);
    return NULL;
}

int main(void)
{
    static const struct agent_backend sqlite = {
        .profile = &profile_agent_sqlite, .enter = enter, .prepare = prepare, .ask = ask};

    return agent_main(&sqlite);
}
