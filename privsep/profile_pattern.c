/*
 * What jailmap-agent-pattern may ask of the kernel. Entered by the agent as its first act. It
 * opens, connects to and executes nothing; everything that is not named here kills the process, and
 * with it only the query that it has in hand. recvfrom and sendto carry no argument filter for the
 * reason that profile_worker.c gives.
 */
#include "privsep/profile.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "privsep/bridge.h"

#define IN_LOOP SCMP_A0(SCMP_CMP_EQ, AGENT_LOOP, 0)
#define ALARM   SCMP_A0(SCMP_CMP_EQ, ITIMER_REAL, 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "queries from workers"},
    {SCMP_SYS(sendto), 0, 0, {{0}}, "answers to workers, EVENT"},
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 1, {IN_LOOP}, "main loop: links, writability"},
    {SCMP_SYS(recvmsg), 0, 2, {ON_BRIDGE, RECEIVING}, "bridge: messages and descriptors"},
    {SCMP_SYS(sendmsg), 0, 2, {ON_BRIDGE, SENDING}, "bridge: messages"},
    {SCMP_SYS(pread64), 0, 0, {{0}}, "source: its rules"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "source: its size"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat"},
    {SCMP_SYS(setitimer), 0, 1, {ALARM}, "the time that a key may take"},
    {SCMP_SYS(rt_sigreturn), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "the same, where the vDSO cannot tell"},
    {SCMP_SYS(close), 0, 0, {{0}}, "links that are gone"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc, memory of matches"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc, memory of matches"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_agent_pattern = {
    "jailmap-agent-pattern", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
