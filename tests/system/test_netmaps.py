"""socketmap: and tcp: tables: servers that are slow, silent, gone or hostile, clients that refuse
such tables, and the jail of the agents.

Runs as root inside tests/system/run, with servers that are threads of the test: see servers.py. What
is right in an answer is in test_differential_tables.py.
"""

import os
import re

import harness
import proc
import servers
from protocol import CONFIG, NOKEY, OK, RETRY
from servers import Raw
from table_case import FAST, TableCase

NO_UNAUTH = 8192
ANSWERS = {"good": b"fine", "other": b"fine too"}


class NetTest(TableCase):
    """Agents that ask servers in the network."""

    def setUp(self):
        super().setUp()
        self.maps = servers.Socketmap(
            {b"m good": b"OK fine", b"m other": b"OK fine too", b"m perm": b"PERM never"}
        ).start()
        self.addCleanup(self.maps.stop)
        self.lines_server = servers.TcpTable({b"good": b"200 fine", b"other": b"200 fine%20too"})
        self.lines_server.start()
        self.addCleanup(self.lines_server.stop)
        self.both = [
            (self.maps, self.maps.table("m"), b"m "),
            (self.lines_server, self.lines_server.table, b""),
        ]

    def serve(self, *tables, **options):
        options = {"processes": 2, "timeout": 2, **options}
        return self.jailmapd([*((table, options) for table in tables), FAST])

    def test_no_unauth(self):
        """A client that says NO_UNAUTH gets a temporary error of these tables, and the server is
        not asked; others get answers."""
        daemon = self.serve(*(table for _, table, _ in self.both))
        client = self.client(daemon)
        for server, table, _ in self.both:
            self.eventually(client, table, "good", (OK, b"fine"))
            asked = server.count()
            for key in ("good", "none"):
                self.assertEqual(client.lookup(table, key, 64 | NO_UNAUTH), (RETRY, b""))
            self.assertEqual(server.count(), asked)
            self.assertEqual(client.lookup(table, "good", 64), (OK, b"fine"))

    def test_permanent_error(self):
        """PERM of a socketmap server is a configuration error for that key, and the table works."""
        table = self.maps.table("m")
        daemon = self.serve(table)
        client = self.client(daemon)
        self.eventually(client, table, "good", (OK, b"fine"))
        for _ in range(3):
            self.assertEqual(client.lookup(table, "perm"), (CONFIG, b""))
            self.assertEqual(client.lookup(table, "good"), (OK, b"fine"))
        self.assertEqual(self.lines(daemon, table, "failed"), [])

    def test_many_clients(self):
        """100 clients ask at the same time over as many connections as there are processes, which
        stay."""
        for server, table, prefix in self.both:
            server.other = lambda request: (b"OK " if b"m " in request else b"200 ") + request
            daemon = self.serve(table, processes=3, timeout=30)
            clients = self.clients(daemon, 100)
            expected = {f"key{n}": prefix + b"key%d" % n for n in range(50)}
            for _ in range(3):
                self.settle(clients, table, expected)
            self.assertLessEqual(server.connections, 3)
            daemon.stop()

    def test_server_gone(self):
        """While the server is gone, temporary errors and nothing else; when it is back, so are the
        answers. The log has one line for each."""
        for server, table, _ in self.both:
            daemon = self.serve(table)
            clients = self.clients(daemon, 10)
            self.settle(clients, table, ANSWERS)
            mark = daemon.mark()
            server.stop()
            for _ in range(10):
                found = self.ask_all(clients, table, ["good", "none"])
                self.assertEqual(set(found), {(RETRY, b"")})
            server.start()
            self.settle(clients, table, ANSWERS)
            self.assertEqual(clients[0].lookup(table, "none"), (NOKEY, b""))
            self.once(daemon, table, mark)
            daemon.stop()

    def test_dropped_connections(self):
        """A server that ends idle connections is not noticed: what is asked next is asked again on
        a new one."""
        for server, table, _ in self.both:
            daemon = self.serve(table, timeout=5)
            clients = self.clients(daemon, 4)
            self.settle(clients, table, ANSWERS)
            for _ in range(5):
                server.drop()
                self.assertEqual(set(self.ask_all(clients, table, ["good"])), {(OK, b"fine")})
            daemon.stop()

    def test_breaker(self):
        """With the server dead, of 2,000 lookups each is answered, and few connections are
        tried."""

        class Closing(servers.Listener):
            """Closes every connection that it gets."""

            def read(self, stream):
                return None

        with Closing() as closing:
            tables = [f"socketmap:{closing.endpoint}:m", f"tcp:127.0.0.1:{closing.port}"]
            daemon = self.serve(*tables)
            clients = self.clients(daemon, 50)
            for table in tables:
                for _ in range(20):
                    found = self.ask_all(clients, table, ["good", "none"])
                    self.assertEqual(set(found), {(RETRY, b"")})
            # Four agents; a query that finds its connection ended is tried once more.
            self.assertLess(closing.connections, 400)
        self.assertEqual(clients[0].lookup(FAST, "fast"), (OK, b"yes"))

    def test_silent_server(self):
        """A server that accepts and never answers, and a port that swallows connections, are
        temporary errors after the time-out; other tables go on meanwhile."""
        with servers.Silent() as silent, servers.Swallower() as swallower:
            ports = (silent.port, swallower.port)
            tables = [f"socketmap:inet:127.0.0.1:{port}:m" for port in ports]
            tables += [f"tcp:127.0.0.1:{port}" for port in ports]
            daemon = self.serve(*tables, self.maps.table("m"), timeout=1)
            clients = self.clients(daemon, len(tables))
            other = self.client(daemon)
            self.eventually(other, self.maps.table("m"), "good", (OK, b"fine"))
            for _ in range(2):
                for client, table in zip(clients, tables, strict=True):
                    self.send_all([client], table, ["good"])
                for _ in range(50):
                    self.assertEqual(other.lookup(FAST, "fast"), (OK, b"yes"))
                    found = other.lookup(self.maps.table("m"), "good")
                    self.assertEqual(found, (OK, b"fine"))
                self.assertEqual(set(self.receive_all(clients)), {(RETRY, b"")})
            self.assertGreater(silent.connections, 0)

    def test_hostile_answers(self):
        """Answers that are no answers: each is a temporary error for that key, never "not found"
        and never another key's, and the next key is answered."""
        bad = {
            "giant": Raw(b"999999999999999999999:x"),
            "large": Raw(b"100001:" + b"x" * 100_001 + b","),
            "no-comma": Raw(b"7:OK fine;"),
            "no-length": Raw(b":OK fine,"),
            "letters": Raw(b"x:OK fine,"),
            "negative": Raw(b"-5:OK x,"),
            "short": Raw(b"20:OK fine,"),
            "text": Raw(b"OK fine\n"),
            "zeros": Raw(b"\0" * 100),
            "nothing": None,
        }
        self.maps.answers.update({b"m " + key.encode(): say for key, say in bad.items()})
        # "short" leaves the agent waiting: the end of the connection is as good.
        self.maps.answers[b"m short"] = None
        lines = {
            "no-number": Raw(b"hello\n"),
            "two-digits": Raw(b"20 x\n"),
            "no-blank": Raw(b"200\n"),
            "other-digit": Raw(b"900 x\n"),
            "bad-quote": Raw(b"200 %zz\n"),
            "cut-quote": Raw(b"200 %4\n"),
            "long": Raw(b"200 " + b"x" * 5000 + b"\n"),
            "temporary": Raw(b"400 later\n"),
            "nothing": None,
        }
        self.lines_server.answers.update({key.encode(): say for key, say in lines.items()})
        for (_, table, _), keys in zip(self.both, (bad, lines), strict=True):
            daemon = self.serve(table, processes=1, timeout=3)
            client = self.client(daemon)
            for key in keys:
                self.eventually(client, table, "good", (OK, b"fine"))
                self.assertEqual(client.lookup(table, key), (RETRY, b""), key)
            self.eventually(client, table, "good", (OK, b"fine"))
            daemon.stop()

    def test_two_answers_for_one_question(self):
        """A server that sends two answers at once gives nobody the second one as the answer to
        something else."""
        self.maps.answers[b"m two"] = Raw(b"8:OK first,9:OK second,")
        self.lines_server.answers[b"two"] = Raw(b"200 first\n200 second\n")
        for _, table, _ in self.both:
            daemon = self.serve(table, processes=1)
            client = self.client(daemon)
            self.eventually(client, table, "good", (OK, b"fine"))
            for _ in range(3):
                self.assertIn(client.lookup(table, "two"), ((OK, b"first"), (RETRY, b"")))
                self.assertIn(client.lookup(table, "none"), ((NOKEY, b""), (RETRY, b"")))
                self.assertIn(client.lookup(table, "good"), ((OK, b"fine"), (RETRY, b"")))
            daemon.stop()

    def test_unix_socket(self):
        """A socketmap server on a UNIX socket, which goes and comes back as a new file."""
        path = os.path.join(self.socket_directory(), "map")
        with servers.Socketmap({b"m good": b"OK fine"}, path=path) as maps:
            table = maps.table("m")
            daemon = self.serve(table)
            clients = self.clients(daemon, 5)
            self.settle(clients, table, {"good": b"fine"})
            maps.stop()
            os.unlink(path)
            self.assertEqual(set(self.ask_all(clients, table, ["none"])), {(RETRY, b"")})
            maps.start()
            self.settle(clients, table, {"good": b"fine"})
            self.assertEqual(clients[0].lookup(table, "none"), (NOKEY, b""))

    def test_agent_killed(self):
        """Agents and dialers that are killed are replaced; nothing but temporary errors is seen of
        it."""
        table = self.maps.table("m")
        daemon = self.serve(table)
        clients = self.clients(daemon, 10)
        self.settle(clients, table, ANSWERS)
        for role in ("net", "dialer", "net"):
            for pid in daemon.roles()[role]:
                harness.kill(pid)
                for answer in self.ask_all(clients, table, ["good"]):
                    self.assertIn(answer, ((OK, b"fine"), (RETRY, b"")))
            self.settle(clients, table, ANSWERS)

    @harness.not_sanitized("the jail is furnished with libraries there")
    def test_jail(self):
        """The agents are in the empty jail; the only sockets of theirs that lead out of it are
        connections that were made for them, one at a time."""
        tables = [table for _, table, _ in self.both]
        daemon = self.serve(*tables)
        clients = self.clients(daemon, 10)
        for table in tables:
            self.settle(clients, table, ANSWERS)
        jail = os.stat(os.path.join(daemon.runtime, "empty"))
        for pid in self.pool(daemon, "net", 4):
            status = proc.status(pid)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(proc.capabilities(pid, kind), set(), kind)
            for place in ("root", "cwd"):
                found = os.stat(f"/proc/{pid}/{place}/")
                self.assertEqual((found.st_dev, found.st_ino), (jail.st_dev, jail.st_ino))
            kinds = list(proc.classify(pid).values())
            self.assertLessEqual(kinds.count("foreign-socket"), 1, kinds)
            for kind in kinds:
                self.assertRegex(kind, r"^(seqpacket.*|eventpoll|foreign-socket|/dev/null)$")
        for pid in self.pool(daemon, "dialer", 4):
            kinds = list(proc.classify(pid).values())
            # What it has connected it has passed on.
            self.assertNotIn("foreign-socket", kinds)
            self.assertEqual(proc.status(pid)["NoNewPrivs"], "1")

    def test_names(self):
        """Names that are none are mistakes of the configuration, which says what is expected."""
        for name in ("socketmap:inet:host:m", "socketmap:host:1:m", "tcp:host", "tcp:host:"):
            daemon = self.jailmapd([name], start=False)
            code, _, errors = harness.run([harness.workspace().jailmapd, "-n", "-c", daemon.config])
            self.assertNotEqual(code, 0, name)
            self.assertRegex(errors, rf"{re.escape(name.split(':')[0])}.*HOST:PORT", name)
