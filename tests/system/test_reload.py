"""A table is rebuilt, grown, shrunk, shuffled, damaged and repaired while it is in service.

What is under test is what a client sees of that: every answer is one that the table had at a moment
of the lookup, never a "not found" or a temporary error because somebody writes, and never a closed
connection; and what the administrator sees: one line for each reason, and `jailmap status`.
"""

import fcntl
import os
import random
import signal
import struct
import subprocess
import threading
import time

import harness
import private_postfix
import reloading
from harness import Workspace, postmap, run, workspace
from protocol import OK, NOKEY, RETRY
from reloading import PLAIN, History, ReloadCase, steady, versioned
from waiting import wait_for

# How many entries each version of a table has, and whether they are in another order. All have the
# first 10,000.
SHAPES = [
    (25000, False),
    (40000, False),
    (25000, True),
    (10000, False),
    (25000, True),
    (60000, False),
    (12000, True),
    (10000, True),
]


def source(count, shuffled, version):
    """`count` entries of which the first 10,000 never change, and one that tells the version."""
    numbers = list(range(count))
    if shuffled:
        random.Random(version).shuffle(numbers)
    return f"version {version}\n" + "".join(f"key{n} value{n}\n" for n in numbers)


class RebuiltTest(ReloadCase):
    """A table is rebuilt in place by the real postmap."""

    def test_grown_shrunk_shuffled(self):
        """hash and btree tables are grown from 10,000 entries to 60,000, shrunk and shuffled in
        place, 16 times with a pause and 60 times without, under load: a key that all versions have
        is never missing and never fails, no connection is closed, and new keys appear."""
        tables = {
            kind: self.table(kind, source(10000, False, 0), kind) for kind in ("hash", "btree")
        }
        inodes = {kind: os.stat(self.path(kind) + ".db").st_ino for kind in tables}
        daemon = self.jailmapd(list(tables.values()))
        for table in tables.values():
            self.loaded(daemon, table)
        readers = []
        for number in range(4):
            keys = [n for n in range(10000) if n % 40 == number]
            expected = [
                ((table, f"key{n}"), (OK, f"value{n}".encode()))
                for n in keys
                for table in tables.values()
            ]
            expected += [((table, "absent"), (NOKEY, b"")) for table in tables.values()]
            readers.append(
                self.reader(daemon, lambda client, expected=expected: steady(client, expected))
            )
        client = self.client(daemon)

        def build(version, count, shuffled):
            for kind in tables:
                self.table(kind, source(count, shuffled, version), kind)

        def served(version, count):
            for table in tables.values():
                wait_for(
                    lambda table=table: client.lookup(table, "version", PLAIN)
                    == (OK, str(version).encode()),
                    f"version {version} of {table}",
                )
                last = f"key{count - 1}"
                self.assertEqual(
                    client.lookup(table, last, PLAIN), (OK, last.replace("key", "value").encode())
                )
                self.assertEqual(client.lookup(table, f"key{count}", PLAIN), (NOKEY, b""))
            self.assertEqual([reader.problem for reader in readers], [None] * 4)

        version = 0
        for count, shuffled in SHAPES * 2:
            version += 1
            build(version, count, shuffled)
            served(version, count)
        for count, shuffled in (SHAPES * 4)[:30]:
            version += 1
            build(version, count, shuffled)
        served(version, count)
        for reader in readers:
            rounds = reader.rounds
            wait_for(lambda r=reader, n=rounds: r.rounds > n + 1 or r.problem, "one more round")
        self.assertEqual([reader.finish() for reader in readers], [None] * 4)
        for kind, inode in inodes.items():
            self.assertEqual(os.stat(self.path(kind) + ".db").st_ino, inode, "not in place")
        self.assertNotIn("warning", daemon.log())

    def test_thousand_rebuilds(self):
        """1,000 rebuilds of one table by postmap under load: every answer is of a version that was
        current at some moment of its lookup, and all keys are of one version."""
        keys = [f"key{n}" for n in range(25)]
        table = self.table("a", versioned(keys, 0))
        daemon = self.jailmapd([table], socket_options={"workers": 1})
        self.loaded(daemon, table)
        history = History()
        readers = [self.reader(daemon, history.asker(table, keys)) for _ in range(4)]
        for version in range(1, 1001):
            history.writing(version)
            self.table("a", versioned(keys, version))
            if version % 100 == 0:
                wait_for(
                    lambda v=version: history.highest == v or any(r.problem for r in readers),
                    lambda v=version: f"version {v} to be served; it is {history.highest}",
                )
            if any(reader.problem for reader in readers):
                break
        self.assertEqual([reader.finish() for reader in readers], [None] * 4)
        # There is something to be right about: these at least were in service.
        self.assertLessEqual(set(range(100, 1001, 100)), history.seen)
        self.assertEqual(len(daemon.wait_roles("worker")), 1)
        self.assertNotIn("warning", daemon.log())

    def test_history_can_fail(self):
        """The rule of the test above refuses answers that go back, come too early, mix versions, or
        are missing, and nothing else."""

        def judge(*events):
            """What is wrong with ("write", V), ("ask", WHO), and ("answer", WHO, KEY, ANSWER)
            events, in this order."""
            history, floors, problems = History(), {}, []
            for what, *rest in events:
                if what == "write":
                    history.writing(*rest)
                elif what == "ask":
                    floors[rest[0]] = history.asking()
                else:
                    who, key, answer = rest
                    answer = answer if isinstance(answer, tuple) else (OK, b"%d" % answer)
                    problems.append(history.answered(floors[who], key, answer))
            return [problem for problem in problems if problem]

        self.assertEqual(judge(("ask", 1), ("answer", 1, "a", 0)), [])
        # Either of two versions, while the second is written and lookups overlap.
        overlap = [("ask", 1), ("ask", 2), ("write", 1), ("answer", 1, "a", 1)]
        self.assertEqual(judge(*overlap, ("answer", 2, "a", 0)), [])
        self.assertEqual(judge(*overlap, ("answer", 2, "b", 1)), [])
        wrong = {
            "back in time": [*overlap, ("ask", 3), ("answer", 3, "a", 0)],
            "two keys of one image": [*overlap, ("ask", 1), ("answer", 1, "b", 0)],
            "from the future": [("ask", 1), ("answer", 1, "a", 1), ("write", 1)],
            "not found": [("ask", 1), ("answer", 1, "a", (NOKEY, b""))],
            "temporary error": [("ask", 1), ("answer", 1, "a", (RETRY, b""))],
            "no version": [("ask", 1), ("answer", 1, "a", (OK, b"garbage"))],
        }
        for name, events in wrong.items():
            with self.subTest(name):
                self.assertEqual(len(judge(*events)), 1)

    def test_long_postmap(self):
        """While a postmap runs that reads its entries from a slow pipe, nothing is loaded, the old
        content is served, and nothing is said; what it wrote comes when it ends."""
        other = self.table("other", "key 0\n")
        for number, kind in enumerate(("hash", "btree"), 1):
            with self.subTest(kind):
                name = f"slow-{kind}"
                table = self.table(name, "old old\n", kind)
                daemon = self.jailmapd([table, other])
                self.loaded(daemon, table)
                client = self.client(daemon)
                writer = harness.start(
                    ["/usr/sbin/postmap", "-c", workspace().map_config, "-i", table],
                    stdin=subprocess.PIPE,
                )
                self.addCleanup(writer.stdin.close)
                file = self.path(name) + ".db"
                wait_for(lambda f=file: is_locked(f), "postmap to lock its file")
                writer.stdin.write(b"new new\n")
                writer.stdin.flush()
                for step in range(3):
                    os.utime(file)
                    mark = daemon.mark()
                    os.kill(daemon.pid, signal.SIGHUP)
                    daemon.wait_log("SIGHUP: looking", since=mark)
                    # Another table is changed and loaded: there was time to load this one.
                    self.table("other", f"key {number}-{step}\n")
                    self.loaded(daemon, other, since=mark)
                    self.assertEqual(client.lookup(table, "old"), (OK, b"old"))
                    self.assertEqual(client.lookup(table, "new"), (NOKEY, b""))
                self.assertEqual(self.generations(daemon, table), [1])
                writer.stdin.close()
                self.assertEqual(harness.wait_exit(writer, "postmap to end"), 0)
                self.eventually(client, table, "new", (OK, b"new"), (NOKEY, b""))
                self.assertEqual(client.lookup(table, "old"), (OK, b"old"))
                self.assertNotIn("warning", daemon.log())
                daemon.stop()

    def test_slow_editor(self):
        """A texthash file is truncated and written in two parts by a writer without a lock, who
        keeps it open in between: the old content is served until it is closed, then the new one."""
        other, table = self.table("other", "key 0\n"), self.text_table("a", "key old\nlast old\n")
        daemon = self.jailmapd([table, other])
        client = self.client(daemon)
        self.loaded(daemon, table)
        with open(self.path("a"), "w", encoding="ascii") as file:
            for number, line in enumerate(("key new\n", "last new\n"), 1):
                for key in ("key", "last"):
                    self.assertEqual(client.lookup(table, key), (OK, b"old"))
                file.write(line)
                file.flush()
                # Whoever wants to look at the half file has the time to.
                os.kill(daemon.pid, signal.SIGHUP)
                self.table("other", f"key {number}\n")
                wait_for(
                    lambda n=number: client.lookup(other, "key") == (OK, b"%d" % n),
                    "the change of another table",
                )
            for key in ("key", "last"):
                self.assertEqual(client.lookup(table, key), (OK, b"old"))
        self.eventually(client, table, "last", (OK, b"new"), (OK, b"old"))
        self.assertEqual(client.lookup(table, "key"), (OK, b"new"))
        self.assertNotIn("warning", daemon.log())

    def test_every_kind(self):
        """A table of each kind that has a file is rebuilt 20 times with its own tool under load: no
        answer is missing, and none goes back in time."""
        keys = [f"key{n}" for n in range(25)]
        kinds = {
            "hash": postmap,
            "btree": postmap,
            "cdb": postmap,
            "lmdb": postmap,
            "texthash": None,
        }
        tables = {kind: f"{kind}:{self.path(kind)}" for kind in kinds}

        def write(kind, version):
            text = versioned(keys, version)
            if kind == "texthash":
                new = Workspace.write(self.directory, "new", text)
                os.rename(new, self.path(kind))
            else:
                postmap(kind, self.path(kind), text)

        for kind in kinds:
            write(kind, 0)
        daemon = self.jailmapd(list(tables.values()), socket_options={"workers": 1})
        histories, readers = {}, []
        for kind, table in tables.items():
            self.loaded(daemon, table)
            histories[kind] = History()
            readers.append(self.reader(daemon, histories[kind].asker(table, keys)))
        for version in range(1, 21):
            for kind, history in histories.items():
                history.writing(version)
                write(kind, version)
            wait_for(
                lambda version=version: all(h.highest == version for h in histories.values())
                or any(reader.problem for reader in readers),
                lambda: f"{version} to be served; now: "
                + str({kind: history.highest for kind, history in histories.items()}),
            )
        self.assertEqual([reader.finish() for reader in readers], [None] * len(readers))
        for history in histories.values():
            self.assertEqual(history.seen, set(range(21)))
        self.assertNotIn("warning", daemon.log())


