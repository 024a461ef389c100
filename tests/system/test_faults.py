"""What breaks around jailmapd while it serves, and what its clients see of it: killed helpers and
damaged tables.

The rule under test is always the same: the one who is concerned gets a temporary error or a closed
connection, and everybody else notices nothing. No answer is ever a wrong "not found". Only
processes of this run are killed, by pid; only files below the private directory of the run are
damaged.
"""

import contextlib
import itertools
import os
import re
import secrets
import shutil
import socket
import stat
import threading
import time

import harness
import nameservice
import proc
from asker import Asker
from harness import entries, postmap
from protocol import OK, NOKEY, RETRY
from waiting import LIMIT, wait_for

ALICE, BOB = 1, 2


class FaultsCase(harness.Case):
    """A test with clients that ask all the time."""

    def asker(self, daemon, expected):
        asker = Asker(daemon, expected)
        self.addCleanup(asker.finish)
        return asker


class KilledTest(FaultsCase):
    """A helper dies."""

    def test_worker_killed(self):
        """Workers are killed 8 times in the middle of load: clients reconnect, and every answer is
        right."""
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

    def kill_loaders(self, number):
        """Kills three loaders of a table that has an image, and of one that has none. Returns
        (daemon, old, fresh), or None if a loader of the latter was too quick to be killed."""
        patient = {"load-time": 3600}  # its loader is stopped when it is killed
        old = self.slow_table(f"old{number}", "key one\n")
        fresh = self.slow_table(f"fresh{number}", "key one\n")
        hidden, place = self.path("hidden"), self.path(f"fresh{number}")
        os.rename(place, hidden)
        daemon = self.jailmapd([(old, patient), (fresh, patient)])
        daemon.wait_log(rf'table "{old}" loaded: 500001 entries')
        daemon.wait_log(rf'table "{fresh}" failed: .*No such file')
        os.rename(hidden, place)
        client = self.client(daemon)
        for _ in range(3):
            for table in (fresh, old):
                pid = daemon.catch_loader(table, again=table is old)
                if pid is None:
                    return daemon.stop() and None
                for step in (
                    lambda: None,
                    lambda pid=pid: harness.kill(pid),
                    lambda pid=pid: wait_for(
                        lambda: proc.stat_fields(pid) is None, "the loader to be reaped"
                    ),
                ):
                    step()
                    self.assertEqual(client.lookup(old, "key"), (OK, b"one"))
                    found = client.lookup(fresh, "key")
                    if found == (OK, b"one"):  # it was caught when all was done
                        daemon.wait_log(rf'table "{fresh}" recovered')
                        return daemon.stop() and None
                    self.assertEqual(found, (RETRY, b""))
        daemon.wait_log(rf'warning: table "{old}" not reloaded: the loader ended: .*signal 9')
        daemon.wait_log(rf'warning: table "{fresh}" failed: the loader ended: .*signal 9')
        return daemon, old, fresh

    def test_loader_killed(self):
        """Loaders are killed while they load: the old image stays in service, a table without one
        is RETRY, and both load in the end."""
        tries = itertools.count()
        daemon, old, fresh = wait_for(
            lambda: self.kill_loaders(next(tries)), "each loader to be killed while it loads"
        )
        client = self.client(daemon)
        for table in (old, fresh):
            harness.slow_table(self.directory, os.path.basename(table), "key two\n", lines=1)
        self.eventually(client, old, "key", (OK, b"two"), (OK, b"one"))
        # The loader that is at work may still find what it was killed over.
        self.eventually(client, fresh, "key", (OK, b"two"))

    def test_agent_killed(self):
        """The name service agent is killed under load: whom only it knows is right or RETRY, never
        NOKEY; users in the passwd file and other tables do not notice."""
        table, users = self.table("a", "key value\n"), "unix:passwd.byname"
        daemon = self.jailmapd([table, users], start=False)
        daemon.start(wrap=nameservice.switched())
        root = self.client(daemon).lookup(users, "root")
        self.assertRegex(root[1], b"^root:.*:0:0:")
        asker = self.asker(
            daemon,
            {
                (users, "nss-user-1"): (OK, nameservice.user(1)),
                (users, "nss-user-2"): (OK, nameservice.user(2)),
                (users, "no-such-user"): (NOKEY, b""),
            },
        )
        other = self.asker(daemon, {(table, "key"): (OK, b"value"), (users, "root"): root})
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

    def test_shared_descriptors(self):
        """A client, a link to an agent and a link to a worker that are gone are not watched any
        more, even while somebody else has them open, as the monitor does for a moment."""
        users = "unix:passwd.byname"
        daemon = self.jailmapd([users], start=False)
        daemon.start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(users, "nss-user-1"), (OK, nameservice.user(1)))
        (worker,), (agent,) = daemon.wait_roles("worker"), daemon.wait_roles("agent")

        def share(pid, kind):
            (fd,) = (
                fd for fd, found in proc.classify(pid).items() if fd > 3 and found.startswith(kind)
            )
            self.addCleanup(os.close, proc.share(pid, fd))

        self.assertEqual(proc.watched(worker), 3, "the bridge, the link and the client")
        self.assertEqual(proc.watched(agent), 2, "the bridge and the link")
        share(worker, "stream")
        share(agent, "seqpacket")
        client.close()
        wait_for(lambda: proc.watched(worker) == 2, "the worker to forget its client")
        other = self.client(daemon)
        self.assertEqual(other.lookup(users, "nss-user-2"), (OK, nameservice.user(2)))
        harness.kill(worker)
        wait_for(lambda: proc.watched(agent) == 1, "the agent to forget its worker")
        # Whom the monitor hands over before it knows is lost with the worker, as all its clients.
        daemon.wait_log(rf"worker pid {worker} ")
        third = self.client(daemon)
        self.assertEqual(third.lookup(users, "nss-user-1"), (OK, nameservice.user(1)))
        (worker,) = daemon.wait_roles("worker")
        share(worker, "seqpacket")
        harness.kill(agent)
        wait_for(lambda: daemon.wait_roles("agent") != [agent], "another agent")
        wait_for(lambda: proc.watched(worker) == 3, "the worker to have the new link alone")
        self.assertEqual(third.lookup(users, "nss-user-2"), (OK, nameservice.user(2)))

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
        """The monitor is killed: no helper survives it, clients see the end, and a new one starts
        over the stale socket."""
        table, users = self.table("a", "key value\n"), "unix:passwd.byname"
        busy = self.slow_table("busy")
        daemon = self.jailmapd([table, (busy, {"load-time": 3600}), users], start=False)
        daemon.start(wrap=nameservice.switched())
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        self.assertEqual(client.lookup(users, "nss-user-1")[0], OK)
        daemon.catch_loader(busy)  # and leave it stopped, so that it cannot end by itself
        for role in ("worker", "loader", "agent", "scribe"):
            daemon.wait_roles(role)
        below = proc.snapshot(daemon.pid)
        self.assertGreaterEqual(len(below), 4)
        daemon.process.kill()
        harness.wait_exit(daemon.process, "the monitor to end")
        harness.wait_ended(below, "every helper to end after the monitor")
        self.assertEqual(client.receive_all(), b"")
        self.assertTrue(stat.S_ISSOCK(os.stat(daemon.socket).st_mode))
        daemon.start()
        self.assertEqual(self.client(daemon).lookup(table, "key"), (OK, b"value"))


