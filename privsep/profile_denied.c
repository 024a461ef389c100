/*
 * What the launchers, jailmap-agent-nss, jailmap-dialer and jailmap-reader must not ask of the
 * kernel. Entered by a launcher before it starts anything, and by the others before they read
 * anything. NSS modules are code of other projects that opens files and sockets of its choosing, so
 * this is a list of what no name service needs, not of what it does need; Landlock and the
 * unprivileged user stand behind it. A launcher has the same list but for execve: what it starts
 * has it from birth, and each adds its own, so nothing here may be what a helper needs. Opening for
 * writing gets an error, as modules may try it; the rest kills.
 */
#include "privsep/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <asm/sockios.h>

#include "privsep/bridge.h"

#define KILL      SCMP_ACT_KILL_PROCESS
#define REFUSE(e) SCMP_ACT_ERRNO(e)
#define FLAG(n, f)                                                                                 \
    {                                                                                              \
        SCMP_A##n(SCMP_CMP_MASKED_EQ, (f), (f))                                                    \
    }
/* The kernel takes 32 bits of these, and a filter sees 64: the rest must not hide them. */
#define LOW(n, v)     SCMP_A##n(SCMP_CMP_MASKED_EQ, 0xffffffff, (v))
#define NEW(flag)     SCMP_A0(SCMP_CMP_MASKED_EQ, (flag), (flag))
#define CODE(p)       SCMP_A2(SCMP_CMP_MASKED_EQ, (p), (p))
#define WRITABLE_CODE CODE(PROT_WRITE | PROT_EXEC)
#define NEW_CODE      CODE(PROT_EXEC)
/* Newer than Debian 12's headers: */
#define PROTOCOL_SCTP      132
#define PROTOCOL_SMC       256
#define PROTOCOL_MPTCP     262
#define SYS_FCHMODAT2      452
#define SYS_SETXATTRAT     463
#define SYS_REMOVEXATTRAT  466
#define SYS_OPEN_TREE_ATTR 467
#define SYS_FILE_SETATTR   469
#define ACCESS(n, m)                                                                               \
    {                                                                                              \
        SCMP_A##n(SCMP_CMP_MASKED_EQ, O_ACCMODE, (m))                                              \
    }

