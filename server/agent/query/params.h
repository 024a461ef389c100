/*
 * The parameters of a database client's configuration file, such as mysql_table(5) describes:
 * `name = value` in Postfix's logical lines. Runs in the agents that have one, on bytes that may be
 * changing while they are read. It reads the descriptor that it is given, with pread(2), and
 * nothing else; it must never show the value of `password` or `hosts` to anyone but its caller.
 */
#ifndef JAILMAP_SERVER_AGENT_QUERY_PARAMS_H
#define JAILMAP_SERVER_AGENT_QUERY_PARAMS_H

#include <stdbool.h>

#include "server/agent/agent.h"

#define PARAMS_FILE_MAX (1024u * 1024) /* bytes */

struct params;

/*
 * Reads all of fd, whose name for messages is file; the name and the report are borrowed until
 * params_free(). NULL: report->text says why. Lines that mean nothing or are overridden are counted
 * in report->ignored, and the first is in report->text.
 */
struct params *params_read(const char *file, int fd, struct agent_report *report);
void params_free(struct params *params);

/*
 * Getters. Each name that is asked for counts as known to the table type. Texts are strings,
 * without white space at both ends, and good until params_free(). Those that return bool: false
 * means that the table fails, and why is in the report.
 */
bool params_given(struct params *params, const char *name);
const char *params_text(struct params *params, const char *name, const char *otherwise);
/* The parameter must be given, and not empty. what: "the path of a database", for the message. */
bool params_need(struct params *params, const char *name, const char *what, const char **value);
/* Decimal, from min to max. */
bool params_number(struct params *params, const char *name, unsigned otherwise, unsigned min,
                   unsigned max, unsigned *value);
bool params_yes(struct params *params, const char *name, bool otherwise, bool *value);

/*
 * Makes the table fail because of that parameter, which need not be given: the report says
 * "FILE:LINE: NAME = VALUE: ", and then the format, which is to tell what is expected. Returns
 * false, for the caller to return.
 */
bool params_fail(struct params *params, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Notes in the report what an administrator should know of a parameter, and goes on. */
void params_warn(struct params *params, const char *name, const char *why);

/* "FILE:LINE: NAME" of a parameter, for later messages. Cut at len; returns text. */
const char *params_place(struct params *params, const char *name, char *text, size_t len);

/* After the last getter: what nobody has asked for is noted in the report as ignored. */
void params_finish(struct params *params);

#endif
