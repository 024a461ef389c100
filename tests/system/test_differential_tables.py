"""jailmapd answers lookups in tables that take time as Debian's own proxymap does, except where it
means not to.

Both read the same .cf and pattern files, and ask the same servers: MariaDB and PostgreSQL of the
test, a SQLite database, and servers of the test that speak socketmap and tcp_table. proxymap runs in
a private Postfix. Clients open a table before they look something up, as Postfix's own do; a table
that is asked with NO_REGSUB is asked with nothing else, since proxymap heeds that only when it opens
a table. The differences that are meant are one list, DIFFERENCES, each with its reason and both
answers; templates from which proxymap dies are in sql_cases.py.
"""

import collections
import os
import unittest

import harness
import private_postfix
import protocol
import servers
import table_cases
from harness import Workspace, workspace
from protocol import NOKEY, OK, RETRY
from sql_cases import HOSTILE
from table_cases import CLIENT, FOLDING, NO_REGSUB
from waiting import wait_for

KEPT_BITS = 0x40030  # FIXED, PATTERN and MULTI_WRITER
EMPTY = "jailmap's environ: holds what `set` says, by default nothing"
LATIN_1 = "Postfix 3.7 always speaks LATIN1 with PostgreSQL; jailmap does as 3.8 and later do, UTF8"
BARE_OK = "OK without a blank is found and empty, as in the Postfix of 2026; older: not found"

# (label of the table, key) -> (reason, proxymap's answer, jailmapd's). None: any that is found.
DIFFERENCES = {
    **{
        ("environ", name): (EMPTY, None, (NOKEY, b""))
        for name in ("MAIL_CONFIG", "MAIL_LOGTAG", "LANG")
    },
    ("pgsql utf-8", "été@example.com"): (LATIN_1, (NOKEY, b""), (OK, "été-value".encode())),
    ("pgsql utf-8 other", "été@example.com"): (LATIN_1, (NOKEY, b""), (OK, "ü".encode())),
    ("socketmap bare", "bare"): (BARE_OK, (NOKEY, b""), (OK, b"")),
}


def show(answer):
    return "any value" if answer is None else f"{answer[0]} {answer[1][:80]!r}"


def same(found, stated):
    return found[0] == OK if stated is None else found == stated


