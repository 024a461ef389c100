"""The cache of tables that agents answer: off by default, exact, bounded, dropped with every change,
and seen in status.

Runs as root inside tests/system/run. The server of the tables is a thread of the test that counts
what it is asked, so it is known and not measured whether an answer came from the cache.
"""

import signal

import harness
import servers
from protocol import CONFIG, NOKEY, OK, RETRY
from table_case import TableCase
from waiting import wait_for

LONG_TTL = 3600


class CacheTest(TableCase):
    """Tables behind a socketmap server that counts."""

    def setUp(self):
        super().setUp()
        self.maps = servers.Socketmap(
            {b"m key": b"OK value", b"m temp": b"TEMP later", b"m perm": b"PERM never"}
        ).start()
        self.addCleanup(self.maps.stop)
        self.name = self.maps.table("m")

    def serve(self, **options):
        # One worker: each has a cache of its own.
        daemon = self.jailmapd(
            [(self.name, {"processes": 1, "timeout": 2, **options})], socket_options={"workers": 1}
        )
        return daemon, self.client(daemon)

    def asked(self, client, key, answer, flags=64):
        """How often the server was asked for the key while a client looked it up."""
        before = self.maps.count()
        self.assertEqual(client.lookup(self.name, key, flags), answer)
        return self.maps.count() - before

    def test_off_by_default(self):
        """Without cache-ttl every lookup reaches the server."""
        _, client = self.serve()
        self.eventually(client, self.name, "key", (OK, b"value"))
        for _ in range(5):
            self.assertEqual(self.asked(client, "key", (OK, b"value")), 1)
            self.assertEqual(self.asked(client, "none", (NOKEY, b"")), 1)

    def test_hits(self):
        """With cache-ttl what was found is not asked for again, by any client of the worker; what
        was not found is."""
        daemon, client = self.serve(**{"cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        for one in (client, self.client(daemon)):
            for _ in range(5):
                self.assertEqual(self.asked(one, "key", (OK, b"value")), 0)
                self.assertEqual(self.asked(one, "none", (NOKEY, b"")), 1)

    def test_largest_size(self):
        """The largest cache that can be had keeps answers, too: its bytes do not fit into 32 bits."""
        _, client = self.serve(**{"cache-ttl": LONG_TTL, "cache-size": 4096})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(self.asked(client, "key", (OK, b"value")), 0)

    def test_misses(self):
        """With negative-cache-ttl what was not found is not asked for again, and what was found
        is."""
        _, client = self.serve(**{"negative-cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(self.asked(client, "none", (NOKEY, b"")), 1)
        for _ in range(5):
            self.assertEqual(self.asked(client, "none", (NOKEY, b"")), 0)
            self.assertEqual(self.asked(client, "key", (OK, b"value")), 1)

    def test_errors(self):
        """Temporary and configuration errors are never kept."""
        _, client = self.serve(**{"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(client.lookup(self.name, "perm"), (CONFIG, b""))
        self.assertEqual(client.lookup(self.name, "temp"), (RETRY, b""))
        self.maps.answers[b"m temp"] = b"OK now"
        self.maps.answers[b"m perm"] = b"OK after all"
        self.eventually(client, self.name, "temp", (OK, b"now"))
        self.eventually(client, self.name, "perm", (OK, b"after all"), before=(CONFIG, b""))

    def test_exact(self):
        """Keys that are alike are different: case, blanks, parts of each other, long ones that
        differ at their end."""
        self.maps.other = lambda request: b"OK <" + request[2:] + b">"
        _, client = self.serve(**{"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        long = "x" * 5000
        keys = ["a", "A", "a ", " a", "aa", "", "key1", "ke", long + "1", long + "2", "\xe9", "e"]
        for turn in range(3):
            for key in keys:
                right = (OK, b"<" + key.encode() + b">")
                self.assertEqual(self.asked(client, key, right), turn == 0, key[:20])

    def test_flags(self):
        """What a request with NO_REGSUB got is not given to one without, and the other way round;
        what NO_UNAUTH refuses is refused though it is in the cache."""
        rules = f"pcre:{self.put('rules', '/^(a)$/ sub $1' + chr(10) + '/a/ plain' + chr(10))}"
        options = {"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL, "processes": 1}
        daemon = self.jailmapd(
            [(rules, options), (self.name, options)], socket_options={"workers": 1}
        )
        client = self.client(daemon)
        self.eventually(client, rules, "a", (OK, b"sub a"))
        for _ in range(3):
            self.assertEqual(client.lookup(rules, "a", 64), (OK, b"sub a"))
            self.assertEqual(client.lookup(rules, "a", 64 | 2048), (OK, b"plain"))
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(client.lookup(self.name, "key", 64 | 8192), (RETRY, b""))
        self.assertEqual(client.lookup(self.name, "key", 64), (OK, b"value"))

    def test_expiry(self):
        """An answer is asked for again when its time is over."""
        _, client = self.serve(**{"cache-ttl": 1, "negative-cache-ttl": 1})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(client.lookup(self.name, "none"), (NOKEY, b""))
        self.maps.answers[b"m key"] = b"OK new"
        self.maps.answers[b"m none"] = b"OK found"
        self.eventually(client, self.name, "key", (OK, b"new"), before=(OK, b"value"))
        self.eventually(client, self.name, "none", (OK, b"found"), before=(NOKEY, b""))

    def test_server_gone(self):
        """While the server is gone, what is in the cache is still answered, and the rest is a
        temporary error."""
        _, client = self.serve(**{"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(client.lookup(self.name, "none"), (NOKEY, b""))
        self.maps.stop()
        self.assertEqual(client.lookup(self.name, "other"), (RETRY, b""))
        for _ in range(3):
            self.assertEqual(client.lookup(self.name, "key"), (OK, b"value"))
            self.assertEqual(client.lookup(self.name, "none"), (NOKEY, b""))

    def test_dropped_with_a_change(self):
        """A change of the table's file drops what was kept, found and not found."""
        path = self.put("rules", "/^a$/ old\n")
        table = f"pcre:{path}"
        options = {"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL}
        daemon = self.jailmapd([(table, options)])
        clients = self.clients(daemon, 3)
        self.settle(clients, table, {"a": b"old"})
        self.assertEqual(clients[0].lookup(table, "b"), (NOKEY, b""))
        self.put("rules", "/^a$/ new\n/^b$/ come\n")
        self.settle(clients, table, {"a": b"new"}, before=[(OK, b"old")])
        self.eventually(clients[0], table, "b", (OK, b"come"), before=(NOKEY, b""))
        self.put("rules", "/^b$/ stays\n")

        def gone():
            found = clients[0].lookup(table, "a")
            self.assertIn(found, ((OK, b"new"), (NOKEY, b""), (RETRY, b"")))
            return found == (NOKEY, b"")

        wait_for(gone, "what was taken out to be not found")

    def test_bounded(self):
        """A cache holds no more than its size: keys of long ago are asked for again, recent ones
        are not, and the worker does not grow."""
        value = b"v" * 10_000
        self.maps.other = b"OK " + value
        _, client = self.serve(**{"cache-ttl": LONG_TTL, "cache-size": 1})
        self.eventually(client, self.name, "k0", (OK, value))
        for number in range(300):
            self.assertEqual(client.lookup(self.name, f"k{number}"), (OK, value))
        self.assertEqual(self.asked(client, "k299", (OK, value)), 0)
        self.assertEqual(self.asked(client, "k0", (OK, value)), 1)
        kept = sum(1 - self.asked(client, f"k{n}", (OK, value)) for n in range(299, 199, -1))
        self.assertLess(kept, 105)
        self.assertGreater(kept, 20)

    def test_clients_of_others(self):
        """Clients of another user have another worker and so another cache: nobody can tell by it
        what others have asked."""
        daemon = self.jailmapd(
            [(self.name, {"cache-ttl": LONG_TTL})], allow={"1": ["*"], "2": ["*"]}
        )
        one, two = self.client(daemon, uid=1), self.client(daemon, uid=2)
        self.eventually(one, self.name, "key", (OK, b"value"))
        self.assertEqual(self.asked(one, "key", (OK, b"value")), 0)
        self.assertEqual(self.asked(two, "key", (OK, b"value")), 1)

    def test_policy_changed(self):
        """A table that a client may no longer have is not answered from the cache either; options
        of the cache can be changed with a reload."""
        daemon, client = self.serve(**{"cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(self.asked(client, "key", (OK, b"value")), 0)
        with open(daemon.config, encoding="utf-8") as file:
            text = file.read()
        mark = daemon.mark()
        harness.Workspace.write(
            daemon.directory, "jailmapd.conf", text.replace(f"cache-ttl = {LONG_TTL}", "")
        )
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("reloaded: ", mark)

        def not_cached():
            before = self.maps.count()
            found = client.lookup(self.name, "key")
            self.assertIn(found, ((OK, b"value"), (RETRY, b"")))
            return self.maps.count() > before

        wait_for(not_cached, "the cache to be off")

    def test_status(self):
        """status counts the lookups that the cache answered, and of hits and misses all."""
        daemon, client = self.serve(**{"cache-ttl": LONG_TTL, "negative-cache-ttl": LONG_TTL})
        self.eventually(client, self.name, "key", (OK, b"value"))
        self.assertEqual(client.lookup(self.name, "none"), (NOKEY, b""))
        before = daemon.table_facts(self.name)
        for _ in range(10):
            client.lookup(self.name, "key")
            client.lookup(self.name, "none")
        after = daemon.table_facts(self.name)
        self.assertEqual(after["cached"] - before["cached"], 20)
        self.assertEqual(after["lookups"] - before["lookups"], 20)
        self.assertIn("CACHED", daemon.status()[1])
