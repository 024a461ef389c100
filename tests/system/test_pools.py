"""Pools of agents: a slow answer holds up nobody else, a full queue and a time-out are temporary
errors for those whom they meet, agents that die or hang are made up for, and a name service that
blocks blocks only those who ask it.

Runs as root inside tests/system/run. The slow server is a thread of the test, which answers when
the test says so: what comes before what is known, and nothing depends on how long it takes.
"""

import re
import signal
import threading

import harness
import nameservice
import proc
import servers
from protocol import NOKEY, OK, RETRY, o_lookup, reply
from table_case import FAST, TableCase
from test_unix import USERS, UnixCase
from waiting import wait_for

ALICE, BOB = 1, 2


class PoolTest(TableCase):
    """A table behind a socketmap server that can be held, and others."""

    def setUp(self):
        super().setUp()
        self.maps = servers.Socketmap(other=lambda request: b"OK <" + request[2:] + b">").start()
        self.addCleanup(self.maps.stop)
        self.name = self.maps.table("m")

    def serve(self, *others, **options):
        daemon = self.jailmapd(
            [(self.name, {"processes": 4, "timeout": 60, **options}), FAST, *others],
            socket_options={"workers": 1},
        )
        self.settle([self.client(daemon)], self.name, {"first": b"<first>"})
        return daemon

    def test_slow_table(self):
        """50 clients wait for a table whose server says nothing yet. 50 others ask a hash table
        and tables of other agents, thousands of times, and all have their answers before any of
        the first has one; then these get theirs."""
        hashed = self.table("hash", "key value\n")
        rules = f"pcre:{self.put('rules', '/^key$/ rule' + chr(10))}"
        daemon = self.serve(hashed, rules)
        slow, quick = self.clients(daemon, 50), self.clients(daemon, 50)
        self.settle(quick, rules, {"key": b"rule"})
        self.maps.hold()
        asked = self.maps.count()
        self.send_all(slow, self.name, [f"k{number}" for number in range(50)])
        self.maps.wait_asked(asked + 4)
        for _ in range(30):
            self.assertEqual(set(self.ask_all(quick, hashed, ["key"])), {(OK, b"value")})
            self.assertEqual(set(self.ask_all(quick, hashed, ["none"])), {(NOKEY, b"")})
            self.assertEqual(set(self.ask_all(quick, rules, ["key"])), {(OK, b"rule")})
        # Each agent has one query in hand, and the rest waits.
        self.assertEqual(self.maps.count(), asked + 4)
        self.assertEqual(self.answered(slow), 0)
        self.maps.release()
        self.assertEqual(self.receive_all(slow), [(OK, b"<k%d>" % number) for number in range(50)])

    def test_one_slow_key(self):
        """A key whose answer takes long takes one agent; other keys of the same table go on."""
        stuck = threading.Event()
        self.addCleanup(stuck.set)
        self.maps.answers[b"m stuck"] = lambda request: stuck.wait() and b"OK late"
        daemon = self.serve()
        clients = self.clients(daemon, 23)
        self.settle(clients, self.name, {"x": b"<x>"})
        self.send_all(clients[:3], self.name, ["stuck"])
        self.maps.wait_asked(3, b"m stuck")
        for number in range(20):
            found = self.ask_all(clients[3:], self.name, [f"k{number}"])
            self.assertEqual(set(found), {(OK, b"<k%d>" % number)})
        self.assertEqual(self.answered(clients[:3]), 0)
        stuck.set()
        self.assertEqual(set(self.receive_all(clients[:3])), {(OK, b"late")})

    def test_order_of_one_client(self):
        """Answers come in any order, and a client has its own in order: slow and quick ones."""
        stuck = threading.Event()
        self.addCleanup(stuck.set)
        self.maps.answers[b"m stuck"] = lambda request: stuck.wait() and b"OK late"
        daemon = self.serve()
        client, other = self.clients(daemon, 2)
        client.send(
            o_lookup(self.name, "stuck", 64)
            + o_lookup(FAST, "fast", 64)
            + o_lookup(self.name, "x", 64)
            + o_lookup(FAST, "none", 64)
        )
        self.maps.wait_asked(1, b"m stuck")
        self.assertEqual(other.lookup(self.name, "y"), (OK, b"<y>"))
        self.assertEqual(self.answered([client]), 0)
        stuck.set()
        for code, value in ((OK, "late"), (OK, "yes"), (OK, "<x>"), (NOKEY, "")):
            self.assertEqual(client.receive(), reply("status", code, "value", value))

    def test_full_queue(self):
        """With the queue full a lookup is a temporary error at once, while those before it still
        wait; when there is room, lookups are answered again. The log has a line for each."""
        daemon = self.serve(processes=1, queue=5)
        mark = daemon.mark()
        waiting, refused = self.clients(daemon, 5), self.clients(daemon, 20)
        self.maps.hold()
        asked = self.maps.count()
        self.send_all(waiting, self.name, [f"w{number}" for number in range(5)])
        for client in waiting:
            client.drained()
        self.maps.wait_asked(asked + 1)
        for _ in range(3):
            self.assertEqual(set(self.ask_all(refused, self.name, ["r"])), {(RETRY, b"")})
            self.assertEqual(set(self.ask_all(refused, FAST, ["fast"])), {(OK, b"yes")})
        self.assertEqual(self.answered(waiting), 0)
        self.maps.release()
        self.assertEqual(
            self.receive_all(waiting), [(OK, b"<w%d>" % number) for number in range(5)]
        )
        self.assertEqual(self.maps.count(b"m r"), 0)
        self.assertEqual(refused[0].lookup(self.name, "r"), (OK, b"<r>"))
        self.told(daemon, mark, "its queue of 5 is full", 60)

    def told(self, daemon, mark, why, count):
        """The log says once that lookups had no answer, and why, and once that they have again."""
        table = re.escape(self.name)
        daemon.wait_log(rf'table "{table}": lookups of uid 0 on \S+ have answers again, after {count} ', mark)
        lines = [line for line in daemon.log(mark).splitlines() if ": lookups of uid" in line]
        self.assertEqual(len(lines), 2, lines)
        self.assertIn(f"get a temporary error: {why}", lines[0])

    def test_time_out(self):
        """A lookup that is not answered in time is a temporary error for its client, others have
        answers meanwhile, and the answer that comes late is nobody's."""
        stuck = threading.Event()
        self.addCleanup(stuck.set)
        self.maps.answers[b"m stuck"] = lambda request: stuck.wait() and b"OK late"
        daemon = self.serve(timeout=2)
        client, other = self.clients(daemon, 2)
        self.settle(self.clients(daemon, 10), self.name, {"x": b"<x>"})
        client.send(o_lookup(self.name, "stuck", 64))
        self.maps.wait_asked(1, b"m stuck")
        for number in range(50):
            self.assertEqual(other.lookup(self.name, f"o{number}"), (OK, b"<o%d>" % number))
        self.assertEqual(self.receive_all([client]), [(RETRY, b"")])
        stuck.set()
        for number in range(50):
            for one in (client, other):
                found = one.lookup(self.name, f"p{number}")
                self.assertIn(found, ((OK, b"<p%d>" % number), (RETRY, b"")))
        self.eventually(client, self.name, "stuck", (OK, b"late"))

    def test_users_share(self):
        """A user who asks much does not push out another: the other's lookup is next but a few,
        though dozens were there before it."""
        daemon = self.jailmapd(
            [(self.name, {"processes": 1, "timeout": 60})], allow={"1": ["*"], "2": ["*"]}
        )
        alice = [self.client(daemon, uid=ALICE) for _ in range(50)]
        bob = self.client(daemon, uid=BOB)
        self.settle(alice[:1], self.name, {"a": b"<a>"})
        self.settle([bob], self.name, {"b": b"<b>"})
        self.maps.hold()
        before = self.maps.count()
        self.send_all(alice, self.name, [f"alice{number}" for number in range(50)])
        for client in alice:
            client.drained()
        self.maps.wait_asked(before + 1)
        bob.send(o_lookup(self.name, "bob", 64))
        bob.drained()
        # Both workers have sent what they have when these come back.
        self.maps.release()
        self.assertEqual(self.receive_all([bob]), [(OK, b"<bob>")])
        self.assertEqual({code for code, _ in self.receive_all(alice)}, {OK})
        self.assertLess(self.maps.asked.index(b"m bob") - before, 40)

    def test_agents_killed(self):
        """Agents are killed one after the other under load: no answer is wrong, the pool is full
        again each time, and the clients stay connected."""
        daemon = self.serve(timeout=5)
        expected = {(self.name, f"k{n}"): (OK, b"<k%d>" % n) for n in range(5)}
        askers = [self.asker(daemon, expected) for _ in range(4)]
        for turn in range(6):
            for asker in askers:
                asker.progress(20)
            harness.kill(self.pool(daemon, "net", 4)[turn % 4])
        for asker in askers:
            asker.progress(50)
            self.assertEqual(asker.finish(), [])
            self.assertEqual(asker.reconnects, 0)

    def test_only_agent_killed(self):
        """The only agent of a table is killed: the log says that once, and once that there is one
        again."""
        daemon = self.serve(processes=1)
        clients = self.clients(daemon, 5)
        self.settle(clients, self.name, {"x": b"<x>"})
        mark = daemon.mark()
        (agent,) = self.pool(daemon, "net", 1)
        harness.kill(agent)
        daemon.wait_log(rf'table "{re.escape(self.name)}" has an agent again', mark)
        self.settle(clients, self.name, {"x": b"<x>"})
        log = daemon.log(mark)
        self.assertEqual(log.count(f"agent pid {agent} for table"), 1, log)
        self.assertEqual(log.count("has an agent again"), 1, log)

    def test_agent_killed_with_a_query(self):
        """An agent that dies with a query in hand costs that query, and those behind it are
        answered by the others."""
        stuck = threading.Event()
        self.addCleanup(stuck.set)
        self.maps.answers[b"m stuck"] = lambda request: stuck.wait() and b"OK late"
        daemon = self.serve(processes=1, timeout=4)
        first, *behind = self.clients(daemon, 6)
        first.send(o_lookup(self.name, "stuck", 64))
        self.maps.wait_asked(1, b"m stuck")
        self.send_all(behind, self.name, ["x"])
        (agent,) = self.pool(daemon, "net", 1)
        harness.kill(agent)
        self.assertEqual(self.receive_all([first]), [(RETRY, b"")])
        for answer in self.receive_all(behind):
            self.assertIn(answer, ((OK, b"<x>"), (RETRY, b"")))
        self.settle(behind, self.name, {"x": b"<x>"})

    def test_all_stopped(self):
        """With all agents stopped, lookups are temporary errors after the time-out and other tables
        go on; when the agents go on, so do answers. The log has a line for each."""
        daemon = self.serve(processes=2, timeout=1)
        mark = daemon.mark()
        clients = self.clients(daemon, 10)
        self.settle(clients, self.name, {"x": b"<x>"})
        agents = self.pool(daemon, "net", 2)
        for pid in agents:
            self.pause(pid)
        self.send_all(clients, self.name, ["x"])
        with daemon.client() as other:
            for _ in range(50):
                self.assertEqual(other.lookup(FAST, "fast"), (OK, b"yes"))
        self.assertEqual(set(self.receive_all(clients)), {(RETRY, b"")})
        for pid in agents:
            self.let_go(pid)
        self.settle(clients, self.name, {"x": b"<x>"})
        self.told(daemon, mark, "no answer within 1 s", r"\d+")

    def test_size_changed(self):
        """`processes` is changed with a reload: the pool has the new size, and no client sees
        anything but right answers."""
        daemon = self.serve(processes=2)
        text = proc.read(daemon.config)
        asker = self.asker(daemon, {(self.name, "x"): (OK, b"<x>"), (FAST, "fast"): (OK, b"yes")})
        for size in (5, 1, 3):
            mark = daemon.mark()
            harness.Workspace.write(
                daemon.directory,
                "jailmapd.conf",
                re.sub(r"processes = \d+", f"processes = {size}", text),
            )
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_log("reloaded: ", mark)
            self.pool(daemon, "net", size)
            asker.progress(20)
        self.assertEqual(asker.finish(), [])
        self.assertEqual((asker.retried, asker.reconnects), ([], 0))

    def test_ends_with_the_daemon(self):
        """Agents in the middle of a query, and dialers, end when the daemon is stopped, and when
        it is killed."""
        for ended in (signal.SIGTERM, signal.SIGKILL):
            daemon = self.serve()
            clients = self.clients(daemon, 4)
            self.maps.hold()
            asked = self.maps.count()
            self.send_all(clients, self.name, ["x"])
            self.maps.wait_asked(asked + 4)
            below = proc.snapshot(daemon.pid)
            daemon.process.send_signal(ended)
            harness.wait_exit(daemon.process, "the daemon to end")
            harness.wait_ended(below, "its agents and dialers to end")
            daemon.process = None
            self.maps.release()

    def test_bad_numbers(self):
        """Numbers of pools that are none, or out of range, are mistakes of the configuration."""
        for option, value in (
            ("processes", 0),
            ("processes", 65),
            ("timeout", 0),
            ("timeout", 3601),
            ("queue", 0),
            ("queue", 1_000_001),
            ("cache-size", 0),
            ("cache-size", 4097),
            ("processes", "many"),
        ):
            daemon = self.jailmapd([(self.name, {option: value})], start=False)
            code, _, errors = harness.run([harness.workspace().jailmapd, "-n", "-c", daemon.config])
            self.assertNotEqual(code, 0, option)
            self.assertIn(option, errors)