# What can happen to a database file, by name: a function of its path, and a word of the reason that
# the log gives.
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
        """A table is damaged in 17 ways while in service: its last good image stays, the log says
        why, the repair is noticed, and no other table is touched."""
        # A table each: the log takes only so many lines about one.
        tables = [self.table(f"t{number}", entries(300)) for number in range(len(DAMAGES))]
        other = self.table("other", "key value\n")
        daemon = self.jailmapd([*tables, other])
        client = self.client(daemon)
        asker = self.asker(
            daemon, {(other, "key"): (OK, b"value"), (other, "absent"): (NOKEY, b"")}
        )
        for table, (name, (damage, reason)) in zip(tables, DAMAGES.items()):
            with self.subTest(name):
                daemon.wait_log(rf'table "{table}" loaded: 300 entries')
                file, mark = table.partition(":")[2] + ".db", daemon.mark()
                damage(file)
                daemon.wait_log(
                    rf'warning: table "{table}" not reloaded: .*{reason or ""}.*; '
                    r"the image of generation 1 stays in service",
                    since=mark,
                )
                self.assertEqual(client.lookup(table, "key7"), (OK, b"value7"))
                self.assertEqual(client.lookup(table, "absent"), (NOKEY, b""))
                mark = daemon.mark()
                remove(file)
                self.table(os.path.basename(table), entries(400, value="again"))
                daemon.wait_log(rf'table "{table}" recovered: 400 entries, generation 2', since=mark)
                self.eventually(client, table, "key7", (OK, b"again7"), (OK, b"value7"))
        self.assertEqual(asker.finish(), [])
        self.assertEqual((asker.temporary, asker.reconnects), (0, 0))

    def test_damaged_at_start(self):
        """Tables that are damaged at start are failing tables: open is OK, lookups RETRY, and each
        recovers when its file does."""
        good = self.table("good", "key value\n")
        broken = {}
        for number, (name, (damage, _)) in enumerate(DAMAGES.items()):
            broken[name] = self.table(f"t{number}", entries(50))
            damage(self.path(f"t{number}.db"))
        daemon = self.jailmapd([good, *broken.values()])
        client = self.client(daemon)
        for name, table in broken.items():
            daemon.wait_log(
                rf'warning: table "{table}" failed: .*; '
                r"lookups get a temporary error until it loads"
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
        """A directory on the way to a table that others can write, or that is a link, makes the
        table fail until it is mended."""
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
        """A table is rebuilt 10 times in place and by rename under load: no key is ever missing,
        and no answer goes back in time."""
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
        """While a writer holds its lock, the old content is served, however often the daemon looks;
        then the new one."""
        table = self.table("a", "key old\n")
        daemon = self.jailmapd([(table, {"load-time": 3600})])
        client = self.client(daemon)
        daemon.wait_log(rf'table "{table}" loaded: 1 entries')
        self.table("b", "key new\n")
        with open(self.path("b.db"), "rb") as file:
            content = file.read()
        lock = self.lock(self.path("a.db"))
        os.truncate(self.path("a.db"), 0)
        os.pwrite(lock.fileno(), content[:4096], 0)
        self.watched(daemon, client, self.path("a.db"), table, (OK, b"old"))
        os.pwrite(lock.fileno(), content, 0)
        self.watched(daemon, client, self.path("a.db"), table, (OK, b"old"))
        lock.close()
        self.eventually(client, table, "key", (OK, b"new"), (OK, b"old"))
        self.assertNotIn("warning", daemon.log())

    def watched(self, daemon, client, path, table, answer):
        """The daemon looks at a locked file again and again, starts no loader, and the answer stays
        what it is."""
        opens = harness.Opens(path)
        self.addCleanup(opens.close)
        for _ in range(10):
            opens.wait(1)
            self.assertEqual(daemon.roles()["loader"], [])
            self.assertEqual(client.lookup(table, "key"), answer)

    def test_locked_too_long(self):
        """A writer that holds its lock for longer than load-time is named in the log; the old
        content stays, a table without one is RETRY, and both are right when the lock is gone."""
        old, fresh = self.table("old", "key one\n"), self.table("fresh", "key one\n")
        locks = [self.lock(self.path("fresh.db"))]
        daemon = self.jailmapd([(old, {"load-time": 1}), (fresh, {"load-time": 1})])
        daemon.wait_log(rf'table "{old}" loaded: 1 entries')
        locks.append(self.lock(self.path("old.db")))
        os.utime(self.path("old.db"))
        client = self.client(daemon)
        why = "another process had it locked for longer than load-time, 1 s"
        daemon.wait_log(rf'warning: table "{fresh}" failed: {why}; lookups get a temporary error')
        self.assertEqual(client.lookup(fresh, "key"), (RETRY, b""))
        daemon.wait_log(rf'warning: table "{old}" not reloaded: {why}; the image of generation 1 ')
        self.assertEqual(client.lookup(old, "key"), (OK, b"one"))
        for lock in locks:
            lock.close()
        for table in (old, fresh):
            daemon.wait_log(rf'table "{table}" recovered: 1 entries')
            self.eventually(client, table, "key", (OK, b"one"))
