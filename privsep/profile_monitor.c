/*
 * What jailmapd, the monitor, may ask of the kernel once it has read its configuration, bound its
 * sockets and started its launchers. Everything else kills it. It can start no process and execute
 * nothing; it can read from its signals and from inotify only, so neither a table nor a client (but
 * for what recvmsg(2), which it has for its bridges, could take from a connection before it passes
 * that on); it can map no file; and its sockets are of this machine. The descriptors that it may
 * read can be neither closed nor replaced, so no other can take their numbers.
 */
#include "privsep/profile.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "privsep/bridge.h"

/* Landlock says where; without it this does. */
#define CHANGING (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))
#define STANDARD SCMP_A1(SCMP_CMP_LE, STDERR_FILENO, 0)
/* A number of 8 or more has one of these bits. A filter sees 64 bits of it and the kernel takes 32,
 * so to compare it as a whole would let 2^32 + 4 pass for a large one. */
#define MAY_CLOSE(bit)                                                                             \
    {                                                                                              \
        SCMP_SYS(close), 0, 1, {SCMP_A0(SCMP_CMP_MASKED_EQ, 1u << (bit), 1u << (bit))},            \
            "what is not needed any more, but nothing that is pinned"                              \
    }
#define IS(n, v) SCMP_A##n(SCMP_CMP_EQ, (v), 0)

