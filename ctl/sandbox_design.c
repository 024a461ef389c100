/*
 * What the design wants of each program: the one table against which `jailmap sandbox` holds what
 * /proc shows. Runs in the tool. It touches nothing; a line here must change in the same commit as
 * the wall that it describes.
 */
#include "ctl/sandbox.h"

#include <string.h>
#include <sys/capability.h>

#define CAP(number) (UINT64_C(1) << (number))
#define IN_THE_JAIL                                                                                \
    "executes the helpers and touches no other file; no TCP; no signals, and no "                  \
    "abstract sockets, of others"
#define JAILS  (SPACE_NETWORK | SPACE_IPC | SPACE_HOST_NAME | SPACE_MOUNTS)
#define LITTLE [LIMIT_PROCESSES] = 0, [LIMIT_CORE] = 0, [LIMIT_FILES] = SOME_LIMIT
/* A launcher starts others, and has the limits of whoever started jailmapd; so has the monitor. */
#define ANYTHING                                                                                   \
    [LIMIT_PROCESSES] = ANY_LIMIT, [LIMIT_CORE] = ANY_LIMIT, [LIMIT_FILE] = ANY_LIMIT,             \
    [LIMIT_FILES] = ANY_LIMIT, [LIMIT_DATA] = ANY_LIMIT

