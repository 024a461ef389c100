"""What holds for tables on a MariaDB and on a PostgreSQL alike: many clients on few connections,
servers that die, hang, come back and change their passwords, hostile keys, and files with mistakes.
And the hostile keys and rows for SQLite's.

Used by test_mysql.py, test_pgsql.py and test_sqlite.py, as root. The servers are the test's own: see
servers.py. What is right in an answer is in test_differential_tables.py; here it is that no answer
is ever wrong.
"""

import contextlib
import re
import secrets

import harness
import proc
import servers
from protocol import NOKEY, OK, RETRY
from servers import PASSWORD
from table_case import FAST
from waiting import wait_for

SELECT = "SELECT v FROM t WHERE k='%s'"
ROWS = {f"key{number}": f"value {number}".encode() for number in range(40)}

HOSTILE = [
    "'",
    "''",
    "'''",
    '"',
    '""',
    "\\",
    "\\\\",
    "\\'",
    "\\\\'",
    "'\\",
    "x' OR '1'='1",
    "x' OR 1=1 -- ",
    "x' OR 1=1 #",
    "x'; DROP TABLE canary; --",
    "x'; DROP TABLE canary; SELECT '",
    "x\\'; DROP TABLE canary; -- ",
    "x' UNION SELECT secret FROM canary -- ",
    "x'||(SELECT secret FROM canary)||'",
    "x') OR ('1'='1",
    "/*'*/",
    "'/*",
    "*/",
    "--",
    "#",
    ";",
    "%",
    "%s",
    "%d",
    "%%",
    "%1",
    "%x",
    "%'",
    "$1",
    "$$",
    "$tag$'$tag$",
    "E'\\047'",
    "?",
    ":name",
    "@x",
    "@@version",
    "`",
    "``",
    "\n",
    "\r\n",
    "\t",
    "\x01",
    "\x08",
    "\x1a",
    "\x7f",
    " ",
    "\u2019",
    "\u02bc",
    "\uff07",
    "日本'; --",
    "\U0001f600'",
    b"\xbf'",
    b"\xbf\\'",
    b"\xbf\x5c",
    b"\xa1\x5c' OR 1=1 -- ",
    b"\xff",
    b"\xff'",
    b"\xc3",
    b"\xc3'",
    b"\xc0\xa7",
    b"\xe0\x80\xa7 OR 1=1 -- ",
    b"\xf0\x80\x80\xa7",
    b"\xed\xa0\x80",
    b"x\xe9' OR '1'='1",
    "a" * 200_000,
    "'" * 200_000,
    "\\" * 199_999,
    "%s'" * 60_000,
]


def rows_text(rows, canary, collation=""):
    """Statements that make the table of the tests, and one that nobody may read or lose."""
    text = "DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS canary;\n"
    text += f"CREATE TABLE t (k VARCHAR(200) {collation} PRIMARY KEY, v TEXT);\n"
    text += f"CREATE TABLE canary (secret TEXT); INSERT INTO canary VALUES ('{canary}');\n"
    for key, value in rows.items():
        text += f"INSERT INTO t VALUES ('{key}', '{value.decode()}');\n"
    return text


