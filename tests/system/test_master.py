"""jailmapd as a child of Postfix's master(8), which makes the socket and starts it when somebody
calls.

A private Postfix with a line for jailmapd in its master.cf. Its daemon_directory is one of links,
and jailmapd is one of them, as jailmapd(8) describes it for the real one.
"""

import os
import re
import signal
import socket
import subprocess
import unittest

import harness
import private_postfix
import proc
import protocol
from harness import postmap, workspace
from loghost import LogHost
from protocol import OK
from waiting import wait_for

SERVICES = [
    "127.0.0.1:{port0} inet n - y - - smtpd",
    "cleanup unix n - n - 0 cleanup",
    "rewrite unix - - n - - trivial-rewrite",
    "error unix - - n - - error",
    "anvil unix - - n - 1 anvil",
]
USERS = "unix:passwd.byname"


class MasterCase(unittest.TestCase):
    """Each test has a Postfix and a log of its own, as most of them end it."""

    def setUp(self):
        self.syslog = LogHost()
        self.addCleanup(self.syslog.close)
        tables = workspace().directory("master-tables")
        self.aliases = os.path.join(tables, "aliases")
        postmap("hash", self.aliases, "webmaster: root\n", tool="postalias")

    def postfix(self, line="jailmap unix - n n - 1 jailmapd", options=""):
        """A Postfix with that line for jailmapd. The configuration is named by an -o."""
        daemons = workspace().directory("daemons")
        for name in os.listdir(private_postfix.DAEMONS):
            os.symlink(os.path.join(private_postfix.DAEMONS, name), os.path.join(daemons, name))
        os.symlink(workspace().jailmapd, os.path.join(daemons, "jailmapd"))
        place = workspace().directory("master-jailmapd")
        config = os.path.join(place, "jailmapd.conf")
        postfix = private_postfix.Postfix(
            "master",
            {
                "daemon_directory": daemons,
                "proxymap_service_name": "jailmap",
                "mydestination": "mx.test",
                "local_recipient_maps": f"proxy:{USERS} proxy:hash:{self.aliases}",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtpd_error_sleep_time": "0",
                "local_transport": "local",
            },
            [*SERVICES, f"{line} -o jailmap_config={config} {options}"],
        )
        self.runtime = os.path.join(place, "run")
        names = [USERS, f"hash:{self.aliases}"]
        text = harness.config_text(
            self.runtime,
            tables=names,
            allow={"postfix": names, "root": names},
            listen={postfix.private("jailmap"): {}},
        )
        workspace().write(place, "jailmapd.conf", text)
        self.addCleanup(postfix.stop)
        return postfix.start(wrap=self.syslog.wrap())

    @staticmethod
    def daemons(postfix):
        return [
            pid
            for pid in proc.children(postfix.process.pid)
            if proc.exe(pid) == workspace().jailmapd
        ]

    def daemon(self, postfix, but=()):
        """The pid of the one jailmapd that is not one of those; it may just be starting."""
        return wait_for(
            lambda: [pid for pid in self.daemons(postfix) if pid not in but],
            lambda: "a jailmapd below master; Postfix says\n" + postfix.log(),
        )[0]

    def asking(self, postfix, key="root", table=USERS):
        """A postmap that asks for a key; what it prints is known when it ends."""
        return harness.start(
            ["/usr/sbin/postmap", "-c", postfix.config, "-q", key, "proxy:" + table],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, postfix, key="root", table=USERS):
        return self.answer(self.asking(postfix, key, table))

    @staticmethod
    def answer(asking):
        harness.wait_exit(asking, "postmap to end")
        out, errors = asking.stdout.read().decode(), asking.stderr.read().decode()
        asking.stdout.close()
        asking.stderr.close()
        return asking.returncode, out, errors

    def assert_silent(self, postfix):
        """Master has seen nothing wrong with jailmapd."""
        self.assertNotRegex(postfix.log(), r"warning: .*jailmap|throttling|bad command startup")


