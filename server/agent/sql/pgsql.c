/*
 * jailmap-agent-pgsql: answers pgsql: tables by libpq, without waiting. Started by the monitor,
 * several for each table, as an unprivileged user, outside the chroot because the library is shared
 * code that may read certificates. It may read what its configuration names, and talk over sockets
 * that its dialer has connected; it must never let libpq look for files, hosts or names of users by
 * itself.
 */
#include <postgresql/libpq-fe.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/agent/sql/sql.h"
#include "server/agent/sql/sql_files.h"
#include "server/agent/sql/stand_in.h"

#define OPTIONS_MAX 12
#define SOCKETS     "/var/run/postgresql" /* Debian's, of a URI that names no host */

static const struct host_rules rules;
static const char *user, *password, *database, *encoding;
static struct params *parameters; /* while hosts are read */

static PGconn *db;
static const struct host *host;
static bool plain; /* without TLS, since the server refuses it, and libpq's default allows that */
static enum { CONNECT, FLUSH, READ } call;
static bool first_row, rejected;
static char complaint[400];

/* ---- connection ---- */

/* Its first part names an address that was made up; what follows does not. */
static void complain(const char *text)
{
    const char *failed = strstr(text, " failed: ");

    if (strncmp(text, "connection to server ", 21) == 0 && failed != NULL)
        text = failed + 9;
    snprintf(complaint, sizeof complaint, "%s", *text != '\0' ? text : "no reason was given");
}

static const char *why(void)
{
    return complaint;
}

static enum sql_step lost(void)
{
    complain(db != NULL ? PQerrorMessage(db) : "out of memory");
    return SQL_LOST;
}

static void ignore_notice(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

static enum sql_step wait_to(short events, struct sql_io *io)
{
    *io = (struct sql_io){PQsocket(db), events};
    return SQL_WAIT;
}

/* With sslmode = prefer, which is the default, libpq connects a second time, and in clear, where
 * the server or its rules do not want TLS. */
static enum sql_step not_connected(void)
{
    if (!stand_in_wanted() || plain)
        return lost();
    plain = true;
    return SQL_AGAIN;
}

static enum sql_step poll_connection(struct sql_io *io)
{
    switch (PQconnectPoll(db)) {
    case PGRES_POLLING_READING:
        return wait_to(POLLIN, io);
    case PGRES_POLLING_WRITING:
        return wait_to(POLLOUT, io);
    case PGRES_POLLING_OK:
        *io = (struct sql_io){PQsocket(db), 0};
        plain = false;
        return PQsetnonblocking(db, 1) == 0 ? SQL_DONE : lost();
    default:
        return not_connected();
    }
}

struct options {
    const char *keyword[OPTIONS_MAX + 1], *value[OPTIONS_MAX + 1];
    unsigned count;
};

static void set(struct options *options, const char *keyword, const char *value)
{
    options->keyword[options->count] = keyword;
    options->value[options->count++] = value;
}

static enum sql_step begin_connect(const struct host *given, struct sql_io *io)
{
    struct options options = {.count = 0};

    if (given != host)
        plain = false;
    host = given;
    set(&options, "dbname", host->uri != NULL ? host->uri : database);
    set(&options, "host", host->where);
    set(&options, "port", host->port);
    if (host->uri == NULL)
        set(&options, "user", user);
    if (host->uri == NULL)
        set(&options, "password", password);
    set(&options, "client_encoding", encoding);
    set(&options, "gssencmode", "disable"); /* Kerberos reads files, and asks for hosts */
    if (plain)
        set(&options, "sslmode", "disable");
    db = PQconnectStartParams(options.keyword, options.value, host->uri != NULL);
    if (db == NULL || PQstatus(db) == CONNECTION_BAD)
        return lost();
    PQsetNoticeProcessor(db, ignore_notice, NULL);
    call = CONNECT;
    return wait_to(POLLOUT, io);
}

static void end_connection(bool polite)
{
    if (db == NULL)
        return;
    if (!polite && PQsocket(db) >= 0)
        shutdown(PQsocket(db), SHUT_RDWR);
    PQfinish(db);
    db = NULL;
}

/* Notices and changed parameters are read and forgotten. */
static bool idle(void)
{
    return PQconsumeInput(db) == 1 && PQisBusy(db) == 0 && PQstatus(db) == CONNECTION_OK;
}

/* ---- query ---- */

static bool take_values(const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++) {
            bool null = PQgetisnull(result, row, column) == 1;
            struct slice value = {null ? NULL : PQgetvalue(result, row, column),
                                  null ? 0 : (size_t)PQgetlength(result, row, column)};

            if (!sql_value(value))
                return false;
        }
    return true;
}

/* Of several statements the last one's result counts. */
static enum sql_step take_result(const PGresult *result)
{
    const char *code;

    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
        if (first_row)
            sql_result();
        first_row = false;
        return take_values(result) ? SQL_WAIT : SQL_CANNOT;
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        if (first_row)
            sql_result();
        first_row = true;
        return SQL_WAIT;
    case PGRES_FATAL_ERROR:
        complain(PQresultErrorMessage(result));
        code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        rejected = true;
        /* 08: connection; 57P: the server ends it */
        return code == NULL || strncmp(code, "08", 2) == 0 || strncmp(code, "57P", 3) == 0
                   ? SQL_LOST
                   : SQL_WAIT;
    default:
        complain("the query is no query: COPY, perhaps; a SELECT is expected");
        return SQL_LOST;
    }
}

