"""unionmap:, pipemap:, randmap:, fail: and environ: tables: approvals of members, members that fail
or wait, and what a name may not be.

Runs as root inside tests/system/run. What is right in an answer is in test_differential_tables.py.
"""

import secrets
import signal

import harness
import proc
import servers
from protocol import DENY, NOKEY, OK, RETRY, o_lookup, reply
from table_case import FAST, TableCase
from waiting import wait_for

ALICE, BOB = 1, 2
ONE, TWO, THREE = "inline:{a=1, b=b2}", "inline:{a=2, c=3}", "inline:{1=one, 2=two}"
UNION, PIPE = f"unionmap:{{{ONE}, {TWO}}}", f"pipemap:{{{ONE}, {THREE}}}"


class CompositeTest(TableCase):
    """Tables of tables."""

    def check(self, daemon, text, *patterns):
        """The configuration is refused, with a message that says all of this."""
        code, _, errors = harness.run([harness.workspace().jailmapd, "-n", "-c", daemon.config])
        self.assertNotEqual(code, 0, text)
        for pattern in patterns:
            self.assertRegex(errors, pattern)

    def test_approvals_of_members(self):
        """A composite answers a client only if all of its members are approved for it, too, those
        of members included; others get DENY, for open and for lookup."""
        nested = f"unionmap:{{{PIPE}, {TWO}}}"
        everything = [ONE, TWO, THREE, UNION, PIPE, nested]
        cases = [
            ([UNION, ONE, TWO], {UNION: OK, PIPE: DENY, ONE: OK}),
            ([UNION, ONE], {UNION: DENY, ONE: OK, TWO: DENY}),
            ([UNION], {UNION: DENY, ONE: DENY}),
            ([ONE, TWO], {UNION: DENY, ONE: OK}),
            ([nested, PIPE, ONE, TWO, THREE], {nested: OK, PIPE: OK, UNION: DENY}),
            ([nested, PIPE, ONE, TWO], {nested: DENY, PIPE: DENY}),
            ([nested, TWO, ONE, THREE], {nested: DENY, TWO: OK}),
            (["*"], dict.fromkeys(everything, OK)),
        ]
        users = range(1, len(cases) + 1)
        daemon = self.jailmapd(
            everything,
            allow={str(uid): allowed for uid, (allowed, _) in zip(users, cases, strict=True)},
        )
        for uid, (allowed, expected) in zip(users, cases, strict=True):
            client = self.client(daemon, uid=uid)
            for table, code in expected.items():
                with self.subTest(allowed=allowed, table=table):
                    self.assertEqual(client.open(table)[0], code)
                    found = client.lookup(table, "a" if table != THREE else "1")
                    self.assertEqual(found[0], code)

    def test_members_must_be_declared(self):
        """A member without a table section of its own is a mistake of the configuration, and the
        message says what is missing."""
        for table in (f"unionmap:{{{ONE}, {TWO}}}", f"pipemap:{{{ONE}, proxy:{TWO}}}"):
            daemon = self.jailmapd([ONE, table], start=False)
            self.check(daemon, table, 'table "inline:{a=2, c=3}"')

    def test_bad_names(self):
        """Names that hold no tables are mistakes of the configuration."""
        for name in (
            "unionmap:x",
            "unionmap:{",
            "unionmap:{}",
            "pipemap:{inline:{a=1}",
            "randmap:{}",
        ):
            daemon = self.jailmapd([ONE, name], start=False)
            self.check(daemon, name, name.partition(":")[0])

    def test_proxy_prefix(self):
        """proxy: before a member, and before the table that is asked for, means nothing."""
        table = f"unionmap:{{proxy:{ONE}, proxy:proxy:{TWO}}}"
        daemon = self.jailmapd([ONE, TWO, table])
        client = self.client(daemon)
        for name in (table, "proxy:" + table):
            self.assertEqual(client.lookup(name, "a"), (OK, b"1,2"))
        # It is another name than the one without, which is not in the policy.
        self.assertEqual(client.lookup(UNION, "a"), (DENY, b""))

    def test_order(self):
        """unionmap gives values in the order of its members, and not of their answers."""
        with servers.Socketmap({b"m a": b"OK slow"}) as maps:
            slow = maps.table("m")
            tables = [f"unionmap:{{{slow}, {ONE}}}", f"unionmap:{{{ONE}, {slow}}}"]
            daemon = self.jailmapd([slow, ONE, *tables])
            client, second = self.clients(daemon, 2)
            self.eventually(client, slow, "a", (OK, b"slow"))
            maps.hold()
            asked = maps.count()
            for one, table in zip((client, second), tables, strict=True):
                one.send(o_lookup(table, "a", 64))
            maps.wait_asked(asked + 2)
            maps.release()
            self.assertEqual(self.receive_all([client, second]), [(OK, b"slow,1"), (OK, b"1,slow")])

    def test_agent_members(self):
        """Members of all kinds, agents' and images', in unions and pipes, asked by 50 clients at
        the same time."""
        rules = f"pcre:{self.put('rules', '/^(.*)@x$/ user-$1' + chr(10))}"
        words = self.table("words", "user-a boxA\nuser-b boxB\n")
        with servers.Socketmap({b"m boxA": b"OK hostA"}) as maps:
            remote = maps.table("m")
            pipe = f"pipemap:{{{rules}, {words}, {remote}}}"
            short = f"pipemap:{{{rules}, {words}}}"
            union = f"unionmap:{{{rules}, {short}, {pipe}}}"
            daemon = self.jailmapd([rules, words, remote, pipe, short, union])
            clients = self.clients(daemon, 50)
            self.settle(clients, pipe, {"a@x": b"hostA"})
            self.settle(clients, short, {"a@x": b"boxA", "b@x": b"boxB"})
            self.settle(clients, union, {"a@x": b"user-a,boxA,hostA", "b@x": b"user-b,boxB"})
            for key in ("b@x", "c@x", "a", ""):
                self.assertEqual(clients[0].lookup(pipe, key), (NOKEY, b""), key)
            self.assertEqual(clients[0].lookup(union, "c@x"), (OK, b"user-c"))
            self.assertEqual(clients[0].lookup(union, "c"), (NOKEY, b""))

    def test_failing_member(self):
        """A member that fails makes a temporary error of every lookup that needs it, and of no
        other; when it works again, so does the composite."""
        with servers.Socketmap({b"m a": b"OK net", b"m 1": b"OK from-one"}) as maps:
            net = maps.table("m")
            union, first = f"unionmap:{{{ONE}, {net}}}", f"pipemap:{{{ONE}, {net}}}"
            last = f"pipemap:{{{net}, {ONE}}}"
            daemon = self.jailmapd([ONE, (net, {"timeout": 2}), union, first, last])
            clients = self.clients(daemon, 5)
            self.settle(clients, union, {"a": b"1,net"})
            self.settle(clients, first, {"a": b"from-one"})
            maps.stop()
            for key in ("a", "none"):
                self.assertEqual(set(self.ask_all(clients, union, [key])), {(RETRY, b"")})
                self.assertEqual(set(self.ask_all(clients, last, [key])), {(RETRY, b"")})
            self.assertEqual(clients[0].lookup(first, "a"), (RETRY, b""))
            # The first member says that there is no such key: nobody asks the second.
            self.assertEqual(clients[0].lookup(first, "none"), (NOKEY, b""))
            self.assertEqual(clients[0].lookup(ONE, "a"), (OK, b"1"))
            maps.start()
            self.settle(clients, union, {"a": b"1,net"})
            self.assertEqual(clients[0].lookup(last, "a"), (NOKEY, b""))

    def test_missing_member(self):
        """A member whose file is missing makes temporary errors, and its file mends it."""
        rules = f"regexp:{self.path('rules')}"
        words = f"hash:{self.path('words')}"
        union = f"unionmap:{{{rules}, {words}, {ONE}}}"
        daemon = self.jailmapd([rules, words, ONE, union])
        client = self.client(daemon)
        self.assertEqual(client.lookup(union, "a"), (RETRY, b""))
        self.put("rules", "/^a$/ rule\n")
        self.eventually(client, rules, "a", (OK, b"rule"))
        self.assertEqual(client.lookup(union, "a"), (RETRY, b""))
        self.table("words", "a word\n")
        self.eventually(client, union, "a", (OK, b"rule,word,1"))

    def test_waiting_holds_up_nobody(self):
        """While a composite waits for a member, other clients of the same worker go on, and its
        own client has its answers in order."""
        with servers.Socketmap({b"m a": b"OK net"}) as maps:
            net = maps.table("m")
            union = f"unionmap:{{{ONE}, {net}, {TWO}}}"
            daemon = self.jailmapd(
                [ONE, TWO, (net, {"timeout": 60}), union], socket_options={"workers": 1}
            )
            clients = self.clients(daemon, 4)
            self.settle(clients, union, {"a": b"1,net,2"})
            maps.hold()
            self.send_all(clients[:3], union, ["a"])
            clients[0].send(o_lookup(ONE, "a", 64) + o_lookup(ONE, "none", 64))
            for _ in range(100):
                self.assertEqual(clients[3].lookup(ONE, "a"), (OK, b"1"))
            self.assertEqual(self.answered(clients[:3]), 0)
            maps.release()
            self.assertEqual(set(self.receive_all(clients[:3])), {(OK, b"1,net,2")})
            self.assertEqual(clients[0].receive(), reply("status", OK, "value", "1"))
            self.assertEqual(clients[0].receive(), reply("status", NOKEY, "value", ""))

    def test_client_leaves(self):
        """Clients that leave while a composite waits for a member leave nothing behind that gives
        somebody else their answer."""
        with servers.Socketmap(other=lambda request: b"OK " + request[2:]) as maps:
            net = maps.table("m")
            pipe = f"pipemap:{{{net}, {net}}}"
            daemon = self.jailmapd([(net, {"timeout": 60}), pipe], socket_options={"workers": 1})
            stays = self.client(daemon)
            self.eventually(stays, pipe, "x", (OK, b"x"))
            maps.hold()
            for number in range(20):
                with daemon.client() as leaves:
                    leaves.send(o_lookup(pipe, f"left{number}", 64))
                    leaves.drained()
            stays.send(o_lookup(pipe, "mine", 64))
            maps.release()
            self.assertEqual(self.receive_all([stays]), [(OK, b"mine")])
            for number in range(20):
                self.assertEqual(stays.lookup(pipe, f"k{number}"), (OK, b"k%d" % number))

    def test_large_union(self):
        """Values that together are more than 256 KiB are a temporary error, not a part of them."""
        half = self.table("half", f"big {'v' * 200_000}\nsmall s\n")
        union = f"unionmap:{{{half}, {ONE}, {half}}}"
        daemon = self.jailmapd([half, ONE, union])
        client = self.client(daemon)
        self.assertEqual(client.lookup(half, "big")[0], OK)
        self.assertEqual(client.lookup(union, "big"), (RETRY, b""))
        self.assertEqual(client.lookup(union, "small"), (OK, b"s,s"))

    def test_changed_policy(self):
        """A member that is no longer approved closes the composite to that client, and with it
        back it is open again; nothing is restarted."""
        daemon = self.jailmapd([ONE, TWO, UNION], allow={"1": [UNION, ONE, TWO]})
        with daemon.client(uid=ALICE) as client:
            self.assertEqual(client.lookup(UNION, "a"), (OK, b"1,2"))
        before = proc.read(daemon.config)
        for text, code in ((before.replace(f', "{TWO}"', "", 1), DENY), (before, OK)):
            self.assertNotEqual(text, proc.read(daemon.config))
            mark = daemon.mark()
            harness.Workspace.write(daemon.directory, "jailmapd.conf", text)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_log("reloaded: ", mark)

            def as_said(code=code):
                with daemon.client(uid=ALICE) as client:
                    found = client.lookup(UNION, "a")[0]
                    self.assertIn(found, (OK, DENY))
                    return found == code

            wait_for(as_said, "the new policy to hold")