static const struct profile_rule rules[] = {
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "main loop, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 0, {{0}}, "main loop"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "that, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "time, where the vDSO cannot tell"},
    {SCMP_SYS(clock_nanosleep), 0, 0, {{0}}, "waiting for the last helpers, at the end"},
    {SCMP_SYS(read), 0, 1, {IS(0, MONITOR_SIGNALS)}, "signals"},
    {SCMP_SYS(read), 0, 1, {IS(0, MONITOR_INOTIFY)}, "changes of sources"},

    {SCMP_SYS(recvmsg), 0, 1, {IS(2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)}, "bridge"},
    {SCMP_SYS(sendmsg),
     0,
     1,
     {IS(2, MSG_DONTWAIT | MSG_NOSIGNAL)},
     "bridge; service manager; control sockets; log socket, at the end"},
    {SCMP_SYS(socketpair), 0, 1, {IS(0, AF_UNIX)}, "bridge: of a new child; links to agents"},
    {SCMP_SYS(setsockopt), 0, 2, {IS(1, SOL_SOCKET), IS(2, SO_SNDBUF)}, "bridge: room"},
    {SCMP_SYS(setsockopt),
     0,
     2,
     {IS(1, SOL_SOCKET), IS(2, SO_PASSRIGHTS)},
     "bridge: a worker hands clients back"},
    {SCMP_SYS(getsockopt),
     0,
     2,
     {IS(1, SOL_SOCKET), IS(2, SO_DOMAIN)},
     "bridge: may it be closed?"},
    {SCMP_SYS(ioctl), 0, 1, {IS(1, SIOCOUTQ)}, "bridge: has it been read?"},
    {SCMP_SYS(kill), 0, 1, {IS(1, SIGKILL)}, "children: the end of one that breaks a rule"},
    {SCMP_SYS(wait4), 0, 0, {{0}}, "children: how one ended"},
    {SCMP_SYS(waitid), 0, 0, {{0}}, "children: is it one?"},

    {SCMP_SYS(accept4), 0, 0, {{0}}, "clients"},
    {SCMP_SYS(getsockopt), 0, 2, {IS(1, SOL_SOCKET), IS(2, SO_PEERCRED)}, "clients: who is it?"},
    {SCMP_SYS(getsockopt),
     0,
     2,
     {IS(1, SOL_SOCKET), IS(2, SO_PEERGROUPS)},
     "clients: its groups; control sockets: is it a member of control-group?"},

    {SCMP_SYS(openat),
     0,
     1,
     {SCMP_A2(SCMP_CMP_MASKED_EQ, CHANGING, 0)},
     "sources, and the way to them; an image, to be read"},
    {SCMP_SYS(readlinkat), 0, 0, {{0}}, "sources: symbolic links"},
    {SCMP_SYS(readlink), 0, 0, {{0}}, "the same, as glibc spells it"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "sources: what was opened"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, as glibc spells fstat; sockets: whose is it?"},
    {SCMP_SYS(fstatfs), 0, 0, {{0}}, "sources: is it of a network?"},
    {SCMP_SYS(flock), 0, 0, {{0}}, "sources: the lock of Berkeley DB's writers"},
    {SCMP_SYS(fcntl), 0, 1, {IS(1, F_OFD_SETLK)}, "sources: the lock of LMDB's writers"},
    {SCMP_SYS(fcntl), 0, 1, {IS(1, F_SETLEASE)}, "sources: is it open for writing?"},
    {SCMP_SYS(setfsuid),
     0,
     0,
     {{0}},
     "sources: a lease is their owner's; sockets: the directory is"},
    {SCMP_SYS(setfsgid), 0, 0, {{0}}, "sockets: the directory is its owner's"},
    {SCMP_SYS(inotify_add_watch), 0, 1, {IS(0, MONITOR_INOTIFY)}, "sources: changes"},
    {SCMP_SYS(inotify_rm_watch), 0, 1, {IS(0, MONITOR_INOTIFY)}, "the same"},

    {SCMP_SYS(memfd_create), 0, 0, {{0}}, "images, counters"},
    {SCMP_SYS(fcntl), 0, 1, {IS(1, F_ADD_SEALS)}, "images, counters"},
    {SCMP_SYS(fcntl), 0, 1, {IS(1, F_GET_SEALS)}, "images, counters"},
    {SCMP_SYS(ftruncate), 0, 0, {{0}}, "counters: the size of a page"},

    {SCMP_SYS(write), 0, 0, {{0}}, "that it is ready; the policy, for control.policy"},
    {SCMP_SYS(renameat), 0, 0, {{0}}, "sockets: a reload replaces one"},
    {SCMP_SYS(renameat2), 0, 0, {{0}}, "the same, where renameat does not exist"},
    {SCMP_SYS(unlinkat), 0, 0, {{0}}, "sockets, when they go, and its own files, at the end"},

    {SCMP_SYS(bind), 0, 0, {{0}}, "sockets: what a reload adds"},
    {SCMP_SYS(listen), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(umask), 0, 0, {{0}}, "sockets: their mode"},
    {SCMP_SYS(fchdir), 0, 0, {{0}}, "sockets: bound from within their directory"},
    {SCMP_SYS(chdir), 0, 0, {{0}}, "and back"},

    {SCMP_SYS(socket), 0, 1, {IS(0, AF_UNIX)}, "log socket; sockets"},
    {SCMP_SYS(connect), 0, 0, {{0}}, "log socket; sockets: has it been left by a dead process?"},

    {SCMP_SYS(getpid), 0, 0, {{0}}, "log lines"},
    MAY_CLOSE(3),
    MAY_CLOSE(4),
    MAY_CLOSE(5),
    MAY_CLOSE(6),
    MAY_CLOSE(7),
    MAY_CLOSE(8),
    MAY_CLOSE(9),
    MAY_CLOSE(10),
    MAY_CLOSE(11),
    MAY_CLOSE(12),
    MAY_CLOSE(13),
    MAY_CLOSE(14),
    MAY_CLOSE(15),
    MAY_CLOSE(16),
    MAY_CLOSE(17),
    MAY_CLOSE(18),
    MAY_CLOSE(19),
    MAY_CLOSE(20),
    MAY_CLOSE(21),
    MAY_CLOSE(22),
    MAY_CLOSE(23),
    MAY_CLOSE(24),
    MAY_CLOSE(25),
    MAY_CLOSE(26),
    MAY_CLOSE(27),
    MAY_CLOSE(28),
    MAY_CLOSE(29),
    MAY_CLOSE(30),
    {SCMP_SYS(dup2), 0, 1, {STANDARD}, "/dev/null as standard error, when it is ready"},
    {SCMP_SYS(dup3), 0, 1, {STANDARD}, "the same, where dup2 does not exist"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

const struct profile profile_monitor = {"jailmapd", SCMP_ACT_KILL_PROCESS, {PROFILE_PART(rules)}};
