"""jailmapd below a service manager: what it tells, which sockets it takes over, and the unit files.

This program plays the service manager: it reads what jailmapd sends to NOTIFY_SOCKET, and passes
sockets as sd_listen_fds(3) has it.
"""

import contextlib
import os
import re
import secrets
import signal
import socket
import stat
import sys

import harness
import proc
import protocol
from harness import workspace
from protocol import OK, o_lookup, reply
from waiting import LIMIT

USERS = "unix:passwd.byname"
ALICE = 1
HERE = os.path.dirname(os.path.abspath(__file__))


class Notifications:
    """A NOTIFY_SOCKET: the messages in the order in which they came."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(LIMIT)
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def next(self, skip=()):
        """Fields of the next message that does not begin with one of those words."""
        while True:
            fields = dict(
                line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines()
            )
            if next(iter(fields)) not in skip:
                return fields


class NotifyTest(harness.Case):
    def notifications(self, address=None):
        notifications = Notifications(address or self.path("notify"))
        self.addCleanup(notifications.socket.close)
        return notifications

    def test_order(self):
        """READY with the pid; RELOADING with the time, and READY again, for SIGHUP; STOPPING: in
        this order, by path and by abstract name."""
        table = self.table("a", "key value\n")
        for address in (None, "\0jailmap-check-" + secrets.token_hex(8)):
            manager = self.notifications(address)
            daemon = self.jailmapd([table], start=False)
            daemon.start(env=manager.environment)
            ready = manager.next()
            self.assertEqual(
                ready,
                {"READY": "1", "MAINPID": str(daemon.pid), "STATUS": "tables: 1, listeners: 1"},
            )
            self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))
            daemon.process.send_signal(signal.SIGHUP)
            reloading = manager.next()
            self.assertEqual(list(reloading), ["RELOADING", "MONOTONIC_USEC"])
            self.assertRegex(reloading["MONOTONIC_USEC"], r"^\d+$")
            self.assertEqual(manager.next(), ready)
            self.assertEqual(daemon.stop(), 0)
            self.assertEqual(manager.next(), {"STOPPING": "1"})

    def test_background(self):
        """In the background, MAINPID is the daemon's pid and not that of the command."""
        manager = self.notifications()
        daemon = self.jailmapd([USERS], start=False)
        code, _, errors = harness.run(
            [workspace().jailmapd, "-c", daemon.config],
            env={"PATH": harness.PATH, **manager.environment},
        )
        self.assertEqual((code, errors), (0, ""))
        pid = int(proc.read(os.path.join(daemon.runtime, "jailmapd.pid")))
        self.assertEqual(manager.next()["MAINPID"], str(pid))
        below = proc.snapshot(pid)
        harness.kill(pid, signal.SIGTERM)
        self.assertEqual(manager.next(), {"STOPPING": "1"})
        harness.wait_ended(below, "the daemon to end")

    def test_watchdog(self):
        """WATCHDOG comes again and again where WATCHDOG_USEC asks this process for it, and READY
        and STOPPING as without."""
        manager = self.notifications()
        daemon = self.jailmapd([USERS], start=False)
        daemon.start(
            wrap=["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh"],
            env={**manager.environment, "WATCHDOG_USEC": "40000"},
        )
        self.assertIn("READY", manager.next())
        for _ in range(5):
            self.assertEqual(manager.next(), {"WATCHDOG": "1"})
        os.kill(daemon.pid, signal.SIGSTOP)
        manager.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                manager.next()
        os.kill(daemon.pid, signal.SIGCONT)
        manager.socket.settimeout(LIMIT)
        self.assertEqual(manager.next(), {"WATCHDOG": "1"})
        daemon.stop()
        self.assertEqual(manager.next(skip=["WATCHDOG"]), {"STOPPING": "1"})

    def test_watchdog_of_another(self):
        """No WATCHDOG where WATCHDOG_PID is another's, however often the loop goes round."""
        manager = self.notifications()
        daemon = self.jailmapd([USERS], start=False)
        others = {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}
        daemon.start(env={**manager.environment, **others})
        for _ in range(20):
            self.assertEqual(self.client(daemon).lookup(USERS, "root")[0], OK)
        daemon.stop()
        self.assertIn("READY", manager.next())
        self.assertIn("STOPPING", manager.next())

    def test_full(self):
        """A service manager that reads nothing holds up no lookup, and gets READY when it reads
        again."""
        manager = self.notifications()
        sent = True
        while sent:  # Each sender has its own limit; the queue is full if a new one sends none.
            sent = False
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        other.sendto(b"FILLER=1", manager.environment["NOTIFY_SOCKET"])
                        sent = True
        daemon = self.jailmapd([USERS], start=False)
        daemon.start(env=manager.environment)
        self.assertEqual(self.client(daemon).lookup(USERS, "root")[0], OK)
        self.assertIn("READY", manager.next(skip=["FILLER"]))
        self.assertNotIn("cannot tell", daemon.log())

    def test_gone(self):
        """A service manager that has gone is a line in the log, and nothing else."""
        manager = self.notifications()
        daemon = self.jailmapd([USERS], start=False)
        daemon.start(env=manager.environment)
        manager.socket.close()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log(r"cannot tell the service manager: Connection refused")
        self.assertEqual(self.client(daemon).lookup(USERS, "root")[0], OK)
        self.assertEqual(daemon.stop(), 0)


