/*
 * jailmap-agent-mysql: answers mysql: tables by libmariadb, without waiting. Started by the
 * monitor, several for each table, as an unprivileged user, outside the chroot because the library
 * is shared code that may read certificates. It may read what its configuration names, and talk
 * over sockets that its dialer has connected; it must never hand a file to a server, or its
 * password in clear but over TLS or a UNIX socket, whatever the server asks for.
 */
#include <mariadb/mysql.h>
#include <mariadb/mysqld_error.h>
#include <mariadb/errmsg.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/agent/sql/sql.h"
#include "server/agent/sql/sql_files.h"

/* Those that do not send the password as it is. The last two are loaded from libmariadb's
 * directory, if they are installed. */
#define AUTHENTICATION "mysql_native_password,caching_sha2_password,client_ed25519"
/* MYSQL_CLIENT_AUTHENTICATION_PLUGIN, whose header needs one that is not found where it is. */
#define AUTHENTICATION_PLUGIN         2
#define ER_CLIENT_INTERACTION_TIMEOUT 4031 /* MySQL's, when a connection has idled too long */

static const char *const loaded_plugins[] = {"caching_sha2_password", "client_ed25519"};

static const char *user, *password, *database, *charset;
static const char *option_file, *option_group;
static const char *tls_key, *tls_cert, *tls_ca, *tls_ca_path, *tls_ciphers;
static bool tls, tls_verify, need_result;

static MYSQL handle;
static MYSQL *db;             /* &handle, or NULL */
static const char *complaint; /* of ours, where the library has none */

/* The call under way, and what it returned. */
static enum { CONNECT, SEND, SENT, QUERY, FETCH, NEXT } call;
static MYSQL *connected;
static int rc;
static my_bool bad; /* the same of SENT and QUERY */
static MYSQL_ROW row;
static MYSQL_RES *result;
static unsigned results; /* of this query */

static const char *why(void)
{
    /* The library names it from memory that has other uses by then. */
    if (complaint == NULL && db != NULL && mysql_errno(db) == CR_PLUGIN_NOT_ALLOWED)
        return "the server asks for an authentication that is not done here; one of " AUTHENTICATION
               " is expected";
    return complaint != NULL ? complaint : db != NULL ? mysql_error(db) : "out of memory";
}

/* What ends the connection, and what only the query. */
static enum sql_step failed(void)
{
    unsigned error = mysql_errno(db);

    switch (error) {
    case ER_SERVER_SHUTDOWN:
    case ER_NORMAL_SHUTDOWN:
    case ER_ABORTING_CONNECTION:
    case ER_NEW_ABORTING_CONNECTION:
    case ER_CONNECTION_KILLED:
    case ER_CLIENT_INTERACTION_TIMEOUT:
        return SQL_LOST;
    default: /* the library's own errors */
        return (error >= CR_MIN_ERROR && error <= CR_MAX_ERROR) || IS_MARIADB_ERROR(error)
                   ? SQL_LOST
                   : SQL_REJECTED;
    }
}

static enum sql_step finished(void)
{
    if (results > 1)
        complaint = "the query has more than one result set; one is expected";
    else if (results == 0 && need_result)
        complaint = "the query has no result set; a SELECT is expected, or require_result_set = no";
    return complaint != NULL ? SQL_REJECTED : SQL_DONE;
}

/* More results, or the end. */
static enum sql_step next_result(int *status)
{
    if (!mysql_more_results(db))
        return finished();
    call = NEXT;
    *status = mysql_next_result_start(&rc, db);
    return SQL_WAIT;
}

static enum sql_step begin_result(int *status)
{
    result = mysql_use_result(db);
    if (result == NULL)
        return mysql_errno(db) != 0 ? failed() : next_result(status);
    results++;
    call = FETCH;
    *status = mysql_fetch_row_start(&row, result);
    return SQL_WAIT;
}

static enum sql_step take_row(int *status)
{
    const unsigned long *len = row != NULL ? mysql_fetch_lengths(result) : NULL;

