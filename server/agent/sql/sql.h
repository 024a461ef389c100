/*
 * One connection to one of the servers of a database table, and one query at a time over it: what
 * jailmap-agent-mysql and -pgsql have in common. The libraries never wait: each call of theirs does
 * what can be done at once and tells what to wait for.
 */
#ifndef JAILMAP_SERVER_AGENT_SQL_H
#define JAILMAP_SERVER_AGENT_SQL_H

#include "server/agent/agent.h"
#include "server/agent/sql/hosts.h"
#include "server/agent/query/params.h"
#include "server/agent/query/plan.h"

enum sql_step {
    SQL_WAIT,  /* for what io says; then go() */
    SQL_DONE,  /* it is connected, or all values of the result have been handed over */
    SQL_LOST,  /* there is no connection; why() says why */
    SQL_AGAIN, /* of connect() and what follows it: another connection to the same host, please */
    SQL_REJECTED, /* the server does not do this query; why() says why. The connection is good */
    SQL_CANNOT    /* sql_value() has said false. The connection is to be closed */
};

/* Events of poll(2) on one descriptor. */
struct sql_io {
    int fd;
    short events;
};

struct sql_library {
    const char *name; /* for messages */
    enum table_type type;
    const struct host_rules *hosts;
    /* Once, before there is a filter: what a library does at its start. */
    void (*begin)(void);
    /* Its own parameters, good for the life of the process. False: as the getters of params. */
    bool (*read)(struct params *params);
    enum sql_step (*connect)(const struct host *host, struct sql_io *io);
    enum sql_step (*query)(struct slice sql, struct sql_io *io);
    /* The events have come. */
    enum sql_step (*go)(short revents, struct sql_io *io);
    /* Something has come that was not asked for. False: the connection is of no use any more. */
    bool (*idle)(void);
    /* Also of no connection. polite: tells the server, which is expected to read it. */
    void (*close)(bool polite);
    /* Only while connected. arg is a bool, to be set if the encoding has no such bytes: then no
     * entry can have such a key. */
    plan_quote *quote;
    const char *(*why)(void);
};

/* Runs the agent; returns the exit status. */
int sql_main(const struct sql_library *library, const struct profile *profile);

/* For the library: a result begins, and what came before it does not count. */
void sql_result(void);
/* A value of it; as plan_value(). False: the rest is not to be read: SQL_CANNOT. */
bool sql_value(struct slice value);

#endif
