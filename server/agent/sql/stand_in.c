/*
 * Stands in for libc's way to the network: see stand_in.h. Runs in jailmap-agent-mysql and -pgsql.
 * It may hand on the descriptor that it was given; it must never ask the kernel, or a name service,
 * for anything.
 */
#include "server/agent/sql/stand_in.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GSS_FAILURE (UINT32_C(13) << 16) /* of RFC 2744 */

/* Of no header here: they are for the libraries. */
uint32_t gss_import_name(uint32_t *minor, void *text, void *type, void **name);
uint32_t gss_display_status(uint32_t *minor, uint32_t status, int type, void *mechanism,
                            uint32_t *context, void *text);

static int offered = -1; /* to whoever asks for a socket */
static int handed = -1;  /* which may be "connected" */
static bool wanted;

void stand_in_offer(int fd)
{
    stand_in_withdraw();
    offered = fd;
    handed = -1;
    wanted = false;
}

void stand_in_withdraw(void)
{
    if (offered >= 0)
        close(offered);
    offered = -1;
}

bool stand_in_wanted(void)
{
    return wanted;
}

/* The parameters below are as libc declares them. */
int socket(int domain, int type, int protocol)
{
    int fd = offered;

    (void)protocol;
    (void)domain;
    (void)type;
    if (fd < 0) {
        wanted = true;
        errno = EACCES;
        return -1;
    }
    handed = fd;
    offered = -1;
    return fd;
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
    (void)address;
    (void)len;
    if (fd >= 0 && fd == handed) {
        handed = -1;
        return 0;
    }
    errno = EACCES;
    return -1;
}

/* One address, whatever the name: the socket is connected already. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    static struct sockaddr_in address;
    static struct addrinfo info;
    unsigned long port;

    (void)name;
    port = service != NULL ? strtoul(service, NULL, 10) : 0;
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    info = (struct addrinfo){.ai_family = AF_INET,
                             .ai_socktype = hints != NULL ? hints->ai_socktype : SOCK_STREAM,
                             .ai_protocol = IPPROTO_TCP,
                             .ai_addrlen = sizeof address,
                             .ai_addr = (struct sockaddr *)&address};
    *result = &info;
    return 0;
}

void freeaddrinfo(struct addrinfo *info)
{
    (void)info;
}

/* The libraries ask for the name, and the home, of the user that they run as. It has none here. */
int getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len, struct passwd **result)
{
    (void)uid;
    (void)pw;
    (void)buf;
    (void)len;
    *result = NULL;
    return 0;
}

struct passwd *getpwuid(uid_t uid)
{
    (void)uid;
    return NULL;
}

char *getlogin(void)
{
    return NULL;
}

/* libmariadb's default port, which is not used. */
struct servent *getservbyname(const char *name, const char *protocol)
{
    (void)name;
    (void)protocol;
    return NULL;
}

/* libmariadb has its sockets block while it uses TLS, and would wait for as long as the server
 * pleases. */
int fcntl64(int fd, int command, ...)
{
    va_list ap;
    long argument;

    va_start(ap, command);
    argument = va_arg(ap, long);
    va_end(ap);
    return (int)syscall(SYS_fcntl, fd, command,
                        command == F_SETFL ? argument | O_NONBLOCK : argument);
}

int fcntl(int fd, int command, ...) __attribute__((alias("fcntl64")));

/* A server may ask libpq for Kerberos, whose libraries look for files and hosts. */
uint32_t gss_import_name(uint32_t *minor, void *text, void *type, void **name)
{
    (void)text;
    (void)type;
    *minor = 0;
    *name = NULL;
    return GSS_FAILURE;
}

/* So that nothing of theirs is asked for the words either. */
uint32_t gss_display_status(uint32_t *minor, uint32_t status, int type, void *mechanism,
                            uint32_t *context, void *text)
{
    (void)status;
    (void)type;
    (void)mechanism;
    (void)context;
    (void)text;
    *minor = 0;
    return GSS_FAILURE;
}
