"""The name service fails, hangs or is not there: a temporary error, never "not found".

The stand-in of nameservice.py does what the name that is asked for says. The system's own
nsswitch.conf and modules stay as they are.
"""

import os
import re

import harness
import nameservice
import proc
import protocol
from harness import workspace
from protocol import OK, NOKEY, RETRY, o_lookup, reply
from waiting import wait_for

# Prints what getpwnam_r returns for each name on the command line: the error number, and whether
# there is an entry.
NSS_PROBE = r"""
import ctypes, sys
libc = ctypes.CDLL(None)
entry, buffer = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1 << 18)
for name in sys.argv[1:]:
    result = ctypes.c_void_p()
    size = ctypes.c_size_t(len(buffer))
    code = libc.getpwnam_r(name.encode(), entry, buffer, size, ctypes.byref(result))
    print(name, code, int(bool(result.value)))
"""


class NameServiceTest(harness.Case):
    """The name service fails. A module of this test stands in for libnss_hesiod in a private mount
    namespace."""

    @classmethod
    def setUpClass(cls):
        cls.wrap = nameservice.switched()

    def probe(self, *names):
        """What getpwnam_r does with names in the namespace: {name: (error, found)}."""
        code, out, errors = harness.run([*self.wrap, "/usr/bin/python3", "-c", NSS_PROBE, *names])
        self.assertEqual(code, 0, errors)
        return {
            name: (int(error), int(found))
            for name, error, found in (line.split() for line in out.splitlines())
        }

    def test_name_service_fails(self):
        """A name service failure of any kind is RETRY, never NOKEY, for users and groups; hits and
        misses stay what they are."""
        faults = [
            "fault-unavail-eio",
            "fault-unavail-refused",
            "fault-unavail-eacces",
            "fault-tryagain",
            "fault-enomem",
            "fault-unavail-enoent",
            "fault-too-long",
        ]
        measured = self.probe(*faults, "nss-present", "nss-absent", "root")
        # The premise: the C library does tell these failures from a name that is not there.
        for name in faults:
            self.assertNotEqual(measured[name][0], 0, name)
            self.assertEqual(measured[name][1], 0, name)
        self.assertEqual(measured["nss-absent"], (0, 0))
        self.assertEqual((measured["nss-present"], measured["root"]), ((0, 1), (0, 1)))
        users, groups = "unix:passwd.byname", "unix:group.byname"
        daemon = self.jailmapd([users, groups], start=False)
        daemon.start(wrap=self.wrap)
        client = self.client(daemon)
        problems = []
        for name in faults * 2:
            for table in (users, groups):
                found = client.lookup(table, name)
                if found != (RETRY, b""):
                    problems.append((table, name, found))
                self.assertEqual(client.lookup(users, "root")[0], OK)
                self.assertEqual(client.lookup(table, "nss-absent"), (NOKEY, b""))
        self.assertEqual(problems, [])
        self.assertEqual(
            client.lookup(users, "nss-present"), (OK, b"nss-user:x:4242:4343::/:/bin/sh")
        )
        self.assertEqual(client.lookup(groups, "nss-present"), (OK, b"nss-group:x:4343:one,two"))
        self.assertEqual(client.lookup(users, "nss-long")[0], OK)
        daemon.wait_log(
            rf'warning: table "{users}" failed: .*; lookups get a temporary error meanwhile'
        )

    def test_name_service_missing(self):
        """A module of nsswitch.conf that is not installed is a failure for what no other source
        has, not a miss."""
        wrap = nameservice.switched("files nosuchmodule [UNAVAIL=return]", "files")
        code, out, errors = harness.run(
            [*wrap, "/usr/bin/python3", "-c", NSS_PROBE, "no-such-user", "root"]
        )
        self.assertEqual(code, 0, errors)
        error = int(out.split()[1])
        daemon = self.jailmapd(["unix:passwd.byname"], start=False)
        daemon.start(wrap=wrap)
        client = self.client(daemon)
        self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)
        # The C library reports a missing module as an error or, in some versions, not at all.
        self.assertEqual(
            client.lookup("unix:passwd.byname", "no-such-user"), (RETRY if error else NOKEY, b"")
        )

    def test_name_service_hangs(self):
        """A name service that hangs delays only those who ask it; when its agent ends they get
        RETRY, and it works again."""
        table, users = self.table("a", "key value\n"), "unix:passwd.byname"
        daemon = self.jailmapd([table, users], start=False, socket_options={"workers": 1})
        daemon.start(wrap=self.wrap)
        stuck, other = self.client(daemon), self.client(daemon)
        code, root = stuck.lookup(users, "root")
        self.assertEqual(code, OK)
        stuck.send(o_lookup(users, "fault-hang", 64))
        for _ in range(100):
            self.assertEqual(other.lookup(table, "key"), (OK, b"value"))
            self.assertEqual(other.lookup(table, "absent"), (NOKEY, b""))
        (agent,) = daemon.wait_roles("agent")
        harness.kill(agent)
        self.assertEqual(stuck.receive(), reply("status", RETRY, "value", ""))
        self.eventually(stuck, users, "root", (OK, root))
        stuck.send(o_lookup(users, "fault-hang", 64))
        self.assertEqual(daemon.stop(), 0)

    def test_link_for_every_worker(self):
        """An agent may have as many descriptors as it can have links: one for each worker of each
        user that the policy names, on each socket."""
        users, directory = "unix:passwd.byname", workspace().directory("sockets")
        paths = [os.path.join(directory, name) for name in ("one", "two")]
        daemon = self.jailmapd(
            [users],
            start=False,
            allow={str(uid): ["*"] for uid in (0, *range(60_000, 60_100))},
            listen={path: {"mode": "0666", "workers": 3} for path in paths},
        )
        daemon.start(wrap=self.wrap)
        with protocol.Client(paths[0]) as client:
            self.assertEqual(client.lookup(users, "root")[0], OK)
        (agent,) = daemon.wait_roles("agent")
        most = re.search(r"Max open files +(\d+)", proc.read(f"/proc/{agent}/limits"))
        self.assertGreater(int(most.group(1)), 101 * 2 * 3)

    def test_busy_agent_ends(self):
        """An agent that never comes back from the name service ends with a monitor that is killed,
        as every helper does."""
        users = "unix:passwd.byname"
        daemon = self.jailmapd([users], start=False)
        daemon.start(wrap=self.wrap)
        client = self.client(daemon)
        self.assertEqual(client.lookup(users, "root")[0], OK)
        client.send(o_lookup(users, "fault-spin", 64))
        (agent,) = daemon.wait_roles("agent")
        begun = proc.ticks(agent)
        wait_for(lambda: proc.ticks(agent) > begun + 10, "the agent to be busy with the module")
        below = proc.snapshot(daemon.pid)
        daemon.process.kill()
        harness.wait_exit(daemon.process, "the monitor to end")
        harness.wait_ended(below, "every helper to end after the monitor")
