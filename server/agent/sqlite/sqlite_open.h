/*
 * Opening an SQLite database without a file system: from descriptors into memory, to be read only.
 * Runs in jailmap-agent-sqlite. What SQLite could do beyond answering queries from these bytes is
 * refused by its own means; the filter stands behind them.
 */
#ifndef JAILMAP_SERVER_AGENT_SQLITE_OPEN_H
#define JAILMAP_SERVER_AGENT_SQLITE_OPEN_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/agent/agent.h"

/* Sets the library up. Called once, first, and before the filter is entered. */
bool sqlite_begin(void);

/*
 * Reads the database of a source, with what its -wal file has committed, and opens that; no byte is
 * read again later. Refuses one whose -journal file tells of a transaction that was interrupted.
 * *db is never closed. False: why says what was found and what is expected.
 */
bool sqlite_open(const struct agent_source *source, sqlite3 **db, char *why, size_t len);

#endif