class BlockingNameServiceTest(UnixCase, TableCase):
    """A name service that blocks, and one that is libnss-extrausers."""

    def test_blocked(self):
        """A module that blocks for some names takes an agent for each, and no more: other users
        are found meanwhile, by the module and from the files; the blocked lookups are temporary
        errors after the time-out, and when the module goes on all is as before."""
        daemon = self.jailmapd([(USERS, {"processes": 4, "timeout": 2}), FAST], start=False)
        daemon.start(wrap=nameservice.switched())  # Its nsswitch.conf is what the module looks at.
        clients = self.clients(daemon, 12)
        self.settle(clients, USERS, {"nss-user-7": nameservice.user(7)})
        blocked, others = clients[:2], clients[2:]
        self.send_all(blocked, USERS, ["nss-wait"])
        for _ in range(20):
            found = self.ask_all(others, USERS, ["nss-user-8"])
            self.assertEqual(set(found), {(OK, nameservice.user(8))})
            found = self.ask_all(others, USERS, ["root"])
            self.assertEqual({code for code, _ in found}, {OK})
            self.assertEqual(set(self.ask_all(others, USERS, ["nss-absent"])), {(NOKEY, b"")})
        self.assertEqual(set(self.receive_all(blocked)), {(RETRY, b"")})
        nameservice.change_mode(daemon.pid)
        self.settle(clients, USERS, {"nss-user-9": nameservice.user(9)})
        self.assertEqual(blocked[0].lookup(USERS, "nss-absent"), (NOKEY, b""))

    def test_all_blocked(self):
        """With all agents blocked, lookups that need them are temporary errors, users of the files
        and other tables are found; killed agents make it good."""
        daemon = self.jailmapd([(USERS, {"processes": 2, "timeout": 1}), FAST], start=False)
        daemon.start(wrap=nameservice.switched())
        clients = self.clients(daemon, 6)
        self.settle(clients, USERS, {"nss-user-7": nameservice.user(7)})
        self.send_all(clients[:2], USERS, ["fault-hang"])
        self.assertEqual(set(self.receive_all(clients[:2])), {(RETRY, b"")})
        found = self.ask_all(clients, USERS, ["nss-user-8"])
        self.assertLessEqual(set(found), {(RETRY, b""), (OK, nameservice.user(8))})
        self.assertEqual({code for code, _ in self.ask_all(clients, USERS, ["root"])}, {OK})
        self.assertEqual(set(self.ask_all(clients, FAST, ["fast"])), {(OK, b"yes")})
        for pid in daemon.roles()["agent"]:
            harness.kill(pid)
        self.settle(clients, USERS, {"nss-user-8": nameservice.user(8)})

    def test_extrausers(self):
        """Users of libnss-extrausers are found by 60 clients at once; a change of its file is seen
        at the next lookup."""
        self.switch("files extrausers")
        lines = [f"extra{n}:x:{70_000 + n}:{70_000 + n}:E {n}:/:/bin/sh" for n in range(20)]
        harness.Workspace.write(self.extra, "passwd", "".join(line + "\n" for line in lines))
        daemon = self.daemon([(USERS, {"processes": 3}), FAST])
        clients = self.clients(daemon, 60)
        expected = {line.partition(":")[0]: line.encode() for line in lines}
        for _ in range(3):
            self.settle(clients, USERS, expected)
        for key in ("extra20", "nobody-at-all", "extra"):
            self.assertEqual(clients[0].lookup(USERS, key), (NOKEY, b""))
        daemon.wait_roles("agent", 3)
        with open(f"{self.extra}/passwd", "a", encoding="ascii") as file:
            file.write("extra20:x:70020:70020::/:/bin/sh\n")
        right = OK, b"extra20:x:70020:70020::/:/bin/sh"
        wait_for(lambda: clients[0].lookup(USERS, "extra20") == right, "the new user to be found")
