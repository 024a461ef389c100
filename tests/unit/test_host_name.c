/*
 * Tests of the names of servers, of what an agent tells its dialer, and of the ports that Landlock
 * lets it connect to. Part of the unit test program; the last test connects, in a process of its
 * own, to ports of this machine.
 */
#include "server/host_name.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "privsep/landlock.h"
#include "server/dialer/hosts.h"
#include "tests/unit/unit.h"

#define PORT "the port is neither a number from 1 to 65535 nor the name of a service"

static void good(void)
{
    static const struct {
        const char *text, *host, *port;
        bool numeric;
    } rows[] = {
        {"inet:localhost:25", "localhost", "25", false},
        {"inet:db.example.com:mysql", "db.example.com", "mysql", false},
        {"inet:192.0.2.1:65535", "192.0.2.1", "65535", true},
        {"inet:host:x-y_z.2+", "host", "x-y_z.2+", false},
        {"inet:[::1]:1", "::1", "1", true},
        {"inet:[fe80::1%eth0]:25", "fe80::1%eth0", "25", true},
        {"inet:192.0.2.300:25", "192.0.2.300", "25", false},
    };
    struct host_name name;
    const char *why;

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = exact_copy(rows[i].text, strlen(rows[i].text));

        CHECK(host_name_parse((struct slice){exact, strlen(rows[i].text)}, &name, &why) &&
                  !name.local && slice_is(name.host, rows[i].host) &&
                  slice_is(name.port, rows[i].port) && name.numeric == rows[i].numeric,
              "%s", rows[i].text);
        free(exact);
    }
    CHECK(host_name_parse(text_slice("unix:/run/a:b c"), &name, &why) && name.local &&
              name.numeric && slice_is(name.path, "/run/a:b c"),
          "a UNIX socket");
    CHECK(host_name_port(text_slice("25")) == 25 && host_name_port(text_slice("65535")) == 65535 &&
              host_name_port(text_slice("smtp")) == 0 && host_name_port(text_slice("")) == 0 &&
              host_name_port(text_slice("2x")) == 0 && host_name_port(text_slice("65536")) == 0,
          "numbers of ports");
}

static void bad(void)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "it begins with neither unix: nor inet:"},
        {"localhost:25", "it begins with neither unix: nor inet:"},
        {"INET:localhost:25", "it begins with neither unix: nor inet:"},
        {"inet:", "there is no port"},
        {"inet:localhost", "there is no port"},
        {"inet:localhost:", "there is no port"},
        {"inet::25", "there is no host"},
        {"inet:local host:25", "the host is no name or address"},
        {"inet:h\xc3\xa9:25", "the host is no name or address"},
        {"inet:localhost:0", PORT},
        {"inet:localhost:65536", PORT},
        {"inet:localhost:111111", PORT},
        {"inet:localhost:/run/map", PORT},
        {"inet:::1:25", "the host has a colon or a bracket, and is no IPv6 address in brackets"},
        {"inet:[::1:25", "the host has a colon or a bracket, and is no IPv6 address in brackets"},
        {"inet:[]:25", "the host has a colon or a bracket, and is no IPv6 address in brackets"},
        {"inet:[host]:25", "what the brackets hold is no IPv6 address"},
        {"inet:[127.0.0.1]:25", "what the brackets hold is no IPv6 address"},
        {"unix:", "the path does not begin with /"},
        {"unix:run/map", "the path does not begin with /"},
        {"unix:/2345678901234567890123456789012345678901234567890123456789012345678901234567890"
         "1234567890123456789012345678",
         "the path is longer than 107 bytes"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *exact = exact_copy(rows[i].text, strlen(rows[i].text));
        struct host_name name;
        const char *why = NULL;

        CHECK(!host_name_parse((struct slice){exact, strlen(rows[i].text)}, &name, &why), "%s",
              rows[i].text);
        CHECK_TEXT(why != NULL ? why : "nothing", rows[i].why, rows[i].text);
        free(exact);
    }
}

/* A tail with | for each NUL. */
static bool parse(struct told_hosts *hosts, const char *tail, uint32_t count)
{
    struct wire w = wire(tail);
    char *exact = exact_copy(w.bytes, w.len);
    bool parsed = told_hosts_parse(hosts, exact, w.len, count);

    free(exact);
    return parsed;
}

static void told(void)
{
    static struct told_hosts hosts;

    CHECK(parse(&hosts, "unix:/a|inet:10.0.0.1:2|", 2) && hosts.count == 2 &&
              hosts.host[0].name.local && !hosts.host[1].name.local && !hosts_need_names(&hosts),
          "two");
    CHECK(parse(&hosts, "unix:/a|inet:b:2|", 2) && hosts_need_names(&hosts), "one with a name");
    CHECK(parse(&hosts, "", 0) && hosts.count == 0, "none");
    CHECK(!parse(&hosts, "unix:/a|", 0), "one, and none is announced");
    CHECK(!parse(&hosts, "unix:/a|", 2), "one, and two are announced");
    CHECK(!parse(&hosts, "unix:/a|unix:/b|", 1), "two, and one is announced");
    CHECK(!parse(&hosts, "unix:/a", 1), "no NUL at its end");
    CHECK(!parse(&hosts, "unix:/a|unix:/b", 2), "no NUL at the end of the last");
    CHECK(!parse(&hosts, "unix:/a||", 2), "an empty one");
    CHECK(!parse(&hosts, "unix:a|", 1), "no host");
    CHECK(!parse(&hosts, "unix:/a|", HOSTS_MAX + 1), "too many");
    CHECK(!parse(&hosts, "unix:/a|", UINT32_MAX), "far too many");
}

/* errno of a connection to that port. Nobody listens there, so it is not 0. */
static int try_port(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;

    close(fd);
    return error;
}

static void ports(void)
{
    static const uint16_t some[] = {1, 3};
    int status = 0;
    pid_t pid;

    if (landlock_version() < 4) {
        CHECK(landlock_ports(some, 2) == 0, "a kernel that does not know how");
        return;
    }
    REQUIRE((pid = fork()) >= 0, "fork");
    if (pid == 0) {
        bool held = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && landlock_ports(some, 2) == 0 &&
                    try_port(1) != EACCES && try_port(2) == EACCES && try_port(3) != EACCES;

        held = held && landlock_ports(NULL, 0) == 0 && try_port(1) == EACCES;
        _exit(held ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child says %#x", (unsigned)status);
}

static const struct unit_test tests[] = {
    {"a host is a UNIX socket, or a name or an address with a port", good},
    {"what is no host is refused, and it is said what was found", bad},
    {"the hosts of an agent are exactly as many as it says", told},
    {"Landlock holds to some ports, and then to none", ports},
};

const struct unit_suite host_name_suite = {
    .name = "host_name", .tests = tests, .ntests = COUNT(tests)};