class TablesTest(unittest.TestCase):
    """Two servers, the same tables, the same keys."""

    @classmethod
    def setUpClass(cls):
        cls.directory = d = workspace().directory("tables")
        cls.tables = {}
        cls.options = {}
        cls.servers = []
        cls.addClassCleanup(lambda: [server.stop() for server in cls.servers])
        cls.add_sql(d)
        cls.tables.update(table_cases.pattern_tables(d))
        cls.add_networks(d)
        composites, cls.members = table_cases.composite_tables(d)
        cls.tables.update(composites)
        cls.tables.update(table_cases.NAMED_TABLES)
        cls.tables["random"] = table_cases.RANDOM, []
        names = " ".join("proxy:" + table for table, _ in cls.tables.values())
        cls.postfix = private_postfix.Postfix(
            "reference",
            {"proxy_read_maps": names, "smtputf8_enable": "yes"},
            ["proxymap unix - - n - 1 proxymap"],
        ).start()
        cls.addClassCleanup(cls.postfix.stop)

    @classmethod
    def add_sql(cls, directory):
        mysql, pgsql = (
            servers.shared(kind, port=True) for kind in (servers.MariaDB, servers.PostgreSQL)
        )
        for server, kind in ((mysql, "mysql"), (pgsql, "pgsql")):
            server.sql("DROP TABLE IF EXISTS t")
            server.sql(table_cases.sql_text(kind))
        bad = {"error": {"query": "SELECT nosuch FROM t WHERE k='%s'"}}
        key = {"query": table_cases.SQL_FILES["key"]["query"]}
        more = {**bad, "inet": {**key, "hosts": mysql.inet}}
        cls.tables.update(table_cases.sql_tables("mysql", directory, mysql.cf, more))
        cls.tables.update(
            table_cases.sql_tables(
                "pgsql",
                directory,
                # With this the two speak the same: see LATIN_1.
                lambda **given: pgsql.cf(encoding="LATIN1", **given),
                {
                    **bad,
                    "function": {"select_function": "lower"},
                    "inet": {**key, "hosts": pgsql.inet},
                    "uri": {**key, "hosts": pgsql.uri},
                },
            )
        )
        for label, text in (
            ("utf-8", pgsql.cf(**key)),
            ("utf-8 other", pgsql.cf(query=key["query"].replace(" v ", " w "))),
        ):
            path = Workspace.write(directory, f"pgsql-{label.replace(' ', '-')}.cf", text)
            keys = [key for key in table_cases.SQL_KEYS if isinstance(key, str)]
            cls.tables[f"pgsql {label}"] = f"pgsql:{table_cases.old(path)}", keys
        database = table_cases.sqlite_database(os.path.join(directory, "database"))
        sqlite = table_cases.sql_tables(
            "sqlite", directory, lambda **given: servers.configuration(dbpath=database, **given)
        )
        cls.tables.update(sqlite)
        cls.options.update({table: {"database": database} for table, _ in sqlite.values()})

    @classmethod
    def add_networks(cls, directory):
        inet = servers.Socketmap(other=table_cases.socketmap_answer).start()
        path = os.path.join(directory, "socketmap.socket")
        unix = servers.Socketmap(other=table_cases.socketmap_answer, path=path).start()
        bare = servers.Socketmap({b"map bare": b"OK", b"map full": b"OK x"}).start()
        tcp = servers.TcpTable(other=table_cases.tcp_answer).start()
        bad = servers.Socketmap(other=table_cases.bad_answer(table_cases.SOCKETMAP_BAD)).start()
        worse = servers.TcpTable(other=table_cases.bad_answer(table_cases.TCP_BAD)).start()
        cls.servers += [inet, unix, bare, tcp, bad, worse]
        keys = table_cases.SOCKETMAP_KEYS
        cls.tables["socketmap inet"] = inet.table("map"), keys
        cls.tables["socketmap other"] = inet.table("other"), keys
        cls.tables["socketmap unix"] = unix.table("map"), keys
        cls.tables["socketmap bare"] = bare.table("map"), ["bare", "full", "none"]
        cls.tables["socketmap bad"] = bad.table("map"), list(table_cases.SOCKETMAP_BAD)
        cls.tables["tcp"] = tcp.table, table_cases.TCP_KEYS
        cls.tables["tcp bad"] = worse.table, list(table_cases.TCP_BAD)

    def daemon(self, names):
        """A jailmapd with these tables and what they are made of."""
        tables = [(name, dict(self.options.get(name, {}))) for name in dict.fromkeys(names)]
        for name, options in tables:
            if name.split(":")[0] in AGENTS:
                options["processes"] = 1  # There are many tables, and few clients.
        daemon = harness.Jailmapd("differential", tables=tables)
        self.addCleanup(daemon.stop)
        return daemon.start()

    def compare(self, *prefixes, flags=CLIENT, least=100, members=(), keys=None):
        """Asks both servers for every key of the tables whose label begins so, or for `keys`."""
        chosen = {
            label: found
            for label, found in self.tables.items()
            if any(label == prefix or label.startswith(prefix + " ") for prefix in prefixes)
        }
        daemon = self.daemon([*(table for table, _ in chosen.values()), *members])
        problems, count, kinds = [], 0, collections.Counter()
        with protocol.Client(self.postfix.private("proxymap")) as theirs, daemon.client() as ours:
            for label, (table, own) in chosen.items():
                sent = flags | (NO_REGSUB if "without substitution" in label else 0)
                opened = [(0, 0), (0, 0)]
                if sent == flags:
                    # Of flags, what clients keep: the rest shows who has used a proxymap before.
                    opened = [
                        (status, bits & KEPT_BITS)
                        for status, bits in (client.open(table, 0) for client in (theirs, ours))
                    ]
                if opened[0] != opened[1]:
                    problems.append(f"open {label}: proxymap {opened[0]}, jailmapd {opened[1]}")
                for key in own if keys is None else keys:
                    count += 1
                    reference = theirs.lookup(table, key, sent)
                    found = ours.lookup(table, key, sent)
                    kinds[reference[0]] += 1
                    reason, stated, meant = DIFFERENCES.get(
                        (label, key), ("", reference, reference)
                    )
                    if not same(reference, stated) or not same(found, meant):
                        problems.append(
                            f"{label} {key[:60]!r} {reason}\n"
                            f"   proxymap {show(reference)}, jailmapd {show(found)}"
                        )
        if problems:
            log = daemon.log()[-3000:]
            self.fail(
                f"{len(problems)} of {count} answers differ\n" + "\n".join(problems[:40]) + log
            )
        self.assertGreaterEqual(count, least)
        return kinds

    def test_mysql(self):
        """mysql: every template, result_format, domain, limit and legacy form, with every key."""
        kinds = self.compare("mysql")
        self.assertTrue(kinds[OK] > 100 and kinds[NOKEY] > 100 and kinds[RETRY], kinds)

    def test_pgsql(self):
        """pgsql: the same; non-ASCII keys in both encodings."""
        kinds = self.compare("pgsql")
        self.assertTrue(kinds[OK] > 100 and kinds[NOKEY] > 100 and kinds[RETRY], kinds)

    def test_sqlite(self):
        """sqlite: the same."""
        kinds = self.compare("sqlite")
        self.assertTrue(kinds[OK] > 100 and kinds[NOKEY] > 100 and kinds[RETRY], kinds)

    def test_sql_folding(self):
        """Keys are folded where the request asks for it, in SQL tables as in others."""
        for kind in ("mysql", "pgsql", "sqlite"):
            self.compare(f"{kind} key", f"{kind} parts", f"{kind} format-key", flags=FOLDING)

    def test_hostile_keys(self):
        """Keys that try to get out of their quotes: the same answers as proxymap's, and the tables
        are still there."""
        self.compare("mysql key", "mysql parts", keys=HOSTILE)
        self.compare("pgsql key", "pgsql parts", keys=HOSTILE)
        self.compare("sqlite key", "sqlite parts", keys=HOSTILE)
        for kind in ("mysql", "pgsql", "sqlite"):
            self.compare(f"{kind} key", keys=table_cases.SQL_KEYS, least=10)

    def test_cidr(self):
        """cidr: addresses and networks of both families, negation, if and endif, bad rules."""
        self.compare("cidr")

    def test_regexp(self):
        """regexp: flags, substitution, negation, if and endif, bad rules, with and without
        NO_REGSUB."""
        self.compare("regexp")

    def test_pcre(self):
        """pcre: the same with its own flags."""
        self.compare("pcre")

    def test_pattern_folding(self):
        """FOLD_FIX folds no key of a pattern table; FOLD_MUL does."""
        for kind in ("regexp plain", "pcre plain", "cidr if"):
            self.compare(kind, flags=FOLDING, least=50)
            self.compare(kind, flags=CLIENT | 32768, least=50)

    def test_socketmap(self):
        """socketmap: every kind of answer, over TCP and a UNIX socket, and odd keys."""
        kinds = self.compare("socketmap")
        self.assertEqual(kinds[protocol.CONFIG], 2)

    def test_tcp(self):
        """tcp: found and not found, quoting both ways, and odd keys."""
        self.compare("tcp")

    def test_unionmap(self):
        """unionmap: order, misses, failing members, proxied members, nested ones."""
        self.compare("unionmap", "union", members=self.members)

    def test_pipemap(self):
        """pipemap: hits and misses in each place, failing members, nested ones."""
        self.compare("pipemap", "pipe", members=self.members)

    def test_randmap(self):
        """randmap: one value, in every form of the name; and of several, each of them and no
        other."""
        self.compare("randmap")
        answers = set()
        daemon = self.daemon([table_cases.RANDOM])
        with protocol.Client(self.postfix.private("proxymap")) as theirs, daemon.client() as ours:
            for client in (theirs, ours):
                found = set()

                def all_seen(client=client, found=found):
                    found.add(client.lookup(table_cases.RANDOM, "any"))
                    return len(found) >= 4

                wait_for(all_seen, "randmap to give each of its values")
                answers.add(frozenset(found))
        values = (b"one", b"two", b"{three four}", b"five")
        self.assertEqual(answers, {frozenset((OK, value) for value in values)})

    def test_fail(self):
        """fail: a temporary error for every key."""
        self.assertEqual(self.compare("fail").keys(), {RETRY})

    def test_environ(self):
        """environ: nothing of the environment is known to jailmapd's; other keys are as unknown as
        to proxymap."""
        self.compare("environ")


AGENTS = ("mysql", "pgsql", "sqlite", "cidr", "regexp", "pcre", "socketmap", "tcp")
