/*
 * What jailmap-census may ask of the kernel. Entered by the census as its first act. Everything
 * else kills the process. What it maps of a file it can only read; sendto must not name an address,
 * and cannot pass a descriptor; and it can receive nothing but the monitor's messages: whoever asks
 * for the status is not heard.
 */
#include "privsep/profile.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvmsg), 0, 2, {ON_BRIDGE, RECEIVING}, "bridge: what there is, and who asks"},
    {SCMP_SYS(sendto),
     0,
     1,
     {SCMP_A4(SCMP_CMP_EQ, 0, 0)},
     "answers to whoever asks; bridge: limits"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "waiting"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "that, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(close), 0, 0, {{0}}, "pages that are mapped; whoever has its answer"},
    {SCMP_SYS(mmap), 0, 1, {SCMP_A2(SCMP_CMP_EQ, PROT_READ, 0)}, "pages"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "pages, malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time, where the vDSO cannot tell"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_census = {
    "jailmap-census", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
