/*
 * What jailmap-agent-mysql and -pgsql may ask of the kernel. Entered by them after their libraries
 * have read what these read when they start, and before anything else. They make no socket, connect
 * nothing, start nothing and map no code: connections come from the dialer. Files are opened to be
 * read only, and Landlock says which. Everything that is not named here kills the process.
 */
#include "privsep/profile.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "privsep/bridge.h"

#define READ_ONLY                                                                                  \
    SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY), 0)
/* No MSG_FASTOPEN: to connect is the dialer's. */
#define SENDING SCMP_A2(SCMP_CMP_EQ, MSG_DONTWAIT | MSG_NOSIGNAL, 0)
#define UNNAMED SCMP_A4(SCMP_CMP_EQ, 0, 0)
/* The kernel takes 32 bits of these, and a filter sees 64. */
#define LOW(n, v) SCMP_A##n(SCMP_CMP_MASKED_EQ, 0xffffffff, (v))
#define OPTION(level, name)                                                                        \
    {                                                                                              \
        LOW(1, level), LOW(2, name)                                                                \
    }

static const struct profile_rule frame[] = {
    {SCMP_SYS(epoll_wait), 0, 0, {{0}}, "frame: waiting for workers and the monitor"},
    {SCMP_SYS(epoll_pwait), 0, 0, {{0}}, "the same, where epoll_wait does not exist"},
    {SCMP_SYS(epoll_ctl), 0, 0, {{0}}, "frame: links come and go"},
    {SCMP_SYS(poll), 0, 0, {{0}}, "frame: waiting for the server or the dialer besides"},
    {SCMP_SYS(ppoll), 0, 0, {{0}}, "the same, where poll does not exist"},
    {SCMP_SYS(restart_syscall), 0, 0, {{0}}, "that, after SIGSTOP and SIGCONT"},
    {SCMP_SYS(recvmsg), 0, 0, {{0}}, "bridge, links, dialer"},
    {SCMP_SYS(sendmsg), 0, 1, {SENDING}, "bridge, dialer"},
    {SCMP_SYS(clock_gettime), 0, 0, {{0}}, "frame: time, where the vDSO cannot tell"},
    {SCMP_SYS(pread64), 0, 0, {{0}}, "the configuration"},
    {SCMP_SYS(mmap), 0, 2, {NOT_EXECUTABLE, NO_FILE}, "malloc, libmariadb's second stack"},
    {SCMP_SYS(munmap), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(mremap), 0, 0, {{0}}, "realloc of large results"},
    {SCMP_SYS(brk), 0, 0, {{0}}, "malloc"},
    {SCMP_SYS(landlock_create_ruleset), 0, 0, {{0}}, "which files may be read is known later"},
    {SCMP_SYS(landlock_add_rule), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(landlock_restrict_self), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(exit_group), 0, 0, {{0}}, "the end"},
};

static const struct profile_rule library[] = {
    {SCMP_SYS(sendto), 0, 1, {UNNAMED}, "links: answers; server: queries"},
    {SCMP_SYS(recvfrom), 0, 0, {{0}}, "links: queries; server: results"},
    {SCMP_SYS(shutdown), 0, 0, {{0}}, "server: a connection that is of no use"},
    {SCMP_SYS(close), 0, 0, {{0}}, "server: a connection; a file"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(SOL_SOCKET, SO_KEEPALIVE), "server: is it still there?"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_TCP, TCP_NODELAY), "server: at once"},
    {SCMP_SYS(fcntl), 0, 1, {LOW(1, F_SETFL)}, "server: not to wait for it"},
    {SCMP_SYS(openat), 0, 1, {READ_ONLY}, "certificates, keys, the option file"},
    {SCMP_SYS(read), 0, 0, {{0}}, "the same; libmariadb: TLS"},
    {SCMP_SYS(lseek), 0, 0, {{0}}, "the same: stdio"},
    {SCMP_SYS(fstat), 0, 0, {{0}}, "the same"},
    {SCMP_SYS(newfstatat), 0, 0, {{0}}, "the same, and whether one has been replaced"},
    {SCMP_SYS(getrandom), 0, 0, {{0}}, "which host; OpenSSL: keys"},
    {SCMP_SYS(futex), 0, 0, {{0}}, "OpenSSL: what is done once"},
    {SCMP_SYS(getpid), 0, 0, {{0}}, "what the server is told of the client; OpenSSL"},
    {SCMP_SYS(geteuid), 0, 0, {{0}}, "a name for the user, if none is given"},
};

static const struct profile_rule mysql[] = {
    {SCMP_SYS(write), 0, 0, {{0}}, "server: TLS"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_IP, IP_TOS), "server: at once"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(SOL_SOCKET, SO_RCVTIMEO), "server: no time-out of its own"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(SOL_SOCKET, SO_SNDTIMEO), "the same"},
};

static const struct profile_rule pgsql[] = {
    {SCMP_SYS(getsockopt), 0, 1, {LOW(1, SOL_SOCKET)}, "server: SO_ERROR; requirepeer"},
    {SCMP_SYS(getsockname), 0, 0, {{0}}, "server: its own address"},
    {SCMP_SYS(fcntl), 0, 1, {LOW(1, F_GETFL)}, "server: not to wait for it"},
    {SCMP_SYS(fcntl), 0, 1, {LOW(1, F_SETFD)}, "server: close on exec"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_TCP, TCP_KEEPIDLE), "server: keepalives_idle"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_TCP, TCP_KEEPINTVL), "keepalives_interval"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_TCP, TCP_KEEPCNT), "server: keepalives_count"},
    {SCMP_SYS(setsockopt), 0, 2, OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT), "server: tcp_user_timeout"},
};

#define COMMON PROFILE_PART(frame), PROFILE_PART(library)

const struct profile profile_agent_mysql = {
    "jailmap-agent-mysql", SCMP_ACT_KILL_PROCESS, {COMMON, PROFILE_PART(mysql)}};
const struct profile profile_agent_pgsql = {
    "jailmap-agent-pgsql", SCMP_ACT_KILL_PROCESS, {COMMON, PROFILE_PART(pgsql)}};
