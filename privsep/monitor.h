/*
 * The loop of the monitor, and what all its parts share. Runs in jailmapd only, with privilege. The
 * monitor may open what the policy names, accept connections, pass descriptors and start children;
 * it must never read from a client connection, never read the content of a table, never block on a
 * child, and never grow without bound for one.
 */
#ifndef JAILMAP_PRIVSEP_MONITOR_H
#define JAILMAP_PRIVSEP_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "policy/policy.h"

#define NEVER UINT64_MAX

extern const struct policy *monitor_policy;

/* Something that epoll watches; ready() gets the events of epoll(7). Embed it, fill in fd. */
struct watched {
    int fd;
    void (*ready)(struct watched *self, uint32_t events);
};
/* The main file of the configuration; and how the others are opened: see struct policy_files. */
extern const char *monitor_config;
int monitor_open_config(const char *name, struct stat *st, char *why, size_t len);
/* The descriptors that a policy can make it have at once, and how many it may. */
uint64_t monitor_descriptors_needed(const struct policy *policy);
uint64_t monitor_descriptors(void);
bool monitor_watch(struct watched *watched, uint32_t events);
void monitor_rewatch(struct watched *watched, uint32_t events);
void monitor_unwatch(struct watched *watched);

/* Sends that, if it can be at once. The filter lets the monitor say things on sockets, and hear
 * them on few. */
bool monitor_say(int fd, const void *data, size_t len);
/* Monotonic milliseconds. */
uint64_t monitor_now(void);
/* An orderly end, with that exit status and these last words; the first call counts. */
__attribute__((format(printf, 2, 3))) void monitor_stop(int status, const char *format, ...);

#endif
