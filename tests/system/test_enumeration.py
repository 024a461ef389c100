"""Limits on what a user may do: who counts, what becomes of those who look up too much, that they
are answered rightly all the same, and that nobody else notices.

Runs as root inside tests/system/run, against daemons of its own in private directories. It stops
and kills only processes of those, by pid. Windows of time are driven by real lookups, and what
comes of them is waited for.
"""

import re
import select
import signal

import harness
import protocol
from harness import entries
from protocol import DENY, NOKEY, OK, RETRY, Closed, o_lookup, o_open, o_sequence, reply
from waiting import wait_for

ALICE, BOB = 1, 2
FLAGS = 524352


class LimitCase(harness.Case):
    """Daemons with limit sections, and clients that ask much."""

    def limited(self, limits, tables=None, **options):
        """A running daemon whose configuration has these limit sections."""
        self.name = self.table("a", entries(1000))
        allow = {str(uid): ["*"] for uid in (0, ALICE, BOB)}
        daemon = self.jailmapd([self.name], start=False, allow=allow, limited=True, **options)
        with open(daemon.config, "a", encoding="ascii") as config:
            config.write(limits)
        return daemon.start()

    def as_user(self, daemon, uid, **options):
        client = self.client(daemon, uid=uid, **options)
        wait_for(
            lambda: client.call(o_open(self.name))[0] == OK, "the worker to have the table"
        )
        return client

    def ask(self, client, count, key="key1"):
        """Sends so many lookups at once."""
        client.send(o_lookup(self.name, key, FLAGS) * count)

    def statuses(self, client, count, key="key1"):
        """Sends so many lookups at once; returns the statuses of the answers."""
        self.ask(client, count, key)
        return [int(client.receive().split(b"\0")[1]) for _ in range(count)]

    def until_slow(self, daemon, client, uid):
        """Looks up so much that the limit is reached, and then until a lookup had to wait: the pace
        is told to the worker after the record."""
        self.assertEqual(set(self.statuses(client, 2000)), {OK})
        daemon.wait_log(rf"limit reached by uid {uid}: ")
        wait_for(
            lambda: self.statuses(client, 20) and self.facts(daemon, uid)["limited-lookups"] > 0,
            "lookups to wait",
        )

    def facts(self, daemon, uid):
        return next(c for c in daemon.facts()["compartments"] if c["uid"] == uid)


