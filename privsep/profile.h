/*
 * System call filters. One profile for each program, one line for each system call with the caller
 * that needs it. Runs once in every process: in a child as its first act, before it has read a byte
 * from anyone but the monitor; in the monitor once its launchers run, before it starts anything
 * else and before it takes a client. A profile must never be widened at run time; filters cannot be
 * taken off.
 */
#ifndef JAILMAP_PRIVSEP_PROFILE_H
#define JAILMAP_PRIVSEP_PROFILE_H

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

struct profile_rule {
    int syscall;
    uint32_t action; /* 0: allow */
    unsigned nargs;
    struct scmp_arg_cmp args[2];
    const char *why; /* who needs it, for reports and reviewers */
};

/* Rules that profiles may share. */
struct profile_part {
    size_t count;
    const struct profile_rule *rules;
};
#define PROFILE_PART(array)                                                                        \
    {                                                                                              \
        sizeof(array) / sizeof(array)[0], (array)                                                  \
    }
#define PROFILE_PARTS 4

struct profile {
    const char *program; /* also becomes the process name */
    uint32_t otherwise;  /* action for what no rule names */
    struct profile_part parts[PROFILE_PARTS];
};

/* Of mmap: memory for malloc. Only what is mapped to be read may be a file. */
#define NOT_EXECUTABLE SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)
#define NO_FILE        SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS)

/* Of sendmsg and recvmsg: a process's own end of the bridge, and the flags of privsep/bridge.c. */
#define ON_BRIDGE SCMP_A0(SCMP_CMP_EQ, BRIDGE_FD, 0)
#define RECEIVING SCMP_A2(SCMP_CMP_EQ, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0)
#define SENDING   SCMP_A2(SCMP_CMP_EQ, MSG_DONTWAIT | MSG_NOSIGNAL, 0)

/* Descriptors to which the monitor's profile pins what it may read, and where it may write. They
 * stay open, and so does what is below them. */
enum monitor_fd {
    MONITOR_NULL = 3,
    MONITOR_SIGNALS = 4,
    MONITOR_INOTIFY = 5,
    MONITOR_RUNTIME = 6,
    MONITOR_LOOP = 7
};
/* The descriptor to which the worker's profile pins its loop. */
#define WORKER_LOOP 4
/* The same of an agent that makes no other descriptor before its filter is on, */
#define AGENT_LOOP 4
/* and the link of jailmap-agent-net to its dialer. */
#define NET_DIALER 5

extern const struct profile profile_monitor;
extern const struct profile profile_launcher;
extern const struct profile profile_anchor;
extern const struct profile profile_worker;
extern const struct profile profile_scribe;
extern const struct profile profile_census;
extern const struct profile profile_agent_nss;
extern const struct profile profile_agent_net;
extern const struct profile profile_dialer;
extern const struct profile profile_agent_pattern;
extern const struct profile profile_agent_sqlite;
extern const struct profile profile_agent_mysql;
extern const struct profile profile_agent_pgsql;
extern const struct profile profile_reader;

/* By what the source is read with. */
extern const struct profile profile_loader_db;
extern const struct profile profile_loader_cdb;
extern const struct profile profile_loader_lmdb;
extern const struct profile profile_loader_text;
extern const struct profile profile_loader_name; /* there is no source: the name says it all */

/* The filter of a profile, to be released by the caller; NULL: out of memory. */
scmp_filter_ctx profile_build(const struct profile *profile);

/*
 * Names the process, makes it undumpable and enters the profile. On any failure it ends the
 * process with PROFILE_EXIT: no child runs without its filter.
 */
void profile_enter(const struct profile *profile);

#define PROFILE_EXIT 70

#endif
