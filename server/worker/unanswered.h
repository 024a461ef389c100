/*
 * How many queries a table's agents have and have not answered: a query whose client has gone is
 * still somebody's work. An agent that dies takes its query with it and nobody says so, so a query
 * counts for no longer than two to two and a half times the time that an answer may take. Runs in
 * the worker. Pure: touches its arguments only, and takes the same little memory for any number.
 */
#ifndef JAILMAP_SERVER_WORKER_UNANSWERED_H
#define JAILMAP_SERVER_WORKER_UNANSWERED_H

#include <stdint.h>

#define UNANSWERED_SPANS 5 /* each is half as long as an answer may take */

/* All zero: none. Queries are counted by the span of time in which they were asked; the first is
 * the present one. */
struct unanswered {
    uint64_t since; /* ms: the present span has begun */
    uint32_t count[UNANSWERED_SPANS];
    uint32_t first[UNANSWERED_SPANS]; /* serial of its first query, if it has one */
};

/* A query was asked; serials go up from one to the next, and wrap. Times in ms. */
void unanswered_ask(struct unanswered *u, uint32_t serial, uint64_t now, uint32_t timeout);
/* It has its answer. One that is not known any more is ignored. */
void unanswered_settle(struct unanswered *u, uint32_t serial);
uint32_t unanswered_count(struct unanswered *u, uint64_t now, uint32_t timeout);

#endif