class ActivationTest(harness.Case):
    """Sockets that whoever starts the daemon has made."""

    def listening(self, path, kind=socket.SOCK_STREAM, backlog=True):
        made = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(made.close)
        made.bind(path)
        if backlog:
            made.listen()
        return made

    def activate(self, daemon, *sockets, ready=True, env=None, wrap=()):
        """Starts it with those sockets, and one more descriptor that nobody meant it to have."""
        fds = [part.fileno() for part in sockets]
        with open(daemon.config, "rb") as stray:
            os.set_inheritable(stray.fileno(), True)
            daemon.start(
                wrap=[
                    sys.executable,
                    os.path.join(HERE, "activate.py"),
                    ",".join(map(str, fds)),
                    *wrap,
                ],
                pass_fds=[*fds, stray.fileno()],
                ready=ready,
                env=env,
            )
        return daemon

    def test_activated(self):
        """A passed socket answers those who called before the daemon ran, is not touched, and
        outlives it: who calls meanwhile is answered by the next. Other sections are bound."""
        place = workspace().directory("sockets", owner=(ALICE, ALICE))
        path, own = os.path.join(place, "passed"), self.path("own")
        passed = self.listening(path)
        os.chmod(path, 0o640)
        before = os.lstat(path)
        daemon = self.jailmapd([USERS], start=False, listen={path: {"mode": "0666"}, own: {}})
        for _ in range(2):
            waiting = self.client(daemon, greeting=False)
            waiting.send(o_lookup(USERS, "no-such-user", 64))
            self.activate(daemon, passed)
            self.assertEqual(waiting.receive(), protocol.GREETING)
            self.assertEqual(waiting.receive(), reply("status", 1, "value", ""))
            with protocol.Client(own) as client:
                self.assertEqual(client.lookup(USERS, "root")[0], OK)
            links = proc.descriptors(daemon.pid)
            self.assertNotIn(daemon.config, links.values())
            inode = os.fstat(passed.fileno()).st_ino
            self.assertEqual(list(links.values()).count(f"socket:[{inode}]"), 1)
            self.assertEqual(os.readlink(f"/proc/{daemon.pid}/cwd"), "/")
            code, out, _ = harness.run([workspace().jailmap, "sandbox", "-d", daemon.runtime])
            if not harness.sanitized():  # whose jail is furnished, and has fewer limits
                self.assertEqual(code, 0, out)
            self.assertIn(f"listening on {path}", out)
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(os.path.exists(own))
            after = os.lstat(path)
            for field in ("st_ino", "st_mode", "st_uid", "st_gid"):
                self.assertEqual(getattr(before, field), getattr(after, field))

    def test_several(self):
        """Several passed sockets, in another order than the sections', each serve their own."""
        paths = [self.path(name) for name in ("one", "two", "three")]
        sockets = [self.listening(path) for path in paths]
        daemon = self.jailmapd([USERS], start=False, listen={path: {} for path in paths})
        self.activate(daemon, *reversed(sockets))
        for path in paths:
            with protocol.Client(path) as client:
                self.assertEqual(client.lookup(USERS, "root")[0], OK)
            daemon.wait_log(rf"uid 0 pid \d+ on {path}$")

    def test_max_use(self):
        """-m 1: the daemon ends with status 0 after its client has left, and the next one is served
        by the daemon that is started then."""
        path = self.path("passed")
        passed = self.listening(path)
        daemon = self.jailmapd([USERS], start=False, listen={path: {}})
        for _ in range(2):
            with daemon.client(greeting=False) as client:
                mark = daemon.mark()
                self.activate(daemon, passed, wrap=["/bin/sh", "-c", 'exec "$0" "$@" -m 1'])
                self.assertEqual(client.receive(), protocol.GREETING)
                self.assertEqual(client.lookup(USERS, "root")[0], OK)
            self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to end"), 0)
            daemon.wait_log("stopping: all of 1 clients have left, and -m is 1", since=mark)

    def test_max_use_wrong(self):
        """-m without a number from 1 on is a usage error."""
        for number in ("0", "-1", "x", "", "1x", "99999999999"):
            code, _, errors = harness.run([workspace().jailmapd, "-m", number])
            self.assertEqual((code, errors.count("\n")), (64, 1), errors)

    def test_not_meant(self):
        """Sockets for another process are closed, and what the configuration says is bound."""
        daemon = self.jailmapd([USERS], start=False)
        elsewhere = self.listening(self.path("elsewhere"))
        self.activate(daemon, elsewhere, env={"LISTEN_PID": "1"})
        inode = os.fstat(elsewhere.fileno()).st_ino
        self.assertNotIn(f"socket:[{inode}]", proc.descriptors(daemon.pid).values())
        self.assertEqual(self.client(daemon).lookup(USERS, "root")[0], OK)

    def test_refused(self):
        """A socket that no section names, of another kind or twice, and a wrong LISTEN_FDS: not
        started, and one line that says what was found and what is expected."""
        path, other = self.path("passed"), self.path("other")
        good, unnamed = self.listening(path), self.listening(other)
        idle = self.listening(self.path("idle"), backlog=False)
        datagram = self.listening(self.path("datagram"), socket.SOCK_DGRAM, False)
        sequenced = self.listening(self.path("sequenced"), socket.SOCK_SEQPACKET)
        abstract = self.listening("\0jailmap-check-" + secrets.token_hex(8))
        expected = "; expected a listening stream socket on the path of a listen section"
        cases = [
            (
                [unnamed],
                f'3 from the service manager listens on "{other}", which no listen section',
            ),
            ([good, good], f'4 from the service manager listens on "{path}", as one before it'),
            (
                [good, idle],
                "4 from the service manager is a socket that does not listen" + expected,
            ),
            ([datagram], "3 from the service manager is no stream socket" + expected),
            ([sequenced], "3 from the service manager is no stream socket" + expected),
            ([abstract], "3 from the service manager is a socket without a path" + expected),
        ]
        daemon = self.jailmapd([USERS], start=False, listen={path: {}})
        for sockets, reason in cases:
            with self.subTest(reason):
                mark = daemon.mark()
                self.activate(daemon, *sockets, ready=False)
                self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to end"), 78)
                self.assertRegex(
                    daemon.log(mark),
                    rf"\A{re.escape(daemon.config)}: descriptor {re.escape(reason)}.*\n\Z",
                )
        for count in ("", "x", "257", "-1", "1x"):
            with self.subTest(count):
                mark = daemon.mark()
                self.activate(daemon, good, ready=False, env={"LISTEN_FDS": count})
                self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to end"), 64)
                self.assertEqual(
                    daemon.log(mark),
                    f'jailmapd: LISTEN_FDS is "{count}"; expected a number of at most 256\n',
                )
        mark = daemon.mark()
        self.activate(daemon, good, ready=False, env={"LISTEN_FDS": "2"})
        self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to end"), 71)
        self.assertIn("cannot take the descriptors", daemon.log(mark))


