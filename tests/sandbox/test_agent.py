"""A name service agent that a module has taken over: what it tries to reach, and what it tells the
monitor and the workers.

An agent that dies is followed by another, each time after a longer while, so the attempts take turns
among several daemons with two agents each.
"""

import itertools

import arena
import case
import harness
import nameservice
import proc
from case import SandboxCase, add_system_tests
from protocol import OK, RETRY, o_lookup
from waiting import wait_for

DAEMONS = 6
TABLES = ("unix:passwd.byname", "unix:group.byname")


class AgentCase(SandboxCase):
    """Orders to agents, by turns."""

    bare = False
    count = DAEMONS

    @classmethod
    def setUpClass(cls):
        known = cls.targets()
        cls.turns = []
        for _ in range(cls.count):
            place = cls.arena(
                "jailmap-agent-nss",
                bare=cls.bare,
                tables=TABLES,
                wrap=nameservice.switched(),
                options={"answer-timeout": 2},
            )
            agents = place.daemon.wait_roles("agent", 2)
            words = case.words_for(place, known, agents[0])
            cls.turns += [(place, words, table) for table in TABLES]
        cls.places = cls.turns
        cls.turns = itertools.cycle(cls.turns[::2] + cls.turns[1::2])

    @staticmethod
    def agent_of(place, table):
        """The agent of a table, once there is one."""
        return wait_for(lambda: place.titled(f"jailmap-agent-nss: {table}"), f"the agent of {table}")

    def order(self, text, look=None):
        """Gives an order to the next agent; returns what came of it."""
        place, words, table = next(self.turns)
        place.bystander.served()
        pid = self.agent_of(place, table)
        words["sibling"] = self.agent_of(place, TABLES[table == TABLES[0]])
        words["inside"] = case.inside(words["sibling"])
        mark = place.daemon.mark()
        client = place.regular()
        wait_for(lambda: client.lookup(table, "fault-none")[0] != RETRY, "the agent to answer")
        client.send(o_lookup(table, "attack:" + text.format(**words), arena.PLAIN))
        outcome = (look or self.reported)(place, pid, mark, client, table)
        place.vital()
        return outcome

    def reported(self, place, pid, mark, client, _table):
        """Its answer, or how it died."""
        status, value = client.call(b"")
        if status == OK:
            return value.decode()
        return self.death(place, pid, mark)

    @staticmethod
    def death(place, pid, mark):
        match = place.daemon.wait_log(rf"agent pid {pid} for table \S+ died: (.*); the next", since=mark)
        case.wait_gone(pid)
        return match.group(1)

    def attempt(self, one):
        return self.order(one.order)

    def ended(self, order, reason):
        """An order after which the monitor must end the agent, for that reason."""

        def look(place, pid, mark, client, _table):
            status, value = client.call(b"")
            self.assertIn(status, (OK, RETRY))
            if case.REFUSED in reason and value == b"EPERM":
                return value.decode()
            return self.death(place, pid, mark)

        how = self.order(order, look)
        self.outcome = f"ended by the monitor: {how}"
        if how == "EPERM":
            self.outcome = f"refused by the kernel: {how}"
        self.assertRegex(how, reason)


@add_system_tests("agent", "An agent that was taken over", bare=False)
class FilteredTest(AgentCase):
    """System calls of an agent as it is."""

    count = 2 * DAEMONS


@add_system_tests("agent", "An agent without its filter", bare=True)
class BareTest(AgentCase):
    """The walls behind the filter: user, Landlock, limits."""

    bare = True


