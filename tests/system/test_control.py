"""`jailmap reload` and `jailmap stop`, who may, and what a reload changes of what the status shows,
of groups, of limits of keys and of sockets that were passed in."""

import contextlib
import os
import signal
import socket
import stat
import sys

import harness
import protocol
from harness import Workspace, workspace
from protocol import DENY, NOKEY, OK
from waiting import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
ALICE, BOB, MAIL, LISTS = 1, 2, 4711, 4712
SAME = "reloaded: nothing has changed\n"


class ControlCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.a, self.b = (
            "texthash:" + Workspace.write(self.directory, name, f"key {name}\n")
            for name in ("a", "b")
        )

    def write(self, daemon, more="", **options):
        """Another configuration for a daemon; more: lines after harness.config_text()'s."""
        options.setdefault("listen", {daemon.socket: {"mode": "0666"}})
        text = harness.config_text(daemon.runtime, **options) + more
        Workspace.write(daemon.directory, "jailmapd.conf.new", text)
        os.rename(os.path.join(daemon.directory, "jailmapd.conf.new"), daemon.config)

    def command(self, daemon, name, wrap=()):
        """(exit status, stdout, stderr) of `jailmap reload`, or of another."""
        return harness.run([*wrap, workspace().jailmap, name, "-d", daemon.runtime])

    def reload(self, daemon, more="", **options):
        self.write(daemon, more, **options)
        code, out, errors = self.command(daemon, "reload")
        self.assertEqual((code, errors), (0, ""))
        return out

    def ask(self, daemon, name):
        """A connection to a control socket, which is all that a command is."""
        asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(asker.close)
        asker.settimeout(60)
        asker.connect(os.path.join(daemon.runtime, name))
        return asker


class CommandTest(ControlCase):
    """The two commands."""

    def test_reload(self):
        """It prints what has changed, ends with 0, and what is asked afterwards is decided by the
        new configuration; the daemon's log names who asked."""
        daemon = self.jailmapd([self.a])
        client = self.client(daemon)
        self.assertEqual(client.lookup(self.b, "key")[0], DENY)
        self.assertEqual(
            self.reload(daemon, tables=[self.a, self.b]),
            "reloaded: listeners +0 -0 ~0, tables +1 -0 ~0, approvals +1 -0\n",
        )
        self.eventually(client, self.b, "key", (OK, b"b"))
        self.assertEqual(self.command(daemon, "reload"), (0, SAME, ""))
        daemon.wait_log(r"control\.reload from pid \d+: looking at every table")

    def test_refused(self):
        """A mistake is a message with its place and status 78; nothing changes, and the status has
        the reason until a reload is good again."""
        daemon = self.jailmapd([self.a])
        self.write(daemon, "nonsense\n", tables=[self.b])
        code, out, errors = self.command(daemon, "reload")
        self.assertEqual((code, out), (78, ""))
        self.assertRegex(errors, rf"^jailmap: not reloaded: {daemon.config}:\d+:\d+: .*nonsense")
        self.assertEqual(self.client(daemon).lookup(self.a, "key"), (OK, b"a"))
        self.assertRegex(self.failure(daemon), rf"^{daemon.config}:\d+:\d+: .*nonsense")
        self.assertEqual(daemon.facts()["tables"][0]["name"], self.a)
        self.reload(daemon, tables=[self.a])
        self.assertFalse(self.failure(daemon))

    def failure(self, daemon):
        return daemon.facts()["configuration"]["failure"]

    def test_who(self):
        """Only root may: another user is told so, status 77, even a member of control-group, and
        logged; the daemon goes on. Without a daemon the status is 69."""
        daemon = self.jailmapd([self.a], start=False)
        with open(daemon.config, "a", encoding="ascii") as config:
            config.write(f'control-group = "{MAIL}"\n')
        daemon.start()
        other = ["setpriv", f"--reuid={ALICE}", f"--regid={MAIL}", "--clear-groups"]
        for name in ("reload", "stop"):
            mark = daemon.mark()
            code, out, errors = self.command(daemon, name, other)
            self.assertEqual((code, out), (77, ""))
            self.assertIn(f"control.{name}: root alone may\n", errors)
            daemon.wait_log(rf"refused control\.{name} to uid {ALICE} pid \d+: root", since=mark)
        self.assertNotIn("looking at every table", daemon.log())
        self.assertEqual(self.client(daemon).lookup(self.a, "key"), (OK, b"a"))
        daemon.stop()
        for name in ("reload", "stop"):
            self.assertEqual(self.command(daemon, name)[0], 69)
            self.assertEqual(harness.run([workspace().jailmap, name, "x"])[0], 64)

    def test_stop(self):
        """It ends an orderly end, and returns when that is over."""
        daemon = self.jailmapd([self.a])
        self.assertEqual(self.client(daemon).lookup(self.a, "key"), (OK, b"a"))
        self.assertEqual(self.command(daemon, "stop"), (0, "stopping\n", ""))
        for path in (daemon.socket, os.path.join(daemon.runtime, "control.stop")):
            self.assertFalse(os.path.exists(path), path)
        self.assertRegex(daemon.log(), r"stopping: control\.stop from pid \d+")
        self.assertEqual(daemon.process.wait(60), 0)

    def test_many_ask(self):
        """While a reload runs sixteen can wait for the next, and one more is told to come again;
        those who leave make room, all others get the result, and no descriptor is left."""
        daemon = self.jailmapd([self.a])
        client = self.client(daemon)
        self.assertEqual(client.lookup(self.a, "key"), (OK, b"a"))
        had = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        (worker,) = daemon.wait_roles("worker")
        os.kill(worker, signal.SIGSTOP)
        self.write(daemon, tables=[self.a, self.b])
        mark = daemon.mark()
        askers = [self.ask(daemon, "control.reload") for _ in range(16)]
        with contextlib.closing(self.ask(daemon, "control.reload")) as late:
            self.assertIn(b"try again", late.recv(1000))
        for asker in askers[8:]:
            asker.close()
        wait_for(
            lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) < had + 16, "those who left to go"
        )
        os.kill(worker, signal.SIGCONT)
        for asker in askers[:8]:
            self.assertTrue(asker.recv(4096).startswith(b"reloaded: "))
            self.assertEqual(asker.recv(4096), b"")
        daemon.wait_log("reloaded: listeners", since=mark)
        self.assertEqual(self.command(daemon, "reload"), (0, SAME, ""))
        wait_for(
            lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= had + 2, "all connections to end"
        )