    if (row == NULL) {
        if (mysql_errno(db) != 0)
            return failed();
        mysql_free_result(result);
        result = NULL;
        return next_result(status);
    }
    for (unsigned i = 0; results == 1 && i < mysql_num_fields(result); i++)
        if (!sql_value((struct slice){row[i], row[i] != NULL ? len[i] : 0}))
            return SQL_CANNOT;
    *status = mysql_fetch_row_start(&row, result);
    return SQL_WAIT;
}

/* The call has ended: begins the next. */
static enum sql_step ended(int *status)
{
    switch (call) {
    case CONNECT:
        return connected != NULL ? SQL_DONE : SQL_LOST;
    case SEND: /* the server takes a moment: it is not asked for its answer before there is one */
        if (rc != 0)
            return failed();
        call = SENT;
        *status = MYSQL_WAIT_READ;
        return SQL_WAIT;
    case SENT:
    case QUERY:
        return bad ? failed() : begin_result(status);
    case FETCH:
        return take_row(status);
    case NEXT:
        return rc > 0 ? failed() : rc < 0 ? finished() : begin_result(status);
    }
    return SQL_LOST;
}

/* Goes on until there is something to wait for. status: of a call that began or went on. */
static enum sql_step advance(int status, struct sql_io *io)
{
    enum sql_step step = SQL_WAIT;

    while (status == 0 && step == SQL_WAIT)
        step = ended(&status);
    io->fd = (int)mysql_get_socket(db);
    io->events = (short)(((status & MYSQL_WAIT_READ) ? POLLIN : 0) |
                         ((status & MYSQL_WAIT_WRITE) ? POLLOUT : 0) |
                         ((status & MYSQL_WAIT_EXCEPT) ? POLLPRI : 0));
    return step;
}

static int go_on(int status)
{
    switch (call) {
    case CONNECT:
        return mysql_real_connect_cont(&connected, db, status);
    case SEND:
        return mysql_send_query_cont(&rc, db, status);
    case SENT:
        call = QUERY;
        return mysql_read_query_result_start(&bad, db);
    case QUERY:
        return mysql_read_query_result_cont(&bad, db, status);
    case FETCH:
        return mysql_fetch_row_cont(&row, result, status);
    case NEXT:
        return mysql_next_result_cont(&rc, db, status);
    }
    return 0;
}

static enum sql_step go(short revents, struct sql_io *io)
{
    /* The end of a connection is for the library to read. */
    int status = ((revents & (POLLIN | POLLHUP | POLLERR)) ? MYSQL_WAIT_READ : 0) |
                 ((revents & (POLLOUT | POLLHUP | POLLERR)) ? MYSQL_WAIT_WRITE : 0) |
                 ((revents & POLLPRI) ? MYSQL_WAIT_EXCEPT : 0);

    return advance(go_on(status), io);
}

static void set_options(const struct host *host)
{
    const unsigned protocol = host->kind == HOST_UNIX ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    const unsigned no = 0;
    const my_bool yes = 1;

    if (option_file[0] != '\0')
        mysql_options(db, MYSQL_READ_DEFAULT_FILE, option_file);
    if (option_file[0] != '\0' && option_group[0] != '\0')
        mysql_options(db, MYSQL_READ_DEFAULT_GROUP, option_group);
    mysql_options(db, MYSQL_OPT_NONBLOCK, NULL);
    mysql_options(db, MYSQL_OPT_LOCAL_INFILE, &no);
    mysql_options(db, MARIADB_OPT_RESTRICTED_AUTH, AUTHENTICATION);
    mysql_options(db, MYSQL_OPT_PROTOCOL, &protocol);
    mysql_options(db, MYSQL_SET_CHARSET_NAME, charset);
    if (!tls)
        return;
    mysql_ssl_set(db, tls_key, tls_cert, tls_ca, tls_ca_path, tls_ciphers);
    if (tls_verify)
        mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
    if (host->kind == HOST_INET)
        mysql_options(db, MYSQL_OPT_SSL_ENFORCE, &yes);
}

static enum sql_step begin_connect(const struct host *host, struct sql_io *io)
{
    bool local = host->kind == HOST_UNIX;

