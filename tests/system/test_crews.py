"""Crews of agents in bad moments: one that dies, or has to be replaced, just as its source is being
written, refused, or changed again and again.

Runs as root inside tests/system/run. Moments are made by keeping files open and by waiting for what
the log says; nothing depends on how long something takes.
"""

import os
import re
import sqlite3

import harness
import servers
from protocol import OK, RETRY
from table_case import FAST, TableCase


class CrewTest(TableCase):
    """Agents that read a file."""

    def test_killed_while_written(self):
        """A file of rules is written in place, and its writer is not done; an agent that dies then
        is not made up for by one that has read half of it. When the writer is done, it is."""
        rules = self.put("rules", "/^key$/ value\n")
        table = f"pcre:{rules}"
        daemon = self.jailmapd([(table, {"processes": 1}), FAST])
        client = self.client(daemon)
        self.eventually(client, table, "key", (OK, b"value"))
        (agent,) = self.pool(daemon, "pattern", 1)
        with open(rules, "w", encoding="ascii") as file:
            file.write("/^first$/ there\n")
            file.flush()
            mark = daemon.mark()
            harness.kill(agent)
            daemon.wait_log(r"agent pid \d+ .*died", mark)
            for _ in range(5000):  # far longer than until an agent is started again
                self.assertEqual(client.lookup(table, "key", 64), (RETRY, b""))
                self.assertEqual(client.lookup(FAST, "fast"), (OK, b"yes"))
            file.write("/^key$/ other\n")
        self.eventually(client, table, "key", (OK, b"other"))

    def test_killed_after_renaming(self):
        """A file that cannot be read any more leaves its rules in service, and an agent that dies
        is made up for by one with the same rules."""
        table = f"pcre:{self.put('rules', '/^key$/ value' + chr(10))}"
        daemon = self.jailmapd([(table, {"processes": 1})])
        client = self.client(daemon)
        self.eventually(client, table, "key", (OK, b"value"))
        (agent,) = self.pool(daemon, "pattern", 1)
        mark = daemon.mark()
        os.unlink(self.path("rules"))
        daemon.wait_log(r"not reloaded: ", mark)
        harness.kill(agent)
        daemon.wait_log(r"agent pid \d+ .*died", mark)
        self.eventually(client, table, "key", (OK, b"value"))

    def test_changed_all_the_time(self):
        """A source that changes again and again has no more than three crews: one in service, one
        that reads, and one that finishes."""
        processes = 8
        table = f"pcre:{self.put('rules', '/^key$/ 0' + chr(10))}"
        daemon = self.jailmapd([(table, {"processes": processes})])
        client = self.client(daemon)
        self.eventually(client, table, "key", (OK, b"0"))
        before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        most = 0
        for number in range(1, 30):
            self.put("rules", f"/^key$/ {number}\n")
            right, before_it = (OK, b"%d" % number), (OK, b"%d" % (number - 1))
            self.eventually(client, table, "key", right, before=before_it)
            most = max(most, len(os.listdir(f"/proc/{daemon.pid}/fd")))
        self.assertLess(most, before + 2 * processes + 16)


class SqliteCrewTest(TableCase):
    """Agents that read a .cf file and a database."""

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("real"), 0o755)
        self.make("real/database")
        os.symlink("real", self.path("directory"))
        os.symlink("real/database", self.path("link"))

    def make(self, name):
        database = sqlite3.connect(self.path(name))
        database.executescript("CREATE TABLE t(k, v); INSERT INTO t VALUES('key', 'value');")
        database.close()
        os.chmod(self.path(name), 0o644)

    def cf(self, name, database, query="SELECT v FROM t WHERE k = '%s'"):
        return self.put(name, servers.configuration(dbpath=self.path(database), query=query))

    def test_configuration_half_written(self):
        """A .cf file that is written in place is read when its writer is done, though its database
        can be locked; until then the old one holds."""
        cf = self.cf("t.cf", "real/database")
        table = f"sqlite:{cf}"
        daemon = self.jailmapd(
            [(table, {"processes": 1, "database": self.path("real/database")}), FAST]
        )
        client = self.client(daemon)
        self.eventually(client, table, "key", (OK, b"value"))
        half = servers.configuration(
            dbpath=self.path("real/database"), query="SELECT 'half' WHERE '%s' = 'key'"
        )
        with open(cf, "w", encoding="ascii") as file:
            file.write(half)
            file.flush()
            for _ in range(5000):  # far longer than until a change is looked at
                self.assertEqual(client.lookup(table, "key", 64), (OK, b"value"))
                self.assertEqual(client.lookup(FAST, "fast"), (OK, b"yes"))
            file.write("result_format = whole\n")
        self.eventually(client, table, "key", (OK, b"whole"), before=(OK, b"value"))

    def test_link_to_a_database(self):
        """A symbolic link in the place of the database is refused, since the journal of an
        interrupted transaction lies beside the file that it leads to; one on the way is followed."""
        tables = {}
        for name in ("link", "directory/database"):
            cf = self.cf(f"{name[:4]}.cf", name)
            tables[name] = f"sqlite:{cf}"
        daemon = self.jailmapd(
            [
                (table, {"processes": 1, "database": self.path(name), "symlinks": "follow"})
                for name, table in tables.items()
            ]
        )
        client = self.client(daemon)
        self.eventually(client, tables["directory/database"], "key", (OK, b"value"))
        self.assertEqual(client.lookup(tables["link"], "key"), (RETRY, b""))
        daemon.wait_log(rf'"{re.escape(tables["link"])}" failed: .*link is a symbolic link')
