/*
 * Log lines of the monitor. Runs in jailmapd only, with privilege. It may hand lines to the scribe;
 * it must never wait for it, nor let one sender fill the log.
 */
#ifndef JAILMAP_PRIVSEP_LOG_H
#define JAILMAP_PRIVSEP_LOG_H

#include <stdbool.h>
#include <stdint.h>

void log_start(bool to_standard_error);
/* Writes one line of an error itself, as there is no scribe: before it starts, and at the very end.
 */
void log_directly(const char *text);
/* Connects to syslogd anew. */
void log_reopen(void);
void log_tick(uint64_t now, uint64_t *next);
/* Composes one record and hands it to the scribe. Text from outside goes through policy_escape().
 */
__attribute__((format(printf, 2, 3))) void log_line(int level, const char *format, ...);

/* At most a few lines of one kind in an interval; what was held back is counted. */
struct log_limit {
    uint64_t until; /* of the interval; 0: none has begun */
    unsigned count, held;
};
/* True if a line may be written; else it is counted. */
bool log_allow(struct log_limit *limit);
/* Ends an interval that is over at now, and says how many lines it held back: "3 more", and what
 * these words say. Returns when the present one ends; NEVER: there is none. */
__attribute__((format(printf, 4, 5))) uint64_t log_left_out(struct log_limit *limit, uint64_t now,
                                                            int level, const char *format, ...);

#endif
