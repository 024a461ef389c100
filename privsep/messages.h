/*
 * The messages of the bridge: number, who may send it to whom, how long it is, how many descriptors
 * it carries, and in which state of the conversation it is legal. The table below is the only place
 * where a message exists. Read by every daemon program; holds no code.
 */
#ifndef JAILMAP_PRIVSEP_MESSAGES_H
#define JAILMAP_PRIVSEP_MESSAGES_H

#include <stdint.h>

#include "policy/key_limit.h"

/* Descriptor numbers in every child: its bridge, then, until exec closes it, its own program. */
#define BRIDGE_FD  3
#define PROGRAM_FD 4

enum bridge_role {
    ROLE_MONITOR = 1,
    ROLE_WORKER = 2,
    ROLE_LOADER = 4,
    ROLE_SCRIBE = 8,
    ROLE_AGENT = 16,
    ROLE_LAUNCHER = 32,
    ROLE_CENSUS = 64,
    ROLE_READER = 128,
    ROLE_DIALER = 256
};

/* States of a conversation, as bits. BEGIN: before the child has its work. SERVE: it has. DRAIN: it
 * has been asked to give it back. */
enum bridge_state { STATE_BEGIN = 1, STATE_SERVE = 2, STATE_DONE = 4, STATE_DRAIN = 8 };

#define BRIDGE_TEXT_MAX  1024          /* reasons */
#define BRIDGE_NAME_MAX  8192          /* table names and log records */
#define BRIDGE_DATA_MAX  (256u * 1024) /* keys and values of answer tables */
#define BRIDGE_FDS_MAX   1
#define CONFIG_FILES_MAX 4096        /* that one reading of the configuration may ask for */
#define CONFIG_TEXT_MAX  (16u << 20) /* bytes of the policy that it reports */

/* What answers a table: bits. Both: the image first, and the link for what it does not have. The
 * worker alone answers a table whose name says how. */
enum bridge_kind { KIND_IMAGE = 1, KIND_LINK = 2, KIND_BOTH = 3, KIND_WORKER = 4 };
/* What an INPUT is. The dialer is no file of the table: it is a link to one. */
enum bridge_input {
    INPUT_SOURCE,
    INPUT_NSSWITCH,
    INPUT_DATABASE,
    INPUT_JOURNAL, /* this and the next: what SQLite keeps beside it */
    INPUT_WAL,
    INPUTS,
    INPUT_DIALER = INPUTS
};
enum bridge_log { LOG_TO_SYSLOG = 1, LOG_TO_STDERR = 2 }; /* of a LOGFILE */
enum bridge_answer {
    ANSWER_FOUND = 1,
    ANSWER_NOT_FOUND = 2,
    ANSWER_RETRY = 3,
    ANSWER_CONFIG = 4 /* the table says that it is not set up for this */
};
enum bridge_feature {
    FEATURE_SEQUENCE = 1,  /* `sequence` requests are supported */
    FEATURE_TEXT = 2,      /* its image has the indexes of a text */
    FEATURE_FOLDS_MUL = 4, /* a key is folded if the client says FOLD_MUL, and not FOLD_FIX */
    FEATURE_UNAUTH = 8     /* anybody may be the server: refused if the client says NO_UNAUTH */
};
/* Parts of the sandbox that a kernel, or what it runs in, may not give. */
enum bridge_wall {
    WALL_NETWORK = 1,
    WALL_IPC = 2,
    WALL_HOST_NAME = 4,
    WALL_MOUNTS = 8,
    WALL_PROCESSES = 16,
    WALL_ROOT = 32, /* the jail as the root of its mounts */
    WALL_LANDLOCK = 64
};
/* How a worker answers lookups. */
enum bridge_pace { PACE_FREE, PACE_SLOW, PACE_RETRY };
/* Limits on what a uid looks up, and what there is to say of one: its sum has reached it, for the
 * first time or again; it is far below; it has been that for long enough. */
