"""Agents of tables that somebody has taken over, by what they are asked: many tables with an agent
each, whose turn it is one after the other, since one that has died comes back after a while.

Used by test_agents_*.py and test_dialer.py inside tests/sandbox/run.
"""

import itertools
import os
import sqlite3

import arena
import case
import servers
from case import SandboxCase
from harness import Workspace
from protocol import OK, RETRY, o_lookup
from waiting import wait_for

COUNT = 32
LOOK = 4  # the monitor's vital signs are looked at after every so many attempts, and at the end
HELLO = (OK, b"done: 0")
FOREVER = 3600


def option_of(**options):
    return {"processes": 1, **options}


def pattern_tables(count):
    """Rules in files."""

    def make(directory):
        for number in range(count):
            path = Workspace.write(directory, f"t{number:02}", "10.0.0.0/8 ten\n", 0o644)
            yield f"cidr:{path}", option_of()

    return lambda directory: list(make(directory))


def sqlite_tables(count):
    """One database, asked by several files."""

    def make(directory):
        database = os.path.join(directory, "database")
        connection = sqlite3.connect(database)
        connection.executescript("CREATE TABLE t (k, v); INSERT INTO t VALUES ('key', 'value');")
        connection.close()
        os.chmod(database, 0o644)
        text = servers.configuration(dbpath=database, query="SELECT v FROM t WHERE k='%s'")
        for number in range(count):
            path = Workspace.write(directory, f"t{number:02}.cf", text, 0o644)
            yield f"sqlite:{path}", option_of(database=database)

    return lambda directory: list(make(directory))


def net_tables(server, count):
    """Maps of one server."""
    return [(server.table(f"m{number:02}"), option_of()) for number in range(count)]


def sql_tables(kind, server, count):
    """Tables of one server, which need not be one of databases: whoever waits for its greeting can be
    asked, too."""

    def make(directory):
        text = servers.configuration(
            hosts=f"inet:127.0.0.1:{server.port}",
            user="nobody",
            password="a secret of the table",
            dbname="none",
            query="SELECT v FROM t WHERE k='%s'",
        )
        for number in range(count):
            path = Workspace.write(directory, f"t{number:02}.cf", text, 0o644)
            yield f"{kind}:{path}", option_of(timeout=FOREVER)

    return lambda directory: list(make(directory))


class CrewCase(SandboxCase):
    """Orders to agents, by turns."""

    program = None
    bare = False
    also = ()
    count = COUNT

    @classmethod
    def tables(cls):
        """As Arena has them."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        known = cls.targets()
        cls.place = cls.arena(
            cls.program,
            bare=cls.bare,
            also=cls.also,
            tables=cls.tables(),
            uids=3 * COUNT,
            options={"answer-timeout": 60},
        )
        cls.names = [name for name in cls.place.names if name not in cls.place.tables.values()]
        cls.words = case.words_for(cls.place, known, cls.agent_of(cls.names[0]))
        for name in cls.names:
            cls.agent_of(name)
        cls.turns = itertools.cycle(range(len(cls.names)))

    @classmethod
    def tearDownClass(cls):
        cls.place.vital()

    @classmethod
    def title(cls, table):
        carrier = cls.also[0] if cls.also else cls.program
        return f"{carrier}: {table}"

    @classmethod
    def agent_of(cls, table):
        """The agent of a table, once there is one."""
        return wait_for(lambda: cls.place.titled(cls.title(table)), f"the agent of {table}")

    def ready(self, table, client=None):
        """(pid of its agent, client that is answered by it)."""
        client = client or self.place.regular()
        wait_for(lambda: client.lookup(table, "attack:hello") == HELLO, f"{table} to answer")
        return self.agent_of(table), client

    def order(self, text, look=None):
        """Gives an order to the next agent; returns what came of it."""
        place, turn = self.place, next(self.turns)
        table, other = self.names[turn], self.names[turn - 1]
        pid, client = self.ready(table)
        sibling = self.agent_of(other)
        words = {**self.words, "sibling": sibling, "inside": case.inside(sibling)}
        mark = place.daemon.mark()
        client.send(o_lookup(table, "attack:" + text.format(**words), arena.PLAIN))
        outcome = (look or self.reported)(pid, mark, client, table)
        place.bystander.served()
        if turn % LOOK == 0:
            place.vital()
        return outcome

    def reported(self, pid, mark, client, _table):
        """Its answer, or how it died."""
        status, value = client.call(b"")
        if status == OK:
            return value.decode()
        return self.death(pid, mark)

    def death(self, pid, mark, what="agent"):
        """How it died, and what the monitor says of that."""
        pattern = rf"{what} pid {pid} for table \S+ died: (.*?)(; the next .*)?\n"
        match = self.place.daemon.wait_log(pattern, since=mark)
        case.wait_gone(pid)
        return match.group(1)

    def attempt(self, one):
        return self.order(one.order)

    def own(self, order, allowed):
        """An attempt that is not in attempts.py."""
        self.stopped(self.order(order), allowed)

    def answered(self, status):
        self.assertIn(status, (OK, RETRY))