class RecordTest(LimitCase):
    """What is told of those who reach a limit."""

    def test_misses(self):
        """One record tells that a limit is reached, with exact counts, of two workers together;
        audit changes no answer, and there is no second record."""
        daemon = self.limited(
            'limit "*" { misses-per-minute = 300 }\n',
            socket_options={"clients-per-worker": 1, "workers": 2},
        )
        one, other = self.as_user(daemon, ALICE), self.as_user(daemon, ALICE)
        self.assertEqual(len(daemon.wait_roles("worker", 2)), 2)
        bob = self.as_user(daemon, BOB)
        self.assertEqual(set(self.statuses(one, 200, "none")), {NOKEY})
        self.assertEqual(set(self.statuses(bob, 299, "none")), {NOKEY})
        self.assertEqual(set(self.statuses(other, 99, "none")), {NOKEY})
        self.assertEqual(set(self.statuses(other, 50)), {OK})
        wait_for(lambda: self.facts(daemon, ALICE)["misses"] == 299, "all to be counted")
        self.assertNotIn("limit reached", daemon.log())
        self.assertEqual(self.statuses(one, 1, "none"), [NOKEY])
        match = daemon.wait_log(r"warning: limit reached by (.*)")
        self.assertEqual(
            match.group(1),
            f"uid {ALICE}: misses-per-minute = 300, and in the last minute it had 350 lookups with "
            "300 misses; nothing is done about it, action = audit",
        )
        self.assertEqual(set(self.statuses(other, 500, "none")), {NOKEY})
        self.assertEqual(set(self.statuses(other, 500)), {OK})
        wait_for(lambda: self.facts(daemon, ALICE)["misses"] == 800, "all to be counted")
        facts = self.facts(daemon, ALICE)
        self.assertEqual((facts["limited"], facts["limited-lookups"]), (True, 0))
        self.assertGreater(facts["limited-since"], 0)
        self.assertFalse(self.facts(daemon, BOB)["limited"])
        self.assertEqual(len(re.findall("limit reached", daemon.log())), 1)

    def test_begin_and_end(self):
        """A limit on lookups that is reached, kept, and reached again has one record when it begins
        and one when it has been kept for a while; steps of a walk count as lookups."""
        daemon = self.limited(f'limit "{ALICE}" {{ lookups-per-second = 100 }}\n')
        client = self.as_user(daemon, ALICE)
        for function in (0, 1):
            client.send(o_sequence(self.name, function) * 500)
            for _ in range(500):
                self.assertTrue(client.receive().startswith(b"status\0" b"0\0"))
        daemon.wait_log(rf"warning: limit reached by uid {ALICE}: lookups-per-second = 100, ")
        wait_for(lambda: self.facts(daemon, ALICE)["limited"], "the status to tell")
        end = daemon.wait_log(r"warning: limit kept again by (.*)").group(1)
        counts = re.fullmatch(
            rf"uid {ALICE}: lookups-per-second; it was reached (\d+) s ago, and (\d+) lookups "
            r"with 0 misses were counted, of which 0 were delayed or refused",
            end,
        )
        self.assertTrue(counts, end)
        self.assertTrue(100 <= int(counts.group(2)) <= 1000, end)
        self.assertGreaterEqual(int(counts.group(1)), 10)
        self.assertFalse(self.facts(daemon, ALICE)["limited"])
        self.assertEqual(len(re.findall(r"limit reached|limit kept", daemon.log())), 2)

    def test_usual(self):
        """Without a limit section 60000 misses in a minute are told of, and nothing else is done; an
        empty section turns that off."""
        quiet = self.limited('limit "*" { }\n')
        silent = self.as_user(quiet, ALICE)
        self.assertEqual(set(self.statuses(silent, 1500, "none")), {NOKEY})
        daemon = self.limited("")
        client = self.as_user(daemon, ALICE)
        self.assertEqual(set(self.statuses(client, 3000)), {OK})

        def reached():
            self.assertEqual(set(self.statuses(client, 3000, "none")), {NOKEY})
            return "limit reached" in daemon.log()

        wait_for(reached, "the usual limit to be reached")
        daemon.wait_log(rf"limit reached by uid {ALICE}: misses-per-minute = 60000, .* audit")
        self.assertEqual(set(self.statuses(client, 100, "none")), {NOKEY})
        self.assertNotIn("lookups-per-second", daemon.log())
        self.assertEqual(set(self.statuses(silent, 100, "none")), {NOKEY})
        self.assertNotIn("limit", quiet.log())
        self.assertFalse(self.facts(quiet, ALICE)["limited"])


