/*
 * Children of the monitor: their bridges, allowances, patience and ends. Runs in jailmapd only,
 * with privilege. It may send and receive checked messages, and end children; it must never wait
 * for one, nor take from one more than its allowance.
 */
#ifndef JAILMAP_PRIVSEP_CHILD_H
#define JAILMAP_PRIVSEP_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "privsep/bridge.h"
#include "privsep/launch.h"
#include "privsep/monitor.h"

struct child;
struct child_ops {
    enum bridge_role role;
    const char *what;  /* for log lines */
    unsigned patience; /* ms in which it reads what it is sent; 0: it takes its time */
    /* A checked message. Descriptors in it, if any, are the handler's. */
    void (*message)(struct child *child, const struct bridge_msg *msg);
    void (*writable)(struct child *child); /* its queue takes messages again */
    /* It has ended, and everything that it sent has been handled; how says in words if anything
     * but exit status 0. The child is freed afterwards. */
    void (*gone)(struct child *child, const char *how);
};

struct child {
    struct watched io;
    const struct child_ops *ops;
    void *owner;
    pid_t pid;      /* 0: it is not born yet */
    uint64_t birth; /* the number of that request */
    enum bridge_state state;
    uint32_t events;
    int64_t credit; /* messages that it may send before it counts as flooding */
    uint64_t credit_at;
    uint64_t started;
    int queued;          /* bytes that it had not taken when that was looked at last */
    uint64_t stuck_at;   /* NEVER, or when to stop waiting for it to take them */
    uint64_t again_at;   /* NEVER, or when to try again what could not be sent */
    uint64_t kill_at;    /* NEVER, or when patience ends */
    const char *late;    /* and what that means */
    const char *verdict; /* why the monitor ended it */
    bool reaped;
    struct child *next;
};

/* Has one started, which can be sent messages from now on. If it cannot be, either NULL is returned
 * and the reason has been logged, or gone() is called. */
struct child *child_start(const struct child_ops *ops, void *owner, enum helper helper,
                          const struct spawn *limits, const char *title);
/* Takes the bridge and the pid of a child that runs already; NULL: out of memory. */
struct child *child_adopt(const struct child_ops *ops, void *owner, int fd, pid_t pid);
/* What a launcher says of the child of that number. False: it lies. */
bool child_born(uint64_t birth, pid_t pid, int error);
/* Sends or, if the queue is full, returns false and calls writable() later. A child that is gone
 * takes everything: its end is being reported anyway. */
bool child_send(struct child *child, enum bridge_type type, const void *body, const void *tail,
                size_t tail_len, const int *fds);
/* Has it messages that it has not taken yet? */
bool child_backlog(const struct child *child);
/* Ends it at once; the verdict is what gone() is told, and appears in the log. */
void child_end(struct child *child, const char *verdict);
/* Lets it go: the bridge is closed, and it is ended if it has not gone within a second. gone() will
 * not be called any more. */
void child_release(struct child *child);
/* Messages that it may send besides its allowance, for work that it was given; within bounds. */
void child_credit(struct child *child, unsigned messages);
void children_reap(void);
uint64_t children_tick(uint64_t now);
/* Frees children that ended, once no event in hand can point at them. */
void children_free(void);
/* Ends all of them and waits; the scribe after it has written what it has, the launchers last. */
void children_stop(void);

#endif
