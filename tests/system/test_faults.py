"""What breaks around jailmapd, and what its clients see of it: killed helpers, damaged tables, hostile and slow clients.

The rule under test is always the same: the one who is concerned gets a temporary error or a closed connection, and
everybody else notices nothing. No answer is ever a wrong "not found". Only processes of this run are killed, by pid.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import threading
import time
import unittest

import harness
import proc
import protocol
from harness import entries, postmap, workspace
from protocol import OK, NOKEY, RETRY, o_open, o_lookup, reply, Closed
from waiting import LIMIT, wait_for

ALICE, BOB = 1, 2


class Asker(threading.Thread):
    """A client that asks until told to stop, reconnects when its connection is closed, and keeps every wrong answer.

    expected: {(table, key): (status, value)}. A temporary error is no wrong answer, but not a right one either.
    """

    def __init__(self, daemon, expected):
        super().__init__(daemon=True)
        self.server, self.expected = daemon, expected
        self.right, self.temporary, self.reconnects = 0, 0, -1
        self.wrong = []
        self.stopping = False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                with self.server.client() as client:
                    self.reconnects += 1
                    while not self.stopping:
                        for question, answer in self.expected.items():
                            found = client.lookup(*question)
                            if found == answer:
                                self.right += 1
                            elif found[0] == RETRY:
                                self.temporary += 1
                            else:
                                self.wrong.append((question, found))
            except (Closed, OSError):
                time.sleep(
                    0.001
                )  # as a client would, so that it does not take the processor from the one it waits for
            except BaseException as error:  # a test must see it, whatever it is
                self.wrong.append(repr(error))
                return

    def progress(self, count=20):
        """Waits until this many more right answers came."""
        goal = self.right + count
        wait_for(lambda: self.right >= goal or self.wrong, "a client to get right answers again")

    def finish(self):
        self.stopping = True
        self.join(LIMIT)
        return self.wrong


class FaultsCase(unittest.TestCase):
    def setUp(self):
        self.directory = workspace().directory("tables")

    def path(self, name):
        return os.path.join(self.directory, name)

    def table(self, name, text=None, kind="hash", *options):
        """A table in this test's directory; with text, its database is made."""
        if text is not None:
            postmap(kind, self.path(name), text, *options)
        return f"{kind}:{self.path(name)}"

    def jailmapd(self, tables=(), start=True, **options):
        daemon = harness.Jailmapd("faults", tables=tables, **options)
        self.addCleanup(daemon.stop)
        return daemon.start() if start else daemon

    def client(self, daemon, **options):
        client = daemon.client(**options)
        self.addCleanup(client.close)
        return client

    def asker(self, daemon, expected):
        asker = Asker(daemon, expected)
        self.addCleanup(asker.finish)
        return asker

    def eventually(self, client, table, key, answer, before=(RETRY, b"")):
        """Waits for the right answer of a lookup. Until workers have what the log told of, it may be `before`, and nothing else."""

        def right():
            found = client.lookup(table, key)
            self.assertIn(found, (answer, before))
            return found == answer

        wait_for(right, f"{key} in {table} to be {answer[1][:40]!r}")

    def lock(self, path):
        """Holds the lock that postmap holds while it writes; closed by the test, or at its end."""
        file = open(path, "r+b")
        self.addCleanup(file.close)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


def touch(file):
    """Changes a locked table without changing it, so that a loader starts."""
    os.pwrite(file.fileno(), os.pread(file.fileno(), 1, 0), 0)
    os.utime(file.fileno())


class KilledTest(FaultsCase):
    """A helper dies."""

    def test_worker_killed(self):
        """Workers are killed 8 times in the middle of load: clients reconnect, and every answer is right."""
        table, users = self.table("a", entries(300)), "unix:passwd.byname"
        daemon = self.jailmapd([table, users])
        expected = {(table, f"key{n}"): (OK, f"value{n}".encode()) for n in range(300)}
        expected |= {(table, f"absent{n}"): (NOKEY, b"") for n in range(50)}
        expected |= {(users, "no-such-user"): (NOKEY, b"")}
        askers = [self.asker(daemon, expected) for _ in range(4)]
        for _ in range(8):
            for asker in askers:
                asker.progress()
            for pid in daemon.wait_roles("worker"):
                mark = daemon.mark()
                with contextlib.suppress(ProcessLookupError):
                    harness.kill(pid)
                daemon.wait_log(
                    rf"worker pid {pid} for uid 0 on {daemon.socket} died: signal 9", since=mark
                )
        for asker in askers:
            asker.progress(len(expected))
            self.assertEqual(asker.finish(), [])
            self.assertGreater(asker.reconnects, 0)
        self.assertIsNone(daemon.process.poll())

    def test_worker_killed_spares_others(self):
        """The death of one user's worker is not noticed by a client of another user."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={str(ALICE): ["*"], str(BOB): ["*"]})
        alice, bob = self.client(daemon, uid=ALICE), None
        self.assertEqual(alice.lookup(table, "key"), (OK, b"value"))
        (worker,) = daemon.wait_roles("worker")
        bob = self.client(daemon, uid=BOB)
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        harness.kill(worker)
        self.assertEqual(alice.receive_all(), b"")
        daemon.wait_log(rf"worker pid {worker} for uid {ALICE} ")
        self.assertEqual(bob.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(table, "key"), (OK, b"value"))

    def test_loader_killed(self):
        """Loaders are killed while they load: the old image stays in service, a table without one is RETRY, and both load in the end."""
        old, fresh = self.table("old", "key one\n"), self.table("fresh", "key one\n")
        lock = self.lock(self.path("fresh.db"))
        daemon = self.jailmapd([old, fresh])
        client = self.client(daemon)
        daemon.wait_log(rf'table "{old}" loaded: 1 entries')
        old_lock = self.lock(self.path("old.db"))
        for _ in range(3):
            touch(old_lock)
            for pid in daemon.wait_roles("loader"):
                with contextlib.suppress(ProcessLookupError):
                    harness.kill(pid)
            self.assertEqual(client.lookup(old, "key"), (OK, b"one"))
            self.assertEqual(client.lookup(fresh, "key"), (RETRY, b""))
        daemon.wait_log(r'warning: table "hash:.*signal 9')
        for file in (lock, old_lock):
            file.close()
        self.table("old", "key two\n")
        self.table("fresh", "key two\n")
        self.eventually(client, old, "key", (OK, b"two"), (OK, b"one"))
        self.eventually(client, fresh, "key", (OK, b"two"))

    def test_agent_killed(self):
        """The name service agent is killed under load: its table is RETRY or right, never NOKEY, and other tables do not notice."""
        table, users = self.table("a", "key value\n"), "unix:passwd.byname"
        daemon = self.jailmapd([table, users])
        expected = {
            (users, "root"): (OK, b"root:x:0:0:root:/root:/bin/bash"),
            (users, "no-such-user"): (NOKEY, b""),
        }
        expected[users, "root"] = self.client(daemon).lookup(users, "root")
        self.assertRegex(expected[users, "root"][1], b"^root:.*:0:0:")
        asker, other = self.asker(daemon, expected), self.asker(
            daemon, {(table, "key"): (OK, b"value")}
        )
        for _ in range(4):
            asker.progress()
            (pid,) = daemon.wait_roles("agent")
            mark = daemon.mark()
            harness.kill(pid)
            daemon.wait_log(rf"agent pid {pid} for table \"{users}\" died: signal 9", since=mark)
        asker.progress()
        self.assertEqual(asker.finish(), [])
        self.assertEqual(other.finish(), [])
        self.assertEqual((other.temporary, other.reconnects), (0, 0))

    def test_scribe_killed(self):
        """The log writer is killed: lookups go on, and the log does too."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], allow={"root": ["*"], str(ALICE): ["*"]})
        asker = self.asker(daemon, {(table, "key"): (OK, b"value")})
        asker.progress()
        for _ in range(3):
            (pid,) = daemon.wait_roles("scribe")
            mark = daemon.mark()
            harness.kill(pid)
            asker.progress()
            daemon.wait_log(rf"warning: scribe pid {pid} died: signal 9", since=mark)
        mark = daemon.mark()
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(table, "key"), (OK, b"value"))
        daemon.wait_log(
            rf'approved table "{table}" for uid {ALICE} pid \d+ on {daemon.socket}', since=mark
        )
        self.assertEqual(asker.finish(), [])
        self.assertEqual((asker.temporary, asker.reconnects), (0, 0))

    def test_monitor_killed(self):
        """The monitor is killed: no helper survives it, clients see the end, and a new one starts over the stale socket."""
        table, busy, users = (
            self.table("a", "key value\n"),
            self.table("busy", "key value\n"),
            "unix:passwd.byname",
        )
        lock = self.lock(self.path("busy.db"))
        daemon = self.jailmapd([table, busy, users])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(client.lookup(users, "root")[0], OK)
        touch(lock)
        for role in ("worker", "loader", "agent", "scribe"):
            daemon.wait_roles(role)
        below = proc.snapshot(daemon.pid)
        self.assertGreaterEqual(len(below), 4)
        daemon.process.kill()
        harness.wait_exit(daemon.process, "the monitor to end")
        wait_for(lambda: not proc.survivors(below), "every helper to end after the monitor")
        self.assertEqual(client.receive_all(), b"")
        self.assertTrue(stat.S_ISSOCK(os.stat(daemon.socket).st_mode))
        daemon.start()
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))


