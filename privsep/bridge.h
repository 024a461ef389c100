/*
 * The bridge: messages between the monitor and its children, and between a worker and an agent,
 * over SOCK_SEQPACKET socketpairs. Runs in every daemon program. The table below is the only place
 * where a message exists: number, who may send it to whom, how long it is, how many descriptors it
 * carries, and in which state of the conversation it is legal. It must never interpret a tail, and
 * must never block.
 */
#ifndef JAILMAP_PRIVSEP_BRIDGE_H
#define JAILMAP_PRIVSEP_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

/* Descriptor numbers in every child: its bridge, then, until exec closes it, its own program. */
#define BRIDGE_FD  3
#define PROGRAM_FD 4

enum bridge_role {
    ROLE_MONITOR = 1,
    ROLE_WORKER = 2,
    ROLE_LOADER = 4,
    ROLE_SCRIBE = 8,
    ROLE_AGENT = 16
};

/* States of a conversation, as bits. BEGIN: before the child has its work. SERVE: it has. */
enum bridge_state { STATE_BEGIN = 1, STATE_SERVE = 2, STATE_DONE = 4 };

#define BRIDGE_TEXT_MAX 1024          /* reasons */
#define BRIDGE_NAME_MAX 8192          /* table names and log records */
#define BRIDGE_DATA_MAX (256u * 1024) /* keys and values of answer tables */
#define BRIDGE_FDS_MAX  1

/* What answers a table: bits. Both: the image first, and the link for what it does not have. */
enum bridge_kind { KIND_IMAGE = 1, KIND_LINK = 2, KIND_BOTH = 3 };
enum bridge_input { INPUT_SOURCE, INPUT_NSSWITCH, INPUTS }; /* what an INPUT is */
enum bridge_log { LOG_TO_SYSLOG = 1, LOG_TO_STDERR = 2 };   /* of a LOGFILE */
enum bridge_reveal { REVEAL_ALL = 0, REVEAL_EXISTENCE = 1 };
enum bridge_answer { ANSWER_FOUND = 1, ANSWER_NOT_FOUND = 2, ANSWER_RETRY = 3 };
enum bridge_feature {
    FEATURE_SEQUENCE = 1, /* `sequence` requests are supported */
    FEATURE_TEXT = 2      /* its image has the indexes of a text */
};
enum bridge_event {
    EVENT_DENIED = 1,  /* client asked again for a table that was denied; tail: its name */
    EVENT_TOO_LARGE,   /* client closed: request over the limit */
    EVENT_TOO_SLOW,    /* client closed: request begun and not completed */
    EVENT_NOT_READING, /* client closed: it does not take its answers */
    EVENT_BAD_TABLE,   /* the image or link of `ref` cannot be used; tail: why */
    EVENT_FAILING,     /* agent: its source has begun to fail; tail: why */
    EVENT_WORKING,     /* agent: and answers again */
    EVENT_WEAKER       /* agent: the kernel lacks a part of its sandbox; tail: which */
};

struct msg_serve {
    uint32_t max_request;     /* bytes */
    uint32_t request_timeout; /* seconds */
    uint32_t answer_timeout;  /* seconds */
};
struct msg_client {
    uint32_t client; /* the monitor's number for this connection */
};
struct msg_table {
    uint32_t ref;         /* as the worker chose in OPEN */
    uint32_t kind;        /* of this descriptor: KIND_IMAGE or KIND_LINK */
    uint32_t flags;       /* dictionary type bits */
    uint32_t features;    /* bits of enum bridge_feature */
    uint32_t answered_by; /* enum bridge_kind: all that answers this table */
    uint32_t zero;
};
struct msg_table_kind { /* what has changed of a table that no descriptor comes with */
    uint32_t ref;
    uint32_t flags;
    uint32_t features;
    uint32_t answered_by; /* without KIND_IMAGE: let go of the image */
};
struct msg_table_error {
    uint32_t ref;
    uint32_t status; /* PM_DENY, or PM_RETRY until a TABLE for the same ref follows */
    uint32_t flags;
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
    uint32_t reveal; /* enum bridge_reveal */
};
struct msg_loaded {
    uint64_t entries;
    uint32_t answered_by; /* enum bridge_kind */
    uint32_t ignored;     /* lines left out; tail: the first of them */
};
struct msg_failed {
    uint32_t error; /* errno where there is one, else 0 */
};
struct msg_source {
    uint32_t type;
    uint32_t reveal;
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
};
struct msg_answer {
    uint64_t id;
    uint32_t status; /* enum bridge_answer */
    uint32_t zero;
};
struct msg_link {
    uint32_t zero;
};

