/*
 * What jailmap-scribe may ask of the kernel. Entered by the scribe as its first act. Everything
 * else kills the process. sendto must not name an address, and sendmsg is for the bridge alone: so
 * a record reaches only the log socket that the monitor connected.
 */
#include "privsep/profile.h"

#include <sys/mman.h>

#include "privsep/bridge.h"

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvmsg), 0, 1, {ON_BRIDGE}, "bridge: records and log descriptors"},
    {SCMP_SYS(sendmsg), 0, 1, {ON_BRIDGE}, "bridge: FAILED"},
    {SCMP_SYS(sendto), 0, 1, {SCMP_A4(SCMP_CMP_EQ, 0, 0)}, "syslog"},
    {SCMP_SYS(write), 0, 0, {{0}}, "standard error"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "waiting for the bridge or a slow log"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "that, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(close), 0, 0, {{0}}, "a log descriptor that was replaced"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_scribe = {
    "jailmap-scribe", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