def is_locked(path):
    """Does a writer hold its lock? The lock that is tried is given back."""
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


SERVICES = [
    "127.0.0.1:{port0} inet n - y - - smtpd",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "error unix - - n - - error",
    "anvil unix - - n - 1 anvil",
]


class Caller(threading.Thread):
    """An SMTP client that asks for recipients in one session until it is told to stop."""

    def __init__(self, port, recipients):
        super().__init__(daemon=True)
        self.port, self.recipients = port, recipients
        self.asked, self.problem, self.stopping = 0, None, False
        self.start()

    def run(self):
        try:
            with private_postfix.Smtp(self.port) as session:
                while not self.stopping:
                    session.say("RSET", "250")
                    session.say("MAIL FROM:<sender@elsewhere.test>", "250")
                    for address, code in self.recipients:
                        answer = session.say(f"RCPT TO:<{address}>")
                        self.asked += 1
                        if not answer.startswith(code):
                            self.problem = f"{address}: {answer}"
                            return
        except BaseException as error:  # a test must see it, whatever it is
            self.problem = repr(error)

    def finish(self):
        self.stopping = True
        self.join(reloading.LIMIT)
        return self.problem


class MailTest(ReloadCase):
    """What a chrooted smtpd says while its tables are rebuilt."""

    def test_recipients(self):
        """Over SMTP, recipients that all versions of the alias and recipient tables have are
        answered 250 each time, and others 550, while postalias and postmap rebuild them in place
        200 times; and a recipient of the last version is 250 in the end."""
        mail = workspace().directory("reload-maps")
        aliases, relayed = os.path.join(mail, "aliases"), os.path.join(mail, "relayed")

        def build(version):
            count, extra = random.Random(version).choice((20, 500, 4000)), f"new{version}"
            names = [f"user{n}" for n in range(count)] + [extra]
            random.Random(version).shuffle(names)
            postmap("hash", aliases, "".join(f"{name}: root\n" for name in names), tool="postalias")
            postmap("btree", relayed, "".join(f"{name}@relay.test x\n" for name in names))

        build(0)
        names = [f"hash:{aliases}", f"btree:{relayed}"]
        postfix = private_postfix.Postfix(
            "reload-postfix",
            {
                "proxymap_service_name": "jailmap",
                "mydestination": "mx.test",
                "local_recipient_maps": f"proxy:{names[0]}",
                "relay_domains": "relay.test",
                "relay_recipient_maps": f"proxy:{names[1]}",
                # Nothing is delivered; smtpd itself refuses what goes to error(8).
                "relay_transport": "nowhere",
                "local_transport": "nowhere",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtpd_error_sleep_time": "0",
                "in_flow_delay": "0",
                "smtpd_soft_error_limit": "1000000",
                "smtpd_hard_error_limit": "1000000",
                "smtpd_junk_command_limit": "1000000",
            },
            SERVICES,
        )
        self.addCleanup(postfix.stop)
        daemon = harness.Jailmapd(
            "reload-jailmapd",
            tables=names,
            allow={"postfix": names, "root": names},
            listen={
                postfix.private("jailmap"): {"owner": "postfix", "group": "postfix", "mode": "0666"}
            },
        )
        self.addCleanup(daemon.stop)
        daemon.start()
        postfix.start()
        recipients = [
            (f"user{n}@{domain}", "250 ") for n in range(20) for domain in ("mx.test", "relay.test")
        ]
        recipients += [("absent@mx.test", "550 5.1.1 "), ("absent@relay.test", "550 5.1.1 ")]
        callers = [Caller(postfix.ports[0], recipients) for _ in range(3)]
        for caller in callers:
            self.addCleanup(caller.finish)
        for caller in callers:
            wait_for(lambda c=caller: c.asked > len(recipients) or c.problem, "the first answers")
        for version in range(1, 101):
            build(version)
            if any(caller.problem for caller in callers):
                break
        goals = [caller.asked + 2 * len(recipients) for caller in callers]
        for caller, goal in zip(callers, goals):
            wait_for(lambda c=caller, g=goal: c.asked > g or c.problem, "the last answers")
        self.assertEqual([caller.finish() for caller in callers], [None] * 3)
        with private_postfix.Smtp(postfix.ports[0]) as session:
            for domain in ("mx.test", "relay.test"):
                wait_for(
                    lambda d=domain: session.recipient(f"new100@{d}").startswith("250 "),
                    f"a recipient of the last version of {domain}",
                )
        for pid in postfix.daemons("smtpd"):
            self.assertEqual(os.readlink(f"/proc/{pid}/root"), postfix.queue)
        self.assertGreater(min(len(self.generations(daemon, name)) for name in names), 5)
        self.assertNotRegex(postfix.log(), "private/jailmap|warning: .*lookup")
        self.assertNotIn("warning", daemon.log())


