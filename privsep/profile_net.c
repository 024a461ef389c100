/*
 * What jailmap-agent-net may ask of the kernel. Entered by it as its first act. Everything else
 * kills the process. It makes no socket and connects none: what it reads from a server came,
 * already connected, from its dialer, and descriptors come from there and from the monitor alone.
 * sendto must not name an address.
 */
#include "privsep/profile.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

#define IN_LOOP   SCMP_A0(SCMP_CMP_EQ, AGENT_LOOP, 0)
#define ON_DIALER SCMP_A0(SCMP_CMP_EQ, NET_DIALER, 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "queries from workers, replies from servers"},
    {SCMP_SYS(sendto),
     0,
     1,
     {SCMP_A4(SCMP_CMP_EQ, 0, 0)},
     "answers to workers, requests to servers"},
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 1, {IN_LOOP}, "main loop: links, writability"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "waiting for the server"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "poll, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(recvmsg), 0, 2, {ON_BRIDGE, RECEIVING}, "bridge: messages and links"},
    {SCMP_SYS(recvmsg), 0, 2, {ON_DIALER, RECEIVING}, "dialer: connections"},
    {SCMP_SYS(sendmsg), 0, 2, {ON_BRIDGE, SENDING}, "bridge: messages"},
    {SCMP_SYS(sendmsg), 0, 2, {ON_DIALER, SENDING}, "dialer: orders"},
    {SCMP_SYS(close), 0, 0, {{0}}, "links and connections that are gone"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time, where the vDSO cannot tell"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_agent_net = {
    "jailmap-agent-net", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
