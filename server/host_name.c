/*
 * Where a server is: see host_name.h. Linked into the dialer and the agents that have one. It may
 * touch only its arguments.
 */
#include "server/host_name.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#define HOST_MAX 255 /* bytes of a name in DNS, and more than an address has */
#define PORT_MAX 63

static struct slice from(struct slice text, size_t at)
{
    return (struct slice){text.ptr + at, text.len - at};
}

static bool begins(struct slice text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.ptr, prefix, strlen(prefix)) == 0;
}

/* Visible ASCII only: what is shown in a log, and what names and addresses are made of. */
static bool is_visible(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~')
            return false;
    return true;
}

static bool is_address(int family, struct slice host)
{
    char text[HOST_MAX + 1], *zone;
    struct in6_addr address;

    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    zone = family == AF_INET6 ? strchr(text, '%') : NULL; /* fe80::1%eth0 */
    if (zone != NULL)
        *zone = '\0';
    return inet_pton(family, text, &address) == 1;
}

unsigned host_name_port(struct slice port)
{
    unsigned number = 0;

    if (port.len == 0 || port.len > 5)
        return 0;
    for (size_t i = 0; i < port.len; i++) {
        if (port.ptr[i] < '0' || port.ptr[i] > '9')
            return 0;
        number = number * 10 + (unsigned)(port.ptr[i] - '0');
    }
    return number <= UINT16_MAX ? number : 0;
}

/* Names of services have letters, digits and marks (RFC 6335, and services(5) is less strict); all
 * digits are a number. */
static const char *wrong_with_port(struct slice port)
{
    static const char marks[] = "0123456789+-._";
    bool digits = true, service = port.len <= PORT_MAX;

    for (size_t i = 0; i < port.len; i++) {
        bool letter = (port.ptr[i] | 0x20) >= 'a' && (port.ptr[i] | 0x20) <= 'z';

        digits = digits && port.ptr[i] >= '0' && port.ptr[i] <= '9';
        service = service && (letter || memchr(marks, port.ptr[i], sizeof marks - 1) != NULL);
    }
    if (port.len == 0)
        return "there is no port";
    if (digits ? host_name_port(port) == 0 : !service)
        return "the port is neither a number from 1 to 65535 nor the name of a service";
    return NULL;
}

bool host_name_parse_inet(struct slice text, struct host_name *name, const char **why)
{
    const char *colon = text.len > 0 ? memrchr(text.ptr, ':', text.len) : NULL;
    struct slice host = {text.ptr, colon != NULL ? (size_t)(colon - text.ptr) : 0};
    bool brackets = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';

    *name = (struct host_name){0};
    if (brackets)
        host = (struct slice){host.ptr + 1, host.len - 2};
    if (colon == NULL) {
        *why = "there is no port";
        return false;
    }
    if (host.len == 0 || host.len > HOST_MAX || !is_visible(text)) {
        *why = host.len == 0 ? "there is no host" : "the host is no name or address";
        return false;
    }
    if (brackets ? !is_address(AF_INET6, host)
                 : memchr(host.ptr, ':', host.len) != NULL || memchr(host.ptr, '[', host.len)) {
        *why = brackets ? "what the brackets hold is no IPv6 address"
                        : "the host has a colon or a bracket, and is no IPv6 address in brackets";
        return false;
    }
    name->host = host;
    name->port = from(text, (size_t)(colon + 1 - text.ptr));
    name->numeric = brackets || is_address(AF_INET, host);
    *why = wrong_with_port(name->port);
    return *why == NULL;
}

static bool parse_path(struct slice path, struct host_name *name, const char **why)
{
    const struct sockaddr_un *address;

    *name = (struct host_name){.local = true, .path = path, .numeric = true};
    *why = path.len == 0 || path.ptr[0] != '/'        ? "the path does not begin with /"
           : path.len >= sizeof address->sun_path     ? "the path is longer than 107 bytes"
           : memchr(path.ptr, '\0', path.len) != NULL ? "the path has a NUL in it"
                                                      : NULL;
    return *why == NULL;
}

bool host_name_parse(struct slice text, struct host_name *name, const char **why)
{
    if (begins(text, "unix:"))
        return parse_path(from(text, 5), name, why);
    if (begins(text, "inet:"))
        return host_name_parse_inet(from(text, 5), name, why);
    *name = (struct host_name){0};
    *why = "it begins with neither unix: nor inet:";
    return false;
}
