"""Tables that agents answer, and those that a worker makes of others, as the worker serves them:
answers in any order, time-outs, queues, what is kept, and tables that go while somebody waits.

Runs inside tests/system/run. The worker is real and alone: see lone_worker.py.
"""

import os
import struct
import unittest

import lone_worker
from harness import workspace
from lone_worker import (
    ANSWER_CONFIG,
    ANSWER_RETRY,
    FIXED,
    FOLDS_MUL,
    FOLD_FIX,
    FOLD_MUL,
    NOT_FOUND,
    NO_REGSUB,
    NO_UNAUTH,
    UNAUTH,
)
from protocol import CONFIG, DENY, NOKEY, OK, RETRY, n_lookup
from waiting import wait_for

A, B, C = "pcre:/a", "mysql:/b", "cidr:/c"


class LinksTest(unittest.TestCase):
    """One worker for each test."""

    def worker(self, **options):
        program = os.path.join(workspace().libexec, "jailmap-worker")
        worker = lone_worker.LoneWorker(program, **options)
        self.addCleanup(worker.close)
        return worker

    def client(self, worker):
        client = worker.client()
        self.addCleanup(client.close)
        return client

    def granted(self, worker, *tables, **use):
        """Agents of these tables, which are asked for by a lookup that they answer."""
        agents = []
        client = self.client(worker)
        for index, table in enumerate(tables):
            client.begin(table, b"first")
            self.assertEqual(worker.asked(), table)
            agent = worker.link(table, index=index, **use)
            self.addCleanup(agent.close)
            agent.answer(agent.query()[0], NOT_FOUND)
            self.assertEqual(client.end(), (NOKEY, b""))
            agents.append(agent)
        client.close()
        return agents

    def composite(self, worker, client, name, key=b"key", **use):
        """Has begun a lookup in a composite of which the worker has not heard yet."""
        client.begin(name, key)
        self.assertEqual(worker.asked(), name)
        worker.kind(name, index=7, **use)

    def test_any_order(self):
        """Agents answer in any order; each client has its own answer, and its own in order."""
        worker = self.worker()
        (agent,) = self.granted(worker, A)
        clients = [self.client(worker) for _ in range(20)]
        queries = {}
        for number, client in enumerate(clients):
            client.begin(A, b"key%d" % number)
            client.begin(A, b"more%d" % number)
        for _ in clients:
            number, _, key = agent.query()
            queries[key] = number
        self.assertEqual(len(queries), 20)
        for key, number in sorted(queries.items(), reverse=True):
            agent.answer(number, value=b"of " + key)
        for number, client in enumerate(clients):
            self.assertEqual(client.end(), (OK, b"of key%d" % number))
        for _ in clients:
            number, _, key = agent.query()
            agent.answer(number, value=b"of " + key)
        for number, client in enumerate(clients):
            self.assertEqual(client.end(), (OK, b"of more%d" % number))

    def test_statuses(self):
        """Each status of an agent is that of the lookup."""
        worker = self.worker()
        (agent,) = self.granted(worker, A)
        client = self.client(worker)
        for status, expected in (
            (NOT_FOUND, NOKEY),
            (ANSWER_RETRY, RETRY),
            (ANSWER_CONFIG, CONFIG),
            (9, RETRY),
        ):
            client.begin(A, b"key")
            agent.answer(agent.query()[0], status)
            self.assertEqual(client.end(), (expected, b""))

    def test_flags(self):
        """Agents see the flags of the request; keys are folded as the table's type has it; who may
        not trust a server that anybody may be is refused."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, features=FOLDS_MUL)
        (fixed,) = self.granted(worker, B, flags=FIXED)
        (anybody,) = self.granted(worker, "tcp:h:1", features=UNAUTH)
        client = self.client(worker)
        for who, table, flags, key in (
            (agent, A, FOLD_FIX, b"Key"),
            (agent, A, FOLD_MUL | NO_REGSUB, b"key"),
            (fixed, B, FOLD_FIX, b"key"),
            (fixed, B, FOLD_MUL, b"Key"),
            (anybody, "tcp:h:1", 0, b"Key"),
        ):
            client.begin(table, b"Key", flags)
            number, seen, asked = who.query()
            self.assertEqual((seen, asked), (flags, key))
            who.answer(number, value=b"x")
            self.assertEqual(client.end(), (OK, b"x"))
        self.assertEqual(client.lookup("tcp:h:1", "Key", NO_UNAUTH), (RETRY, b""))
        client.send(n_lookup("tcp:h:1", "Key", NO_UNAUTH, 0))
        self.assertEqual(client.receive(), b"status\0002\0flags\0000\0value\0\0\0")
        self.assertTrue(anybody.idle())

    def test_timeout(self):
        """An answer that does not come in the table's time is a temporary error; when it comes
        after all, nobody has it."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, timeout=1)
        client = self.client(worker)
        client.begin(A, b"key")
        number = agent.query()[0]
        self.assertEqual(client.end(), (RETRY, b""))
        agent.answer(number, value=b"late")
        client.begin(A, b"other")
        second = agent.query()[0]
        agent.answer(number, value=b"later")
        agent.answer(second, value=b"right")
        self.assertEqual(client.end(), (OK, b"right"))

    def test_timeout_of_all(self):
        """A table's time is no longer than what an answer may take at all, members together."""
        worker = self.worker(answer_timeout=1)
        self.granted(worker, A, timeout=3600)
        client = self.client(worker)
        self.assertEqual(client.lookup(A, "key"), (RETRY, b""))
        self.composite(worker, client, f"unionmap:{{{A}}}", timeout=3600)
        self.assertEqual(client.end(), (RETRY, b""))

    def test_queue(self):
        """Beyond the queue there is a temporary error at once; queries whose client has gone count
        until they are answered."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, queue=2)
        one, two, three = (self.client(worker) for _ in range(3))
        one.begin(A, b"1")
        two.begin(A, b"2")
        numbers = [agent.query()[0], agent.query()[0]]
        self.assertEqual(three.lookup(A, "3"), (RETRY, b""))
        two.close()
        self.assertEqual(three.lookup(A, "3"), (RETRY, b""))
        self.assertEqual(worker.counts(0)["refused"], 2)
        self.assertEqual(worker.counts(0)["errors"], 2)
        agent.answer(numbers[1])
        wait_for(lambda: self.is_asked(three, agent), "room in the queue")
        agent.answer(numbers[0], value=b"first")
        self.assertEqual(one.end(), (OK, b"first"))

    def is_asked(self, client, agent):
        """Whether a lookup of this client goes to the agent, which answers it."""
        client.begin(A, b"3")
        if wait_for(lambda: not agent.idle() or client_has_answer(client), "an answer") == "answer":
            self.assertEqual(client.end(), (RETRY, b""))
            return False
        agent.answer(agent.query()[0], value=b"third")
        self.assertEqual(client.end(), (OK, b"third"))
        return True

    def test_silent_agent(self):
        """An agent that takes queries and answers none does not close the queue for ever."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, queue=1, timeout=1)
        client = self.client(worker)
        client.begin(A, b"key")
        agent.query()
        self.assertEqual(client.end(), (RETRY, b""))
        wait_for(lambda: self.is_asked(client, agent), "the query to be forgotten")

    def test_full_link(self):
        """When agents take nothing, whoever waits for them to do so has a temporary error in time,
        and counts in the queue; when they do, all that wait are asked for."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, timeout=2, queue=40)
        clients = [self.client(worker) for _ in range(42)]
        for client in clients:
            client.begin(A, b"k" * 60000)
        for client in clients:
            self.assertEqual(client.end(), (RETRY, b""))
        self.assertEqual(worker.counts(0)["refused"], 2)
        clients = [self.client(worker) for _ in range(12)]
        worker.kind(A, lone_worker.LINK, timeout=60)
        for number, client in enumerate(clients):
            client.begin(A, b"%d" % number)
        seen = {}
        while len(seen) < len(clients):
            number, _, key = agent.query()
            agent.answer(number, value=key)
            if len(key) < 100:
                seen[key] = number
        for number, client in enumerate(clients):
            self.assertEqual(client.end(), (OK, b"%d" % number))

    def test_not_another_tables(self):
        """The agents of one table cannot answer for another's."""
        worker = self.worker()
        agent, other = self.granted(worker, A, B)
        client = self.client(worker)
        client.begin(A, b"key")
        number = agent.query()[0]
        other.answer(number, value=b"forged")
        bystander = self.client(worker)
        bystander.begin(B, b"key")
        query = other.query()[0]
        other.answer(query, value=b"own")
        self.assertEqual(bystander.end(), (OK, b"own"))
        agent.answer(number, value=b"right")
        self.assertEqual(client.end(), (OK, b"right"))

    # ---- what is kept ----

    def test_kept(self):
        """What agents have said is kept, exactly, and counted; temporary errors are not."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, ttl=3600, negative=3600, features=FOLDS_MUL)
        client = self.client(worker)

        def ask(key, status, value=b"", flags=0):
            client.begin(A, key, flags)
            agent.answer(agent.query()[0], status, value)
            return client.end()

        self.assertEqual(ask(b"key", lone_worker.FOUND, b"value"), (OK, b"value"))
        self.assertEqual(ask(b"none", NOT_FOUND), (NOKEY, b""))
        for _ in range(3):
            self.assertEqual(client.lookup(A, "key", 0), (OK, b"value"))
            self.assertEqual(client.lookup(A, "none", 0), (NOKEY, b""))
        self.assertEqual(client.lookup(A, "KEY", FOLD_MUL), (OK, b"value"))
        self.assertEqual(ask(b"KEY", NOT_FOUND), (NOKEY, b""))
        self.assertEqual(ask(b"key", NOT_FOUND, flags=NO_REGSUB), (NOKEY, b""))
        self.assertEqual(client.lookup(A, "key", 0), (OK, b"value"))
        self.assertEqual(client.lookup(A, "key", NO_REGSUB), (NOKEY, b""))
        for status, expected in ((ANSWER_RETRY, RETRY), (ANSWER_CONFIG, CONFIG)):
            for _ in range(2):
                self.assertEqual(ask(b"bad", status), (expected, b""))
        self.assertEqual(
            worker.counts(0), {"hits": 6, "misses": 8, "errors": 4, "cached": 9, "refused": 0}
        )

    def test_not_kept(self):
        """Nothing is kept that is not to be: each kind of answer has its own time."""
        worker = self.worker()
        (agent,) = self.granted(worker, A)
        client = self.client(worker)
        for use, status in (({}, 1), ({}, 2), ({"ttl": 60}, 2), ({"negative": 60}, 1)):
            worker.kind(A, lone_worker.LINK, **use)
            for _ in range(2):
                client.begin(A, b"key")
                agent.answer(agent.query()[0], status, b"")
                client.end()

    def test_expires(self):
        """What is kept is asked for again after its time."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, ttl=1)
        client = self.client(worker)

        def value():
            client.begin(A, b"key")
            if wait_for(lambda: not agent.idle() or client_has_answer(client), "it") != "answer":
                agent.answer(agent.query()[0], value=b"%d" % next(values))
            return client.end()[1]

        values = iter(range(1, 100))
        self.assertEqual(value(), b"1")
        wait_for(lambda: value() != b"1", "what is kept to expire")

    def test_dropped(self):
        """Whatever the monitor says of a table, nothing that was kept before is an answer after
        it, nor what was asked before and is answered after."""
        worker = self.worker()
        (agent,) = self.granted(worker, A, ttl=3600, negative=3600)
        client, other = self.client(worker), self.client(worker)

        def ask(value):
            client.begin(A, b"key")
            agent.answer(agent.query()[0], value=value)
            self.assertEqual(client.end(), (OK, value))
            self.assertEqual(client.lookup(A, "key", 0), (OK, value))

        ask(b"1")
        worker.kind(A, lone_worker.LINK, ttl=3600)
        ask(b"2")
        worker.refuse(A, RETRY)
        self.assertEqual(client.lookup(A, "key", 0), (RETRY, b""))
        worker.kind(A, lone_worker.LINK, ttl=3600)
        ask(b"3")
        worker.recall(A)
        client.begin(A, b"key")
        agent.close()
        agent = worker.link(A, ttl=3600)
        self.addCleanup(agent.close)
        agent.answer(agent.query()[0], value=b"4")
        self.assertEqual(client.end(), (OK, b"4"))
        ours = worker.link(A, ttl=3600)
        self.addCleanup(ours.close)
        agent, _ = ours, agent.close()
        ask(b"5")
        other.begin(A, b"slow")
        slow = agent.query()[0]
        worker.kind(A, lone_worker.LINK, ttl=3600)
        client.begin(A, b"key")
        agent.answer(agent.query()[0], value=b"6")
        self.assertEqual(client.end(), (OK, b"6"))
        agent.answer(slow, value=b"old")
        self.assertEqual(other.end(), (OK, b"old"))
        client.begin(A, b"slow")
        agent.answer(agent.query()[0], value=b"new")
        self.assertEqual(client.end(), (OK, b"new"))

    # ---- tables that the worker answers ----

    def test_names(self):
        """fail: fails, randmap: chooses, and whoever opens them is told their flags."""
        worker = self.worker()
        client = self.client(worker)
        self.composite(worker, client, "fail:whatever")
        self.assertEqual(client.end(), (RETRY, b""))
        self.assertEqual(client.open("fail:whatever"), (OK, 32))
        self.composite(worker, client, "randmap:{a,{b c}}")
        seen = {client.end()}
        wait_for(
            lambda: seen.add(client.lookup("randmap:{a,{b c}}", "x")) or len(seen) == 2, "both"
        )
        self.assertEqual(seen, {(OK, b"a"), (OK, b"{b c}")})

    def test_union(self):
        """A union asks each member once, waits for each, and counts as one lookup."""
        worker = self.worker()
        agent, other = self.granted(worker, A, B)
        client = self.client(worker)
        name = f"unionmap:{{{A}, proxy:{B}, pipemap:{{{A},{B}}}}}"
        self.composite(worker, client, name, b"Key")
        first = agent.query()
        self.assertEqual(first[2], b"Key")
        agent.answer(first[0], value=b"1")
        other.answer(other.query()[0], NOT_FOUND)
        inner = name[name.index("pipemap") : -1]
        self.assertEqual(worker.asked(), inner)
        worker.kind(inner, index=6)
        agent.answer(agent.query()[0], value=b"next key")
        second = other.query()
        self.assertEqual(second[2], b"next key")
        other.answer(second[0], value=b"2")
        self.assertEqual(client.end(), (OK, b"1,2"))
        self.assertTrue(agent.idle() and other.idle())
        self.assertEqual(worker.counts(7), dict.fromkeys(lone_worker.COUNTED, 0) | {"hits": 1})
        self.assertEqual(worker.counts(6), dict.fromkeys(lone_worker.COUNTED, 0))
        self.assertEqual(worker.counts(0)["hits"], 0)
        client.begin(name, b"key")
        agent.answer(agent.query()[0], NOT_FOUND)
        other.answer(other.query()[0], ANSWER_CONFIG)
        self.assertEqual(client.end(), (CONFIG, b""))

    def test_members_are_asked_for(self):
        """The worker asks the monitor about each member; one that is denied, or fails, is a
        temporary error of the composite, and no denial of it."""
        worker = self.worker()
        client = self.client(worker)
        name = f"unionmap:{{{A},{B},{C}}}"
        self.composite(worker, client, name)
        self.assertEqual(worker.asked(), A)
        agent = worker.link(A, index=0)
        self.addCleanup(agent.close)
        agent.answer(agent.query()[0], value=b"1")
        self.assertEqual(worker.asked(), B)
        worker.refuse(B)
        self.assertEqual(client.end(), (RETRY, b""))
        self.assertEqual(client.lookup(B, "x"), (DENY, b""))
        other = f"unionmap:{{{A},{C}}}"
        self.composite(worker, client, other)
        agent.answer(agent.query()[0], value=b"1")
        self.assertEqual(worker.asked(), C)
        worker.refuse(C, RETRY)
        self.assertEqual(client.end(), (RETRY, b""))
        self.assertEqual(client.open(other)[0], OK)

    def test_recalled(self):
        """A member, or the composite itself, that is taken back while somebody waits: what it has
        said is forgotten, and nothing of it is an answer."""
        worker = self.worker()
        agent, other = self.granted(worker, A, B)
        client = self.client(worker)
        name = f"unionmap:{{{A},{B}}}"
        self.composite(worker, client, name)
        agent.answer(agent.query()[0], value=b"old")
        other.query()
        worker.recall(A)
        agent.close()
        agent = worker.link(A)
        self.addCleanup(agent.close)
        agent.answer(agent.query()[0], value=b"new")
        other.answer(other.query()[0], value=b"2")
        self.assertEqual(client.end(), (OK, b"new,2"))
        client.begin(name, b"key")
        agent.answer(agent.query()[0], value=b"1")
        other.query()
        worker.recall(name)
        worker.refuse(name)
        self.assertEqual(client.end(), (DENY, b""))
        second = f"pipemap:{{{A},{B}}}"
        self.composite(worker, client, second)
        agent.answer(agent.query()[0], value=b"1")
        other.query()
        worker.recall(B)
        worker.refuse(B)
        agent.answer(agent.query()[0], value=b"1")
        self.assertEqual(client.end(), (RETRY, b""))
        self.assertTrue(worker.alive())

    def test_lost(self):
        """The link of a member is lost while somebody waits for it, and a client goes while its
        composite waits."""
        worker = self.worker()
        agent, other = self.granted(worker, A, B)
        client = self.client(worker)
        name = f"unionmap:{{{A},{B}}}"
        self.composite(worker, client, name)
        agent.answer(agent.query()[0], value=b"1")
        other.query()
        other.close()
        self.assertEqual(client.end(), (RETRY, b""))
        client.begin(name, b"key")
        number = agent.query()[0]
        client.close()
        bystander = self.client(worker)
        bystander.begin(A, b"x")
        mine = agent.query()[0]
        agent.answer(number, value=b"for nobody")
        agent.answer(mine, value=b"mine")
        self.assertEqual(bystander.end(), (OK, b"mine"))

    def image(self, table):
        made = lone_worker.image(os.path.join(workspace().libexec, "jailmap-loader"), table)
        self.addCleanup(os.close, made)
        return made

    def test_image_and_agent(self):
        """An image first, and then what is kept, and then agents; as a member, too. When these are
        lost, the image goes on."""
        worker = self.worker()
        client = self.client(worker)
        table, users = "unix:passwd.byname", f"unionmap:{{unix:passwd.byname,{A}}}"
        made = self.image("inline:{here=i,both=i}")
        client.begin(table, b"here")
        self.assertEqual(worker.asked(), table)
        agent = worker.link(table, flags=FIXED, answered_by=lone_worker.BOTH)
        self.addCleanup(agent.close)
        worker.image(table, made, lone_worker.BOTH, ttl=60, negative=60)
        self.assertEqual(client.end(), (OK, b"i"))
        client.begin(table, b"there")
        agent.answer(agent.query()[0], value=b"a")
        self.assertEqual(client.end(), (OK, b"a"))
        client.begin(table, b"nowhere")
        agent.answer(agent.query()[0], NOT_FOUND)
        self.assertEqual(client.end(), (NOKEY, b""))
        self.assertEqual(client.lookup(table, "there", 0), (OK, b"a"))
        self.assertEqual(client.lookup(table, "nowhere", 0), (NOKEY, b""))
        (other,) = self.granted(worker, A)
        self.composite(worker, client, users, b"here")
        other.answer(other.query()[0], value=b"o")
        self.assertEqual(client.end(), (OK, b"i,o"))
        client.begin(users, b"there")
        other.answer(other.query()[0], value=b"o")
        self.assertEqual(client.end(), (OK, b"a,o"))
        client.begin(users, b"both2")
        number = agent.query()[0]
        worker.image(table, self.image("inline:{both2=late,here=j}"), lone_worker.BOTH)
        agent.answer(number, NOT_FOUND)
        other.answer(other.query()[0], value=b"o")
        self.assertEqual(client.end(), (OK, b"late,o"))
        client.begin(users, b"there")
        agent.query()
        agent.close()
        self.assertEqual(client.end(), (RETRY, b""))
        client.begin(users, b"here")
        other.answer(other.query()[0], value=b"o")
        self.assertEqual(client.end(), (OK, b"j,o"))
        self.assertEqual(client.lookup(table, "there", 0), (RETRY, b""))

    def test_image_goes(self):
        """An image that is taken away after it has answered as a member: what it said stays one
        piece with the rest."""
        worker = self.worker()
        client = self.client(worker)
        (agent,) = self.granted(worker, A)
        table, made = "inline:{k=old}", self.image("inline:{k=old}")
        self.composite(worker, client, f"unionmap:{{{table},{A}}}", b"k")
        self.assertEqual(worker.asked(), table)
        worker.image(table, made)
        number = agent.query()[0]
        worker.image(table, self.image("inline:{k=new}"))
        agent.answer(number, value=b"2")
        self.assertEqual(client.end(), (OK, b"old,2"))
        client.begin(f"unionmap:{{{table},{A}}}", b"k")
        agent.answer(agent.query()[0], value=b"2")
        self.assertEqual(client.end(), (OK, b"new,2"))

    def test_bounded(self):
        """What a composite has gathered counts as pending: a client beyond that is closed, and no
        other."""
        worker = self.worker(max_pending=1 << 20)
        agent, other = self.granted(worker, A, B)
        client, bystander = self.client(worker), self.client(worker)
        name = "unionmap:{" + ",".join([A] * 20) + "}"
        client.begin(name, b"key")
        self.assertEqual(worker.asked(), name)
        worker.kind(name, index=7)
        for _ in range(20):
            wait_for(lambda: not agent.idle() or is_closed(client), "a query or the end")
            if agent.idle():
                break
            agent.answer(agent.query()[0], value=b"v" * 200000)
        self.assertEqual(client.receive_all(), b"")
        bystander.begin(B, b"key")
        other.answer(other.query()[0], value=b"still")
        self.assertEqual(bystander.end(), (OK, b"still"))

    def test_page(self):
        """The counters have the layout that the census expects."""
        worker = self.worker()
        self.granted(worker, A)
        magic = struct.unpack("=Q", os.pread(worker.page, 8, 0))[0]
        self.assertEqual(magic, 0x336E636A)
        self.assertEqual(worker.counts(0)["misses"], 1)


def client_has_answer(client):
    """Whether something is there to be read."""
    return lone_worker.select.select([client.socket], [], [], 0)[0] and "answer"


def is_closed(client):
    return bool(client_has_answer(client))
