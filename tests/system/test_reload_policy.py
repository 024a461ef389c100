"""Reload of the policy on SIGHUP: what is approved, withdrawn, added or changed takes effect as one
step, on connections that stay open; and what is wrong changes nothing.

A reload has happened when its line is in the log. What is asked after that is decided by the new
policy, and the tests hold every answer against that.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import harness
import nameservice
import proc
import protocol
from harness import Workspace, entries, workspace
from protocol import DENY, GREETING, OK, RETRY, Closed, o_lookup
from waiting import LIMIT, wait_for

ALICE, BOB = 1, 2
MAIL = 30_008  # A group that nobody has.
RESULT = r"jailmapd: (?:\w+: )?((?:not )?reloaded: .*)"
NOTHING = "reloaded: nothing has changed"
PASSWD = "unix:passwd.byname"


class Pipeliner(threading.Thread):
    """A client on one connection that always has many requests under way, and never reconnects.

    Every answer is held against what `allowed` said, when its request was sent and until the answer
    came, of the table that it asks for.
    """

    def __init__(self, daemon, tables, allowed, count=40):
        super().__init__(daemon=True)
        self.client, self.tables, self.allowed, self.count = daemon.client(), tables, allowed, count
        self.rounds, self.wrong, self.stopping = 0, [], False
        self.start()

    def run(self):
        try:
            while not self.stopping:
                before = {table: self.allowed(table) for table in self.tables}
                questions = [table for _ in range(self.count) for table in self.tables]
                self.client.send(b"".join(o_lookup(table, "key") for table in questions))
                for table in questions:
                    parts = self.client.receive().split(b"\0")
                    found = int(parts[1]), parts[3]
                    if found not in before[table] | self.allowed(table):
                        self.wrong.append((table, found))
                self.rounds += 1
        except BaseException as error:  # a test must see it, whatever it is
            self.wrong.append(repr(error))
        self.client.close()

    def progress(self, rounds=3):
        goal = self.rounds + rounds
        wait_for(lambda: self.rounds >= goal or self.wrong, "a pipelining client to get answers")

    def finish(self):
        self.stopping = True
        self.join(LIMIT)
        return self.wrong


class ReloadPolicyTest(harness.Case):
    """Reload of the policy."""

    def write(self, daemon, text=None, **options):
        """Another configuration for a daemon: its text, or harness.config_text()'s options."""
        options.setdefault("listen", {daemon.socket: {"mode": "0666"}})
        text = text if text is not None else harness.config_text(daemon.runtime, **options)
        Workspace.write(daemon.directory, "jailmapd.conf.new", text)
        os.rename(os.path.join(daemon.directory, "jailmapd.conf.new"), daemon.config)

    def hang_up(self, daemon):
        """SIGHUP, and the one line that says what became of it."""
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        return daemon.wait_log(RESULT, since=mark).group(1)

    def reload(self, daemon, text=None, **options):
        self.write(daemon, text, **options)
        return self.hang_up(daemon)

    def texts(self, *names):
        """Tables that have "key", with their own name as its value."""
        return [self.text(name, f"key {name}\n") for name in names]

    def text(self, name, text):
        return "texthash:" + Workspace.write(self.directory, name, text)

    def files(self, pid):
        """What a process has open, by kind; less what comes and goes by itself."""
        with contextlib.suppress(FileNotFoundError):
            return len(os.listdir(f"/proc/{pid}/fd"))
        return 0

    # ---- approvals ----

    def test_nothing_changed(self):
        """Without a change it says so: no table is loaded anew and no worker is replaced, but every
        table is looked at."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        workers, mark = daemon.wait_roles("worker"), daemon.mark()
        for _ in range(3):
            self.assertEqual(self.hang_up(daemon), NOTHING)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.assertEqual(daemon.roles()["worker"], workers)
        self.assertNotRegex(daemon.log(mark), "entries")
        self.assertIn("SIGHUP: looking at every table", daemon.log(mark))

    def test_withdrawn(self):
        """A table that is withdrawn is denied from the next request on, on the same connection; the
        worker that had it is replaced, and no worker maps it any more."""
        kept, taken = self.texts("kept", "taken")
        Workspace.write(self.directory, "taken", "key withdrawn-value-of-taken\n")
        daemon = self.jailmapd([kept, taken])
        client = self.client(daemon)
        self.assertEqual(client.lookup(taken, "key"), (OK, b"withdrawn-value-of-taken"))
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
        (worker,) = daemon.wait_roles("worker")
        self.assertEqual(
            self.reload(daemon, tables=[kept, taken], allow={"root": [kept]}),
            "reloaded: listeners +0 -0 ~0, tables +0 -0 ~0, approvals +0 -1",
        )
        self.assertEqual(client.lookup(taken, "key"), (DENY, b""))
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
        wait_for(lambda: worker not in daemon.roles()["worker"], "the worker to be replaced")
        self.assertEqual(client.lookup(taken, "key"), (DENY, b""))
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
        for pid in daemon.roles()["worker"]:
            self.assertNotIn(b"withdrawn-value-of-taken", proc.memory(pid))
        self.assertNotRegex(daemon.log(), r"died")

    def test_table_removed_and_back(self):
        """A table that is not in the file any more is denied, others go on; when it comes back it
        is loaded anew, under the same connection."""
        kept, taken = self.texts("kept", "taken")
        daemon = self.jailmapd([kept, taken])
        client = self.client(daemon)
        self.assertEqual(client.lookup(taken, "key"), (OK, b"taken"))
        self.assertEqual(
            self.reload(daemon, tables=[kept]),
            "reloaded: listeners +0 -0 ~0, tables +0 -1 ~0, approvals +0 -1",
        )
        self.assertEqual(client.lookup(taken, "key"), (DENY, b""))
        Workspace.write(self.directory, "taken", "key another\n")
        other = self.text("other", "key other\n")
        self.assertEqual(
            self.reload(daemon, tables=[other, taken, kept]),
            "reloaded: listeners +0 -0 ~0, tables +2 -0 ~0, approvals +2 -0",
        )
        for table, value in ((taken, b"another"), (other, b"other"), (kept, b"kept")):
            self.assertEqual(client.lookup(table, "key"), (OK, value))

    def test_added(self):
        """A table that was denied is approved from the next request on, on the same connection and
        by the same worker."""
        old, new = self.texts("old", "new")
        daemon = self.jailmapd([old, new], allow={"root": [old]})
        client = self.client(daemon)
        self.assertEqual(client.lookup(old, "key"), (OK, b"old"))
        self.assertEqual(client.lookup(new, "key"), (DENY, b""))
        workers = daemon.wait_roles("worker")
        self.assertEqual(
            self.reload(daemon, tables=[old, new]),
            "reloaded: listeners +0 -0 ~0, tables +0 -0 ~0, approvals +1 -0",
        )
        self.assertEqual(client.lookup(new, "key"), (OK, b"new"))
        self.assertEqual(client.lookup(old, "key"), (OK, b"old"))
        self.assertEqual(daemon.roles()["worker"], workers)

    def test_under_load(self):
        """Clients that pipeline, on one connection each, get no answer that the policy did not
        allow when they asked or were answered, while tables are withdrawn, approved again, removed
        and added; none is closed."""
        always, sometimes, seldom = tables = self.texts("always", "sometimes", "seldom")
        right = {table: (OK, table.rpartition("/")[2].encode()) for table in tables}
        policy, changing = {table: {right[table]} for table in tables}, {}
        daemon = self.jailmapd(tables)
        clients = [
            Pipeliner(daemon, tables, lambda table: policy[table] | changing.get(table, set()))
            for _ in range(4)
        ]
        for approved in ([always, seldom], [always], [always, sometimes], tables) * 3:
            for client in clients:
                client.progress(1)
            changing.update({table: {right[table], (DENY, b"")} for table in tables[1:]})
            declared = [table for table in tables if table in approved or table != seldom]
            result = self.reload(daemon, tables=declared, allow={"root": list(approved)})
            self.assertRegex(result, r"^reloaded: listeners \+0 -0 ~0, tables ")
            for table in tables:
                policy[table] = {right[table] if table in approved else (DENY, b"")}
            changing.clear()
            for client in clients:
                client.progress(3)
        for client in clients:
            self.assertEqual(client.finish()[:5], [])
        self.assertNotRegex(daemon.log(), r"died|ended|refused")

    def test_agent_withdrawn(self):
        """A table of an agent is withdrawn and approved again: it is denied at once, and answered
        again."""
        (other,) = self.texts("other")
        daemon = self.jailmapd([PASSWD, other])
        client = self.client(daemon)
        # Not in the file, so the agent, if the system has one, is asked.
        self.assertNotEqual(client.lookup(PASSWD, "no-such-user")[0], DENY)
        self.assertEqual(client.lookup(PASSWD, "root")[0], OK)
        self.reload(daemon, tables=[other])
        self.assertEqual(client.lookup(PASSWD, "root"), (DENY, b""))
        wait_for(lambda: not daemon.roles()["agent"], "the agent to end")
        self.reload(daemon, tables=[other, PASSWD])
        self.assertEqual(client.lookup(PASSWD, "root")[0], OK)
        self.assertEqual(client.lookup(other, "key"), (OK, b"other"))

    def test_agent_has_questions(self):
        """What an agent has been asked when its table changes is answered by the new policy: by
        another agent with the new reveal, or with a denial."""
        daemon = self.jailmapd([PASSWD], start=False)
        daemon.start(wrap=nameservice.switched())
        clients = [self.client(daemon) for _ in range(3)]
        self.assertIn(b":4242:", clients[0].lookup(PASSWD, "nss-present")[1])
        for options, expected in (
            ({"tables": [(PASSWD, {"reveal": "existence"})]}, (OK, b"nss-present")),
            ({"tables": [PASSWD], "allow": {"root": []}}, (DENY, b"")),
        ):
            (agent,) = daemon.wait_roles("agent")
            harness.kill(agent, signal.SIGSTOP)
            for client in clients:
                client.send(o_lookup(PASSWD, "nss-present"))
                client.drained()
            self.assertRegex(self.reload(daemon, **options), "^reloaded: ")
            for client in clients:
                self.assertEqual(client.call(b""), list(expected))
            wait_for(lambda: agent not in daemon.roles()["agent"], "the agent to end")

    def test_many_connections(self):
        """However many connections a worker has, none is closed when it is replaced."""
        kept, taken = self.texts("kept", "taken")
        options = {"mode": "0666", "clients-per-worker": 200, "workers": 1}
        daemon = self.jailmapd([kept, taken], socket_options=options)
        clients = [self.client(daemon) for _ in range(200)]
        for client in clients:
            self.assertEqual(client.lookup(taken, "key"), (OK, b"taken"))
        (worker,) = daemon.wait_roles("worker")
        self.reload(daemon, tables=[kept], listen={daemon.socket: options})
        for _ in range(2):
            for client in clients:
                self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
                self.assertEqual(client.lookup(taken, "key"), (DENY, b""))
            wait_for(lambda: not proc.alive(worker), "the worker to be replaced")
        self.assertEqual(len(daemon.roles()["worker"]), 1)

    def test_reveal_changed(self):
        """Once reveal is existence, no client sees a value, whatever it has under way; a worker
        that had the values is replaced."""
        table = self.text("a", "key secret-value\n" + entries(20000))
        daemon = self.jailmapd([table, PASSWD])
        secret, existence = {(OK, b"secret-value")}, {(OK, b"key")}
        policy = [secret]
        clients = [Pipeliner(daemon, [table], lambda _: policy[0]) for _ in range(3)]
        client = self.client(daemon)
        self.assertIn(b":", client.lookup(PASSWD, "root")[1])
        for reveal, answers in (("existence", existence), ("all", secret)) * 3:
            for pipeliner in clients:
                pipeliner.progress(1)
            policy[0] = secret | existence
            options = [(name, {"reveal": reveal}) for name in (table, PASSWD)]
            self.assertEqual(
                self.reload(daemon, tables=options),
                "reloaded: listeners +0 -0 ~0, tables +0 -0 ~2, approvals +0 -0",
            )
            policy[0] = answers
            self.assertEqual(client.lookup(PASSWD, "root")[1] == b"root", reveal == "existence")
            for pipeliner in clients:
                pipeliner.progress(2)
        policy[0] = secret | existence
        self.reload(daemon, tables=[(table, {"reveal": "existence"})])
        policy[0] = existence
        for pipeliner in clients:
            self.assertEqual(pipeliner.finish()[:5], [])
        client.lookup(table, "key")

        def clean():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one is ending
                memories = [proc.memory(pid) for pid in daemon.roles()["worker"]]
                return not any(b"secret-value" in memory for memory in memories)
            return False

        wait_for(clean, "no worker to have the value")

    def test_users(self):
        """A user who loses every approval is still answered, with denials, on the same connection;
        a user who gains one is served on the connection that was there before."""
        (table,) = self.texts("a")
        os.chmod(self.directory, 0o755)
        daemon = self.jailmapd([table], allow={str(ALICE): [table]})
        alice, bob = (self.client(daemon, uid=uid) for uid in (ALICE, BOB))
        for allowed, denied, uid in ((alice, bob, BOB), (bob, alice, ALICE)) * 3:
            self.assertEqual(allowed.lookup(table, "key"), (OK, b"a"))
            self.assertEqual(denied.lookup(table, "key"), (DENY, b""))
            self.assertEqual(
                self.reload(daemon, tables=[table], allow={str(uid): [table]}),
                "reloaded: listeners +0 -0 ~0, tables +0 -0 ~0, approvals +1 -1",
            )
        self.assertNotRegex(daemon.log(), r"died|ended")

    def test_more_groups(self):
        """When another group begins to count, who is let in by it keeps what is open, on the same
        connection: the answer is the table's, or RETRY until the groups are known, never DENY."""
        had, new = self.texts("had", "new")
        daemon = self.jailmapd([had, new], allow={str(ALICE): [had]})
        client = self.client(daemon, uid=ALICE, groups=[MAIL])
        stranger = self.client(daemon, uid=BOB, groups=[MAIL + 1])
        self.assertEqual(client.lookup(had, "key"), (OK, b"had"))
        self.write(daemon, tables=[had, new], allow={f"@{MAIL}": [had, new]})
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        mine = {(OK, b"had"), (RETRY, b"")}
        wait_for(
            lambda: client.lookup(had, "key") not in mine or "reloaded: " in daemon.log(mark),
            "the reload",
        )
        self.assertIn(client.lookup(had, "key"), mine)
        self.assertIn(client.lookup(new, "key"), {(OK, b"new"), (RETRY, b"")})
        self.eventually(client, had, "key", (OK, b"had"))
        self.eventually(client, new, "key", (OK, b"new"))
        for table in (had, new):
            self.assertEqual(stranger.lookup(table, "key"), (DENY, b""))

    def test_no_user_left(self):
        """Without any approval everybody is a stranger: connections stay, and all is denied."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.reload(daemon, tables=[table], allow={})
        self.assertEqual(client.lookup(table, "key"), (DENY, b""))
        self.assertEqual(self.client(daemon).lookup(table, "key"), (DENY, b""))

    # ---- listeners ----

    def test_listeners(self):
        """A listener is added: it serves. It is removed: its clients are let go and its socket is
        gone. The others do not notice."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table])
        client, second = self.client(daemon), daemon.socket + "-2"
        both = {daemon.socket: {"mode": "0666"}, second: {"mode": "0660", "group": str(BOB)}}
        for _ in range(3):
            self.assertEqual(
                self.reload(daemon, tables=[table], listen=both),
                "reloaded: listeners +1 -0 ~0, tables +0 -0 ~0, approvals +0 -0",
            )
            info = os.stat(second)
            self.assertEqual((info.st_uid, info.st_gid), (0, BOB))
            self.assertEqual(stat.S_IMODE(info.st_mode), 0o660)
            with protocol.Client(second) as other:
                self.assertEqual(other.lookup(table, "key"), (OK, b"a"))
                self.assertEqual(
                    self.reload(daemon, tables=[table]),
                    "reloaded: listeners +0 -1 ~0, tables +0 -0 ~0, approvals +0 -0",
                )
                self.assertFalse(os.path.exists(second))
                self.assertEqual(other.receive_all(), b"")
            self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.assertNotRegex(daemon.log(), r"died|ended")

    def test_listener_replaced(self):
        """The permissions of a socket change: there is a socket under its name all the time, who
        was connected stays, and whoever may not connect any more cannot."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table], allow={"root": ["*"], str(BOB): ["*"]})
        allow = {"root": ["*"], str(BOB): ["*"]}
        early = self.client(daemon, uid=BOB)
        missing = []
        stopping = threading.Event()

        def connect():
            while not stopping.is_set():
                try:
                    protocol.Client(daemon.socket).close()
                except (OSError, Closed) as error:
                    missing.append(error)

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        for mode, may in (("0600", False), ("0666", True)) * 4:
            self.assertEqual(
                self.reload(
                    daemon, tables=[table], allow=allow, listen={daemon.socket: {"mode": mode}}
                ),
                "reloaded: listeners +0 -0 ~1, tables +0 -0 ~0, approvals +0 -0",
            )
            self.assertEqual(stat.S_IMODE(os.stat(daemon.socket).st_mode), int(mode, 8))
            self.assertEqual(early.lookup(table, "key"), (OK, b"a"))
            if may:
                self.assertEqual(self.client(daemon, uid=BOB).lookup(table, "key"), (OK, b"a"))
            else:
                self.assertRaises(ConnectionRefusedError, daemon.client, uid=BOB)
        stopping.set()
        thread.join(LIMIT)
        self.assertEqual(missing, [])
        names = {"jailmapd.conf", "run", "socket", "stderr"}
        self.assertEqual(set(os.listdir(daemon.directory)), names)
        daemon.stop()
        self.assertFalse(os.path.exists(daemon.socket))

    def test_listener_of_another_owner(self):
        """In a directory of another user, as Postfix's, sockets are added and replaced as that
        user's."""
        (table,) = self.texts("a")
        place = workspace().directory("private", 0o711, (ALICE, BOB))
        one, two = (os.path.join(place, name) for name in ("one", "two"))
        options = {"owner": str(ALICE), "group": str(BOB)}
        daemon = self.jailmapd([table], listen={one: {**options, "mode": "0666"}})
        listen = {one: {**options, "mode": "0660"}, two: {**options, "mode": "0620"}}
        self.assertRegex(self.reload(daemon, tables=[table], listen=listen), r"listeners \+1 -0 ~1")
        for path, mode in ((one, 0o660), (two, 0o620)):
            info = os.stat(path)
            self.assertEqual((info.st_uid, info.st_gid), (ALICE, BOB))
            self.assertEqual(stat.S_IMODE(info.st_mode), mode)
            with protocol.Client(path) as client:
                self.assertEqual(client.lookup(table, "key"), (OK, b"a"))

    def test_limits_changed(self):
        """Limits of a listener hold for connections that are there, and the worker that cannot have
        the new ones is replaced."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table])
        client, small = self.client(daemon), self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        listen = {daemon.socket: {"mode": "0666", "max-request": 4096, "clients-per-worker": 300}}
        self.assertEqual(
            self.reload(daemon, tables=[table], listen=listen),
            "reloaded: listeners +0 -0 ~1, tables +0 -0 ~0, approvals +0 -0",
        )
        small.send(o_lookup(table, "x" * 5000))
        self.assertEqual(small.receive_all(), b"")
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        daemon.wait_log(r"request larger than 4096 bytes")

    # ---- what is refused ----

    def refused(self, daemon, expected, text=None, **options):
        """The reload is refused with that message, and nothing has changed."""
        before = {path: os.stat(path).st_ino for path in (daemon.socket,)}
        result = self.reload(daemon, text, **options)
        self.assertRegex(result, "^not reloaded: " + expected)
        self.assertEqual({path: os.stat(path).st_ino for path in before}, before)
        self.assertEqual(self.asked.lookup(self.table_there, "key"), (OK, b"there"))
        self.assertEqual(self.asked.lookup("static:not-there", "key"), (DENY, b""))

    def start_refusing(self):
        (self.table_there,) = self.texts("there")
        daemon = self.jailmapd([self.table_there])
        self.asked = self.client(daemon)
        self.assertEqual(self.asked.lookup(self.table_there, "key"), (OK, b"there"))
        return daemon

    def test_bad_files(self):
        """A file with a mistake changes nothing, and the one line names file, line, column and what
        is expected; the next good file is taken."""
        daemon = self.start_refusing()
        good = harness.config_text(
            daemon.runtime, tables=[self.table_there], listen={daemon.socket: {"mode": "0666"}}
        )
        more = good + 'table "static:not-there" { }\n'
        file = re.escape(daemon.config)
        for text, expected in (
            ("tabel {}\n", "table"),
            ('table "static:x" { ', "expected"),
            ('table "static:x" { reveal = nothing }\n', "all.* existence"),
            ('allow "no-such-user" { tables = {"*"} }\n', 'no-such-user".*expected'),
            ('allow "1" { tables = {"static:undeclared"} }\n', '"static:undeclared".*expected'),
            (f'listen "{daemon.socket}" {{ mode = 0666 }}\n', "duplicate listen"),
            ('include "no-such-directory"\n', "no-such-directory: No such file"),
            ('"\n', "expected"),
        ):
            with self.subTest(text=text):
                self.refused(daemon, rf"{file}:\d+:\d+: .*{expected}", more + text)
        self.refused(daemon, rf"{file}(:\d+:\d+)?: .*expected", "")
        self.assertEqual(self.hang_up(daemon)[:4], "not ")
        self.assertRegex(self.reload(daemon, more), r"^reloaded: .* tables \+1 -0 ~0")
        self.assertEqual(self.asked.lookup("static:not-there", "key")[0], OK)

    def test_unsafe_files(self):
        """A file that somebody else could have written, or that is not there, is not read."""
        daemon = self.start_refusing()
        os.chown(daemon.config, ALICE, 0)
        self.assertRegex(self.hang_up(daemon), r"^not reloaded: .*jailmapd\.conf.*(owned|belong)")
        os.chown(daemon.config, 0, 0)
        os.chmod(daemon.config, 0o666)
        self.assertRegex(self.hang_up(daemon), r"^not reloaded: .*jailmapd\.conf.*writ")
        os.chmod(daemon.config, 0o600)
        self.assertEqual(self.hang_up(daemon), NOTHING)
        os.rename(daemon.config, daemon.config + ".away")
        self.assertRegex(self.hang_up(daemon), r"^not reloaded: .*No such file")
        os.rename(daemon.config + ".away", daemon.config)
        self.assertEqual(self.hang_up(daemon), NOTHING)

    def test_needs_restart(self):
        """What a process that runs cannot change is refused by name, and nothing else of that file
        is taken either."""
        daemon = self.start_refusing()
        tables = [self.table_there, "static:not-there"]
        place = {daemon.socket: {"mode": "0666"}}
        good = harness.config_text(daemon.runtime, tables=tables, listen=place)
        file = re.escape(daemon.config)
        for option, value in (
            ("user", "2:2"),
            ("runtime-dir", daemon.runtime + "-2"),
            ("libexec-dir", "/usr/lib"),
        ):
            text, count = re.subn(rf"(?m)^{option} = .*", f'{option} = "{value}"', good)
            self.assertEqual(count, 1)
            self.refused(daemon, rf"{file}: to change {option} needs a restart", text)
        self.refused(
            daemon, f"{file}: to change sandbox needs a restart", good + "sandbox = strict\n"
        )
        other = os.path.join(workspace().directory("elsewhere"), "socket")
        expected = rf'{file}:\d+:\d+: listen "{re.escape(other)}": no listener was .*restart'
        self.refused(daemon, expected, tables=tables, listen={**place, other: {"mode": "0666"}})
        self.assertFalse(os.path.exists(other))
        other = daemon.socket + "-2"
        expected = (
            rf'{file}:\d+:\d+: listen "{re.escape(other)}": .*root.*uid {ALICE} needs a restart'
        )
        listen = {**place, other: {"mode": "0666", "owner": str(ALICE)}}
        self.refused(daemon, expected, tables=tables, listen=listen)
        self.assertFalse(os.path.exists(other))

    def test_socket_in_the_way(self):
        """The live socket of another program is not taken, nor a file replaced; then no other new
        listener is there either. What a dead process left is replaced."""
        daemon = self.start_refusing()
        first, second = daemon.socket + "-1", daemon.socket + "-2"
        listen = {path: {"mode": "0666"} for path in (daemon.socket, first, second)}
        options = {"tables": [self.table_there, "static:not-there"], "listen": listen}
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as live:
            live.bind(second)
            live.listen()
            self.refused(daemon, rf'.*"{second}": another program is listening there', **options)
            self.assertFalse(os.path.exists(first))
            protocol.connect_as(second).close()
        os.unlink(second)
        Workspace.write(daemon.directory, "socket-2", "a file\n")
        self.refused(daemon, rf'.*"{second}": File exists', **options)
        os.unlink(second)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(second)
        self.assertRegex(self.hang_up(daemon), r"^reloaded: listeners \+2")
        for path in (first, second):
            with protocol.Client(path) as client:
                self.assertEqual(client.lookup(self.table_there, "key"), (OK, b"there"))

    # ---- reading ----

    def readers(self, daemon):
        return [pid for pid in proc.children(daemon.pid) if proc.program(pid) == "jailmap-reader"]

    def freeze(self, daemon):
        """No reader can be born until this is let go on; returns how."""
        launcher = daemon.launchers()["agents"]
        harness.kill(launcher, signal.SIGSTOP)
        wait_for(lambda: proc.stat_fields(launcher)[0] == "T", "the launcher to stop")
        return lambda: harness.let_go(launcher)

    def signal(self, daemon):
        """SIGHUP, once it has arrived."""
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("SIGHUP: looking", since=mark)

    def test_again_meanwhile(self):
        """SIGHUP while a reload runs causes one more after it, and that reads the file as it is
        then; several cause one."""
        one, two = self.texts("one", "two")
        daemon = self.jailmapd([one])
        let_go, mark = self.freeze(daemon), daemon.mark()
        self.signal(daemon)
        self.write(daemon, tables=[one, two])
        for _ in range(3):
            self.signal(daemon)
        let_go()
        wait_for(lambda: len(re.findall(RESULT, daemon.log(mark))) >= 2, "two reloads")
        self.assertEqual(self.hang_up(daemon), NOTHING)
        results = re.findall(RESULT, daemon.log(mark))
        self.assertEqual(len(results), 3, results)
        self.assertEqual(self.client(daemon).lookup(two, "key"), (OK, b"two"))

    def test_changed_while_read(self):
        """A file that changes while it is read is read again; one that never rests is refused, and
        the old policy stays."""
        one, two = self.texts("one", "two")
        daemon = self.jailmapd([one], start=False)
        daemon.start(wrap=nameservice.switched())
        let_go, mark = self.freeze(daemon), daemon.mark()
        self.signal(daemon)
        with open(daemon.config, "a", encoding="utf-8") as file:
            file.write(f'table "{two}" {{ }}\n')
        let_go()
        self.assertRegex(daemon.wait_log(RESULT, since=mark).group(1), r"^reloaded: .*tables \+1")
        self.assertEqual(len(re.findall(RESULT, daemon.log(mark))), 1)
        text = proc.read(daemon.config)
        self.write(daemon, tables=[one, two], allow={"root": ["*"], "nss-wait": ["*"]})
        mark = daemon.mark()
        self.signal(daemon)
        touched = set()

        def result():
            for reader in self.readers(daemon):  # each waits until the mode changes
                if reader not in touched:
                    os.utime(daemon.config)
                    touched.add(reader)
                nameservice.change_mode(daemon.pid)
            return re.search(RESULT, daemon.log(mark))

        why = wait_for(result, "the reload to be given up").group(1)
        self.assertRegex(why, r"^not reloaded: .*changed while it was read")
        self.assertEqual(len(touched), 3)
        self.write(daemon, text)
        self.assertEqual(self.hang_up(daemon), NOTHING)
        self.assertEqual(self.client(daemon).lookup(two, "key"), (OK, b"two"))

    def test_reader_ends(self):
        """A reader that is killed, as it waits for a name service that does not answer, is a reload
        that failed, and no more; the next one works."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table], start=False)
        daemon.start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.write(daemon, tables=[table], allow={"root": ["*"], "fault-hang": [table]})
        self.signal(daemon)

        (reader,) = wait_for(lambda: self.readers(daemon), "a reader")
        mark = daemon.mark()
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.assertEqual(int(proc.status(reader)["Uid"].split()[0]), harness.JAIL.pw_uid)
        code, page, errors = harness.run([workspace().jailmap, "sandbox", "-d", daemon.runtime])
        self.assertEqual((code, errors), (int(harness.sanitized()), ""))
        self.assertRegex(page, rf"jailmap-reader\n    process +{reader}, reads the configuration")
        harness.kill(reader)
        self.assertRegex(
            daemon.wait_log(RESULT, since=mark).group(1),
            r"^not reloaded: .*jailmapd\.conf: its reader ended: signal 9",
        )
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.assertRegex(
            self.reload(daemon, tables=[table], allow={"root": ["*"], "nss-present": [table]}),
            r"^reloaded: .* approvals \+1 -0",
        )

    def test_as_many_files(self):
        """A reload takes as many files as a start: one too many stops both, with the same words."""
        (table,) = self.texts("a")
        daemon = self.jailmapd([table], start=False)
        place = os.path.join(daemon.directory, "conf.d")
        os.mkdir(place, 0o700)
        for number in range(4094):  # and the directory and the file that includes it
            Workspace.write(place, f"{number:04}.conf", "")
        with open(daemon.config, "a", encoding="utf-8") as file:
            file.write('include "conf.d"\n')
        daemon.start()
        self.assertEqual(self.hang_up(daemon), NOTHING)
        Workspace.write(place, "last.conf", "")
        why = "last.conf is not read: a configuration has at most 4096 files"
        self.assertIn(why, self.hang_up(daemon))
        code, _, errors = harness.run([workspace().jailmapd, "-n", "-c", daemon.config])
        self.assertEqual(code, 78)
        self.assertIn(why, errors)

    def test_include(self):
        """Fragments of an included directory come and go; a mistake in one names that file."""
        one, two = self.texts("one", "two")
        daemon = self.jailmapd([one])
        place = os.path.join(daemon.directory, "conf.d")
        os.mkdir(place, 0o700)
        with open(daemon.config, "a", encoding="utf-8") as file:
            file.write('include "conf.d"\n')
        client = self.client(daemon)
        self.assertEqual(self.hang_up(daemon), NOTHING)
        Workspace.write(place, "two.conf", f'table "{two}" {{ }}\n', 0o600)
        self.assertRegex(self.hang_up(daemon), r"^reloaded: .*tables \+1 -0 ~0, approvals \+1 -0")
        self.assertEqual(client.lookup(two, "key"), (OK, b"two"))
        bad = Workspace.write(place, "bad.conf", "\n\n  nonsense\n")
        self.assertRegex(self.hang_up(daemon), rf"^not reloaded: {re.escape(bad)}:3:3: ")
        os.unlink(bad)
        os.chown(os.path.join(place, "two.conf"), ALICE, 0)
        self.assertRegex(self.hang_up(daemon), r"^not reloaded: .*conf\.d/two\.conf")
        self.assertEqual(client.lookup(two, "key"), (OK, b"two"))
        os.unlink(os.path.join(place, "two.conf"))
        self.assertRegex(self.hang_up(daemon), r"^reloaded: .*tables \+0 -1 ~0, approvals \+0 -1")
        self.assertEqual(client.lookup(two, "key"), (DENY, b""))

    def test_hostile_reader(self):
        """A reader that asks for what is not beside the configuration, says what it may not say, or
        too much, or reports nonsense, is a reload that failed: it gets nothing, the old policy
        stays, and no other helper ends."""
        libexec = workspace().directory("hostile")
        for name in os.listdir(workspace().libexec):
            shutil.copy(os.path.join(workspace().libexec, name), libexec)
        sources = ["tests/system/hostile_reader.c", "privsep/bridge.c"]
        subprocess.run(
            ["cc", "-D_GNU_SOURCE", "-I.", "-o", os.path.join(libexec, "jailmap-reader"), *sources],
            cwd=harness.REPOSITORY,
            check=True,
        )
        (table,) = self.texts("a")
        daemon = self.jailmapd([table], libexec=libexec)
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        text = harness.config_text(
            daemon.runtime, tables=[table], listen={daemon.socket: {}}, libexec=libexec
        )
        workers, beside = daemon.roles()["worker"], "a file that is not beside the configuration"
        for how, expected in (
            ("/etc/shadow", beside),
            ("..", beside),
            (".", beside),
            ("../shadow", beside),
            ("./x", beside),
            ("=", beside),
            ("=conf.d/", beside),
            ("=conf.d/..", beside),
            ("=conf.d/x/y", beside),
            ("=conf.d//x.conf", beside),
            ("=conf.d/secret", beside),
            ("nul", beside),
            ("worker", "message that this sender may not send"),
            ("late", "message out of state"),
            ("text", "the policy that it reports is too long"),
            ("wants", "(it floods the monitor|it asks and does not read)"),
            ("garbage", r"policy:1:1: "),
            ("empty", "policy"),
            ("control", r"two\\x0alines \\x1b\[31m$"),
            ("root", "unprivileged user"),
        ):
            with self.subTest(how):
                result = self.reload(daemon, f"# {how}\n{text}")
                self.assertRegex(result, rf"^not reloaded: .*{expected}")
                self.assertEqual(client.lookup(table, "key"), (OK, b"a"))
        self.assertEqual(daemon.roles()["worker"], workers)
        self.assertEqual(daemon.stop(), 0)

    def test_service_manager(self):
        """A service manager is told when a reload begins, with the time as of its own clock, and
        when it is over, whatever came of it."""
        path = self.path("notify")
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(path)
        manager.settimeout(LIMIT)
        daemon = self.jailmapd(self.texts("a"), start=False)
        daemon.start(env={"NOTIFY_SOCKET": path})
        ready = rb"READY=1\nMAINPID=\d+\nSTATUS=tables: 1, listeners: 1"
        self.assertRegex(manager.recv(4096), ready)
        for change in ("", "nonsense\n"):
            with open(daemon.config, "a", encoding="utf-8") as file:
                file.write(change)
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self.hang_up(daemon)
            begin = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.recv(4096))
            self.assertGreaterEqual(int(begin.group(1)), before)
            self.assertRegex(manager.recv(4096), ready)

    # ---- workers that do not do as they are told ----

    def test_stopped_worker(self):
        """A worker that does not confirm, as it is stopped, is ended before the reload is reported;
        its clients are closed, others are not."""
        kept, taken = self.texts("kept", "taken")
        daemon = self.jailmapd([kept, taken], allow={str(ALICE): ["*"], str(BOB): ["*"]})
        alice, bob = (self.client(daemon, uid=uid) for uid in (ALICE, BOB))
        self.assertEqual(alice.lookup(taken, "key"), (OK, b"taken"))
        stopped = next(
            pid for pid in daemon.roles()["worker"] if f"uid {ALICE} " in proc.arguments(pid)[0]
        )
        self.assertEqual(bob.lookup(taken, "key"), (OK, b"taken"))
        harness.kill(stopped, signal.SIGSTOP)
        allow = {str(ALICE): [kept], str(BOB): [kept]}
        self.write(daemon, tables=[kept, taken], allow=allow)
        self.signal(daemon)
        wait_for(lambda: bob.lookup(taken, "key") == (DENY, b""), "the other worker to deny it")
        self.assertRegex(daemon.wait_log(RESULT).group(1), r"^reloaded: .*approvals \+0 -2")
        self.assertFalse(proc.alive(stopped))
        self.assertEqual(alice.receive_all(), b"")
        self.assertEqual(bob.lookup(kept, "key"), (OK, b"kept"))
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(taken, "key"), (DENY, b""))

    def test_client_never_idle(self):
        """A worker that had what is withdrawn lets go of it at once, and is ended in the end, even
        if a client of it is never idle, as it has sent half a request."""
        (kept,) = self.texts("kept")
        taken = self.text("taken", "key taken\nother never-looked-up\n")
        options = {"mode": "0666", "request-timeout": 86400}
        daemon = self.jailmapd([kept, taken], socket_options=options)
        client, half = self.client(daemon), self.client(daemon)
        self.assertEqual(client.lookup(taken, "key"), (OK, b"taken"))
        half.send(o_lookup(kept, "key")[:10])
        half.drained()
        (worker,) = daemon.wait_roles("worker")
        self.assertIn(b"never-looked-up", proc.memory(worker))
        self.reload(daemon, tables=[kept], listen={daemon.socket: options})
        self.assertNotIn(b"never-looked-up", proc.memory(worker))
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
        self.assertEqual(half.receive_all(), b"")
        wait_for(lambda: not proc.alive(worker), "the worker to end")
        daemon.wait_log(r"worker pid \d+ .* ended: it had a table .* handed back 1 clients in time")
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))

    # ---- many ----

    def test_many(self):
        """A hundred reloads under lookups: no wrong answer, no connection closed, and neither the
        monitor nor a worker, launcher or agent has more descriptors than before."""
        tables = self.texts(*(f"t{number}" for number in range(6)))
        right = {table: (OK, table.rpartition("/")[2].encode()) for table in tables}
        policy = {table: {right[table]} for table in tables}
        daemon = self.jailmapd([*tables, PASSWD])
        second = daemon.socket + "-2"
        clients = [Pipeliner(daemon, tables, lambda table: policy[table], 5) for _ in range(2)]

        def variant(number):
            """The policy of that number, and what it answers."""
            there = [table for i, table in enumerate(tables) if i == 0 or (number >> i % 3) & 1]
            listen = {daemon.socket: {"mode": ("0666", "0660")[number % 2]}}
            if number % 3:
                listen[second] = {"mode": "0666"}
            allow = {
                "root": there,
                str(ALICE): [tables[number % 6]] * (tables[number % 6] in there),
            }
            everything = there + [PASSWD] * (number % 2)
            self.write(daemon, tables=everything, allow=allow, listen=listen)
            return {t: {right[t] if t in there else (DENY, b"")} for t in tables}

        def settle():
            """The first policy again, and nothing else under way."""
            after = variant(0)
            policy.update({table: policy[table] | after[table] for table in tables})
            self.hang_up(daemon)
            policy.update(after)
            for client in clients:
                client.progress(2)
            wait_for(lambda: len(daemon.roles()["worker"]) == 1, "workers to be replaced")
            wait_for(lambda: not daemon.roles()["agent"], "the agent to end")
            with proc_settled(daemon) as counts:
                return counts

        def proc_settled(settled):
            pids = {"monitor": settled.pid, **settled.launchers()}
            pids["worker"] = settled.roles()["worker"][0]
            return contextlib.nullcontext({name: self.files(pid) for name, pid in pids.items()})

        first = settle()
        for number in range(1, 101):
            after = variant(number)
            policy.update({table: policy[table] | after[table] for table in tables})
            self.assertRegex(self.hang_up(daemon), "^reloaded: ")
            policy.update(after)
        for client in clients:
            client.progress(2)
        # What was let go of is closed a moment later.
        wait_for(lambda: settle() == first, lambda: f"descriptors: {first}, then {settle()}")
        for client in clients:
            self.assertEqual(client.finish()[:5], [])
        self.assertNotRegex(daemon.log(), r"died|cannot")

    def test_greeting_once(self):
        """A connection that goes to another worker after a reload is not greeted twice."""
        kept, taken = self.texts("kept", "taken")
        daemon = self.jailmapd([kept, taken])
        client = self.client(daemon)
        self.assertEqual(client.lookup(taken, "key"), (OK, b"taken"))
        (worker,) = daemon.wait_roles("worker")
        self.reload(daemon, tables=[kept])
        wait_for(lambda: not proc.alive(worker), "the worker to be replaced")
        self.assertNotEqual(GREETING, client.ask(o_lookup(kept, "key")))
        self.assertEqual(client.lookup(kept, "key"), (OK, b"kept"))
        self.assertNotEqual(client.lookup(taken, "key")[0], RETRY)
