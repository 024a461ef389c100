/*
 * One attempt to connect to a host, address after address, without waiting. Runs in jailmap-dialer.
 * It makes sockets and connects them; it must never read from one.
 */
#ifndef JAILMAP_SERVER_DIALER_ATTEMPT_H
#define JAILMAP_SERVER_DIALER_ATTEMPT_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/dialer/hosts.h"

enum attempt_state { ATTEMPT_WAITING, ATTEMPT_DONE, ATTEMPT_FAILED };

/* Begins, in the place of the one before. The list, which may be NULL for a UNIX socket, is freed
 * here. until: a time of dialer_now(), of which each address gets an equal share of what is left.
 */
enum attempt_state attempt_begin(const struct host *host, struct addrinfo *list, uint64_t until);
/* Goes on: ready says that the socket of attempt_fd() is writable. */
enum attempt_state attempt_go_on(bool ready);
/* What to wait for to be writable, or -1; and until when. */
int attempt_fd(void);
uint64_t attempt_turn(void);
/* ATTEMPT_DONE: the connection, not blocking and close-on-exec, which becomes the caller's. */
int attempt_take(void);
/* ATTEMPT_FAILED: errno of the last address. */
int attempt_error(void);
/* Lets go of all that there is of one. */
void attempt_end(void);

/* Monotonic milliseconds. */
uint64_t dialer_now(void);

#endif