class MasterTest(MasterCase):
    def test_first_lookup(self):
        """Nothing runs before the first lookup; it starts jailmapd, which answers it, as a child of
        master that goes on with the descriptors of no other service."""
        postfix = self.postfix()
        self.assertTrue(os.path.exists(postfix.private("jailmap")))
        self.assertEqual(self.daemons(postfix), [])
        code, out, errors = self.ask(postfix)
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(out, r"^root:")
        pid = self.daemon(postfix)
        self.assertEqual(proc.read(os.path.join(self.runtime, "jailmapd.pid")), f"{pid}\n")
        self.assertEqual({proc.descriptors(pid)[fd] for fd in (0, 1, 2)}, {"/dev/null"})
        self.assertEqual(self.ask(postfix, "webmaster", f"hash:{self.aliases}")[1], "root\n")
        self.assertEqual(self.ask(postfix, "nobody-has-this-name")[:2], (1, ""))
        self.assertEqual(self.daemon(postfix), pid)
        self.syslog.wait(rf"jailmapd\[{pid}\]: ready: 2 tables, 1 listener, pid {pid}$")
        code, out, _ = harness.run([workspace().jailmap, "sandbox", "-d", self.runtime])
        if not harness.sanitized():  # whose jail is furnished, and has fewer limits
            self.assertEqual(code, 0, out)
        self.assertRegex(out, rf"socket of process {postfix.process.pid}, as master\(8\) gives")
        self.assert_silent(postfix)

    def test_smtpd(self):
        """A chrooted smtpd gets users and aliases through it: 250 and 550."""
        postfix = self.postfix()
        with private_postfix.Smtp(postfix.ports[0]) as session:
            self.assertRegex(session.recipient("webmaster@mx.test"), r"^250 ")
            self.assertRegex(session.recipient("no-such-user@mx.test"), r"^550 5\.1\.1 ")
        self.daemon(postfix)
        self.assert_silent(postfix)

    def test_reload(self):
        """postfix reload: the daemon ends with status 0 and closes its clients; the next one takes
        over at the next lookup."""
        postfix = self.postfix()
        for _ in range(3):
            with protocol.Client(postfix.private("jailmap")) as client:
                self.assertEqual(client.lookup(USERS, "root")[0], OK)
                first = self.daemon(postfix)
                mark = self.syslog.mark()
                postfix.process.send_signal(signal.SIGHUP)
                self.syslog.wait(rf"jailmapd\[{first}\]: stopping: master", since=mark)
                self.assertEqual(client.receive_all(), b"")
            self.assertRegex(self.ask(postfix)[1], r"^root:")
            self.assertNotEqual(self.daemon(postfix, but=[first]), first)
        self.assert_silent(postfix)

    def test_restart(self):
        """postfix stop and postfix start: the daemon of the new master waits until the last one,
        which takes its time, has let go of the lock, and answers then."""
        postfix = self.postfix()
        self.ask(postfix)
        first = self.daemon(postfix)
        os.kill(first, signal.SIGSTOP)
        try:
            postfix.process.terminate()
            harness.wait_exit(postfix.process, "master to end")
            postfix.start(wrap=self.syslog.wrap())
            asking = self.asking(postfix)
            second = self.daemon(postfix)
            lock = os.path.join(self.runtime, "jailmapd.pid")
            wait_for(
                lambda: list(proc.descriptors(second).values()).count(lock) > 0,
                "the next one to open the lock",
            )
        finally:
            os.kill(first, signal.SIGCONT)
        self.assertRegex(self.answer(asking)[1], r"^root:")
        self.assertNotIn("already running", self.syslog.log())
        self.assertEqual(self.daemon(postfix), second)
        self.assert_silent(postfix)

    def test_stop(self):
        """The end of master is an orderly end of the daemon: no helper is left and no pid file, and
        the socket is left to master."""
        postfix = self.postfix()
        self.ask(postfix)
        pid = self.daemon(postfix)
        below = proc.snapshot(pid)
        self.assertGreater(len(below), 2)
        postfix.stop()
        harness.wait_ended(below, "jailmapd and its helpers to end")
        self.syslog.wait(rf"jailmapd\[{pid}\]: stopping: ")
        self.assertEqual(os.listdir(self.runtime), ["empty"])
        self.assertTrue(os.path.exists(postfix.private("jailmap")))

    def test_crash(self):
        """A daemon that is killed after it served somebody is replaced at the next lookup, without
        throttling; nothing of it is left."""
        postfix = self.postfix()
        for _ in range(2):
            self.assertRegex(self.ask(postfix)[1], r"^root:")
            pid = self.daemon(postfix)
            below = proc.snapshot(pid)
            harness.kill(pid)
            harness.wait_ended(below, "a killed jailmapd and its helpers to end")
            self.assertRegex(self.ask(postfix)[1], r"^root:")
            self.assertNotEqual(self.daemon(postfix, but=[pid]), pid)
        postfix.wait_log(r"jailmapd pid \d+ killed by signal 9")
        self.assertNotRegex(postfix.log(), r"throttling|bad command startup")

    def test_max_use(self):
        """With -o max_use=3 it ends with status 0 when three clients have been served and none is
        connected, and the fourth finds another one."""
        postfix = self.postfix(options="-o max_use=3")
        self.max_use(postfix)

    def test_max_use_as_option(self):
        """-m 3 in master.cf is the same."""
        postfix = self.postfix(options="-v -m 3")
        self.max_use(postfix)

    def max_use(self, postfix):
        with protocol.Client(postfix.private("jailmap")) as client:
            self.assertEqual(client.lookup(USERS, "root")[0], OK)
            pid = self.daemon(postfix)
            for _ in range(4):
                self.assertRegex(self.ask(postfix)[1], r"^root:")
            self.assertEqual(client.lookup(USERS, "root")[0], OK)
            self.assertEqual(self.daemons(postfix), [pid])
        self.syslog.wait(rf"jailmapd\[{pid}\]: stopping: all of 5 clients have left, and -m is 3$")
        self.assertRegex(self.ask(postfix)[1], r"^root:")
        self.assertNotEqual(self.daemon(postfix, but=[pid]), pid)
        self.assert_silent(postfix)

    def test_wrong_line(self):
        """A line of master.cf that cannot be is refused by master's child in the log, which names
        the column; when it is corrected, the waiting lookup is answered."""
        postfix = self.postfix("jailmap unix - n y - 1 jailmapd")
        asking = self.asking(postfix)
        self.syslog.wait(
            r"jailmapd\[\d+\]: error: not started: master\.cf: service jailmap: chroot, the fifth "
            "column, must be n: "
        )
        postfix.wait_log(r"jailmapd pid \d+ exit status 64")
        text = proc.read(os.path.join(postfix.config, "master.cf"))
        workspace().write(
            postfix.config,
            "master.cf",
            text.replace("jailmap unix - n y", "jailmap unix - n n"),
        )
        postfix.process.send_signal(signal.SIGHUP)
        self.assertRegex(self.answer(asking)[1], r"^root:")