enum bridge_limit { LIMIT_LOOKUPS, LIMIT_MISSES, LIMIT_KINDS };
enum bridge_limit_news { LIMIT_BEGINS = 1, LIMIT_RESUMES, LIMIT_RESTS, LIMIT_ENDS };
enum bridge_event {
    EVENT_DENIED = 1,   /* client asked again for a table that was denied; tail: its name */
    EVENT_TOO_LARGE,    /* client closed: request over the limit */
    EVENT_TOO_SLOW,     /* client closed: request begun and not completed */
    EVENT_NOT_READING,  /* client closed: it does not take its answers */
    EVENT_BAD_TABLE,    /* the image or link of `ref` cannot be used; tail: why */
    EVENT_FAILING,      /* agent: its source has begun to fail; tail: why */
    EVENT_WORKING,      /* agent: and answers again */
    EVENT_WEAKER,       /* agent: the kernel lacks a part of its sandbox; tail: which */
    EVENT_CANNOT,       /* agent: no answer for one key, and others have theirs; tail: why */
    EVENT_OVER_PENDING, /* client closed: with what it asks for, too many bytes would be pending */
    EVENT_UNMET, /* lookups in the table of `ref` begin to have no answer in time, or no place in
                    its queue; tail: why */
    EVENT_MET    /* and for a while none has; tail: how many it were */
};

struct msg_serve {
    uint64_t max_pending;     /* bytes */
    uint32_t max_request;     /* bytes */
    uint32_t request_timeout; /* seconds */
    uint32_t answer_timeout;  /* seconds */
    uint32_t greeting;        /* 1: new clients are greeted */
    uint32_t slots;           /* of its counters: see server/counters.h */
    uint32_t zero;
};
struct msg_client {
    uint32_t client;  /* the monitor's number for this connection */
    uint32_t greeted; /* 1: another worker had it before, and has handed it back */
};
struct msg_drain {
    uint32_t clients; /* so many more are to be handed back, each once nothing is owed to it */
};
struct msg_handback {
    uint32_t client;
};
/* How a worker treats a table whose answers come over a link. */
struct link_use {
    uint32_t timeout;      /* seconds that an answer may take; 0: as SERVE says */
    uint32_t queue;        /* most lookups that wait for one; 0: no limit */
    uint32_t cache_ttl;    /* seconds that an entry found is kept; 0: it is not */
    uint32_t negative_ttl; /* the same of a key that was not found */
    uint32_t cache_size;   /* most MB of all that is kept */
};
struct msg_table {
    uint32_t ref;         /* as the worker chose in OPEN */
    uint32_t kind;        /* of this descriptor: KIND_IMAGE or KIND_LINK */
    uint32_t flags;       /* dictionary type bits */
    uint32_t features;    /* bits of enum bridge_feature */
    uint32_t answered_by; /* enum bridge_kind: all that answers this table */
    struct key_limit limit;
    struct link_use use;
    uint32_t table;    /* the monitor's index of it */
    uint32_t replaces; /* 1: a link, and those behind the one before have not died: others go on */
};
struct msg_table_kind { /* what has changed of a table that no descriptor comes with */
    uint32_t ref;
    uint32_t flags;
    uint32_t features;
    uint32_t answered_by; /* without KIND_IMAGE: let go of the image */
    struct key_limit limit;
    struct link_use use;
    uint32_t table;
};
struct msg_table_error {
    uint32_t ref;
    uint32_t status; /* PM_DENY, or PM_RETRY until a TABLE for the same ref follows */
    uint32_t flags;
    uint32_t table; /* without PM_DENY */
};
struct msg_open {
    uint32_t ref;
    uint32_t client;
};
struct msg_closed {
    uint32_t client;
};
struct msg_event {
    uint32_t event;   /* enum bridge_event */
    uint32_t subject; /* client, or ref, as the event says */
};
struct msg_input {
    uint32_t input; /* enum bridge_input */
};
struct msg_load {
    uint32_t type;   /* enum table_type */
    uint32_t reveal; /* as in policy/table_type.h */
    struct key_limit limit;
};
struct msg_loaded {
    uint64_t entries;
    uint32_t answered_by; /* enum bridge_kind */
    uint32_t ignored;     /* lines left out; tail: the first of them */
};
struct msg_failed {
    uint32_t error; /* errno where there is one, else 0 */
};
struct msg_source { /* tail: what stands behind the type in the table's name */
    uint32_t type;
    uint32_t reveal;
    struct key_limit limit;
    uint32_t timeout; /* seconds that an answer may take */
};
struct msg_recheck { /* others have news of the source: look again, if it is left alone */
    uint32_t fails;  /* 1: that it fails; the next lookup that works is to be told of */
};
/* Between an agent and its dialer, which makes the connections that it is given. */
struct msg_hosts { /* tail: "unix:PATH" or "inet:HOST:PORT", each with a NUL behind it */
    uint32_t count;
};
struct msg_dial {
    uint32_t id;
    uint32_t host;    /* of those, from 0 */
    uint32_t timeout; /* ms */
};
struct msg_dialed {
    uint32_t id;
};
struct msg_not_dialed { /* tail: why */
    uint32_t id;
};
struct msg_record {
    uint32_t level; /* syslog severity */
    uint32_t pid;   /* the monitor's */
};
struct msg_file {
    uint32_t log; /* enum bridge_log */
};
struct msg_query {
    uint64_t id;
    uint32_t flags; /* of the request */
    uint32_t zero;
};
struct msg_answer {
    uint64_t id;
    uint32_t status; /* enum bridge_answer */
    uint32_t zero;
};
struct msg_link {
    uint32_t zero;
};
struct msg_setup { /* whom the launcher and all that it starts run as, and where */
    uint32_t uid;
    uint32_t gid;
    uint32_t jail; /* 1: in the jail; 0: outside, for agents */
    uint32_t zero;
};
struct msg_ready {     /* tail: why it is not; empty: it is */
    uint32_t missing;  /* walls that could not be had: bits of enum bridge_wall */
    uint32_t error;    /* errno of the last of them */
    uint32_t landlock; /* version of the kernel's interface; 0: there is none */
    uint32_t zero;
};
struct msg_start {
    uint64_t id; /* the monitor's number for this child */
    uint64_t file_size;
    uint64_t memory;
    uint64_t cpu_seconds;
    uint32_t helper; /* enum helper */
    uint32_t descriptors;
    uint32_t background;
    uint32_t zero;
};
struct msg_started {
    uint64_t id;
    uint32_t pid;
    uint32_t error; /* errno, if there is no child of that pid */
};

