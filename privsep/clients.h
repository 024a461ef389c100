/*
 * Clients, compartments and workers. Runs in jailmapd only, with privilege. A client connection is
 * accepted, looked at and passed on, and never read.
 */
#ifndef JAILMAP_PRIVSEP_CLIENTS_H
#define JAILMAP_PRIVSEP_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/policy.h"

/* Takes one connection from a listening socket. 0, or the errno of accept(2). */
int client_accept(size_t listener, int listen_fd, uint64_t now);
/* A table has something new to tell to the workers that asked for it. */
void clients_table_changed(size_t index);
/* As tables_tell(): of workers. */
bool clients_tell(void);
uint64_t clients_tick(uint64_t now);
/* The most workers that there can be by the policy: a descriptor each. */
uint64_t clients_workers_most(const struct policy *policy);
/* Clients that workers have taken, and those of them that are still connected. */
uint64_t clients_served(void);
unsigned clients_connected(void);
/* As tables_prepare() and tables_reload(), and to be called after that. */
bool clients_prepare(size_t ntables);
void clients_reload(const struct policy *old);
/* Has every worker done what the latest reload asked of it, or ended? */
bool clients_settled(void);
/* Says what was held back until now; at the end. */
void clients_stop(void);

/* Has that uid a worker? */
bool clients_has_worker(uid_t uid);
/* Its workers are told how fast they may answer, if that has changed. */
void clients_pace(uid_t uid);
/* The policy's limits may have changed: the census is to hear of every worker again. */
void clients_limits_changed(void);

#endif
