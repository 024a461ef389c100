/*
 * What the parts of the monitor share. Runs in jailmapd only, with privilege. It may open what the
 * policy names, accept connections, pass descriptors and start children; it must never read from a
 * client connection, never read the content of a table, never block on a child, and never grow
 * without bound for one.
 */
#ifndef JAILMAP_PRIVSEP_MONITOR_H
#define JAILMAP_PRIVSEP_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <syslog.h>
#include <time.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/launch.h"
#include "privsep/profile.h"

#define NEVER UINT64_MAX

/* ---- loop (jailmapd.c) ---- */

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

/* Monotonic milliseconds. */
uint64_t monitor_now(void);
/* An orderly end, with that exit status and these last words; the first call counts. */
__attribute__((format(printf, 2, 3))) void monitor_stop(int status, const char *format, ...);

/* ---- launchers (launchers.c) ---- */

/* Walls of the sandbox that could not be had, one after the other in words. */
struct walls {
    char missing[16][160];
    unsigned count;
};
__attribute__((format(printf, 2, 3))) void walls_lack(struct walls *walls, const char *format, ...);

/*
 * Starts both, before priv_confine(): programs holds a descriptor for each helper, jail that of the
 * empty directory. Returns once they are confined and ready. False with a message in why.
 */
bool launchers_start(const int programs[HELPERS], int jail, struct walls *walls, char *why,
                     size_t len);
/* From now on they are children like others. */
bool launchers_watch(void);
/* Asks for a new child, whose bridge is the other end of fd; child_born() tells of it. False with
 * errno if that cannot be asked now. */
bool launch(enum helper helper, uint64_t birth, const struct spawn *limits, const char *title,
            int fd);

/* ---- children (child.c) ---- */

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

/* ---- log (log.c) ---- */

void log_start(bool to_standard_error);
/* Writes one line of an error itself, as there is no scribe: before it starts, and at the very end.
 */
void log_directly(const char *text);
/* Connects to syslogd anew. */
void log_reopen(void);
void log_tick(uint64_t now, uint64_t *next);
/* Composes one record and hands it to the scribe. Text from outside goes through policy_escape().
 */
__attribute__((format(printf, 2, 3))) void log_line(int level, const char *format, ...);

/* At most a few lines of one kind in an interval; what was held back is counted. */
struct log_limit {
    uint64_t until; /* of the interval; 0: none has begun */
    unsigned count, held;
};
/* True if a line may be written; else it is counted. */
bool log_allow(struct log_limit *limit);
/* Ends an interval that is over at now. Returns how many lines it held back. */
unsigned log_held(struct log_limit *limit, uint64_t now);

/* ---- tables (tables.c) ---- */

bool tables_start(void);
/* What a worker that asked for a table is to be told: changes when there is something new; 0:
 * nothing to tell yet. Then: what answers the table, and its image, or -1: RETRY. */
uint64_t table_version(size_t index);
enum bridge_kind table_answered_by(size_t index);
int table_image(size_t index);
void table_spoiled(size_t index, const char *why);
/* Something happened to a source. */
void table_touched(size_t index, uint64_t now);
uint64_t tables_tick(uint64_t now);
/* Makes room for so many tables; false: out of memory. Then monitor_policy may become another, and
 * this goes over to it from the old one. */
bool tables_prepare(size_t ntables);
void tables_reload(const struct policy *old);
/* Has the latest reload let go of what the table held? */
bool table_is_anew(size_t index);
void tables_check_all(void);
/* Tells the census what is new of every table. False: it does not take more now. */
bool tables_tell(void);

/* ---- agents (agents.c) ---- */

bool agents_start(void);
/* The table needs its agent, or does not any more. */
void agent_need(size_t index, bool needed);
/* Changes with each agent that starts; 0: there is none now. */
uint64_t agent_version(size_t index);
/* Makes a link to the agent. Returns the worker's end, which is the caller's; -1: not now. */
int agent_link(size_t index);
/* As tables_tell(). */
bool agents_tell(void);
uint64_t agents_tick(uint64_t now);
/* As tables_prepare() and tables_reload(), and to be called before that. */
bool agents_prepare(size_t ntables);
void agents_reload(void);
/* Ends those whose tables the reload has let go of. After clients_reload(): else workers, who see
 * the end of their links, would take it for a failure. */
void agents_let_go(void);

/* ---- watch (watch.c) ---- */

void watch_start(void);
bool watch_prepare(size_t ntables);
/* Between the two, watch_step() is called for every name on the way to the table's sources; what
 * was watched for it before and is not named again is forgotten. Changes call table_touched(). */
