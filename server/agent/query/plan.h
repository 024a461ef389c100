/*
 * What SQL tables have in common: how a key becomes a query, and what the database returns becomes
 * an answer, by the parameters query, result_format, domain, expansion_limit and their like. Runs
 * in the SQL agents. Touches its own memory only. The key is put into a query through the back
 * end's quoting, always; it must never get there in another way.
 */
#ifndef JAILMAP_SERVER_AGENT_QUERY_PLAN_H
#define JAILMAP_SERVER_AGENT_QUERY_PLAN_H

#include <stdbool.h>

#include "policy/table_type.h"
#include "server/agent/query/params.h"
#include "server/text.h"

#define PLAN_SQL_MAX (1024u * 1024) /* bytes of a query */

struct plan;

/*
 * Reads its parameters, those of the older way to say a query among them. type: TYPE_MYSQL,
 * TYPE_PGSQL (which alone has select_function) or TYPE_SQLITE. NULL: the report of params says why.
 */
struct plan *plan_read(struct params *params, enum table_type type);
void plan_free(struct plan *plan);

/* Appends in to out (text_append(), text_reserve()), safe between single quotes. False: it cannot.
 */
typedef bool plan_quote(void *arg, struct slice in, struct text *out);

enum plan_verdict {
    PLAN_ASK,       /* the database */
    PLAN_FOUND,     /* plan_finish() only */
    PLAN_NOT_FOUND, /* there is nothing to ask, or nothing came */
    PLAN_CANNOT     /* no answer for this key: agent_cannot(plan_why()) */
};

/*
 * The query for that key. PLAN_ASK, PLAN_NOT_FOUND, or PLAN_CANNOT. *sql is a string that ends in a
 * NUL behind its length. It, and what the following calls keep, is good until the next
 * plan_query(), which also forgets the values of the one before. The key need not stay.
 */
enum plan_verdict plan_query(struct plan *plan, struct slice key, plan_quote *quote, void *arg,
                             struct slice *sql);

/*
 * The query with 1 in place of each expansion, for a test that the database understands it. Only if
 * plan_is_quoted(): else what it means depends on the key, and such a test says little. PLAN_ASK or
 * PLAN_CANNOT.
 */
enum plan_verdict plan_probe(struct plan *plan, struct slice *sql);

/* Does each expansion in the query stand between single quotes? */
bool plan_is_quoted(const struct plan *plan);

/* The parameter that holds the query, for messages. */
const char *plan_query_name(const struct plan *plan);

/* A value of the result, in the order of rows and, in these, of columns; .ptr NULL for an SQL NULL.
 * Values end at a NUL byte. False: PLAN_CANNOT; the rest of the result is of no use. */
bool plan_value(struct plan *plan, struct slice value);

/* After the last value: PLAN_FOUND with *answer, which is good until the next plan_query(),
 * PLAN_NOT_FOUND, or PLAN_CANNOT, as plan_value() said. */
enum plan_verdict plan_finish(struct plan *plan, struct slice *answer);

/* After PLAN_CANNOT: why, for the log. */
const char *plan_why(const struct plan *plan);

/* To begin anew with the same key, when a connection was lost on the way: forgets the values. */
void plan_begin(struct plan *plan);

#endif