# What can happen to a database file, by name: a function of its path, and a word of the reason that the log gives.
def _replace(path, make):
    """Puts what make(temporary path) makes in the place of path at once."""
    temporary = path + ".new"
    make(temporary)
    os.rename(temporary, path)


def _write(path, data, mode=0o644):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def _other_kind(path):
    base = path.removesuffix(".db")
    postmap("btree", base + "-tree", "key tree\n")
    os.rename(base + "-tree.db", path)


def _directory(path):
    os.unlink(path)
    os.mkdir(path)


def _symlink(path):
    shutil.copy(path, path + ".real")
    _replace(path, lambda new: os.symlink(path + ".real", new))


def _socket(path):
    server = socket.socket(socket.AF_UNIX)
    os.unlink(path)
    server.bind(path)
    server.close()


def _damaged_pages(path):
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        data[4096:] = secrets.token_bytes(len(data) - 4096)
        file.seek(0)
        file.write(data)


DAMAGES = {
    "garbage": (lambda path: _write(path, b"no database\n" * 500), None),
    "empty": (lambda path: os.truncate(path, 0), None),
    "cut in the first page": (lambda path: os.truncate(path, 100), None),
    "cut in the middle": (lambda path: os.truncate(path, 4096 + 17), None),
    "damaged pages": (_damaged_pages, None),
    "zeros": (lambda path: _write(path, bytes(16384)), None),
    "a btree": (_other_kind, None),
    "a FIFO": (lambda path: _replace(path, os.mkfifo), r"regular"),
    "a directory": (_directory, r"regular|directory"),
    "a socket": (_socket, None),
    "a device": (
        lambda path: _replace(
            path, lambda new: os.mknod(new, 0o644 | stat.S_IFCHR, os.makedev(1, 5))
        ),
        r"regular",
    ),
    "a symbolic link": (_symlink, r"link"),
    "a dangling link": (
        lambda path: _replace(path, lambda new: os.symlink("/nonexistent/x", new)),
        r"link",
    ),
    "writable by others": (lambda path: os.chmod(path, 0o646), r"writ"),
    "writable by its group": (lambda path: os.chmod(path, 0o664), r"writ"),
    "somebody else's": (lambda path: os.chown(path, ALICE, 0), r"own|belong"),
    "removed": (os.unlink, r"No such file"),
}


def remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