class ChangeTest(ControlCase):
    """What a reload changes besides tables and users."""

    def test_status(self):
        """The status shows what is there: no table or listener that was removed, a new one with
        counters of its own in the place of an old one, and users of what is left."""
        second = os.path.join(workspace().directory("sockets"), "second")
        daemon = self.jailmapd([self.a, self.b])
        both = {daemon.socket: {"mode": "0666"}, second: {"mode": "0666"}}
        # In a directory that was not there at the start: that needs another start.
        self.write(daemon, tables=[self.a, self.b], listen=both)
        daemon.stop()
        daemon.start()
        with contextlib.closing(protocol.Client(second)) as client:
            for _ in range(3):
                self.eventually(client, self.a, "key", (OK, b"a"))
        self.reload(daemon, tables=[self.b])
        facts = daemon.facts()
        self.assertEqual([table["name"] for table in facts["tables"]], [self.b])
        self.assertEqual([listener["path"] for listener in facts["listeners"]], [daemon.socket])
        self.assertEqual(facts["workers"], [])
        new = "texthash:" + Workspace.write(self.directory, "c", "key c\n")
        self.reload(daemon, tables=[self.b, new], listen=both)
        with contextlib.closing(protocol.Client(second)) as client:
            self.eventually(client, new, "key", (OK, b"c"))
        facts = daemon.facts()
        self.assertEqual({table["name"] for table in facts["tables"]}, {self.b, new})
        self.assertEqual({part["path"] for part in facts["listeners"]}, {daemon.socket, second})
        self.assertEqual(daemon.table_facts(new)["hits"], 1)
        self.assertEqual(daemon.table_facts(self.b)["hits"], 0)

    def test_groups(self):
        """Groups that count only since a reload count for clients that were connected before, on
        the same connection, and for nobody else; and they count no longer when they are gone."""
        daemon = self.jailmapd([self.a, self.b], allow={"*": [self.a]})
        member = self.client(daemon, uid=ALICE, groups=[LISTS, MAIL])
        primary = self.client(daemon, uid=BOB, gid=MAIL)
        other = self.client(daemon, uid=ALICE, groups=[LISTS])
        everybody = (member, primary, other)

        def answers(table):
            return [client.lookup(table, "key")[0] for client in everybody]

        self.assertEqual(answers(self.a), [OK] * 3)
        self.assertEqual(answers(self.b), [DENY] * 3)
        for _ in range(2):
            self.reload(
                daemon, tables=[self.a, self.b], allow={"*": [self.a], f"@{MAIL}": [self.b]}
            )
            self.assertEqual(answers(self.b)[2], DENY)
            for client in (member, primary):
                self.eventually(client, self.b, "key", (OK, b"b"))
            self.assertEqual(answers(self.a), [OK] * 3)
            self.reload(daemon, tables=[self.a, self.b], allow={"*": [self.a]})
            self.assertEqual(answers(self.b), [DENY] * 3)
            self.assertEqual(answers(self.a), [OK] * 3)

    def test_listeners_of_users(self):
        """What a section says of sockets can change: a table is denied at once where it is not
        approved any more, and stays where it is."""
        runtime = workspace().directory("sockets")
        one, two = (os.path.join(runtime, name) for name in ("one", "two"))
        listen = {path: {"mode": "0666"} for path in (one, two)}
        daemon = self.jailmapd([self.a], listen=listen)
        clients = [protocol.Client(path) for path in (one, two)]
        for client in clients:
            self.addCleanup(client.close)
            self.eventually(client, self.a, "key", (OK, b"a"))
        swapped = dict(reversed(listen.items()))
        for path, expected in ((one, [OK, DENY]), (two, [DENY, OK])):
            self.reload(
                daemon,
                tables=[self.a],
                listen=swapped,
                allow={"root": {"listen": [path], "tables": [self.a]}},
            )
            self.assertEqual([client.lookup(self.a, "key")[0] for client in clients], expected)

    def test_limits_of_keys(self):
        """max-key and keys of a table take effect on connections that are there."""
        daemon = self.jailmapd([self.a])
        client = self.client(daemon)
        self.assertEqual(client.lookup(self.a, "key"), (OK, b"a"))
        for limit, answer in (
            ({"max-key": 2}, NOKEY),
            ({"max-key": 3}, OK),
            ({"keys": "a-d"}, NOKEY),
            ({}, OK),
        ):
            out = self.reload(daemon, tables=[(self.a, limit)])
            self.assertEqual(
                out, "reloaded: listeners +0 -0 ~0, tables +0 -0 ~1, approvals +0 -0\n"
            )
            wait_for(
                lambda want=answer: client.lookup(self.a, "key")[0] == want, f"{answer} by {limit}"
            )

    def test_greeting(self):
        """greeting is for whoever connects after the reload, also of a worker that was there."""
        daemon = self.jailmapd([self.a])
        first = self.client(daemon)
        self.assertEqual(first.lookup(self.a, "key"), (OK, b"a"))
        workers = daemon.wait_roles("worker")
        for greeting in (False, True):
            text = "on" if greeting else "off"
            out = self.reload(
                daemon,
                tables=[self.a],
                listen={daemon.socket: {"mode": "0666", "greeting": text}},
            )
            self.assertIn("listeners +0 -0 ~1", out)
            client = self.client(daemon, greeting=greeting)
            self.assertEqual(client.lookup(self.a, "key"), (OK, b"a"))
            self.assertEqual(first.lookup(self.a, "key"), (OK, b"a"))
        self.assertEqual(daemon.roles()["worker"], workers)

    def test_control_group(self):
        """control-group is another from the reload on."""
        daemon = self.jailmapd([self.a])
        wait_for(lambda: daemon.status()[0] == 0, "the table to be loaded")
        member = ["setpriv", f"--reuid={ALICE}", f"--regid={MAIL}", "--clear-groups"]
        for more, code in (
            (f'control-group = "{MAIL}"\n', 0),
            (f'control-group = "{LISTS}"\n', 77),
            (f'control-group = "{MAIL}"\n', 0),
            ("", 77),
        ):
            self.write(daemon, tables=[self.a])
            with open(daemon.config, "a", encoding="ascii") as config:
                config.write(more)
            self.assertEqual(self.command(daemon, "reload")[0], 0)
            self.assertEqual(self.command(daemon, "status", member)[0], code, more)

    def test_passed_sockets(self):
        """A socket that was passed in stays as it is, whatever its section says of its owner, mode
        and queue; without a section it is closed, and its name left to whoever made it."""
        own = {os.path.join(workspace().directory("sockets"), "own"): {}}
        path = os.path.join(workspace().directory("passed"), "socket")
        daemon = self.jailmapd([self.a], start=False, listen={path: {"mode": "0666"}, **own})
        passed = socket.socket(socket.AF_UNIX)
        self.addCleanup(passed.close)
        passed.bind(path)
        os.chmod(path, 0o640)
        passed.listen()
        daemon.start(
            wrap=[sys.executable, os.path.join(HERE, "activate.py"), str(passed.fileno())],
            pass_fds=[passed.fileno()],
        )
        before = os.stat(path)
        for options in ({"mode": "0600"}, {"mode": "0600", "backlog": 1}):
            out = self.reload(daemon, tables=[self.a], listen={path: options, **own})
            self.assertIn("listeners +0 -0 ~1", out)
            after = os.stat(path)
            self.assertEqual((before.st_ino, stat.S_IMODE(after.st_mode)), (after.st_ino, 0o640))
            with protocol.Client(path) as client:
                self.eventually(client, self.a, "key", (OK, b"a"))
        out = self.reload(daemon, tables=[self.a], listen=own)
        self.assertIn("listeners +0 -1 ~0", out)
        self.assertEqual(os.stat(path).st_ino, before.st_ino)
        self.write(daemon, tables=[self.a], listen={path: {"mode": "0600"}, **own})
        code, _, errors = self.command(daemon, "reload")
        self.assertEqual(code, 78)
        self.assertIn("needs a restart", errors)
        daemon.stop()
        self.assertEqual(os.stat(path).st_ino, before.st_ino)
