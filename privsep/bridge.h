/*
 * The bridge: messages between the monitor and its children, and between a worker and an agent,
 * over SOCK_SEQPACKET socketpairs. Runs in every daemon program. Must never interpret a tail, and
 * must never block. Which messages there are stands in messages.h.
 */
#ifndef JAILMAP_PRIVSEP_BRIDGE_H
#define JAILMAP_PRIVSEP_BRIDGE_H

#include <stddef.h>

#include "privsep/messages.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* since Linux 6.16; this number on all but parisc and sparc */
#endif

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
 * that came has been given to bridge_discard(), and the conversation is to be ended. No more
 * descriptors are taken from the kernel than the table allows this sender in this state. They come
 * close-on-exec.
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

/*
 * Gets rid of a descriptor that a peer chose. A UNIX socket is closed. To close another file can
 * mean to wait for whoever made it (the flush of a file system in user space, the linger of a TCP
 * connection), so that one stays open: the caller sees to it that a peer can do so once only.
 */
void bridge_discard(int fd);

/*
 * Whether peers can send descriptors to this socket, or, if it listens, to those accepted from it.
 * Where they cannot, none is in its queue when it is closed; that would be as in bridge_discard().
 * Kernels before 6.16 do not know this, and let them.
 */
void bridge_take_descriptors(int fd, int take);

/* Name of a message for a log line; "unknown" if there is none of that number. */
const char *bridge_name(unsigned type);

/* A pair of ends with room for the largest message, close-on-exec and not blocking; both are the
 * caller's. Returns 0, or -1 with errno. */
int bridge_pair(int fds[2]);

#endif