class SlowTest(LimitCase):
    """action = slow."""

    LIMITS = f'limit "{ALICE}" {{ lookups-per-second = 40 action = slow }}\n'

    def test_slow(self):
        """Those who are slowed down get every answer, right and in order; what had to wait is
        counted and told at the end, and then nothing waits any more."""
        daemon = self.limited(self.LIMITS)
        client = self.as_user(daemon, ALICE)
        self.until_slow(daemon, client, ALICE)
        keys = [f"key{number}" if number % 3 else "none" for number in range(120)]
        client.send(b"".join(o_lookup(self.name, key, FLAGS) for key in keys))
        first = [client.receive() for _ in keys]
        self.assertEqual(
            first,
            [
                reply("status", NOKEY, "value", "")
                if key == "none"
                else reply("status", OK, "value", key.replace("key", "value"))
                for key in keys
            ],
        )
        daemon.wait_log(rf"limit kept again by uid {ALICE}: .* of which [1-9]\d* were delayed")
        self.assertEqual(set(self.statuses(client, 30)), {OK})

    def test_others(self):
        """While a user's lookups wait, opens of the same user are answered, and so are lookups of
        another."""
        daemon = self.limited(f'limit "{ALICE}" {{ misses-per-minute = 1 action = slow }}\n')
        client, opener = self.as_user(daemon, ALICE), self.as_user(daemon, ALICE)
        bob = self.as_user(daemon, BOB)
        self.assertEqual(set(self.statuses(client, 5, "none")), {NOKEY})
        daemon.wait_log(rf"limit reached by uid {ALICE}: .* slowed down")

        def waits():
            self.ask(client, 1)
            return self.facts(daemon, ALICE)["limited-lookups"] > 0

        wait_for(waits, "a lookup to wait")
        self.assertEqual(set(self.statuses(bob, 500)), {OK})
        self.assertEqual(opener.call(o_open(self.name))[0], OK)
        self.assertEqual(self.facts(daemon, BOB)["limited-lookups"], 0)
        self.ask(opener, 1)
        opener.drained()
        # One in a minute: that it comes behind the other connection's is what holds it up.
        self.assertEqual(select.select([opener.socket], [], [], 0)[0], [])

    def test_many_wait(self):
        """Of many connections that wait for their turn each is answered; one that is closed
        meanwhile, or all that are left, cost nothing."""
        daemon = self.limited(self.LIMITS)
        clients = [self.as_user(daemon, ALICE) for _ in range(12)]
        self.until_slow(daemon, clients[0], ALICE)
        for client in clients:
            self.ask(client, 10)
        for client in clients[::3]:
            client.close()
        for client in (c for i, c in enumerate(clients) if i % 3):
            for _ in range(10):
                self.assertEqual(client.receive(), reply("status", OK, "value", "value1"))
        for client in clients[1:]:
            if client.socket.fileno() >= 0:
                self.ask(client, 10)
                client.close()
        self.assertEqual(self.statuses(self.as_user(daemon, ALICE), 1), [OK])
        self.assertNotIn("died", daemon.log())

    def test_handed_over(self):
        """Connections whose lookups wait are handed to the next worker after these are answered:
        none is lost; and the next worker has the limit too."""
        daemon = self.limited(self.LIMITS, socket_options={"max-use": 6, "workers": 2})
        clients = [self.as_user(daemon, ALICE) for _ in range(4)]
        self.until_slow(daemon, clients[0], ALICE)
        before = set(daemon.roles()["worker"])
        for client in clients:
            self.ask(client, 15)
        clients += [self.client(daemon, uid=ALICE) for _ in range(4)]
        for client in clients[4:]:
            self.ask(client, 15)
        for client in clients:
            for _ in range(15):
                self.assertEqual(client.receive(), reply("status", OK, "value", "value1"))
        wait_for(lambda: not before & set(daemon.roles()["worker"]), "the worn worker to go")
        for client in clients:
            self.assertEqual(self.statuses(client, 1), [OK])
        self.assertNotIn("died", daemon.log())

    def test_worker_that_starts(self):
        """A worker that is started while its user is limited has the limit from its first lookup
        on."""
        daemon = self.limited(
            f'limit "{ALICE}" {{ misses-per-minute = 30 action = retry }}\n',
            socket_options={"clients-per-worker": 1, "workers": 2},
        )
        client = self.as_user(daemon, ALICE)
        self.statuses(client, 100, "none")
        daemon.wait_log(rf"limit reached by uid {ALICE}: ")
        late = self.as_user(daemon, ALICE)
        self.assertEqual(len(daemon.wait_roles("worker", 2)), 2)
        self.assertEqual(self.statuses(late, 5), [RETRY] * 5)