static const struct profile_rule common[] = {
    {SCMP_SYS(ptrace), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(process_vm_readv), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(process_vm_writev), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(process_madvise), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(pidfd_getfd), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(pidfd_send_signal), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(kill), KILL, 0, {{0}}, "other processes: siblings have the same uid"},
    {SCMP_SYS(tkill), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(tgkill), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(rt_sigqueueinfo), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(rt_tgsigqueueinfo), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(kcmp), KILL, 0, {{0}}, "other processes"},
    {SCMP_SYS(prlimit64), KILL, 1, {SCMP_A0(SCMP_CMP_NE, 0, 0)}, "other processes' limits"},
    {SCMP_SYS(setpriority), KILL, 0, {{0}}, "other processes' time"},
    {SCMP_SYS(ioprio_set), KILL, 0, {{0}}, "other processes' time"},
    {SCMP_SYS(sched_setscheduler), KILL, 0, {{0}}, "other processes' time"},
    {SCMP_SYS(sched_setparam), KILL, 0, {{0}}, "other processes' time"},
    {SCMP_SYS(sched_setattr), KILL, 1, {SCMP_A0(SCMP_CMP_NE, 0, 0)}, "other processes' time"},
    {SCMP_SYS(sched_setaffinity), KILL, 0, {{0}}, "other processes' time"},
    {SCMP_SYS(migrate_pages), KILL, 0, {{0}}, "other processes' memory"},
    {SCMP_SYS(move_pages), KILL, 0, {{0}}, "other processes' memory"},
    {SCMP_SYS(process_mrelease), KILL, 0, {{0}}, "other processes' memory"},
    {SCMP_SYS(fcntl), KILL, 1, {LOW(1, F_SETOWN)}, "signals to others"},
    {SCMP_SYS(fcntl), KILL, 1, {LOW(1, F_SETOWN_EX)}, "signals to others"},
    {SCMP_SYS(fcntl), KILL, 1, {LOW(1, F_SETSIG)}, "signals to others"},
    {SCMP_SYS(ioctl), KILL, 1, {LOW(1, FIOSETOWN)}, "signals to others"},
    {SCMP_SYS(ioctl), KILL, 1, {LOW(1, SIOCSPGRP)}, "signals to others"},
    {SCMP_SYS(setuid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setgid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setreuid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setregid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setresuid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setresgid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setfsuid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setfsgid), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(setgroups), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(capset), KILL, 0, {{0}}, "identity"},
    {SCMP_SYS(chroot), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(pivot_root), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(mount), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(umount2), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(open_tree), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(move_mount), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fsopen), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fsmount), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(mount_setattr), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(open_by_handle_at), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(mknod), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(mknodat), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(chmod), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fchmod), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fchmodat), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(chown), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fchown), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(lchown), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(fchownat), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(swapon), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(swapoff), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(quotactl), KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(mmap), KILL, 1, {WRITABLE_CODE}, "code of its own making"},
    {SCMP_SYS(mprotect), KILL, 1, {NEW_CODE}, "code of its own making"},
    {SCMP_SYS(pkey_mprotect), KILL, 1, {NEW_CODE}, "code of its own making"},
    {SCMP_SYS(personality), KILL, 0, {{0}}, "code of its own making"},
    {SCMP_SYS(shmget), KILL, 0, {{0}}, "what outlives a process"},
    {SCMP_SYS(semget), KILL, 0, {{0}}, "what outlives a process"},
    {SCMP_SYS(msgget), KILL, 0, {{0}}, "what outlives a process"},
    {SCMP_SYS(mq_open), KILL, 0, {{0}}, "what outlives a process"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWUSER)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWNS)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWNET)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWPID)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWIPC)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWUTS)}, "namespaces"},
    {SCMP_SYS(clone), KILL, 1, {NEW(CLONE_NEWCGROUP)}, "namespaces"},
    {SCMP_SYS(clone3), REFUSE(ENOSYS), 0, {{0}}, "its flags are beyond a filter's reach"},
    {SCMP_SYS(unshare), KILL, 0, {{0}}, "namespaces"},
    {SCMP_SYS(setns), KILL, 0, {{0}}, "namespaces"},
    {SCMP_SYS(init_module), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(finit_module), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(delete_module), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(kexec_load), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(kexec_file_load), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(reboot), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(bpf), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(perf_event_open), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(userfaultfd), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(io_uring_setup), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(io_uring_enter), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(io_uring_register), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(add_key), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(request_key), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(keyctl), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(settimeofday), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(clock_settime), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(clock_adjtime), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(adjtimex), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(sethostname), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(setdomainname), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(syslog), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(acct), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(iopl), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(ioperm), KILL, 0, {{0}}, "kernel"},
    {SCMP_SYS(open), REFUSE(EACCES), 1, ACCESS(1, O_WRONLY), "opening for writing"},
    {SCMP_SYS(open), REFUSE(EACCES), 1, ACCESS(1, O_RDWR), "opening for writing"},
    {SCMP_SYS(openat), REFUSE(EACCES), 1, ACCESS(2, O_WRONLY), "opening for writing"},
    {SCMP_SYS(openat), REFUSE(EACCES), 1, ACCESS(2, O_RDWR), "opening for writing"},
    {SCMP_SYS(open), REFUSE(EACCES), 1, ACCESS(1, O_ACCMODE), "opening to change"},
    {SCMP_SYS(openat), REFUSE(EACCES), 1, ACCESS(2, O_ACCMODE), "opening to change"},
    {SCMP_SYS(open), REFUSE(EACCES), 1, FLAG(1, O_CREAT), "making files"},
    {SCMP_SYS(open), REFUSE(EACCES), 1, FLAG(1, O_TRUNC), "emptying files"},
    {SCMP_SYS(openat), REFUSE(EACCES), 1, FLAG(2, O_CREAT), "making files"},
    {SCMP_SYS(openat), REFUSE(EACCES), 1, FLAG(2, O_TRUNC), "emptying files"},
    {SCMP_SYS(creat), REFUSE(EACCES), 0, {{0}}, "making files"},
    {SCMP_SYS(truncate), REFUSE(EACCES), 0, {{0}}, "emptying files"},
    {SCMP_SYS(mkdir), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(mkdirat), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(rmdir), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(link), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(linkat), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(symlink), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(symlinkat), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(unlink), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(unlinkat), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(rename), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(renameat), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(renameat2), REFUSE(EACCES), 0, {{0}}, "names"},
    {SCMP_SYS(setxattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(lsetxattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(fsetxattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(removexattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(lremovexattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(fremovexattr), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(utimensat), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(utimes), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(utime), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SCMP_SYS(futimesat), REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SYS_FCHMODAT2, REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SYS_SETXATTRAT, REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SYS_REMOVEXATTRAT, REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SYS_FILE_SETATTR, REFUSE(EACCES), 0, {{0}}, "attributes"},
    {SYS_OPEN_TREE_ATTR, KILL, 0, {{0}}, "file system"},
    {SCMP_SYS(openat2), REFUSE(ENOSYS), 0, {{0}}, "its flags are beyond a filter's reach"},
};

/* Agents, dialers and the reader alone: what a launcher does for what it starts, and what needs
 * files. */
static const struct profile_rule agents[] = {
    {SCMP_SYS(prctl), KILL, 1, {LOW(0, PR_SET_PDEATHSIG)}, "to outlive the monitor"},
    {SCMP_SYS(prctl), KILL, 1, {LOW(0, PR_SET_DUMPABLE)}, "to be read by others"},
    {SCMP_SYS(memfd_create), REFUSE(EACCES), 0, {{0}}, "code of its own making"},
    {SCMP_SYS(execve), KILL, 0, {{0}}, "another program"},
    {SCMP_SYS(execveat), KILL, 0, {{0}}, "another program"},
};

/* Landlock says to which ports the dialer connects, of TCP and by connect(2) alone. */
static const struct profile_rule dialer[] = {
    {SCMP_SYS(socket), KILL, 1, {LOW(2, PROTOCOL_MPTCP)}, "connections that Landlock does not see"},
    {SCMP_SYS(socket), KILL, 1, {LOW(2, PROTOCOL_SCTP)}, "connections that Landlock does not see"},
    {SCMP_SYS(socket), KILL, 1, {LOW(2, PROTOCOL_SMC)}, "connections that Landlock does not see"},
    {SCMP_SYS(socket),
     KILL,
     1,
     {SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0)},
     "the same: SMC, VSOCK, TIPC, RDS"},
    {SCMP_SYS(setsockopt), KILL, 2, {LOW(1, IPPROTO_TCP), LOW(2, TCP_ULP)}, "the same: SMC"},
    {SCMP_SYS(sendto),
     KILL,
     1,
     {SCMP_A3(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN)},
     "the same"},
    {SCMP_SYS(sendmsg),
     KILL,
     1,
     {SCMP_A2(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN)},
     "the same"},
    {SCMP_SYS(sendmmsg),
     KILL,
     1,
     {SCMP_A3(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN)},
     "the same"},
    {SCMP_SYS(listen), KILL, 0, {{0}}, "connections that others make"},
    {SCMP_SYS(accept), KILL, 0, {{0}}, "connections that others make"},
    {SCMP_SYS(accept4), KILL, 0, {{0}}, "connections that others make"},
};

/* The first process of the pid namespace: it waits for the launcher to end. */
static const struct profile_rule anchor[] = {
    {SCMP_SYS(read), 0, 1, {SCMP_A0(SCMP_CMP_EQ, BRIDGE_FD, 0)}, "the end of the launcher"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "that, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_launcher = {
    "jailmap-launcher", SCMP_ACT_ALLOW, {PROFILE_PART(common)}};
const struct profile profile_agent_nss = {
    "jailmap-agent-nss", SCMP_ACT_ALLOW, {PROFILE_PART(common), PROFILE_PART(agents)}};
const struct profile profile_dialer = {
    "jailmap-dialer",
    SCMP_ACT_ALLOW,
    {PROFILE_PART(common), PROFILE_PART(agents), PROFILE_PART(dialer)}};
const struct profile profile_reader = {
    "jailmap-reader", SCMP_ACT_ALLOW, {PROFILE_PART(common), PROFILE_PART(agents)}};
const struct profile profile_anchor = {
    "jailmap-launcher", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(anchor)}};