class LiesTest(AgentCase):
    """What an agent says to the monitor, and to workers."""

    count = 2 * DAEMONS

    def test_no_message(self):
        """An agent sends a packet of no bytes, which is the end, and stays; the monitor ends it."""
        self.ended("malformed 7 empty stay", "did not end in time")

    def test_hang_up(self):
        """An agent closes its bridge, and stays; the monitor ends it."""
        self.ended("hang_up", "did not end in time")

    def test_flood(self):
        """An agent tells of failing and working without end; the monitor ends it after few lines."""

        def look(place, pid, mark, client, _table):
            self.assertIn(client.call(b"")[0], (OK, RETRY))
            how = self.death(place, pid, mark)
            self.assertLess(len(place.daemon.log(mark).splitlines()), 60)
            return how

        self.outcome = "ended by the monitor: " + self.order("event 6 1000000", look)
        self.assertIn("floods the monitor", self.outcome)

    def test_forged_lines(self):
        """An agent tells a reason of control characters and lines; none begins a line of the log."""

        def look(place, _pid, mark, client, _table):
            self.assertEqual(client.call(b"")[0], OK)
            place.daemon.wait_log("ready: of its own", since=mark)
            self.assertNotRegex(place.daemon.log(mark), r"(?m)^jailmapd: ready|\x1b")
            return "escaped"

        self.outcome = self.order("event 6 1", look)

    def test_cannot(self):
        """An agent tells that there are no answers for single keys, without end; the monitor ends it
        after few lines, and the table is not said to have failed."""

        def look(place, pid, mark, client, table):
            self.assertIn(client.call(b"")[0], (OK, RETRY))
            how = self.death(place, pid, mark)
            self.assertLess(len(place.daemon.log(mark).splitlines()), 60)
            self.assertNotIn(f'table "{table}" failed', place.daemon.log(mark))
            return how

        self.outcome = "ended by the monitor: " + self.order("event 9 1000000", look)
        self.assertIn("floods the monitor", self.outcome)

    def test_loaded_again(self):
        """An agent says a second time that it has read its source; the monitor ends it."""
        self.ended("malformed 9", "speaks of its source again")

    def test_failed_after_all(self):
        """An agent that has read its source says that it could not; the monitor ends it."""
        self.ended("malformed 10", "speaks of its source again")

    def test_answers_unasked(self):
        """An agent answers what nobody has asked, with every status; nobody gets that, and what was
        asked is answered."""
        outcome = self.order("answer_unasked")
        self.outcome = outcome
        self.assertEqual(outcome, "done: 100")

    def test_stalls(self):
        """An agent never answers; whoever asks gets a temporary error, and is served by all other
        tables meanwhile."""

        def look(place, pid, mark, client, table):
            self.assertEqual(client.call(b"")[0], RETRY)
            self.assertEqual(client.lookup(place.table, "key"), (OK, b"own"))
            self.assertEqual(client.lookup(table, "nobody" if "passwd" in table else "nogroup")[0], OK)
            place.vital()
            harness.kill(pid)
            return "temporary error; " + self.death(place, pid, mark)

        self.outcome = self.order("stall", look)

    def test_outlives_monitor(self):
        """An agent asks not to be ended with its monitor, and stays when that is killed; it has ended
        all the same."""
        place = self.arena("jailmap-agent-nss", tables=TABLES, wrap=nameservice.switched())
        table = TABLES[0]
        pid = self.agent_of(place, table)
        client, _ = place.attacker()
        with client:
            client.lookup(table, "fault-none")
            mark = place.daemon.mark()
            client.send(o_lookup(table, "attack:outlive_monitor", arena.PLAIN))
            self.outcome = self.reported(place, pid, mark, client, table)
            if arena.outcome_of(self.outcome) == "SIGSYS":
                return
            client.send(o_lookup(table, "attack:stall", arena.PLAIN))
            client.drained()
            place.bystander.ended.set()
            harness.kill(place.pid)
            try:
                case.wait_gone(pid, 10)
            finally:
                if proc.alive(pid):
                    harness.kill(pid)


def add_messages():
    for name, order, what, reason in case.breaches("ROLE_AGENT"):

        def test(self, order=order, reason=reason):
            self.ended(order, reason)

        test.__doc__ = f"An agent that was taken over sends {what}; the monitor ends it."
        setattr(LiesTest, f"test_{name}", test)


def add_kinds():
    for kind in (0, 1, 2, 5, 10, 255):

        def test(self, kind=kind):
            self.ended(f"event {kind} 1", "reports an event that it cannot have")

        test.__doc__ = f"An agent reports event {kind}, which is not an agent's; the monitor ends it."
        setattr(LiesTest, f"test_event_{kind}", test)


def add_link_messages():
    for how in ("short", "huge", "another descriptor", "empty"):

        def test(self, how=how):
            def look(place, pid, mark, client, table):
                self.assertIn(client.call(b"")[0], (OK, RETRY))
                # It gets a link anew, to the agent that is the same.
                wait_for(lambda: client.lookup(table, "fault-none")[0] != RETRY, "a new link")
                self.assertEqual(self.agent_of(place, table), pid)
                return "the worker let go of the link"

            self.outcome = self.order(f"link_malformed 16 {how}", look)

        test.__doc__ = f"An agent sends a worker an ANSWER that is malformed, {how}; it costs the link."
        setattr(LiesTest, f"test_answer_{how.split()[0]}", test)


add_messages()
add_kinds()
add_link_messages()