class DamagedTest(FaultsCase):
    """A table is damaged."""

    def test_damaged_while_running(self):
        """A table is damaged in 17 ways while in service: its last good image stays, the log says why, the repair is noticed, and no other table is touched."""
        table, other = self.table("a", entries(300)), self.table("b", "key value\n")
        file = self.path("a") + ".db"
        daemon = self.jailmapd([table, other])
        daemon.wait_log(rf'table "{table}" loaded: 300 entries')
        client = self.client(daemon)
        asker = self.asker(
            daemon, {(other, "key"): (OK, b"value"), (other, "absent"): (NOKEY, b"")}
        )
        value = "value7"
        for number, (name, (damage, reason)) in enumerate(DAMAGES.items()):
            with self.subTest(name):
                mark = daemon.mark()
                damage(file)
                daemon.wait_log(
                    rf'warning: table "{table}" not reloaded: .*{reason or ""}.*; the image of generation \d+ stays '
                    r"in service",
                    since=mark,
                )
                self.assertEqual(client.lookup(table, "key7"), (OK, value.encode()))
                self.assertEqual(client.lookup(table, "absent"), (NOKEY, b""))
                mark, last = daemon.mark(), value
                remove(file)
                value = f"again{number}-7"
                self.table("a", entries(400, value=f"again{number}-"))
                daemon.wait_log(
                    rf'table "{table}" recovered: 400 entries, generation \d+', since=mark
                )
                self.eventually(client, table, "key7", (OK, value.encode()), (OK, last.encode()))
        self.assertEqual(asker.finish(), [])
        self.assertEqual((asker.temporary, asker.reconnects), (0, 0))

    def test_damaged_at_start(self):
        """Tables that are damaged at start are failing tables: open is OK, lookups RETRY, and each recovers when its file does."""
        good = self.table("good", "key value\n")
        broken = {}
        for number, (name, (damage, _)) in enumerate(DAMAGES.items()):
            broken[name] = self.table(f"t{number}", entries(50))
            damage(self.path(f"t{number}.db"))
        daemon = self.jailmapd([good, *broken.values()])
        client = self.client(daemon)
        for name, table in broken.items():
            daemon.wait_log(
                rf'warning: table "{table}" failed: .*; lookups get a temporary error until it loads'
            )
            self.assertEqual(client.open(table), (OK, 28), name)
            for key in ("key7", "absent"):
                self.assertEqual(client.lookup(table, key), (RETRY, b""), name)
        self.assertEqual(client.lookup(good, "key"), (OK, b"value"))
        for number, (name, table) in enumerate(broken.items()):
            remove(self.path(f"t{number}.db"))
            self.table(f"t{number}", entries(60))
            daemon.wait_log(rf'table "{table}" recovered: 60 entries, generation \d+')
            self.eventually(client, table, "key59", (OK, b"value59"))
            self.assertEqual(client.lookup(table, "absent"), (NOKEY, b""), name)
        self.assertEqual(client.lookup(good, "key"), (OK, b"value"))

    def test_directory_not_safe(self):
        """A directory on the way to a table that others can write, or that is a link, makes the table fail until it is mended."""
        inner = os.path.join(self.directory, "inner")
        os.mkdir(inner)
        table = self.table("inner/a", "key value\n")
        other = self.table("b", "key value\n")
        os.chmod(inner, 0o777)
        daemon = self.jailmapd([table, other])
        client = self.client(daemon)
        daemon.wait_log(rf'warning: table "{table}" failed: .*{inner}')
        self.assertEqual(client.lookup(table, "key"), (RETRY, b""))
        os.chmod(inner, 0o755)
        daemon.wait_log(rf'table "{table}" recovered: 1 entries')
        self.eventually(client, table, "key", (OK, b"value"))
        mark = daemon.mark()
        os.rename(inner, inner + ".moved")
        os.symlink(inner + ".moved", inner)
        os.utime(inner + ".moved/a.db")
        daemon.wait_log(rf'warning: table "{table}" not reloaded: .*{inner}', since=mark)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(client.lookup(other, "key"), (OK, b"value"))

    def test_owner(self):
        """A table whose section names an owner may belong to that user, and to no third one."""
        os.mkdir(self.path("home"))
        table = self.table("home/a", "key value\n")
        for path in (self.path("home"), self.path("home/a.db")):
            os.chown(path, ALICE, 0)
        daemon = self.jailmapd([(table, {"owner": str(ALICE)})])
        client = self.client(daemon)
        daemon.wait_log(rf'table "{table}" loaded: 1 entries')
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        mark = daemon.mark()
        os.chown(self.path("home/a.db"), BOB, 0)
        daemon.wait_log(rf'warning: table "{table}" not reloaded: ', since=mark)

    def test_rebuilt_under_load(self):
        """A table is rebuilt 10 times in place and by rename under load: no key is ever missing, and no answer goes back in time."""
        table = self.table("a", entries(2000, value="0-"))
        daemon = self.jailmapd([table])
        problems, seen = [], {"generation": 0}
        stop = threading.Event()

        def watch():
            try:
                with daemon.client() as client:
                    last = 0
                    while not stop.is_set():
                        for key in (0, 1, 999, 1999):
                            code, value = client.lookup(table, f"key{key}")
                            match = re.fullmatch(rb"(\d+)-%d" % key, value)
                            if code != OK or not match or int(match.group(1)) < last:
                                problems.append((code, value, last))
                                return
                            last = seen["generation"] = int(match.group(1))
            except BaseException as error:
                problems.append(repr(error))

        thread = threading.Thread(target=watch, daemon=True)
        daemon.wait_log(rf'table "{table}" loaded: 2000 entries')
        thread.start()
        for generation in range(1, 11):
            if generation % 2:
                self.table("a", entries(2000, value=f"{generation}-"))
            else:
                self.table("new", entries(2000, value=f"{generation}-"))
                os.rename(self.path("new.db"), self.path("a.db"))
            wait_for(
                lambda generation=generation: seen["generation"] == generation or problems,
                "the new content",
            )
        stop.set()
        thread.join(LIMIT)
        self.assertEqual(problems, [])

    def test_half_written(self):
        """While a writer holds its lock, the old content is served, however long that takes; then the new one."""
        table = self.table("a", "key old\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        daemon.wait_log(rf'table "{table}" loaded: 1 entries')
        self.table("b", "key new\n")
        with open(self.path("b.db"), "rb") as file:
            content = file.read()
        lock = self.lock(self.path("a.db"))
        os.truncate(self.path("a.db"), 0)
        os.pwrite(lock.fileno(), content[:4096], 0)
        daemon.wait_roles("loader")
        self.assertEqual(client.lookup(table, "key"), (OK, b"old"))
        os.pwrite(lock.fileno(), content, 0)
        lock.close()
        self.eventually(client, table, "key", (OK, b"new"), (OK, b"old"))
        self.assertNotIn("warning", daemon.log())


class ClientsTest(FaultsCase):
    """Clients that are slow, large, many, or hostile."""

    def test_slow_reader(self):
        """A client that asks for 3 MB values and does not read delays nobody, and gets every byte when it does read."""
        table = self.table("a", "big " + "v" * 3_000_000 + "\nkey value\n")
        daemon = self.jailmapd([table], socket_options={"workers": 1})
        slow, quick = self.client(daemon), self.client(daemon)
        self.assertEqual(slow.lookup(table, "key"), (OK, b"value"))
        slow.send(o_lookup(table, "big", 64) * 3)
        for _ in range(200):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        slow.send(o_lookup(table, "key", 64))
        for _ in range(200):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        expected = reply("status", OK, "value", "v" * 3_000_000)
        for _ in range(3):
            self.assertTrue(slow.receive() == expected, "3 MB value arrives whole")
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(slow.receive(), reply("status", OK, "value", "value"))

    def test_half_request(self):
        """A half-sent request stalls nobody, and its client is disconnected cleanly after request-timeout, with a log line."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"request-timeout": 1, "workers": 1})
        whole = o_lookup(table, "key", 64)
        idle, quick = self.client(daemon), self.client(daemon)
        late = [self.client(daemon) for _ in range(4)]
        for client, part in zip(late, (whole[:1], whole[:20], whole[:-1], whole + whole[:9])):
            client.send(part)
        for _ in range(100):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        answers = [client.receive_all() for client in late]
        self.assertEqual(answers[:3], [b""] * 3)
        self.assertEqual(answers[3], reply("status", OK, "value", "value"))
        daemon.wait_log(
            rf"warning: closed client uid 0 pid {os.getpid()} on {daemon.socket}: request incomplete after 1 s"
        )
        self.assertEqual(idle.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

    def test_trickle(self):
        """A request that never ends is cut off although a byte of it arrives again and again."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"request-timeout": 1})
        client, quick = self.client(daemon), self.client(daemon)

        def closed():
            try:
                client.send(b"x")
            except OSError:
                return True
            return self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

        wait_for(closed, "the endless request to be cut off")
        daemon.wait_log(r"closed client uid 0 pid \d+ on .*: request incomplete after 1 s")

    def test_oversize_request(self):
        """A request above max-request is a clean close with a log line; below it is served; nobody else notices."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table], socket_options={"max-request": 65536})
        quick = self.client(daemon)
        self.assertEqual(self.client(daemon).lookup(table, "k" * 65000), (NOKEY, b""))
        for data in (
            o_lookup(table, "k" * 65536, 64),
            b"x" * 200_000,
            b"request\0lookup\0" + b"a\0b\0" * 40_000,
            b"request\0open\0table\0" + b"t" * 80_000,
        ):
            mark = daemon.mark()
            client = self.client(daemon)
            with contextlib.suppress(OSError):
                client.send(data)
                client.half_close()
            # A list that is already known to be wrong may have been answered before it was too long.
            self.assertIn(client.receive_all(), (b"", reply("status", 3, "value", "")))
            if not data.startswith(b"request\0lookup\0a"):
                daemon.wait_log(
                    rf"warning: closed client uid 0 pid {os.getpid()} on {daemon.socket}: request larger than "
                    r"65536 bytes",
                    since=mark,
                )
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))

    def test_long_keys(self):
        """Keys of 128 KiB and more are served, to several clients that send them in pieces at the same time."""
        long_key = "h" * (128 * 1024)
        table = self.table("a", f"{long_key} found\nkey value\n")
        daemon = self.jailmapd([table])
        clients = [self.client(daemon) for _ in range(16)]
        data = o_lookup(table, long_key, 64)
        for start in range(0, len(data), 10_000):
            for client in clients:
                client.send(data[start : start + 10_000])
        for client in clients:
            self.assertEqual(client.receive(), reply("status", OK, "value", "found"))
            self.assertEqual(client.lookup(table, long_key + "x"), (NOKEY, b""))
            self.assertEqual(client.lookup(table, "k" * 3_000_000), (NOKEY, b""))

    def test_long_user_name(self):
        """A key longer than any user name is not found in the user database, and the next lookup is."""
        daemon = self.jailmapd(["unix:passwd.byname"])
        client = self.client(daemon)
        for length in (1000, 100_000, 300_000, 3_000_000):
            self.assertEqual(client.lookup("unix:passwd.byname", "u" * length), (NOKEY, b""))
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)

    def test_many_clients(self):
        """500 clients are connected and served at the same time."""
        table, users = self.table("a", entries(500)), "unix:passwd.byname"
        daemon = self.jailmapd([table, users])
        clients = [self.client(daemon) for _ in range(500)]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(o_lookup(table, f"key{number}", 64) + o_lookup(users, "root", 64))
            for number, client in enumerate(clients):
                self.assertEqual(
                    client.receive(), reply("status", OK, "value", f"value{number}"), f"turn {turn}"
                )
                self.assertRegex(client.receive(), rb"^status\x000\x00value\x00root:")
        self.assertLessEqual(len(daemon.roles()["worker"]), 2)

    def test_too_many_clients(self):
        """Clients beyond the limit are refused with a log line, the others go on, and places become free again."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            socket_options={"workers": 1, "clients-per-worker": 4},
            allow={"root": ["*"], str(ALICE): ["*"]},
        )
        inside = [self.client(daemon) for _ in range(4)]
        extra = self.client(daemon, greeting=False)
        with self.assertRaises(Closed):
            extra.receive()
        daemon.wait_log(
            rf"refused client uid 0 pid {os.getpid()} on {daemon.socket}: all its workers are full"
        )
        for client in inside:
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(self.client(daemon, uid=ALICE).lookup(table, "key"), (OK, b"value"))
        inside.pop().close()

        def served():
            with contextlib.suppress(Closed), daemon.client() as client:
                return client.lookup(table, "key") == (OK, b"value")
            return False

        wait_for(served, "a place to become free")

    def test_garbage(self):
        """Random bytes on 100 connections end none but their own."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        quick = self.client(daemon)
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        worker = daemon.roles()["worker"]
        for number in range(100):
            with daemon.client() as client, contextlib.suppress(OSError):
                client.send(secrets.token_bytes(1 + number * 37))
                client.half_close()
                client.receive_all()
        self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(daemon.roles()["worker"], worker)

    def test_denied_line(self):
        """A denied table is logged with peer and socket, and the lines that the log gives do approve it."""
        table, other = self.table("a", "key value\n"), self.table("b", "key other\n")
        daemon = self.jailmapd([other], allow={"daemon": [other]})
        uid = 1
        client = self.client(daemon, uid=uid)
        self.assertEqual(client.call(o_open(table)), [protocol.DENY, b"0"])
        match = daemon.wait_log(
            rf'jailmapd: warning: denied table "{table}" to uid {uid} pid \d+ on {daemon.socket}; '
            r"to approve it, jailmapd\.conf needs: (.*)$"
        )
        text = re.sub(r"(?m)^allow .*\n", "", proc.read(daemon.config)) + match.group(1) + "\n"
        daemon.stop()
        workspace().write(daemon.directory, "jailmapd.conf", text)
        daemon.start()
        client = self.client(daemon, uid=uid)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(client.lookup(other, "key"), (OK, b"other"))

    def test_log_lines_are_the_daemons(self):
        """A client cannot put a line of its own into the log, nor fill it with refusals; others of its user are served meanwhile."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client, quick = self.client(daemon), self.client(daemon)
        for end in (
            "\njailmapd: approved table forged",
            "\r\x1b[2J\x07forged",
            "\x00"[:0] + "\x80\xff" + "f" * 9000 + "forged",
        ):
            self.assertEqual(client.call(o_open("hash:/x" + end))[0], protocol.DENY)
        client.send(b"".join(o_open(f"hash:/flood/{number}") for number in range(400)))
        for _ in range(100):
            self.assertEqual(quick.lookup(table, "key"), (OK, b"value"))
        for _ in range(400):
            self.assertEqual(client.receive(), reply("status", protocol.DENY, "flags", 0))
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        daemon.wait_log(r"denied table \"hash:/flood/")
        self.assertEqual(daemon.stop(), 0)
        log = daemon.log()
        self.assertNotRegex(log, r"(?m)^(jailmapd: )?approved table forged")
        self.assertFalse(set(log) & {chr(code) for code in (*range(10), *range(11, 32), 127)})
        self.assertFalse([line for line in log.splitlines() if not line.startswith("jailmapd: ")])
        self.assertLess(log.count("denied table"), 200)