class SmallTest(TableCase):
    """randmap, fail and environ."""

    def test_environment(self):
        """environ: knows nothing of the environment that the daemon was started with, and no
        process of the jail has it in memory; what `set` says it knows."""
        secret, name = secrets.token_hex(12), "JM_SECRET_VARIABLE"
        empty, full = "environ:none", "environ:some"
        tables = [empty, (full, {"set": ["ONE=1", "TWO=two = 2", "EMPTY="]}), FAST]
        daemon = self.jailmapd(tables, start=False)
        daemon.start(env={name: secret, "ONE": "of the monitor", "LANG": "C"})
        client = self.client(daemon)
        for key in (name, "PATH", "LANG", "ONE", "HOME", "", "x"):
            self.assertEqual(client.lookup(empty, key), (NOKEY, b""), key)
        for key in (name, "PATH", "LANG"):
            self.assertEqual(client.lookup(full, key), (NOKEY, b""), key)
        self.assertEqual(client.lookup(full, "ONE"), (OK, b"1"))
        self.assertEqual(client.lookup(full, "TWO"), (OK, b"two = 2"))
        self.assertEqual(client.lookup(full, "EMPTY")[0], OK)
        for pid, program in self.everyone(daemon).items():
            if pid != daemon.pid and proc.alive(pid):
                self.assertNotIn(secret.encode(), proc.memory(pid), program)
                self.assertNotIn(secret, proc.read(f"/proc/{pid}/environ"), program)

    def test_fail(self):
        """fail: is a temporary error for everything, and no news in the log at each lookup."""
        daemon = self.jailmapd(["fail:x", FAST])
        client = self.client(daemon)
        mark = daemon.mark()
        for number in range(200):
            self.assertEqual(client.lookup("fail:x", f"k{number}"), (RETRY, b""))
        self.assertLess(daemon.log(mark).count("\n"), 20)
        self.assertEqual(client.lookup(FAST, "fast"), (OK, b"yes"))

    def test_random(self):
        """randmap: gives each of its values, whatever the key is and to every client; two workers
        do not give the same row of them."""
        values = [f"v{number}" for number in range(8)]
        table = f"randmap:{{{', '.join(values)}}}"
        daemon = self.jailmapd([table], allow={"1": ["*"], "2": ["*"]})
        rows = []
        for uid in (ALICE, BOB):
            client = self.client(daemon, uid=uid)
            found = [client.lookup(table, "same") for _ in range(300)]
            self.assertEqual({code for code, _ in found}, {OK})
            self.assertEqual({value.decode() for _, value in found}, set(values))
            rows.append(found)
        self.assertNotEqual(*rows)

    def test_options_that_mean_nothing(self):
        """Options of agents on tables that no agent answers are mistakes, by name."""
        for table, options in (
            ("fail:x", {"processes": 2}),
            ("randmap:{a}", {"timeout": 2}),
            (UNION, {"cache-ttl": 2}),
            ("environ:x", {"queue": 2}),
            ("inline:{a=b}", {"set": ["A=B"]}),
            ("pcre:/x", {"database": "/x"}),
        ):
            tables = [table for table in (ONE, TWO) if table in UNION]
            daemon = self.jailmapd([*tables, (table, options)], start=False)
            code, _, errors = harness.run([harness.workspace().jailmapd, "-n", "-c", daemon.config])
            self.assertNotEqual(code, 0, table)
            self.assertIn(next(iter(options)), errors)
