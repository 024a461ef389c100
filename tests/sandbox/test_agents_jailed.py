"""Agents in the jail that a key has taken over: of patterns, of an SQLite database, and of servers in
the network, which they reach through their dialer alone.
"""

import fcntl
import os
import time

import arena
import case
import harness
import servers
from attempts import KILLED
from case import add_system_tests
from crew_case import HELLO, CrewCase, net_tables, pattern_tables, sqlite_tables
from protocol import OK, o_lookup

BANNER = b"what the server says first"


class Banner(servers.Silent):
    """A server that begins to speak as soon as somebody has connected."""

    def serve(self, connection):
        connection.sendall(BANNER)
        super().serve(connection)


class PatternCase(CrewCase):
    program = "jailmap-agent-pattern"

    @classmethod
    def tables(cls):
        return pattern_tables(cls.count)


class SqliteCase(CrewCase):
    program = "jailmap-agent-sqlite"

    @classmethod
    def tables(cls):
        return sqlite_tables(cls.count)


class NetCase(CrewCase):
    program = "jailmap-agent-net"

    @classmethod
    def tables(cls):
        cls.server = Banner().start()
        cls.addClassCleanup(cls.server.stop)
        return net_tables(cls.server, cls.count)


@add_system_tests("pattern", "An agent of patterns that was taken over", bare=False, prefix="pattern_")
class PatternTest(PatternCase):
    """System calls of an agent of patterns as it is."""

    def test_pattern_lock(self):
        """An agent of patterns locks its file, so that nobody could write it any more; killed."""
        self.own("lock_flock source", KILLED)

    def test_pattern_write(self):
        """An agent of patterns writes into its file; killed."""
        self.own("file_write source", KILLED)


@add_system_tests("pattern", "An agent of the jail without its filter", bare=True, prefix="pattern_")
class BarePatternTest(PatternCase):
    """The walls behind the filter, which are the launcher's and the same for all in the jail."""

    bare = True

    def test_pattern_bare_write(self):
        """An agent of patterns without its filter writes into its file, which it has to be read."""
        self.own("file_write source", {"EBADF"})


