/*
 * What jailmap-loader may ask of the kernel, by what it reads its source with. Entered by the
 * loader as its first act. It opens nothing: libdb asks for a CPU count in /sys while it starts and
 * is told that there is no such file; everything else that is not named here kills the process, and
 * with it only this load.
 */
#include "privsep/profile.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

static const struct profile_rule common[] = {
    {SCMP_SYS(recvmsg),
     0,
     1,
     {ON_BRIDGE},
     "bridge: INPUT and LOAD, with what is read and the image"},
    {SCMP_SYS(sendmsg), 0, 1, {ON_BRIDGE}, "bridge: LOADED or FAILED"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "bridge: waiting for LOAD"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "poll, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(write), 0, 0, {{0}}, "image: cdb_make_add"},
    {SCMP_SYS(lseek), 0, 0, {{0}}, "image: cdb_make_start, cdb_make_finish"},
    {SCMP_SYS(getrandom), 0, 0, {{0}}, "image: its seed"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc, cdb_free"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large buffers"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

static const struct profile_rule reading[] = {
    {SCMP_SYS(pread64), 0, 0, {{0}}, "source: its bytes"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "source: its size"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat"},
};

static const struct profile_rule mapping[] = {
    {SCMP_SYS(mmap), 0, 1, {SCMP_A2(SCMP_CMP_EQ, PROT_READ, 0)}, "source: cdb_init, liblmdb"},
};

static const struct profile_rule db[] = {
    {SCMP_SYS(getpid), 0, 0, {{0}}, "libdb: names its locks"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "libdb: time, where the vDSO cannot tell"},
    {SCMP_SYS(openat), SCMP_ACT_ERRNO(ENOENT), 0, {{0}}, "libdb: /sys, for the number of CPUs"},
    {SCMP_SYS(sched_getaffinity), SCMP_ACT_ERRNO(ENOSYS), 0, {{0}}, "libdb: the same"},
};

static const struct profile_rule lmdb[] = {
    {SCMP_SYS(getpid), 0, 0, {{0}}, "liblmdb: its environment"},
    {SCMP_SYS(fstatfs), 0, 0, {{0}}, "liblmdb: is the source on ext3 or ext4 ..."},
    {SCMP_SYS(uname), 0, 0, {{0}}, "liblmdb: ... of a kernel whose fdatasync is broken"},
    {SCMP_SYS(close), 0, 0, {{0}}, "liblmdb: lets go of what is no LMDB file"},
};

#define LOADER "jailmap-loader", SCMP_ACT_KILL_PROCESS
#define COMMON PROFILE_PART(common)

const struct profile profile_loader_db = {LOADER,
                                          {COMMON, PROFILE_PART(reading), PROFILE_PART(db)}};
const struct profile profile_loader_cdb = {LOADER,
                                           {COMMON, PROFILE_PART(reading), PROFILE_PART(mapping)}};
const struct profile profile_loader_lmdb = {
    LOADER, {COMMON, PROFILE_PART(reading), PROFILE_PART(mapping), PROFILE_PART(lmdb)}};
const struct profile profile_loader_text = {LOADER, {COMMON, PROFILE_PART(reading)}};
const struct profile profile_loader_name = {LOADER, {COMMON}};