    complaint = NULL;
    db = mysql_init(&handle);
    if (db == NULL)
        return SQL_LOST;
    set_options(host);
    call = CONNECT;
    return advance(mysql_real_connect_start(&connected, db, local ? NULL : host->where, user,
                                            password, database,
                                            (unsigned)strtoul(host->port, NULL, 10),
                                            local ? host->where : NULL, CLIENT_MULTI_RESULTS),
                   io);
}

static enum sql_step begin_query(struct slice sql, struct sql_io *io)
{
    complaint = NULL;
    results = 0;
    sql_result();
    call = SEND;
    return advance(mysql_send_query_start(&rc, db, sql.ptr, sql.len), io);
}

/* Servers say nothing unasked but that they close the connection. */
static bool idle(void)
{
    return false;
}

static void end_connection(bool polite)
{
    if (db == NULL)
        return;
    /* Nothing that is under way or that closing does has anything to wait for then. */
    if (!polite && mysql_get_socket(db) >= 0)
        shutdown((int)mysql_get_socket(db), SHUT_RDWR);
    if (result != NULL)
        mysql_free_result(result);
    result = NULL;
    mysql_close(db);
    db = NULL;
}

static bool quote(void *arg, struct slice in, struct text *out)
{
    unsigned long len;

    (void)arg;
    if (text_reserve(out, in.len * 2 + 1) != 0)
        return false;
    len = mysql_real_escape_string(db, out->ptr + out->len, in.ptr, in.len);
    if (len == (unsigned long)-1)
        return false;
    out->len += len;
    return true;
}

static bool read_files(struct params *params)
{
    tls_key = params_text(params, "tls_key_file", "");
    tls_cert = params_text(params, "tls_cert_file", "");
    tls_ca = params_text(params, "tls_CAfile", "");
    tls_ca_path = params_text(params, "tls_CApath", "");
    option_file = params_text(params, "option_file", "");
    option_group = params_text(params, "option_group", "client");
    return sql_files_grant(params, "tls_key_file", tls_key) &&
           sql_files_grant(params, "tls_cert_file", tls_cert) &&
           sql_files_grant(params, "tls_CAfile", tls_ca) &&
           sql_files_grant(params, "tls_CApath", tls_ca_path) &&
           sql_files_grant(params, "option_file", option_file);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static bool read_parameters(struct params *params)
{
    user = or_null(params_text(params, "user", ""));
    password = or_null(params_text(params, "password", ""));
    charset = params_text(params, "charset", "utf8mb4");
    tls_ciphers = params_text(params, "tls_ciphers", "");
    if (!params_need(params, "dbname", "the name of a database", &database) ||
        !params_yes(params, "require_result_set", true, &need_result) ||
        !params_yes(params, "tls_verify_cert", false, &tls_verify) || !read_files(params))
        return false;
    if (mariadb_get_charset_by_name(charset) == NULL)
        return params_fail(params, "charset",
                           "libmariadb has no such character set; one like utf8mb4 is expected");
    tls = tls_key[0] != '\0' || tls_cert[0] != '\0' || tls_ca[0] != '\0' ||
          tls_ca_path[0] != '\0' || tls_ciphers[0] != '\0' || tls_verify;
    tls_key = or_null(tls_key);
    tls_cert = or_null(tls_cert);
    tls_ca = or_null(tls_ca);
    tls_ca_path = or_null(tls_ca_path);
    tls_ciphers = or_null(tls_ciphers);
    return true;
}

/* Authentication plugins are code in files, and so is what openssl.cnf may name. */
static void begin(void)
{
    MYSQL *any;

    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL);
    mysql_library_init(0, NULL, NULL);
    any = mysql_init(NULL);
    for (size_t i = 0; any != NULL && i < sizeof loaded_plugins / sizeof loaded_plugins[0]; i++)
        mysql_client_find_plugin(any, loaded_plugins[i], AUTHENTICATION_PLUGIN);
    if (any != NULL)
        mysql_close(any);
}

int main(void)
{
    static const struct host_rules rules = {.port = "3306", .local = "/run/mysqld/mysqld.sock"};
    static const struct sql_library mysql = {.name = "mysql",
                                             .type = TYPE_MYSQL,
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

    return sql_main(&mysql, &profile_agent_mysql);
}
