"""Users and groups from /etc/passwd and /etc/group, with a name service behind them or without.

Each test has a copy of /etc of its own, mounted over /etc in private namespaces, where the daemon,
the system's own tools and Debian's proxymap see the same files. The host's /etc is only copied. The
reference for every answer is what the C library answers in the same namespace.
"""

import itertools
import json
import os
import re
import secrets
import signal

import harness
import nameservice
import private_postfix
import proc
import protocol
from asker import Asker
from harness import workspace
from protocol import OK, NOKEY, RETRY, o_lookup
from waiting import wait_for

USERS, GROUPS = "unix:passwd.byname", "unix:group.byname"
ABSENT = "no-such-name"
EXTRA = "/var/lib/extrausers"
# A name service behind the files that knows nobody but root: Debian's usual one, if it is there.
SECOND = (
    "systemd"
    if re.search(r"libnss_systemd\.so", harness.run(["/sbin/ldconfig", "-p"])[1])
    else "extrausers"
)

# Prints, for each name on standard input (hexadecimal, as everything here), what the table has.
PROBE = r"""
import grp, os, pwd, sys

def user(name):
    e = pwd.getpwnam(name)
    return (e[0], e[1], e[2] & 0xFFFFFFFF, e[3] & 0xFFFFFFFF, *e[4:])

def group(name):
    e = grp.getgrnam(name)
    return e[0], e[1], e[2] & 0xFFFFFFFF, ",".join(e[3])

find = {"unix:passwd.byname": user, "unix:group.byname": group}[sys.argv[1]]
for line in sys.stdin:
    try:
        print("=" + os.fsencode(":".join(map(str, find(os.fsdecode(bytes.fromhex(line)))))).hex())
    except KeyError:
        print("-")
"""

# Lines that the C library reads in its own way, or not at all.
AWKWARD_USERS = b"""\
# a comment:x:1:1::/:/bin/sh
   # another
\t
one:x:1001:1001:One:/home/one:/bin/sh
one:x:1002:1002:One again:/home/one:/bin/sh
  blanks:x:1003:1003:Blanks before:/home/blanks:/bin/sh
\ttab:x:1004:1004:A tab before:/home/tab:/bin/sh
after :x:1005:1005:A blank after the name:/:/bin/sh
+:x:1006:1006:::
+plus:x:1007:1007:::
-minus:x:1008:1008:::
+@netgroup
-@netgroup
nothing-else
no-uid:x
no-uid-but-colon:x:
empty-uid:x::1009:No uid:/:/bin/sh
empty-gid:x:1010::No gid:/:/bin/sh
no-gid:x:1011
no-gecos:x:1012:1012
no-dir:x:1013:1013:No dir
no-shell:x:1014:1014:No shell:/
no-shell-but-colon:x:1015:1015:No shell:/:
empty-all:::::::
no-passwd::1016:1016:No passwd:/:/bin/sh
colons:x:1017:1017:Colons:/:/bin/sh:more:and more
colons-end:x:1018:1018:Colons:/:/bin/sh:
plus-uid:x:+1019:1019::/:/bin/sh
minus-uid:x:-2:-2::/:/bin/sh
blank-uid:x: 1020:\t1020::/:/bin/sh
uid-blank:x:1021 :1021::/:/bin/sh
hex-uid:x:0x10:1022::/:/bin/sh
octal-uid:x:0010:1023::/:/bin/sh
word-uid:x:abc:1024::/:/bin/sh
large-uid:x:4294967295:4294967294::/:/bin/sh
too-large-uid:x:4294967296:1025::/:/bin/sh
far-too-large-uid:x:18446744073709551617:1026::/:/bin/sh
trailing-blanks:x:1027:1027::/:/bin/sh  \t
carriage-return:x:1028:1028::/:/bin/sh\r
UPPER:x:1029:1029:Upper:/:/bin/sh
upper:x:1030:1030:Lower:/:/bin/sh
name with blanks:x:1031:1031::/:/bin/sh
\xc3\xa9t\xc3\xa9:x:1032:1032:\xc3\x89t\xc3\xa9:/:/bin/sh
latin-\xe9:x:1033:1033:\xc9t\xe9:/:/bin/sh
two\x0blines:x:1034:1034:vertical\x0btab:/:/bin/sh
control-\x01:x:1035:1035:\x7f:/:/bin/sh
bang!:x:1036:1036::/:/bin/sh
42:x:1037:1037:A number:/:/bin/sh
a:b
a#b:x:1038:1038:# no comment:/:/bin/sh
last:*:1039:1039:,,,:/nonexistent:/usr/sbin/nologin
"""
AWKWARD_GROUPS = b"""\
# a comment:x:1:one
one:x:1001:
one:x:1002:again
members:x:1003:a,b,c
blanks:x:1004: a , b,  c
empty-members:x:1005:,a,,b,
only-commas:x:1006:,,,
no-list:x:1007
no-list-no-gid:x
nothing-else
empty-gid:x::a
+:::
+plus:x:1008:a
-minus:x:1009:a
  before:x:1010:a
after :x:1011:a
colons:x:1012:a:b,c:d
no-passwd::1013:a
word-gid:x:abc:a
plus-gid:x:+1014:a
minus-gid:x:-2:a
large-gid:x:4294967295:a
too-large-gid:x:4294967296:a
blank-gid:x: 1015:a
gid-blank:x:1016 :a
carriage-return:x:1017:a,b\r
trailing-blanks:x:1018:a,b \t
\xc3\xa9:x:1019:\xc3\xa8
latin-\xe9:x:1020:\xe8
twice:x:1021:a,a
tab:x:1022:a\tb,\tc
last:*:1023:z
"""