struct msg_counters { /* the page that the worker is to count on */
    uint32_t slots;
    uint32_t zero;
};
/* What the census is told of. Times are seconds since the epoch; 0: there is none. */
struct msg_daemon { /* tail: version */
    uint64_t since;
    uint32_t pid;
    uint32_t zero;
};
struct msg_policy { /* tail: why the last attempt to read it has failed; empty: it has not */
    uint64_t since; /* when it was read, or the attempt was made */
};
struct msg_listener { /* tail: path; empty: it has gone */
    uint32_t listener;
    uint32_t workers; /* most for one uid */
    uint32_t clients; /* most in one worker */
    uint32_t max_use;
};
struct msg_table_name { /* tail: canonical name; empty: it has gone */
    uint32_t table;
};
struct msg_table_state { /* tail: why it cannot be loaded; empty: it can */
    uint64_t since, loaded;
    uint64_t generation, entries, bytes; /* of the image */
    uint32_t table;
    uint32_t answered_by; /* 0: not known yet */
    uint32_t has_image;
    uint32_t waiting; /* 1: a writer has the source */
};
struct msg_agent_state { /* tail: why it does not answer; empty: it does, or is not needed */
    uint64_t since;
    uint32_t table;
    uint32_t pid;     /* 0: none runs */
    uint32_t started; /* so many, in all */
    uint32_t running; /* now */
};
struct msg_page { /* a worker has taken that place; with what it counts on, to be read */
    uint32_t place;
    uint32_t uid;
    uint32_t listener;
    uint32_t slots;
    uint32_t fresh; /* 1: it begins to count; 0: it has counted elsewhere, and carries that over */
};
struct msg_worker_state {
    uint32_t place;
    uint32_t clients; /* now */
    uint32_t served;
    uint32_t pid;
    uint32_t limits[LIMIT_KINDS]; /* of its uid, on all its workers together; 0: there is none */
};
struct msg_ended { /* nobody has that place */
    uint32_t place;
};
struct msg_asked {
    uint32_t uid;
};
struct msg_recall { /* until another word on it comes, requests wait */
    uint32_t ref;
};
struct msg_settle {  /* the policy is another: denials are to be asked for anew */
    uint32_t serial; /* to be sent back, once all that was sent before has been done */
};
struct msg_config {
    uint32_t zero;
};
struct msg_limit { /* counts: BEGINS and RESUMES: in the time of the limit; ENDS: since then */
    uint64_t lookups, misses;
    uint64_t limited; /* of these: were made to wait, or refused */
    uint64_t seconds; /* ENDS: since it began */
    uint32_t uid;
    uint32_t limit; /* enum bridge_limit */
    uint32_t news;  /* enum bridge_limit_news */
    uint32_t zero;
};
struct msg_pace {
    uint32_t pace;       /* enum bridge_pace */
    uint32_t per_minute; /* PACE_SLOW: lookups that are answered */
};