class StartTest(FaultsCase):
    """Start, stop, and what is refused at start."""

    def jailmapd_exits(self, config, *options, **environment):
        """(exit status, stderr) of a jailmapd that does not stay."""
        code, out, errors = harness.run(
            [workspace().jailmapd, *options, "-c", config],
            env={"PATH": harness.PATH, **environment},
        )
        if code != 0:
            self.assertEqual(out, "")
        return code, errors

    def test_stop(self):
        """SIGTERM and SIGINT: exit status 0, sockets and pid file are gone, no process is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = self.jailmapd([self.table("a", "key value\n"), "unix:passwd.byname"])
            client = self.client(daemon)
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)
            below = proc.snapshot(daemon.pid)
            daemon.process.send_signal(number)
            self.assertEqual(harness.wait_exit(daemon.process, "jailmapd to stop"), 0)
            self.assertFalse(os.path.exists(daemon.socket))
            self.assertEqual(os.listdir(daemon.runtime), ["empty"])
            wait_for(lambda below=below: not proc.survivors(below), "the helpers to end")
            self.assertEqual(client.receive_all(), b"")
            daemon.wait_log(r"stopping")

    def test_ready_is_ready(self):
        """The first lookups after the ready line get answers, also from a table that takes a while to load, and not temporary errors."""
        table, small = self.table("large", entries(200_000)), self.table("small", "key value\n")
        for _ in range(3):
            daemon = self.jailmapd([table, small, "unix:passwd.byname"])
            client, other = self.client(daemon), self.client(daemon)
            client.send(o_lookup(table, "key199999", 64))
            self.assertEqual(other.lookup("unix:passwd.byname", "root")[0], OK)
            self.assertEqual(other.lookup(small, "key"), (OK, b"value"))
            self.assertEqual(client.receive(), reply("status", OK, "value", "value199999"))
            daemon.stop()

    def test_hangup(self):
        """SIGHUP: every table is looked at, clients stay connected."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log(r"SIGHUP")
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))

    def test_socket_file(self):
        """Sockets have the owner, group and mode of their section; clients of two sockets have different workers."""
        place = workspace().directory("jail", 0o700, (ALICE, BOB))
        paths = os.path.join(place, "one"), os.path.join(workspace().directory("place"), "two")
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            listen={
                paths[0]: {"owner": str(ALICE), "group": str(BOB), "mode": "0620"},
                paths[1]: {"mode": "0600", "owner": "root"},
            },
        )
        for path, expected in zip(paths, ((ALICE, BOB, 0o620), (0, 0, 0o600))):
            info = os.stat(path)
            self.assertEqual((info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)), expected)
            client = protocol.Client(path)
            self.addCleanup(client.close)
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(len(daemon.wait_roles("worker", 2)), 2)
        self.assertRegex(daemon.log(), r"ready: 1 tables?, 2 listeners, pid \d+")

    def test_second_instance(self):
        """A second jailmapd with the same runtime-dir or the same socket is refused, and the first does not notice."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table])
        client = self.client(daemon)
        code, errors = self.jailmapd_exits(daemon.config, "-f")
        self.assertEqual((code, errors.count("\n")), (75, 1), errors)
        self.assertIn(daemon.runtime, errors)
        text = harness.config_text(
            daemon.runtime + "-other", tables=[table], listen={daemon.socket: {}}
        )
        code, errors = self.jailmapd_exits(
            workspace().write(self.directory, "other.conf", text), "-f"
        )
        self.assertEqual(code, 78, errors)
        self.assertIn(daemon.socket, errors)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))

    def test_helpers_not_safe(self):
        """A libexec-dir that is missing, incomplete, a link, somebody else's or writable by others: exit 78, one line, nothing started."""

        def broken(name, change):
            place = os.path.join(self.directory, name)
            shutil.copytree(workspace().libexec, place)
            change(place)
            return place

        worker = "jailmap-worker"
        cases = {
            "missing": self.path("nowhere"),
            "incomplete": broken(
                "incomplete", lambda place: os.unlink(os.path.join(place, worker))
            ),
            "open-directory": broken("open-directory", lambda place: os.chmod(place, 0o777)),
            "open-program": broken(
                "open-program", lambda place: os.chmod(os.path.join(place, worker), 0o757)
            ),
            "group-program": broken(
                "group-program", lambda place: os.chmod(os.path.join(place, worker), 0o775)
            ),
            "foreign-program": broken(
                "foreign-program", lambda place: os.chown(os.path.join(place, worker), ALICE, 0)
            ),
            "foreign-directory": broken(
                "foreign-directory", lambda place: os.chown(place, ALICE, 0)
            ),
        }
        os.symlink(workspace().libexec, self.path("link"))
        cases["link"] = self.path("link")
        for name, place in cases.items():
            with self.subTest(name):
                daemon = self.jailmapd(start=False, libexec=place)
                line = next(
                    number
                    for number, text in enumerate(proc.read(daemon.config).splitlines(), 1)
                    if text.startswith("libexec-dir")
                )
                for options in (("-f",), ("-n",), ()):
                    code, errors = self.jailmapd_exits(daemon.config, *options)
                    self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                    self.assertTrue(errors.startswith(f"{daemon.config}:{line}: "), errors)
                    self.assertIn(place, errors)
                self.assertFalse(os.path.exists(daemon.socket))

    def test_config_file_not_safe(self):
        """A configuration file that is missing, a link, a FIFO, somebody else's or writable by others is not read."""
        daemon = self.jailmapd(start=False)
        good = proc.read(daemon.config)
        self.assertEqual(self.jailmapd_exits(daemon.config, "-n"), (0, ""))

        def broken(name, change):
            path = workspace().write(self.directory, name, good)
            change(path)
            return path

        os.symlink(daemon.config, self.path("link.conf"))
        os.mkfifo(self.path("fifo.conf"))
        for path in (
            self.path("missing.conf"),
            self.path("link.conf"),
            self.path("fifo.conf"),
            self.directory,
            broken("open.conf", lambda path: os.chmod(path, 0o666)),
            broken("group.conf", lambda path: os.chmod(path, 0o664)),
            broken("foreign.conf", lambda path: os.chown(path, ALICE, 0)),
        ):
            for options in (("-n",), ("-f",)):
                code, errors = self.jailmapd_exits(path, *options)
                self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                self.assertTrue(errors.startswith(path + ":"), errors)

    def test_notify(self):
        """READY=1 is sent to NOTIFY_SOCKET, by path and by abstract name, when the socket answers; STOPPING is no error."""
        table = self.table("a", "key value\n")
        for address in (self.path("notify"), "\0jailmap-check-" + secrets.token_hex(8)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(address)
                manager.settimeout(LIMIT)
                daemon = self.jailmapd([table], start=False)
                daemon.start(env={"NOTIFY_SOCKET": address.replace("\0", "@")}, ready=False)
                message = manager.recv(4096).decode()
                self.assertIn("READY=1", message.splitlines())
                self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))
                self.assertEqual(daemon.stop(), 0)

    def test_notify_nowhere(self):
        """A NOTIFY_SOCKET that does not answer does not stop the start."""
        daemon = self.jailmapd(["unix:passwd.byname"], start=False)
        daemon.start(env={"NOTIFY_SOCKET": self.path("nobody-listens")})
        self.assertEqual(self.client(daemon).lookup("unix:passwd.byname", "root")[0], OK)

    def test_background(self):
        """Without -f the command returns 0 only when the socket answers, and leaves a daemon with a pid file and no terminal."""
        table = self.table("a", "key value\n")
        daemon = self.jailmapd([table, "unix:passwd.byname"], start=False)
        # Returning at all shows that the daemon keeps neither standard output nor standard error.
        self.assertEqual(harness.run([workspace().jailmapd, "-c", daemon.config]), (0, "", ""))
        with protocol.Client(daemon.socket) as client:
            self.assertEqual(client.lookup("unix:passwd.byname", "root")[0], OK)
            self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        pid = int(proc.read(os.path.join(daemon.runtime, "jailmapd.pid")))
        self.assertEqual(proc.exe(pid), workspace().jailmapd)
        self.assertEqual({proc.descriptors(pid)[fd] for fd in (0, 1, 2)}, {"/dev/null"})
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        below = proc.snapshot(pid)
        harness.kill(pid, signal.SIGTERM)
        wait_for(lambda: not proc.survivors(below), "the helpers of the daemon to end")
        wait_for(lambda: harness.reap() or not proc.alive(pid), "the daemon to stop")
        self.assertFalse(os.path.exists(daemon.socket))

    def test_background_fails(self):
        """Without -f a start that fails says so in the command itself, with its exit status and one line."""
        place = workspace().directory("open", 0o777)
        daemon = self.jailmapd(start=False, listen={os.path.join(place, "socket"): {}})
        code, errors = self.jailmapd_exits(daemon.config)
        self.assertEqual((code, errors.count("\n")), (78, 1), errors)
        self.assertRegex(errors, rf"^{daemon.config}:\d+: .*{place}")

    def test_usage(self):
        """Wrong options: exit 64. -V: the version. Not root: exit 77."""
        for options in (("-x",), ("-c",), ("operand",), ("-f", "operand")):
            code, out, errors = harness.run([workspace().jailmapd, *options])
            self.assertEqual((code, out), (64, ""), options)
            self.assertTrue(errors)
        code, out, errors = harness.run([workspace().jailmapd, "-V"])
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(out, r"^jailmapd \d+\.\d+")
        daemon = self.jailmapd(start=False)
        code, _, errors = harness.run(
            [workspace().jailmapd, "-f", "-c", daemon.config],
            user=ALICE,
            group=ALICE,
            extra_groups=[],
        )
        self.assertEqual(code, 77, errors)

    def test_bad_configurations(self):
        """Some 60 wrong configurations: exit 78 from -n and from a start, one line with file, line and the word in question, nothing started."""
        checks, start_only = (("-n",), ("-f",)), (("-f",),)
        runtime, place = self.path("run"), workspace().directory("sockets")
        path, table = os.path.join(place, "socket"), self.table("a", "key value\n")
        base = [
            'user = "nobody"',
            f'runtime-dir = "{runtime}"',
            f'libexec-dir = "{workspace().libexec}"',
            f'listen "{path}" {{',
            "    mode = 0666",
            "}",
            'table "unix:passwd.byname" { }',
            f'table "{table}" {{',
            "}",
            'allow "root" { tables = {"*"} }',
        ]
        opened = workspace().directory("opened", 0o777)

        def line(number, *texts):
            """The base with a line replaced, and the number of the first new one."""
            return base[: number - 1] + list(texts) + base[number:], number

        def added(*texts):
            return base + list(texts), len(base) + 1

        def title(number, last, *texts):
            """As line(), for the title of a section: what is wrong with it may be told at the end of the section."""
            return base[: number - 1] + list(texts) + base[number:], range(number, last + 1)

        def within(number, text):
            """A line inserted after line `number`, that is inside a section that begins there."""
            return base[:number] + ["    " + text] + base[number:], number + 1

        users = "unix:passwd.byname"
        cases = [
            ("unknown option", added("frob = 1"), "frob"),
            ("unknown section", added('frob "x" { }'), "frob"),
            ("unknown option in listen", within(4, "colour = red"), "colour"),
            ("unknown option in table", within(8, "colour = red"), "colour"),
            ("unknown option in allow", line(10, 'allow "root" { table = {"*"} }'), "table"),
            ("no value", (base[:-1] + ["user ="], len(base)), None),
            ("no equals sign", line(1, "user nobody"), None),
            ("word after a value", line(1, 'user = "nobody" nobody'), None),
            ("unended string", added('allow "daemon { tables = {"*"} }'), None),
            ("brace too many", added("}"), None),
            ("section without title", added('allow { tables = {"*"} }'), None),
            ("section without braces", added('table "hash:/x"'), None),
            ("unknown user", line(1, 'user = "no-such-user"'), "no-such-user"),
            ("root as user", line(1, 'user = "root"'), "root"),
            ("empty user", line(1, 'user = ""'), None),
            ("relative runtime-dir", line(2, 'runtime-dir = "run/x"'), "run/x"),
            ("empty runtime-dir", line(2, 'runtime-dir = ""'), None),
            (
                "runtime-dir in an open directory",
                line(2, f'runtime-dir = "{opened}/run"'),
                opened,
                start_only,
            ),
            ("relative libexec-dir", line(3, 'libexec-dir = "libexec"'), "libexec"),
            ("missing libexec-dir", line(3, f'libexec-dir = "{place}/none"'), "none"),
            ("relative socket", title(4, 6, 'listen "private/jailmap" {'), "private/jailmap"),
            ("empty socket", title(4, 6, 'listen "" {'), None),
            ("socket name too long", title(4, 6, f'listen "/var/lib/{"x" * 120}" {{'), "xxx"),
            (
                "socket in an open directory",
                title(4, 6, f'listen "{opened}/socket" {{'),
                opened,
                start_only,
            ),
            (
                "socket in a missing directory",
                title(4, 6, f'listen "{place}/none/socket" {{'),
                "none",
                start_only,
            ),
            ("the same socket twice", added(f'listen "{path}" {{ }}'), path),
            ("other protocol", within(4, "protocol = socketmap"), "socketmap"),
            ("unknown owner", within(4, "owner = no-such-user"), "no-such-user"),
            ("unknown group", within(4, "group = no-such-group"), "no-such-group"),
            ("mode with 8", within(5, "mode = 0888"), None),
            ("mode that is a word", line(5, "    mode = open"), "mode"),
            ("mode too large", line(5, "    mode = 010000"), None),
            ("backlog 0", within(4, "backlog = 0"), "backlog"),
            ("backlog negative", within(4, "backlog = -1"), "backlog"),
            ("backlog too large", within(4, "backlog = 65536"), "backlog"),
            ("backlog a word", within(4, "backlog = many"), "backlog"),
            ("max-request too small", within(4, "max-request = 4095"), "max-request"),
            ("max-request too large", within(4, "max-request = 1073741825"), "max-request"),
            ("max-request beyond numbers", within(4, "max-request = 99999999999999999999"), None),
            ("request-timeout 0", within(4, "request-timeout = 0"), "request-timeout"),
            ("request-timeout too large", within(4, "request-timeout = 86401"), "request-timeout"),
            ("workers 0", within(4, "workers = 0"), "workers"),
            ("workers 65", within(4, "workers = 65"), "workers"),
            ("clients-per-worker 0", within(4, "clients-per-worker = 0"), "clients-per-worker"),
            (
                "clients-per-worker 4097",
                within(4, "clients-per-worker = 4097"),
                "clients-per-worker",
            ),
            ("table without colon", added('table "aliases" { }'), "aliases"),
            ("table without type", added('table ":/etc/aliases" { }'), None),
            ("table without name", added('table "hash:" { }'), "hash:"),
            ("empty table", added('table "" { }'), None),
            ("unknown table type", added('table "frob:/etc/x" { }'), "frob"),
            ("upper-case table type", added('table "HASH:/etc/x" { }'), "HASH"),
            ("relative table", added('table "hash:aliases" { }'), "aliases"),
            ("unknown unix table", added('table "unix:shadow.byname" { }'), "shadow"),
            ("the same table twice", added(f'table "{users}" {{ }}'), users),
            ("unknown reveal", within(8, "reveal = some"), "some"),
            ("unknown table owner", within(8, "owner = no-such-user"), "no-such-user"),
            (
                "unknown allowed user",
                added('allow "no-such-user" { tables = {"*"} }'),
                "no-such-user",
            ),
            ("empty allowed user", added('allow "" { tables = {"*"} }'), None),
            ("uid beyond uids", added('allow "4294967296" { tables = {"*"} }'), "4294967296"),
            (
                "allowed table not declared",
                added('allow "daemon" { tables = {"hash:/not/declared"} }'),
                "/not/declared",
            ),
            ("the same user twice", added('allow "root" { tables = {"*"} }'), "root"),
            ("the same user by name and number", added('allow "0" { tables = {"*"} }'), "0"),
            ("tables not a list", added('allow "daemon" { tables = "*" { } }'), None),
        ]
        for name, (lines, number), word, *how in cases:
            with self.subTest(name):
                file = workspace().write(self.directory, "bad.conf", "\n".join(lines) + "\n")
                for options in how[0] if how else checks:
                    code, errors = self.jailmapd_exits(file, *options)
                    self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                    match = re.match(rf"{re.escape(file)}:(\d+): \S", errors)
                    self.assertTrue(match, errors)
                    self.assertIn(
                        int(match.group(1)),
                        number if isinstance(number, range) else [number],
                        errors,
                    )
                    self.assertIn(word or "", errors.partition(": ")[2])
                self.assertFalse(os.path.exists(path))
                left = os.listdir(runtime) if os.path.isdir(runtime) else []
                shutil.rmtree(runtime, ignore_errors=True)
                # Where the error shows only when the socket is made, the directory of the jail may be there already.
                self.assertIn(left, ([], ["empty"]) if how else ([],))
        for name, text in (
            ("unended section", "\n".join(base[:-1]) + '\nallow "root" { tables = {"*"}\n'),
            ("no listen", "\n".join(base[:3] + base[6:]) + "\n"),
            ("empty file", ""),
            ("binary", "\x01\x02\xff\n" * 3),
        ):
            with self.subTest(name):
                file = workspace().write(self.directory, "bad.conf", text)
                code, errors = self.jailmapd_exits(file, "-n")
                self.assertEqual((code, errors.count("\n")), (78, 1), errors)
                self.assertRegex(errors, rf"^{re.escape(file)}:\d+: \S")
        # With nothing wrong it is the same file that starts.
        file = workspace().write(self.directory, "good.conf", "\n".join(base) + "\n")
        self.assertEqual(self.jailmapd_exits(file, "-n"), (0, ""))

    def test_check_with_failing_table(self):
        """-n takes a table that cannot be loaded now for a warning: exit 0."""
        daemon = self.jailmapd([self.table("missing"), "unix:passwd.byname"], start=False)
        code, errors = self.jailmapd_exits(daemon.config, "-n")
        self.assertEqual(code, 0, errors)
        self.assertFalse(os.path.exists(daemon.socket))

    def test_environment_is_not_read(self):
        """Variables of the environment are not expanded in the configuration."""
        daemon = self.jailmapd(start=False)
        text = proc.read(daemon.config).replace('user = "nobody"', 'user = "${WHO}"')
        workspace().write(daemon.directory, "jailmapd.conf", text)
        code, errors = self.jailmapd_exits(daemon.config, "-n", WHO="nobody")
        self.assertEqual(code, 78, errors)