class UnixCase(harness.Case):
    """A test with its own /etc and /var/lib/extrausers, and with the tools of the system in
    them."""

    def setUp(self):
        super().setUp()
        self.etc = workspace().directory("etc")
        self.extra = workspace().directory("extrausers")
        code, _, errors = harness.run(["cp", "-a", "/etc/.", self.etc])
        self.assertEqual(code, 0, errors)
        stand_in, module = nameservice.module()
        mounts = {"/etc": self.etc, EXTRA: self.extra, module: stand_in}
        self.wrap = nameservice.namespace(mounts)
        # What tools for users write elsewhere is thrown away.
        self.tools = nameservice.namespace({**mounts, "/var/log": None, "/var/mail": None})
        self.switch("files " + SECOND)

    def switch(self, users, groups=None):
        """A new nsswitch.conf, put into its place at once."""
        self.replace("nsswitch.conf", f"passwd: {users}\ngroup: {groups or users}\n")

    def replace(self, name, content, mode=0o644):
        workspace().write(self.etc, name + ".new", content, mode)
        os.rename(os.path.join(self.etc, name + ".new"), os.path.join(self.etc, name))

    def read(self, name):
        return proc.read(os.path.join(self.etc, name), "rb")

    def tool(self, *command, **variables):
        """Runs a tool of the system on the copy of /etc."""
        env = {"PATH": harness.PATH, "LC_ALL": "C", **variables}
        code, out, errors = harness.run([*self.tools, *command], env=env)
        self.assertEqual(code, 0, f"{command}: {out} {errors}")

    def right(self, table, names):
        """What the C library in the namespace says of names: a list of (status, value)."""
        names = [name if isinstance(name, bytes) else name.encode() for name in names]
        code, out, errors = harness.run(
            [*self.wrap, "/usr/bin/python3", "-c", PROBE, table],
            stdin="".join(name.hex() + "\n" for name in names).encode(),
        )
        self.assertEqual(code, 0, errors)
        lines = out.splitlines()
        self.assertEqual(len(lines), len(names))
        return [(OK, bytes.fromhex(line[1:])) if line != "-" else (NOKEY, b"") for line in lines]

    def answers(self, client, table, names, at_once=100):
        """What a server says of names: a list of (status, value)."""
        found = []
        for start in range(0, len(names), at_once):
            part = names[start : start + at_once]
            client.send(b"".join(o_lookup(table, name, 64) for name in part))
            for _ in part:
                fields = client.receive().split(b"\0")
                found.append((int(fields[1]), fields[3]))
        return found

    def same(self, client, table, names, what, **options):
        """Compares every answer of a server with the C library's."""
        found, right = self.answers(client, table, names, **options), self.right(table, names)
        wrong = [
            f"{name!r}: {protocol_text(one)}, expected {protocol_text(other)}"
            for name, one, other in zip(names, found, right, strict=True)
            if one != other
        ]
        self.assertEqual(wrong, [], f"{what}: {len(wrong)} of {len(names)} answers of {table}")

    def daemon(self, tables=(USERS, GROUPS), **options):
        daemon = self.jailmapd(list(tables), start=False, **options)
        return daemon.start(wrap=self.wrap)

    def asker(self, daemon, expected):
        asker = Asker(daemon, expected)
        self.addCleanup(asker.finish)
        return asker

    def known(self, tables=(USERS, GROUPS), but=()):
        """What an asker expects of the users and groups of the files, as the C library has it."""
        expected = {}
        for table in tables:
            file = self.read("passwd" if table == USERS else "group")
            names = [line.partition(b":")[0].decode() for line in file.splitlines()][:12]
            names = [name for name in names if name not in but]
            right = self.right(table, names)
            self.assertEqual({code for code, _ in right}, {OK})
            expected |= {(table, name): one for name, one in zip(names, right, strict=True)}
        return expected

    def undisturbed(self, *askers):
        """No answer was wrong, none was a temporary error, and no connection was closed."""
        for asker in askers:
            asker.progress()
            self.assertEqual(asker.finish(), [])
            self.assertEqual((asker.retried, asker.reconnects), ([], 0))
            self.assertGreater(asker.right, 0)

    def becomes(self, client, table, name, *before):
        """Waits until a name is what the C library says; until then it may be what it was, and
        nothing else. Returns the value."""
        (right,) = self.right(table, [name])

        found = None

        def now():
            nonlocal found
            found = client.lookup(table, name)
            self.assertIn(found, (right, *before), name)
            return found == right

        wait_for(now, lambda: f"{name} in {table} to be {right}; it is {found}")
        return right[1]

    def status(self, daemon):
        """{table: (state, what answers, why)} as `jailmap status` shows them."""
        code, out, errors = daemon.status("--json")
        self.assertIn(code, (0, 1), errors)
        rows = {
            facts["name"]: (facts["state"], facts["answered-by"], facts["why"] or "")
            for facts in json.loads(out)["tables"]
        }
        states = {state for state, _, _ in rows.values()}
        self.assertEqual(code, 0 if states == {"current"} else 1, out)
        return rows

    def wait_status(self, daemon, table, state, answered_by=None):
        """Waits until `jailmap status` shows a table so; returns the reason that it gives."""
        seen = {}

        def shown():
            seen.update(self.status(daemon))
            found = seen.get(table, ("", "", ""))
            return found[0] == state and answered_by in (None, found[1])

        wait_for(shown, lambda: f"{table} to be {state}, {answered_by}; it is {seen}")
        return seen[table][2]


