/*
 * What AddressSanitizer, UndefinedBehaviorSanitizer and the dynamic linker's code ask of the kernel
 * after a program has entered its system call filter: memory, and, once they have found something,
 * a report with names and line numbers. Linked into the programs of `make system-sanitized` alone.
 * It must allow no more than opening for reading, whatever a report would like.
 */
#include "privsep/profile.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "privsep/sanitized.h"

#define READING SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)
#define SHOWN   SCMP_A2(SCMP_CMP_EQ, PROT_READ, 0)
#define REPORT  SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO, 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "sanitizer: memory"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "sanitizer: memory"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "sanitizer: memory"},
    {SCMP_SYS(madvise), 0, 0, {{0}}, "sanitizer: memory that was freed goes back"},
    {SCMP_SYS(mprotect), 0, 1, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}, "sanitizer: memory"},
    {SCMP_SYS(futex), 0, 0, {{0}}, "sanitizer: its locks"},
    {SCMP_SYS(sched_yield), 0, 0, {{0}}, "sanitizer: its locks"},
    {SCMP_SYS(getpid), 0, 0, {{0}}, "sanitizer: report"},
    {SCMP_SYS(gettid), 0, 0, {{0}}, "sanitizer: report"},
    {SCMP_SYS(write), 0, 0, {{0}}, "sanitizer: report; a pipe, to see whether memory is there"},
    {SCMP_SYS(pipe), 0, 0, {{0}}, "sanitizer: that pipe"},
    {SCMP_SYS(pipe2), 0, 0, {{0}}, "sanitizer: that pipe"},
    {SCMP_SYS(ioctl), 0, 1, {REPORT}, "sanitizer: report, in colour on a terminal"},
    {SCMP_SYS(openat), 0, 1, {READING}, "sanitizer: report, from /proc/self and the program"},
    {SCMP_SYS(open), 0, 1, {SCMP_A1(SCMP_CMP_EQ, O_RDONLY, 0)}, "sanitizer: the same"},
    {SCMP_SYS(read), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(pread64), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(lseek), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(mmap), 0, 1, {SHOWN}, "sanitizer: the same"},
    {SCMP_SYS(close), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(fcntl), 0, 1, {SCMP_A1(SCMP_CMP_EQ, F_SETFD, 0)}, "sanitizer: the same"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(stat), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(readlink), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(readlinkat), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(getcwd), 0, 0, {{0}}, "sanitizer: the same"},
    {SCMP_SYS(prlimit64), 0, 1, {SCMP_A0(SCMP_CMP_EQ, 0, 0)}, "sanitizer: size of the stack"},
    {SCMP_SYS(sigaltstack), 0, 0, {{0}}, "sanitizer: the stack of its signal handler"},
    {SCMP_SYS(rt_sigaction), 0, 0, {{0}}, "sanitizer: its signal handler"},
    {SCMP_SYS(rt_sigprocmask), 0, 0, {{0}}, "sanitizer: its signal handler"},
    {SCMP_SYS(rt_sigreturn), 0, 0, {{0}}, "sanitizer: its signal handler"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "sanitizer: the end"},
};

const struct profile_part profile_sanitized = PROFILE_PART(rules);