class ServerTests:
    """What holds for tables on a MariaDB and on a PostgreSQL."""

    server_class = None
    sleeping = None  # A query that takes a second.
    collation = ""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.server_class(port=True).start()
        cls.addClassCleanup(lambda: servers.remove(cls.server))
        cls.canary = secrets.token_hex(12)
        cls.fill(cls.server)

    @classmethod
    def fill(cls, server):
        server.sql(rows_text(ROWS, cls.canary, cls.collation))
        # A table that hostile keys could drop, if any could.
        if server.kind == "pgsql":
            server.sql("ALTER TABLE t OWNER TO mail; ALTER TABLE canary OWNER TO mail")

    def setUp(self):
        super().setUp()
        self.server.resume()
        if self.server.process is None:
            self.server.start()

    @property
    def kind(self):
        return self.server.kind

    def sql_table(self, name="t.cf", mode=0o644, server=None, **parameters):
        text = (server or self.server).cf(**{"query": SELECT, **parameters})
        return f"{self.kind}:{self.put(name, text, mode)}"

    def serve(self, *tables, options=None):
        """A jailmapd with these tables and one that is always quick."""
        options = {"processes": 2, "timeout": 3, **(options or {})}
        return self.jailmapd([*((table, options) for table in tables), FAST])

    def fast(self, daemon):
        with daemon.client() as client:
            self.assertEqual(client.lookup(FAST, "fast"), (OK, b"yes"))

    def end_connections(self):
        raise NotImplementedError

    # ---- many clients ----

    def test_many_clients(self):
        """200 clients ask at the same time, again and again: the server never has more
        connections than `processes`, and all answers are right."""
        table = self.sql_table()
        daemon = self.serve(table, options={"processes": 4, "timeout": 60})
        clients = self.clients(daemon, 200)
        self.settle(clients[:4], table, ROWS)
        self.begin_count()
        keys = [*ROWS, "none", "absent"]
        for turn in range(5):
            asked = keys[turn:] + keys[:turn]
            found = self.ask_all(clients, table, asked)
            for number, answer in enumerate(found):
                key = asked[number % len(asked)]
                right = (OK, ROWS[key]) if key in ROWS else (NOKEY, b"")
                self.assertEqual(answer, right, key)
            self.assertLessEqual(self.server.connections(), 4)
        self.end_count(4)

    def begin_count(self):
        pass

    def end_count(self, most):
        pass

    def test_slow_answers(self):
        """A table whose answers take the server a second, with 50 clients on it, and 50 on a
        table in memory: these get hundreds of answers before the last of the others has its
        first, and all answers are right."""
        table = self.sql_table(query=self.sleeping)
        daemon = self.serve(table, options={"processes": 10, "timeout": 60})
        slow, quick = self.clients(daemon, 50), self.clients(daemon, 50)
        with daemon.client() as client:
            self.eventually(client, table, "key0", (OK, ROWS["key0"]))
        keys = list(ROWS)
        self.send_all(slow, table, keys)
        rounds = 0
        # However fast the machine is, there is a while in which no slow answer can be there.
        while self.answered(slow) < len(slow) // 2:
            self.assertEqual(set(self.ask_all(quick, FAST, ["fast"])), {(OK, b"yes")})
            rounds += 1
        self.assertGreater(rounds, 5)
        self.assertEqual(
            self.receive_all(slow), [(OK, ROWS[keys[n % len(keys)]]) for n in range(50)]
        )

    def test_port(self):
        """A server is reached on its port as on its socket, with one connection for each agent."""
        tables = [
            self.sql_table(f"{number}.cf", hosts=hosts)
            for number, hosts in enumerate(self.forms_of_host())
        ]
        daemon = self.serve(*tables)
        clients = self.clients(daemon, 10)
        for table in tables:
            self.settle(clients, table, ROWS)
            self.assertEqual(clients[0].lookup(table, "none"), (NOKEY, b""))
        for pid in self.pool(daemon, self.kind, 2 * len(tables)):
            kinds = list(proc.classify(pid).values())
            self.assertLessEqual(kinds.count("foreign-socket"), 1, kinds)

    def forms_of_host(self):
        return [self.server.inet, f"127.0.0.1:{self.server.port}"]

    # ---- servers that fail ----

    def test_server_killed(self):
        """While the server is dead, lookups get temporary errors and nothing else; when it is
        back, so are the answers, without anybody's help. The log has one line for each."""
        table = self.sql_table()
        daemon = self.serve(table)
        clients = self.clients(daemon, 10)
        self.settle(clients, table, ROWS)
        mark = daemon.mark()
        self.server.kill()
        for _ in range(20):
            self.assertEqual(set(self.ask_all(clients, table, ["key0", "none"])), {(RETRY, b"")})
            self.fast(daemon)
        self.server.start()
        self.settle(clients, table, ROWS)
        self.once(daemon, table, mark)

    def test_server_restarted(self):
        """A server that was restarted between two lookups is not noticed by anybody, or at most
        for a moment."""
        table = self.sql_table()
        daemon = self.serve(table)
        clients = self.clients(daemon, 10)
        self.settle(clients, table, ROWS)
        self.server.restart()
        self.settle(clients, table, ROWS)
        self.assertEqual(clients[0].lookup(table, "none"), (NOKEY, b""))

    def test_server_stopped(self):
        """A server that is stopped with SIGSTOP gives temporary errors after the time-out, and
        answers when it goes on."""
        table = self.sql_table()
        daemon = self.serve(table, options={"timeout": 1})
        clients = self.clients(daemon, 10)
        self.settle(clients, table, ROWS)
        mark = daemon.mark()
        self.server.pause()
        for _ in range(3):
            self.assertEqual(set(self.ask_all(clients, table, ["key0", "none"])), {(RETRY, b"")})
            self.fast(daemon)
        self.server.resume()
        self.settle(clients, table, ROWS)
        self.once(daemon, table, mark)

    def test_server_missing_at_start(self):
        """A table whose server is not there when the daemon starts fails, and works when it has
        come."""
        self.server.kill()
        table = self.sql_table()
        daemon = self.serve(table)
        client = self.client(daemon)
        self.assertEqual(client.lookup(table, "key0"), (RETRY, b""))
        daemon.wait_log(rf'table "{re.escape(table)}" failed: ')
        self.fast(daemon)
        self.server.start()
        self.eventually(client, table, "key0", (OK, ROWS["key0"]))

    def test_two_servers(self):
        """Of two servers one is killed under load, then the other: answers go on, and none is
        wrong."""
        with self.server_class() as other:
            self.fill(other)
            hosts = f"{self.server.hosts} {other.hosts}"
            table = self.sql_table(hosts=hosts, retry_interval=2)
            daemon = self.serve(table, options={"processes": 4})
            expected = {(table, key): (OK, ROWS[key]) for key in list(ROWS)[:5]}
            expected[table, "none"] = NOKEY, b""
            with daemon.client() as client:
                self.eventually(client, table, "key0", (OK, ROWS["key0"]))
            askers = [self.asker(daemon, expected) for _ in range(4)]
            for first, second in ((self.server, other), (other, self.server)):
                for asker in askers:
                    asker.progress(50)
                first.kill()
                for asker in askers:
                    asker.progress(200)
                first.start()
                # Until it is used again, the other one must not go.
                second.sql("SELECT 1")
                wait_for(lambda first=first: self.reachable(first), "a server that is back")
            for asker in askers:
                asker.progress(50)
                self.assertEqual(asker.finish(), [])
                self.assertEqual(asker.reconnects, 0)
            servers.remove(other)

    @staticmethod
    def reachable(server):
        return server.answers()

    def test_swallowing_network(self):
        """Of a host that accepts and never says a word, and of one that swallows connections, the
        table fails with a temporary error; with a good host besides, it works."""
        with servers.Swallower() as swallower, servers.Silent() as silent:
            bad = f"{swallower.inet} inet:127.0.0.1:{silent.port}"
            tables = [
                self.sql_table("swallower.cf", hosts=swallower.inet),
                self.sql_table("silent.cf", hosts=f"inet:127.0.0.1:{silent.port}"),
            ]
            good = self.sql_table("good.cf", hosts=f"{bad} {self.server.hosts}")
            daemon = self.serve(*tables, good, options={"timeout": 2})
            client = self.client(daemon)
            for table in tables:
                for _ in range(3):
                    self.assertEqual(client.lookup(table, "key0"), (RETRY, b""))
                daemon.wait_log(rf'table "{re.escape(table)}" failed: ')
            self.settle(self.clients(daemon, 10), good, ROWS)
            self.fast(daemon)
            self.assertGreater(silent.connections, 0)

    def test_refused(self):
        """While nobody listens, thousands of lookups are answered and few connections are
        tried: those who ask do not wait for it. Then somebody listens."""

        class Closing(servers.Listener):
            """Closes every connection that it gets."""

            def read(self, stream):
                return None

        with Closing() as closing:
            table = self.sql_table(hosts=f"inet:127.0.0.1:{closing.port}")
            daemon = self.serve(table, options={"timeout": 2})
            clients = self.clients(daemon, 50)
            for _ in range(40):
                found = self.ask_all(clients, table, ["key0", "none"])
                self.assertEqual(set(found), {(RETRY, b"")})
            # Two agents, each with a few tries further and further apart; of 2000 lookups.
            self.assertLess(closing.connections, 200)
            self.fast(daemon)
        self.put("t.cf", self.server.cf(query=SELECT))
        self.settle(clients, table, ROWS)

    def test_agent_killed(self):
        """An agent that is killed takes the query with it that it has in hand, and no other; a new
        one comes."""
        table = self.sql_table()
        daemon = self.serve(table)
        clients = self.clients(daemon, 20)
        self.settle(clients, table, ROWS)
        for _ in range(2):
            harness.kill(self.pool(daemon, self.kind, 2)[0])
            for answer in self.ask_all(clients, table, ["key1"]):
                self.assertIn(answer, ((OK, ROWS["key1"]), (RETRY, b"")))
            self.settle(clients, table, ROWS)
        for pid in self.pool(daemon, self.kind, 2):
            harness.kill(pid)
        for answer in self.ask_all(clients, table, ["none"]):
            self.assertIn(answer, ((NOKEY, b""), (RETRY, b"")))
        self.settle(clients, table, ROWS)

    def test_dialer_killed(self):
        """A dialer that is killed is replaced, and connections can be made again."""
        table = self.sql_table()
        daemon = self.serve(table, options={"processes": 1})
        clients = self.clients(daemon, 5)
        self.settle(clients, table, ROWS)
        (dialer,) = self.pool(daemon, "dialer", 1)
        harness.kill(dialer)
        self.settle(clients, table, ROWS)
        self.server.restart()
        self.settle(clients, table, ROWS)
        self.assertNotEqual(self.pool(daemon, "dialer", 1), [dialer])

    def test_agent_stopped(self):
        """Of two agents one is stopped: answers are right or temporary errors, and when it goes on
        all are right again."""
        table = self.sql_table()
        daemon = self.serve(table, options={"timeout": 1})
        clients = self.clients(daemon, 20)
        self.settle(clients, table, ROWS)
        stopped = self.pool(daemon, self.kind, 2)[0]
        self.pause(stopped)
        right = 0
        for _ in range(4):
            for answer in self.ask_all(clients, table, ["key1"]):
                self.assertIn(answer, ((OK, ROWS["key1"]), (RETRY, b"")))
                right += answer[0] == OK
            self.fast(daemon)
        self.assertGreater(right, 0)
        self.let_go(stopped)
        self.settle(clients, table, ROWS)

    # ---- configuration ----

    def test_password_changed(self):
        """The password is changed at the server and then in the .cf file, which is enough; in
        between there are temporary errors, and no log has either password."""
        table = self.sql_table(mode=0o600)
        daemon = self.serve(table)
        clients = self.clients(daemon, 5)
        self.settle(clients, table, ROWS)
        new = secrets.token_hex(10)
        self.addCleanup(lambda: self.server.set_password(PASSWORD))
        self.server.set_password(new)
        self.end_connections()
        self.fails(clients[0], table, "key0", (OK, ROWS["key0"]))
        daemon.wait_log(rf'table "{re.escape(table)}" failed: ')
        self.put("t.cf", self.server.cf(query=SELECT, password=new), 0o600)
        self.settle(clients, table, ROWS)
        self.assertNotIn(new, daemon.log())
        self.assertNotIn(PASSWORD, daemon.log())

    def test_changed_query(self):
        """A .cf file that was changed is used at once and as a whole: no answer is of neither the
        old one nor the new one, and none is missing."""
        table = self.sql_table(result_format="old %s")
        daemon = self.serve(table)
        clients = self.clients(daemon, 10)
        self.settle(clients, table, {"key0": b"old " + ROWS["key0"]})
        self.put("t.cf", self.server.cf(query=SELECT, result_format="new %s"))
        old, new = ((OK, word + ROWS["key0"]) for word in (b"old ", b"new "))

        def changed():
            found = set(self.ask_all(clients, table, ["key0"]))
            self.assertLessEqual(found, {old, new})
            return found == {new}

        wait_for(changed, "the new file to be used")

    def test_mistakes(self):
        """Files with mistakes make failing tables, and each gets a line of the log that names
        file, line and parameter; other tables go on; a file that is mended works without a
        restart."""
        base = self.server.cf()
        line = base.count("\n") + 1
        mistakes = {
            "unknown-letter": (f"query = {SELECT[:-3]}%x'\n", line, "query"),
            "lone-percent": ("query = SELECT 'x' LIKE '%\n", line, "query"),
            "bad-format": (f"query = {SELECT}\nresult_format = %z\n", line + 1, "result_format"),
            "bad-number": (
                f"query = {SELECT}\nexpansion_limit = many\n",
                line + 1,
                "expansion_limit",
            ),
            "negative": (f"query = {SELECT}\nexpansion_limit = -1\n", line + 1, "expansion_limit"),
            "no-query": ("", None, "query"),
            "no-equals": (f"query = {SELECT}\njust words\n", line + 1, "no `=`"),
            "no-where": ("table = t\nselect_field = v\n", None, "where_field"),
        }
        files = {name: self.put(f"{name}.cf", base + text) for name, (text, *_) in mistakes.items()}
        tables = {name: f"{self.kind}:{path}" for name, path in files.items()}
        missing = f"{self.kind}:{self.path('missing.cf')}"
        good = self.sql_table()
        daemon = self.serve(*tables.values(), missing, good, options={"processes": 1})
        client = self.client(daemon)
        self.eventually(client, good, "key0", (OK, ROWS["key0"]))
        for name, (_, number, parameter) in mistakes.items():
            for key in ("key0", "none"):
                self.assertEqual(client.lookup(tables[name], key), (RETRY, b""), name)
            place = re.escape(files[name]) + (f":{number}" if number else "[: ]")
            daemon.wait_log(rf'table "{re.escape(tables[name])}".*{place}.*{parameter}')
        self.assertEqual(client.lookup(missing, "key0"), (RETRY, b""))
        self.assertEqual(client.lookup(good, "key0"), (OK, ROWS["key0"]))
        for name in (*mistakes, "missing"):
            self.put(f"{name}.cf", self.server.cf(query=SELECT))
        for table in (*tables.values(), missing):
            self.eventually(client, table, "key0", (OK, ROWS["key0"]))

    def test_mistake_later(self):
        """A good file that is replaced by one with a mistake stays in service, and the log says
        why."""
        table = self.sql_table()
        daemon = self.serve(table)
        clients = self.clients(daemon, 5)
        self.settle(clients, table, ROWS)
        mark = daemon.mark()
        path = self.put("t.cf", self.server.cf(query="SELECT '%x'"))
        daemon.wait_log(rf'table "{re.escape(table)}".*{re.escape(path)}:\d+.*query', mark)
        for _ in range(5):
            found = self.ask_all(clients, table, ["key0"])
            self.assertEqual(set(found), {(OK, ROWS["key0"])})

    def test_bad_query(self):
        """A query that the server rejects is a temporary error for every key, and the log says
        once what the server said."""
        table = self.sql_table(query="SELECT nosuch FROM t WHERE k='%s'")
        daemon = self.serve(table, options={"processes": 1})
        clients = self.clients(daemon, 10)
        for _ in range(5):
            self.assertEqual(set(self.ask_all(clients, table, ["key0"])), {(RETRY, b"")})
        daemon.wait_log(rf'table "{re.escape(table)}" failed: .*nosuch')
        self.assertEqual(len(self.lines(daemon, table, "failed")), 1)
        self.server.sql("ALTER TABLE t ADD COLUMN nosuch TEXT")
        self.addCleanup(lambda: self.server.sql("ALTER TABLE t DROP COLUMN nosuch"))
        self.server.sql("UPDATE t SET nosuch = 'it is there'")
        self.settle(clients, table, {"key0": b"it is there"})

    # ---- keys ----

    def test_hostile_keys(self):
        """No key gets out of its quotes: quotes, backslashes, comments, templates, invalid UTF-8,
        200,000 bytes. What is stored under such a key is found; nothing else is, nothing is lost,
        and the server never finds a mistake in a statement."""
        stored = [key for key in HOSTILE if isinstance(key, str) and 0 < len(key) < 150]
        rows = "".join(
            f"INSERT INTO t VALUES ({self.literal(key)}, 'stored {number}');\n"
            for number, key in enumerate(stored)
        )
        self.server.sql(rows)
        self.addCleanup(lambda: self.server.sql("DELETE FROM t WHERE v LIKE 'stored%'"))
        table = self.sql_table()
        daemon = self.serve(table, options={"processes": 1})
        client = self.client(daemon)
        self.eventually(client, table, "key0", (OK, ROWS["key0"]))
        for key in HOSTILE:
            right = (OK, b"stored %d" % stored.index(key)) if key in stored else (NOKEY, b"")
            self.assertEqual(client.lookup(table, key, 64), right, key[:60])
        self.assertEqual(self.server.sql("SELECT secret FROM canary").strip(), self.canary)
        self.assertNotIn("syntax", daemon.log())
        self.assertEqual(self.lines(daemon, table, "failed"), [])

    def test_password_in_no_other_process(self):
        """The password of a .cf file that only root may read is in the memory of the table's
        agents, and of no other process: not the monitor's, a worker's, a dialer's or another
        agent's."""
        password = secrets.token_hex(16)
        self.addCleanup(lambda: self.server.set_password(PASSWORD))
        self.server.set_password(password)
        table = self.sql_table(mode=0o600, password=password)
        other = self.put("other.pcre", "/x/ y\n")
        with servers.Socketmap() as maps:
            tables = [(table, {"processes": 2}), FAST, f"pcre:{other}", maps.table("m")]
            daemon = self.jailmapd([*tables, "unix:passwd.byname"])
            clients = self.clients(daemon, 5)
            self.settle(clients, table, ROWS)
            for name in (f"pcre:{other}", maps.table("m"), "unix:passwd.byname"):
                self.eventually(clients[0], name, "key0", (NOKEY, b""))
            everyone = self.everyone(daemon)
            self.assertGreater(len(everyone), 10, everyone)
            holders = []
            for pid in everyone:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    holders += [pid] if password.encode() in proc.memory(pid) else []
        self.assertEqual(sorted(holders), self.pool(daemon, self.kind, 2), everyone)
        self.assertNotIn(password, daemon.log())

    @harness.not_sanitized("helpers keep standard error there, for reports")
    def test_what_an_agent_has(self):
        """An agent has no socket but those that it was given and its server's; no capability; no
        way to new privileges; a filter that ends it; and of files the .cf."""
        table = self.sql_table()
        daemon = self.serve(table)
        clients = self.clients(daemon, 5)
        self.settle(clients, table, ROWS)
        for role in (self.kind, "dialer"):
            for pid in self.pool(daemon, role, 2):
                status = proc.status(pid)
                self.assertEqual(status["NoNewPrivs"], "1")
                self.assertEqual(status["Seccomp"], "2")
                for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                    self.assertEqual(proc.capabilities(pid, kind), set(), kind)
                self.assertEqual(set(status["Uid"].split()), {str(harness.JAIL.pw_uid)})
                self.assertEqual(status["Groups"], "")
        for pid in self.pool(daemon, self.kind, 2):
            kinds = list(proc.classify(pid).values())
            files = [kind for kind in kinds if kind.startswith("/") and kind != "/dev/null"]
            self.assertEqual(files, [table.partition(":")[2]], kinds)
            streams = [kind for kind in kinds if kind.startswith(("stream", "foreign"))]
            self.assertLessEqual(len(streams), 1, kinds)
            self.assertNotIn("foreign-socket", kinds)
