/*
 * What the monitor and its launchers agree on. Read by jailmapd and jailmap-launcher. Holds no
 * code.
 */
#ifndef JAILMAP_PRIVSEP_LAUNCH_H
#define JAILMAP_PRIVSEP_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

/* The programs in libexec-dir. */
enum helper {
    HELPER_WORKER,
    HELPER_LOADER,
    HELPER_SCRIBE,
    HELPER_CENSUS,
    HELPER_AGENT_PATTERN,
    HELPER_AGENT_SQLITE,
    HELPER_AGENT_NET,
    HELPER_AGENT_NSS, /* this and those below it run outside the jail */
    HELPER_AGENT_MYSQL,
    HELPER_AGENT_PGSQL,
    HELPER_DIALER,
    HELPER_READER,
    HELPER_LAUNCHER,
    HELPERS
};

/* A launcher's descriptors besides its bridge and its own program: its jail, if it has one, and
 * from LAUNCH_PROGRAMS on the helpers that it may start, each in the place of its number. */
#define LAUNCH_JAIL     5
#define LAUNCH_PROGRAMS 6

/* Limits of a child: numbers, bytes, bytes of private memory, seconds. A file_size of 0 means that
 * it writes no file. */
struct spawn {
    uint64_t file_size, memory, cpu_seconds;
    uint32_t descriptors;
    bool background; /* its work may wait for everybody else's */
};
#define SPAWN_UNLIMITED UINT64_MAX

/* A child that cannot be made ready for its program ends with this and the number of the step, and
 * runs nothing. */
#define SPAWN_EXIT 100

#endif
