/*
 * The files besides its configuration that a database library may read: certificates and the like,
 * as the parameters name them, and no others. Runs in jailmap-agent-mysql and -pgsql, after the
 * configuration was read, and before anything else is. It may open them by path, without reading.
 */
#ifndef JAILMAP_SERVER_AGENT_SQL_FILES_H
#define JAILMAP_SERVER_AGENT_SQL_FILES_H

#include <stdbool.h>

#include "server/agent/query/params.h"

#define SQL_FILES_MAX 16

/* The file, or the directory and all below it, may be read. False: params_fail() with that
 * parameter. An empty path is none. */
bool sql_files_grant(struct params *params, const char *parameter, const char *path);

/* Leaves the process able to read these and nothing else. False: with errno. True also where the
 * kernel has no Landlock. */
bool sql_files_enter(void);

/* Whether one has been replaced: the process cannot read the new one, but its successor can. */
bool sql_files_replaced(void);

#endif