@add_system_tests("sqlite", "An SQLite agent that was taken over", bare=False, prefix="sqlite_", few=True)
class SqliteTest(SqliteCase):
    """System calls of an SQLite agent as it is."""

    def test_sqlite_write(self):
        """An SQLite agent writes into its database; killed."""
        self.own("file_write database", KILLED)

    def unlocked(self, order):
        """Whoever writes the database finds no lock on it, though agents have tried."""
        self.own(order, KILLED)
        with open(os.path.join(self.place.directory, "database"), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_sqlite_lock_record(self):
        """An SQLite agent locks its database as SQLite does; killed, and writers need not wait."""
        self.unlocked("lock_record database")

    def test_sqlite_lock_description(self):
        """An SQLite agent locks its database for as long as the monitor has it open; killed, and
        writers need not wait."""
        self.unlocked("lock_description database")

    def test_sqlite_lock_flock(self):
        """An SQLite agent locks its database by flock(2), which the monitor would go on to hold;
        killed, and writers need not wait."""
        self.unlocked("lock_flock database")

    def test_sqlite_lease(self):
        """An SQLite agent takes a lease of its database; killed, and writers need not wait."""
        self.unlocked("lock_lease database")


class BareSqliteTest(SqliteCase):
    """What an SQLite agent without its filter has of its files."""

    bare, count = True, 2

    def test_sqlite_bare_write(self):
        """An SQLite agent without its filter writes into its database, which it has to be read."""
        self.own("file_write database", {"EBADF"})


@add_system_tests("net", "An agent of socketmap that was taken over", bare=False, prefix="net_", few=True)
class NetTest(NetCase):
    """System calls of an agent of socketmap as it is, and what it may order of its dialer."""

    def dialer_ends(self, order):
        """An order at which the dialer ends, and with it the agent; others come."""

        def look(pid, _mark, client, table):
            status, value = client.call(b"")
            self.answered(status)
            found = value.decode()
            self.ready(table, client)
            if self.agent_of(table) == pid:  # it has not noticed yet, since it needs no connection
                harness.kill(pid)
                case.wait_gone(pid)
                self.ready(table, client)
            return found

        self.outcome = self.order(order, look)
        self.assertRegex(self.outcome, "EPIPE|ECONNRESET")

    def test_net_own_host(self):
        """An agent has its own host dialed, and gets it, with all that the server said: the dialer
        has read none of it."""
        self.outcome = self.order("dial_host 0 5000")
        self.assertEqual(self.outcome, f"done: 0 {BANNER.decode()}")

    def test_net_other_host(self):
        """An agent has a host dialed that it did not tell; the dialer ends."""
        self.dialer_ends("dial_host 1 5000")

    def test_net_host_beyond_all(self):
        """An agent has host 2^32 - 1 dialed; the dialer ends."""
        self.dialer_ends("dial_host 0xffffffff 5000")

    def test_net_endless(self):
        """An agent wants a connection within 49 days; the dialer ends."""
        self.dialer_ends("dial_host 0 0xffffffff")

    def test_net_new_hosts(self):
        """An agent tells its dialer other hosts, in the middle of its life; the dialer ends."""
        self.dialer_ends("dial_new_host inet:127.0.0.1:{port}")

    def test_net_flood(self):
        """An agent orders without end, and takes nothing of what comes; the dialer ends, and
        everybody else is served."""

        def look(pid, _mark, client, table):
            status, value = client.call(b"")
            self.answered(status)
            harness.kill(pid)
            case.wait_gone(pid)
            self.ready(table, client)
            return value.decode()

        self.outcome = self.order("dial_flood", look)
        self.assertRegex(self.outcome, "EPIPE|ECONNRESET")


class BareNetTest(NetCase):
    """Messages to a dialer that an agent cannot even send with its filter."""

    bare, count = True, 6


class LiesTest(PatternCase):
    """What an agent says to workers, over links that all agents of its crew share."""

    bare = True

    def test_links_lost(self):
        """An agent answers a worker with what is malformed, each time it has a new link; the worker
        stays, and so do its clients and their other tables. The next link comes later each time."""

        def look(pid, _mark, client, table):
            worker, begin = None, time.monotonic()
            for _ in range(2):
                self.answered(client.call(b"")[0])
                worker = worker or self.place.worker_of(self.place.next_uid - 1)
                self.assertEqual(client.lookup(self.place.table, "key"), (OK, b"own"))
                self.ready(table, client)
                client.send(o_lookup(table, "attack:link_malformed 16 short", arena.PLAIN))
            self.answered(client.call(b"")[0])
            self.assertEqual(self.place.worker_of(self.place.next_uid - 1), worker)
            self.assertEqual(self.agent_of(table), pid)
            self.assertGreater(time.monotonic() - begin, 2.5, "one second, and then two")
            return "each link came later"

        self.outcome = self.order("link_malformed 16 short", look)

    def test_link_shut(self):
        """An agent shuts the link of all agents of its crew down; they get another one."""

        def look(pid, _mark, client, table):
            self.answered(client.call(b"")[0])
            self.ready(table, client)
            self.assertEqual(self.agent_of(table), pid)
            return "a new link"

        self.outcome = self.order("link_shut", look)

    def test_answer_flood(self):
        """An agent answers what nobody asked, as much as it can, without end; the same worker serves
        its client by other tables."""

        def look(pid, mark, client, table):
            uid = self.place.next_uid - 1
            with self.place.daemon.client(uid=uid) as other:
                for _ in range(20):
                    self.assertEqual(other.lookup(self.place.table, "key"), (OK, b"own"))
                other_table = self.names[self.names.index(table) - 2]
                self.ready(other_table, other)
            harness.kill(pid)
            self.answered(client.call(b"")[0])
            return "served all the while; " + self.death(pid, mark)

        self.place.uses = 0  # a new client: its uid is the last one
        self.outcome = self.order("answer_flood", look)

    def test_answers_for_others(self):
        """An agent answers what an agent of another table was asked by the same worker; nobody gets
        that."""

        def look(pid, mark, client, table):
            other = self.names[self.names.index(table) - 2]
            uid = self.place.next_uid - 1
            with self.place.daemon.client(uid=uid) as waiting:
                asked, _ = self.ready(other, waiting)
                waiting.send(o_lookup(other, "attack:stall", arena.PLAIN))
                self.assertEqual(tuple(client.call(b"")), HELLO)
                client.send(o_lookup(table, "attack:answer_for_others", arena.PLAIN))
                status, value = client.call(b"")
                self.assertIn(value, (b"done: 0", b"forged"))
                self.assertEqual(status, OK)
                harness.kill(asked)
                found = waiting.call(b"")
            self.assertNotEqual(found[1], b"forged")
            self.assertNotEqual(found[0], OK)
            return "only its own"

        self.place.uses = 0
        self.outcome = self.order("hello", look)


def add_dialer_messages():
    number, _, _, fds, _ = case.messages()["DIAL"]
    for how, why in case.changed(int(fds)):

        def test(self, how=how):
            def look(pid, _mark, client, table):
                status, value = client.call(b"")
                self.answered(status)
                if value != b"EPERM":
                    self.assertRegex(value, b"EPIPE|ECONNRESET")
                harness.kill(pid)
                case.wait_gone(pid)
                self.ready(table, client)
                return value.decode()

            self.outcome = self.order(f"dial_malformed {number} {how}", look)

        test.__doc__ = f"An agent sends its dialer a DIAL that is changed: {how}; the dialer ends."
        setattr(BareNetTest, f"test_net_dial_{how.split()[0]}", test)


add_dialer_messages()