class UnitsTest(harness.Case):
    """What `make install` gives systemd."""

    def installed(self, *names):
        return os.path.join(workspace().prefix, "lib", *names)

    def unit(self):
        return self.installed("systemd/system/jailmapd.service")

    def test_verify(self):
        """systemd-analyze finds nothing wrong with the installed units."""
        for name in ("jailmapd.service", "jailmapd.socket"):
            code, out, errors = harness.run(
                ["systemd-analyze", "verify", "--man=no", self.installed("systemd/system", name)]
            )
            self.assertEqual((code, out, errors), (0, "", ""))
        text = proc.read(self.unit())
        self.assertNotIn("@sbindir@", text)
        self.assertIn(f"\nExecStart={workspace().jailmapd} -f\n", text)

    def test_exposure(self):
        """systemd-analyze security counts at most the exposure that the daemon's own walls, which
        systemd does not see, make up for."""
        code, out, _ = harness.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=45", self.unit()]
        )
        self.assertEqual(code, 0, out)

    @harness.not_sanitized("their jail is furnished, which takes more capabilities")
    def test_capabilities(self):
        """With the capabilities of the unit file alone everything works: a socket in a directory of
        another user, tables, all walls."""
        names = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", proc.read(self.unit())).group(1)
        bounding = ",".join(["-all", *("+" + name[4:].lower() for name in names.split())])
        place = workspace().directory("private", 0o700, owner=(ALICE, ALICE))
        path = os.path.join(place, "socket")
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table, USERS], start=False, listen={path: {"owner": str(ALICE), "mode": "0600"}}
        )
        daemon.start(wrap=["setpriv", "--bounding-set", bounding])
        with daemon.client() as client:
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
            self.assertEqual(client.lookup(USERS, "root")[0], OK)
            self.assertEqual(os.stat(path).st_uid, ALICE)
            code, out, _ = harness.run([workspace().jailmap, "sandbox", "-d", daemon.runtime])
            if not harness.sanitized():  # whose jail is furnished, and has fewer limits
                self.assertEqual(code, 0, out)
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_user_and_directories(self):
        """systemd-sysusers makes the user of the default configuration, and systemd-tmpfiles the
        runtime-dir and a jail in it that jailmapd takes."""
        root = workspace().directory("root")
        os.mkdir(os.path.join(root, "etc"))
        for tool, *options in (("sysusers",), ("tmpfiles", "--create")):
            code, _, errors = harness.run(
                [
                    f"systemd-{tool}",
                    *options,
                    f"--root={root}",
                    self.installed(f"{tool}.d/jailmap.conf"),
                ]
            )
            self.assertEqual(code, 0, errors)
        entry = re.search(
            r"(?m)^_jailmap:[^:]*:(\d+):(\d+):[^:]*:/nonexistent:/usr/sbin/nologin$",
            proc.read(os.path.join(root, "etc/passwd")),
        )
        self.assertTrue(entry)
        self.assertNotIn("0", entry.groups())
        self.assertRegex(proc.read(os.path.join(root, "etc/group")), r"(?m)^_jailmap:")
        runtime = os.path.join(root, "run/jailmap")
        for path, mode in ((runtime, 0o755), (os.path.join(runtime, "empty"), 0o555)):
            info = os.stat(path)
            self.assertEqual((info.st_uid, stat.S_IMODE(info.st_mode)), (0, mode))
        daemon = self.jailmapd([USERS], start=False)
        text = proc.read(daemon.config).replace(daemon.runtime, runtime)
        workspace().write(daemon.directory, "jailmapd.conf", text)
        daemon.start()
        self.assertEqual(self.client(daemon).lookup(USERS, "root")[0], OK)