/* name, number, from, to, fixed part, longest tail, descriptors, states in which it is legal */
#define BRIDGE_MESSAGES(X)                                                                         \
    X(SERVE, 1, ROLE_MONITOR, ROLE_WORKER, msg_serve, 0, 0, STATE_BEGIN | STATE_SERVE)             \
    X(CLIENT, 2, ROLE_MONITOR, ROLE_WORKER, msg_client, 0, 1, STATE_SERVE)                         \
    X(TABLE, 3, ROLE_MONITOR, ROLE_WORKER, msg_table, 0, 1, STATE_SERVE)                           \
    X(TABLE_ERROR, 4, ROLE_MONITOR, ROLE_WORKER, msg_table_error, 0, 0, STATE_SERVE)               \
    X(OPEN, 5, ROLE_WORKER, ROLE_MONITOR, msg_open, BRIDGE_NAME_MAX, 0, STATE_SERVE | STATE_DRAIN) \
    X(CLOSED, 6, ROLE_WORKER, ROLE_MONITOR, msg_closed, 0, 0, STATE_SERVE | STATE_DRAIN)           \
    X(EVENT, 7, ROLE_WORKER | ROLE_AGENT, ROLE_MONITOR, msg_event, BRIDGE_NAME_MAX, 0,             \
      STATE_SERVE | STATE_DRAIN)                                                                   \
    X(LOAD, 8, ROLE_MONITOR, ROLE_LOADER, msg_load, BRIDGE_NAME_MAX, 1, STATE_BEGIN)               \
    X(LOADED, 9, ROLE_LOADER | ROLE_AGENT, ROLE_MONITOR, msg_loaded, BRIDGE_TEXT_MAX, 0,           \
      STATE_SERVE)                                                                                 \
    X(FAILED, 10, ROLE_LOADER | ROLE_SCRIBE | ROLE_AGENT, ROLE_MONITOR, msg_failed,                \
      BRIDGE_TEXT_MAX, 0, STATE_SERVE)                                                             \
    X(SOURCE, 11, ROLE_MONITOR, ROLE_AGENT, msg_source, BRIDGE_NAME_MAX, 0, STATE_BEGIN)           \
    X(LINK, 12, ROLE_MONITOR, ROLE_AGENT | ROLE_DIALER, msg_link, 0, 1, STATE_SERVE)               \
    X(RECORD, 13, ROLE_MONITOR, ROLE_SCRIBE, msg_record, BRIDGE_NAME_MAX, 0, STATE_SERVE)          \
    X(LOGFILE, 14, ROLE_MONITOR, ROLE_SCRIBE, msg_file, 0, 1, STATE_SERVE)                         \
    X(QUERY, 15, ROLE_WORKER, ROLE_AGENT, msg_query, BRIDGE_DATA_MAX, 0, STATE_SERVE)              \
    X(ANSWER, 16, ROLE_AGENT, ROLE_WORKER, msg_answer, BRIDGE_DATA_MAX, 0, STATE_SERVE)            \
    X(INPUT, 17, ROLE_MONITOR, ROLE_LOADER | ROLE_AGENT, msg_input, 0, 1, STATE_BEGIN)             \
    X(TABLE_KIND, 18, ROLE_MONITOR, ROLE_WORKER, msg_table_kind, 0, 0, STATE_SERVE)                \
    X(SETUP, 19, ROLE_MONITOR, ROLE_LAUNCHER, msg_setup, 0, 0, STATE_BEGIN)                        \
    X(READY, 20, ROLE_LAUNCHER, ROLE_MONITOR, msg_ready, BRIDGE_TEXT_MAX, 0, STATE_BEGIN)          \
    X(START, 21, ROLE_MONITOR, ROLE_LAUNCHER, msg_start, BRIDGE_TEXT_MAX, 1, STATE_SERVE)          \
    X(STARTED, 22, ROLE_LAUNCHER, ROLE_MONITOR, msg_started, 0, 0, STATE_SERVE)                    \
    X(DRAIN, 23, ROLE_MONITOR, ROLE_WORKER, msg_drain, 0, 0, STATE_SERVE)                          \
    X(HANDBACK, 24, ROLE_WORKER, ROLE_MONITOR, msg_handback, 0, 1, STATE_DRAIN)                    \
    X(RECHECK, 25, ROLE_MONITOR, ROLE_AGENT, msg_recheck, 0, 0, STATE_SERVE)                       \
    X(HOSTS, 30, ROLE_AGENT, ROLE_DIALER, msg_hosts, BRIDGE_NAME_MAX, 0, STATE_BEGIN)              \
    X(DIAL, 31, ROLE_AGENT, ROLE_DIALER, msg_dial, 0, 0, STATE_SERVE)                              \
    X(DIALED, 32, ROLE_DIALER, ROLE_AGENT, msg_dialed, 0, 1, STATE_SERVE)                          \
    X(NOT_DIALED, 33, ROLE_DIALER, ROLE_AGENT, msg_not_dialed, BRIDGE_TEXT_MAX, 0, STATE_SERVE)    \
    X(COUNTERS, 40, ROLE_MONITOR, ROLE_WORKER, msg_counters, 0, 1, STATE_SERVE)                    \
    X(DAEMON, 41, ROLE_MONITOR, ROLE_CENSUS, msg_daemon, BRIDGE_TEXT_MAX, 0, STATE_SERVE)          \
    X(POLICY, 42, ROLE_MONITOR, ROLE_CENSUS, msg_policy, BRIDGE_TEXT_MAX, 0, STATE_SERVE)          \
    X(LISTENER, 43, ROLE_MONITOR, ROLE_CENSUS, msg_listener, BRIDGE_TEXT_MAX, 0, STATE_SERVE)      \
    X(TABLE_NAME, 44, ROLE_MONITOR, ROLE_CENSUS, msg_table_name, BRIDGE_NAME_MAX, 0, STATE_SERVE)  \
    X(TABLE_STATE, 45, ROLE_MONITOR, ROLE_CENSUS, msg_table_state, BRIDGE_TEXT_MAX, 0,             \
      STATE_SERVE)                                                                                 \
    X(AGENT_STATE, 46, ROLE_MONITOR, ROLE_CENSUS, msg_agent_state, BRIDGE_TEXT_MAX, 0,             \
      STATE_SERVE)                                                                                 \
    X(PAGE, 47, ROLE_MONITOR, ROLE_CENSUS, msg_page, 0, 1, STATE_SERVE)                            \
    X(WORKER_STATE, 48, ROLE_MONITOR, ROLE_CENSUS, msg_worker_state, 0, 0, STATE_SERVE)            \
    X(ENDED, 49, ROLE_MONITOR, ROLE_CENSUS, msg_ended, 0, 0, STATE_SERVE)                          \
    X(ASKED, 50, ROLE_MONITOR, ROLE_CENSUS, msg_asked, 0, 1, STATE_SERVE)                          \
    X(LIMIT, 51, ROLE_CENSUS, ROLE_MONITOR, msg_limit, 0, 0, STATE_SERVE)                          \
    X(PACE, 52, ROLE_MONITOR, ROLE_WORKER, msg_pace, 0, 0, STATE_SERVE)                            \
    X(RECALL, 60, ROLE_MONITOR, ROLE_WORKER, msg_recall, 0, 0, STATE_SERVE)                        \
    X(SETTLE, 61, ROLE_MONITOR, ROLE_WORKER, msg_settle, 0, 0, STATE_SERVE)                        \
    X(SETTLED, 62, ROLE_WORKER, ROLE_MONITOR, msg_settle, 0, 0, STATE_SERVE | STATE_DRAIN)         \
    X(CONFIG, 63, ROLE_MONITOR, ROLE_READER, msg_config, BRIDGE_NAME_MAX, 1, STATE_BEGIN)          \
    X(WANT, 64, ROLE_READER, ROLE_MONITOR, msg_config, BRIDGE_TEXT_MAX, 0, STATE_SERVE)            \
    X(GIVEN, 65, ROLE_MONITOR, ROLE_READER, msg_config, 0, 1, STATE_SERVE)                         \
    X(NOT_GIVEN, 66, ROLE_MONITOR, ROLE_READER, msg_config, BRIDGE_TEXT_MAX, 0, STATE_SERVE)       \
    X(TEXT, 67, ROLE_READER, ROLE_MONITOR, msg_config, BRIDGE_NAME_MAX, 0, STATE_SERVE)            \
    X(DONE, 68, ROLE_READER, ROLE_MONITOR, msg_config, 0, 0, STATE_SERVE)                          \
    X(BAD, 69, ROLE_READER, ROLE_MONITOR, msg_config, BRIDGE_NAME_MAX, 0, STATE_SERVE)

enum bridge_type {
#define X(name, number, from, to, fixed, tail, fds, states) MSG_##name = (number),
    BRIDGE_MESSAGES(X)
#undef X
};

union bridge_body {
#define X(name, number, from, to, fixed, tail, fds, states) struct fixed name;
    BRIDGE_MESSAGES(X)
#undef X
};

#endif
