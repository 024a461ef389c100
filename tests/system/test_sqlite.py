"""sqlite: tables: databases that change and break, hostile keys, statements that do not end or are
more than a question.

Runs as root inside tests/system/run. What is right in an answer is in test_differential_tables.py.
"""

import itertools
import os
import re
import secrets
import sqlite3

import harness
import proc
import servers
from harness import Workspace
from protocol import NOKEY, OK, RETRY
from sql_cases import HOSTILE, ROWS, SELECT, rows_text
from table_case import FAST, TableCase
from waiting import wait_for


class SqliteTest(TableCase):
    """sqlite: tables in a file."""

    UPDATE = "UPDATE t SET v = ?"
    # More than a writer keeps in memory.
    MUCH = (
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO u SELECT i FROM n"
    )

    def setUp(self):
        super().setUp()
        self.canary = secrets.token_hex(12)
        self.database = self.make("database", ROWS)
        self.table = f"sqlite:{self.put('t.cf', self.cf(query=SELECT))}"

    def make(self, name, rows, journal="DELETE"):
        """A database put in its place at once."""
        path = self.path(name)
        database = sqlite3.connect(path + ".new")
        database.execute(f"PRAGMA journal_mode={journal}")
        database.executescript(rows_text(rows, self.canary))
        database.close()
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)
        return path

    def cf(self, **parameters):
        return servers.configuration(**{"dbpath": self.path("database"), **parameters})

    def serve(self, *tables, **options):
        options = {"processes": 2, "database": self.database, **options}
        return self.jailmapd([*((table, options) for table in tables or (self.table,)), FAST])

    def test_lookups(self):
        """Many clients get right answers, from agents in the jail that have no file open but the
        two that they were given."""
        daemon = self.serve()
        clients = self.clients(daemon, 100)
        self.settle(clients, self.table, ROWS)
        self.assertEqual(set(self.ask_all(clients, self.table, ["none", "Key0"])), {(NOKEY, b"")})
        for pid in self.pool(daemon, "sqlite", 2):
            kinds = proc.classify(pid).values()
            files = {kind for kind in kinds if kind.startswith("/") and kind != "/dev/null"}
            if harness.sanitized():
                files.discard(daemon.log_path)  # helpers keep standard error there, for reports
            self.assertLessEqual(files, {self.database, self.path("t.cf")})

    def test_changed_database(self):
        """A database that is replaced, or changed in place, is seen without a restart; no answer
        is of neither."""
        daemon = self.serve()
        clients = self.clients(daemon, 10)
        self.settle(clients, self.table, ROWS)
        self.make("database", {"key0": b"replaced"})
        self.settle(clients, self.table, {"key0": b"replaced"}, before=[(OK, ROWS["key0"])])
        with sqlite3.connect(self.database) as database:
            database.execute("UPDATE t SET v = 'in place'")
        database.close()
        self.settle(clients, self.table, {"key0": b"in place"}, before=[(OK, b"replaced")])

    def copy(self, source, suffix="", cut=0):
        """Puts a file of another database into the place of this one's, less its last bytes."""
        with open(source + suffix, "rb") as file:
            content = file.read()
        return self.put("database" + suffix, content[: len(content) - cut])

    def writer(self, path, *pragmas):
        """A connection that stays open."""
        database = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(database.close)
        for pragma in pragmas:
            database.execute(f"PRAGMA {pragma}")
        return database

    def read_anew(self, daemon, mark):
        """Returns when the table has been read since then."""
        daemon.wait_log(
            rf'table "{re.escape(self.table)}" (loaded|reloaded|recovered): generation', mark
        )

    def logged(self, journal="WAL"):
        """A writer of the database that leaves to its log what it writes."""
        self.make("database", ROWS, journal=journal)
        return self.writer(self.database, "wal_autocheckpoint=0", "cache_size=1", "cache_spill=1")

    def test_write_ahead_log(self):
        """A database in WAL mode: what is committed is seen while the log has it, and its writer
        keeps it open; what is not committed is not, even where the log has it, too."""
        writer = self.logged()
        writer.execute("CREATE TABLE u (i)")
        writer.execute(self.UPDATE, ("first",))
        daemon = self.serve()
        clients = self.clients(daemon, 5)
        self.settle(clients, self.table, {"key0": b"first"})
        writer.execute(self.UPDATE, ("second",))
        self.settle(clients, self.table, {"key0": b"second"}, before=[(OK, b"first")])
        mark = daemon.mark()
        size = os.path.getsize(self.database + "-wal")
        writer.execute("BEGIN")
        writer.execute(self.UPDATE, ("third",))
        writer.execute(self.MUCH)
        self.assertGreater(os.path.getsize(self.database + "-wal"), size)
        self.read_anew(daemon, mark)
        self.assertEqual(set(self.ask_all(clients, self.table, ["key0"])), {(OK, b"second")})
        writer.execute("COMMIT")
        self.settle(clients, self.table, {"key0": b"third"}, before=[(OK, b"second")])
        for pid in self.pool(daemon, "sqlite", 2):
            files = {kind for kind in proc.classify(pid).values() if kind.startswith("/")}
            allowed = {self.database, self.database + "-wal", self.path("t.cf"), "/dev/null"}
            if harness.sanitized():
                allowed.add(daemon.log_path)  # helpers keep standard error there, for reports
            self.assertLessEqual(files, allowed)
        self.assertEqual(self.lines(daemon, self.table, "(?:failed|not reloaded)"), [])

    def test_checkpoints(self):
        """In WAL mode, a log that was checkpointed and stays as it is, one that began anew with old
        frames behind, and none at all."""
        writer = self.logged()
        daemon = self.serve()
        clients = self.clients(daemon, 5)
        self.settle(clients, self.table, ROWS)
        before = [(OK, value) for value in ROWS.values()]
        for number, mode in enumerate(("PASSIVE", "FULL", "RESTART", "PASSIVE", "TRUNCATE")):
            value = b"%d" % number
            writer.execute(self.UPDATE, (value.decode(),))
            writer.execute(f"PRAGMA wal_checkpoint({mode})")
            self.settle(clients, self.table, {"key0": value}, before)
            before = [(OK, value)]
        writer.execute(self.UPDATE, ("behind",))
        writer.close()
        self.assertFalse(os.path.exists(self.database + "-wal"))
        self.settle(clients, self.table, {"key0": b"behind"}, before)
        self.assertEqual(self.lines(daemon, self.table, "(?:failed|not reloaded)"), [])

    def test_torn_log(self):
        """A log whose writer did not come to the end of a frame has what was committed before; one
        of another page size is a failing table."""
        source = self.make("source", ROWS, journal="WAL")
        writer = self.writer(source, "wal_autocheckpoint=0")
        writer.execute(self.UPDATE, ("first",))
        writer.execute(self.UPDATE, ("second",))
        self.copy(source)
        self.copy(source, "-wal", cut=100)
        daemon = self.serve()
        clients = self.clients(daemon, 3)
        self.settle(clients, self.table, {"key0": b"first"})
        self.copy(source, "-wal")
        self.settle(clients, self.table, {"key0": b"second"}, before=[(OK, b"first")])
        other = self.writer(self.path("other"), "page_size=512", "journal_mode=WAL")
        other.execute("CREATE TABLE t (k, v)")
        mark = daemon.mark()
        self.copy(self.path("other"), "-wal")
        daemon.wait_log(
            r"not reloaded: .*pages of 4096 bytes, and its -wal file has pages of 512", mark
        )
        self.assertEqual(set(self.ask_all(clients, self.table, ["key0"])), {(OK, b"second")})

    def test_steady_writer(self):
        """One who writes all the time, in WAL mode and with checkpoints: each answer is of one
        transaction, and the last one is seen."""
        self.make("database", ROWS, journal="WAL")
        writer = self.writer(self.database, "wal_autocheckpoint=20", "synchronous=OFF")
        both = "SELECT (SELECT v FROM t WHERE k='key0') || ' ' || (SELECT v FROM t WHERE k='key1')"
        self.put("t.cf", self.cf(query=both + " WHERE '%s' != ''"))
        writer.execute(self.UPDATE, ("0",))
        daemon = self.serve()
        clients = self.clients(daemon, 5)
        self.settle(clients, self.table, {"key": b"0 0"})
        mark = daemon.mark()
        numbers = itertools.count(1)

        def read_thrice():
            for number in itertools.islice(numbers, 20):
                writer.execute("BEGIN")
                writer.execute("UPDATE t SET v = ? WHERE k = 'key0'", (str(number),))
                writer.execute("UPDATE t SET v = ? WHERE k = 'key1'", (str(number),))
                writer.execute("COMMIT")
            for status, value in self.ask_all(clients, self.table, ["key"]):
                one, other = value.split(b" ")
                self.assertTrue(status == OK and one == other, value)
            return len(self.lines(daemon, self.table, "reloaded", mark)) >= 3

        wait_for(read_thrice, f"{self.table} to be read again and again")
        last = next(numbers)
        before = [(OK, b"%d %d" % (number, number)) for number in range(last)]
        writer.execute(self.UPDATE, (str(last),))
        self.settle(clients, self.table, {"key": b"%d %d" % (last, last)}, before)

    def test_lasting_journal(self):
        """With journal_mode = PERSIST, whose journal stays, and with TRUNCATE."""
        for mode in ("PERSIST", "TRUNCATE"):
            writer = self.logged(journal=mode)
            writer.execute(f"PRAGMA journal_mode={mode}")
            writer.execute(self.UPDATE, ("first",))
            self.assertTrue(os.path.exists(self.database + "-journal"))
            daemon = self.serve()
            clients = self.clients(daemon, 5)
            self.settle(clients, self.table, {"key0": b"first"})
            writer.execute(self.UPDATE, ("second",))
            self.settle(clients, self.table, {"key0": b"second"}, before=[(OK, b"first")])
            self.assertEqual(self.lines(daemon, self.table, "(?:failed|not reloaded)"), [])
            daemon.stop()
            writer.close()

    def interrupt(self):
        """Puts a database in its place as one leaves it who dies in the middle of a transaction."""
        source = self.make("source", {**ROWS, "key0": b"rolled back"})
        writer = self.writer(source, "cache_size=1", "cache_spill=1")
        writer.execute("CREATE TABLE u (i)")
        writer.execute("BEGIN")
        writer.execute(self.UPDATE, ("not whole",))
        writer.execute("DELETE FROM t WHERE k = 'key1'")
        writer.execute(self.MUCH)
        self.copy(source, "-journal")
        self.copy(source)
        writer.close()

    def test_interrupted_transaction(self):
        """A database whose writer died in the middle of a transaction: the old answers stay, and
        without any they are temporary errors; the log says how to mend it. Opened by SQLite, it
        works."""
        for served in (True, False):
            self.make("database", ROWS)
            daemon = self.serve() if served else None
            if served:
                clients = self.clients(daemon, 5)
                self.settle(clients, self.table, ROWS)
                mark = daemon.mark()
                self.interrupt()
            else:
                self.interrupt()
                daemon, mark = self.serve(), 0
                clients = self.clients(daemon, 5)
            daemon.wait_log(
                r"(not reloaded|failed): .*-journal file, so a transaction was interrupted; open"
                r" the database with sqlite3\(1\) once",
                mark,
            )
            right = {(OK, ROWS["key1"])} if served else {(RETRY, b"")}
            self.assertEqual(set(self.ask_all(clients, self.table, ["key1"])), right)
            with sqlite3.connect(self.database) as database:
                database.execute("SELECT * FROM t").fetchall()
            database.close()
            mended = {"key0": b"rolled back", "key1": ROWS["key1"]}
            self.settle(clients, self.table, mended, before=[(OK, ROWS["key0"])])
            daemon.stop()

    def is_locked(self):
        """Has somebody a lock on the database that goes with a descriptor?"""
        inode = os.stat(self.database).st_ino
        return re.search(rf"OFDLCK .*:{inode} ", proc.read("/proc/locks")) is not None

    def test_lock_of_a_reader(self):
        """While the monitor has the database locked, a transaction that was interrupted does not look
        to others as if it went on: they do not read what it left."""
        daemon = self.serve()
        clients = self.clients(daemon, 5)
        self.settle(clients, self.table, ROWS)
        launcher = daemon.launchers()["jail"]
        self.pause(launcher)  # no agent can begin to read, so the lock is there until it goes on
        self.interrupt()
        wait_for(self.is_locked, "the monitor to lock the database")
        other = sqlite3.connect(self.database, timeout=0.1)
        with self.assertRaisesRegex(sqlite3.OperationalError, "locked"):
            other.execute("SELECT * FROM t").fetchall()
        other.close()
        self.let_go(launcher)
        daemon.wait_log("not reloaded: .*a transaction was interrupted")
        wait_for(lambda: not self.is_locked(), "the monitor to let go of the database")
        self.assertEqual(set(self.ask_all(clients, self.table, ["key1"])), {(OK, ROWS["key1"])})

    def test_broken_database(self):
        """A database that is replaced by garbage: the old answers stay, or errors are temporary;
        never "not found". Mended, it works."""
        daemon = self.serve()
        clients = self.clients(daemon, 5)
        self.settle(clients, self.table, ROWS)
        mark = daemon.mark()
        self.put("database", b"this is no database" * 1000)
        daemon.wait_log(rf'table "{re.escape(self.table)}".*(failed|not reloaded)', mark)
        for _ in range(5):
            for answer in self.ask_all(clients, self.table, ["key0"]):
                self.assertIn(answer, ((OK, ROWS["key0"]), (RETRY, b"")))
        self.make("database", {"key0": b"mended"})
        self.settle(clients, self.table, {"key0": b"mended"}, before=[(OK, ROWS["key0"])])

    def test_mistakes(self):
        """Mistakes of the .cf, and of the statement: a failing table, and a line that names file,
        line and parameter; mended, it works."""
        mistakes = {
            "unknown-letter": (self.cf(query="SELECT '%x'"), 2, "query"),
            "no-path": (servers.configuration(query=SELECT), None, "dbpath"),
            "other-path": (self.cf(dbpath="/other", query=SELECT), 1, "dbpath"),
            "syntax": (self.cf(query="SELEKT v FROM t WHERE k='%s'"), 2, "query"),
            "no-table": (self.cf(query="SELECT v FROM nosuch WHERE k='%s'"), 2, "query"),
            "no-query": (self.cf(), None, "query"),
            "bad-number": (self.cf(query=SELECT, expansion_limit="1x"), 3, "expansion_limit"),
            "no-equals": (self.cf(query=SELECT) + "words\n", 3, "no `=`"),
            "writes": (self.cf(query="DELETE FROM t WHERE k='%s'"), 2, "query"),
            "attaches": (self.cf(query="ATTACH '/etc/passwd' AS p"), 2, "query"),
        }
        files = {name: self.put(f"{name}.cf", text) for name, (text, *_) in mistakes.items()}
        tables = {name: f"sqlite:{path}" for name, path in files.items()}
        daemon = self.serve(*tables.values(), self.table, processes=1)
        client = self.client(daemon)
        self.eventually(client, self.table, "key0", (OK, ROWS["key0"]))
        for name, (_, number, parameter) in mistakes.items():
            self.assertEqual(client.lookup(tables[name], "key0"), (RETRY, b""), name)
            place = re.escape(files[name]) + (f":{number}" if number else "[: ]")
            daemon.wait_log(rf'table "{re.escape(tables[name])}".*{place}.*{parameter}')
        self.assertEqual(client.lookup(self.table, "key0"), (OK, ROWS["key0"]))
        for name, table in tables.items():
            self.put(f"{name}.cf", self.cf(query=SELECT))
            self.eventually(client, table, "key0", (OK, ROWS["key0"]))

    def test_hostile_keys(self):
        """No key gets out of its quotes, and no statement can change anything."""
        stored = [key for key in HOSTILE if isinstance(key, str) and 0 < len(key) < 150]
        rows = dict(ROWS)
        with sqlite3.connect(self.database) as database:
            database.executemany(
                "INSERT INTO t VALUES (?, ?)",
                [(key, f"stored {number}") for number, key in enumerate(stored)],
            )
        database.close()
        daemon = self.serve(processes=1)
        client = self.client(daemon)
        self.eventually(client, self.table, "key0", (OK, rows["key0"]))
        for key in HOSTILE:
            right = (OK, b"stored %d" % stored.index(key)) if key in stored else (NOKEY, b"")
            self.assertEqual(client.lookup(self.table, key, 64), right, key[:60])
        self.assertEqual(self.lines(daemon, self.table, "failed"), [])

    def test_endless_statement(self):
        """A statement that does not end is a temporary error after the time-out, for those who ask
        for it; the agent lives on."""
        endless = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT CASE WHEN '%s' = 'endless' THEN (SELECT MAX(i) FROM n) ELSE 'x' END"
        )
        slow = f"sqlite:{self.put('endless.cf', self.cf(query=endless))}"
        daemon = self.serve(slow, self.table, timeout=1)
        clients = self.clients(daemon, 3)
        self.eventually(clients[0], slow, "other", (OK, b"x"))
        agents = daemon.roles()["sqlite"]
        self.assertEqual(set(self.ask_all(clients, slow, ["endless"])), {(RETRY, b"")})
        self.eventually(clients[0], slow, "other", (OK, b"x"))
        self.settle(clients, self.table, ROWS)
        self.assertEqual(daemon.roles()["sqlite"], agents)

    def test_large_values(self):
        """A value of 200,000 bytes is whole; one of more than 256 KiB is a temporary error that
        the log tells of."""
        rows = {"large": b"v" * 200_000, "huge": b"v" * 300_000, "key0": b"x"}
        self.make("database", rows)
        daemon = self.serve(processes=1)
        client = self.client(daemon)
        self.eventually(client, self.table, "key0", (OK, b"x"))
        self.assertTrue(client.lookup(self.table, "large") == (OK, rows["large"]))
        self.assertTrue(client.lookup(self.table, "huge") == (RETRY, b""))
        daemon.wait_log(rf'table "{re.escape(self.table)}".*256 KiB')
        self.assertEqual(client.lookup(self.table, "key0"), (OK, b"x"))

    def test_unsafe_files(self):
        """A .cf file or a database that others may write makes temporary errors and a line of the
        log; made safe, it is read."""
        for path in (self.path("t.cf"), self.database):
            os.chmod(path, 0o666)
            daemon = self.serve()
            client = self.client(daemon)
            self.assertEqual(client.lookup(self.table, "key0"), (RETRY, b""))
            daemon.wait_log(rf'table "{re.escape(self.table)}" failed: .*{re.escape(path)}')
            self.assertEqual(client.lookup(FAST, "fast"), (OK, b"yes"))
            os.chmod(path, 0o644)
            self.eventually(client, self.table, "key0", (OK, ROWS["key0"]))
            daemon.stop()

    def test_unsafe_log(self):
        """A log, or a journal, that others may write is not read, nor what it belongs to without
        it."""
        writer = self.logged()
        writer.execute(self.UPDATE, ("first",))
        self.put("database-journal", b"\0" * 512)
        for path in (self.database + "-journal", self.database + "-wal"):
            os.chmod(path, 0o666)
            daemon = self.serve()
            client = self.client(daemon)
            self.fails(client, self.table, "key0")
            daemon.wait_log(rf'table "{re.escape(self.table)}" failed: .*{re.escape(path)}')
            os.chmod(path, 0o644)
            self.eventually(client, self.table, "key0", (OK, b"first"))
            daemon.stop()

    def test_unreadable_for_others(self):
        """Files that only root may read are read: the monitor opens them, and nobody else has to
        be able to."""
        Workspace.write(self.directory, "t.cf", self.cf(query=SELECT), 0o600)
        os.chmod(self.database, 0o600)
        daemon = self.serve()
        self.settle(self.clients(daemon, 5), self.table, ROWS)
