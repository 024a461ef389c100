/*
 * What jailmap-agent-sqlite may ask of the kernel. Entered by it as its first act but the set-up of
 * its library. Everything else kills the process. It opens nothing, and locks nothing: SQLite works
 * on memory.
 */
#include "privsep/profile.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

#define NO_NAME  SCMP_A4(SCMP_CMP_EQ, 0, 0)
#define ASK_LOCK SCMP_A1(SCMP_CMP_EQ, F_GETLK, 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 0, {{0}}, "main loop: links come and go"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "database: waiting for a writer"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "poll, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(recvmsg), 0, 2, {ON_BRIDGE, RECEIVING}, "bridge: source and links"},
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "queries from workers"},
    {SCMP_SYS(sendmsg), 0, 2, {ON_BRIDGE, SENDING}, "bridge: LOADED, FAILED, EVENT"},
    {SCMP_SYS(sendto), 0, 1, {NO_NAME}, "answers to workers"},
    {SCMP_SYS(close), 0, 0, {{0}}, "links to workers that have gone"},
    {SCMP_SYS(pread64), 0, 0, {{0}}, "source: configuration and database"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "database: its size"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat"},
    {SCMP_SYS(fcntl), 0, 1, {ASK_LOCK}, "database: is there a writer"},
    {SCMP_SYS(getrandom), 0, 0, {{0}}, "SQLite: random(), hash seeds"},
    {SCMP_SYS(alarm), 0, 0, {{0}}, "the time that a query may take"},
    {SCMP_SYS(setitimer), 0, 0, {{0}}, "the same, where alarm does not exist"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time, where the vDSO cannot tell"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_agent_sqlite = {
    "jailmap-agent-sqlite", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
