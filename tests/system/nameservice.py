"""A name service of its own for a test: a private nsswitch.conf, a module that does what it is
told, and any other file or directory put over the system's, all in a private mount namespace.

Used inside tests/system/run, as root. The mounts are in a namespace that ends with the last process
in it; the system's own files stay as they are. It must never write below the real /etc.
"""

import os
import re
import shlex

import harness
from harness import workspace

# Stands in for libnss_hesiod, which the C library's package has and nobody uses.
MODULE = r"""
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Answers once somebody has changed the mode of nsswitch.conf. */
static enum nss_status wait_for_change(void)
{
    struct stat before, now;

    if (stat("/etc/nsswitch.conf", &before) != 0)
        return NSS_STATUS_UNAVAIL;
    do
        usleep(1000);
    while (stat("/etc/nsswitch.conf", &now) == 0 && now.st_mode == before.st_mode);
    return NSS_STATUS_SUCCESS;
}

/* A name service that does what the name asks for. */
static enum nss_status act(const char *name, size_t room, int *errnop)
{
    static const struct { const char *name; enum nss_status status; int error; } acts[] = {
        { "fault-unavail-eio", NSS_STATUS_UNAVAIL, EIO },
        { "fault-unavail-enoent", NSS_STATUS_UNAVAIL, ENOENT },
        { "fault-unavail-refused", NSS_STATUS_UNAVAIL, ECONNREFUSED },
        { "fault-unavail-eacces", NSS_STATUS_UNAVAIL, EACCES },
        { "fault-tryagain", NSS_STATUS_TRYAGAIN, EAGAIN },
        { "fault-enomem", NSS_STATUS_TRYAGAIN, ENOMEM },
        { "nss-present", NSS_STATUS_SUCCESS, 0 },
    };
    if (strcmp(name, "nss-long") == 0 || strcmp(name, "fault-too-long") == 0) {
        if (room >= (name[0] == 'n' ? 100000u : 1u << 24))
            return NSS_STATUS_SUCCESS;
        *errnop = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    if (strcmp(name, "fault-spin") == 0)
        for (volatile int turn = 0;; turn = !turn)
            ;
    if (strcmp(name, "fault-hang") == 0)
        for (;;)
            sleep(1000);
    if (strcmp(name, "nss-wait") == 0)
        return wait_for_change();
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(name, acts[i].name) == 0) {
            *errnop = acts[i].error;
            return acts[i].status;
        }
    *errnop = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

/* The number of nss-user-1 to nss-user-999, who all exist; else 0. */
static unsigned number(const char *name)
{
    return strncmp(name, "nss-user-", 9) == 0 ? (unsigned)atoi(name + 9) % 1000 : 0;
}

enum nss_status _nss_hesiod_getpwnam_r(const char *name, struct passwd *pw, char *buffer,
                                       size_t room, int *errnop)
{
    unsigned n = number(name);
    enum nss_status status = n > 0 ? NSS_STATUS_SUCCESS : act(name, room, errnop);

    if (status == NSS_STATUS_SUCCESS)
        *pw = (struct passwd){ .pw_name = "nss-user", .pw_passwd = "x", .pw_uid = 4242 + n,
                               .pw_gid = 4343, .pw_gecos = "", .pw_dir = "/",
                               .pw_shell = "/bin/sh" };
    if (n > 0 && strlen(name) < room)
        pw->pw_name = strcpy(buffer, name);
    return status;
}

enum nss_status _nss_hesiod_getgrnam_r(const char *name, struct group *gr, char *buffer,
                                       size_t room, int *errnop)
{
    static char *members[] = { "one", "two", NULL };
    enum nss_status status = act(name, room, errnop);

    (void)buffer;
    if (status == NSS_STATUS_SUCCESS)
        *gr = (struct group){ .gr_name = "nss-group", .gr_passwd = "x", .gr_gid = 4343,
                              .gr_mem = members };
    return status;
}
"""

FOLDERS = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64")
_built = None


def module():
    """(path of the stand-in, path of the system's module that it is put over)."""
    global _built
    if _built is None:
        place = workspace().directory("nss")
        source = workspace().write(place, "nss.c", MODULE)
        stand_in = os.path.join(place, "module.so")
        code, _, errors = harness.run(["cc", "-shared", "-fPIC", "-O1", "-o", stand_in, source])
        if code != 0:
            raise AssertionError(errors)
        _, out, _ = harness.run(["/sbin/ldconfig", "-p"])
        listed = re.search(r"libnss_hesiod\.so\.2 .*=> (\S+)", out)
        names = [os.path.join(folder, "libnss_hesiod.so.2") for folder in FOLDERS]
        found = [listed.group(1)] if listed else [name for name in names if os.path.exists(name)]
        _built = stand_in, os.path.realpath(found[0])
    return _built


def user(number):
    """What the stand-in knows of nss-user-NUMBER, as a table gives it."""
    return f"nss-user-{number}:x:{4242 + number}:4343::/:/bin/sh".encode()


def namespace(mounts):
    """What to put before a command so that it runs where each file or directory of {path: source}
    is mounted over path; a source of None is an empty directory."""
    lines = [
        f"mount -t tmpfs tmpfs {shlex.quote(path)}"
        if source is None
        else f"mount --bind {shlex.quote(source)} {shlex.quote(path)}"
        for path, source in mounts.items()
    ]
    script = " && ".join([*lines, 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def change_mode(pid):
    """What nss-wait waits for, in a process that was started behind switched()."""
    switch = f"/proc/{pid}/root/etc/nsswitch.conf"
    os.chmod(switch, os.stat(switch).st_mode ^ 0o100)


def switched(passwd="files hesiod", group="files hesiod", stand_in=True):
    """What to put before a command so that it has such an nsswitch.conf, and the stand-in."""
    switch = workspace().write(
        workspace().directory("switch"), "nsswitch.conf", f"passwd: {passwd}\ngroup: {group}\n"
    )
    mounts = {"/etc/nsswitch.conf": switch}
    if stand_in:
        source, path = module()
        mounts[path] = source
    return namespace(mounts)