def _fifo(path):
    os.unlink(path)
    os.mkfifo(path)


def _garbage(path):
    # In the place of the old one: a file that is written to without postmap's lock would be torn.
    with open(path + ".new", "wb") as file:
        file.write(b"\x7fno table at all\0" * 600)
    os.rename(path + ".new", path)


# name -> (what is done to the file, a word of the reason)
DAMAGES = {
    "damaged": (_garbage, ""),
    "empty": (lambda path: os.truncate(path, 0), "empty"),
    "a FIFO": (_fifo, "regular"),
    "writable by all": (lambda path: os.chmod(path, 0o666), "writ"),
    "another owner's": (lambda path: os.chown(path, 1, 0), "own|belong"),
    "removed": (os.unlink, "No such file"),
}


class DamagedTest(ReloadCase):
    """A source that cannot be loaded: who says what about it."""

    KINDS = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}

    def build(self, kind, name, text):
        if kind == "texthash":
            self.text_table(name, text)
        else:
            self.table(name, text, kind)
        return f"{kind}:{self.path(name)}"

    def nudge(self, daemon, other):
        """Has the monitor look at every table, and waits until it has loaded one that changed."""
        mark = daemon.mark()
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_log("SIGHUP: looking", since=mark)
        self.table("other", f"key {mark}\n")
        self.loaded(daemon, other, since=mark)

    def test_last_good(self):
        """A table of each kind is damaged, emptied, made unreadable, unsafe, and removed: the last
        good image answers, the log has one line for the reason however often it is looked at,
        status says stale, since when and why, and the repair is told."""
        other = self.table("other", "key 0\n")
        tables = {kind: self.build(kind, kind, "key good0\n") for kind in self.KINDS}
        daemon = self.jailmapd([other, *tables.values()])
        client = self.client(daemon)
        for table in tables.values():
            self.loaded(daemon, table)
        everything = dict.fromkeys([other, *tables.values()], "current")
        self.wait_status(daemon, 0, everything)
        for number, (name, (damage, word)) in enumerate(DAMAGES.items()):
            with self.subTest(name):
                mark, before, reasons = daemon.mark(), int(time.time()), {}
                for kind, suffix in self.KINDS.items():
                    if not (name == "damaged" and kind == "texthash"):  # any text is a table
                        damage(self.path(kind) + suffix)
                        reasons[kind] = self.refused(daemon, tables[kind], word, mark)
                after = time.time()
                for _ in range(3):
                    for kind in reasons:
                        if os.path.isfile(self.path(kind) + self.KINDS[kind]):
                            os.utime(self.path(kind) + self.KINDS[kind])
                    self.nudge(daemon, other)
                stale = {tables[kind]: "stale" for kind in reasons}
                rows = self.wait_status(daemon, 1, everything | stale)
                for kind, reason in reasons.items():
                    row, table = rows[tables[kind]], tables[kind]
                    self.assertEqual(row.entries, 1)
                    self.assertTrue(before <= row.since <= after, (kind, row.since, before, after))
                    self.assertIn(reason, row.why or "")
                    self.assertEqual(client.lookup(table, "key"), (OK, f"good{number}".encode()))
                    self.assertEqual(client.lookup(table, "absent"), (NOKEY, b""))
                    self.assertEqual(
                        daemon.log(mark).count(f'table "{table}" not reloaded: '),
                        1,
                        daemon.log(mark),
                    )
                mark = daemon.mark()
                for kind, suffix in self.KINDS.items():
                    if os.path.exists(self.path(kind) + suffix):
                        os.unlink(self.path(kind) + suffix)
                    self.build(kind, kind, f"key good{number + 1}\n")
                for kind, table in tables.items():
                    how = "recovered" if kind in reasons else "loaded|reloaded|recovered"
                    self.loaded(daemon, table, mark, how)
                    self.eventually(
                        client,
                        table,
                        "key",
                        (OK, f"good{number + 1}".encode()),
                        (OK, f"good{number}".encode()),
                    )
                rows = self.wait_status(daemon, 0, everything)
                self.assertEqual([row.why for row in rows.values()], [None] * len(rows))

    def test_lmdb_just_made(self):
        """An LMDB file that postmap has made anew and not yet filled, which is before it takes its
        lock, is not an empty table: the last good image answers. One made of nothing is empty."""
        table, empty = self.table("table", "key value\n", "lmdb"), self.table("empty", "", "lmdb")
        daemon = self.jailmapd([table, empty])
        client = self.client(daemon)
        self.assertEqual(client.lookup(empty, "key"), (NOKEY, b""))
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))
        with open(self.path("empty.lmdb"), "rb") as file:
            data = bytearray(file.read())
        for page in (0, 4096):  # the number of the latest transaction, in both of its first pages
            struct.pack_into("<Q", data, page + 144, 0)
        mark = daemon.mark()
        Workspace.write(self.directory, "new", bytes(data))
        os.rename(self.path("new"), self.path("table.lmdb"))
        self.refused(daemon, table, "nothing has been stored", mark)
        self.assertEqual(client.lookup(table, "key"), (OK, b"value"))

    def test_never_loaded(self):
        """Tables whose source is damaged, empty, unreadable, unsafe or missing from the start: a
        lookup is RETRY, status says failing and why, the log has one line, and each is served once
        it is repaired."""
        other = self.table("other", "key 0\n")
        bad, before = {}, int(time.time())
        for number, (name, (damage, word)) in enumerate(DAMAGES.items()):
            table = self.table(f"bad{number}", "key value\n")
            damage(self.path(f"bad{number}.db"))
            bad[table] = (number, word)
        daemon = self.jailmapd([other, *bad])
        client = self.client(daemon)
        reasons = {
            table: self.refused(daemon, table, word) for table, (number, word) in bad.items()
        }
        after = time.time()
        for _ in range(2):
            self.nudge(daemon, other)
        rows = self.wait_status(daemon, 1, {other: "current", **dict.fromkeys(bad, "failing")})
        for table, reason in reasons.items():
            row = rows[table]
            self.assertTrue(before <= row.since <= after, (row.since, before, after))
            self.assertIn(reason, row.why or "")
            for key in ("key", "absent"):
                self.assertEqual(client.lookup(table, key), (RETRY, b""))
            self.assertEqual(daemon.log().count(f'table "{table}" failed: '), 1)
        self.assertEqual(client.lookup(other, "key")[0], OK)
        for table, (number, _) in bad.items():
            if os.path.exists(self.path(f"bad{number}.db")):
                os.unlink(self.path(f"bad{number}.db"))
            self.table(f"bad{number}", "key value\n")
            self.loaded(daemon, table)
            self.eventually(client, table, "key", (OK, b"value"))
        self.wait_status(daemon, 0, dict.fromkeys([other, *bad], "current"))

    def test_reason_changes(self):
        """A table that cannot be loaded for one reason and then for another has a line for each;
        the same reason again after a repair is told again."""
        table = self.table("a", "key value\n")
        file = self.path("a.db")
        daemon = self.jailmapd([table])
        self.loaded(daemon, table)
        for _ in range(2):
            mark = daemon.mark()
            os.chmod(file, 0o666)
            self.refused(daemon, table, "writ", mark)
            mark = daemon.mark()
            os.unlink(file)
            self.refused(daemon, table, "No such file", mark)
            mark = daemon.mark()
            self.table("a", "key value\n")
            self.loaded(daemon, table, mark, "recovered")
        self.assertEqual(daemon.log().count(f'table "{table}" not reloaded: '), 4)

    def test_nobody_there(self):
        """`jailmap status` of a directory where no jailmapd runs, or none runs any more, says so
        and ends with 69."""
        empty = workspace().directory("no-daemon")
        command = [workspace().jailmap, "status", "-d"]
        for directory in (empty, os.path.join(empty, "absent")):
            code, out, errors = run([*command, directory])
            self.assertEqual((code, out), (69, ""), errors)
            self.assertIn(directory, errors)
        daemon = self.jailmapd([self.table("a", "key value\n")])
        self.wait_status(daemon, 0, {f"hash:{self.path('a')}": "current"})
        daemon.stop()
        self.assertEqual(run([*command, daemon.runtime])[0], 69)
        daemon.start()
        daemon.process.kill()
        harness.wait_exit(daemon.process, "the monitor to end")
        self.assertEqual(run([*command, daemon.runtime])[0], 69)

    def test_status_counts(self):
        """`jailmap status` has the generations and entries that the log tells of."""
        table = self.text_table("a", "key 0\n")
        daemon = self.jailmapd([table])
        self.loaded(daemon, table)
        for number in range(1, 5):
            row = self.wait_status(daemon, 0, {table: "current"})[table]
            self.assertEqual((row.generation, row.entries), (number, number))
            mark = daemon.mark()
            text = "".join(f"key{n} {n}\n" for n in range(number + 1))
            os.rename(Workspace.write(self.directory, "new", text), self.path("a"))
            self.assertEqual(self.loaded(daemon, table, mark), (number + 1, number + 1))

    def test_status_names(self):
        """`jailmap status` tells two tables apart whose long paths differ at the end only."""
        folder = self.path("a-directory-with-quite-a-long-name")
        os.mkdir(folder)
        paths = [os.path.join(folder, name) for name in ("aliases", "virtual")]
        for path in paths:
            postmap("hash", path, "key value\n")
        daemon = self.jailmapd([f"hash:{path}" for path in paths])
        for path in paths:
            self.loaded(daemon, f"hash:{path}")
        out = daemon.status()[1]
        for path in paths:
            self.assertEqual(out.count(path), 1, out)