class MasterOptionsTest(harness.Case):
    """What master passes to its children, passed by this program."""

    def child(self, *options, listening=None, config=None):
        """(exit status, standard error) of a jailmapd with GENERATION, a status socket as 5, and
        other sockets from 6 on, that does not stay."""
        ours, status = socket.socketpair()
        given = [status.fileno(), *(part.fileno() for part in listening or ())]

        def arrange():
            # Out of the way first: the sources may lie where the targets are.
            copies = [os.dup(fd) for fd in given]
            moved = [os.dup2(fd, 100 + at, False) for at, fd in enumerate(copies)]
            for at, fd in enumerate(moved):
                os.dup2(fd, 5 + at)

        with ours, status:
            done = subprocess.run(
                [workspace().jailmapd, *options],
                env={"PATH": harness.PATH, "GENERATION": "17"},
                cwd=self.directory,
                preexec_fn=arrange,
                close_fds=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=90,
            )
        return done.returncode, done.stderr.decode()

    def test_options(self):
        """Options that master gives for a wrong line, and options that jailmapd does not have:
        exit 64, and one line that names service, column or option."""
        good = ["-l", "-n", "maps", "-t", "unix"]
        for options, expected in (
            (["-n", "maps", "-t", "unix"], "maxproc, the seventh column, must be 1"),
            (["-z", *good[1:]], "maxproc, the seventh column, must be 1"),
            ([*good, "-u"], "unpriv, the fourth column, must be n"),
            ([*good, "-c"], "chroot, the fifth column, must be n"),
            (["-l", "-n", "maps", "-t", "inet"], "the type, the second column, must be unix"),
            ([*good, "-i", "5"], "-i is not for jailmapd"),
            ([*good, "-S"], "-S is not for jailmapd"),
            ([*good, "-m", "0"], "0 is not for jailmapd"),
            ([*good, "-o", "max_use=0"], "max_use=0 is not for jailmapd"),
            ([*good, "-o", "max_use=1x"], "max_use=1x is not for jailmapd"),
            ([*good, "-o", "jailmap_config=x"], "jailmap_config=x is not for jailmapd"),
            ([*good, "-o", "mynetworks=all"], "mynetworks=all is not for jailmapd"),
            ([*good, "-s", "65"], "65 is not for jailmapd"),
            ([*good, "-d", "-D", "-v", "-V", "x"], "expected options only after jailmapd"),
        ):
            with self.subTest(options):
                code, errors = self.child(*options)
                self.assertEqual((code, errors.count("\n")), (64, 1), errors)
                self.assertIn("jailmapd: not started: master.cf: service maps: ", errors)
                self.assertIn(expected, errors)

    def test_sockets(self):
        """A socket that no listen section names, one that is none of that kind, and two of one
        name: exit 78, and a line that says which descriptor and what is expected."""
        name = os.path.join(self.directory, "socket")
        text = harness.config_text(self.path("run"), tables=[USERS], listen={name: {}})
        config = workspace().write(self.directory, "jailmapd.conf", text)
        os.chdir(self.directory)
        self.addCleanup(os.chdir, "/")
        here, elsewhere, datagram = (socket.socket(socket.AF_UNIX) for _ in range(3))
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        network, idle = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        for part in (here, elsewhere, datagram, network, idle):
            self.addCleanup(part.close)
        here.bind("socket")
        elsewhere.bind("elsewhere")
        here.listen()
        elsewhere.listen()
        options = ["-l", "-t", "unix", "-o", f"jailmap_config={config}"]
        expected = "expected a listening stream socket on the path of a listen section"
        other = os.path.join(self.directory, "elsewhere")
        for sockets, reason in (
            (
                [elsewhere],
                f'6 from master(8) listens on "{other}", which no listen section names; add listen '
                f'"{other}" {{ }}, or do not pass it',
            ),
            (
                [here, here],
                f'7 from master(8) listens on "{name}", as one before it does; pass one',
            ),
            ([datagram], f"6 from master(8) is no stream socket; {expected}"),
            ([network], f"6 from master(8) is no socket of the UNIX domain; {expected}"),
            ([idle], f"6 from master(8) is a socket that does not listen; {expected}"),
            ([here, idle], f"7 from master(8) is a socket that does not listen; {expected}"),
        ):
            with self.subTest(reason):
                code, errors = self.child(*options, "-s", str(len(sockets)), listening=sockets)
                self.assertEqual(code, 78, errors)
                self.assertRegex(errors, rf"\A{re.escape(config)}: descriptor {re.escape(reason)}")
                self.assertEqual(errors.count("\n"), 1)
                self.assertFalse(os.path.exists(self.path("run")))