/* In the order of the report. */
static const struct design designs[] = {
    {
        .program = "jailmapd",
        .title = "",
        .what = "the monitor",
        .root = true,
        .environment = true,
        .keeps = true,
        .landlock = "reads files; writes in runtime-dir, makes and removes sockets where listeners "
                    "were at the start; no TCP; no signals to others than its children",
        .capabilities =
            CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_KILL) | CAP(CAP_SETGID) | CAP(CAP_SETUID),
        .filters = {&profile_monitor},
        .limits = {ANYTHING},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = MANY,
                        [KIND_LISTENER] = MANY,
                        [KIND_ASKER] = 17, /* who wait for a reload, and for the end */
                        [KIND_STARTER] = 1,
                        [KIND_SEALED] = MANY,
                        [KIND_UNSEALED] = MANY,
                        [KIND_SOURCE] = MANY,
                        [KIND_LOG] = 4,
                        [KIND_PIPE] = 2,
                        [KIND_EPOLL] = 1,
                        [KIND_SIGNALS] = 1,
                        [KIND_INOTIFY] = 1,
                        [KIND_DIRECTORY] = 1,
                        [KIND_PLACE] = MANY,
                        [KIND_PID_FILE] = 1},
    },
    {
        .program = "jailmap-launcher",
        .title = "jailmap-launcher: jail",
        .what = "starts workers, loaders, agents, the scribe and the census",
        .jailed = true,
        .own = JAILS | SPACE_CHILDREN,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_launcher},
        .limits = {ANYTHING},
        .descriptors = {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_PROGRAM] = 7, [KIND_PIPE] = 1},
    },
    {
        .program = "jailmap-launcher",
        .title = "jailmap-launcher: agents",
        .what = "starts agents with libraries, dialers and the reader of the configuration",
        .own = SPACE_CHILDREN,
        .landlock = "no signals to others than processes of jailmapd",
        .filters = {&profile_launcher},
        .limits = {ANYTHING},
        .descriptors = {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_PROGRAM] = 5, [KIND_PIPE] = 1},
    },
    {
        .program = "jailmap-launcher",
        .title = "jailmap-launcher: jail",
        .what = "holds the process id namespace of the jail",
        .inner = true,
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_anchor, &profile_launcher},
        .limits = {ANYTHING},
        .descriptors = {[KIND_NULL] = MANY, [KIND_PIPE] = 1},
    },
    {
        .program = "jailmap-launcher",
        .title = "jailmap-launcher: agents",
        .what = "holds the process id namespace of the agents",
        .inner = true,
        .own = SPACE_PROCESSES,
        .landlock = "no signals to others than processes of jailmapd",
        .filters = {&profile_anchor, &profile_launcher},
        .limits = {ANYTHING},
        .descriptors = {[KIND_NULL] = MANY, [KIND_PIPE] = 1},
    },
    {
        .program = "jailmap-scribe",
        .title = "",
        .what = "writes the log",
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_scribe, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = ANY_LIMIT, [LIMIT_DATA] = ANY_LIMIT},
        .descriptors = {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_LOG] = 2, [KIND_PIPE] = 1},
    },
    {
        .program = "jailmap-census",
        .title = "",
        .what = "adds up counters, answers who may ask",
        .jailed = true,
        .sums = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_census, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_ASKER] = 16},
    },
    {
        .program = "jailmap-agent-nss",
        .title = "",
        .what = "asks the name service",
        .own = SPACE_PROCESSES,
        .landlock = "reads files, changes and executes none; no signals to others",
        .filters = {&profile_agent_nss, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = ANY_LIMIT},
        .descriptors =
            {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_LINKED] = MANY, [KIND_EPOLL] = 1},
    },
    {
        .program = "jailmap-agent-pattern",
        .title = "",
        .what = "answers from patterns",
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_agent_pattern, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_EPOLL] = 1,
                        [KIND_SOURCE] = 1},
    },
    {
        .program = "jailmap-agent-sqlite",
        .title = "",
        .what = "answers from an SQLite database",
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_agent_sqlite, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_EPOLL] = 1,
                        [KIND_SOURCE] = 4},
    },
    {
        .program = "jailmap-agent-net",
        .title = "",
        .what = "asks a socketmap or tcp server",
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_agent_net, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_EPOLL] = 1,
                        [KIND_SERVER] = 1},
    },
    {
        .program = "jailmap-agent-mysql",
        .title = "",
        .what = "asks a MySQL or MariaDB server",
        .own = SPACE_PROCESSES,
        .landlock = "reads no file but what TLS needs, changes and executes none; no TCP; no "
                    "signals to others",
        .filters = {&profile_agent_mysql, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_EPOLL] = 1,
                        [KIND_SOURCE] = 1,
                        [KIND_SERVER] = 1},
    },
    {
        .program = "jailmap-agent-pgsql",
        .title = "",
        .what = "asks a PostgreSQL server",
        .own = SPACE_PROCESSES,
        .landlock = "reads no file but what TLS needs, changes and executes none; no TCP; no "
                    "signals to others",
        .filters = {&profile_agent_pgsql, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_EPOLL] = 1,
                        [KIND_SOURCE] = 1,
                        [KIND_SERVER] = 1},
    },
    {
        .program = "jailmap-dialer",
        .title = "",
        .what = "connects an agent to its servers",
        .own = SPACE_PROCESSES,
        .landlock = "reads files, changes and executes none; no TCP but to the ports of its "
                    "servers; no signals to others",
        .filters = {&profile_dialer, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_LINKED] = 1, [KIND_EPOLL] = 1},
    },
    {
        .program = "jailmap-reader",
        .title = "",
        .what = "reads the configuration for a reload",
        .own = SPACE_PROCESSES,
        .landlock = "reads files, changes and executes none; no signals to others",
        .filters = {&profile_reader, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = ANY_LIMIT},
        .descriptors =
            {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_SOURCE] = 2, [KIND_DIRECTORY] = 1},
    },
    {
        .program = "jailmap-loader",
        .title = "",
        .what = "loads one table",
        .jailed = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {NULL, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = SOME_LIMIT, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors =
            {[KIND_NULL] = MANY, [KIND_BRIDGE] = 1, [KIND_UNSEALED] = 1, [KIND_SOURCE] = 2},
    },
    {
        .program = "jailmap-worker",
        .title = "",
        .what = "serves one compartment",
        .jailed = true,
        .counts = true,
        .own = JAILS | SPACE_PROCESSES,
        .landlock = IN_THE_JAIL,
        .filters = {&profile_worker, &profile_launcher},
        .limits = {LITTLE, [LIMIT_FILE] = 0, [LIMIT_DATA] = SOME_LIMIT},
        .descriptors = {[KIND_NULL] = MANY,
                        [KIND_BRIDGE] = 1,
                        [KIND_LINKED] = MANY,
                        [KIND_CLIENT] = MANY,
                        [KIND_SEALED] = MANY,
                        [KIND_EPOLL] = 1},
    },
};