def protocol_text(answer):
    code, value = answer
    return f"{code} {value[:80]!r}" + (f" ({len(value)} bytes)" if len(value) > 80 else "")


class ChangesTest(UnixCase):
    """Users and groups come, change and go."""

    def test_tools(self):
        """What useradd, usermod, userdel, groupadd, gpasswd and groupdel do is seen without a
        restart, and neither connections nor other names notice."""
        none = (NOKEY, b"")
        for switch, missing in (("files " + SECOND, none), ("files", none)):
            with self.subTest(switch):
                self.switch(switch)
                daemon = self.daemon()
                client = self.client(daemon)
                askers = [
                    self.asker(daemon, self.known()),
                    self.asker(daemon, {(USERS, ABSENT): none, (GROUPS, ABSENT): none}),
                ]
                self.assertEqual(client.lookup(USERS, "jm-one"), missing)
                options = ["-l", "-M", "-N", "-g", "nogroup", "-d", "/home/jm", "-s", "/bin/false"]
                self.tool("useradd", *options, "-c", "One, Two", "-u", "61001", "jm-one")
                value = self.becomes(client, USERS, "jm-one", missing)
                self.assertRegex(value, rb"^jm-one:x:61001:\d+:One, Two:/home/jm:/bin/false$")
                self.tool("usermod", "-c", "Three", "-s", "/bin/sh", "jm-one")
                value = self.becomes(client, USERS, "jm-one", (OK, value))
                self.assertRegex(value, rb"^jm-one:x:61001:\d+:Three:/home/jm:/bin/sh$")
                self.tool("usermod", "-l", "jm-two", "jm-one")
                self.becomes(client, USERS, "jm-one", (OK, value))
                value = self.becomes(client, USERS, "jm-two", missing)
                self.tool("groupadd", "-g", "61001", "jm-group")
                group = self.becomes(client, GROUPS, "jm-group", missing)
                self.assertEqual(group, b"jm-group:x:61001:")
                self.tool("usermod", "-a", "-G", "jm-group", "jm-two")
                group = self.becomes(client, GROUPS, "jm-group", (OK, group))
                self.assertEqual(group, b"jm-group:x:61001:jm-two")
                self.tool("gpasswd", "-d", "jm-two", "jm-group")
                group = self.becomes(client, GROUPS, "jm-group", (OK, group))
                self.tool("groupdel", "jm-group")
                self.becomes(client, GROUPS, "jm-group", (OK, group))
                self.tool("userdel", "jm-two")
                self.becomes(client, USERS, "jm-two", (OK, value))
                self.assertEqual(client.lookup(USERS, "jm-two"), missing)
                self.undisturbed(*askers)
                self.assertNotIn("warning", daemon.log())
                daemon.stop()

    def test_editors(self):
        """A passwd file that vipw replaces, or that is written in place, is seen; so is one that is
        replaced again and again."""
        daemon = self.daemon()
        client = self.client(daemon)
        asker = self.asker(daemon, self.known())
        line = "jm-{0}:x:6100{0}:100:{0}:/:/bin/sh"
        self.tool("vipw", VISUAL=f"sed -i '$a{line.format(1)}'")
        self.assertEqual(self.becomes(client, USERS, "jm-1", (NOKEY, b"")), line.format(1).encode())
        with open(os.path.join(self.etc, "passwd"), "a", encoding="ascii") as file:
            file.write(line.format(2) + "\n")
        self.becomes(client, USERS, "jm-2", (NOKEY, b""))
        whole = self.read("passwd")
        # The name service tells of a new file at once; an image of the one before that is on its way
        # to the worker meanwhile is in service for a moment.
        earlier = []
        for number in range(3, 13):
            earlier.append(client.lookup(USERS, "jm-3"))
            self.replace("passwd", whole + f"jm-3:x:61003:100:{number}:/:/bin/sh\n".encode())
            value = self.becomes(client, USERS, "jm-3", *earlier)
            self.assertEqual(value, f"jm-3:x:61003:100:{number}:/:/bin/sh".encode())
        self.undisturbed(asker)