void watch_begin(size_t index);
void watch_step(void *index, int dir, const char *name);
void watch_end(size_t index);

/* ---- memory (memfd.c) ---- */

/* Empty, to be sealed one day, and close-on-exec; the caller's. -1 with errno. */
int memfd_make(const char *name);
/* Puts these seals on it for good. Returns another descriptor of it, to be read only; -1 with a
 * constant text in why. */
int memfd_seal(int fd, int seals, const char **why);

/* ---- census (census.c) ---- */

void census_start(void);
/* Changes with each census that starts, and is never 0 then. Whoever tells it something notes the
 * edition that was told, and forgets it (0) when there is news: so each census hears everything. */
uint32_t census_edition(void);
/* There is news: tables_tell() and the like are called soon. */
void census_changed(void);
/* tail: NULL: none; fd: NULL: none. False: it does not take more now, and comes back. */
bool census_tell(enum bridge_type type, const void *body, const char *tail, const int *fd);
/* The configuration was read, or, with why not, was not. */
void census_policy(const char *failure);
/* A page of counters: a descriptor for the worker, and one for the census that can only be read.
 * Both are the caller's. False: there is none now. */
bool census_page(uint32_t slots, int *writer, int *reader);
/* Somebody who may asks for the status. The connection stays the caller's. False: not now. */
bool census_asked(int fd, uid_t uid);
uint64_t census_tick(uint64_t now);

/* ---- control sockets (control.c) ---- */

/* Before priv_confine(). False with a message in why. */
bool control_bind(char *why, size_t len);
bool control_start(void);
/* Another is in force. */
void control_policy_changed(void);
uint64_t control_tick(uint64_t now);
void control_stop(void);

/* ---- service manager (notify.c) ---- */

/* Takes what it needs from the environment. */
void notify_environment(void);
/* Connects to the service manager, if there is one; before priv_confine(). */
void notify_open(void);
/* Lookups are answered, and by the configuration as it is now. */
void notify_ready(void);
/* Between this and notify_ready(), that is being changed. */
void notify_reloading(void);
void notify_stopping(void);
/* Says that the main loop goes round. */
uint64_t notify_tick(uint64_t now);

/* ---- clients (clients.c) ---- */

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

/* ---- limits on lookups (limits.c) ---- */

/* What the census says of one. False: that is nothing that it can say. */
bool limits_heard(const struct msg_limit *msg);
/* How workers of that uid, of which there are so many, may answer. */
struct msg_pace limits_pace(uid_t uid, unsigned workers);
/* What the policy says of each limit, for the census. */
void limits_told(uid_t uid, uint32_t limits[LIMIT_KINDS]);
/* The policy may be another. */
void limits_changed(void);
/* There is no census: nobody is held to a limit until the next one has seen for itself. */
void limits_unwatched(void);
uint64_t limits_tick(uint64_t now);

/* ---- listeners (listen.c) ---- */

/* Takes what was inherited and binds every other socket of the policy; before priv_confine(). False
 * with a message in why. */
bool listen_bind(char *why, size_t len);
/* The directory of that listener's socket; -1: whoever made it removes it. */
int listen_dir(size_t listener);
bool listen_start(void);
void listen_stop(void);
uint64_t listen_tick(uint64_t now);
/*
 * Binds what next has and monitor_policy has not, and what is to be bound anew, but accepts nobody
 * there. False with a complete message in why; nothing is left of it then. Afterwards either
 * listen_abandon(), or listen_reload() once next is monitor_policy; clients_reload() before that.
 */
bool listen_prepare(const struct policy *next, char *why, size_t len);
void listen_abandon(void);
void listen_reload(const struct policy *old);

/* ---- reading the configuration anew (reading.c) ---- */

/*
 * Has a reader started, whose result done() gets, once: a policy, which is done()'s, or NULL and a
 * complete message. torn: a file changed meanwhile, and there is no policy.
 */
void reading_start(void (*done)(struct policy *policy, const char *why, bool torn));

/* ---- reload (reload.c) ---- */

/* Somebody who wants to know what became of a reload. The struct is the caller's until done() is
 * called, once, or reload_forget(). */
struct reload_waiter {
    void (*done)(struct reload_waiter *self, bool reloaded, const char *result);
    struct reload_waiter *next;
};
/* Reads the configuration as it is from now on, at once or after a reload that runs; looks at every
 * table, and opens the log anew. who: asks, for the log. waiter may be NULL. */
void reload_ask(const char *who, struct reload_waiter *waiter);
void reload_forget(struct reload_waiter *waiter);
uint64_t reload_tick(uint64_t now);

#endif