class QueryTest(FaultsCase):
    """The tool."""

    def test_query(self):
        """jailmap query: values, exit statuses and messages for found, not found, failing, unapproved, malformed and no server."""
        table, missing, users = (
            self.table("a", "key value\nother two words\n"),
            self.table("missing"),
            "unix:passwd.byname",
        )
        daemon = self.jailmapd([table, missing, users])
        self.assertEqual(daemon.query(table, "key"), (0, "value\n", ""))
        self.assertEqual(daemon.query(table, "KEY", "other"), (0, "value\ntwo words\n", ""))
        self.assertEqual(daemon.query("proxy:" + table, "key"), (0, "value\n", ""))
        self.assertEqual(
            daemon.query(users, "root"),
            (0, ":".join(map(str, __import__("pwd").getpwnam("root"))) + "\n", ""),
        )

        def check(arguments, code, out, word, stdin=b""):
            found = daemon.query(*arguments, stdin=stdin)
            self.assertEqual(found[:2], (code, out), found)
            self.assertRegex(found[2], word)

        check((table, "absent"), 1, "", "absent")
        check((table, "absent", "key", "x"), 0, "value\n", "absent")
        check((missing, "key"), 75, "", "temporary|again")
        check((missing, "key", "key"), 75, "", "temporary|again")
        check(("hash:/not/declared", "key"), 77, "", "approved")
        check(("nocolon", "key"), 64, "", "nocolon|malformed|TYPE")
        check((table,), 64, "", "usage|key")
        check((), 64, "", "usage")
        self.assertEqual(
            daemon.query(table, "-", stdin=b"key\nabsent\nother\n"),
            (0, "key\tvalue\nother\ttwo words\n", ""),
        )
        self.assertEqual(daemon.query(table, "-", stdin=b"key"), (0, "key\tvalue\n", ""))
        self.assertEqual(daemon.query(table, "-", stdin=b"absent\n")[:2], (1, ""))
        self.assertEqual(daemon.query(table, "-", stdin=b"")[:2], (1, ""))
        lines = "".join(f"absent{number}\nkey\n" for number in range(5000)).encode()
        self.assertEqual(daemon.query(table, "-", stdin=lines), (0, "key\tvalue\n" * 5000, ""))
        check((table, "-"), 65, "", "NUL", stdin=b"k\0ey\n")
        with open("/dev/full", "wb") as full:
            process = harness.start(
                [workspace().jailmap, "query", "-s", daemon.socket, table, "key"],
                stdout=full,
                stderr=harness.subprocess.DEVNULL,
            )
            self.assertEqual(harness.wait_exit(process, "the tool to end"), 74)
        daemon.stop()
        check((table, "key"), 75, "", re.escape(daemon.socket))

    def test_tool_usage(self):
        """jailmap without a command, with an unknown one, with a bad option: exit 64 and a message; -V: the version."""
        for arguments in (
            (),
            ("frob",),
            ("query",),
            ("query", "-x", "hash:/x", "k"),
            ("query", "-s"),
            ("-x",),
        ):
            code, out, errors = harness.run([workspace().jailmap, *arguments])
            self.assertEqual((code, out), (64, ""), arguments)
            self.assertTrue(errors)
        code, out, errors = harness.run([workspace().jailmap, "-V"])
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(out, r"^jailmap \d+\.\d+")

    def test_tool_and_strange_servers(self):
        """jailmap query ends with 75 or 76 and a message when what answers is no map server, or answers nonsense."""
        greeting = protocol.GREETING
        answers = [  # what comes at once, what comes after the request (None: the connection ends before), exit status
            (b"", None, 75),
            (b"220 smtp\r\n", None, 75),
            (b"protocol\0other\0\0", None, 75),
            (greeting, None, 75),
            (greeting, b"", 75),
            (greeting, b"status\0", 75),
            (greeting, reply("status", 0), 75),
            (greeting, reply("flags", 0, "status", 0), 75),
            (greeting, reply("status", 9, "flags", 0), 76),
            (greeting, reply("status", 3, "flags", 0), 64),
            (greeting, reply("status", 4, "flags", 0), 77),
        ]
        for number, (early, late, expected) in enumerate(answers):
            with self.subTest(early=early, late=late), socket.socket(socket.AF_UNIX) as server:
                path = self.path(f"server{number}")
                server.bind(path)
                server.listen()
                process = harness.start(
                    [workspace().jailmap, "query", "-s", path, "hash:/x", "key"],
                    stdout=harness.subprocess.PIPE,
                    stderr=harness.subprocess.PIPE,
                )
                peer, _ = server.accept()
                peer.sendall(early)
                if late is not None:
                    peer.settimeout(LIMIT)
                    self.assertTrue(peer.recv(4096))
                    peer.sendall(late)
                peer.close()
                out, errors = process.communicate(timeout=LIMIT)
                self.assertEqual(
                    (harness.wait_exit(process, "the tool"), out), (expected, b""), errors
                )
                self.assertTrue(errors)

    def test_tool_in_a_jail(self):
        """A copy of jailmap works in a chroot that holds nothing but it and the socket, for an unprivileged user."""
        jail = workspace().directory("chroot")
        shutil.copy(workspace().jailmap, os.path.join(jail, "jailmap"))
        table = self.table("a", "key value\n")
        daemon = self.jailmapd(
            [table],
            listen={os.path.join(jail, "socket"): {"mode": "0666"}},
            allow={str(ALICE): [table]},
        )
        for uid, expected in ((ALICE, (0, "value\n")), (BOB, (77, ""))):
            found = harness.run(
                [
                    "/usr/sbin/chroot",
                    f"--userspec={uid}:{uid}",
                    "--groups=",
                    jail,
                    "/jailmap",
                    "query",
                    "-s",
                    "/socket",
                    table,
                    "key",
                ]
            )
            self.assertEqual(found[:2], expected, found)
        self.assertEqual(sorted(os.listdir(jail)), ["jailmap", "socket"])
        self.assertRegex(daemon.log(), rf"approved table \"{table}\" for uid {ALICE} pid \d+ ")


