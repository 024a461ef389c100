/*
 * Requests and replies of the Postfix proxymap protocol, in both dialects: PM_OLD is spoken up to
 * Postfix 3.10, PM_NEW from 3.11 on. They differ in the attribute that follows `table`, so each
 * request tells its own. Runs in the worker (server side) and in the jailmap tool (client side).
 * Pure: bytes in, struct out; must never do I/O or allocate.
 */
#ifndef JAILMAP_PROTO_PROXYMAP_H
#define JAILMAP_PROTO_PROXYMAP_H

#include "proto/attr.h"

enum pm_op { PM_OPEN, PM_LOOKUP, PM_UPDATE, PM_DELETE, PM_SEQUENCE, PM_UNKNOWN };
enum pm_dialect { PM_OLD, PM_NEW };

/* Reply codes on the wire. A reply to PM_OPEN is only ever PM_OK, PM_BAD or PM_DENY: a client that
 * reads anything else there asks again once a second for ever. */
enum pm_status { PM_OK, PM_NOKEY, PM_RETRY, PM_BAD, PM_DENY, PM_CONFIG };

/* Dictionary flags that a request may carry and a reply may show. */
#define PM_FLAG_TRY0NULL     0x4u      /* look for the key as stored without a trailing NUL */
#define PM_FLAG_TRY1NULL     0x8u      /* ... and as stored with one */
#define PM_FLAG_FIXED        0x10u     /* keys are fixed strings: partial lookups make sense */
#define PM_FLAG_PATTERN      0x20u     /* keys are patterns: only full keys make sense */
#define PM_FLAG_NO_REGSUB    0x800u    /* no rule may put parts of the key into the value */
#define PM_FLAG_NO_UNAUTH    0x2000u   /* no table whose server anybody may be */
#define PM_FLAG_FOLD_FIX     0x4000u   /* fold the key of a FIXED table to lower case */
#define PM_FLAG_FOLD_MUL     0x8000u   /* the same for tables of patterns, tcp and socketmap */
#define PM_FLAG_MULTI_WRITER 0x40000u  /* its writers need no lock among themselves */
#define PM_FLAG_UTF8_REQUEST 0x80000u  /* the key is UTF-8, and folded by the client */
#define PM_FLAG_RHS_IS_FILE  0x200000u /* values of a text name files; their contents are meant */
#define PM_FLAG_KNOWN        0x3fffffu /* bits 0 to 21: what is echoed; the rest is masked */

#define PM_FUNCTION_FIRST 0u
#define PM_FUNCTION_NEXT  1u

/* The server speaks first: protocol NUL proxymap_protocol NUL NUL (Postfix 3.6 and later). */
#define PM_GREETING     "protocol\0proxymap_protocol\0"
#define PM_GREETING_LEN sizeof(PM_GREETING)

struct pm_request {
    enum pm_op op;
    enum pm_dialect dialect;
    struct slice table;      /* as sent; see pm_canonical() */
    uint32_t instance_flags; /* PM_OLD: the same number as flags */
    uint32_t flags;          /* 0 in a PM_NEW open, which has none */
    struct slice key;        /* lookup, update, delete */
    struct slice value;      /* update */
    uint32_t function;       /* sequence */
};

enum pm_result {
    PM_MORE,      /* incomplete: call again with more bytes behind the unconsumed ones */
    PM_SILENT,    /* empty list, or the first name is not `request`: Postfix sends no reply */
    PM_MALFORMED, /* answer PM_BAD in the form of request.op */
    PM_REQUEST    /* complete and well-formed */
};

/*
 * Decodes a stream of requests. Zeroed at the start of a connection. Afterwards hand pm_decode()
 * the unconsumed bytes from the front each time; pieces of a request may come in any cut, and the
 * buffer may move between calls.
 *
 * A request that is malformed, or has attributes after the last expected one, is decided where that
 * shows, as Postfix does, and the rest of its list is passed over. Postfix passes over it by
 * forgetting whatever it has read so far, and so takes the next thing it reads as a new list even
 * when the old one was never terminated. To agree with that and still answer pipelined requests,
 * the rest is skipped up to its terminator; if that does not come, bytes that arrive later and
 * begin with `request` NUL begin a new list.
 */
struct pm_span {
    uint32_t offset, len;
};

struct pm_decoder {
    struct pm_request request; /* its slices are set only in what pm_decode() hands out */
    struct pm_span table, key, value;
    struct attr_scan scan;
    uint8_t step;
    uint8_t field;
    uint8_t name_taken;
    bool skipping;
    bool skip_fresh;
    bool in_value;
    bool in_token;
};

/*
 * *consumed: how many bytes of buf the caller may forget (before PM_MORE, too: passed-over ones).
 * On PM_REQUEST and PM_MALFORMED *request borrows from buf. len is at most 1 GiB.
 */
enum pm_result pm_decode(struct pm_decoder *decoder, const char *buf, size_t len,
                         struct pm_request *request, size_t *consumed);

/*
 * The client has sent its last byte and pm_decode() says PM_MORE. PM_MALFORMED: the request was
 * begun and is answered PM_BAD before the close; PM_SILENT: nothing is owed.
 */
enum pm_result pm_decode_eof(const struct pm_decoder *decoder, struct pm_request *request);

/* True in the middle of a request: the bytes still held are waiting for the rest. */
bool pm_decode_partial(const struct pm_decoder *decoder, size_t held);
/* True between two requests: a decoder that begins here goes on as this one would. */
bool pm_decode_between(const struct pm_decoder *decoder, size_t held);

struct pm_reply {
    enum pm_op op;
    enum pm_dialect dialect;
    enum pm_status status;
    uint32_t flags;
    struct slice key;   /* sequence */
    struct slice value; /* lookup, sequence */
};

/* Upper bound of an encoded reply. */
static inline size_t pm_reply_bound(const struct pm_reply *reply)
{
    return 96 + reply->key.len + reply->value.len;
}
/* Writes the reply at end and returns its end. Key and value are left empty unless PM_OK. */
char *pm_encode(char *end, const struct pm_reply *reply);

/* Strips every leading `proxy:`. What is left names a table only if it has a colon. */
struct slice pm_canonical(struct slice table);
bool pm_names_table(struct slice canonical);

/* Folds A-Z; other bytes stay, as in Postfix without its UTF-8 layer. dst has src.len bytes. */
struct slice pm_fold(char *dst, struct slice src);

#endif