/* name, number, from, to, fixed part, longest tail, descriptors, states in which it is legal */
#define BRIDGE_MESSAGES(X)                                                                         \
    X(SERVE, 1, ROLE_MONITOR, ROLE_WORKER, msg_serve, 0, 0, STATE_BEGIN)                           \
    X(CLIENT, 2, ROLE_MONITOR, ROLE_WORKER, msg_client, 0, 1, STATE_SERVE)                         \
    X(TABLE, 3, ROLE_MONITOR, ROLE_WORKER, msg_table, 0, 1, STATE_SERVE)                           \
    X(TABLE_ERROR, 4, ROLE_MONITOR, ROLE_WORKER, msg_table_error, 0, 0, STATE_SERVE)               \
    X(OPEN, 5, ROLE_WORKER, ROLE_MONITOR, msg_open, BRIDGE_NAME_MAX, 0, STATE_SERVE)               \
    X(CLOSED, 6, ROLE_WORKER, ROLE_MONITOR, msg_closed, 0, 0, STATE_SERVE)                         \
    X(EVENT, 7, ROLE_WORKER | ROLE_AGENT, ROLE_MONITOR, msg_event, BRIDGE_NAME_MAX, 0,             \
      STATE_SERVE)                                                                                 \
    X(LOAD, 8, ROLE_MONITOR, ROLE_LOADER, msg_load, BRIDGE_NAME_MAX, 1, STATE_BEGIN)               \
    X(LOADED, 9, ROLE_LOADER, ROLE_MONITOR, msg_loaded, BRIDGE_TEXT_MAX, 0, STATE_SERVE)           \
    X(FAILED, 10, ROLE_LOADER | ROLE_SCRIBE, ROLE_MONITOR, msg_failed, BRIDGE_TEXT_MAX, 0,         \
      STATE_SERVE)                                                                                 \
    X(SOURCE, 11, ROLE_MONITOR, ROLE_AGENT, msg_source, BRIDGE_NAME_MAX, 0, STATE_BEGIN)           \
    X(LINK, 12, ROLE_MONITOR, ROLE_AGENT, msg_link, 0, 1, STATE_SERVE)                             \
    X(RECORD, 13, ROLE_MONITOR, ROLE_SCRIBE, msg_record, BRIDGE_NAME_MAX, 0, STATE_SERVE)          \
    X(LOGFILE, 14, ROLE_MONITOR, ROLE_SCRIBE, msg_file, 0, 1, STATE_SERVE)                         \
    X(QUERY, 15, ROLE_WORKER, ROLE_AGENT, msg_query, BRIDGE_DATA_MAX, 0, STATE_SERVE)              \
    X(ANSWER, 16, ROLE_AGENT, ROLE_WORKER, msg_answer, BRIDGE_DATA_MAX, 0, STATE_SERVE)            \
    X(INPUT, 17, ROLE_MONITOR, ROLE_LOADER, msg_input, 0, 1, STATE_BEGIN)                          \
    X(TABLE_KIND, 18, ROLE_MONITOR, ROLE_WORKER, msg_table_kind, 0, 0, STATE_SERVE)

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

/* A received message. The tail borrows from the receive buffer; the descriptors are the caller's.
 */
struct bridge_msg {
    enum bridge_type type;
    union bridge_body body;
    const char *tail;
    size_t tail_len;
    int fds[BRIDGE_FDS_MAX];
    unsigned nfds;
};

enum bridge_result { BRIDGE_OK, BRIDGE_AGAIN, BRIDGE_CLOSED, BRIDGE_BAD };

/* Longest message on any bridge to the monitor, and on any at all, header included. */
#define BRIDGE_SMALL (BRIDGE_NAME_MAX + 64)
#define BRIDGE_LARGE (BRIDGE_DATA_MAX + 64)

/*
 * Pure check of one message as it came: known number, sent by a role to a role that the table
 * allows, legal in state, exact fixed part, bounded tail, exact count of descriptors. Returns NULL
 * and fills *msg (but for fds), or a constant text that says what is wrong.
 */
const char *bridge_decode(const void *bytes, size_t len, unsigned nfds, enum bridge_role from,
                          enum bridge_role to, enum bridge_state state, struct bridge_msg *msg);

/*
 * Receives one message without blocking. On BRIDGE_BAD *why is a constant text, every descriptor
 * that came has been closed, and the conversation is to be ended. Descriptors come close-on-exec.
 */
enum bridge_result bridge_receive(int fd, void *buf, size_t cap, enum bridge_role from,
                                  enum bridge_role to, enum bridge_state state,
                                  struct bridge_msg *msg, const char **why);

/*
 * Sends one message without blocking; body points to the fixed part of type. Returns 0, or -1 with
 * errno: EAGAIN when the peer's queue is full, EMSGSIZE for a tail over the table's limit. The
 * descriptors stay the caller's.
 */
int bridge_send(int fd, enum bridge_type type, const void *body, const void *tail, size_t tail_len,
                const int *fds);

/* Name of a message for a log line; "unknown" if there is none of that number. */
const char *bridge_name(unsigned type);

#endif
