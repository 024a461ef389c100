/*
 * What jailmap-worker may ask of the kernel. Entered by the worker as its first act. Everything
 * else kills the process. recvfrom and sendto carry no argument filter on purpose: they reach only
 * sockets that the monitor handed over, which are connected and take no other address, and a rule
 * without arguments costs a lookup a tenth of a microsecond less. The same holds for epoll_wait,
 * which knows no other descriptor than the one that epoll_ctl is held to.
 */
#include "privsep/profile.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

#define IN_LOOP SCMP_A0(SCMP_CMP_EQ, WORKER_LOOP, 0)
/* A filter does not see which file: of those that a worker has, images are sealed and open to be
 * read only, so the kernel refuses, and sockets cannot be mapped. What is left is its own page. */
#define WRITABLE SCMP_A2(SCMP_CMP_EQ, PROT_READ | PROT_WRITE, 0)
#define TO_SHARE SCMP_A3(SCMP_CMP_EQ, MAP_SHARED, 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "requests from clients, answers from agents"},
    {SCMP_SYS(sendto), 0, 0, {{0}}, "replies to clients, questions to agents"},
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 1, {IN_LOOP}, "main loop: new clients, writability"},
    {SCMP_SYS(recvmsg), 0, 2, {ON_BRIDGE, RECEIVING}, "bridge: messages and descriptors"},
    {SCMP_SYS(sendmsg), 0, 2, {ON_BRIDGE, SENDING}, "bridge: messages; clients, handed back"},
    {SCMP_SYS(close), 0, 0, {{0}}, "clients and images that are gone"},
    {SCMP_SYS(mmap), 0, 1, {SCMP_A2(SCMP_CMP_EQ, PROT_READ, 0)}, "images"},
    {SCMP_SYS(mmap), 0, 2, {WRITABLE, TO_SHARE}, "its counters; an image cannot be mapped so"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "images, malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "cdb_init: size of an image"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time limits, where the vDSO cannot tell"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_worker = {
    "jailmap-worker", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