class AgentTest(UnixCase):
    """The agent behind the files does not answer."""

    def setUp(self):
        super().setUp()
        self.switch("files hesiod")

    def test_hits_do_not_need_it(self):
        """Users and groups of the files are answered while the agents are stopped, and while they
        are killed again and again; for other names there is a temporary error or the right
        answer."""
        daemon = self.daemon(socket_options={"answer-timeout": 1})
        hits = self.asker(daemon, self.known())
        misses = self.asker(
            daemon,
            {(USERS, "nss-user-1"): (OK, nameservice.user(1)), (USERS, ABSENT): (NOKEY, b"")},
        )
        misses.progress()
        client = self.client(daemon)
        agents = daemon.wait_roles("agent", 2)
        for pid in agents:
            harness.kill(pid, signal.SIGSTOP)
        for table in (USERS, GROUPS):
            self.assertEqual(client.lookup(table, ABSENT), (RETRY, b""))
        hits.progress(500)
        for pid in agents:
            harness.kill(pid, signal.SIGCONT)
        misses.progress()
        for _ in range(5):
            for pid in daemon.wait_roles("agent", 2):
                harness.kill(pid)
                wait_for(lambda pid=pid: proc.stat_fields(pid) is None, "the agent to be reaped")
                hits.progress(100)
        misses.progress()
        self.assertEqual(misses.finish(), [])
        self.assertEqual(misses.reconnects, 0)
        self.undisturbed(hits)

    def test_name_service_hangs(self):
        """When the name service hangs, users of the files are answered, and other names get a
        temporary error when their time is over."""
        daemon = self.daemon([USERS], socket_options={"answer-timeout": 1})
        hits = self.asker(daemon, self.known([USERS]))
        stuck, client = self.client(daemon), self.client(daemon)
        self.assertEqual(client.lookup(USERS, "nss-user-1"), (OK, nameservice.user(1)))
        stuck.send(o_lookup(USERS, "fault-hang", 64) + o_lookup(USERS, "root", 64))
        for name in ("nss-user-1", ABSENT):
            self.assertEqual(client.lookup(USERS, name), (RETRY, b""))
        hits.progress(500)
        self.assertEqual(stuck.receive(), protocol.reply("status", RETRY, "value", ""))
        self.assertRegex(stuck.receive(), rb"^status\x000\x00value\x00root:")
        (agent,) = daemon.wait_roles("agent")
        harness.kill(agent)
        for name, right in (("nss-user-1", (OK, nameservice.user(1))), (ABSENT, (NOKEY, b""))):
            self.eventually(client, USERS, name, right)
        self.undisturbed(hits)


MERGE = f"files [SUCCESS=merge] {SECOND}"  # the C library does it for groups only