class RetryTest(LimitCase):
    """action = retry."""

    LIMITS = f'limit "{ALICE}" {{ lookups-per-second = 200 action = retry }}\n'

    def test_retry(self):
        """Lookups beyond the limit get RETRY and never a wrong "not found", opens are answered, and
        when less is asked everything is as before."""
        daemon = self.limited(self.LIMITS)
        client = self.as_user(daemon, ALICE)
        bob = self.as_user(daemon, BOB)

        def refused():
            found = self.statuses(client, 100)
            self.assertLessEqual(set(found), {OK, RETRY})
            return RETRY in found

        wait_for(refused, "a lookup to be refused")
        self.assertEqual(client.call(o_open(self.name))[0], OK)
        self.assertEqual(set(self.statuses(bob, 150)), {OK})
        self.assertGreater(self.facts(daemon, ALICE)["limited-lookups"], 0)

        def recovered():
            found = self.statuses(client, 1)[0]
            self.assertIn(found, (OK, RETRY))
            return found == OK

        wait_for(recovered, "lookups to be answered again")
        end = daemon.wait_log(rf"limit kept again by uid {ALICE}: .* of which (\d+) were delayed")
        self.assertEqual(int(end.group(1)), self.facts(daemon, ALICE)["limited-lookups"])
        self.assertEqual(len(re.findall(r"limit reached|limit kept", daemon.log())), 2)

    def test_last_worker_ends(self):
        """The only worker of a user who is slowed down is killed: nobody else notices, and the user
        is served, and limited, by the next one."""
        daemon = self.limited(f'limit "{ALICE}" {{ lookups-per-second = 100 action = slow }}\n')
        client = self.as_user(daemon, ALICE)
        self.until_slow(daemon, client, ALICE)
        (worker,) = daemon.wait_roles("worker")
        harness.kill(worker, signal.SIGKILL)
        daemon.wait_log(rf"worker pid {worker} for uid {ALICE} .* died")
        self.assertEqual(self.statuses(self.as_user(daemon, BOB), 1), [OK])
        self.assertEqual(set(self.statuses(self.as_user(daemon, ALICE), 20)), {OK})

    def test_denied_while_waiting(self):
        """A table that is withdrawn while lookups of it wait for their turn: they are answered,
        each, and the worker does not notice."""
        daemon = self.limited(f'limit "{ALICE}" {{ lookups-per-second = 5 action = slow }}\n')
        clients = [self.as_user(daemon, ALICE) for _ in range(2)]
        self.assertEqual(set(self.statuses(clients[0], 100)), {OK})
        daemon.wait_log(rf"limit reached by uid {ALICE}: ")
        wait_for(
            lambda: self.statuses(clients[0], 2) and self.facts(daemon, ALICE)["limited-lookups"] > 0,
            "lookups to wait",
        )
        for client in clients:
            self.ask(client, 40)
        with open(daemon.config, encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith(f'allow "{ALICE}"')]
        harness.workspace().write(daemon.directory, "jailmapd.conf", "".join(lines))
        code, out, _ = harness.run([harness.workspace().jailmap, "reload", "-d", daemon.runtime])
        self.assertEqual((code, out.startswith("reloaded: ")), (0, True), out)
        for client in clients:
            found = [int(client.receive().split(b"\0")[1]) for _ in range(40)]
            self.assertEqual(found, sorted(found))
            self.assertLessEqual(set(found), {OK, DENY})
            self.assertEqual(found[-1], DENY)
        self.assertNotIn("died", daemon.log())

    def test_census_killed(self):
        """A census that is killed while somebody is limited takes that with it, says so, and the
        next one begins to count; nobody is refused for ever."""
        daemon = self.limited(f'limit "{ALICE}" {{ misses-per-minute = 50 action = retry }}\n')
        client = self.as_user(daemon, ALICE)
        for round_ in range(2):
            mark = daemon.mark()

            def reached(since=mark):
                # What is counted before a worker has the next census's page is where that begins.
                self.assertLessEqual(set(self.statuses(client, 100, "none")), {NOKEY, RETRY})
                return f"limit reached by uid {ALICE}: " in daemon.log(since)

            wait_for(reached, "the limit to be reached")
            wait_for(lambda: self.statuses(client, 1) == [RETRY], "lookups to be refused")
            (census,) = daemon.wait_roles("census")
            harness.kill(census, signal.SIGKILL)
            daemon.wait_log(rf"limit not watched of uid {ALICE}: misses-per-minute", since=mark)
            wait_for(lambda: self.statuses(client, 1) == [OK], "lookups to be answered")
            daemon.wait_roles("census")
            wait_for(lambda: daemon.status()[0] == 0, "the next census to be asked")
            self.assertFalse(self.facts(daemon, ALICE)["limited"], round_)


