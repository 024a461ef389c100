"""The three servers, each as a real installation would run it, and the tables that they answer.

Runs as root inside tests/bench/run. Everything is below the bench's directory: programs,
configurations, queue directories, sockets and tables. Never the host's /etc/postfix, its queue or
its running mail system. Each server has a session of its own, as a service of systemd would, so
that the kernel shares the CPUs out among servers, load and postmap(1) as among services.
"""

import os
import pwd
import socket
import time

from client import Client, OK, greets
from common import FLOOR, KEY, LOAD, ROOT, VALUE, BenchError, Server, write_file

POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"
POSTMAP = "/usr/sbin/postmap"
SUFFIX = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}

# Runs a program with a directory, the next argument, bound over /etc in a mount namespace of its
# own.
WITH_ETC = ("unshare", "--mount", "--propagation", "private")
WITH_ETC += ("sh", "-c", 'mount --bind "$0" /etc && exec "$@"')


def wait_ready(server):
    """Waits until every socket of the server greets."""
    deadline = time.monotonic() + 20
    for path in set(server.sockets.values()):
        while not greets(path):
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{server.name} does not answer on {path}\n{server.log_text()}")
            time.sleep(0.02)


def wait_found(server, table, key, limit=120):
    """Waits until a key of a table is found; a table that still loads has temporary errors."""
    deadline = time.monotonic() + limit
    while True:
        try:
            with Client(server.socket(), table) as client:
                while time.monotonic() < deadline:
                    status, value = client.lookup(key)
                    if status == OK:
                        return value
                    time.sleep(0.001)
        except OSError:
            time.sleep(0.002)  # not there yet, or a proxymap that has just been replaced
        if time.monotonic() > deadline or server.process.poll() is not None:
            raise BenchError(f"{server.name}: {key} not found in {table}\n{server.log_text()}")


# ---- tables --------------------------------------------------------------------------------------


def body(entries):
    """The text of a table: as many lines, KEY and VALUE with their number in them."""
    return "".join(f"{KEY % i} {VALUE % i}\n" for i in range(entries))


def file_of(table):
    """The file that the server reads."""
    kind, _, path = table.partition(":")
    return path + SUFFIX[kind]


def postmap_argv(bench, table):
    return [POSTMAP, "-c", bench.path("maps"), table]


def make_table(bench, table, text):
    """Makes a table of any type that has files, from its text."""
    kind, _, path = table.partition(":")
    write_file(path, text)
    if kind != "texthash":
        bench.must_run(postmap_argv(bench, table))


def prepare(bench, names):
    """The configuration that postmap runs with, and jailmapd's programs if it is measured."""
    write_file(bench.path("maps", "main.cf"), "compatibility_level = 3.6\n")
    if "jailmapd" not in names:
        return
    bench.must_run(
        ["make", "-s", "-C", ROOT, "install", f"prefix={bench.path('usr')}"]
        + [f"sysconfdir={bench.path('etc')}"]
    )


# ---- proxymap ------------------------------------------------------------------------------------


def make_postfix(bench, name, tables):
    """A Postfix of its own: its own configuration, queue and data directories, no network.

    The proxymap line is Debian's. The logger is there so that a failure can be explained.
    """
    postfix = pwd.getpwnam("postfix")
    maps = "".join(f"\n    proxy:{table}" for table in tables)
    write_file(
        bench.path(name, "conf", "main.cf"),
        f"""compatibility_level = 3.6
queue_directory = {bench.path(name, "spool")}
data_directory = {bench.path(name, "data")}
daemon_directory = {POSTFIX_DAEMONS}
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.invalid
mydestination =
inet_interfaces = loopback-only
maillog_file = {bench.path(name, "log")}
local_recipient_maps ={maps}
""",
    )
    write_file(
        bench.path(name, "conf", "master.cf"),
        "proxymap  unix        -  -  n  -  -  proxymap\n"
        "postlog   unix-dgram  n  -  n  -  1  postlogd\n",
    )
    for directory, mode in (("private", 0o700), ("public", 0o710), ("pid", 0o755)):
        os.makedirs(bench.path(name, "spool", directory))
        os.chmod(bench.path(name, "spool", directory), mode)
    os.makedirs(bench.path(name, "data"), 0o700)
    for directory in ("spool/private", "spool/public", "data"):
        os.chown(bench.path(name, directory), postfix.pw_uid, -1)


def start_proxymap(bench, name, tables, wrapper=()):
    make_postfix(bench, name, tables)
    master = f"{POSTFIX_DAEMONS}/master"
    process, log = bench.start(name, [*wrapper, master, "-d", "-c", bench.path(name, "conf")])
    path = bench.path(name, "spool", "private", "proxymap")
    return Server("proxymap", process, [log, bench.path(name, "log")], {"": path})


# ---- jailmapd ------------------------------------------------------------------------------------


def start_jailmapd(bench, name, tables, listen="", wrapper=(), options=""):
    """`listen` and `options` are lines for the sections of the socket and of each table."""
    path = bench.path(name, "socket")
    configuration = bench.path(name, "jailmapd.conf")
    sections = "".join(f'table "{table}" {{ {options} }}\n' for table in tables)
    write_file(
        configuration,
        f"""user = "nobody"
runtime-dir = "{bench.path(name, "run")}"
libexec-dir = "{bench.path("usr", "libexec", "jailmap")}"
listen "{path}" {{
    mode = 0600
    {listen}
}}
{sections}allow "root" {{ tables = {{"*"}} }}
""",
    )
    program = bench.path("usr", "sbin", "jailmapd")
    process, log = bench.start(name, [*wrapper, program, "-f", "-c", configuration])
    return Server("jailmapd", process, [log], {"": path}, bench.path(name))


def generation(server, table):
    """How many images of a table jailmapd has made, as its census says; 0: none yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        try:
            asker.connect(os.path.join(server.directory, "run", "control.status"))
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        parts = []
        while part := asker.recv(1 << 16):
            parts.append(part)
    for line in b"".join(parts).decode().splitlines():
        fields = line.split("\t")
        if fields[:2] == ["table", table]:
            return int(fields[5])
    return 0


def wait_generation(server, table, above, limit=60):
    """Waits for a newer image. False if none comes."""
    deadline = time.monotonic() + limit
    while generation(server, table) <= above:
        if time.monotonic() > deadline or server.process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


# ---- the floor -----------------------------------------------------------------------------------


def start_floor(bench, lengths):
    """A floor for each length of reply (a name for it, and bytes), so that sizes equal the
    others'."""
    servers = []
    for source, length in lengths.items():
        path = bench.path(f"floor-{source}.sock")
        process, log = bench.start(f"floor-{source}", [FLOOR, "-s", path, "-v", str(length)])
        servers.append(Server("floor", process, [log], {source: path}))
    return servers


def check_programs(names):
    if os.geteuid() != 0:
        raise BenchError("run as root: it starts Postfix and jailmapd, in a directory of their own")
    for program in (LOAD, FLOOR):
        if not os.access(program, os.X_OK):
            raise BenchError(f"{program} is missing: make build/bench/load build/bench/floor")
    if not os.access(f"{POSTFIX_DAEMONS}/proxymap", os.X_OK) and "proxymap" in names:
        raise BenchError("Postfix is not installed: apt-get install postfix")
