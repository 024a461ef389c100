"""What a table may cost: time, memory, the size of its image, and how many loads run at once.

What is under test is that the limit that is met is named, that the last good image answers
meanwhile and after, and that no other table notices. A limit is met by something that would never
end or fit, so that nothing depends on the speed of the machine.
"""

import contextlib
import os
import re
import signal

import harness
import proc
from harness import Workspace, entries
from protocol import OK, NOKEY, RETRY
from reloading import PLAIN, ReloadCase, steady
from waiting import wait_for


def running(daemon):
    """Pids of the loaders that run now."""
    return [pid for pid in proc.some_children(daemon.pid) if proc.program(pid) == "jailmap-loader"]


def stop_one(daemon, tables, mark=0, touch=True):
    """Stops a loader of one of the text tables in the middle of its load; returns its pid. When all
    have been loaded since a mark of the log, they are touched, or, without touch, None is returned.
    """
    since = mark

    def stopped():  # (pid or None,); or None: not yet
        nonlocal since
        for pid in running(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # a child of our own daemon, seen just now
                wait_for(lambda p=pid: (proc.stat_fields(p) or "Z")[0] in "TZX", "it to stop")
                if proc.alive(pid):
                    return (pid,)
        log = daemon.log(since)
        if not all(re.search(rf'"{re.escape(table)}" (re)?loaded', log) for table in tables):
            return None
        if not touch:
            return (None,)
        # Not while one of them may be read: that load would not count, and be made again.
        since = daemon.mark()
        for table in tables:
            os.utime(table.partition(":")[2])
        return None

    return wait_for(stopped, "a loader to be stopped")[0]


class LimitCase(ReloadCase):
    """A test with one table that meets a limit, and one that must not notice."""

    def serve(self, table, options):
        """A daemon with a table that has options, and another; a client; and a reader of the other,
        who must see nothing of it all."""
        self.other = self.table("other", "key 0\n")
        daemon = self.jailmapd([(table, options), self.other])
        self.loaded(daemon, self.other)
        self.reader_of_other = self.reader(
            daemon,
            lambda client: steady(client, [((self.other, "stays"), (NOKEY, b""))])
            or (client.lookup(self.other, "key", PLAIN)[0] != OK and "key is missing")
            or None,
        )
        return daemon, self.client(daemon)

    def others_reload(self, daemon, client):
        """The other table is changed, and the change comes."""
        before = client.lookup(self.other, "key")
        value = str(int(before[1]) + 1)
        self.table("other", f"key {value}\n")
        self.eventually(client, self.other, "key", (OK, value.encode()), before)

    def replace(self, name, text):
        """Another content for a text table, in one step."""
        os.rename(Workspace.write(self.directory, "new", text), self.path(name))

    def check(self, daemon, client, table, option, meet, mend):
        """meet() makes the table meet the limit, mend() ends that and makes `key` new."""
        self.loaded(daemon, table)
        self.assertEqual(client.lookup(table, "key"), (OK, b"old"))
        mark = daemon.mark()
        meet()
        self.others_reload(daemon, client)
        reason = self.refused(daemon, table, option, mark)
        self.assertEqual(client.lookup(table, "key"), (OK, b"old"))
        self.assertEqual(client.lookup(table, "absent"), (NOKEY, b""))
        rows = self.wait_status(daemon, 1, {table: "stale", self.other: "current"})
        self.assertIn(reason, rows[table].why or "")
        self.others_reload(daemon, client)
        mark = daemon.mark()
        mend()
        self.loaded(daemon, table, mark, "recovered")
        self.eventually(client, table, "key", (OK, b"new"), (OK, b"old"))
        self.wait_status(daemon, 0, {table: "current", self.other: "current"})
        self.assertIsNone(self.reader_of_other.finish())
        return reason


class TimeTest(LimitCase):
    """load-time."""

    def locked(self, kind, suffix, take):
        table = self.table("a", "key old\n", kind)
        daemon, client = self.serve(table, {"load-time": 1})
        locks = []

        def meet():
            locks.append(take(self.path("a") + suffix))
            os.utime(self.path("a") + suffix)

        def mend():
            locks.pop().close()
            self.table("a", "key new\n", kind)

        reason = self.check(daemon, client, table, "load-time", meet, mend)
        self.assertIn("lock", reason)

    def test_locked_hash(self):
        """A hash table whose lock a writer keeps longer than load-time: it is named, the last good
        image answers, and the table comes when the writer is done."""
        self.locked("hash", ".db", self.lock)

    def test_locked_btree(self):
        """The same for btree."""
        self.locked("btree", ".db", self.lock)

    def test_locked_lmdb(self):
        """The same for lmdb, whose writers lock records."""
        self.locked("lmdb", ".lmdb", self.lock_records)

    def test_locked_from_the_start(self):
        """A table that is locked from the start is RETRY, fails with load-time as the reason, and
        loads when the lock is gone; others are served from the start."""
        table = self.table("a", "key value\n")
        lock = self.lock(self.path("a.db"))
        daemon, client = self.serve(table, {"load-time": 1})
        self.assertEqual(client.lookup(table, "key"), (RETRY, b""))
        self.refused(daemon, table, "load-time")
        self.others_reload(daemon, client)
        self.wait_status(daemon, 1, {table: "failing", self.other: "current"})
        lock.close()
        self.eventually(client, table, "key", (OK, b"value"))
        self.assertIsNone(self.reader_of_other.finish())

    def test_stopped_loader(self):
        """A loader that does not get on, because it is stopped, is ended after load-time."""
        table = self.text_table("a", "key old\n" + entries(300000))
        daemon, client = self.serve(table, {"load-time": 1})
        self.loaded(daemon, table)
        mark = daemon.mark()
        pid = stop_one(daemon, [table])
        self.refused(daemon, table, "load-time", mark)
        self.assertFalse(proc.alive(pid))
        self.assertEqual(client.lookup(table, "key"), (OK, b"old"))
        self.others_reload(daemon, client)
        self.replace("a", "key new\n")
        self.eventually(client, table, "key", (OK, b"new"), (OK, b"old"))
        self.assertIsNone(self.reader_of_other.finish())


class SizeTest(LimitCase):
    """load-memory and image-size."""

    @harness.not_sanitized("a loader's memory has no limit there")
    def test_memory(self):
        """A texthash file of 24 MB with load-memory = 16: the option is named, the last good image
        answers, and a smaller file is loaded again."""
        table = self.text_table("a", "key old\n")
        daemon, client = self.serve(table, {"load-memory": 16})
        self.check(
            daemon,
            client,
            table,
            "load-memory",
            lambda: self.replace("a", "key new\n" + entries(8000, value="x" * 3000)),
            lambda: self.replace("a", "key new\n" + entries(1000)),
        )

    def test_image(self):
        """A table of 3 MB with image-size = 1: the option is named, the last good image answers,
        and a smaller file is loaded again; text and hash."""
        big = "key new\n" + entries(3000, value="x" * 1000)
        for kind in ("texthash", "hash"):
            with self.subTest(kind):
                if kind == "texthash":
                    table = self.text_table("a", "key old\n")
                    meet = lambda: self.replace("a", big)
                    mend = lambda: self.replace("a", "key new\n")
                else:
                    table = self.table("b", "key old\n")
                    meet = lambda: self.table("b", big)
                    mend = lambda: self.table("b", "key new\n")
                daemon, client = self.serve(table, {"image-size": 1})
                self.check(daemon, client, table, "image-size", meet, mend)
                daemon.stop()

    def test_image_from_the_start(self):
        """A table that is too large from the start is RETRY, never "not found", and status says
        which option is in the way."""
        table = self.text_table("a", entries(3000, value="x" * 1000))
        daemon, client = self.serve(table, {"image-size": 1})
        self.refused(daemon, table, "image-size")
        for key in ("key1", "absent"):
            self.assertEqual(client.lookup(table, key), (RETRY, b""))
        rows = self.wait_status(daemon, 1, {table: "failing", self.other: "current"})
        self.assertIn("image-size", rows[table].why)
        self.assertIsNone(self.reader_of_other.finish())


class LoadersTest(ReloadCase):
    """loaders: how many loads run at once."""

    TABLES = 6

    def serve(self, loaders):
        """A daemon that is not started yet, with tables whose loads can be seen."""
        tables = [
            self.text_table(f"t{number}", entries(30000, value=f"{number}-"))
            for number in range(self.TABLES)
        ]
        daemon = self.jailmapd(tables, start=False)
        with open(daemon.config, "r+", encoding="utf-8") as file:
            text = file.read()
            file.seek(0)
            file.write(f"loaders = {loaders}\n" + text)
        return daemon, tables

    def test_one_at_a_time(self):
        """With loaders = 1, several tables that are there from the start and change together are
        all loaded, and two loaders are never seen at once."""
        daemon, tables = self.serve(1)
        daemon.start(ready=False)
        seen, most = set(), 0
        client = None

        def sample():
            nonlocal most
            now = running(daemon)
            seen.update(now)
            most = max(most, len(now))

        def done(rounds):
            sample()
            return all(len(self.generations(daemon, table)) >= rounds for table in tables)

        for number in range(1, 4):
            wait_for(lambda n=number: done(n), f"{number} generations of each table")
            if number < 3:
                for table in tables:
                    name = table.rpartition("/")[2]
                    text = entries(30000, value=f"{number}-")
                    os.rename(Workspace.write(self.directory, "new", text), self.path(name))
        self.assertEqual(most, 1)
        client = self.client(daemon)
        for table in tables:
            self.eventually(client, table, "key7", (OK, b"2-7"), (OK, b"1-7"))
        self.assertNotIn("warning", daemon.log())

    def test_stopped_one(self):
        """With loaders = 1, a loader that is stopped keeps the others waiting until its load-time
        is over, and with loaders = 2 it does not: so that two at once would have been seen above.
        """
        for loaders in (2, 1):
            with self.subTest(loaders=loaders):
                daemon, tables = self.serve(loaders)
                with open(daemon.config, "r+", encoding="utf-8") as file:
                    text = file.read().replace("{\n}", "{\n    load-time = 1\n}")
                    file.seek(0)
                    file.write(text)
                daemon.start(ready=False)
                first = stop_one(daemon, tables)
                if loaders == 2:

                    def second(daemon=daemon, tables=tables, first=first):
                        for table in tables:  # There is always something to load.
                            os.utime(table.partition(":")[2])
                        return set(running(daemon)) > {first}

                    wait_for(second, "a second loader")
                else:
                    others = set()
                    while proc.alive(first):
                        found = set(running(daemon)) - {first}
                        # The next one begins when the first one has ended.
                        others |= found if proc.alive(first) else set()
                    self.assertEqual(others, set())
                for table in tables:
                    # The one whose loader was stopped is tried again when it is touched.
                    daemon.wait_log(rf'table "{table}" (loaded|failed): ')
                for table in tables:
                    os.utime(table.partition(":")[2])
                    self.loaded(daemon, table)
                daemon.stop()

    def test_names_wait_their_turn(self):
        """With loaders = 1 and a loader that is stopped, tables without a file are RETRY after a
        while, and answer when they get their turn: at start, when nothing else causes a load."""
        names = ["static:value", "inline:{key=inline}", "static:other"]
        slow = self.slow_table("slow")
        # What has been written this very moment is left for a while, and others would come first.
        os.utime(slow.partition(":")[2], (1e9, 1e9))
        tables = [names[0], slow, *names[1:]]
        daemon = self.jailmapd(tables, start=False)
        with open(daemon.config, "r+", encoding="utf-8") as file:
            text = file.read()
            file.seek(0)
            file.write("loaders = 1\n" + text)
        stopped = None
        while stopped is None:
            mark = daemon.mark()
            daemon.start(ready=False)
            stopped = stop_one(daemon, [slow], mark, touch=False)
            if stopped is None:  # It was too quick.
                daemon.stop()
        client = self.client(daemon)
        waiting = [name for name in names if client.lookup(name, "key")[0] == RETRY]
        self.assertNotEqual(waiting, [], "all were loaded before the slow one")
        os.kill(stopped, signal.SIGCONT)
        right = {"static:value": b"value", "static:other": b"other"}
        for name in names:
            self.eventually(client, name, "key", (OK, right.get(name, b"inline")), (RETRY, b""))