class ClientsTest(LimitCase):
    """clients = N."""

    def refused(self, daemon, uid):
        with protocol.Client(daemon.socket, uid=uid, greeting=False) as client:
            try:
                self.assertEqual(client.receive(), protocol.GREETING)
            except Closed:
                return True
            return False

    def test_clients(self):
        """A user has no more connections than its limit allows, each uid by itself; the log says
        so, and a connection that is closed makes room for another."""
        daemon = self.limited('limit "*" { clients = 3 }\n')
        mine = [self.as_user(daemon, ALICE) for _ in range(3)]
        self.assertTrue(self.refused(daemon, ALICE))
        daemon.wait_log(
            rf"warning: refused client uid {ALICE} pid \d+ on \S+: it has 3 connections on all "
            "sockets, and clients = 3 in its limit section"
        )
        for _ in range(3):
            self.as_user(daemon, BOB)
        for _ in range(4):
            mine.pop().close()
            wait_for(lambda: not self.refused(daemon, ALICE), "a place to be free")
            wait_for(
                lambda: self.facts(daemon, ALICE)["clients"] == len(mine), "the other to be gone"
            )
            mine.append(self.as_user(daemon, ALICE))
        for client in mine:
            self.assertEqual(self.statuses(client, 1), [OK])

    def test_reloaded(self):
        """Limits that a reload changes hold at once, for connections and for lookups, and a reload
        that changes nothing else says so."""
        daemon = self.limited('limit "*" { clients = 1 }\n')
        first = self.as_user(daemon, ALICE)
        self.assertTrue(self.refused(daemon, ALICE))
        with open(daemon.config, encoding="utf-8") as file:
            text = file.read()
        section = 'limit "*" { clients = 2 misses-per-minute = 5 action = retry }'
        harness.workspace().write(
            daemon.directory, "jailmapd.conf", text.replace('limit "*" { clients = 1 }', section)
        )
        code, out, _ = harness.run([harness.workspace().jailmap, "reload", "-d", daemon.runtime])
        self.assertEqual((code, out.startswith("reloaded: ")), (0, True), out)
        self.assertNotIn("nothing has changed", out)
        self.assertFalse(self.refused(daemon, ALICE))
        self.assertEqual(self.statuses(first, 1), [OK])
        wait_for(
            lambda: first.lookup(self.name, "absent")[0] == RETRY, "the new limit to be reached"
        )
        daemon.wait_log(rf"warning: limit reached by uid {ALICE}: misses-per-minute = 5")

    def test_all_sockets(self):
        """The limit is for all sockets together."""
        directory = harness.workspace().directory("sockets")
        sockets = [f"{directory}/one", f"{directory}/two"]
        daemon = self.limited(
            f'limit "{ALICE}" {{ clients = 2 }}\n',
            listen={path: {"mode": "0666"} for path in sockets},
        )
        for path in sockets:
            self.addCleanup(protocol.Client(path, uid=ALICE).close)
        for path in sockets:
            with protocol.Client(path, uid=ALICE, greeting=False) as client:
                self.assertRaises(Closed, client.receive)
            with protocol.Client(path, uid=BOB):
                pass
        daemon.wait_log("clients = 2 in its limit section")