NSS_MODULE = r"""
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

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
    if (strcmp(name, "fault-hang") == 0)
        for (;;)
            sleep(1000);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(name, acts[i].name) == 0) {
            *errnop = acts[i].error;
            return acts[i].status;
        }
    *errnop = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_hesiod_getpwnam_r(const char *name, struct passwd *pw, char *buffer, size_t room, int *errnop)
{
    enum nss_status status = act(name, room, errnop);

    (void)buffer;
    if (status == NSS_STATUS_SUCCESS)
        *pw = (struct passwd){ .pw_name = "nss-user", .pw_passwd = "x", .pw_uid = 4242, .pw_gid = 4343,
                               .pw_gecos = "", .pw_dir = "/", .pw_shell = "/bin/sh" };
    return status;
}

enum nss_status _nss_hesiod_getgrnam_r(const char *name, struct group *gr, char *buffer, size_t room, int *errnop)
{
    static char *members[] = { "one", "two", NULL };
    enum nss_status status = act(name, room, errnop);

    (void)buffer;
    if (status == NSS_STATUS_SUCCESS)
        *gr = (struct group){ .gr_name = "nss-group", .gr_passwd = "x", .gr_gid = 4343, .gr_mem = members };
    return status;
}
"""

# Prints what getpwnam_r returns for each name on the command line: the error number, and whether there is an entry.
NSS_PROBE = r"""
import ctypes, sys
libc = ctypes.CDLL(None)
entry, buffer = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1 << 18)
for name in sys.argv[1:]:
    result = ctypes.c_void_p()
    code = libc.getpwnam_r(name.encode(), entry, buffer, ctypes.c_size_t(len(buffer)), ctypes.byref(result))
    print(name, code, int(bool(result.value)))
"""