class SwitchTest(UnixCase):
    """nsswitch.conf says who answers, and changes its mind."""

    # What nsswitch.conf says, and what then answers.
    VARIANTS = {
        "files": "image",
        f"files {SECOND}": "image+agent",
        f"files [NOTFOUND=return] {SECOND}": "agent",
        f"{SECOND} files": "agent",
        "files hesiod": "image+agent",
        "compat": "agent",
        MERGE: "agent",
        f"files {SECOND} [NOTFOUND=return]": "image+agent",
        f"files [!NOTFOUND=return] {SECOND}": "agent",
        f"files\t{SECOND}  ": "image+agent",
    }

    # What they may be until a change has come through: nobody is missing who is always there.
    BEFORE = {
        "root": tuple(
            (OK, f"root:x:0:{rest}".encode())
            for rest in ("", "root", "0:root:/root:/bin/bash", "0:Super User:/root:/bin/bash")
        ),
        "daemon": (),
        "nss-user-7": ((NOKEY, b""), (OK, nameservice.user(7))),
        "nss-present": (
            (NOKEY, b""),
            (OK, b"nss-user:x:4242:4343::/:/bin/sh"),
            (OK, b"nss-group:x:4343:one,two"),
        ),
    }

    def wait_switched(self, daemon, client, users, groups=None):
        """Waits until those answer, and looks whether all is as nsswitch.conf has it."""
        kinds = {USERS: users, GROUPS: groups or users}
        for table, kind in kinds.items():
            self.wait_status(daemon, table, "current", kind)
        agents = sum(kind != "image" for kind in kinds.values())
        wait_for(lambda: len(daemon.roles()["agent"]) == agents, f"{agents} agents")
        for table in kinds:
            for name in ("root", "daemon", ABSENT, "nss-user-7", "nss-present"):
                self.becomes(client, table, name, *self.BEFORE.get(name, ((NOKEY, b""),)))
        for table, kind in kinds.items():
            if kind == "image":
                self.assertEqual(client.lookup(table, ABSENT), (NOKEY, b""))

    def askers(self, daemon):
        """Of users that are always there, and of one that never is."""
        absent = {(USERS, ABSENT): (NOKEY, b""), (GROUPS, ABSENT): (NOKEY, b"")}
        # Of root and nobody systemd has an idea of its own.
        there = self.known(but=("root", "nobody", "nogroup"))
        return self.asker(daemon, there), self.asker(daemon, absent)

    def finish(self, there, absent):
        """Who is there was found all the time; who is not was never found, though there may have
        been a temporary error."""
        self.undisturbed(there)
        self.assertEqual(absent.finish(), [])
        self.assertEqual(absent.reconnects, 0)

    def test_image_is_let_go(self):
        """When the name service comes to answer all, a worker that has an image and an agent uses
        the image no more: what changes in the file afterwards is seen."""
        daemon = self.daemon()
        client = self.client(daemon)
        user = b"jm-there:x:61001:100:%d:/:/bin/sh\n"
        whole = self.read("passwd")
        self.replace("passwd", whole + user % 1)
        self.becomes(client, USERS, "jm-there", (NOKEY, b""))
        self.wait_status(daemon, USERS, "current", "image+agent")
        self.assertEqual(client.lookup(USERS, ABSENT), (NOKEY, b""))
        self.switch(f"files [NOTFOUND=return] {SECOND}")
        self.wait_status(daemon, USERS, "current", "agent")
        self.assertEqual(client.lookup(USERS, "jm-there"), (OK, (user % 1).strip()))
        self.replace("passwd", whole + user % 2)
        self.becomes(client, USERS, "jm-there", (OK, (user % 1).strip()))
        self.replace("passwd", whole)
        self.becomes(client, USERS, "jm-there", (OK, (user % 2).strip()))

    def test_agent_is_let_go(self):
        """When an image comes to answer instead of an agent, whoever waits for the agent has the
        answer from the image, and not a temporary error."""
        self.switch(f"{SECOND} files")
        daemon = self.daemon([USERS])
        client = self.client(daemon)
        (right,) = self.right(USERS, ["daemon"])
        self.assertEqual(client.lookup(USERS, "daemon"), right)
        (agent,) = daemon.wait_roles("agent")
        harness.kill(agent, signal.SIGSTOP)
        client.send(o_lookup(USERS, "daemon", 64))
        client.drained()
        self.switch("files")
        self.wait_status(daemon, USERS, "current", "image")
        self.assertEqual(client.receive(), protocol.reply("status", right[0], "value", right[1]))

    def test_doubt(self):
        """While somebody has passwd open for writing, the name service answers what an image does
        not: at once at start, and when nsswitch.conf names it only then. No wait, no temporary
        error, and nobody is missing, also for a worker that asked before; then the image is back."""
        self.switch("files")
        path = os.path.join(self.etc, "passwd")
        asked = self.right(USERS, ["daemon", ABSENT])
        with open(path, "ab"):
            daemon = self.daemon([(USERS, {"load-time": 2})])
            client = self.client(daemon)
            self.assertEqual(self.answers(client, USERS, ["daemon", ABSENT]), asked)
            daemon.wait_log(f'warning: table "{USERS}" failed: .* open for writing')
            self.wait_status(daemon, USERS, "degraded", "agent")
            self.assertEqual(self.answers(client, USERS, ["daemon", ABSENT]), asked)
        self.wait_status(daemon, USERS, "current", "image")
        with open(path, "ab"):
            self.switch(f"files {SECOND}")
            self.wait_status(daemon, USERS, "stale", "image+agent")
            self.assertEqual(self.answers(client, USERS, ["daemon", ABSENT]), asked)
        self.wait_status(daemon, USERS, "current", "image+agent")
        self.assertEqual(self.answers(client, USERS, ["daemon", ABSENT]), asked)

    def test_variants(self):
        """Every variant of nsswitch.conf takes effect while running, each after each kind of other:
        who is there gets no temporary error and is never missing, and no connection is closed."""
        daemon = self.daemon()
        client = self.client(daemon)
        askers = self.askers(daemon)
        names = list(self.VARIANTS)
        for name in (*names, *names[::-1], *names[::3], *names[1::3], *names[2::3]):
            users = f"files {SECOND}" if name == MERGE else name
            self.switch(users, name)
            self.wait_switched(daemon, client, self.VARIANTS[users], self.VARIANTS[name])
        self.finish(*askers)

    def test_quick_changes(self):
        """nsswitch.conf changes as fast as it can be written: users who are there are found all the
        time."""
        daemon = self.daemon()
        client = self.client(daemon)
        askers = self.askers(daemon)
        for number in range(300):
            self.switch(("files", f"files {SECOND}", f"{SECOND} files")[number % 3])
            askers[0].progress(5)
        self.switch("files")
        self.wait_switched(daemon, client, "image")
        self.finish(*askers)

    def test_different(self):
        """Users and groups are looked up in different ways."""
        self.switch("files", f"{SECOND} files")
        daemon = self.daemon()
        client = self.client(daemon)
        self.wait_status(daemon, USERS, "current", "image")
        self.wait_status(daemon, GROUPS, "current", "agent")
        self.assertEqual(len(daemon.wait_roles("agent")), 1)
        for table in (USERS, GROUPS):
            self.same(client, table, ["root", "daemon", ABSENT], "as started")
        self.switch(f"{SECOND} files", "files")
        self.wait_status(daemon, USERS, "current", "agent")
        self.wait_status(daemon, GROUPS, "current", "image")
        wait_for(lambda: len(daemon.roles()["agent"]) == 1, "one agent")
        for table in (USERS, GROUPS):
            self.same(client, table, ["root", "daemon", ABSENT], "the other way round")

    def test_no_file(self):
        """nsswitch.conf is removed, made a symbolic link, changed behind that, and comes back: each
        time the name service answers until the files are sure to be first."""
        daemon = self.daemon()
        client = self.client(daemon)
        askers = self.askers(daemon)
        path = os.path.join(self.etc, "nsswitch.conf")
        os.unlink(path)
        self.wait_switched(daemon, client, "agent")
        real = os.path.join(self.etc, "nsswitch.real")
        workspace().write(self.etc, "nsswitch.real", "passwd: files\ngroup: files\n")
        os.symlink("nsswitch.real", path)
        self.wait_switched(daemon, client, "image")
        workspace().write(self.etc, "nsswitch.real", "passwd: files hesiod\ngroup: files hesiod\n")
        self.wait_switched(daemon, client, "image+agent")
        os.unlink(real)
        self.wait_switched(daemon, client, "agent")
        os.unlink(path)
        self.switch("files")
        self.wait_switched(daemon, client, "image")
        self.finish(*askers)

    def test_files_alone_at_start(self):
        """With `files` alone no agent is ever started, and what the files do not have is not
        found."""
        self.switch("files")
        daemon = self.daemon()
        client = self.client(daemon)
        for table in (USERS, GROUPS):
            self.assertEqual(client.lookup(table, "root")[0], OK)
            for name in (ABSENT, "", "root ", "0"):
                self.assertEqual(client.lookup(table, name), (NOKEY, b""))
            self.wait_status(daemon, table, "current", "image")
        self.assertEqual(daemon.roles()["agent"], [])
        self.assertNotIn("agent", daemon.log())