static enum sql_step read_results(struct sql_io *io)
{
    enum sql_step step = SQL_WAIT;

    if (PQconsumeInput(db) != 1)
        return lost();
    while (step == SQL_WAIT && PQisBusy(db) == 0) {
        PGresult *result = PQgetResult(db);

        step = result != NULL ? take_result(result) : rejected ? SQL_REJECTED : SQL_DONE;
        PQclear(result);
    }
    return step != SQL_WAIT ? step : wait_to(POLLIN, io);
}

static enum sql_step flush(struct sql_io *io)
{
    int left = PQflush(db);

    if (left < 0)
        return lost();
    if (left > 0)
        return wait_to(POLLIN | POLLOUT, io);
    call = READ;
    return wait_to(POLLIN, io);
}

static enum sql_step begin_query(struct slice sql, struct sql_io *io)
{
    first_row = true;
    rejected = false;
    sql_result();
    call = FLUSH;
    /* Row by row: a result has no limit, and an answer has one. */
    if (PQsendQuery(db, sql.ptr) != 1 || PQsetSingleRowMode(db) != 1)
        return lost();
    return flush(io);
}

static enum sql_step go(short revents, struct sql_io *io)
{
    if (call == CONNECT)
        return poll_connection(io);
    if (call == READ)
        return read_results(io);
    /* The server may have to be read before it takes the rest. */
    if ((revents & POLLIN) && PQconsumeInput(db) != 1)
        return lost();
    return flush(io);
}

static bool quote(void *arg, struct slice in, struct text *out)
{
    int error = 0;

    if (text_reserve(out, in.len * 2 + 1) != 0)
        return false;
    out->len += PQescapeStringConn(db, out->ptr + out->len, in.ptr, in.len, &error);
    if (error != 0)
        *(bool *)arg = true;
    return error == 0;
}

/* ---- parameters ---- */

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword != NULL; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val != NULL ? options->val : "";
    return "";
}

/* What libpq would read by itself, or would connect to, is granted or refused. */
static bool check_uri(const PQconninfoOption *options, char *reason, size_t len)
{
    static const char *const files[] = {"sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"};
    static const char *const refused[] = {"service", "passfile", "hostaddr"};

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (option(options, refused[i])[0] != '\0') {
            snprintf(reason, len,
                     "%s in a URI is not supported; HOST, PORT, user, password and "
                     "dbname in the URI are expected",
                     refused[i]);
            return false;
        }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (!sql_files_grant(parameters, "hosts", option(options, files[i]))) {
            snprintf(reason, len, "the file that %s names cannot be opened", files[i]);
            return false;
        }
    return true;
}

/* One URI may name several hosts, and as many ports, or one for all. */
static bool add_hosts(struct hosts *hosts, const PQconninfoOption *options, const char *uri,
                      char *reason, size_t len)
{
    char *names = strdup(option(options, "host")), *ports = strdup(option(options, "port"));
    char *next = names, *next_port = ports, *name, *port = ports;
    bool good = names != NULL && ports != NULL;

    if (!good)
        snprintf(reason, len, "out of memory");
    while (good && (name = strsep(&next, ",")) != NULL) {
        if (next_port != NULL)
            port = strsep(&next_port, ",");
        good = hosts_add_uri(hosts, &rules, *name != '\0' ? name : SOCKETS, port, uri, reason, len);
    }
    free(names);
    free(ports);
    return good;
}

static bool read_uri(struct hosts *hosts, const char *uri, char *reason, size_t len)
{
    char *error = NULL;
    PQconninfoOption *options = PQconninfoParse(uri, &error);
    bool good = options != NULL;

    PQfreemem(error); /* may hold what was meant to be the password */
    if (!good)
        snprintf(reason, len,
                 "a URI cannot be parsed; "
                 "postgresql://USER:PASSWORD@HOST:PORT/DATABASE is expected, "
                 "with %%XX for other characters");
    good = good && check_uri(options, reason, len) && add_hosts(hosts, options, uri, reason, len);
    PQconninfoFree(options);
    return good;
}

static bool read_parameters(struct params *params)
{
    parameters = params;
    user = params_text(params, "user", "");
    password = params_text(params, "password", "");
    database = params_text(params, "dbname", "");
    encoding = params_text(params, "encoding", "UTF8");
    if (pg_char_to_encoding(encoding) < 0)
        return params_fail(params, "encoding",
                           "libpq has no such encoding; one like UTF8 or LATIN1 is expected");
    if (database[0] == '\0' && strstr(params_text(params, "hosts", ""), "://") == NULL)
        return params_need(params, "dbname", "the name of a database", &database);
    return true;
}

/* What openssl.cnf names is read before there is a filter. */
static void begin(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL);
    PQinitOpenSSL(0, 0);
}

static const struct host_rules rules = {.port = "5432", .in = ".s.PGSQL.", .uri = read_uri};

int main(void)
{
    static const struct sql_library pgsql = {.name = "pgsql",
                                             .type = TYPE_PGSQL,
                                             .hosts = &rules,
                                             .begin = begin,
                                             .read = read_parameters,
                                             .connect = begin_connect,
                                             .query = begin_query,
                                             .go = go,
                                             .idle = idle,
                                             .close = end_connection,
                                             .quote = quote,
                                             .why = why};

    return sql_main(&pgsql, &profile_agent_pgsql);
}
