/*
 * What jailmap-worker may ask of the kernel. Entered by the worker as its first act. Everything
 * else kills the process. recvfrom and sendto carry no argument filter on purpose: they reach only
 * sockets that the monitor handed over, which are connected and take no other address, and a rule
 * without arguments costs a lookup a tenth of a microsecond less.
 */
#include "privsep/profile.h"

#include <sys/mman.h>

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "requests from clients"},
    {SCMP_SYS(sendto), 0, 0, {{0}}, "replies to clients"},
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 0, {{0}}, "main loop: new clients, writability"},
    {SCMP_SYS(recvmsg), 0, 0, {{0}}, "bridge: messages and descriptors from monitor and agents"},
    {SCMP_SYS(sendmsg), 0, 0, {{0}}, "bridge: messages to monitor and agents"},
    {SCMP_SYS(close), 0, 0, {{0}}, "clients and images that are gone"},
    {SCMP_SYS(mmap), 0, 1, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}, "images, malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "images, malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "cdb_init: size of an image"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time limits, where the vDSO cannot tell"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_worker = {"jailmap-worker", SCMP_ACT_KILL_PROCESS,
                                       sizeof rules / sizeof rules[0], rules};