class ExtraTest(UnixCase):
    """Users that only libnss-extrausers knows."""

    def test_extrausers(self):
        """A user that only extrausers has is found with all fields, one that nobody has is not, and
        one that is removed is not any more; the same for groups."""
        user = "jm-extra:x:61501:61501:Extra User,,,:/home/extra:/bin/sh"
        group = "jm-extras:x:61501:jm-extra,root"
        workspace().write(self.extra, "passwd", user + "\n")
        workspace().write(self.extra, "group", group + "\n")
        self.switch("files extrausers")
        daemon = self.daemon()
        client = self.client(daemon)
        asker = self.asker(daemon, self.known())
        for table, name, line in ((USERS, "jm-extra", user), (GROUPS, "jm-extras", group)):
            self.assertEqual(client.lookup(table, name), (OK, line.encode()))
            self.assertEqual(client.lookup(table, ABSENT), (NOKEY, b""))
            self.same(client, table, ["root", "daemon", name, ABSENT], "files extrausers")
            self.wait_status(daemon, table, "current", "image+agent")
        for file in ("passwd", "group"):
            workspace().write(self.extra, file, "")
        for table, name, line in ((USERS, "jm-extra", user), (GROUPS, "jm-extras", group)):
            self.eventually(client, table, name, (NOKEY, b""), (OK, line.encode()))
        self.undisturbed(asker)