static const struct {
    const struct profile *profile;
    const char *name;
} profiles[] = {
    {&profile_monitor, "jailmapd"},
    {&profile_launcher, "jailmap-launcher"},
    {&profile_anchor, "the holder of a process id namespace"},
    {&profile_scribe, "jailmap-scribe"},
    {&profile_census, "jailmap-census"},
    {&profile_agent_nss, "jailmap-agent-nss"},
    {&profile_agent_pattern, "jailmap-agent-pattern"},
    {&profile_agent_sqlite, "jailmap-agent-sqlite"},
    {&profile_agent_net, "jailmap-agent-net"},
    {&profile_agent_mysql, "jailmap-agent-mysql"},
    {&profile_agent_pgsql, "jailmap-agent-pgsql"},
    {&profile_dialer, "jailmap-dialer"},
    {&profile_reader, "jailmap-reader"},
    {&profile_loader_db, "jailmap-loader for hash and btree"},
    {&profile_loader_cdb, "jailmap-loader for cdb"},
    {&profile_loader_lmdb, "jailmap-loader for lmdb"},
    {&profile_loader_text, "jailmap-loader for texthash and unix"},
    {&profile_loader_name, "jailmap-loader for inline, static and environ"},
    {&profile_worker, "jailmap-worker"},
};

/* As server/loader/loader.c chooses. */
static const struct {
    const char *title;
    const struct profile *profile;
} loaders[] = {
    {"jailmap-loader: hash:", &profile_loader_db},
    {"jailmap-loader: btree:", &profile_loader_db},
    {"jailmap-loader: cdb:", &profile_loader_cdb},
    {"jailmap-loader: lmdb:", &profile_loader_lmdb},
    {"jailmap-loader: texthash:", &profile_loader_text},
    {"jailmap-loader: unix:", &profile_loader_text},
    {"jailmap-loader: inline:", &profile_loader_name},
    {"jailmap-loader: static:", &profile_loader_name},
    {"jailmap-loader: environ:", &profile_loader_name},
};

static bool begins(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

const struct design *design_of(const struct process *process, pid_t monitor)
{
    bool inner = process->parent != monitor && process->pid != monitor;
    const struct design *found = NULL;

    for (size_t i = 0; i < sizeof designs / sizeof designs[0]; i++)
        if (strcmp(process->program, designs[i].program) == 0 &&
            begins(process->title, designs[i].title) &&
            (found == NULL || designs[i].inner == inner))
            found = &designs[i];
    return found;
}

static const struct profile *loader_profile(const char *title)
{
    for (size_t i = 0; i < sizeof loaders / sizeof loaders[0]; i++)
        if (begins(title, loaders[i].title))
            return loaders[i].profile;
    return &profile_loader_name; /* the narrowest: a title of no type is no excuse */
}

size_t design_filters(const struct design *design, const struct process *process,
                      const struct profile *filters[MOST_FILTERS])
{
    filters[0] = design->filters[0] != NULL ? design->filters[0] : loader_profile(process->title);
    filters[1] = design->filters[1];
    return filters[1] != NULL ? 2 : 1;
}

size_t design_rank(const struct design *design)
{
    return design == NULL ? sizeof designs / sizeof designs[0] : (size_t)(design - designs);
}

const struct profile *design_profile(size_t i)
{
    return i < sizeof profiles / sizeof profiles[0] ? profiles[i].profile : NULL;
}

const char *design_name(const struct profile *profile)
{
    for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++)
        if (profiles[i].profile == profile)
            return profiles[i].name;
    return profile->program;
}
