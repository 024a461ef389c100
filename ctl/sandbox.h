/*
 * `jailmap sandbox`, between its files: what is known of the daemon, what the design wants of each
 * program, and the page that is written. Runs as root, on demand. It may read /proc, runtime-dir
 * and, for a moment, stop a process to read its filter; it must never change one.
 */
#ifndef JAILMAP_CTL_SANDBOX_H
#define JAILMAP_CTL_SANDBOX_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "privsep/profile.h"

/* ---- the daemon that is looked at ---- */

struct daemon {
    const char *dir; /* runtime-dir */
    struct stat runtime, jail, pid_file;
    pid_t monitor;
    uint64_t started; /* the monitor, in ticks since boot */
    /* As runtime-dir/sandbox says. */
    bool strict;
    uid_t uid;
    gid_t gid;
    int landlock; /* ABI; 0: none */
    char **missing;
    size_t nmissing;
};

/* Finds the monitor by its pid file and reads its sandbox file. EX_OK, or an exit status with a
 * message on standard error. */
int daemon_find(struct daemon *daemon, const char *dir);

void daemon_free(struct daemon *daemon);

#define PROGRAM_MAX 32
#define TITLE_MAX   160

struct process {
    pid_t pid, parent;
    uint64_t started;          /* ticks since boot: with the pid, it names a process for good */
    char program[PROGRAM_MAX]; /* file name of what it runs */
    char title[TITLE_MAX];     /* escaped, and without the content of a table */
};

/* Fills all but pid. False when there is no such process, or it has ended. */
bool process_read(struct process *process);

/* The monitor and everything below it, by pid, parents first; the caller frees it. NULL: no memory.
 */
pid_t *process_list(const struct daemon *daemon, size_t *count);

/* ---- the page ---- */

struct weakness {
    pid_t pid; /* 0: of the whole daemon */
    char *text;
};

struct page {
    FILE *out;
    const struct process *process; /* whose block is written; NULL: none */
    struct weakness *weaknesses;
    size_t count;
};

/* "label   text", wrapped. With an empty label it goes on below the line before. */
__attribute__((format(printf, 3, 4))) void page_fact(struct page *page, const char *label,
                                                     const char *format, ...);
/* A fact that is weaker than the design: marked, and counted. */
__attribute__((format(printf, 2, 3))) void page_weaker(struct page *page, const char *format, ...);
/* Forgets weaknesses from `count` on. */
void page_forget(struct page *page, size_t count);
/* Words of `text` from the next column on, with later lines `indent` columns in. */
void page_wrap(FILE *out, int column, int indent, const char *text);
/* Printable ASCII without backslashes stays, everything else becomes \xHH; cut to fit. */
void page_escape(char *escaped, size_t len, const char *text);

/* ---- the design ---- */

/* Namespaces, as bits. */
enum spaces {
    SPACE_NETWORK = 1,
    SPACE_IPC = 2,
    SPACE_HOST_NAME = 4,
    SPACE_MOUNTS = 8,
    SPACE_PROCESSES = 16,
    SPACE_CHILDREN = 32 /* the processes that it starts are in another than it is */
};

/* Of descriptors. */
enum kind {
    KIND_NULL,
    KIND_BRIDGE,
    KIND_LINKED, /* an agent with a worker or a dialer */
    KIND_CLIENT,
    KIND_SERVER, /* an agent's, of its table */
    KIND_ASKER,  /* somebody on a control socket */
    KIND_LISTENER,
    KIND_STARTER, /* of jailmapd: master(8)'s status socket */
    KIND_SEALED,
    KIND_UNSEALED,
    KIND_SOURCE,
    KIND_LOG,
    KIND_PIPE,
    KIND_EPOLL,
    KIND_SIGNALS,
    KIND_INOTIFY,
    KIND_PROGRAM,
    KIND_DIRECTORY, /* runtime-dir, or the empty one */
    KIND_PLACE,     /* any other, as a name only */
    KIND_PID_FILE,
    KIND_OTHER, /* nobody may have one */
    KINDS
};

#define MANY         INT_MAX
#define MOST_FILTERS 2
#define ANY_LIMIT    UINT64_MAX       /* may be without limit */
#define SOME_LIMIT   (UINT64_MAX - 1) /* must be limited, to whatever the configuration says */

enum limit { LIMIT_PROCESSES, LIMIT_CORE, LIMIT_FILE, LIMIT_FILES, LIMIT_DATA, LIMITS };

struct design {
    const char *program, *title; /* of those with that beginning of their title */
    const char *what;
    bool root;             /* runs as root */
    bool jailed;           /* its root directory is the empty one */
    bool inner;            /* a child of a launcher, not of the monitor */
    bool environment;      /* may still have what it was started with in its memory */
    bool keeps;            /* its descriptors to itself: they are close-on-exec */
    bool counts;           /* maps one page of counters, to be written */
    bool sums;             /* maps such pages, to be read */
    unsigned own;          /* namespaces that it must not share with the monitor */
    const char *landlock;  /* what it forbids */
    uint64_t capabilities; /* bits */
    const struct profile *filters[MOST_FILTERS]; /* the latest first; of a loader see below */
    uint64_t limits[LIMITS];                     /* at most; 0: none at all */
    int descriptors[KINDS];                      /* at most */
};

/* What the design wants of a process; NULL if it knows no such program there. */
const struct design *design_of(const struct process *process, pid_t monitor);

/* The filters of a process, the latest first: as in design->filters, but a loader's by the type in
 * its title. */
size_t design_filters(const struct design *design, const struct process *process,
                      const struct profile *filters[MOST_FILTERS]);

/* Place of a program in the report; the profiles that there are, NULL after the last; the name of
 * one. */
size_t design_rank(const struct design *design);
const struct profile *design_profile(size_t i);
const char *design_name(const struct profile *profile);

/* A file in the process's directory of /proc. */
FILE *process_open(const struct page *page, const char *name);
bool process_stat(const struct page *page, const char *name, struct stat *st);

/* ---- parts of a block: each writes its lines; false when the process has ended ---- */

bool report_root(struct page *page, const struct daemon *daemon, const struct design *design);
bool report_spaces(struct page *page, const struct daemon *daemon, const struct design *design);
bool report_process(struct page *page, const struct daemon *daemon, const struct design *design);
bool report_filters(struct page *page, const struct design *design, int mode, int filters);
bool report_descriptors(struct page *page, const struct daemon *daemon,
                        const struct design *design);

/* A profile in words. */
void report_profile(FILE *out, const struct profile *profile);

#endif