class LinesTest(UnixCase):
    """Every line of a file comes out as the C library gives it."""

    def names(self, file):
        """Every name that a file has, and what could be taken for one."""
        found = {}
        for line in self.read(file).split(b"\n"):
            name = line.partition(b":")[0]
            if b"\0" not in line:
                found |= dict.fromkeys((name, name.strip(), name.upper(), line[:60]))
        found.pop(b"", None)  # never asked for: see test_files_alone_at_start
        return list(found)

    def compare(self, what, proxymap=True):
        """Asks an image, an agent and Debian's proxymap for every name; all say the same."""
        for switch, kind in (
            ("files", "image"),
            ("compat" if what == "real" else "files [NOTFOUND=return] files", "agent"),
        ):
            self.switch(switch)
            daemon = self.daemon()
            client = self.client(daemon)
            for table, file in ((USERS, "passwd"), (GROUPS, "group")):
                self.wait_status(daemon, table, "current", kind)
                self.same(client, table, self.names(file), f"{what}, {kind}")
            daemon.stop()
        self.switch("files")
        if proxymap:
            tables = f"proxy:{USERS} proxy:{GROUPS}"
            postfix = private_postfix.Postfix(
                "reference", {"proxy_read_maps": tables}, ["proxymap unix - - n - - proxymap"]
            )
            self.addCleanup(postfix.stop)
            postfix.start(wrap=self.wrap)
            with protocol.Client(postfix.private("proxymap")) as client:
                for table, file in ((USERS, "passwd"), (GROUPS, "group")):
                    names = self.names(file)[:150]
                    self.same(client, table, names, f"{what}, proxymap", at_once=1)
            postfix.stop()

    def test_real(self):
        """Every user and group of this system is what the C library and proxymap say."""
        self.compare("real")

    def test_awkward(self):
        """So is every line of files that are as odd as can be, and those that the C library cannot
        read are not found."""
        long = b"long:x:1100:1100:" + b"g" * 100_000 + b":/home/long:/bin/sh\n"
        members = ",".join(f"member{number}" for number in range(5000)).encode()
        self.replace("passwd", self.read("passwd") + AWKWARD_USERS + long)
        self.replace(
            "group", self.read("group") + AWKWARD_GROUPS + b"many:x:1100:" + members + b"\n"
        )
        self.compare("awkward")

    def test_many(self):
        """So are 10,000 users and groups."""
        users = "".join(f"u{n}:x:{n}:{n}:User {n},,,:/home/u{n}:/bin/sh\n" for n in range(10_000))
        groups = "".join(f"g{n}:x:{n}:u{n},u{n + 1}\n" for n in range(10_000))
        self.replace("passwd", self.read("passwd") + users.encode())
        self.replace("group", self.read("group") + groups.encode())
        self.switch("files")
        daemon = self.daemon()
        client = self.client(daemon)
        for table, letter in ((USERS, "u"), (GROUPS, "g")):
            names = [f"{letter}{n}" for n in range(10_001)]
            right = [
                (OK, line.encode()) for line in (users if letter == "u" else groups).split("\n")
            ]
            self.assertEqual(self.answers(client, table, names), [*right[:-1], (NOKEY, b"")])
            self.same(client, table, names[::50] + ["root"], "10,000 of them")

    def test_last_line(self):
        """A last line without its newline, and one with a NUL, are what the C library makes of
        them."""
        ends = (b"end:x:1:1::/:/bin/sh", b"  end:x:1:1::/:/bin/sh", b"end:x:1:1::/\0:/bin/sh\n")
        whole = {file: self.read(file) for file in ("passwd", "group")}
        self.switch("files")
        daemon = self.daemon()
        client = self.client(daemon)
        for number, end in enumerate(ends):
            for table, file in ((USERS, "passwd"), (GROUPS, "group")):
                mark = f"jm-{number}:x:61000:61000::/:/bin/sh\n".encode()
                self.replace(file, whole[file] + mark + end)
                (right,) = self.right(table, [f"jm-{number}"])
                self.eventually(client, table, f"jm-{number}", right, (NOKEY, b""))
                self.same(client, table, ["end", "root", "  end", ABSENT], f"ending in {end!r}")


# What can happen to a passwd or group file, by name: what to do with its path, and a word of the
# reason.
UNSAFE = (lambda path: os.chmod(path, 0o666), lambda path: os.chown(path, 1, 1))
DAMAGES = {
    "empty": (lambda path: os.truncate(path, 0), "empty"),
    "without an entry": (
        lambda path: workspace().write(*os.path.split(path), "# nobody\n\nx\n"),
        "no entry",
    ),
    "writable by others": (UNSAFE[0], "writ"),
    "somebody else's": (UNSAFE[1], "own|belong"),
    "removed": (os.unlink, "No such file"),
}