class NameServiceTest(FaultsCase):
    """The name service fails. A module of this test stands in for libnss_hesiod in a private mount namespace."""

    @classmethod
    def setUpClass(cls):
        place = workspace().directory("nss")
        source = workspace().write(place, "nss.c", NSS_MODULE)
        module = os.path.join(place, "module.so")
        code, _, errors = harness.run(["cc", "-shared", "-fPIC", "-O1", "-o", module, source])
        if code != 0:
            raise AssertionError(errors)
        code, out, _ = harness.run(["/sbin/ldconfig", "-p"])
        target = re.search(r"libnss_hesiod\.so\.2 .*=> (\S+)", out)
        path = os.path.realpath(target.group(1)) if target else None
        if path is None:
            found = [
                os.path.join(folder, name)
                for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64")
                if os.path.isdir(folder)
                for name in os.listdir(folder)
                if name == "libnss_hesiod.so.2"
            ]
            path = os.path.realpath(found[0])
        switch = workspace().write(
            place, "nsswitch.conf", "passwd: files hesiod\ngroup: files hesiod\n"
        )
        # The mounts are in a namespace of their own, and end with the last process in it.
        script = (
            f'mount --bind {switch} /etc/nsswitch.conf && mount --bind {module} {path} && exec "$@"'
        )
        cls.wrap = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        cls.place = place

    def probe(self, *names):
        """What getpwnam_r does with names in the namespace: {name: (error, found)}."""
        code, out, errors = harness.run([*self.wrap, "/usr/bin/python3", "-c", NSS_PROBE, *names])
        self.assertEqual(code, 0, errors)
        return {
            name: (int(error), int(found))
            for name, error, found in (line.split() for line in out.splitlines())
        }

    def test_name_service_fails(self):
        """A name service failure of any kind is RETRY, never NOKEY, for users and groups; hits and misses stay what they are."""
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
        """A module of nsswitch.conf that is not installed is a failure for what no other source has, not a miss."""
        switch = workspace().write(
            self.directory,
            "nsswitch.conf",
            "passwd: files nosuchmodule [UNAVAIL=return]\ngroup: files\n",
        )
        wrap = [*self.wrap[:-2], f'mount --bind {switch} /etc/nsswitch.conf && exec "$@"', "sh"]
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
        """A name service that hangs delays only those who ask it; when its agent ends they get RETRY, and it works again."""
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