class DamagedTest(UnixCase):
    """The files are damaged."""

    FILES = {USERS: "passwd", GROUPS: "group"}

    def restore(self, table, whole):
        self.replace(self.FILES[table], whole)

    def test_while_running(self):
        """A file that is damaged while it is in service: its last good image stays, the log and
        `jailmap status` say so, and the repair is seen."""
        for switch, kind in ((f"files {SECOND}", "image+agent"), ("files", "image")):
            self.switch(switch)
            daemon = self.daemon()
            # What is asked before there is an image, an agent may answer late: with what it sees then.
            for table in self.FILES:
                self.wait_status(daemon, table, "current", kind)
            asker = self.asker(daemon, self.known())
            for (name, (damage, why)), (table, file) in itertools.product(
                DAMAGES.items(), self.FILES.items()
            ):
                with self.subTest(name, table=table, switch=switch):
                    self.wait_status(daemon, table, "current", kind)
                    whole, mark = self.read(file), daemon.mark()
                    damage(os.path.join(self.etc, file))
                    daemon.wait_log(
                        rf'warning: table "{table}" not reloaded: .*({why}).*; the image of '
                        r"generation \d+ stays in service",
                        since=mark,
                    )
                    # While the image is in doubt, what it has not is asked of the name service.
                    self.assertRegex(self.wait_status(daemon, table, "stale", "image+agent"), why)
                    asker.progress(50)
                    self.restore(table, whole)
                    daemon.wait_log(rf'table "{table}" recovered: \d+ entries', since=mark)
                    self.wait_status(daemon, table, "current", kind)
            self.undisturbed(asker)
            daemon.stop()

    def test_late_not_found(self):
        """A user whom an agent is asked for before there is an image, and does not find because the
        file is damaged when it looks, is found all the same: the image that came meanwhile has
        him."""
        self.switch(f"files {SECOND}")
        whole = self.read("passwd")
        UNSAFE[0](os.path.join(self.etc, "passwd"))
        daemon = self.daemon([USERS])
        self.wait_status(daemon, USERS, "degraded", "agent")
        client = self.client(daemon)
        (right,) = self.right(USERS, ["daemon"])
        self.assertEqual(client.lookup(USERS, "daemon"), right)
        (agent,) = daemon.wait_roles("agent")
        harness.kill(agent, signal.SIGSTOP)
        client.send(o_lookup(USERS, "daemon", 64))
        client.drained()
        mark = daemon.mark()
        self.restore(USERS, whole)
        daemon.wait_log(rf'table "{USERS}" (recovered|loaded): ', since=mark)
        other = self.client(daemon)
        wait_for(lambda: other.lookup(USERS, "root")[0] == OK, "the image in the worker")
        self.replace("passwd", b"")
        daemon.wait_log(rf'warning: table "{USERS}" not reloaded: ', since=mark)
        harness.kill(agent, signal.SIGCONT)
        self.assertEqual(client.receive(), protocol.reply("status", right[0], "value", right[1]))

    def test_at_start(self):
        """A file that is damaged at start: the name service answers instead, the log and `jailmap
        status` say so, and the repair is seen."""
        self.switch("files")
        for name, (damage, why) in DAMAGES.items():
            # The users that jailmapd.conf names have to be there when it starts.
            tables = list(self.FILES) if damage in UNSAFE else [GROUPS]
            whole = {table: self.read(self.FILES[table]) for table in tables}
            for table in tables:
                damage(os.path.join(self.etc, self.FILES[table]))
            with self.subTest(name):
                daemon = self.daemon(
                    socket_options={"owner": "0", "group": "0"}, allow={"0": ["*"]}
                )
                client = self.client(daemon)
                for table in tables:
                    daemon.wait_log(
                        rf'warning: table "{table}" failed: .*({why}).*; the name service answers'
                    )
                    self.assertRegex(self.wait_status(daemon, table, "degraded", "agent"), why)
                    names = ["root", "daemon", ABSENT]
                    if damage is os.unlink:  # for the C library that is an error
                        self.assertEqual(
                            self.answers(client, table, names), [(RETRY, b"")] * len(names)
                        )
                    else:
                        self.same(client, table, names, name)
                for table in tables:
                    self.restore(table, whole[table])
                    daemon.wait_log(rf'table "{table}" (recovered|loaded): \d+ entries')
                    self.wait_status(daemon, table, "current", "image")
                    self.same(client, table, ["root", "daemon", ABSENT], "repaired")
                wait_for(lambda: not daemon.roles()["agent"], "the agents to end")
                daemon.stop()
            for table in tables:
                self.restore(table, whole[table])


class RevealTest(UnixCase):
    """What a worker may know of users."""

    def test_existence(self):
        """With `reveal = existence` nothing but names enters the jail, whoever answers; without it,
        everything does."""
        words = [secrets.token_hex(12) for _ in range(4)]
        gecos, home, shell, member = words
        user = f"jm-hidden:x:61001:61001:{gecos}:/{home}:/{shell}\n".encode()
        group = f"jm-hidden:x:61001:{member}\n".encode()
        self.replace("passwd", self.read("passwd") + user)
        self.replace("group", self.read("group") + group)
        hidden = {"reveal": "existence"}
        for switch, kind in (
            ("files", "image"),
            (f"files {SECOND}", "image+agent"),
            (f"{SECOND} files", "agent"),
        ):
            self.switch(switch)
            with self.subTest(kind), self.daemon([(USERS, hidden), (GROUPS, hidden)]) as daemon:
                with daemon.client() as client:
                    for table in (USERS, GROUPS):
                        self.wait_status(daemon, table, "current", kind)
                        for name in ("jm-hidden", "root"):
                            self.assertEqual(client.lookup(table, name), (OK, name.encode()))
                        self.assertEqual(client.lookup(table, ABSENT), (NOKEY, b""))
                    (worker,) = daemon.wait_roles("worker")
                    memory = proc.memory(worker)
                    # A sanitizer keeps what was freed, as when the monitor looked its user up.
                    if not harness.sanitized():
                        memory += proc.memory(daemon.pid)
                    if kind != "agent":
                        self.assertIn(b"jm-hidden", memory, "the way of looking works")
                    for word in words:
                        self.assertNotIn(word.encode(), memory)
        self.switch("files")
        with self.daemon() as daemon, daemon.client() as client:
            for table, line in ((USERS, user), (GROUPS, group)):
                self.assertEqual(client.lookup(table, "jm-hidden"), (OK, line.strip()))
            (worker,) = daemon.wait_roles("worker")
            memory = proc.memory(worker)
            for word in words:
                self.assertIn(word.encode(), memory, "the way of looking works")
